"""Probabilities and thresholds of the parents of a taxonomy, fitted on validation rows.

The probability that a text has at least one of several labels is 1 - prod(1 - p) if the labels are independent (noisy-or). They are not, so
its logit is scaled and shifted for each parent. docs/log/taxonomy.md compares this with the maximum, the sum and regressions.

Shapes: `labels` and `is_judged` are bool (n, L), `probabilities` float (n, L); P is the number of parents.
"""

from dataclasses import dataclass

import numpy as np

from emotion.config import DecisionConfig
from emotion.evaluation.calibration import fit_scaling
from emotion.evaluation.decision import PROBABILITY_EPSILON, DecisionRule
from emotion.evaluation.metrics import list_judged_columns
from emotion.evaluation.taxonomy import TaxonomyLevel
from emotion.labels import LabelSet

PENALTY = 10.0
"""Inverse variance of the priors of slope and intercept: with few rows they stay near 1 and 0."""


@dataclass(frozen=True)
class ParentModel:
    """Converts probabilities of labels to those of their parents, and decides."""

    level: TaxonomyLevel
    slopes: tuple[float, ...]
    intercepts: tuple[float, ...]
    rule: DecisionRule
    """Thresholds of the parents."""

    @property
    def label_set(self) -> LabelSet:
        """The parents."""
        return self.level.label_set

    def convert(self, probabilities: np.ndarray) -> np.ndarray:
        """Return the calibrated probabilities of the parents, float32 (n, P), for calibrated probabilities of the labels."""
        from scipy.special import expit

        logits = compute_noisy_or_logits(probabilities, self.level.children)
        return expit(logits * np.array(self.slopes) + np.array(self.intercepts)).astype(np.float32)


def fit_parents(
    level: TaxonomyLevel, labels: np.ndarray, probabilities: np.ndarray, config: DecisionConfig, is_judged: np.ndarray | None = None
) -> ParentModel:
    """Return the model of the parents, fitted on the labels and probabilities of validation rows."""
    from emotion.evaluation.thresholds import fit_thresholds  # takes scipy, which a Space without torch does not have

    merged, judged = level.merge_labels(labels, is_judged)
    logits = compute_noisy_or_logits(probabilities, level.children)
    pairs = [scale_parent(gold, values) for gold, values in list_judged_columns(merged, logits, judged)]
    slopes, intercepts = zip(*pairs, strict=True)
    calibrated = logits * np.array(slopes) + np.array(intercepts)
    fitted_on = f"{len(labels):,} validation rows, labels of the taxonomy {level.name}"
    rule = DecisionRule(fit_thresholds(merged, calibrated, config, judged), config.empty_set, fitted_on=fitted_on)
    return ParentModel(level, slopes, intercepts, rule)


def compute_noisy_or_logits(probabilities: np.ndarray, children: np.ndarray) -> np.ndarray:
    """Return the logit of 1 - prod(1 - p) over the children of each parent, float64 (n, P); `children` is bool (L, P).

    Source: Pearl 1988, "Probabilistic Reasoning in Intelligent Systems", section 4.3.2.
    """
    clipped = np.clip(probabilities.astype(np.float64), PROBABILITY_EPSILON, 1 - PROBABILITY_EPSILON)
    log_none = np.log1p(-clipped) @ children
    return np.log(-np.expm1(log_none)) - log_none


def scale_parent(labels: np.ndarray, logits: np.ndarray, penalty: float = PENALTY) -> tuple[float, float]:
    """Return slope and intercept of the logits of one parent, float (n,), for gold labels, bool (n,); 1 and 0 without rows."""
    std = penalty**-0.5
    slope, intercept = fit_scaling(logits, labels.astype(float), (~labels).astype(float), std, std)
    return float(slope), float(intercept)
