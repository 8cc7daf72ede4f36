"""Which columns are labels, which names are one label, and what of a file matches the labels of a model."""

import shlex
import unicodedata

import numpy as np
import pytest

from emotion.config import DataConfig, load_config
from emotion.data.reading import read_dataset, read_examples
from emotion.data.reading.rows import Row
from emotion.data.reading.streams import open_source
from emotion.errors import DataError
from emotion.labels import LabelSet
from tests.data.test_label_values import EXPECTED, GIVEN, GOLD, HOT, NAMES, list_labels, read_cells, read_columns, write_rows

MODEL = LabelSet(("anger", "fear", "joy", "love"))


def read_gold(tmp_path, columns, rows, *overrides, ending="csv"):
    """Read a file with labels of `MODEL`: the rows, and the messages after the sentence on the columns."""
    path = write_rows(tmp_path / f"gold.{ending}", columns, rows)
    examples, messages, bad_rows = read_examples(path, load_config(None, overrides).data, MODEL)
    assert not bad_rows
    return examples, messages[1:]


def find_gold(tmp_path, columns, rows, **settings):
    """Return how the gold labels of a file to be scored are read, and the messages."""
    with open_source([write_rows(tmp_path / "scored.csv", columns, rows)], DataConfig(**settings), MODEL) as source:
        gold = source.gold and [
            source.gold.read(dict(zip(source.columns, entry.values, strict=True))) for entry in source.entries if isinstance(entry, Row)
        ]
        return gold, source.gold_notes


def test_names_that_look_the_same_are_one_label_and_said(tmp_path):
    cells = ["joy", "Joy", " JOY ", "joy", "Fear", "fear\u200b", "Fear", "anger"]
    dataset = read_cells(tmp_path, cells)
    assert dataset.label_set.names == ("Fear", "anger", "joy")
    assert list_labels(dataset) == [["joy"]] * 4 + [["Fear"]] * 3 + [["anger"]]
    same = "names that look the same are one label: 'JOY', 'Joy', 'joy' are 'joy'; 'Fear', 'fear\\u200b' are 'Fear'"
    assert same in dataset.messages


def test_composed_and_decomposed_names_are_one_label(tmp_path):
    composed, decomposed = (unicodedata.normalize(normalization, "gêne") for normalization in ("NFC", "NFD"))
    assert composed != decomposed
    dataset = read_cells(tmp_path, [composed, composed, decomposed, "joie"])
    assert dataset.label_set.names == (composed, "joie") and dataset["train"].labels[:, 0].tolist() == [True, True, True, False]


def test_a_byte_order_mark_is_not_part_of_a_name(tmp_path):
    (tmp_path / "labels.txt").write_bytes("joy\nanger\nfear\n".encode("utf-8-sig"))
    dataset = read_cells(tmp_path, map("|".join, GOLD))
    assert dataset.label_set.names == NAMES and list_labels(dataset) == EXPECTED


def test_lists_of_names_that_look_the_same_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"labels: the names 'joy' and 'Joy' look the same; rename one of them"):
        read_cells(tmp_path, map("|".join, GOLD), "data.label_names=joy,anger,fear,Joy")
    with pytest.raises(DataError, match=r"the label columns 'joy' and 'JOY ?' have names that look the same; rename one of them"):
        read_columns(tmp_path, ["joy", "anger", "JOY"], HOT)


def test_numbers_are_names_unless_names_are_given(tmp_path):
    ids = [NAMES.index(labels[0]) for labels in GOLD if labels]
    for ending, cells in (("csv", ids), ("csv", [f"{number}.0" for number in ids]), ("parquet", [float(number) for number in ids])):
        dataset = read_cells(tmp_path, cells, ending=ending, column="label")
        assert dataset.label_set.names == ("0", "1", "2")
        assert "the labels are the numbers 0 to 2; data.label_names or a labels.txt names them" in dataset.messages
        named = read_cells(tmp_path, cells, GIVEN, ending=ending, column="label")
        assert named.label_set.names == NAMES and [label for [label] in list_labels(named)] == [NAMES[number] for number in ids]


def test_columns_that_are_numbers_are_said(tmp_path):
    assert "the labels are numbers, as the names of their columns are" in read_columns(tmp_path, ["0", "1", "2"], HOT).messages
    assert not any("the labels are numbers" in message for message in read_columns(tmp_path, NAMES, HOT).messages)


