"""Applying, fitting and storing decision rules."""

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import f1_score

from emotion.config import DecisionConfig
from emotion.errors import ModelError
from emotion.evaluation.decision import (
    DecisionRule,
    compute_logits,
    default_rule,
    fit_rule,
)
from emotion.evaluation.thresholds import find_expected_thresholds

GENERATOR = np.random.default_rng(0)
LABELS = GENERATOR.random((4_000, 4)) < [0.5, 0.2, 0.05, 0.01]
LOGITS = GENERATOR.normal(size=(4_000, 4)) + 3 * LABELS - 2


def fit(**settings):
    return fit_rule(LABELS, LOGITS, DecisionConfig(**settings), "some rows")


def test_a_probability_equal_to_its_threshold_is_predicted():
    rule = DecisionRule((0.5, 0.2))
    np.testing.assert_array_equal(rule.decide(np.array([[0.5, 0.1], [0.4, 0.2]])), [[True, False], [False, True]])


def test_top1_changes_only_rows_without_a_prediction():
    rule = DecisionRule((0.5, 0.5, 0.5), empty_set="top1")
    probabilities = np.array([[0.1, 0.3, 0.2], [0.6, 0.9, 0.1]])
    np.testing.assert_array_equal(rule.decide(probabilities), [[0, 1, 0], [1, 1, 0]])


def test_thresholds_without_shrinkage_maximize_the_f1_of_each_label():
    rule = fit(shrinkage=0)
    probabilities = expit(LOGITS)
    for column in range(4):
        fitted = f1_score(LABELS[:, column], probabilities[:, column] >= rule.thresholds[column])
        tried = [f1_score(LABELS[:, column], probabilities[:, column] >= t) for t in np.linspace(0.02, 0.98, 97)]
        assert fitted >= max(tried) - 1e-9


def test_shrinkage_moves_the_thresholds_of_rare_labels_most():
    tuned, shrunk, expected_best = (np.array(fit(shrinkage=s).thresholds) for s in (0, 300, 1e12))
    np.testing.assert_allclose(expected_best, find_expected_thresholds(LABELS, LOGITS), atol=1e-6)
    num_positives = LABELS.sum(axis=0)
    expected = (num_positives * tuned + 300 * expected_best) / (num_positives + 300)
    np.testing.assert_allclose(shrunk, expected, atol=1e-6)


def compute_f1(labels, predictions):
    """Return what `f1_score` returns, in a twentieth of the time."""
    return 2 * (labels & predictions).sum() / (labels.sum() + predictions.sum())


def test_expected_f1_finds_the_best_threshold_of_calibrated_probabilities():
    """A threshold fitted on 2,000 rows is near the best one on 200,000 other rows, also for rare labels."""
    logits = GENERATOR.normal(size=(202_000, 3)) * 2 - [1, 3, 5]
    labels = GENERATOR.random(logits.shape) < expit(logits)
    thresholds = find_expected_thresholds(labels[:2_000], logits[:2_000])
    for column, threshold in enumerate(thresholds):
        gold, scores = labels[2_000:, column], expit(logits[2_000:, column])
        best = max(compute_f1(gold, scores >= t) for t in np.linspace(0.05, 0.6, 56))
        assert compute_f1(gold, scores >= threshold) > best - 0.01


def test_micro_f1_uses_the_best_single_threshold():
    rule = fit(maximize="micro_f1")
    probabilities = expit(LOGITS)
    fitted = f1_score(LABELS, rule.decide(probabilities), average="micro")
    tried = [f1_score(LABELS, probabilities >= t, average="micro") for t in np.linspace(0.02, 0.98, 97)]
    assert len(set(rule.thresholds)) == 1 and fitted >= max(tried) - 1e-9


@pytest.mark.parametrize("maximize", ["macro_f1", "micro_f1"])
def test_refit_with_the_same_settings_changes_nothing(maximize):
    config = DecisionConfig(maximize=maximize)
    rule = fit(maximize=maximize)
    refitted = fit_rule(LABELS, compute_logits(expit(LOGITS)), config, "some rows")
    assert refitted.thresholds == pytest.approx(rule.thresholds, abs=1e-6)


def test_threshold_is_clear_of_the_lowest_logit_when_all_rows_are_predicted():
    logits = np.full((100, 1), -0.3)
    (threshold,) = find_expected_thresholds(np.arange(100)[:, None] < 30, logits)
    assert expit(-0.3) - 0.2 < threshold < expit(-0.3) - 0.05


def test_shifted_logits_give_the_same_predictions():
    """Training with `pos_weight` shifts logits."""
    shift = np.array([0.0, 1.0, -2.0, 3.0])
    plain, shifted = find_expected_thresholds(LABELS, LOGITS), find_expected_thresholds(LABELS, LOGITS + shift)
    np.testing.assert_array_equal(expit(LOGITS) >= plain, expit(LOGITS + shift) >= shifted)


def test_label_without_positives_is_rarely_predicted():
    labels = LABELS.copy()
    labels[:, 3] = False
    rule = fit_rule(labels, LOGITS, DecisionConfig(), "rows")
    assert 1 <= (expit(LOGITS[:, 3]) >= rule.thresholds[3]).sum() < 40


def test_rule_equals_its_stored_version():
    rule = fit(empty_set="top1")
    assert DecisionRule.from_dict(rule.to_dict(), 4, "here") == rule
    earlier = {"global_threshold": 0.3, "temperature": 1.4, "shift": -0.2}  # which earlier versions wrote
    assert DecisionRule.from_dict(rule.to_dict() | earlier, 4, "here") == rule
    assert rule.fitted_on == "some rows"


@pytest.mark.parametrize("change", [{"thresholds": [0.5]}, {"thresholds": None}, {"other": 1}])
def test_invalid_rule_is_refused(change):
    with pytest.raises(ModelError, match=r"^here: .*restore the file or write it again$"):
        DecisionRule.from_dict(fit().to_dict() | change, 4, "here")


def test_overrides_replace_only_what_is_given():
    rule = default_rule(3).with_overrides(threshold=0.3, empty_set="top1")
    assert rule.thresholds == (0.3,) * 3 and rule.empty_set == "top1" and "by hand" in rule.fitted_on
    assert fit().with_overrides() == fit()


@pytest.mark.parametrize("maximize", ["macro_f1", "micro_f1"])
def test_labels_that_were_not_annotated_have_no_part_in_the_rule(maximize):
    is_judged = np.random.default_rng(1).random(LABELS.shape) < 0.5
    config = DecisionConfig(maximize=maximize)
    rules = []
    for filler in (-9.0, 9.0):  # logits of the labels that nobody annotated
        logits = np.where(is_judged, LOGITS, filler)
        rules.append(fit_rule(LABELS & is_judged, logits, config, "some rows", is_judged))
    assert rules[0] == rules[1] and rules[0].thresholds != fit(maximize=maximize).thresholds
    predictions = rules[0].decide(expit(LOGITS), is_judged)
    assert not predictions[~is_judged].any() and predictions[:, :3].any(axis=0).all()


def test_each_label_is_fitted_on_the_rows_in_which_it_was_annotated():
    is_judged = np.ones(LABELS.shape, dtype=bool)
    is_judged[::2, 1] = False
    config = DecisionConfig()
    rule = fit_rule(LABELS & is_judged, LOGITS, config, "some rows", is_judged)
    odd_rows = fit_rule(LABELS[1::2], LOGITS[1::2], config, "odd rows")
    assert rule.thresholds[1] == pytest.approx(odd_rows.thresholds[1])
    assert rule.thresholds[0] == pytest.approx(fit().thresholds[0])
