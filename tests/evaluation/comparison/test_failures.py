import numpy as np

from emotion.evaluation.comparison.failures import make_slices, rank_confusions, rank_errors, score_slice
from tests.evaluation.comparison.test_accuracy import make_run


def run_of(labels, probabilities):
    from dataclasses import replace

    labels, probabilities = np.array(labels, dtype=bool), np.array(probabilities)
    return replace(make_run("run"), ids=list("xyz"), labels=labels, probabilities=probabilities, predictions=probabilities >= 0.5)


RUN = run_of([[1, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0]], [[0.1, 0.9, 0, 0], [0.3, 0.8, 0, 0], [0, 0.7, 0, 0.99]])


def test_confusions_are_missed_and_given_in_one_row():
    assert rank_confusions(RUN) == [{"gold": "a", "given instead": "b", "rows": 2, "of missed": 1.0}]


def test_errors_are_ordered_by_how_sure_they_were():
    errors = rank_errors(RUN, ["first", "second", "third"])
    assert [(error["text"], error["worst label"]) for error in errors] == [("third", "d"), ("first", "a"), ("second", "b")]
    assert errors[0]["predicted"] == "b, d" and "text" not in rank_errors(RUN, None)[0]


def test_slices_hold_every_row_once_by_kind():
    labels = np.random.default_rng(0).random((500, 4)) < 0.4
    texts = ["word " * (1 + row % 37) for row in range(500)]
    slices = make_slices(labels, texts)
    for kind in ("labels", "words"):
        rows = np.concatenate([part.rows for part in slices if part.kind == kind])
        assert sorted(rows) == list(range(500)), kind
    run = make_run("run")
    value, (low, high) = score_slice(run, make_slices(run.labels, None)[0], "jaccard_samples")
    assert low < value < high