def test_ids_from_1_are_never_one_name_off(tmp_path):
    ids = [NAMES.index(labels[0]) for labels in GOLD if labels]
    dataset = read_cells(tmp_path, [number + 1 for number in ids], GIVEN, ending="jsonl")
    assert [label for [label] in list_labels(dataset)] == [NAMES[number] for number in ids]
    assert "ids from 1 (1 is 'joy')" in dataset.messages[0]
    unnamed = read_cells(tmp_path, [number + 1 for number in ids], ending="jsonl")
    assert unnamed.label_set.names == ("1", "2", "3") and [int(label) for [label] in list_labels(unnamed)] == [number + 1 for number in ids]


def test_ids_that_may_begin_at_0_or_1_are_refused(tmp_path):
    cells = [1, 2] * 10
    with pytest.raises(
        DataError, match=r"has the ids 1 to 2 for 3 names: 1 may be 'joy' or 'anger'; set data.first_label_id=1 or data.first"
    ):
        read_cells(tmp_path, cells, GIVEN)
    assert list_labels(read_cells(tmp_path, cells, GIVEN, "data.first_label_id=1"))[:2] == [["joy"], ["anger"]]
    assert list_labels(read_cells(tmp_path, cells, GIVEN, "data.first_label_id=0"))[:2] == [["anger"], ["fear"]]
    assert list_labels(read_cells(tmp_path, [*cells, 0], GIVEN))[:2] == [["anger"], ["fear"]]
    with pytest.raises(DataError, match=r"data.first_label_id=1: has no effect on .*, which has no ids of known names"):
        read_cells(tmp_path, map("|".join, GOLD), GIVEN, "data.first_label_id=1")
    with pytest.raises(DataError, match=r"data.first_label_id=1: has no effect beside the 0/1 columns"):
        read_columns(tmp_path, NAMES, HOT, "data.first_label_id=1")


def test_an_id_below_the_first_is_a_bad_row(tmp_path):
    with pytest.raises(DataError, match=r"a.csv:4: label id 0, but ids begin at 1"):
        read_cells(tmp_path, [1, 2, 0, 3], GIVEN, "data.first_label_id=1")


def test_large_numbers_do_not_make_a_label_of_each_number_between(tmp_path):
    assert read_cells(tmp_path, [7, 1548381039] * 3, column="label").label_set.names == ("7", "1548381039")


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_numbers_of_more_than_64_bits_are_labels(tmp_path, ending):
    first = 10**20
    dataset = read_cells(tmp_path, [first, first + 1] * 3, "data.label_column=label", ending=ending, column="label")
    assert dataset.label_set.names == (str(first), str(first + 1)) and list_labels(dataset)[:2] == [[str(first)], [str(first + 1)]]


def test_a_cell_of_more_digits_than_int_takes_is_a_name(tmp_path):
    digits = "9" * 5_000
    assert read_cells(tmp_path, [1, 2, digits]).label_set.names == ("1", "2", digits)
    for settings in ([], ["data.first_label_id=1"]):
        with pytest.raises(DataError, match=r"a\.csv:5: unknown label '9{5000}'"):
            read_cells(tmp_path, [1, 2, 3, digits], GIVEN, *settings)


FLAGGED = [[*row, number % 2] for number, row in enumerate(HOT)]


def test_a_flag_beside_emotions_is_asked_about(tmp_path):
    for flag in ("is_retweet", "verified", "ever"):
        with pytest.raises(DataError) as caught:
            read_columns(tmp_path, [*NAMES, flag], FLAGGED)
        expected = (
            f"{flag!r} holds 0 and 1, but 'joy', 'anger', 'fear' are emotions; set data.label_columns=joy,anger,fear, with {flag!r} added"
        )
        assert expected in str(caught.value)
        assert read_columns(tmp_path, [*NAMES, flag], FLAGGED, "data.label_columns=joy,anger,fear").label_set.names == NAMES
        assert read_columns(tmp_path, [*NAMES, flag], FLAGGED, f"data.label_columns=joy,anger,fear,{flag}").label_set.names == (
            *NAMES,
            flag,
        )
        named = read_columns(tmp_path, [*NAMES, flag], FLAGGED, GIVEN)
        assert named.label_set.names == NAMES and f"not used are the 0/1 columns {flag!r}; data.label_columns names the columns" in str(
            named.messages
        )


def test_columns_of_names_that_are_no_emotions_are_labels(tmp_path):
    assert read_columns(tmp_path, ["toxic", "insult", "is_spam"], HOT).label_set.names == ("toxic", "insult", "is_spam")


def test_columns_of_raters_row_numbers_and_ids_are_no_labels(tmp_path):
    for column in ("rater_id", "Unnamed: 0", "", "id", "example_very_unclear"):
        assert read_columns(tmp_path, [*NAMES, column], FLAGGED).label_set.names == NAMES


def test_counts_beside_emotions_are_no_labels(tmp_path):
    rows = [[*row, number % 4] for number, row in enumerate(HOT)]
    assert read_columns(tmp_path, [*NAMES, "likes"], rows).label_set.names == NAMES


