"""Labels that look wrong, and how many there are: planted errors come first, and the estimates are cleanlab's."""

import sys

import numpy as np
import pytest

pytest.importorskip("cleanlab", reason="needs requirements-audit.txt")

from cleanlab.count import compute_confident_joint
from scipy import stats

from emotion.analysis.audit.noise import estimate_noise
from emotion.analysis.audit.ranking import LabelIssues, check_installed, compute_relative_confidence, find_issues
from emotion.errors import ConfigError

GENERATOR = np.random.default_rng(0)
FREQUENCIES = np.array([0.3, 0.5, 0.1, 0.02])
TRUE = GENERATOR.random((1_000, 4)) < FREQUENCIES
PROBABILITIES = np.clip(np.where(TRUE, 0.8, 0.1) + GENERATOR.normal(0, 0.05, TRUE.shape), 0.01, 0.99)


def plant():
    """Return labels with ten wrong and ten missing ones, in rows 0 to 19 of the first label."""
    labels = TRUE.copy()
    wrong, missing = np.flatnonzero(~TRUE[:, 0])[:10], np.flatnonzero(TRUE[:, 0])[:10]
    labels[wrong, 0], labels[missing, 0] = True, False
    return labels, wrong, missing


def test_planted_errors_are_flagged_and_come_first():
    labels, wrong, missing = plant()
    issues = find_issues(labels, PROBABILITIES)
    assert set(np.flatnonzero(issues.is_wrong[:, 0])) == set(wrong)
    assert set(np.flatnonzero(issues.is_missing[:, 0])) == set(missing)
    assert set(issues.order[:20]) == {*wrong, *missing}
    assert issues.quality.min() >= 0 and issues.quality.max() <= 1
    assert issues.is_wrong is issues.is_wrong and issues.is_missing is issues.is_missing  # per row they would cost quadratic time


def test_rows_are_ordered_by_their_most_doubtful_flagged_label():
    is_flagged = np.array([[True], [False], [True], [True]])
    issues = LabelIssues(np.zeros_like(is_flagged), is_flagged, np.array([0.4, 0.0, 0.1, 0.1]))
    assert issues.order.tolist() == [2, 3, 0]


def test_confidence_is_relative_to_the_label_in_the_judged_rows():
    labels = np.array([[True, False], [False, False], [False, True]])
    probabilities = np.array([[0.1, 0.8], [0.3, 0.2], [0.9, 0.5]], dtype=np.float32)
    confidence = compute_relative_confidence(labels, probabilities, np.array([[True, True], [True, True], [False, True]]))
    expected = [[0.1 / 0.2, 0.2 / 0.5], [0.7 / 0.8, 0.8 / 0.5], [0.1 / 0.8, 0.5 / 0.5]]  # means of the judged: 0.2 and 0.5
    assert confidence == pytest.approx(np.array(expected))


@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_wrong_and_missing_labels_come_first_also_if_the_model_is_never_sure(scale):
    labels, wrong, missing = plant()
    first = find_issues(labels, PROBABILITIES * np.array([scale, 1, 1, 1])).order[:20]
    assert set(wrong) <= set(first)
    assert (set(missing) <= set(first)) == (scale > 0.5)  # cleanlab flags no missing label that is less probable than 0.5


def test_a_label_that_nobody_judged_is_not_flagged_and_changes_no_other():
    labels, wrong, missing = plant()
    is_judged = np.ones_like(labels)
    is_judged[missing[:5], 0] = False
    is_judged[:200, 1] = False
    issues = find_issues(labels & is_judged, PROBABILITIES, is_judged)
    assert not issues.is_flagged[~is_judged].any()
    assert set(np.flatnonzero(issues.is_flagged[:, 0])) == {*wrong, *missing[5:]}


