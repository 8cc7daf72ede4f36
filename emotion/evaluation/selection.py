"""Scores of a checkpoint on the validation split, by which the best checkpoint is selected."""

from dataclasses import dataclass, replace

import numpy as np

from emotion.config import Config
from emotion.evaluation.calibration import Calibration, fit_calibration, skip_calibration
from emotion.evaluation.combination import COMBINATIONS, DEFAULT_COMBINATION, MIN_SPLIT_ROWS, Combination, combine_logits
from emotion.evaluation.decision import DecisionRule, default_rule, fit_rule
from emotion.evaluation.metrics import score_predictions, score_probabilities


@dataclass(frozen=True)
class Candidate:
    """A validated checkpoint."""

    logits: np.ndarray
    """Logits of the model before their calibration, float (n, L), or (m, L) for the segments of long texts."""
    calibration: Calibration
    """What makes calibrated logits of them."""
    rule: DecisionRule
    probabilities: np.ndarray
    """Calibrated probabilities, float (n, L)."""
    scores: dict[str, float]
    """Validation scores. Those named `*_tuned` are at `rule`, which was fitted on the same rows."""
    combination: Combination = DEFAULT_COMBINATION
    """How the logits of segments are combined."""

    def is_better_than(self, other: "Candidate | None", select_by: str) -> bool:
        """Return whether the score `select_by` is higher than that of `other`; any candidate is better than None."""
        return other is None or self.scores[select_by] > other.scores[select_by]


def score_checkpoint(
    labels: np.ndarray,
    logits: np.ndarray,
    config: Config,
    is_judged: np.ndarray | None = None,
    starts: np.ndarray | None = None,
    has_bias: bool = True,
) -> Candidate:
    """Fit the decision rule on validation logits, float (n, L), and return the candidate with its scores.

    `labels` and `is_judged` are bool (n, L), as in `metrics`. With `starts`, int (n,), the logits are those of segments, float (m, L), and
    each text's first one is at this position. They are combined in the way that scores best by the metric of the decision rule; with fewer
    than `MIN_SPLIT_ROWS` texts of several segments, by their mean. `has_bias` is that of `fit_calibration`.
    """
    if starts is None:
        return _score_logits(labels, logits, config, is_judged, has_bias)
    num_split = count_split(starts, len(logits))
    tried = COMBINATIONS if num_split >= MIN_SPLIT_ROWS else (DEFAULT_COMBINATION,)
    candidates = {name: _score_logits(labels, combine_logits(logits, starts, name), config, is_judged, has_bias) for name in tried}
    metric = f"{config.decision.maximize}_tuned"
    best = max(tried, key=lambda name: candidates[name].scores[metric])
    compared = {f"{metric}_{name}_of_segments": candidates[name].scores[metric] for name in tried if len(tried) > 1}
    return replace(candidates[best], logits=logits, combination=best, scores=candidates[best].scores | compared)


def score_rule(scores: dict[str, float], maximize: str) -> dict[str, float]:
    """Return the scores at a decision rule that a model keeps: F1, and the metric that `decision.maximize` names."""
    kept = {"macro_f1": "macro_f1", "micro_f1": "micro_f1", maximize: "jaccard_samples" if maximize == "jaccard" else maximize}
    return {f"{name}_tuned": scores[metric] for name, metric in kept.items()}


def count_split(starts: np.ndarray, num_segments: int) -> int:
    """Return the number of texts with several segments."""
    return int((np.diff(starts, append=num_segments) > 1).sum())


def describe_combination(candidate: Candidate, starts: np.ndarray, config: Config) -> str:
    """Return how the logits of segments are combined, and why, as a sentence."""
    num_split, metric = count_split(starts, len(candidate.logits)), f"{config.decision.maximize}_tuned"
    rows = f"{num_split:,} of {len(starts):,} validation rows have several segments"
    if num_split < MIN_SPLIT_ROWS:
        return f"segments are combined by the {candidate.combination} of their logits, the default: {rows}, fewer than {MIN_SPLIT_ROWS}"
    tried = ", ".join(f"{candidate.scores[f'{metric}_{name}_of_segments']:.4f} by the {name}" for name in COMBINATIONS)
    return f"segments are combined by the {candidate.combination} of their logits: {rows}, {metric} is {tried}"


def _score_logits(labels: np.ndarray, logits: np.ndarray, config: Config, is_judged: np.ndarray | None, has_bias: bool) -> Candidate:
    """Return the candidate of the logits of texts, float (n, L)."""
    from scipy.special import expit

    fitted_on = f"validation split of {config.data.title}, {len(labels):,} rows"
    is_fitted = config.decision.fit_temperature
    calibration = fit_calibration(labels, logits, is_judged, has_bias) if is_fitted else skip_calibration(labels.shape[1])
    calibrated = calibration.apply(logits)
    rule, probabilities = fit_rule(labels, calibrated, config.decision, fitted_on, is_judged), expit(calibrated)
    at_rule = score_predictions(labels, rule.decide(probabilities, is_judged))
    at_default = score_predictions(labels, default_rule(labels.shape[1]).decide(probabilities, is_judged))
    ranking = score_probabilities(labels, probabilities, is_judged)
    scores = {
        "loss": float(np.mean((np.logaddexp(0, logits) - labels * logits)[is_judged])),  # before calibration, like the training loss
        "macro_average_precision": ranking["macro_average_precision"],
        **score_rule(at_rule, config.decision.maximize),
        "macro_f1_at_0.5": at_default["macro_f1"],
        "expected_calibration_error": ranking["expected_calibration_error"],
        "mean_scale": float(calibration.scales.mean()),
        "mean_shift": float(calibration.shifts.mean()),
    }
    return Candidate(logits, calibration, rule, probabilities, scores)
