"""Scores of each model, their confidence intervals, and tests of the differences between models."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from emotion.evaluation.comparison.runs import SeedGroup
from emotion.evaluation.metrics import score_probabilities
from emotion.evaluation.uncertainty import (
    adjust_p_values,
    draw_counts,
    equivalence_p_value,
    find_interval,
    paired_p_value,
    resample_several,
    score_rows,
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
)
"""Scores at the decision rule."""
RANKING_METRICS = ("macro_average_precision", "expected_calibration_error")
"""Scores of the probabilities. They have no interval: with few gold rows both are biased, and no bootstrap interval holds its level."""
MAIN_METRIC = "macro_f1"
"""The metric that models are ranked by."""
PAIRED_METRICS = ("macro_f1", "micro_f1", "jaccard_samples", "subset_accuracy")
NUM_PAIRED_RESAMPLES, RESAMPLES_PER_PAIR = 10_000, 50
"""The smallest possible p-value is 2 / (1 + resamples). Holm's largest factor, the number of pairs, raises it to less than 0.04."""
SIGNIFICANCE_LEVEL = 0.05
EQUIVALENCE_MARGIN = 0.01
"""Default of the difference that does not matter: about that of two seeds of one recipe (docs/comparison.md).

Source: Benavoli et al. 2017, "Time for a Change", who call classifiers practically equivalent whose accuracy differs by less than 0.01.
"""


@dataclass(frozen=True)
class ModelScores:
    """Scores of a model on all test rows and on every resample of them, averaged over its seeds."""

    group: SeedGroup
    by_seed: list[dict[str, float]]
    """The scores of each run of the group."""
    resampled: dict[str, np.ndarray]
    """Mean over seeds of each score, float (B,), and of `label_f1`, float (B, L)."""
    label_f1: np.ndarray
    """Mean over seeds of each label's F1, float (L,); nan for a label without a gold row."""

    @property
    def name(self) -> str:
        return self.group.name

    def score(self, metric: str) -> float:
        """Return the mean over seeds; nan for a score of probabilities if there are labels only."""
        return float(np.mean([scores.get(metric, np.nan) for scores in self.by_seed]))

    def std(self, metric: str) -> float | None:
        """Return the standard deviation over seeds, None for a single seed."""
        values = [scores[metric] for scores in self.by_seed]
        return float(np.std(values, ddof=1)) if len(values) > 1 else None

    def interval(self, metric: str) -> tuple[float, float]:
        """Return the 95% interval over test rows."""
        return find_interval(self.resampled[metric], self.score(metric))


@dataclass(frozen=True)
class Difference:
    """The score of `first` minus the score of `second` in one metric."""

    first: ModelScores
    second: ModelScores
    metric: str
    value: float
    interval: tuple[float, float]
    """95% interval over test rows, not corrected for multiple comparisons."""
    p_value: float
    """Adjusted by Holm's method over all pairs of the metric."""
    equivalence_p_value: float = 1.0
    """That of "the difference is at least the margin", adjusted in the same way."""
    margin: float = EQUIVALENCE_MARGIN

    @property
    def is_equivalent(self) -> bool:
        """Whether the models are practically equal: the difference is shown to be below the margin."""
        return self.equivalence_p_value < SIGNIFICANCE_LEVEL

    @property
    def verdict(self) -> str:
        """What the two tests show, in words."""
        equal = "practically equal"
        if self.winner is None:
            return equal if self.is_equivalent else "no significant difference"
        return f"{self.winner.name} is better" + (f", but {equal}" if self.is_equivalent else "")

    @property
    def is_significant(self) -> bool:
        return self.p_value < SIGNIFICANCE_LEVEL

    @property
    def winner(self) -> ModelScores | None:
        """The better model, or None if the difference is not significant."""
        if not self.is_significant:
            return None
        return self.first if self.value > 0 else self.second

    @property
    def is_within_seed_range(self) -> bool:
        """Whether the scores of two seeds of one of the models differ at least as much as the models do."""
        ranges = [np.ptp([scores[self.metric] for scores in model.by_seed]) for model in (self.first, self.second)]
        return bool(max(ranges) >= abs(self.value))


