"""What the cells of label columns mean: every usual notation of the same labels is read as the same labels."""

import csv
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from emotion.config import load_config
from emotion.data.reading import read_dataset
from emotion.data.reading.label_values import find_number, parse_cell
from emotion.errors import DataError

NAMES = ("joy", "anger", "fear")
GOLD = [["joy"], ["anger", "joy"], [], ["fear"], ["joy", "fear"], ["anger"]] * 4
HOT = [[int(name in labels) for name in NAMES] for labels in GOLD]
GIVEN = "data.label_names=joy,anger,fear"


def read_file(path, *overrides):
    return read_dataset(load_config(None, [f"data.train={path}", f"data.validation={path}", *overrides]).data)


def write_rows(path, columns, rows):
    """Write rows as csv, jsonl or parquet, with a text before each."""
    columns, rows = ["text", *columns], [[f"text {number}", *row] for number, row in enumerate(rows)]
    if path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([columns, *rows])
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(dict(zip(columns, row, strict=True))) + "\n" for row in rows))
    else:
        pq.write_table(pa.table(dict(zip(columns, map(list, zip(*rows, strict=True)), strict=True))), path)
    return path


def read_cells(tmp_path, cells, *overrides, ending="csv", column="labels"):
    """Read a column of labels."""
    return read_file(write_rows(tmp_path / f"a.{ending}", [column], [[cell] for cell in cells]), *overrides)


def read_columns(tmp_path, columns, rows, *overrides, ending="csv"):
    return read_file(write_rows(tmp_path / f"a.{ending}", columns, rows), *overrides)


def list_labels(dataset, split="train"):
    return [sorted(dataset.label_set.decode(row)) for row in dataset[split].labels]


EXPECTED = [sorted(labels) for labels in GOLD]

NOTATIONS: dict[str, Callable[[list[str]], str]] = {
    "names split at |": "|".join,
    "JSON list": json.dumps,
    "Python list": str,
    "Python tuple": lambda labels: str(tuple(labels)),
    "Python set": lambda labels: "{" + ", ".join(map(repr, labels)) + "}" if labels else "",
    "numpy array": lambda labels: "[" + " ".join(map(repr, labels)) + "]",
    "bare list": lambda labels: "[" + ", ".join(labels) + "]",
    "PostgreSQL array": lambda labels: "{" + ",".join(labels) + "}",
    "JSON encoded twice": lambda labels: json.dumps(json.dumps(labels)),
    "Label Studio": lambda labels: json.dumps({"choices": labels}) if len(labels) > 1 else "".join(labels),
    "Label Studio, nested": lambda labels: json.dumps([{"value": {"choices": labels}, "type": "choices"}]),
    "objects of 0/1": lambda labels: json.dumps({name: int(name in labels) for name in NAMES}),
    "Python objects of flags": lambda labels: str({name: name in labels for name in NAMES}),
}


@pytest.mark.parametrize("notation", NOTATIONS)
def test_a_container_in_a_cell_is_read(tmp_path, notation):
    dataset = read_cells(tmp_path, map(NOTATIONS[notation], GOLD))
    assert dataset.label_set.names == tuple(sorted(NAMES))
    assert list_labels(dataset) == EXPECTED


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
@pytest.mark.parametrize("build", [list, lambda labels: {name: int(name in labels) for name in NAMES}], ids=["list", "object"])
def test_a_container_of_json_or_parquet_is_read(tmp_path, ending, build):
    assert list_labels(read_cells(tmp_path, map(build, GOLD), ending=ending)) == EXPECTED


def test_the_sentence_says_how_cells_are_read(tmp_path):
    for notation, part in {
        "JSON list": "lists in the cells",
        "Label Studio": "objects with choices",
        "objects of 0/1": "label and 0/1",
    }.items():
        assert part in read_cells(tmp_path, map(NOTATIONS[notation], GOLD)).messages[0]


@pytest.mark.parametrize("cell", ["[a: 1]", "{joy: 1}", "[[joy], [fear]"])
def test_brackets_that_are_no_list_are_refused(cell):
    with pytest.raises(DataError, match=r"is neither a list nor an object in JSON or Python"):
        parse_cell(cell)


@pytest.mark.parametrize("cell", ["(tired)", "'tis sad", '"', "[", "it is [so]"])
def test_words_with_brackets_or_quotes_are_words(cell):
    assert parse_cell(cell) == cell


def test_a_list_in_a_list_is_a_bad_row(tmp_path):
    with pytest.raises(DataError, match=r"a\.jsonl:2: .*'joy'.* in a list of labels, must be a name or an id"):
        read_cells(tmp_path, [["fear"], [["joy"]], ["joy"]], ending="jsonl")


