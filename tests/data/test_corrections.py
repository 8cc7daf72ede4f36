"""Decisions of a person on labels: applied exactly, counted, part of the fingerprint; a mistake in the file is one line each."""

from dataclasses import replace

import pytest

from emotion.config import Config, load_config
from emotion.data.reading import read_dataset
from emotion.data.reading.corrections import read_labels
from emotion.data.reading.labelled_rows import read_labelled_rows
from emotion.data.remembered import RememberedRows
from emotion.errors import ConfigError, DataError
from emotion.labels import LabelSet
from emotion.text import escape_formula
from emotion.training.fingerprint import fingerprint_run

HEADER = "id,split,text,decision\n"
ROWS = {"train": 12, "validation": 4, "test": 4}


@pytest.fixture
def data(tmp_path):
    """Three split files, with ids that are in two of them; row n has the text `SPLIT text n` and the label joy, or fear where n is odd."""
    for split, number in ROWS.items():
        lines = [f"{split[0]}{row},{split} text {row},{'fear' if row % 2 else 'joy'}" for row in range(number)]
        lines[0] += "|anger"
        (tmp_path / f"{split}.csv").write_text("\n".join(["id,text,labels", *lines]) + "\n")
    return tmp_path


def read(data, lines, *settings, header=HEADER):
    """Return the data set with corrections of these lines."""
    path = data / "decided" / "reviewed.csv"
    path.parent.mkdir(exist_ok=True)
    path.write_text(header + "".join(f"{line}\n" for line in lines))
    return read_dataset(load_config(None, [f"data.source={data}", *settings, f"data.corrections={path}"]).data)


def list_labels(dataset, split):
    return {row_id: dataset.label_set.decode(row) for row_id, row in zip(dataset[split].ids, dataset[split].labels, strict=True)}


LINES = ["t0,train,train text 0,keep", "t1,train,train text 1,DROP", "t2,train,TRAIN  text 2,anger; fear", "t3,train,train text 3,none"]
LINES += [
    "t4,train,train text 4,",
    "v0,validation,validation text 0,drop",
    "v1,validation,validation text 1,joy",
    "t1,test,test text 1,joy",
]


def test_decisions_are_applied_to_training_rows_and_counted(data):
    plain = read_dataset(load_config(None, [f"data.source={data}"]).data)
    dataset = read(data, LINES)
    expected = list_labels(plain, "train") | {"t2": ["anger", "fear"], "t3": []}
    del expected["t1"]
    assert list_labels(dataset, "train") == expected and len(expected) == ROWS["train"] - 1
    for split in ("validation", "test"):
        assert list_labels(dataset, split) == list_labels(plain, split)
    path = data / "decided" / "reviewed.csv"
    assert [message for message in dataset.messages if message.startswith("corrections")] == [
        f"corrections: {path}: 1 row dropped, 2 with new labels, 1 kept; 1 without a decision",
        "corrections: 2 decisions on validation rows not applied, so that scores compare with those of other runs; "
        "data.corrected_splits=train,validation applies them",
        "corrections: 1 decision on test rows not applied, so that scores compare with those of other runs; "
        "data.corrected_splits=train,test applies them",
    ]
    dataset.write_corrected(data / "corrections.csv")
    assert (data / "corrections.csv").read_text().splitlines() == [
        "split,id,labels_before,labels_after",
        'train,t1,"[""fear""]",drop',
        'train,t2,"[""joy""]","[""anger"", ""fear""]"',
        'train,t3,"[""fear""]",[]',
    ]


@pytest.mark.parametrize("start", ["=1+1", "-", "+ ", "@me", "'=", "'"])
def test_a_cell_is_found_as_it_is_and_as_audit_py_writes_it_for_spreadsheets(data, start):
    """Rows of ids and texts that look like formulas: with the apostrophe, and without it, as older files have them."""
    (data / "train.csv").write_text(
        f'id,text,labels\n"{start}0","{start} a text",joy\n"{start}1","{start} another",fear\nx,third,anger|joy\n'
    )
    changed = read(data, [f"{escape_formula(start)}0,train,{escape_formula(start)} a text,fear", f"{start}1,train,{start} another,joy"])
    assert list_labels(changed, "train") == {f"{start}0": ["fear"], f"{start}1": ["joy"], "x": ["anger", "joy"]}


