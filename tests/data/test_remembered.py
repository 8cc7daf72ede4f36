"""A run finds its rows again, wherever they are in the data as it is now, and says which are gone, changed or new."""

import numpy as np
import pytest

from emotion.config import load_config
from emotion.data.reading import Dataset, Examples, read_dataset
from emotion.data.reading.labelled_rows import read_labelled_rows
from emotion.data.remembered import EARLIER, RememberedRows, hash_texts
from emotion.errors import ConfigError, DataError
from emotion.labels import LabelSet
from emotion.text import format_count

LABELS = LabelSet(("anger", "joy"))
ROWS = [(f"row{number}", f"text {number} of forty", number % 3 != 0, number % 2 == 0) for number in range(40)]


def write(path, rows=ROWS, has_ids=True):
    """Write a csv of rows (id, text, is anger, is joy)."""
    header = ["id,text,anger,joy"] if has_ids else ["text,anger,joy"]
    lines = [f"{row_id},{text},{int(anger)},{int(joy)}" for row_id, text, anger, joy in rows]
    path.write_text("\n".join([*header, *(line if has_ids else line.partition(",")[2] for line in lines)]) + "\n")
    return path


def read(path, split="test", words=(), remembered=None, label_set=LABELS):
    config = load_config(None, [f"data.source={path}", *words])
    return read_labelled_rows(config, split, None, words, label_set, remembered)


def remember(path, tmp_path, *words):
    """Return the data set as training reads it, and its rows as they are written and read."""
    dataset = read_dataset(load_config(None, [f"data.source={path}", "data.test_fraction=0.2", *words]).data)
    RememberedRows.compute(dataset).write(tmp_path / "rows.parquet")
    return dataset, RememberedRows.read(tmp_path / "rows.parquet")


CHANGES = {
    "none": lambda rows: rows,
    "added": lambda rows: [*rows, *((f"new{number}", f"another text {number}", True, False) for number in range(8))],
    "reversed": lambda rows: rows[::-1],
    "in other places": lambda rows: [("new", "another text", True, False), *rows],
    "upper case": lambda rows: [(row_id, text.upper(), *labels) for row_id, text, *labels in rows],
}
NUM_NEW = {"added": 8, "in other places": 1}


