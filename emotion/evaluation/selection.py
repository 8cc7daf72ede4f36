"""Scores of a checkpoint on the validation split, by which the best checkpoint is selected."""

from dataclasses import dataclass

import numpy as np

from emotion.config import Config
from emotion.evaluation.decision import DecisionRule, default_rule, fit_rule
from emotion.evaluation.metrics import score_predictions, score_probabilities


@dataclass(frozen=True)
class Candidate:
    """A validated checkpoint."""

    logits: np.ndarray
    """Logits of the model before temperature scaling, float (n, L)."""
    rule: DecisionRule
    probabilities: np.ndarray
    """Probabilities after temperature scaling, float (n, L)."""
    scores: dict[str, float]
    """Validation scores. Those named `*_tuned` are at `rule`, which was fitted on the same rows."""

    def is_better_than(self, other: "Candidate | None", select_by: str) -> bool:
        """Return whether the score `select_by` is higher than that of `other`; any candidate is better than None."""
        return other is None or self.scores[select_by] > other.scores[select_by]


def score_checkpoint(labels: np.ndarray, logits: np.ndarray, config: Config, is_judged: np.ndarray | None = None) -> Candidate:
    """Fit the decision rule on validation logits, float (n, L), and return the candidate with its scores.

    `labels` and `is_judged` are bool (n, L), as in `metrics`.
    """
    from scipy.special import expit

    rule = fit_rule(labels, logits, config.decision, f"validation split of {config.data.title}, {len(labels):,} rows", is_judged)
    probabilities = expit(logits / rule.temperature)
    at_rule = score_predictions(labels, rule.decide(probabilities, is_judged))
    at_default = score_predictions(labels, default_rule(labels.shape[1]).decide(probabilities, is_judged))
    ranking = score_probabilities(labels, probabilities, is_judged)
    scores = {
        "loss": float(np.mean((np.logaddexp(0, logits) - labels * logits)[is_judged])),  # without the temperature, like the training loss
        "macro_average_precision": ranking["macro_average_precision"],
        "macro_f1_tuned": at_rule["macro_f1"],
        "micro_f1_tuned": at_rule["micro_f1"],
        "macro_f1_at_0.5": at_default["macro_f1"],
        "expected_calibration_error": ranking["expected_calibration_error"],
        "temperature": rule.temperature,
    }
    return Candidate(logits, rule, probabilities, scores)
