"""Metrics equal scikit-learn or values computed by hand."""

import numpy as np
import pytest
from sklearn import metrics as sk

from emotion.evaluation.metrics import (
    confusion_matrices,
    expected_calibration_error,
    score_counts,
    score_labels,
    score_predictions,
    score_probabilities,
)

GENERATOR = np.random.default_rng(0)
LABELS = GENERATOR.random((300, 5)) < [0.05, 0.1, 0.3, 0.5, 0.02]
PROBABILITIES = np.clip(LABELS * 0.3 + GENERATOR.random((300, 5)) * 0.7, 0, 1)
PREDICTIONS = PROBABILITIES > 0.5


def test_scores_equal_values_computed_by_hand():
    labels = np.array([[1, 0, 0], [0, 0, 0], [1, 1, 0], [0, 1, 0]], dtype=bool)
    predictions = np.array([[1, 0, 0], [0, 0, 0], [1, 0, 1], [1, 0, 0]], dtype=bool)
    scores = score_predictions(labels, predictions)
    assert scores["subset_accuracy"] == 0.5
    assert scores["jaccard_samples"] == pytest.approx((1 + 1 + 1 / 3 + 0) / 4)  # no label in gold and prediction counts as 1
    assert scores["hamming_loss"] == pytest.approx(4 / 12)
    assert scores["micro_precision"] == pytest.approx(2 / 4)
    assert scores["micro_recall"] == pytest.approx(2 / 4)
    assert scores["macro_f1"] == pytest.approx((2 * 2 / 5 + 0) / 2)  # the third label has no gold row


def test_scores_equal_scikit_learn():
    scores = score_predictions(LABELS, PREDICTIONS)
    for average in ("micro", "macro", "weighted", "samples"):
        assert scores[f"{average}_f1"] == pytest.approx(sk.f1_score(LABELS, PREDICTIONS, average=average, zero_division=0))
        assert scores[f"{average}_recall"] == pytest.approx(sk.recall_score(LABELS, PREDICTIONS, average=average, zero_division=0))
    ranked = score_probabilities(LABELS, PROBABILITIES)
    assert ranked["macro_average_precision"] == pytest.approx(sk.average_precision_score(LABELS, PROBABILITIES, average="macro"))
    assert ranked["micro_average_precision"] == pytest.approx(sk.average_precision_score(LABELS, PROBABILITIES, average="micro"))
    assert ranked["macro_auroc"] == pytest.approx(sk.roc_auc_score(LABELS, PROBABILITIES, average="macro"))
    assert ranked["micro_auroc"] == pytest.approx(sk.roc_auc_score(LABELS, PROBABILITIES, average="micro"))


def test_scores_from_counts_equal_those_from_predictions():
    labels = np.column_stack([LABELS, np.zeros(300, dtype=bool)])  # the last label is never gold and never predicted
    predictions = np.column_stack([PREDICTIONS, np.zeros(300, dtype=bool)])
    counts = np.stack([(labels & predictions).sum(axis=0), (~labels & predictions).sum(axis=0), (labels & ~predictions).sum(axis=0)])
    scores = score_counts(counts, int((labels == predictions).all(axis=1).sum()), 300)
    expected = score_predictions(labels, predictions)
    assert len(scores) == 7 and scores == pytest.approx({name: expected[name] for name in scores})


def test_mean_of_the_label_rows_is_the_macro_score():
    rows = score_labels(LABELS, PROBABILITIES, PREDICTIONS, tuple("abcde"))
    assert [row["label"] for row in rows] == list("abcde")
    assert np.mean([row["f1"] for row in rows]) == pytest.approx(score_predictions(LABELS, PREDICTIONS)["macro_f1"])
    assert [row["support"] for row in rows] == LABELS.sum(axis=0).tolist()


def test_a_label_without_gold_rows_is_not_measured_and_leaves_macro_scores_unchanged():
    labels = np.column_stack([LABELS, np.zeros(300, dtype=bool)])
    probabilities = np.column_stack([PROBABILITIES, GENERATOR.random(300)])
    predictions = probabilities > 0.5
    assert score_probabilities(labels, probabilities)["macro_auroc"] == score_probabilities(LABELS, PROBABILITIES)["macro_auroc"]
    scores, measured = score_predictions(labels, predictions), score_predictions(LABELS, PREDICTIONS)
    assert [scores[f"macro_{name}"] for name in ("precision", "recall", "f1")] == [
        measured[f"macro_{name}"] for name in ("precision", "recall", "f1")
    ]
    assert scores["micro_precision"] < measured["micro_precision"]  # its false alarms are errors of the model
    row = score_labels(labels, probabilities, predictions, tuple("abcdef"))[-1]
    assert row["support"] == 0 and row["predicted"] == predictions[:, 5].sum() > 0
    assert np.isnan([row[name] for name in ("precision", "recall", "f1", "average_precision")]).all()