VECTORS: dict[str, tuple[str, Callable[[list[int]], Any]]] = {
    "csv, list": ("csv", str),
    "csv, blanks": ("csv", lambda row: " ".join(map(str, row))),
    "csv, commas": ("csv", lambda row: ",".join(map(str, row))),
    "csv, numpy": ("csv", lambda row: "[" + " ".join(f"{value}." for value in row) + "]"),
    "csv, digits": ("csv", lambda row: "".join(map(str, row))),
    "jsonl": ("jsonl", list),
    "jsonl, floats": ("jsonl", lambda row: [float(value) for value in row]),
    "jsonl, booleans": ("jsonl", lambda row: [bool(value) for value in row]),
    "jsonl, strings": ("jsonl", lambda row: [str(value) for value in row]),
    "parquet": ("parquet", list),
}


@pytest.mark.parametrize("notation", VECTORS)
def test_a_vector_needs_names_and_is_never_ids(tmp_path, notation):
    ending, build = VECTORS[notation]
    dataset = read_cells(tmp_path, map(build, HOT), GIVEN, ending=ending)
    assert dataset.label_set.names == NAMES and dataset["train"].labels.astype(int).tolist() == HOT
    assert "0/1 vectors of 3" in dataset.messages[0]
    with pytest.raises(
        DataError, match=r"column 'labels': looks like a 0/1 vector of 3, such as .*; set data.label_names to its 3 names, in th"
    ):
        read_cells(tmp_path, map(build, HOT), ending=ending)
    with pytest.raises(DataError, match=r"looks like a 0/1 vector of 3, such as .*, but there are 2 label names; they must be as many"):
        read_cells(tmp_path, map(build, HOT), "data.label_names=joy,anger", ending=ending)


def test_names_of_a_vector_may_be_in_a_file_beside_the_data(tmp_path):
    (tmp_path / "labels.txt").write_text("\n".join(NAMES))
    assert list_labels(read_cells(tmp_path, map(str, HOT))) == EXPECTED


def test_two_readings_of_a_list_are_both_named(tmp_path):
    with pytest.raises(DataError, match=r"column 'labels': \[0, 1\] may be a list of ids or a vector of 2 flags"):
        read_cells(tmp_path, [[0, 1], [1, 0]] * 5, "data.label_names=joy,anger", ending="jsonl")
    with pytest.raises(DataError, match=r"\[2, 2, 0\] may be a list of ids or a vector of 3 flags"):  # votes of three raters
        read_cells(tmp_path, [[2, 2, 0], [1, 1, 1]] * 5, "data.label_names=joy,anger", ending="jsonl")
    with pytest.raises(DataError, match=r"looks like 0/1 vectors, but of different lengths"):
        read_cells(tmp_path, [[0, 0, 1], [1, 0]] * 5, GIVEN, ending="jsonl")


def test_a_vector_of_another_length_further_down_is_a_bad_row(tmp_path):
    with pytest.raises(DataError, match=r"a.jsonl:602: a vector of 2 numbers, expected 3"):
        read_cells(tmp_path, [*HOT * 25, [0, 0, 1], [0, 1]], GIVEN, ending="jsonl")


def test_lists_of_ids_stay_ids(tmp_path):
    dataset = read_cells(tmp_path, [[NAMES.index(name) for name in labels] for labels in GOLD], GIVEN, ending="jsonl")
    assert list_labels(dataset) == EXPECTED


@pytest.mark.parametrize("delimiter", ["#", "/", " ", "\n", " - ", " and ", ";", ","])
def test_a_delimiter_is_detected_where_all_parts_are_labels_on_their_own(tmp_path, delimiter):
    dataset = read_cells(tmp_path, map(delimiter.join, GOLD))
    assert list_labels(dataset) == EXPECTED and f"split at {delimiter!r}" in dataset.messages[0]


def test_names_are_not_split_where_their_parts_occur_nowhere_else(tmp_path):
    names = ["joy|relief", "sadness, grief", "thanks; gratitude", "no emotion", "anger/annoyance", "fear"]
    dataset = read_cells(tmp_path, names * 6)
    assert dataset.label_set.names == tuple(sorted(names))
    assert "names such as 'joy|relief' not split (data.label_delimiter splits them)" in dataset.messages[0]
    assert "joy" in read_cells(tmp_path, names * 6, "data.label_delimiter=|").label_set.names


@pytest.mark.parametrize("delimiter", ["|", ";", ","])
def test_a_delimiter_at_the_end_or_the_beginning_of_a_cell_is_no_part_of_a_name(tmp_path, delimiter):
    """As some forms write the answers to a question with several choices, where a row without an answer has the delimiter alone."""
    cells = [f"{name}{delimiter} " for name in NAMES]
    for alone in (cells, [f" {delimiter}{name}" for name in NAMES], [*cells, delimiter]):
        dataset = read_cells(tmp_path, alone * 6)
        assert dataset.label_set.names == tuple(sorted(NAMES)) and f"split at {delimiter!r}" in dataset.messages[0]


