"""What moves the weights: parameter groups, AdamW, linear warm-up and decay, and the loss."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from emotion.config import TrainingConfig
from emotion.cpu import fast_path
from emotion.modeling.heads import list_head_parameters


def group_parameters(model: nn.Module, head_parameters: set[str], config: TrainingConfig) -> list[dict[str, Any]]:
    """Return AdamW's groups: backbone and head, each with and without decay; biases and norms do not decay."""
    head_rate = config.head_learning_rate if config.head_learning_rate is not None else config.learning_rate
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((name in head_parameters, parameter.ndim > 1), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": head_rate if is_head else config.learning_rate,
            "weight_decay": config.weight_decay if decays else 0.0,
        }
        for (is_head, decays), parameters in groups.items()
    ]


def build_optimizer(model: nn.Module, config: TrainingConfig, is_single_cpu: bool = False) -> torch.optim.AdamW:
    """Return AdamW for the trained parameters of a model; `is_single_cpu`: there is one process, on a CPU."""
    return fast_path.build_adamw(group_parameters(model, list_head_parameters(model), config), model, is_single_cpu)


def build_scheduler(optimizer: torch.optim.Optimizer, num_steps: int, warmup_ratio: float) -> torch.optim.lr_scheduler.LambdaLR:
    """Return linear warm-up to the peak and linear decay to 0, stepped once an optimizer step.

    The same as transformers' `get_linear_schedule_with_warmup`, whose module takes 3 s to import.
    """
    num_warmup = round(num_steps * warmup_ratio)

    def scale(step: int) -> float:
        if step < num_warmup:
            return step / num_warmup
        return max(0.0, (num_steps - step) / max(1, num_steps - num_warmup))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, scale)


def find_base_rates(frequencies: np.ndarray, focal_gamma: float) -> np.ndarray:
    """Return the probabilities, float64 (L,), that have the lowest loss as the answer to every row, by the labels' frequencies, (L,).

    For binary cross-entropy these are the frequencies. The focal loss counts the many sure negatives less, so its lowest point is higher. A
    head that starts at the frequencies would spend hundreds of steps on the way there.
    """
    if focal_gamma == 0:
        return frequencies
    logits = np.linspace(-12, 12, 4_801)
    p, q = 1 / (1 + np.exp(-logits)), 1 / (1 + np.exp(logits))
    losses = np.outer(frequencies, -(q**focal_gamma) * np.log(p)) + np.outer(1 - frequencies, -(p**focal_gamma) * np.log(q))
    return p[losses.argmin(axis=1)]


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


def build_loss(
    pos_weight: torch.Tensor | None, device: torch.device, focal_gamma: float = 0.0
) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Return BCE-with-logits summed over rows and labels, so that a batch's loss is exact however it is split.

    A target of nan, of a label that was not annotated, adds nothing. With `focal_gamma` above 0 it is the focal loss: each summand is
    multiplied by |target - p| ** focal_gamma, which is (1 - p of what is right) ** focal_gamma for targets of 0 and 1.
    Sources: Lin et al. 2017, "Focal Loss for Dense Object Detection"; for targets between 0 and 1 Li et al. 2020, "Generalized Focal Loss".
    """
    weight = None if pos_weight is None else pos_weight.to(device)

    def sum_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        is_known, targets, logits = labels.isfinite(), labels.nan_to_num(), logits.float()
        if focal_gamma == 0:
            return binary_cross_entropy_with_logits(logits, targets, weight=is_known, pos_weight=weight, reduction="sum")
        losses = binary_cross_entropy_with_logits(logits, targets, weight=is_known, pos_weight=weight, reduction="none")
        return ((targets - torch.sigmoid(logits)).abs() ** focal_gamma * losses).sum()

    return sum_loss
