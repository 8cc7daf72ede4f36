"""Bootstrap intervals on simulated predictions."""

import numpy as np
import pytest
from sklearn.metrics import f1_score

from emotion.evaluation.metrics import score_predictions
from emotion.evaluation.uncertainty import bootstrap_intervals

NAMES = {f"{average}_{name}" for average in ("micro", "macro") for name in ("precision", "recall", "f1")} | {
    "jaccard_samples",
    "subset_accuracy",
}


def simulate(num_rows, seed):
    """Return labels and predictions, bool (num_rows, 3); 15% of the decisions are wrong."""
    generator = np.random.default_rng(seed)
    labels = generator.random((num_rows, 3)) < 0.3
    return labels, labels ^ (generator.random(labels.shape) < 0.15)


def test_intervals_contain_the_score_of_all_rows():
    labels, predictions = simulate(2_000, 0)
    scores = score_predictions(labels, predictions)
    intervals = bootstrap_intervals(labels, predictions)
    assert set(intervals) == NAMES
    for name, (low, high) in intervals.items():
        assert low < scores[name] < high


def test_resample_equals_scikit_learn_on_the_resampled_rows():
    labels, predictions = simulate(50, 1)
    rows = np.repeat(np.arange(50), np.random.default_rng(3).multinomial(50, np.full(50, 1 / 50), size=1)[0])
    (low, high) = bootstrap_intervals(labels, predictions, num_resamples=1, seed=3)["macro_f1"]
    assert low == high == pytest.approx(f1_score(labels[rows], predictions[rows], average="macro"), abs=1e-6)


@pytest.mark.slow
def test_coverage_of_the_intervals_is_near_their_level():
    """The number of intervals that contain the population value is binomial (200, 0.95).

    It is outside 178 to 198 with a probability below 0.001.
    """
    population_value = score_predictions(*simulate(200_000, 99))["micro_f1"]
    num_covered = 0
    for seed in range(200):
        labels, predictions = simulate(300, seed)
        low, high = bootstrap_intervals(labels, predictions, num_resamples=200)["micro_f1"]
        num_covered += low <= population_value <= high
    assert 178 <= num_covered <= 198


def test_rows_without_labels_count_as_correct_but_not_in_f1():
    labels = np.zeros((10, 2), dtype=bool)
    intervals = bootstrap_intervals(labels, labels, num_resamples=10)
    assert intervals["jaccard_samples"] == (1, 1) and intervals["subset_accuracy"] == (1, 1) and intervals["macro_f1"] == (0, 0)