def test_a_delimiter_that_may_be_part_of_a_name_is_refused_with_both_readings(tmp_path):
    cells = ["joy|relief", "joy|relief", "fear", "anger"]
    with pytest.raises(DataError, match=r"'joy\|relief' may be one name, or several separated by '\|'; set data.label_delimiter=none or "):
        read_cells(tmp_path, cells)
    assert read_cells(tmp_path, cells, "data.label_delimiter=none").label_set.names == ("anger", "fear", "joy|relief")
    assert read_cells(tmp_path, cells, "data.label_delimiter=|").label_set.names == ("anger", "fear", "joy", "relief")


def test_blanks_of_a_delimiter_count(tmp_path):
    dataset = read_cells(tmp_path, ["sand and love", "sand", "love"] * 4, "data.label_delimiter= and ")
    assert dataset.label_set.names == ("love", "sand")


def test_a_delimiter_beside_lists_or_flags_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"data.label_delimiter='#': has no effect on .*, whose cells are no text"):
        read_cells(tmp_path, GOLD, "data.label_delimiter=#", ending="jsonl")
    with pytest.raises(DataError, match=r"data.label_delimiter='#': has no effect beside the 0/1 columns"):
        read_columns(tmp_path, NAMES, HOT, "data.label_delimiter=#")


FLAGS = {
    "numbers": ("0", "1"),
    "Python": ("False", "True"),
    "Excel": ("FALSE", "TRUE"),
    "words": ("no", "yes"),
    "capitals": ("No", "Yes"),
    "letters": ("N", "Y"),
    "pandas": ("0.0", "1.0"),
    "blanks": (" 0", "1 "),
}


@pytest.mark.parametrize("notation", FLAGS)
def test_flags_are_read(tmp_path, notation):
    rows = [[FLAGS[notation][value] for value in row] for row in HOT]
    assert read_columns(tmp_path, NAMES, rows)["train"].labels.astype(int).tolist() == HOT


@pytest.mark.parametrize("type_", [bool, float, int])
def test_flags_of_parquet_are_read(tmp_path, type_):
    rows = [[type_(value) for value in row] for row in HOT]
    assert read_columns(tmp_path, NAMES, rows, ending="parquet")["train"].labels.astype(int).tolist() == HOT


@pytest.mark.parametrize("empty", ["", " ", "-1", "-1.0", "nan", "NA", "null"])
def test_an_empty_cell_is_not_judged(tmp_path, empty):
    rows = [[joy, empty if number < 5 else anger, fear] for number, (joy, anger, fear) in enumerate(HOT)]
    dataset = read_columns(tmp_path, NAMES, rows)
    train = dataset["train"]
    assert dataset.label_set.names == NAMES
    assert (~train.is_judged).sum(axis=0).tolist() == [0, 5, 0] and not train.is_judged[:5, 1].any()
    assert not train.labels[~train.is_judged].any()
    assert "train: labels not judged (empty or -1) in some of 24 rows: anger in 5" in dataset.messages
    assert train.take(np.array([4, 5])).is_judged.tolist() == [[True, False, True], [True, True, True]]


def test_labels_are_all_judged_where_no_cell_is_empty(tmp_path):
    assert read_columns(tmp_path, NAMES, HOT)["train"].is_judged is None


def test_a_column_that_is_empty_in_the_first_rows_is_a_label(tmp_path):
    rows = [[joy, anger, fear if number > 550 else ""] for number, (joy, anger, fear) in enumerate(HOT * 25)]
    assert read_columns(tmp_path, NAMES, rows).label_set.names == NAMES


def test_rows_that_nobody_judged_are_left_out(tmp_path):
    dataset = read_columns(tmp_path, NAMES, [["", "", ""], *HOT, [-1, -1, -1]])
    assert dataset["train"].labels.astype(int).tolist() == HOT and dataset["train"].is_judged.all()
    assert "train: 2 rows without a judged label are left out" in dataset.messages
    ids = [-1, *[NAMES.index(labels[0]) for labels in GOLD if labels]]  # -1 is the label of masked rows on the Hub
    assert len(read_cells(tmp_path, ids, GIVEN, ending="parquet", column="label")["train"]) == len(ids) - 1