@pytest.mark.parametrize("has_ids", [True, False], ids=["ids", "line numbers"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_split_is_the_same_rows_in_the_same_order_whatever_happens_around_them(change, has_ids, tmp_path):
    path = write(tmp_path / "a.csv", has_ids=has_ids)
    dataset, remembered = remember(path, tmp_path)
    write(path, CHANGES[change](ROWS), has_ids)
    assert len(dataset.splits) == 3 and min(map(len, dataset.splits.values())) > 2
    for split in ("train", "validation", "test"):
        rows = read(path, split, remembered=remembered)
        assert rows.examples.ids == dataset[split].ids
        assert [text.lower() for text in rows.examples.texts] == dataset[split].texts
        np.testing.assert_array_equal(rows.examples.labels, dataset[split].labels)
        assert rows.kept.tolist() == list(range(len(dataset[split])))
        expected = []
        if number := NUM_NEW.get(change):
            remedy = "to score them, put them in a file of their own and give it with --input FILE --output FOLDER"
            expected = [f"new since training and in no split: {format_count(number, 'row')} of {path}; {remedy}"]
        assert rows.notes == expected and rows.messages[-1] == f"{split} {len(dataset[split])} rows, as the run remembers them"


def test_rows_that_are_gone_or_have_another_text_or_other_labels_are_said(tmp_path):
    path = write(tmp_path / "a.csv")
    dataset, remembered = remember(path, tmp_path)
    gone, changed, relabelled, *others = dataset["test"].ids
    assert len(others) > 2
    rows = [row for row in ROWS if row[0] != gone]
    rows = [(row_id, f"{text}!" if row_id == changed else text, *labels) for row_id, text, *labels in rows]
    rows = [(row_id, text, anger != (row_id == relabelled), joy) for row_id, text, anger, joy in rows]
    write(path, rows)
    found = read(path, remembered=remembered)
    assert found.examples.ids == [relabelled, *others] and found.kept.tolist() == list(range(2, len(others) + 3))
    assert found.notes == [
        f"2 of {len(others) + 3} test rows are no longer in {path}, or their text has changed: "
        f"the scores are of the {len(others) + 1} that are left",
        f"1 of {len(others) + 1} test rows have other labels than in training: scored against the new ones",
        f"new since training and in no split: 1 row of {path}; to score them, put them in a file of their own and give it with "
        "--input FILE --output FOLDER",
    ]


def test_another_source_is_refused(tmp_path):
    dataset, remembered = remember(write(tmp_path / "a.csv"), tmp_path)
    number = len(dataset["test"])
    other = write(tmp_path / "b.csv", [(row_id, f"other {text}", *labels) for row_id, text, *labels in ROWS])
    with pytest.raises(DataError, match=rf"b\.csv: has none of the {number} test rows that the run remembers; give .* --input FILE"):
        read(other, remembered=remembered)
    with pytest.raises(DataError, match=r"has the labels \('anger', 'joy'\), the model has \('x', 'y'\); give matching data"):
        read(tmp_path / "a.csv", remembered=remembered, label_set=LabelSet(("x", "y")))


@pytest.mark.parametrize("word", ["data.split_seed=1", "data.test_fraction=0.5", "data.validation_fraction=0.5"])
def test_settings_that_draw_splits_are_refused_where_the_rows_are_known(word, tmp_path):
    path = write(tmp_path / "a.csv")
    _, remembered = remember(path, tmp_path)
    with pytest.raises(ConfigError, match=f"{word}: has no effect here: the run remembers the rows of its splits; leave it out"):
        read(path, words=[word], remembered=remembered)
    assert read(path, words=[word]).kept is None  # of a run of an earlier version: drawn, as before


def test_rows_that_train_fraction_left_out_are_not_new(tmp_path):
    path = write(tmp_path / "a.csv")
    dataset, remembered = remember(path, tmp_path, "data.train_fraction=0.5")
    assert 0 < len(dataset["train"]) < 20
    rows = read(path, "train", remembered=remembered)
    assert rows.examples.ids == dataset["train"].ids and rows.notes == []


def test_equal_texts_are_told_apart_by_their_ids_and_splits(tmp_path):
    for split, numbers in (("train", range(30)), ("validation", range(30, 36)), ("test", range(30, 40))):  # six texts are in two splits
        write(tmp_path / f"{split}.csv", [(f"{split}{number}", *ROWS[number][1:]) for number in numbers])
    dataset, remembered = remember(tmp_path, tmp_path)
    for split in ("validation", "test"):
        assert read(tmp_path, split, remembered=remembered).examples.ids == dataset[split].ids
    write(tmp_path / "validation.csv", [(f"validation{number}", *ROWS[number][1:]) for number in range(31, 36)])
    assert len(read(tmp_path, "test", remembered=remembered).examples) == 10  # no row of it stands in for the one that is gone
    assert read(tmp_path, "validation", remembered=remembered).kept.tolist() == [1, 2, 3, 4, 5]


def test_labels_that_come_and_go_keep_the_columns_of_the_model(tmp_path):
    path = write(tmp_path / "a.csv")
    dataset, remembered = remember(path, tmp_path)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([f"{lines[0]},fear", *(f"{line},{number % 2}" for number, line in enumerate(lines[1:]))]))
    rows = read(path, remembered=remembered)
    np.testing.assert_array_equal(rows.examples.labels, dataset["test"].labels)
    assert len(rows.notes) == 1 and "have other labels than in training" in rows.notes[0]


def make_examples(texts):
    return Examples([str(number) for number in range(len(texts))], texts, np.zeros((len(texts), 2), dtype=bool))


def make_rows(train, validation=("x",)):
    return RememberedRows.compute(Dataset({"train": make_examples(train), "validation": make_examples(list(validation))}, LABELS))


def test_known_texts_are_counted_by_split():
    remembered = make_rows(["one", "two"], ["three"])
    assert remembered.count_known(["ONE", " two ", "three", "four", "one"]) == {"train": 3, "validation": 1}
    assert remembered.count_known(["three"], ("train",)) == {"train": 0}


def test_a_run_that_went_on_with_other_rows_knows_those_of_before():
    rows = make_rows(["b", "c"]).add_earlier(make_rows(["a", "b"]))
    assert rows.count_known(["a", "b", "c", "d"]) == {"train": 3, "validation": 0} and rows.splits[EARLIER].ids == ["0"]
    again = make_rows(["b", "c"]).add_earlier(rows)
    assert again.splits[EARLIER].ids == ["0"] and again.count_known(["a"])["train"] == 1
    assert EARLIER not in make_rows(["a"]).add_earlier(make_rows(["a"])).splits
    restored, num_new = rows.restore(Dataset({"train": make_examples(["a", "b", "c"]), "test": make_examples(["x"])}, LABELS))
    assert restored["train"].examples.texts == ["b", "c"] and EARLIER not in restored and num_new == 1


def test_hashes_do_not_depend_on_the_process():
    expected = 1_335_547_734_894_223_422
    assert hash_texts(["Thank  you!", "thank you!", "\ud800"]).tolist()[:2] == [expected, expected]
