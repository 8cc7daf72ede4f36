import numpy as np
import pytest
from sklearn.metrics import f1_score

from emotion.evaluation.metrics import score_predictions
from emotion.evaluation.uncertainty import bootstrap_intervals

NAMES = {f"{average}_{name}" for average in ("micro", "macro") for name in ("precision", "recall", "f1")} | {
    "jaccard_samples",
    "subset_accuracy",
}


def draw(num_rows, seed):
    generator = np.random.default_rng(seed)
    labels = generator.random((num_rows, 3)) < 0.3
    return labels, labels ^ (generator.random(labels.shape) < 0.15)


def test_intervals_hold_the_score_of_the_whole():
    labels, predictions = draw(2_000, 0)
    scores = score_predictions(labels, predictions)
    intervals = bootstrap_intervals(labels, predictions)
    assert set(intervals) == NAMES
    for name, (low, high) in intervals.items():
        assert low < scores[name] < high


def test_resamples_equal_scikit_learn_on_the_drawn_rows():
    labels, predictions = draw(50, 1)
    rows = np.repeat(np.arange(50), np.random.default_rng(3).multinomial(50, np.full(50, 1 / 50), size=1)[0])
    (low, high) = bootstrap_intervals(labels, predictions, num_resamples=1, seed=3)["macro_f1"]
    assert low == high == pytest.approx(f1_score(labels[rows], predictions[rows], average="macro"), abs=1e-6)


def test_coverage_on_simulated_data_is_near_the_stated_rate():
    truth = score_predictions(*draw(200_000, 99))["micro_f1"]
    covered = 0
    for seed in range(200):
        low, high = bootstrap_intervals(*draw(300, seed), num_resamples=200)["micro_f1"]
        covered += low <= truth <= high
    assert 0.89 <= covered / 200 <= 0.99


def test_perfect_and_empty_predictions():
    labels = np.zeros((10, 2), dtype=bool)
    intervals = bootstrap_intervals(labels, labels, num_resamples=10)
    assert intervals["jaccard_samples"] == (1, 1) and intervals["subset_accuracy"] == (1, 1) and intervals["macro_f1"] == (0, 0)
