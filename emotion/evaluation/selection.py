"""A checkpoint seen through the validation split: its logits, the rule fitted on them, its scores."""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from emotion.config import Config
from emotion.evaluation.decision import DecisionRule, default_rule, fit_rule
from emotion.evaluation.metrics import score_predictions, score_probabilities


@dataclass(frozen=True)
class Candidate:
    """A checkpoint that may become the model; `probabilities` are calibrated, float (n, L)."""

    logits: np.ndarray
    """As the model gave them, float (n, L)."""
    rule: DecisionRule
    probabilities: np.ndarray
    scores: dict[str, float]
    """`*_tuned` is at the rule fitted on the same rows."""

    def is_better_than(self, other: "Candidate | None", select_by: str) -> bool:
        return other is None or self.scores[select_by] > other.scores[select_by]


def score_checkpoint(labels: np.ndarray, logits: np.ndarray, config: Config) -> Candidate:
    """Fit the decision rule on validation logits, float (n, L), and score them by it."""
    rule = fit_rule(labels, logits, config.decision, f"validation split of {config.data.name}, {len(labels):,} rows")
    probabilities = expit(logits / rule.temperature)
    tuned = score_predictions(labels, rule.decide(probabilities))
    halved = score_predictions(labels, default_rule(labels.shape[1]).decide(probabilities))
    ranked = score_probabilities(labels, probabilities)
    scores = {
        "loss": float(np.mean(np.logaddexp(0, logits) - labels * logits)),  # before the temperature
        "macro_average_precision": ranked["macro_average_precision"],
        "macro_f1_tuned": tuned["macro_f1"],
        "micro_f1_tuned": tuned["micro_f1"],
        "macro_f1_at_0.5": halved["macro_f1"],
        "expected_calibration_error": ranked["expected_calibration_error"],
        "temperature": rule.temperature,
    }
    return Candidate(logits, rule, probabilities, scores)
