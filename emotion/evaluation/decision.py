"""Decision rules: thresholds and empty-set policy, fitted on validation rows only (`thresholds`).

`is_judged`, bool (n, L), says which labels were annotated, None if all were; the others do not count, and their gold labels have to be
False. scipy and scikit-learn are imported inside the fitting functions: applying a rule needs numpy alone.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from emotion.checks import Rules, check_values, is_number
from emotion.config import DecisionConfig
from emotion.errors import ModelError

BY_HAND = "nothing: given by hand"
"""`fitted_on` of thresholds that a user gave."""
PROBABILITY_EPSILON = 1e-9
"""Stored probabilities are clipped to [epsilon, 1 - epsilon] before the inverse sigmoid."""
RULES: Rules = {
    "thresholds": ("a list", lambda value: isinstance(value, list)),
    "empty_set": ("none or top1", lambda value: value in ("none", "top1")),
    "fitted_on": ("a string", lambda value: isinstance(value, str)),
}
"""What a stored rule may hold."""
EARLIER_KEYS = {"temperature", "shift", "global_threshold"}
"""What earlier versions stored and nothing reads: the calibration, which is in the head, and a threshold that decided nothing."""
THRESHOLD = ("a number in [0, 1]", lambda value: is_number(value, 0, 1))
REMEDY = "restore the file or write it again"


@dataclass(frozen=True)
class DecisionRule:
    """Converts probabilities to predictions: label `l` is predicted if its probability is at least `thresholds[l]`."""

    thresholds: tuple[float, ...]
    empty_set: Literal["none", "top1"] = "none"
    """`top1` predicts the most probable label where no probability reaches its threshold."""
    fitted_on: str = "nothing: default 0.5"
    """Description of the rows that the rule was fitted on."""

    def decide(self, probabilities: np.ndarray, is_judged: np.ndarray | None = None) -> np.ndarray:
        """Return predictions, bool (n, L), for calibrated probabilities, float (n, L); False where `is_judged` is False."""
        predictions = probabilities >= np.array(self.thresholds)
        if self.empty_set == "top1":
            is_empty = ~predictions.any(axis=1)
            predictions[is_empty, probabilities[is_empty].argmax(axis=1)] = True
        return predictions if is_judged is None else predictions & is_judged

    def to_dict(self) -> dict[str, Any]:
        """Return the rule as JSON types."""
        return asdict(self) | {"thresholds": list(self.thresholds)}

    @classmethod
    def from_dict(cls, values: dict[str, Any], num_labels: int, where: str) -> "DecisionRule":
        """Return the rule stored in a sidecar or a report; `where` names the file in error messages.

        Raises:
            ModelError: if the values are invalid or the number of thresholds is not `num_labels`.
        """
        check_values(values, RULES, f"{where}: decision.", REMEDY, optional=("empty_set", "fitted_on"))
        if unknown := values.keys() - RULES.keys() - EARLIER_KEYS:
            raise ModelError(f"{where}: decision.{min(unknown)!r}: is no key of a decision rule; {REMEDY}")
        thresholds = {f"thresholds[{number}]": value for number, value in enumerate(values["thresholds"])}
        check_values(thresholds, dict.fromkeys(thresholds, THRESHOLD), f"{where}: decision.", REMEDY)
        if len(thresholds) != num_labels:
            raise ModelError(
                f"{where}: the decision rule has {len(thresholds)} thresholds, expected {num_labels}, one for each label; {REMEDY}"
            )
        return cls(**{key: values[key] for key in RULES if key in values} | {"thresholds": tuple(map(float, values["thresholds"]))})

    def with_overrides(self, threshold: float | None = None, empty_set: Literal["none", "top1"] | None = None) -> "DecisionRule":
        """Return a copy with one threshold for all labels, another empty-set policy, or both; None keeps the present value."""
        rule = self if empty_set is None else replace(self, empty_set=empty_set)
        if threshold is None:
            return rule
        return replace(rule, thresholds=(threshold,) * len(self.thresholds), fitted_on=BY_HAND)


def rank_labels(probabilities: np.ndarray) -> np.ndarray:
    """Return the columns of the labels by falling probability, int64 (L,), from float (L,); equal probabilities keep their order."""
    return np.argsort(-probabilities, kind="stable")


def default_rule(num_labels: int) -> DecisionRule:
    """Return the rule with threshold 0.5 for every label."""
    return DecisionRule((0.5,) * num_labels)


def fit_rule(
    labels: np.ndarray, logits: np.ndarray, config: DecisionConfig, fitted_on: str, is_judged: np.ndarray | None = None
) -> DecisionRule:
    """Return the rule fitted on calibrated validation logits, float (n, L), and gold labels, bool (n, L)."""
    from emotion.evaluation.thresholds import fit_thresholds

    return DecisionRule(fit_thresholds(labels, logits, config, is_judged), config.empty_set, fitted_on)


def compute_logits(probabilities: np.ndarray) -> np.ndarray:
    """Return the logits of probabilities, float64 of the same shape, within +-20.7 (`PROBABILITY_EPSILON`)."""
    from scipy.special import logit

    return logit(np.clip(probabilities.astype(float), PROBABILITY_EPSILON, 1 - PROBABILITY_EPSILON))
