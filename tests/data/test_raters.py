"""Rows of several raters and fractions of raters: what is trained on, what is gold, and what is refused."""

import json

import numpy as np
import pytest

from emotion.config import load_config
from emotion.data.reading import Dataset, read_dataset, read_examples
from emotion.data.reading.labelled_rows import LabelledRows, read_labelled_rows
from emotion.data.remembered import RememberedRows
from emotion.errors import DataError
from emotion.evaluation.taxonomy import read_taxonomy
from emotion.labels import LabelSet
from emotion.ratings import UNKNOWN, Ratings, count_votes
from emotion.tracking.taxonomies import merge_rows
from emotion.training.distillation import build_targets
from emotion.training.fingerprint import fingerprint_run
from emotion.training.losses import compute_pos_weight

NAMES = ("anger", "fear", "joy")
VOTES = [
    ("one", "a", 1, 0, 0),
    ("one", "b", 1, 1, 0),
    ("one", "c", 0, 1, 0),
    ("two", "a", 0, 0, 1),
    ("two", "b", 1, 0, 0),
    ("four", "c", 0, 1, 0),
]
VALUES = [("one", 0.75, 0.5, 0), ("two", 0.25, "-1", "1.0"), ("three", 0, 0.49, 1)]


def write(path, header, rows):
    path.write_text("\n".join(",".join(map(str, row)) for row in [header, *rows]) + "\n")
    return path


def read(path, *settings):
    return read_dataset(load_config(None, [f"data.train={path}", f"data.validation={path}", *settings]).data)


def read_votes(tmp_path, *settings, rows=VOTES, rater="rater_id"):
    return read(write(tmp_path / "votes.csv", ["text", rater, *NAMES], rows), *settings)


def read_values(tmp_path, *settings, rows=VALUES):
    return read(write(tmp_path / "values.csv", ["text", *NAMES], rows), "data.soft_labels=true", *settings)


def test_fractions_are_counted_from_the_rows_of_the_raters(tmp_path):
    rows = read_votes(tmp_path, "data.soft_labels=true")["train"]
    np.testing.assert_array_equal(rows.fractions, np.array([[2 / 3, 2 / 3, 0], [0.5, 0, 0.5], [0, 1, 0]], dtype=np.float32))
    assert rows.labels.astype(int).tolist() == [[1, 1, 0], [1, 0, 1], [0, 1, 0]]  # gold: at least half
    hard = read_votes(tmp_path)["train"]
    assert hard.fractions is None and hard.targets is hard.labels
    np.testing.assert_array_equal(hard.labels, rows.labels)
    config = load_config(None, [])
    targets = build_targets(config.distillation, rows, LabelSet(NAMES), None, None, None)
    np.testing.assert_array_equal(targets, rows.fractions)
    assert rows.frequencies.tolist() == pytest.approx([(2 / 3 + 0.5) / 3, (2 / 3 + 1) / 3, 0.5 / 3])
    settings = load_config(None, ["training.pos_weight=auto"]).training
    expected = [(3 - 7 / 6) / (7 / 6), 1, 2.5 / 1]  # negatives / max(positives, 1), at least 1
    assert compute_pos_weight(rows.targets, settings).tolist() == pytest.approx(expected)


def test_raters_who_agree_are_one_rater(tmp_path):
    three = [(text, rater, *labels) for text, _, *labels in VOTES[2:5:2] + VOTES[5:] for rater in "abc"]
    rows, one = (read_votes(tmp_path, *settings, rows=three)["train"] for settings in (["data.soft_labels=true"], []))
    assert rows.targets.dtype == np.float32
    np.testing.assert_array_equal(rows.targets, one.targets)
    np.testing.assert_array_equal(rows.frequencies, one.frequencies)
    settings = load_config(None, ["training.pos_weight=auto"]).training
    assert compute_pos_weight(rows.targets, settings).tolist() == compute_pos_weight(one.targets, settings).tolist()


def test_values_of_columns_are_fractions_and_gold_from_a_half(tmp_path):
    rows = read_values(tmp_path)["train"]
    np.testing.assert_array_equal(rows.fractions, np.array([[0.75, 0.5, 0], [0.25, 0, 1], [0, 0.49, 1]], dtype=np.float32))
    assert rows.labels.astype(int).tolist() == [[1, 1, 0], [0, 0, 1], [0, 0, 1]]
    assert rows.is_judged.astype(int).tolist() == [[1, 1, 1], [1, 0, 1], [1, 1, 1]]
    targets = build_targets(load_config(None, []).distillation, rows, LabelSet(NAMES), None, None, None)
    assert np.isnan(targets[1, 1]) and np.isfinite(targets).sum() == 8
    strict = read_values(tmp_path, "data.intensity_threshold=0.6")["train"]
    assert strict.labels.astype(int).tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 1]]
    np.testing.assert_array_equal(strict.fractions, rows.fractions)


