"""Probabilities -> labels: thresholds, temperature, empty-set policy; fitted on validation rows and nothing else.

What only fitting needs is imported there: applying a rule must not wait a second for scikit-learn.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from emotion.config import DecisionConfig
from emotion.errors import ModelError

TEMPERATURE_BOUNDS = (0.2, 5.0)
MAX_SHIFT = 30.0
"""Largest shift of a label's logits that is tried."""
SMALLEST = 1e-9
"""Stored probabilities are taken to be this far from 0 and 1."""


@dataclass(frozen=True)
class DecisionRule:
    """Turns probabilities into predictions: label `l` is on from `thresholds[l]` upwards."""

    thresholds: tuple[float, ...]
    empty_set: Literal["none", "top1"] = "none"
    temperature: float = 1.0
    """What the logits were divided by; the saved head has it in its weights already."""
    fitted_on: str = "nothing: default .5"
    """The rows it was fitted on, in words."""

    def decide(self, probabilities: np.ndarray) -> np.ndarray:
        """Return predictions, bool (n, L), for calibrated probabilities (n, L)."""
        predictions = probabilities >= np.array(self.thresholds)
        if self.empty_set == "top1":
            empty = ~predictions.any(axis=1)
            predictions[empty, probabilities[empty].argmax(axis=1)] = True
        return predictions

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"thresholds": list(self.thresholds)}

    @classmethod
    def from_dict(cls, values: dict[str, Any], num_labels: int, where: str) -> "DecisionRule":
        """Return the rule of a sidecar.

        Raises: ModelError if it does not fit the labels.
        """
        values = {key: value for key, value in values.items() if key != "global_threshold"}  # once stored, never decided by
        try:
            rule = cls(**values | {"thresholds": tuple(map(float, values["thresholds"]))})
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"{where}: its decision rule cannot be read ({error})") from None
        if len(rule.thresholds) != num_labels:
            raise ModelError(f"{where}: {len(rule.thresholds)} thresholds for {num_labels} labels")
        return rule

    def with_overrides(self, threshold: float | None = None, empty_set: Literal["none", "top1"] | None = None) -> "DecisionRule":
        """Return the rule with one threshold for all labels, or another empty-set policy, where given."""
        thresholds = self.thresholds if threshold is None else (threshold,) * len(self.thresholds)
        return DecisionRule(
            thresholds,
            empty_set or self.empty_set,
            self.temperature,
            self.fitted_on if threshold is None else "nothing: given by hand",
        )


def default_rule(num_labels: int) -> DecisionRule:
    """Return .5 for every label."""
    return DecisionRule((0.5,) * num_labels)


def fit_rule(labels: np.ndarray, logits: np.ndarray, config: DecisionConfig, fitted_on: str) -> DecisionRule:
    """Return the rule fitted on validation logits, float (n, L), and gold labels, bool (n, L)."""
    temperature = fit_temperature(labels, logits) if config.fit_temperature else 1.0
    return DecisionRule(fit_thresholds(labels, logits / temperature, config), config.empty_set, temperature, fitted_on)


def refit_rule(labels: np.ndarray, probabilities: np.ndarray, config: DecisionConfig, rule: DecisionRule) -> DecisionRule:
    """Return a rule with other settings, fitted on the same rows; the temperature stays, the saved head has it in its weights."""
    from scipy.special import logit

    logits = logit(np.clip(probabilities.astype(float), SMALLEST, 1 - SMALLEST))
    return replace(rule, thresholds=fit_thresholds(labels, logits, config), empty_set=config.empty_set)


def fit_thresholds(labels: np.ndarray, logits: np.ndarray, config: DecisionConfig) -> tuple[float, ...]:
    """Return each label's threshold for calibrated logits, float (n, L), and gold labels, bool (n, L).

    For macro-F1 they maximise each label's F1 and are drawn to those that maximise its expected F1, in proportion to how few
    positives a label has: a threshold tuned on a handful of rows overfits them. For micro-F1, where every pair of row and label
    counts the same, one for all labels is best if the probabilities are right.
    """
    from scipy.special import expit

    probabilities = expit(logits)
    if config.maximize == "micro_f1":
        threshold = _best_threshold(labels.ravel(), probabilities.ravel()) if labels.any() else 0.5
        return (threshold,) * labels.shape[1]
    positives = labels.sum(axis=0)
    weights = np.divide(positives, positives + config.shrinkage, out=np.zeros(len(positives)), where=positives > 0)
    own = np.array([_best_threshold(labels[:, column], probabilities[:, column]) if n else 0.0 for column, n in enumerate(positives)])
    return tuple((weights * own + (1 - weights) * find_expected_thresholds(labels, logits)).tolist())


def find_expected_thresholds(labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Return each label's threshold with the best expected F1, (L,): the best one if its probabilities were right.

    All rows have a say in it, not a rare label's few positives alone, but for their number: a label's logits are first shifted
    until its probabilities add up to it (and to a half more, so that there may be none).
    Source: Ye et al. 2012, "Optimizing F-measures: A Tale of Two Approaches".
    """
    from scipy.special import expit

    num_rows = len(logits)
    wanted = labels.sum(axis=0) + 0.5
    low, high = np.full(logits.shape[1], -MAX_SHIFT), np.full(logits.shape[1], MAX_SHIFT)
    for _ in range(40):  # bisection
        shift = (low + high) / 2
        is_above = expit(logits + shift).sum(axis=0) > wanted
        low, high = np.where(is_above, low, shift), np.where(is_above, shift, high)
    ranked = -np.sort(-(logits + shift), axis=0)
    expected_hits = expit(ranked).cumsum(axis=0)
    f1 = 2 * expected_hits / (np.arange(1, num_rows + 1)[:, None] + expected_hits[-1])
    best = f1.argmax(axis=0)  # this many rows and one are predicted
    columns = np.arange(logits.shape[1])
    ranked = np.vstack([ranked, ranked[-1:] - 1])  # where all are, the lowest must not hang on a rounding error
    between = (ranked[best, columns] + ranked[best + 1, columns]) / 2
    return expit(between - shift)


def fit_temperature(labels: np.ndarray, logits: np.ndarray) -> float:
    """Return the temperature that makes `logits / temperature` likeliest.

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks".
    """
    from scipy.optimize import minimize_scalar

    gold, values = labels.astype(float), logits.astype(float)

    def negative_log_likelihood(log_temperature: float) -> float:
        scaled = values / np.exp(log_temperature)
        return float(np.mean(np.logaddexp(0, scaled) - gold * scaled))

    return float(np.exp(minimize_scalar(negative_log_likelihood, bounds=np.log(TEMPERATURE_BOUNDS), method="bounded").x))


def _best_threshold(gold: np.ndarray, scores: np.ndarray) -> float:
    """Return the threshold with the best F1, half way to the next lower score so that it does not hug one row."""
    from sklearn.metrics import precision_recall_curve

    precision, recall, thresholds = precision_recall_curve(gold, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    best = int(f1[:-1].argmax())
    below = thresholds[best - 1] if best > 0 else thresholds[best]
    return float((thresholds[best] + below) / 2)