def test_flags_beside_a_column_of_labels_are_not_used_and_said(tmp_path):
    rows = [["|".join(labels), number % 2, number % 3 % 2] for number, labels in enumerate(GOLD)]
    dataset = read_columns(tmp_path, ["labels", "is_retweet", "verified"], rows)
    assert list_labels(dataset) == EXPECTED
    assert "not used are the 0/1 columns 'is_retweet', 'verified'; data.label_columns names the columns of labels" in dataset.messages
    other = [["billing" if row[1] else "shipping", *row[1:]] for row in rows]
    with pytest.raises(DataError) as caught:
        read_columns(tmp_path, ["labels", "late", "broken"], other)
    expected = (
        "the labels may be column 'labels' or the 0/1 columns 'late', 'broken'; set data.label_column=labels or data.label_columns=late,"
    )
    assert expected in str(caught.value)


def test_a_column_whose_name_contains_a_known_word_has_the_labels(tmp_path):
    for name in ("Emotion Label", "gold_label", "primary-emotion"):
        assert list_labels(read_cells(tmp_path, map("|".join, GOLD), column=name)) == EXPECTED
    with pytest.raises(DataError, match=r"no column looks like labels"):
        read_columns(tmp_path, ["first emotion", "second emotion"], [["joy", "anger"], ["fear", "joy"]] * 4)


def test_a_column_of_another_name_is_suggested(tmp_path):
    rows = [[labels[0], 1 + number % 5] for number, labels in enumerate(GOLD * 2) if labels]
    for name in ("Sentiment", "Gefühl 1"):
        with pytest.raises(DataError) as caught:
            read_columns(tmp_path, [name, "Stars"], rows)
        setting = shlex.quote(f"data.label_column={name}")
        assert str(caught.value).endswith(f"set data.label_column or data.label_columns, perhaps {setting} (3 values)")


def test_rows_of_several_raters_are_merged_by_majority(tmp_path):
    columns = ["text", "rater_id", "example_very_unclear", *NAMES]
    votes = [
        ("one", 1, False, 1, 0, 0),
        ("one", 2, False, 1, 1, 0),
        ("one", 3, False, 0, 1, 0),
        ("two", 1, False, 0, 0, 1),
        ("two", 2, False, 1, 0, 0),
        ("two", 3, True, 0, 0, 0),
        ("three", 2, True, 0, 0, 0),
        ("four", 9, False, 0, 1, 0),
    ]
    path = tmp_path / "raw.csv"
    path.write_text("\n".join(",".join(map(str, row)) for row in [columns, *votes]))
    dataset = read_dataset(load_config(None, [f"data.train={path}", f"data.validation={path}"]).data)
    train = dataset["train"]
    assert train.texts == ["one", "two", "four"] and train.ids == ["2", "5", "9"]
    assert train.labels.astype(int).tolist() == [[1, 1, 0], [1, 0, 1], [0, 1, 0]]  # a tie of the two who judged counts
    assert "train: 2 rows are marked as unclear by their rater, and not counted" in dataset.messages
    assert "train: 8 rows of several raters (column 'rater_id') are 4 texts, with each label that at least half of the" in str(
        dataset.messages
    )
    assert "train: 1 rows without a judged label are left out" in dataset.messages


