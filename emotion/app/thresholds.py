"""One control that moves all thresholds, and what a rule gives on the validation rows.

Works with numpy alone. n is the number of rows, L the number of labels.
"""

from dataclasses import dataclass, replace

import numpy as np

from emotion.errors import ConfigError
from emotion.evaluation.decision import DecisionRule
from emotion.evaluation.metrics import score_counts

MAX_SENSITIVITY = 3.0
"""Logits by which the thresholds move at most: a threshold of 0.5 becomes 0.05 or 0.95."""


def move_thresholds(rule: DecisionRule, sensitivity: float) -> DecisionRule:
    """Return the rule with each threshold lowered by `sensitivity` in logits: above 0 more labels, below 0 fewer; 0 is the fitted rule.

    Raises: ConfigError if `sensitivity` is not a number in [-MAX_SENSITIVITY, MAX_SENSITIVITY].
    """
    is_number = isinstance(sensitivity, int | float) and not isinstance(sensitivity, bool)
    if not is_number or not abs(sensitivity) <= MAX_SENSITIVITY:
        raise ConfigError(f"sensitivity={sensitivity!r}: must be a number from {-MAX_SENSITIVITY:g} to {MAX_SENSITIVITY:g}")
    if sensitivity == 0:
        return rule
    thresholds = np.array(rule.thresholds)
    odds = thresholds * np.exp(-sensitivity)
    return replace(rule, thresholds=tuple((odds / (odds + (1 - thresholds))).tolist()))


@dataclass(frozen=True)
class LabelPoint:
    """What a rule gives for one label on the validation rows."""

    name: str
    threshold: float
    precision: float | None
    """None if no row is predicted."""
    recall: float | None
    """None if no row has the label."""
    num_gold: int
    num_predicted: int


@dataclass(frozen=True)
class OperatingPoint:
    """What a rule gives on the validation rows: micro averages, and each label."""

    num_rows: int
    precision: float | None
    """None if no label is predicted."""
    recall: float | None
    """None if no row has a label."""
    f1: float
    labels_per_text: float
    labels: list[LabelPoint]


@dataclass(frozen=True, eq=False)
class ValidationRows:
    """Gold labels, bool (n, L), and probabilities, float (n, L), of the rows on which the rule was fitted."""

    label_names: tuple[str, ...]
    labels: np.ndarray
    probabilities: np.ndarray
    is_judged: np.ndarray | None = None
    """Which labels were annotated, bool (n, L); None if all were. The others do not count."""

    def measure(self, rule: DecisionRule) -> OperatingPoint:
        """Return precision, recall and F1 of a rule on these rows."""
        given = rule.decide(self.probabilities)
        predictions = given if self.is_judged is None else given & self.is_judged
        hits = self.labels & predictions
        counts = np.stack([part.sum(axis=0) for part in (hits, ~self.labels & predictions, self.labels & ~predictions)])
        scores = score_counts(counts, int((self.labels == predictions).all(axis=1).sum()), len(self.labels))
        labels = [
            LabelPoint(
                name,
                threshold,
                int(num_hits) / int(num_predicted) if num_predicted else None,
                int(num_hits) / int(num_gold) if num_gold else None,
                int(num_gold),
                int(num_predicted),
            )
            for name, threshold, num_hits, num_predicted, num_gold in zip(
                self.label_names, rule.thresholds, counts[0], counts[0] + counts[1], counts[0] + counts[2], strict=True
            )
        ]
        precision, recall, f1 = (scores[f"micro_{name}"] for name in ("precision", "recall", "f1"))
        return OperatingPoint(
            len(self.labels),
            precision if predictions.any() else None,
            recall if self.labels.any() else None,
            f1,
            float(given.sum(axis=1).mean()),
            labels,
        )