def test_values_of_objects_and_vectors_are_fractions(tmp_path):
    expected = [[0.75, 0.5, 0], [0.25, 0, 1]]
    objects = tmp_path / "objects.jsonl"
    rows = [{"text": str(row), "labels": dict(zip(NAMES, values, strict=True))} for row, values in enumerate(expected)]
    objects.write_text("".join(json.dumps(row) + "\n" for row in rows))
    np.testing.assert_array_equal(read(objects, "data.soft_labels=true")["train"].fractions, expected)
    vectors = tmp_path / "vectors.jsonl"
    vectors.write_text("".join(json.dumps({"text": str(row), "labels": values}) + "\n" for row, values in enumerate(expected)))
    rows = read(vectors, "data.soft_labels=true", "data.label_names=anger,fear,joy")["train"]
    np.testing.assert_array_equal(rows.fractions, expected)
    assert rows.labels.astype(int).tolist() == [[1, 1, 0], [0, 0, 1]]


@pytest.mark.parametrize(
    ("header", "rows", "settings", "message"),
    [
        (
            ["text", *NAMES],
            [("one", 1, 0, 0), ("two", 0, 1, 1)],
            ["data.soft_labels=true"],
            "{path}: data.soft_labels=true needs label columns with values between 0 and 1, or several raters for a text "
            "(data.rater_column names their column), and there are neither; leave data.soft_labels out",
        ),
        (
            ["text", "labels"],
            [("one", "joy|fear"), ("two", "anger"), ("three", "joy")],
            ["data.soft_labels=true"],
            "{path}: column 'labels': data.soft_labels=true needs label columns with values between 0 and 1, or several raters for a text "
            "(data.rater_column names their column), and there are neither; leave data.soft_labels out",
        ),
        (
            ["text", *NAMES],
            [("one", 3, 0, 0.5), ("two", 2, 1, 1)],
            ["data.soft_labels=true"],
            "{path}: column 'anger' holds values such as 3, outside [0, 1]; data.soft_labels reads fractions: "
            "divide the votes by the number of raters, or name the columns of labels with data.label_columns",
        ),
        (
            ["text", *NAMES],
            [("one", 0.5, 0, 0.5), ("two", 2, 1, 1)],
            ["data.soft_labels=true"],
            "1 bad row:\n  {path}:3: column 'anger' is '2', must be a fraction of raters in [0, 1] (data.soft_labels)\n"
            "correct them, or set data.on_bad_row=skip to ignore them",
        ),
        (
            ["text", "rater_id", *NAMES],
            [*VOTES, ("one", "b", 1, 1, 1)],
            ["data.soft_labels=true"],
            "1 bad row:\n  {path}:8: rater 'b' labelled this text before, in {path}:3\n"
            "correct them, or set data.on_bad_row=skip to ignore them",
        ),
        (
            ["text", "rater_id", *NAMES],
            [("one", "a", 0.5, 0.5, 0), ("one", "b", 0.5, 1, 0), ("two", "a", 0, 0, 1)],
            ["data.soft_labels=true"],
            "{path}: column 'anger' holds values such as 0.5 beside 0 and 1; set data.intensity_threshold=T "
            "(a text has a label from T on), or name the columns of labels with data.label_columns",
        ),
        (
            ["text", "who", *NAMES],
            VOTES,
            ["data.rater_column=rater"],
            "{path}: data.rater_column='rater' is not among its columns ['text', 'who', 'anger', 'fear', 'joy']",
        ),
        (
            ["text", "who", *NAMES],
            [VOTES[0], VOTES[4], VOTES[5]],
            ["data.rater_column=who"],
            "{path}: data.rater_column='who': has no effect: no text has several rows; leave it out",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(tmp_path, header, rows, settings, message):
    path = write(tmp_path / "a.csv", header, rows)
    with pytest.raises(DataError) as caught:
        read(path, *settings, "data.validation=null")
    assert str(caught.value) == message.format(path=path)


def test_a_rater_who_repeats_a_text_counts_once_with_soft_labels(tmp_path):
    rows = [*VOTES, ("one", "b", 1, 1, 1)]
    soft = read_votes(tmp_path, "data.soft_labels=true", "data.on_bad_row=skip", rows=rows)
    np.testing.assert_array_equal(soft["train"].fractions, read_votes(tmp_path, "data.soft_labels=true")["train"].fractions)
    assert [row.line for row in soft.bad_rows] == [8, 8]
    hard = read_votes(tmp_path, rows=rows)  # as before: each row is a vote
    assert hard["train"].labels[0].astype(int).tolist() == [1, 1, 0]
    assert "train: 1 row of a rater who labelled the same text before; each row is counted" in hard.messages
    comments = [(*row, name) for row, name in zip(rows, ["x", "x", "x", "y", "y", "z", "v"], strict=True)]
    path = write(tmp_path / "ids.csv", ["text", "rater_id", *NAMES, "id"], comments)  # two comments with the same text
    assert read(path, "data.soft_labels=true")["train"].fractions[0].tolist() == pytest.approx([0.75, 0.75, 0.25])


def test_a_named_column_of_raters_is_no_label(tmp_path):
    rows = [(text, "abc".index(rater) % 2, *labels) for text, rater, *labels in VOTES if rater != "c"]
    dataset = read_votes(tmp_path, "data.rater_column=sad", rows=rows, rater="sad")
    assert dataset.label_set.names == NAMES and dataset["train"].texts == ["one", "two"]
    assert dataset["train"].ratings.names == ("0", "1") and not any("not used" in message for message in dataset.messages)


def test_only_the_test_rows_need_raters(tmp_path):
    train = write(tmp_path / "train.csv", ["text", *NAMES], [("five", 1, 0, 0), ("six", 0, 1, 0), ("seven", 0, 0, 1)])
    test = write(tmp_path / "test.csv", ["text", "rater_id", *NAMES], VOTES)
    dataset = read(train, f"data.test={test}")
    assert dataset["test"].texts == ["one", "two", "four"] and dataset["train"].ratings is None
    assert dataset["test"].ratings.rows.tolist() == [0, 0, 0, 1, 1, 2]


def test_ratings_stay_with_their_rows(tmp_path):
    rows = read_votes(tmp_path, "data.soft_labels=true")["train"]
    ratings = rows.ratings
    assert ratings.names == ("a", "b", "c") and ratings.raters.tolist() == [0, 1, 2, 0, 1, 2]
    np.testing.assert_array_equal(ratings.labels, np.array([row[2:] for row in VOTES]) > 0)
    taken = rows.take(np.array([2, 0]))
    assert taken.ratings.rows.tolist() == [1, 1, 1, 0] and taken.ratings.raters.tolist() == [0, 1, 2, 2]
    np.testing.assert_array_equal(taken.fractions, rows.fractions[[2, 0]])
    both = Ratings.concatenate([None, taken.ratings, ratings], [0, 5, 7])
    assert both.rows.tolist() == [6, 6, 6, 5, 7, 7, 7, 8, 8, 9] and both.names == ratings.names
    votes, judges = count_votes(ratings.rows, ratings.labels, ratings.is_judged)
    np.testing.assert_allclose(votes / judges, rows.fractions, rtol=1e-6)


def test_ratings_without_a_name_vote_but_are_nobody_s(tmp_path):
    rows = [(text, "" if rater == "b" else rater, *labels) for text, rater, *labels in VOTES]
    ratings = read_votes(tmp_path, rows=rows)["train"].ratings
    assert ratings.names == ("a", "c") and ratings.raters.tolist() == [0, UNKNOWN, 1, 0, UNKNOWN, 1]
    assert Ratings.concatenate([ratings, ratings], [0, 3]).raters.tolist() == 2 * [0, UNKNOWN, 1, 0, UNKNOWN, 1]


def test_a_run_finds_fractions_and_ratings_of_its_rows_again(tmp_path):
    dataset = read_votes(tmp_path, "data.soft_labels=true")
    train = dataset["train"]
    splits = {"train": train.take(np.array([0, 2])), "validation": train.take(np.array([1]))}
    remembered = RememberedRows.compute(Dataset(splits, dataset.label_set))
    whole = Dataset({"train": dataset["train"]}, dataset.label_set)
    restored, _ = remembered.restore(whole)
    found = restored["validation"].examples
    assert found.texts == ["two"] and found.ratings.rows.tolist() == [0, 0] and found.ratings.raters.tolist() == [0, 1]
    np.testing.assert_array_equal(found.fractions, dataset["train"].fractions[[1]])
    config = load_config(None, [f"data.train={tmp_path / 'votes.csv'}"])
    wanted = LabelSet(("joy", "anger", "love"))  # those of another model
    rows = read_labelled_rows(config, "validation", None, [], wanted, remembered).examples
    np.testing.assert_array_equal(rows.ratings.labels, [[1, 0, 0], [0, 1, 0]])
    np.testing.assert_array_equal(rows.ratings.is_judged, [[1, 1, 0]] * 2)


def test_other_fractions_are_another_run(tmp_path):
    config = load_config(None, [])
    rows, others = read_values(tmp_path)["train"], read_values(tmp_path, rows=[("one", 0.7, 0.5, 0), *VALUES[1:]])["train"]
    np.testing.assert_array_equal(rows.labels, others.labels)
    assert fingerprint_run(config, {"train": rows}) != fingerprint_run(config, {"train": others})
    assert fingerprint_run(config, {"train": rows}) == fingerprint_run(config, {"train": read_values(tmp_path)["train"]})


def test_a_labelled_file_has_raters(tmp_path):
    path = write(tmp_path / "a.csv", ["text", "who", *NAMES], VOTES)
    examples, messages, _ = read_examples(path, load_config(None, ["data.rater_column=who"]).data, LabelSet((*NAMES, "love")))
    assert examples.texts == ["one", "two", "four"] and examples.ratings.labels.shape == (6, 4)
    assert "6 rows of several raters (column 'who') are 3 texts, with each label that at least half of the raters gave" in messages
    level = read_taxonomy("ekman").apply(LabelSet((*NAMES, "love")))
    merged = merge_rows(LabelledRows(examples, []), level).examples
    joy = level.label_set.columns["joy"]
    assert merged.ratings.labels[:, joy].astype(int).tolist() == [0, 0, 0, 1, 0, 0]