def test_copies_of_a_text_without_raters_stay_rows(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text,labels\none,joy\none,fear\ntwo,joy\n")
    assert read_dataset(load_config(None, [f"data.train={path}", f"data.validation={path}"]).data)["train"].texts == ["one", "one", "two"]


def test_a_file_with_some_of_the_labels_judges_these_only(tmp_path):
    examples, messages = read_gold(tmp_path, ["Joy", "anger"], [[1, 0], [0, 1], [1, 1]])
    assert examples.labels.astype(int).tolist() == [[0, 0, 1, 0], [1, 0, 0, 0], [1, 0, 1, 0]]
    assert examples.is_judged.all(axis=0).tolist() == [True, False, True, False] and not examples.is_judged[:, [1, 3]].any()
    assert messages == [
        "labels matched in another spelling: 'Joy' is 'joy'",
        "2 of the model's 4 labels are judged; the file does not have 'fear', 'love'",
    ]
    examples, _ = read_gold(tmp_path, ["fear"], [[1], [0]])
    assert examples.labels[:, 1].tolist() == [True, False] and examples.is_judged.sum(axis=0).tolist() == [0, 2, 0, 0]


def test_a_file_with_other_labels_is_scored_on_those_that_match(tmp_path):
    cells = [["happiness"], ["happiness|anger"], ["FEAR"], [""], ["love"]]
    examples, messages = read_gold(tmp_path, ["labels"], cells)
    assert examples.labels.astype(int).tolist() == [[0, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]]
    assert examples.is_judged.all(axis=0).tolist() == [True, True, False, True]
    assert messages == [
        "labels matched in another spelling: 'FEAR' is 'fear'",
        "labels that the model does not have are left out: 'happiness' (2 rows)",
        "3 of the model's 4 labels are judged; the file does not have 'joy'",
    ]
    with pytest.raises(
        DataError, match=r"has the labels 'glee', 'ire', none of which the model has; its labels are 'anger', 'fear', 'joy', 'lo"
    ):
        read_gold(tmp_path, ["labels"], [["glee"], ["ire"]])
    with pytest.raises(DataError, match=r"has the labels 'glee', 'ire', none of which the model has"):
        read_gold(tmp_path, ["glee", "ire"], [[1, 0], [0, 1]])


def test_a_file_whose_labels_all_match_judges_all_labels(tmp_path):
    for columns, rows in (
        (["labels"], [["joy"], ["anger"]]),
        (["labels"], [["['joy']"], ["[]"]]),
        (MODEL.names, [[0, 1, 0, 0], [0, 0, 1, 0]]),
    ):
        examples, messages = read_gold(tmp_path, columns, rows)
        assert examples.is_judged is None and messages == []


def test_ids_and_stars_are_no_gold_labels(tmp_path):
    for column in ("id", "stars", "year"):
        with pytest.raises(DataError, match=r"no column looks like labels"):
            read_gold(tmp_path, [column], [[number] for number in range(4)])
        assert find_gold(tmp_path, [column], [[number] for number in range(4)]) == (None, [])


def test_vectors_of_gold_have_the_order_of_the_model(tmp_path):
    examples, _ = read_gold(tmp_path, ["labels"], [[[0, 0, 1, 0]], [[1, 1, 0, -1]]], ending="jsonl")
    assert examples.labels.astype(int).tolist() == [[0, 0, 1, 0], [1, 1, 0, 0]]
    assert np.argwhere(~examples.is_judged).tolist() == [[1, 3]]
    with pytest.raises(DataError, match=r"a 0/1 vector of 3, such as .*, but there are 4 label names"):
        read_gold(tmp_path, ["labels"], [[[0, 0, 1]], [[0, 0, 0]]], ending="jsonl")


def test_scoring_says_what_matched_and_judges_it(tmp_path):
    gold, notes = find_gold(tmp_path, ["labels"], [["Joy|ANGER"], ["happiness"], [""]])
    assert gold == [([2, 0], [1, 3]), None, ([], [1, 3])]
    assert notes == [
        "labels matched in another spelling: 'Joy' is 'joy', 'ANGER' is 'anger'",
        "labels that the model does not have are left out: 'happiness' (1 row)",
        "2 of the model's 4 labels are judged; the file does not have 'fear', 'love'",
        "rows with a label that the model does not have are not judged",
    ]
    gold, notes = find_gold(tmp_path, ["fear"], [[1], [0], [""]])
    assert gold == [([1], [0, 2, 3]), ([], [0, 2, 3]), None]
    assert notes == ["1 of the model's 4 labels are judged; the file does not have 'anger', 'joy', 'love'"]


def test_scoring_says_why_labels_are_not_read(tmp_path):
    gold, [note] = find_gold(tmp_path, ["labels"], [["glee"], ["ire"]])
    assert gold is None and note.startswith("no gold labels are read: ") and "'glee', 'ire', none of which the model has" in note
    gold, [note] = find_gold(tmp_path, ["labels"], [[""], [""]])
    assert gold is None and note == "no gold labels are read: column 'labels' is empty in the first rows"
    assert find_gold(tmp_path, ["other"], [["x"], ["y"]]) == (None, [])


@pytest.mark.parametrize("setting", [{"label_delimiter": ";"}, {"first_label_id": 1}, {"intensity_threshold": 0.5}])
def test_scoring_refuses_a_setting_of_labels_without_effect(tmp_path, setting):
    """The file would be scored without its gold labels, and nothing said."""
    [name] = setting
    if name != "intensity_threshold":
        with pytest.raises(DataError, match=f"data.{name}=.*: has no effect beside the 0/1 columns"):
            find_gold(tmp_path, ["joy", "anger"], [[1, 0], [0, 1]], **setting)
    if name != "label_delimiter":
        with pytest.raises(DataError, match=f"data.{name}=.*: has no effect on"):
            find_gold(tmp_path, ["labels"], [["joy"], ["anger"]], **setting)
    with pytest.raises(DataError):
        find_gold(tmp_path, ["other"], [["x"], ["y"]], **setting)
