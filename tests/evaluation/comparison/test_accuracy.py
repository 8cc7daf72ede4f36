"""Statistics against known answers, on simulated models."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score

from emotion.config import load_config
from emotion.errors import DataError
from emotion.evaluation.comparison.accuracy import compare_labels, compare_pairs, find_standings
from emotion.evaluation.comparison.conclusion import conclude
from emotion.evaluation.comparison.costs import find_cost, find_front, find_ladders
from emotion.evaluation.comparison.runs import Run, check_comparable, group_seeds
from emotion.evaluation.uncertainty import correct_holm, draw_counts, paired_p_value, resample_average_precision, resample_scores
from emotion.labels import LabelSet

NUM_LABELS = 4


def make_run(name, error=0.15, draw=0, num_rows=400, rows_draw=0, seed=0, overrides=(), bad_label=None, **speed):
    """A model that turns each decision round with chance `error`, more on `bad_label`."""
    labels = np.random.default_rng(rows_draw).random((num_rows, NUM_LABELS)) < 0.3
    generator = np.random.default_rng([draw, 77])
    errors = np.full(NUM_LABELS, error)
    if bad_label is not None:
        errors[bad_label] = 0.45
    predictions = labels ^ (generator.random(labels.shape) < errors)
    probabilities = np.where(predictions, 0.6, 0.1) + 0.3 * generator.random(labels.shape)
    config = load_config(None, [f"training.seed={seed}", f"run.name={name}", *overrides])
    label_set = LabelSet(tuple("abcd"[:NUM_LABELS]))
    return Run(name, config, label_set, [str(i) for i in range(num_rows)], labels, probabilities, predictions, {}, speed)


def compare(*runs, num_resamples=500):
    standings = find_standings(group_seeds(runs), num_resamples)
    return standings, compare_pairs(standings, "macro_f1")


def test_holm_equals_the_example_worked_by_hand():
    # .01 x 4 = .04, .02 x 3 = .06, .03 x 2 = .06, .5 x 1; none below the one before it
    assert correct_holm(np.array([0.03, 0.01, 0.5, 0.02])) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert correct_holm(np.array([0.4, 0.9])) == pytest.approx([0.8, 0.9])
    assert correct_holm(np.array([])).shape == (0,)


def test_two_copies_of_a_model_show_no_difference():
    standings, (difference,) = compare(make_run("one"), make_run("copy"))
    assert difference.value == 0 and difference.p_value == 1 and difference.winner is None
    text = " ".join(conclude(standings, [difference], [find_cost(standing) for standing in standings]))
    assert "no difference is shown" in text and "better" not in text


def test_a_planted_difference_is_found_and_its_label_too():
    good, bad = make_run("good", 0.1), make_run("bad", 0.1, draw=1, bad_label=2)
    standings, (difference,) = compare(good, bad)
    assert difference.winner is standings[0] and difference.interval[0] > 0
    gaps, p_values = compare_labels(standings[1], standings[0])
    assert gaps.argmin() == 2 and (p_values < 0.05).tolist() == [False, False, True, False]
    assert "It is better than bad" in " ".join(conclude(standings, [difference], [find_cost(s) for s in standings]))


def test_equal_models_are_told_apart_about_as_often_as_stated():
    """Two models with one error rate, new rows each time: p below .05 in about 5 % of 200 draws (99.9 % of such series: up to 22)."""
    found = 0
    for draw in range(200):
        runs = [make_run(str(i), draw=2 * draw + i, num_rows=150, rows_draw=draw) for i in range(2)]
        scores = [resample_scores(run.labels, run.predictions, draw_counts(150, 200, seed=draw))["macro_f1"] for run in runs]
        found += paired_p_value(scores[0] - scores[1]) < 0.05
    assert 1 <= found <= 22


def test_intervals_of_average_precision_cover_the_truth():
    whole = make_run("whole", num_rows=100_000, rows_draw=5, draw=5)
    truth = average_precision_score(whole.labels, whole.probabilities, average="macro")
    covered = 0
    for draw in range(100):
        run = make_run("part", num_rows=300, rows_draw=draw, draw=draw)
        low, high = np.percentile(resample_average_precision(run.labels, run.probabilities, draw_counts(300, 100)), [2.5, 97.5])
        covered += low <= truth <= high
    assert 87 <= covered <= 100


@pytest.mark.parametrize("digits", [1, 7])
def test_resampled_average_precision_equals_scikit_learn_on_the_drawn_rows(digits):
    run = make_run("run", num_rows=60)
    probabilities = run.probabilities.round(digits)  # rounded to one digit nearly all are equal to another
    counts = next(draw_counts(60, 1, seed=3))
    rows = np.repeat(np.arange(60), counts[0].astype(int))
    expected = average_precision_score(run.labels[rows], probabilities[rows], average="macro")
    assert resample_average_precision(run.labels, probabilities, iter([counts])) == pytest.approx(expected)


def test_seeds_are_one_model_and_its_score_is_their_mean():
    runs = [make_run("m-seed0"), make_run("m-seed1", draw=1, seed=1), make_run("other", overrides=["training.epochs=9"])]
    standings, _ = compare(*runs)
    assert [(standing.name, len(standing.by_seed)) for standing in standings] == [("m", 2), ("other", 1)]
    scores = [f1_score(run.labels, run.predictions, average="macro") for run in runs[:2]]
    assert standings[0].score("macro_f1") == pytest.approx(np.mean(scores))
    assert standings[0].spread("macro_f1") == pytest.approx(np.std(scores, ddof=1)) and standings[1].spread("macro_f1") is None


def test_seeds_are_one_model_however_the_path_of_their_data_was_written(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    runs = [make_run("m-0", overrides=["data.source=data"]), make_run("m-1", seed=1, overrides=[f"data.source={tmp_path}/data"])]
    assert [len(group.runs) for group in group_seeds(runs)] == [2]
    assert len(group_seeds([runs[0], make_run("other", seed=1, overrides=["data.source=elsewhere"])])) == 2


def test_a_difference_smaller_than_that_of_two_seeds_is_said_to_be_so():
    runs = [make_run("m-0", 0.05), make_run("m-1", 0.25, draw=1, seed=1), make_run("other", 0.2, draw=2, overrides=["training.epochs=9"])]
    standings, (difference,) = compare(*runs)
    assert difference.winner is standings[0] and difference.is_within_seeds
    assert "the seed alone could have made that difference" in " ".join(conclude(standings, [difference], list(map(find_cost, standings))))


def test_the_front_leaves_out_what_another_beats_in_both():
    assert find_front([1.0, 2.0, 3.0, 3.0], [0.5, 0.4, 0.7, 0.6]) == [0, 2]


def test_ladders_are_runs_that_differ_in_their_share_of_rows_alone():
    runs = [make_run(f"r{i}", overrides=[f"data.train_fraction={share}"]) for i, share in enumerate((1.0, 0.25))]
    runs.append(make_run("other", overrides=["training.epochs=9", "data.train_fraction=0.5"]))
    standings, _ = compare(*runs)
    assert [[standing.name for standing in ladder] for ladder in find_ladders(standings)] == [["r1", "r0"]]


def test_the_cheapest_of_those_not_shown_to_be_worse_is_named():
    runs = [
        make_run("slow", texts_per_second=10.0),
        make_run("quick", texts_per_second=1_000.0),
        make_run("bad", 0.4, texts_per_second=1e6),
    ]
    standings, differences = compare(*runs)
    text = " ".join(conclude(standings, differences, [find_cost(standing) for standing in standings]))
    assert "**quick** is the cheapest to ask: 0.28 hours" in text and "against 28" in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ids": [str(i + 1) for i in range(400)]}, "tested on other rows (400 and 400, 399 ids in common)"),
        ({"label_set": LabelSet(tuple("abce"))}, "other labels (d, e)"),
        ({"labels": np.zeros((400, NUM_LABELS), dtype=bool)}, "gold labels of"),
    ],
)
def test_runs_tested_on_something_else_are_refused(change, message):
    from dataclasses import replace

    with pytest.raises(DataError) as caught:
        check_comparable([make_run("one"), replace(make_run("two"), **change)])
    assert message in str(caught.value) and str(caught.value).startswith("two: cannot be compared with one")