def score_models(groups: list[SeedGroup], num_resamples: int = NUM_PAIRED_RESAMPLES) -> list[ModelScores]:
    """Return the scores of every group. All groups are scored on the same resamples, so their scores are paired."""
    runs = [run for group in groups for run in group.runs]
    labels = runs[0].labels
    resampled = iter(resample_several(labels, [run.predictions for run in runs], draw_counts(len(labels), num_resamples)))
    return [_score_group(group, [next(resampled) for _ in group.runs]) for group in groups]


def count_resamples(num_models: int) -> int:
    """Return the number of resamples with which the tests of all pairs of models can still find a difference after Holm's correction."""
    return max(NUM_PAIRED_RESAMPLES, RESAMPLES_PER_PAIR * num_models * (num_models - 1) // 2)


def rank_models(models: list[ModelScores]) -> list[ModelScores]:
    """Return the models by the main metric, best first."""
    return sorted(models, key=lambda model: -model.score(MAIN_METRIC))


def compare_pairs(models: list[ModelScores], metric: str, margin: float = EQUIVALENCE_MARGIN) -> list[Difference]:
    """Return the difference of every pair in one metric, tested by the paired bootstrap with Holm's correction.

    It is tested against 0, and for equivalence: whether it is below `margin` in both directions.
    """
    pairs = list(combinations(models, 2))
    num_rows = len(models[0].group.runs[0].labels)
    gaps = [first.resampled[metric] - second.resampled[metric] for first, second in pairs]
    p_values = adjust_p_values(np.array([paired_p_value(gap) for gap in gaps]))
    equivalence_p_values = adjust_p_values(np.array([equivalence_p_value(gap, margin, num_rows) for gap in gaps]))
    values = [first.score(metric) - second.score(metric) for first, second in pairs]
    return [
        Difference(first, second, metric, value, find_interval(gap, value), float(p_value), float(equivalence), margin)
        for (first, second), value, gap, p_value, equivalence in zip(pairs, values, gaps, p_values, equivalence_p_values, strict=True)
    ]


def compare_labels(model: ModelScores, reference: ModelScores) -> tuple[np.ndarray, np.ndarray]:
    """Return each label's F1 minus that of the reference, float (L,), and its p-value, adjusted by Holm's method over labels.

    Both are nan for a label without a gold row.
    """
    differences = model.label_f1 - reference.label_f1
    is_measured = ~np.isnan(differences)
    gaps = model.resampled["label_f1"] - reference.resampled["label_f1"]
    p_values = np.full(len(differences), np.nan)
    p_values[is_measured] = adjust_p_values(np.array([paired_p_value(gap) for gap in gaps.T[is_measured]]))
    return differences, p_values


def _score_group(group: SeedGroup, resampled: list[dict[str, np.ndarray]]) -> ModelScores:
    by_seed, label_f1 = [], []
    for run in group.runs:
        scores = score_rows(run.labels, run.predictions)
        label_f1.append(np.where(run.labels.any(axis=0), scores.pop("label_f1"), np.nan))
        ranking = {} if run.probabilities is None else score_probabilities(run.labels, run.probabilities, run.is_judged)
        by_seed.append({name: float(value) for name, value in scores.items()} | ranking)
    mean = {name: np.mean([scores[name] for scores in resampled], axis=0) for name in resampled[0]}
    return ModelScores(group, by_seed, mean, np.mean(label_f1, axis=0))


def format_score(value: float, interval: tuple[float, float]) -> str:
    """Return a score with its interval in parentheses."""
    return f"{value:.3f} ({interval[0]:.3f} to {interval[1]:.3f})"
