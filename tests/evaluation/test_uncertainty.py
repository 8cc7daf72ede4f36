"""Bootstrap intervals on simulated predictions."""

import numpy as np
import pytest
from sklearn.metrics import f1_score

from emotion.evaluation.metrics import score_predictions
from emotion.evaluation.uncertainty import (
    bootstrap_intervals,
    bootstrap_label_intervals,
    draw_counts,
    equivalence_p_value,
    paired_p_value,
    resample_scores,
)

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
    scores = resample_scores(labels, predictions, draw_counts(50, 1, seed=3))
    assert scores["macro_f1"] == pytest.approx(f1_score(labels[rows], predictions[rows], average="macro"), abs=1e-6)


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
    assert intervals["jaccard_samples"] == (1, 1) and intervals["subset_accuracy"] == (1, 1)
    assert intervals["micro_f1"] == (0, 0) and np.isnan(intervals["macro_f1"]).all()


def test_macro_intervals_contain_their_estimate_where_labels_are_rare():
    """With labels of one or two gold rows, most resamples lack some of them: counted as 0, they would pull the interval down."""
    labels = np.zeros((40, 8), dtype=bool)
    labels[np.arange(40), np.arange(40) % 8] = True
    labels[8:, 2:] = False  # six labels have one gold row each
    scores = score_predictions(labels, labels)
    assert scores["macro_recall"] == 1 and bootstrap_intervals(labels, labels)["macro_recall"] == (1, 1)
    predictions = labels.copy()
    predictions[:4, 4:] = False
    predictions[2, 2] = False
    scores, intervals = score_predictions(labels, predictions), bootstrap_intervals(labels, predictions)
    assert all(intervals[name][0] <= scores[name] <= intervals[name][1] for name in intervals)
    assert intervals["macro_recall"][0] < scores["macro_recall"] - 0.05 and intervals["macro_recall"][1] > scores["macro_recall"] + 0.05


def test_interval_of_a_label_with_few_gold_rows_holds_the_true_value():
    """The plain percentiles hold it in half of the splits. The number of splits is binomial (200, 0.95): below 178 has p < 0.001."""
    generator = np.random.default_rng(0)
    population_f1 = 2 * 0.6 / (1 + 0.6 + 0.4)  # recall 0.6; 0.4 false alarms for each gold row
    num_covered = 0
    for _ in range(200):
        labels = np.zeros((100, 2), dtype=bool)
        labels[:3, 0] = True
        predictions = np.where(labels, generator.random((100, 2)) < 0.6, generator.random((100, 2)) < 1.2 / 97)
        (low, high), unmeasured = bootstrap_label_intervals(labels, predictions)
        num_covered += low <= population_f1 <= high
        assert np.isnan(unmeasured).all()
    assert num_covered >= 178


@pytest.mark.slow
def test_coverage_of_macro_intervals_with_rare_labels():
    """The share of splits is 0.92 to 0.95 by `benchmarks.interval_coverage`; 200 splits give 165 or more with p > 0.999."""
    rates = np.array([0.25, 0.1, 0.04, 0.02, 0.01, 0.005])
    generator = np.random.default_rng(0)
    num_covered = 0
    recall, false_alarms = np.linspace(0.4, 0.8, 6), 0.5 * rates
    f1 = 2 * recall / (1 + recall + 0.5)
    for seed in range(200):
        labels = generator.random((300, 6)) < rates
        hits, alarms = generator.random((300, 6)) < recall, generator.random((300, 6)) < false_alarms / (1 - rates)
        low, high = bootstrap_intervals(labels, np.where(labels, hits, alarms), num_resamples=200, seed=seed)["macro_f1"]
        num_covered += low <= f1[labels.any(axis=0)].mean() <= high
    assert num_covered >= 165


def test_resamples_without_a_gold_row_do_not_count_in_p_values():
    """They have no macro score. If they counted as neither sign, both p-values would shrink with their number."""
    differences = np.array([0.02, 0.03, -0.01, 0.005])
    with_nan = np.r_[differences, np.full(96, np.nan)]
    assert paired_p_value(with_nan) == paired_p_value(differences) == 2 * (1 + 1) / (1 + 4)
    assert equivalence_p_value(with_nan, 0.01, 600) == equivalence_p_value(differences, 0.01, 600) == (1 + 2) / (1 + 4)
    assert paired_p_value(with_nan[4:]) == equivalence_p_value(with_nan[4:], 0.01, 600) == 1
