"""The slider moves all thresholds by the same number of logits; what they give on validation equals scikit-learn's figures."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.metrics import precision_recall_fscore_support

from emotion.app.html_answers import format_point
from emotion.app.thresholds import ValidationRows, move_thresholds
from emotion.errors import ConfigError
from emotion.evaluation.decision import DecisionRule

GENERATOR = np.random.default_rng(0)
LABELS = GENERATOR.random((200, 5)) < [0.5, 0.2, 0.1, 0.02, 0]
PROBABILITIES = expit(np.where(LABELS, 1.0, -1.0) + GENERATOR.normal(0, 1.5, LABELS.shape))
RULE = DecisionRule((0.5, 0.3, 0.8, 0.1, 0.9), "top1", "rows")
NAMES = ("a", "b", "c", "d", "e")


def test_thresholds_move_by_logits_and_nothing_else_changes():
    moved = move_thresholds(RULE, 1.5)
    assert logit(moved.thresholds) == pytest.approx(logit(RULE.thresholds) - 1.5)
    assert replace(moved, thresholds=RULE.thresholds) == RULE
    assert move_thresholds(RULE, 0) is RULE and move_thresholds(RULE, 0.0) is RULE


def test_more_sensitive_keeps_what_was_given():
    rule = DecisionRule(RULE.thresholds)
    given = [move_thresholds(rule, value).decide(PROBABILITIES) for value in (-3, -1, 0, 1, 3)]
    for fewer, more in pairwise(given):
        assert (more >= fewer).all() and more.sum() > fewer.sum()


def test_certain_thresholds_stay():
    assert move_thresholds(DecisionRule((0.0, 1.0)), 2).thresholds == (0.0, 1.0)


@pytest.mark.parametrize("value", [3.1, -4, float("nan"), "1", None, True])
def test_sensitivity_out_of_range_is_one_line(value):
    with pytest.raises(ConfigError, match="must be a number from -3 to 3"):
        move_thresholds(RULE, value)


@pytest.mark.parametrize("sensitivity", [-2, 0, 2])
def test_precision_and_recall_are_scikit_learns(sensitivity):
    rule = move_thresholds(RULE, sensitivity)
    point = ValidationRows(NAMES, LABELS, PROBABILITIES).measure(rule)
    predictions = rule.decide(PROBABILITIES)
    expected = precision_recall_fscore_support(LABELS, predictions, average="micro", zero_division=0)
    assert (point.precision, point.recall, point.f1) == pytest.approx(expected[:3])
    precision, recall, _, support = precision_recall_fscore_support(LABELS, predictions, average=None, zero_division=np.nan)
    assert [label.precision for label in point.labels] == pytest.approx([None if np.isnan(value) else value for value in precision])
    assert [label.recall for label in point.labels] == pytest.approx([None if np.isnan(value) else value for value in recall])
    assert [label.num_gold for label in point.labels] == support.tolist() and support[4] == 0
    assert [label.num_predicted for label in point.labels] == predictions.sum(axis=0).tolist()
    assert point.labels_per_text == pytest.approx(predictions.sum(axis=1).mean()) and point.num_rows == 200


def test_labels_of_a_text_are_counted_whether_or_not_somebody_judged_them():
    """A new text gets all labels that the rule gives; only precision and recall need the gold ones."""
    is_judged = GENERATOR.random(LABELS.shape) < 0.5
    point = ValidationRows(NAMES, LABELS & is_judged, PROBABILITIES, is_judged).measure(RULE)
    predictions = RULE.decide(PROBABILITIES)
    assert point.labels_per_text == pytest.approx(predictions.sum(axis=1).mean())
    assert point.precision == pytest.approx(LABELS[is_judged & predictions].mean())
    assert point.recall == pytest.approx(predictions[is_judged & LABELS].mean())


def test_precision_is_not_known_where_no_label_is_given():
    rows, rule = ValidationRows(NAMES, LABELS, PROBABILITIES), DecisionRule((1.0,) * 5)
    point = rows.measure(rule)
    assert (point.precision, point.recall, point.labels_per_text) == (None, 0, 0)
    shown = format_point(point, rows.measure(RULE), -3.0)
    assert "<b>–</b> of the given labels are right" in shown and "<b>0%</b> of the right labels are given" in shown
    assert ValidationRows(NAMES, LABELS & False, PROBABILITIES).measure(RULE).recall is None