def test_validation_rows_are_changed_where_they_are_named(data):
    labels = list_labels(read(data, LINES, "data.corrected_splits=train,validation"), "validation")
    assert labels == {"v1": ["joy"], "v2": ["joy"], "v3": ["fear"]}


def test_corrections_are_a_part_of_the_fingerprint(data):
    plain = read_dataset(load_config(None, [f"data.source={data}"]).data)
    before, kept, after = (
        fingerprint_run(Config(), {split: dataset[split] for split in ("train", "validation")})
        for dataset in (plain, read(data, LINES[:1]), read(data, LINES))
    )
    assert before == kept
    assert {key for key in before if before[key] != after[key]} == {"rows of train"}


def test_a_decision_does_not_change_which_rows_are_in_a_split(data):
    """The rows of a single file are drawn by their labels before decisions."""
    settings = [f"data.source={data / 'train.csv'}", "data.validation_fraction=0.3", "data.test_fraction=0", "data.train_fraction=0.6"]
    plain = read_dataset(load_config(None, settings).data)
    used, left_out = plain["train"].ids, plain.unused.ids
    assert used and left_out
    lines = [f"{row_id},train,train text {row_id[1:]},anger" for row_id in (*used, *left_out)]
    dataset = read(data, lines, *settings)
    assert {split: rows.ids for split, rows in dataset.splits.items()} == {split: rows.ids for split, rows in plain.splits.items()}
    assert all(labels == ["anger"] for labels in list_labels(dataset, "train").values())
    assert f"corrections: {len(left_out)} decisions on training rows that data.train_fraction leaves out" in dataset.messages


def test_every_mistake_is_a_line(data):
    lines = ["t1,train,train text 1,joyy", "t2,train,train text 2,joy", "t2,train,train text 2,drop", "t3,train,train text 3,fear"]
    path = data / "decided" / "reviewed.csv"
    with pytest.raises(DataError) as caught:
        read(data, lines)
    remedy = "write keep, drop, none or labels of the data, separated by |"
    assert str(caught.value).splitlines() == [
        f"data.corrections={path}: cannot use 2 lines:",
        f"  {path}:2: unknown label 'joyy', did you mean 'joy'?; {remedy}",
        f"  {path}:4: row 't2' of train has another decision in line 3; leave one of them",
    ]
    with pytest.raises(DataError) as caught:
        read(data, ["t99,train,train text 1,joy", "t2,train,another text,joy", "t2,train,train text 2,joy", "t2,train,train text 2,joy"])
    assert str(caught.value).splitlines() == [
        f"data.corrections={path}: cannot use 2 lines:",
        "  line 2: row 't99' of train is not in the data; give the data that was audited, or leave the line out",
        "  line 3: row 't2' of train has another text than in the data; decide on the text as it is now, or leave the line out",
    ]


def test_a_file_without_its_columns_and_a_split_that_does_not_exist_are_refused(data):
    with pytest.raises(DataError, match=r"reviewed\.csv: lacks the columns \['split', 'decision'\]; give a file that audit\.py wrote"):
        read(data, ["t1,train text 1,joy"], header="id,text,labels\n")
    with pytest.raises(ConfigError, match=r"data\.corrected_splits=\('train', 'dev'\): must be one or more of train, validation and test"):
        load_config(None, ["data.corrections=a.csv", "data.corrected_splits=train,dev"])


def test_nothing_is_left_to_learn(data):
    with pytest.raises(DataError, match="train: none of its 12 rows has a label"):
        read(data, [f"t{row},train,train text {row},none" for row in range(12)])


def test_a_spreadsheet_with_semicolons_is_read(data):
    dataset = read(data, ['t1;train;train text 1;"joy; anger"'], header="id;split;text;decision\n")
    assert list_labels(dataset, "train")["t1"] == ["anger", "joy"]


def test_a_run_with_corrections_finds_its_rows_again(data):
    dataset = read(data, LINES)
    remembered = RememberedRows.compute(dataset)
    path = data / "decided" / "reviewed.csv"
    config = load_config(None, [f"data.source={data}", f"data.corrections={path}"])
    for split in ROWS:
        rows = read_labelled_rows(config, split, None, (), dataset.label_set, remembered)
        assert (rows.examples.ids, rows.notes) == (dataset[split].ids, [])
        assert (rows.examples.labels == dataset[split].labels).all()
    path.unlink()
    rows = read_labelled_rows(config, "test", None, (), dataset.label_set, remembered)
    assert rows.examples.ids == dataset["test"].ids
    assert f"corrections: {path} is no longer there, so training rows have the labels of the data" in rows.messages


