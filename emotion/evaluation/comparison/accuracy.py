"""How good each model is, how sure that is, and which differences are more than the choice of test rows."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from emotion.evaluation.comparison.runs import Group
from emotion.evaluation.metrics import score_probabilities
from emotion.evaluation.uncertainty import (
    correct_holm,
    draw_counts,
    paired_p_value,
    percentile_interval,
    resample_average_precision,
    resample_several,
    score_totals,
    tabulate_rows,
)

METRICS = (
    "macro_f1",
    "micro_f1",
    "subset_accuracy",
    "jaccard_samples",
    "macro_precision",
    "macro_recall",
    "micro_precision",
    "micro_recall",
    "macro_average_precision",
)
MAIN_METRIC = "macro_f1"
PAIRED_METRICS = ("macro_f1", "micro_f1", "jaccard_samples", "subset_accuracy")
NUM_PAIRED_RESAMPLES = 10_000
"""The smallest p value is then .0002: 20 models have 190 pairs, and Holm's first factor 190 still leaves .04."""
NUM_RANKED_RESAMPLES = 1_000
"""Average precision sorts rows, and takes a hundred times as long; its interval needs no small p values."""
LEVEL = 0.05


@dataclass(frozen=True)
class ModelScores:
    """A model's scores on all test rows, and in every resample of them; both are means over its seeds."""

    group: Group
    by_seed: list[dict[str, float]]
    """The scores of each of its runs."""
    resampled: dict[str, np.ndarray]
    """Scores (B,), and `label_f1` (B, L)."""
    label_f1: np.ndarray
    """F1 of each label, (L,)."""
    calibration_error: float

    @property
    def name(self) -> str:
        return self.group.name

    def score(self, metric: str) -> float:
        """Return the mean over seeds."""
        return float(np.mean([scores[metric] for scores in self.by_seed]))

    def spread(self, metric: str) -> float | None:
        """Return the standard deviation over seeds, None for a single one."""
        values = [scores[metric] for scores in self.by_seed]
        return float(np.std(values, ddof=1)) if len(values) > 1 else None

    def interval(self, metric: str) -> tuple[float, float]:
        """Return the 95 % interval over test rows."""
        return percentile_interval(self.resampled[metric])


@dataclass(frozen=True)
class Difference:
    """How far `first` is above `second` in one metric."""

    first: ModelScores
    second: ModelScores
    metric: str
    value: float
    interval: tuple[float, float]
    p_value: float
    """Corrected by Holm over all pairs of one metric."""

    @property
    def is_shown(self) -> bool:
        return self.p_value < LEVEL

    @property
    def winner(self) -> ModelScores | None:
        """The better one, or None where no difference is shown."""
        if not self.is_shown:
            return None
        return self.first if self.value > 0 else self.second

    @property
    def is_within_seeds(self) -> bool:
        """Whether seeds of one of the two lie further apart than the two do."""
        ranges = [np.ptp([scores[self.metric] for scores in standing.by_seed]) for standing in (self.first, self.second)]
        return bool(max(ranges) >= abs(self.value))


def find_standings(groups: list[Group], num_resamples: int = NUM_PAIRED_RESAMPLES) -> list[ModelScores]:
    """Return the standing of every group; all see the same resamples."""
    runs = [run for group in groups for run in group.runs]
    labels = runs[0].labels
    resampled = resample_several(labels, [run.predictions for run in runs], draw_counts(len(labels), num_resamples))
    by_run = iter(resampled)
    return [_find_standing(group, [next(by_run) for _ in group.runs]) for group in groups]


def compare_pairs(standings: list[ModelScores], metric: str) -> list[Difference]:
    """Return the difference of every pair in one metric, tested by the paired bootstrap and corrected by Holm."""
    pairs = list(combinations(standings, 2))
    gaps = [first.resampled[metric] - second.resampled[metric] for first, second in pairs]
    p_values = correct_holm(np.array([paired_p_value(gap) for gap in gaps]))
    return [
        Difference(first, second, metric, first.score(metric) - second.score(metric), percentile_interval(gap), float(p_value))
        for (first, second), gap, p_value in zip(pairs, gaps, p_values, strict=True)
    ]


def compare_labels(standing: ModelScores, reference: ModelScores) -> tuple[np.ndarray, np.ndarray]:
    """Return each label's F1 above the reference's, (L,), and its p value, corrected by Holm over the labels."""
    gaps = standing.resampled["label_f1"] - reference.resampled["label_f1"]
    return standing.label_f1 - reference.label_f1, correct_holm(np.array([paired_p_value(gap) for gap in gaps.T]))


def _find_standing(group: Group, resampled: list[dict[str, np.ndarray]]) -> ModelScores:
    by_seed, label_f1, precisions = [], [], []
    for run in group.runs:
        num_rows = len(run.labels)
        scores = score_totals(tabulate_rows(run.labels, run.predictions).sum(axis=0, keepdims=True, dtype=np.float64), num_rows)
        label_f1.append(scores.pop("label_f1")[0])
        ranked = score_probabilities(run.labels, run.probabilities)
        by_seed.append({name: float(value[0]) for name, value in scores.items()} | ranked)
        precisions.append(resample_average_precision(run.labels, run.probabilities, draw_counts(num_rows, NUM_RANKED_RESAMPLES)))
    mean = {name: np.mean([scores[name] for scores in resampled], axis=0) for name in resampled[0]}
    mean["macro_average_precision"] = np.mean(precisions, axis=0)
    error = float(np.mean([scores["expected_calibration_error"] for scores in by_seed]))
    return ModelScores(group, by_seed, mean, np.mean(label_f1, axis=0), error)