def test_flags_of_judged_rows_are_those_of_a_file_without_the_others():
    """As the estimates: rows that nobody judged would otherwise count as surely without the label, and hide some that lack it."""
    generator = np.random.default_rng(1)
    true = generator.random((2_000, 2)) < 0.3
    labels = true ^ (generator.random(true.shape) < 0.1)
    probabilities = 1 / (1 + np.exp(-(np.where(true, 2.5, -0.5) + generator.normal(0, 1.5, true.shape))))
    is_judged = np.ones_like(labels)
    is_judged[500:, 0] = False
    partly, half = find_issues(labels & is_judged, probabilities, is_judged), find_issues(labels[:500], probabilities[:500])
    np.testing.assert_array_equal(partly.is_flagged[:500, 0], half.is_flagged[:, 0])
    assert half.is_missing[:, 0].sum() > 30 and half.is_wrong[:, 0].sum() > 10
    np.testing.assert_array_equal(partly.is_flagged[:, 1], find_issues(labels, probabilities).is_flagged[:, 1])


@pytest.mark.parametrize("value", [False, True])
def test_a_label_without_two_sides_is_not_flagged_and_has_no_estimate(value):
    labels, wrong, _ = plant()
    labels[:, 2] = value
    issues, noise = find_issues(labels, PROBABILITIES), estimate_noise(labels, PROBABILITIES)
    assert not issues.is_flagged[:, 2].any() and issues.is_wrong[wrong, 0].all()
    assert np.isnan([noise[2].wrong, *noise[2].wrong_interval, noise[2].missing]).all() and noise[2].num_given == 1_000 * value
    assert all(np.isfinite(noise[label].wrong) for label in (0, 1, 3))


def test_estimates_are_those_of_cleanlab_and_the_planted_rates():
    noisy = np.clip(np.where(TRUE, 0.6, 0.25) + GENERATOR.normal(0, 0.25, TRUE.shape), 0.001, 0.999)
    labels, _, _ = plant()
    for probabilities in (PROBABILITIES, noisy):
        for column, noise in enumerate(estimate_noise(labels, probabilities)):
            given = labels[:, column].astype(int)
            pairs = np.column_stack([1 - probabilities[:, column], probabilities[:, column]])
            counts = compute_confident_joint(given, pairs, calibrate=False)
            joint = counts / counts.sum(axis=1, keepdims=True) * np.bincount(given)[:, None]
            assert noise.wrong == pytest.approx(joint[1, 0] / joint[1].sum(), abs=1e-9)
            assert noise.missing == pytest.approx(joint[0, 1] / joint[:, 1].sum(), abs=1e-9)
            assert noise.num_missing == pytest.approx(joint[0, 1]) and noise.num_given == given.sum()
            assert noise.wrong_interval[0] <= noise.wrong <= noise.wrong_interval[1]
            assert noise.missing_interval[0] <= noise.missing <= noise.missing_interval[1]
    planted = estimate_noise(labels, PROBABILITIES)[0]
    low, high = planted.wrong_interval
    assert low <= 10 / labels[:, 0].sum() <= high and 0 < high - low < 0.1
    low, high = planted.missing_interval
    assert low <= 10 / TRUE[:, 0].sum() <= high and 0 < high - low < 0.1


def test_estimates_of_judged_rows_are_those_of_a_file_without_the_others():
    labels, _, _ = plant()
    is_judged = np.ones_like(labels)
    is_judged[500:, 0] = False
    partly, half = estimate_noise(labels & is_judged, PROBABILITIES, is_judged)[0], estimate_noise(labels[:500], PROBABILITIES[:500])[0]
    assert (partly.num_given, partly.wrong, partly.missing) == pytest.approx((half.num_given, half.wrong, half.missing))


def test_a_missing_package_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "cleanlab", None)
    with pytest.raises(ConfigError, match=r"^audit\.py: cleanlab is not installed: pip install -r requirements-audit\.txt$"):
        check_installed()


def test_few_rows_without_an_error_do_not_show_that_there_is_none():
    """Of 20 given labels that all look right, up to 12 % may be wrong: the upper end of Jeffreys' interval, as all rows are confident."""
    labels = np.zeros((1_000, 1), dtype=bool)
    labels[:20] = True
    (noise,) = estimate_noise(labels, np.where(labels, 0.9, 0.1))
    assert noise.wrong == noise.missing == noise.wrong_interval[0] == noise.missing_interval[0] == 0
    upper = stats.beta.ppf(0.975, 0.5, 20.5)  # 0.117
    assert noise.wrong_interval[1] == pytest.approx(upper, rel=0.3) and noise.missing_interval[1] == pytest.approx(upper, rel=0.3)