def test_a_run_is_scored_with_the_corrections_that_it_was_trained_with(tmp_path):
    """The file is of an audit with other splits: what counts is the split of a row in the run, when it is trained and when it is scored."""
    lines = [f"r{row},text number {row},{'fear' if row % 2 else 'joy'}" for row in range(60)]
    (tmp_path / "rows.csv").write_text("\n".join(["id,text,labels", *lines]) + "\n")
    path = tmp_path / "reviewed.csv"
    settings = [f"data.source={tmp_path / 'rows.csv'}", "data.test_fraction=0.3", "data.validation_fraction=0.2"]
    audited = read_dataset(load_config(None, [*settings, "data.split_seed=1"]).data)
    decisions = [
        f"{row_id},{split},{text},{'drop' if number % 2 else 'none'}"
        for split, rows in audited.splits.items()
        for number, (row_id, text) in enumerate(zip(rows.ids, rows.texts, strict=True))
        if number % 3
    ]
    path.write_text(HEADER + "".join(f"{line}\n" for line in decisions))
    config = load_config(None, [*settings, "data.split_seed=2", f"data.corrections={path}"])
    plain, trained = read_dataset(load_config(None, [*settings, "data.split_seed=2"]).data), read_dataset(config.data)
    assert not set(plain["test"].ids) <= set(audited["test"].ids)
    remembered = RememberedRows.compute(trained)
    for split in ("train", "validation", "test"):
        rows = read_labelled_rows(config, split, None, (), trained.label_set, remembered)
        assert (rows.examples.ids, rows.notes) == (trained[split].ids, [])
        assert (rows.examples.labels == trained[split].labels).all()
    assert trained["test"].ids == plain["test"].ids and (trained["test"].labels == plain["test"].labels).all()
    assert len(trained["train"]) < len(plain["train"])


def test_two_decisions_on_a_row_are_found_under_any_of_its_names(data):
    with pytest.raises(DataError) as caught:
        read(
            data,
            ["t2,train,train text 2,joy", "t2,validation,train text 2,drop", "t3,test,train text 3,keep", "t3,train,train text 3,keep"],
        )
    assert str(caught.value).splitlines()[1:] == ["  line 3: row 't2' of train has another decision in line 2; leave one of them"]


def test_a_label_that_was_not_judged_is_judged_once_it_is_given(data):
    (data / "train.csv").write_text("id,text,joy,fear\n" + "".join(f"t{row},train text {row},1,{row % 2 or ''}\n" for row in range(8)))
    for split in ("validation", "test"):
        (data / f"{split}.csv").write_text("id,text,joy,fear\nx,a text,1,0\n")
    rows = read(data, ["t0,train,train text 0,fear", "t2,train,train text 2,joy"])["train"]
    assert rows.labels[[0, 2]].tolist() == [[False, True], [True, False]]
    assert rows.is_judged[[0, 2, 4]].tolist() == [[True, True], [True, False], [True, False]]


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        (" Keep ", None),
        ("drop", None),
        ("none", []),
        ("joy", [0]),
        ("JOY|fear", [0, 1]),
        ("fear, joy", [0, 1]),
        ("a|b", [2]),
        ('["a|b", "joy"]', [0, 2]),
    ],
)
def test_decision_cells(cell, expected):
    assert read_labels(cell, LabelSet(("joy", "fear", "a|b"))) == expected


@pytest.mark.parametrize("cell", ["1", "joy|1", "|", ";", "[0]"])
def test_numbers_and_separators_alone_are_no_decision(cell):
    """A person who writes 1 means yes, and not the label with this id."""
    with pytest.raises(DataError, match=r"unknown label "):
        read_labels(cell, LabelSet(("joy", "fear", "a|b")))
    assert read_labels("1", LabelSet(("1", "2"))) == [0]


def test_a_label_called_none_is_a_label():
    assert read_labels("none", LabelSet(("joy", "none"))) == [1]


def test_old_configs_have_no_corrections():
    assert replace(Config().data) == load_config(None).data and Config().data.corrections is None
