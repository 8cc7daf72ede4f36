"""Predictions of other models: ids and labels or probabilities in a file, matched with known rows."""

import json

import numpy as np
import pandas as pd
import pytest

from emotion.data.reading.predictions import read_predictions
from emotion.errors import DataError
from emotion.labels import LabelSet

LABELS = LabelSet(("anger", "joy", "fear"))
IDS = ["e1", "e2", "e3", "e4"]
GOLD = np.array([[1, 0, 0], [0, 1, 1], [0, 0, 0], [0, 1, 0]], dtype=bool)
PROBABILITIES = np.array([[0.9, 0.1, 0.2], [0.1, 0.6, 0.5], [0.0, 0.4, 0.3], [0.2, 1.0, 0.4]])
ORDER = [2, 0, 3, 1]
"""Files have the rows in another order."""


def read(path, text):
    path.write_text(text)
    return read_predictions(path, IDS, LABELS)


def list_names():
    return [LABELS.decode(row) for row in GOLD]


FILES = {
    "names.csv": lambda: "id,predicted_labels\n" + "".join(f"{IDS[row]},{'|'.join(list_names()[row])}\n" for row in ORDER),
    "lists.jsonl": lambda: "".join(json.dumps({"id": IDS[row], "labels": list_names()[row]}) + "\n" for row in ORDER),
    "ids.tsv": lambda: (
        "comment_id\tprediction\n"
        + "".join(f"{IDS[row]}\t{','.join(str(column) for column in np.flatnonzero(GOLD[row]))}\n" for row in ORDER)
    ),
    "flags.csv": lambda: (
        "id,Fear,anger,joy\n" + "".join(f"{IDS[row]},{','.join(map(str, GOLD[row][[2, 0, 1]].astype(int)))}\n" for row in ORDER)
    ),
    "unnamed.csv": lambda: "key,predictions\n" + "".join(f"{IDS[row]},{'; '.join(list_names()[row])}\n" for row in ORDER),
}


@pytest.mark.parametrize("name", FILES)
def test_labels_are_matched_by_id_in_any_format(name, tmp_path):
    found = read(tmp_path / name, FILES[name]())
    np.testing.assert_array_equal(found.predictions, GOLD)
    assert (
        found.probabilities is None
        and found.notes[-1] == "labels only, no probabilities"
        and len(found.notes) == 2 + (name == "unnamed.csv")
    )
    assert ("ids from column 'key'" in found.notes) == (name == "unnamed.csv")


@pytest.mark.parametrize("prefix", ["", "probability_"])
@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_probabilities_are_read_and_no_threshold_is_fitted(prefix, suffix, tmp_path):
    frame = pd.DataFrame({"id": IDS} | {f"{prefix}{name}": PROBABILITIES[:, column] for column, name in enumerate(LABELS.names)})
    frame = frame.assign(**{"gold:joy": True}).iloc[ORDER]
    path = tmp_path / f"a{suffix}"
    if suffix == ".parquet":
        frame.to_parquet(path)
    else:
        path.write_text(frame.to_csv(index=False) if suffix == ".csv" else frame.to_json(None, orient="records", lines=True))
    found = read_predictions(path, IDS, LABELS)
    np.testing.assert_allclose(found.probabilities, PROBABILITIES, atol=1e-7)
    np.testing.assert_array_equal(found.predictions, PROBABILITIES >= 0.5)
    assert found.notes == [
        "no labels, so those with a probability of at least 0.5 count; no threshold is fitted on the rows scored",
        "probabilities from 3 columns",
    ]


def test_a_scored_file_keeps_its_decisions_and_its_gold_labels_are_not_predictions(tmp_path):
    names = ["anger", "", "joy|fear", ""]
    lines = [f"{row},fear,{labels},{','.join(map(str, values))}" for row, labels, values in zip(IDS, names, PROBABILITIES, strict=True)]
    header = "id,labels,predicted_labels,probability_anger,probability_joy,probability_fear,"
    found = read(tmp_path / "a.csv", header[:-1] + "\n" + "\n".join(lines) + "\n")
    assert [LABELS.decode(row) for row in found.predictions] == [["anger"], [], ["joy", "fear"], []]
    np.testing.assert_allclose(found.probabilities, PROBABILITIES, atol=1e-7)


