"""Probabilities and thresholds of the parents of a taxonomy, fitted on validation rows.

The probability that a text has at least one of several labels is 1 - prod(1 - p) if the labels are independent (noisy-or). They are not, so
its logit is scaled and shifted for each parent. docs/log/taxonomy.md compares this with the maximum, the sum and regressions.

Shapes: `labels` and `is_judged` are bool (n, L), `probabilities` float (n, L); P is the number of parents.
"""

from dataclasses import dataclass

import numpy as np

from emotion.config import DecisionConfig
from emotion.evaluation.decision import PROBABILITY_EPSILON, DecisionRule, fit_thresholds
from emotion.evaluation.metrics import list_judged_columns
from emotion.evaluation.taxonomy import TaxonomyLevel
from emotion.labels import LabelSet

PENALTY = 10.0
"""Weight of the squared distance of slope and intercept from 1 and 0, in units of the loss of one row."""


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
    merged, judged = level.merge_labels(labels, is_judged)
    logits = compute_noisy_or_logits(probabilities, level.children)
    pairs = [fit_calibration(gold, values) for gold, values in list_judged_columns(merged, logits, judged)]
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


def fit_calibration(labels: np.ndarray, logits: np.ndarray, penalty: float = PENALTY) -> tuple[float, float]:
    """Return slope, at least 0, and intercept of the logits, float (n,), with the least cross-entropy on gold labels, bool (n,).

    The penalty keeps them near 1 and 0 where rows are few; without rows they are 1 and 0.

    Source: Platt 1999, "Probabilistic Outputs for Support Vector Machines"; the penalty is a normal prior.
    """
    from scipy.optimize import minimize
    from scipy.special import expit

    def compute_loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        slope, intercept = parameters
        scaled = slope * logits + intercept
        errors = expit(scaled) - labels
        loss = float(np.sum(np.logaddexp(0, scaled) - labels * scaled)) + penalty / 2 * ((slope - 1) ** 2 + intercept**2)
        return loss, np.array([errors @ logits + penalty * (slope - 1), errors.sum() + penalty * intercept])

    slope, intercept = minimize(compute_loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B", bounds=[(0, None), (None, None)]).x
    return float(slope), float(intercept)