def test_macro_scores_of_one_measured_label_are_its_own():
    """4 of 8 gold rows are found by 6 predictions. Scikit-learn would average over "has the label" and "does not have it"."""
    labels, predictions = np.zeros((20, 3), dtype=bool), np.zeros((20, 3), dtype=bool)
    labels[:8, 1] = predictions[:4, 1] = predictions[10:12, 1] = True
    scores = score_predictions(labels, predictions)
    assert [scores[f"macro_{name}"] for name in ("precision", "recall", "f1")] == pytest.approx([4 / 6, 4 / 8, 8 / 14])


def test_scores_without_any_gold_label_are_nan():
    scores = score_predictions(np.zeros((4, 2), dtype=bool), np.ones((4, 2), dtype=bool))
    assert np.isnan(scores["macro_f1"]) and scores["micro_f1"] == 0
    assert np.isnan(score_counts(np.array([[0, 0], [4, 4], [0, 0]]), 0, 4)["macro_f1"])


def test_labels_that_were_not_annotated_do_not_count():
    """Every score of a label equals scikit-learn's on the rows in which it was annotated."""
    is_judged = GENERATOR.random(LABELS.shape) < 0.7
    gold, predicted = LABELS & is_judged, PREDICTIONS & is_judged
    rows = score_labels(gold, PROBABILITIES, predicted, tuple("abcde"), is_judged)
    for column, row in enumerate(rows):
        judged = is_judged[:, column]
        pair = LABELS[judged, column], PREDICTIONS[judged, column]
        assert row["judged"] == judged.sum() and row["support"] == pair[0].sum()
        assert [row["precision"], row["recall"], row["f1"]] == pytest.approx(
            [score(*pair, zero_division=0) for score in (sk.precision_score, sk.recall_score, sk.f1_score)]
        )
        assert row["average_precision"] == pytest.approx(sk.average_precision_score(pair[0], PROBABILITIES[judged, column]))
        np.testing.assert_array_equal(confusion_matrices(gold, predicted, is_judged)[column], sk.confusion_matrix(*pair))
    assert score_predictions(gold, predicted)["macro_f1"] == pytest.approx(np.mean([row["f1"] for row in rows]))
    wrong = sk.zero_one_loss(LABELS[is_judged], PREDICTIONS[is_judged])
    assert score_predictions(gold, predicted, is_judged)["hamming_loss"] == pytest.approx(wrong)
    scores = score_probabilities(gold, PROBABILITIES, is_judged)
    assert scores["macro_average_precision"] == pytest.approx(np.mean([row["average_precision"] for row in rows]))
    assert scores["micro_auroc"] == pytest.approx(sk.roc_auc_score(LABELS[is_judged], PROBABILITIES[is_judged]))
    everything = np.ones_like(LABELS)
    assert score_probabilities(LABELS, PROBABILITIES, everything) == pytest.approx(score_probabilities(LABELS, PROBABILITIES))


def test_confusion_matrices_count_every_row_once():
    matrices = confusion_matrices(LABELS, PREDICTIONS)
    assert matrices.shape == (5, 2, 2)
    assert (matrices.sum(axis=(1, 2)) == 300).all()
    np.testing.assert_array_equal(matrices[:, 1, 1], (LABELS & PREDICTIONS).sum(axis=0))
    np.testing.assert_array_equal(matrices[:, 0, 1], (~LABELS & PREDICTIONS).sum(axis=0))


def test_calibration_error_equals_a_value_computed_by_hand():
    labels = np.array([[1], [0], [1], [1]], dtype=bool)
    probabilities = np.array([[0.1], [0.1], [0.9], [0.9]])
    assert expected_calibration_error(labels, probabilities) == pytest.approx((abs(0.2 - 1) + abs(1.8 - 2)) / 4)
    certain = np.array([[1.0], [0.0]])
    assert expected_calibration_error(certain.astype(bool), certain) == 0
