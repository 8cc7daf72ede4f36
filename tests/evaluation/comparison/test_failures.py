"""Confusions, confident errors and slices of a small run."""

from dataclasses import replace

import numpy as np

from emotion.evaluation.comparison.failures import make_slices, score_slice
from emotion.evaluation.mistakes import count_confusions, rank_confusions, rank_errors
from tests.evaluation.comparison.test_accuracy import make_run


def make_small_run(labels, probabilities):
    labels, probabilities = np.array(labels, dtype=bool), np.array(probabilities)
    return replace(make_run("run"), ids=list("xyz"), labels=labels, probabilities=probabilities, predictions=probabilities >= 0.5)


RUN = make_small_run([[1, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0]], [[0.1, 0.9, 0, 0], [0.3, 0.8, 0, 0], [0, 0.7, 0, 0.99]])


def test_confusions_count_rows_with_a_missed_and_a_wrong_label():
    assert rank_confusions(RUN.rows, RUN.predictions) == [
        {"missed label": "a", "predicted instead": "b", "rows": 2, "fraction of missed": 1.0}
    ]


def test_every_missed_label_is_counted_for_each_wrong_one_or_for_nothing():
    """a is missed twice, with b predicted each time; b is right; a third row misses c and predicts nothing wrongly."""
    labels = np.vstack([RUN.labels, [[0, 0, 1, 0]]]).astype(bool)
    predictions = np.vstack([RUN.predictions, [[0, 0, 0, 0]]]).astype(bool)
    expected = np.zeros((4, 5), dtype=int)
    expected[0, 1], expected[2, 4] = 2, 1
    assert np.array_equal(count_confusions(labels, predictions), expected)
    assert (np.diagonal(count_confusions(labels, predictions)) == 0).all()


def test_errors_are_ordered_by_confidence():
    errors = rank_errors(replace(RUN.rows, texts=["first", "second", "third"]), RUN.predictions)
    assert [(error["text"], error["wrong label"]) for error in errors] == [("third", "d"), ("first", "a"), ("second", "b")]
    assert errors[0]["predicted"] == "b, d" and "text" not in rank_errors(RUN.rows, RUN.predictions)[0]


def test_slices_of_one_criterion_hold_every_row_once():
    labels = np.random.default_rng(0).random((500, 4)) < 0.4
    texts = ["word " * (1 + row % 37) for row in range(500)]
    slices = make_slices(labels, texts)
    for criterion in ("num_labels", "num_words"):
        rows = np.concatenate([part.rows for part in slices if part.criterion == criterion])
        assert sorted(rows) == list(range(500)), criterion


def test_score_of_a_slice_lies_in_its_interval():
    run = make_run("run")
    value, (low, high) = score_slice(run, make_slices(run.labels, None)[0], "jaccard_samples")
    assert low < value < high