def test_missing_rows_other_rows_and_unknown_labels_are_reported(tmp_path):
    found = read(tmp_path / "a.csv", "id,predicted_labels\ne2,joy|fear|happy\nx9,joy\ne1,happy\nx8,\n")
    assert [LABELS.decode(row) for row in found.predictions] == [[], ["joy", "fear"], [], []]
    assert found.notes == [
        "labels from column 'predicted_labels'",
        "2 of 4 test rows are missing and count as rows without labels",
        "2 rows left out: not of the test split",
        "unknown labels are left out: 'happy' (2 rows)",
        "labels only, no probabilities",
    ]


def test_a_missing_row_has_probabilities_of_0(tmp_path):
    found = read(tmp_path / "a.csv", "id,probability_joy,probability_rage\ne1,0.7,0.1\ne4,0.2,0.1\n")
    assert found.probabilities[:, 1] == pytest.approx([0.7, 0, 0, 0.2]) and not found.probabilities[:, [0, 2]].any()
    assert found.notes[-2:] == ["no column for 'anger', 'fear'", "unknown labels are left out: 'rage'"]


def test_numbers_are_ids_as_text(tmp_path):
    pd.DataFrame({"id": [3.0, 1.0], "predicted_labels": ["joy", "fear"]}).to_parquet(tmp_path / "a.parquet")
    found = read_predictions(tmp_path / "a.parquet", ["1", "2", "3"], LABELS)
    assert [LABELS.decode(row) for row in found.predictions] == [["fear"], [], ["joy"]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,predicted_labels\nx1,joy\n", "column 'id' holds no id of a test row, such as 'e1'; name the column with them id"),
        ("key,joy\nx1,1\n", "none of the columns ['key', 'joy'] holds an id of a test row, such as 'e1'; name the column with them id"),
        ("id,predicted_labels\ne1,joy\ne2,joy\ne1,fear\n", "the id 'e1' of column 'id' is in lines 2 and 4; remove one of them"),
        (
            "key,joy\ne1,1\ne2,0\n",
            "no column is named id, and none of ['key', 'joy'] holds the ids of all test rows, such as 'e1'; name the column with them id",
        ),
        (
            "key,joy\ne1,1\ne2,0\ne3,0\ne4,0\ne2,1\n",
            "the id 'e2' of column 'key' is in lines 3 and 6; name the column with the ids id",
        ),
        (
            "id,answer\ne1,joy\n",
            "no column of predictions among ['id', 'answer']; name it predicted_labels, or a column for each label, such as "
            "probability_anger",
        ),
        (
            "id,predicted_labels\ne1,rage\n",
            "has the labels 'rage', none of which the runs have; their labels are 'anger', 'joy', 'fear'",
        ),
    ],
)
def test_a_file_that_cannot_be_matched_is_one_line(text, message, tmp_path):
    with pytest.raises(DataError) as caught:
        read(tmp_path / "a.csv", text)
    assert str(caught.value) == f"{tmp_path / 'a.csv'}: {message}"


@pytest.mark.parametrize("value", ["1.2", "-0.1", "high", ""])
def test_a_value_that_is_no_probability_is_named_with_its_line(value, tmp_path):
    with pytest.raises(DataError) as caught:
        read(tmp_path / "a.csv", f"id,probability_joy\ne1,0.5\ne2,{value}\n")
    assert str(caught.value) == f"{tmp_path / 'a.csv'}:3: column 'probability_joy' is {value!r}, must be a probability in [0, 1]"


def test_scores_in_one_cell_are_refused_with_what_to_write(tmp_path):
    with pytest.raises(DataError) as caught:
        read(tmp_path / "a.jsonl", '{"id": "e1", "predictions": "{\\"joy\\": 0.7}"}\n')
    assert str(caught.value).startswith(
        f"{tmp_path / 'a.jsonl'}: column 'predictions': holds values such as 0.7 beside 0 and 1; write names"
    )


def test_a_row_that_cannot_be_read_counts_as_one_without_labels(tmp_path):
    found = read(tmp_path / "a.jsonl", '{"id": "e1", "labels": ["joy"]}\n{"id": "e2", "labels": [["joy"]]}\n')
    assert [LABELS.decode(row) for row in found.predictions] == [["joy"], [], [], []]
    assert any(note.startswith("1 unreadable row, as if without labels, the first: ") for note in found.notes)


def test_rows_that_share_an_id_cannot_be_matched(tmp_path):
    (tmp_path / "a.csv").write_text("id,labels\n1,joy\n2,anger\n")
    with pytest.raises(DataError, match=r"a\.csv: 2 test rows of the run have the id '1', so predictions cannot be matched by id"):
        read_predictions(tmp_path / "a.csv", ["1", "2", "1"], LABELS)
