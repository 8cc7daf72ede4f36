"""The losses, and where a head starts under each: binary cross-entropy, the focal loss, and the distribution-balanced loss.

b is the number of rows of a micro-batch, n that of the training rows, L the number of labels.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from emotion.config import TrainingConfig
from emotion.data.reading import Examples
from emotion.modeling.heads import MIN_BASE_RATE

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Of logits and targets, float32 (b, L): the loss summed over rows and labels, float32 ()."""
FOCAL_GAMMA = 2.0
LOWEST_WEIGHT, STEEPNESS, MIDDLE = 0.1, 10.0, 0.2
NEGATIVE_SCALE, BIAS_FACTOR = 2.0, 0.05
"""Constants of the distribution-balanced loss: those of Huang et al. 2021 for texts."""


def build_loss(config: TrainingConfig, rows: Examples, device: torch.device) -> Loss:
    """Return the loss that `training.loss` names, for these training rows, summed, so that a batch's loss is exact however it is split.

    A target of nan, of a label that was not annotated, adds nothing.
    """
    pos_weight = compute_pos_weight(rows.targets, config, rows.is_judged)
    pos_weight = None if pos_weight is None else pos_weight.to(device)
    frequencies = _list_frequencies(rows).to(device)

    def sum_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        is_known, targets, logits = labels.isfinite(), labels.nan_to_num(), logits.float()
        if config.loss == "bce":
            return binary_cross_entropy_with_logits(logits, targets, weight=is_known, pos_weight=pos_weight, reduction="sum")
        if config.loss == "focal":
            return (is_known * compute_focal(logits, targets)).sum()
        return (is_known * rebalance(targets, frequencies) * compute_tolerant(logits, targets, frequencies)).sum()

    return sum_loss


def compute_focal(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the focal loss of each row and label, float32 (b, L): cross-entropy times |target - p| ** 2.

    The factor is (1 - p of what is right) ** 2 for targets of 0 and 1: what is right and sure counts little.
    Sources: Lin et al. 2017, "Focal Loss for Dense Object Detection"; for targets between 0 and 1 Li et al. 2020, "Generalized Focal Loss".
    """
    losses = binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return (targets - torch.sigmoid(logits)).abs() ** FOCAL_GAMMA * losses


def compute_tolerant(logits: torch.Tensor, targets: torch.Tensor, frequencies: torch.Tensor) -> torch.Tensor:
    """Return the focal loss of each row and label, float32 (b, L), in which negatives of a low logit count less still.

    Source: Wu et al. 2020, "Distribution-Balanced Loss for Multi-Label Classification in Long-Tailed Datasets", section 3.2.
    """
    scales = NEGATIVE_SCALE + (1 - NEGATIVE_SCALE) * targets
    return compute_focal((logits + BIAS_FACTOR * torch.logit(frequencies)) * scales, targets) / scales


def rebalance(targets: torch.Tensor, frequencies: torch.Tensor) -> torch.Tensor:
    """Return the weight of each row and label, float32 (b, L): as if rows had been drawn so that every label is equally frequent.

    Drawn for each of its labels alike, a row with a rare label comes too often for a frequent label that it has as well. There that label
    counts less, and so does the absence of one. A row without labels counts in full. `frequencies`, float32 (L,), are those of the labels.

    Source: Wu et al. 2020, section 3.1.
    """
    rarity = 1 / frequencies
    expected = rarity / (targets * rarity).sum(dim=1, keepdim=True).clamp(min=MIN_BASE_RATE)
    return LOWEST_WEIGHT + torch.sigmoid(STEEPNESS * (expected - MIDDLE))


def find_base_rates(config: TrainingConfig, rows: Examples) -> np.ndarray:
    """Return the probabilities, float64 (L,), that have the lowest loss as the answer to every training row.

    For binary cross-entropy these are the frequencies of the labels. The other losses count the many sure negatives less, so their lowest
    point is higher. A head that starts at the frequencies would spend hundreds of steps on the way there.
    """
    if config.loss == "bce":
        return rows.frequencies
    targets, frequencies = torch.tensor(rows.targets, dtype=torch.float32), _list_frequencies(rows)
    weights = torch.ones_like(targets) if rows.is_judged is None else torch.tensor(rows.is_judged, dtype=torch.float32)
    logits = torch.linspace(-12, 12, 4_801)[:, None].expand(-1, targets.shape[1])
    answers = torch.ones_like(logits), torch.zeros_like(logits)
    if config.loss == "focal":
        of_positives, of_negatives = (compute_focal(logits, answer) for answer in answers)
    else:
        weights = weights * rebalance(targets, frequencies)
        of_positives, of_negatives = (compute_tolerant(logits, answer, frequencies) for answer in answers)
    losses = of_positives * (weights * targets).sum(dim=0) + of_negatives * (weights * (1 - targets)).sum(dim=0)
    return torch.sigmoid(logits[losses.argmin(dim=0), 0].double()).numpy()


def _list_frequencies(rows: Examples) -> torch.Tensor:
    """Return the frequencies of the labels, float32 (L,), none of them 0 or 1."""
    return torch.tensor(rows.frequencies, dtype=torch.float32).clamp(MIN_BASE_RATE, 1 - MIN_BASE_RATE)


def compute_pos_weight(targets: np.ndarray, config: TrainingConfig, is_judged: np.ndarray | None = None) -> torch.Tensor | None:
    """Return negatives / positives of each label, float32 (L,), within [1, cap]; None without weighting.

    `targets` are labels, bool, or fractions of raters, (n, L); `is_judged`, bool (n, L), says which were annotated, None if all were.
    """
    if config.pos_weight == "none":
        return None
    positives = targets.sum(axis=0, dtype=np.float64)
    num_rows = len(targets) if is_judged is None else is_judged.sum(axis=0)
    ratio = (num_rows - positives) / np.maximum(positives, 1)
    return torch.tensor(np.clip(ratio, 1, config.pos_weight_cap), dtype=torch.float32)