def test_an_object_without_a_label_that_occurs_in_later_rows_only_does_not_judge_it(tmp_path):
    early, late = {"joy": 0, "anger": 1}, {"joy": 1, "anger": 0, "fear": 1}
    rows = [{"text": f"t {number}", "labels": early if number < 600 else late} for number in range(700)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    dataset = read_dataset(load_config(None, [f"data.train={tmp_path / 'a.jsonl'}", f"data.validation={tmp_path / 'a.jsonl'}"]).data)
    assert dataset.label_set.names == ("anger", "fear", "joy") and dataset["train"].is_judged.sum(axis=0).tolist() == [700, 100, 700]


def test_values_that_are_not_judged_in_vectors_and_objects(tmp_path):
    train = read_cells(tmp_path, [[1, -1, 0], [0, 1, None], *HOT], GIVEN, ending="jsonl")["train"]
    assert np.argwhere(~train.is_judged).tolist() == [[0, 1], [1, 2]]
    train = read_cells(tmp_path, [{"joy": 1, "anger": 0}, {"joy": 0, "fear": 1}], ending="jsonl")["train"]
    assert train.is_judged.tolist() == [[True, False, True], [False, True, True]]  # anger, fear, joy
    assert read_cells(tmp_path, [{"joy": 1}, {"fear": 1}], ending="jsonl")["train"].is_judged is None


def test_intensities_need_a_threshold(tmp_path):
    rows = [[joy * (1 + number % 3), anger, fear] for number, (joy, anger, fear) in enumerate(HOT)]
    with pytest.raises(
        DataError, match=r"column 'joy' holds values such as \d beside 0 and 1; set data.intensity_threshold=T \(a text has"
    ):
        read_columns(tmp_path, NAMES, rows)
    labels = read_columns(tmp_path, NAMES, rows, "data.intensity_threshold=2")["train"].labels
    np.testing.assert_array_equal(labels, np.array(rows) >= 2)
    dataset = read_columns(tmp_path, NAMES, [[3 * value for value in row] for row in rows], "data.intensity_threshold=4")
    np.testing.assert_array_equal(dataset["train"].labels, 3 * np.array(rows) >= 4)
    assert "labels from the 3 columns 'joy' to 'fear' from 4 on" in dataset.messages[0]


def test_fractions_need_a_threshold_in_every_notation(tmp_path):
    rows = [[0.9 * value + 0.05 for value in row] for row in HOT]
    objects = [dict(zip(NAMES, row, strict=True)) for row in rows]
    for cells, overrides in ((rows, [GIVEN]), (objects, [])):
        with pytest.raises(DataError, match=r"set data.intensity_threshold"):
            read_cells(tmp_path, cells, *overrides, ending="jsonl")
        dataset = read_cells(tmp_path, cells, *overrides, "data.intensity_threshold=0.5", ending="jsonl")
        assert list_labels(dataset) == EXPECTED
    with pytest.raises(DataError, match=r"set data.intensity_threshold"):
        read_columns(tmp_path, NAMES, rows)
    assert list_labels(read_columns(tmp_path, NAMES, rows, "data.intensity_threshold=0.5")) == EXPECTED
    with pytest.raises(DataError, match=r"data.intensity_threshold=0.5: has no effect on .*, which holds names or ids"):
        read_cells(tmp_path, map("|".join, GOLD), "data.intensity_threshold=0.5")


def test_an_integer_beyond_the_range_of_a_float_is_no_number():
    assert find_number(10**308) == 1e308 and find_number(10**309) is None and find_number("1" + "0" * 309) is None


def test_such_an_integer_beside_the_labels_or_as_a_flag(tmp_path):
    rows = [[*row, 10**400] for row in HOT]
    assert list_labels(read_columns(tmp_path, [*NAMES, "views"], rows, ending="jsonl")) == EXPECTED
    with pytest.raises(DataError, match=r"a\.jsonl:24: column 'anger' is 10{400}, must be 0 or 1\n"):
        read_columns(tmp_path, NAMES, [*HOT[:-1], [0, 10**400, 0]], ending="jsonl")


@pytest.mark.parametrize(("value", "remedy"), [("3", "; set data.intensity_threshold if it is an intensity"), ("oops", "")])
def test_one_wrong_cell_does_not_remove_its_column(tmp_path, value, remedy):
    rows = [*HOT[:-1], [0, value, 0]]
    with pytest.raises(DataError) as caught:
        read_columns(tmp_path, NAMES, rows)
    assert f"a.csv:25: column 'anger' is '{value}', must be 0 or 1{remedy}\n" in str(caught.value)
    (tmp_path / "b.csv").write_text("text,joy,anger,fear\na,1,0,0\nb,0,1,0\n")
    config = load_config(None, [f"data.train={tmp_path / 'a.csv'}", f"data.validation={tmp_path / 'b.csv'}", "data.on_bad_row=skip"])
    assert read_dataset(config.data).label_set.names == NAMES
