"""The files of a data source are found as people have them: patterns, shards, archives, saved datasets, splits without labels."""

import gzip
import json
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from emotion.config import DataConfig, load_config
from emotion.data.reading import read_dataset, read_examples
from emotion.data.reading.rows import Row
from emotion.data.reading.streams import open_source
from emotion.data.reading.tables import read_table
from emotion.errors import DataError
from emotion.labels import LabelSet

NAMES = ["anger", "joy"]


def read(*overrides):
    return read_dataset(load_config(None, list(overrides)).data)


def make_rows(start, stop):
    return [(f"text {number}", NAMES[number % 2]) for number in range(start, stop)]


def write(path, start, stop):
    """Write rows in the format that the name ends with, and return their texts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = make_rows(start, stop)
    if path.suffix == ".parquet":
        pq.write_table(pa.table({"text": [text for text, _ in rows], "labels": [label for _, label in rows]}), path)
    else:
        path.write_text("text,labels\n" + "".join(f"{text},{label}\n" for text, label in rows))
    return [text for text, _ in rows]


LAYOUTS = {
    "shards of the Hub": ("train-00000-of-00002.parquet", "train-00001-of-00002.parquet", "validation-00000-of-00001.parquet"),
    "shards with a hash": ("train-00000-of-00002-a09b74b3ef9c3b56.parquet", "train-00001-of-00002-b09b74b3ef9c3b56.parquet", "dev.parquet"),
    "numbers": ("train_9.csv", "train_10.csv", "val1.csv"),
    "folders": ("train/a.csv", "train/b.csv", "valid/c.csv"),
    "a folder of the Hub": ("data/train-0.csv", "data/train-1.csv", "data/dev.csv"),
    "a configuration": ("simplified/Train1.csv", "simplified/Train2.csv", "simplified/dev.csv"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_all_files_of_a_split_are_read_in_order(layout, tmp_path):
    first, second, validation = (tmp_path / name for name in LAYOUTS[layout])
    texts = write(first, 0, 20) + write(second, 20, 50)
    dev = write(validation, 50, 60)
    dataset = read(f"data.source={tmp_path}")
    assert dataset["train"].texts == texts and dataset["validation"].texts == dev
    assert len(set(dataset["train"].ids)) == 50  # a line of the second file is not a line of the first
    assert dataset.messages[0].startswith(f"{first} and 1 more: text from column 'text'")


@pytest.mark.parametrize("name", ["a-*.csv", "a-1.csv,a-2.csv", "a-1.csv, a-2.csv"])
def test_patterns_and_lists_of_names(name, tmp_path, monkeypatch):
    texts = write(tmp_path / "a-1.csv", 0, 30) + write(tmp_path / "a-2.csv", 30, 60)
    monkeypatch.chdir(tmp_path)
    assert read(f"data.train={name}", "data.validation=a-1.csv")["train"].texts == texts
    dataset = read(f"data.source={name}")
    assert sorted(text for examples in dataset.splits.values() for text in examples.texts) == sorted(texts) and len(dataset.splits) == 3


def test_a_file_whose_name_looks_like_a_pattern_or_a_list(tmp_path):
    texts = write(tmp_path / "a,[b].csv", 0, 30)
    write(tmp_path / "a,b.csv", 30, 40)
    assert read(f"data.train={tmp_path / 'a,[b].csv'}", f"data.validation={tmp_path / 'a,b.csv'}")["train"].texts == texts


def test_a_bad_row_of_a_later_file_has_its_own_line(tmp_path):
    write(tmp_path / "train-1.csv", 0, 20)
    (tmp_path / "train-2.csv").write_text("text,labels\nsome,joy\n,joy\n" + "x,joy,3\n")
    write(tmp_path / "train-3.csv", 0, 20)
    with pytest.raises(DataError) as caught:
        read(f"data.source={tmp_path}")
    assert f"  {tmp_path / 'train-2.csv'}:3: empty text\n" in str(caught.value)
    assert f"  {tmp_path / 'train-2.csv'}:4: 3 columns, expected 2\n" in str(caught.value)


REFUSED = {
    "a shard is missing": (["train-00000-of-00003.csv", "train-00002-of-00003.csv"], "has 2 of 3 files of train"),
    "two copies": (
        ["train.csv", "train-1.csv"],
        r"several files for train: \['train-1.csv', 'train.csv'\]; choose one with data.train=FILE",
    ),
    "two names": (["train.csv", "dev.csv", "val.csv"], "several files for validation"),
    "two formats": (["train-1.csv", "train-2.parquet"], "several files for train"),
    "two configurations": (["a/train.csv", "b/train.csv"], r"has no train\.csv, .*; choose one with data\.source: .*/a, .*/b$"),
    "another name": (["reviews.csv"], r"has no train\.csv, .*; did you mean data\.source=.*/reviews\.csv\?$"),
    "other names": (["a.csv", "b.csv"], r"has no train\.csv, .*; set data\.train=FILE$"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_ambiguous_is_refused_with_what_to_do(case, tmp_path):
    names, message = REFUSED[case]
    for name in names:
        write(tmp_path / name, 0, 20)
    with pytest.raises(DataError, match=message):
        read(f"data.source={tmp_path}")


def test_files_of_a_split_must_have_the_same_columns(tmp_path):
    write(tmp_path / "train-1.csv", 0, 20)
    (tmp_path / "train-2.csv").write_text("body,labels\na,joy\n")
    with pytest.raises(DataError, match=r"train-2\.csv: has the columns \['body', 'labels'\], but .*train-1\.csv has \['text', 'labels'\]"):
        read(f"data.source={tmp_path}")


HUB_NAMES = {
    "emotion": "dair-ai/emotion",
    "go_emotions": "google-research-datasets/go_emotions",
    "go_emotion": "google-research-datasets/go_emotions",
    "Go_Emotions": "google-research-datasets/go_emotions",
}


@pytest.mark.parametrize("is_folder", [False, True])
@pytest.mark.parametrize("name", HUB_NAMES)
def test_a_short_name_of_the_hub_is_answered_with_its_id(name, is_folder, tmp_path, monkeypatch):
    """Also where a folder of this name happens to lie in the working directory, as the package's own does."""
    monkeypatch.chdir(tmp_path)
    if is_folder:
        (tmp_path / name / "config").mkdir(parents=True)
    with pytest.raises(DataError, match=rf"did you mean data\.source={HUB_NAMES[name]} \(on the Hub\)\?$"):
        read(f"data.source={name}")


def make_features():
    import datasets

    names = datasets.ClassLabel(names=NAMES)
    return datasets.Features({"text": datasets.Value("string"), "labels": datasets.Sequence(names), "main": names})


def make_saved(start, stop):
    import datasets

    labels = [[number % 2] for number in range(start, stop)]
    columns = {"text": [f"text {number}" for number in range(start, stop)], "labels": labels, "main": [label for (label,) in labels]}
    return datasets.Dataset.from_dict(columns, features=make_features())


def test_folders_of_save_to_disk(tmp_path):
    import datasets

    datasets.DatasetDict({"train": make_saved(0, 40), "dev": make_saved(40, 60)}).save_to_disk(str(tmp_path / "splits"))
    dataset = read(f"data.source={tmp_path / 'splits'}")
    assert dataset.label_set.names == tuple(NAMES) and dataset["train"].labels.sum(axis=0).tolist() == [20, 20]
    assert dataset["validation"].texts == [f"text {number}" for number in range(40, 60)]
    make_saved(0, 40).save_to_disk(str(tmp_path / "rows"))
    for source in (f"data.source={tmp_path / 'rows'}", f"data.train={tmp_path / 'rows'}"):
        dataset = read(source)
        assert sum(map(len, dataset.splits.values())) == 40 and dataset.label_set.names == tuple(NAMES)
    (tmp_path / "rows" / "state.json").write_text("{")
    with pytest.raises(DataError, match=r"rows: cannot be read as a folder of save_to_disk \("):
        read(f"data.source={tmp_path / 'rows'}")


def test_class_names_of_parquet_files(tmp_path):
    make_saved(0, 40).to_parquet(str(tmp_path / "a.parquet"))
    assert read_table(tmp_path / "a.parquet").class_names == {"labels": NAMES, "main": NAMES}
    assert read(f"data.source={tmp_path / 'a.parquet'}").label_set.names == tuple(NAMES)
    table = pq.read_table(tmp_path / "a.parquet")
    for metadata in (b"{", b"[]", b'{"info": {"features": {"labels": {"names": 3, "_type": "ClassLabel"}, "text": []}}}'):
        pq.write_table(table.replace_schema_metadata({b"huggingface": metadata}), tmp_path / "b.parquet")
        assert read_table(tmp_path / "b.parquet").class_names == {}


def write_declared(path, names, labels):
    """Write rows whose text is their label, as `datasets` does: as ids of the declared names."""
    import datasets

    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=names)})
    rows = {"text": labels, "label": [names.index(label) for label in labels]}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(str(path))


def test_ids_stand_for_the_names_that_their_own_file_declares(tmp_path):
    names, train = ["joy", "anger", "fear"], 10 * ["joy", "anger", "fear"]
    write_declared(tmp_path / "train.parquet", names, train)
    write_declared(tmp_path / "validation.parquet", names[::-1], ["fear", "anger", "joy"])
    dataset = read(f"data.source={tmp_path}")
    assert [dataset.label_set.decode(row) for row in dataset["validation"].labels] == [["fear"], ["anger"], ["joy"]]
    write_declared(tmp_path / "validation.parquet", [*names, "glee"], ["fear", "glee"])
    with pytest.raises(DataError, match=r"validation.parquet:2: unknown label 'glee'"):
        read(f"data.source={tmp_path}")
    write_declared(tmp_path / "train.parquet", ["3", "1", "2"], 10 * ["1", "2", "3"])
    write_declared(tmp_path / "validation.parquet", ["1", "2", "3"], ["3", "1"])
    dataset = read(f"data.source={tmp_path}")
    assert [dataset.label_set.decode(row) for split in ("train", "validation") for row in dataset[split].labels[:2]] == [
        *(["1"], ["2"]),
        *(["3"], ["1"]),
    ]


def test_ids_of_a_file_for_a_model_stand_for_the_names_of_the_file(tmp_path):
    model, labels = LabelSet(("anger", "fear", "joy")), ["joy", "fear", "anger", "glee"]
    names = ["glee", "joy", "anger", "fear"]
    write_declared(tmp_path / "a.parquet", names, labels)
    lines = [f"{label},{names.index(label)}" for label in labels]
    (tmp_path / "b.csv").write_text("\n".join(["text,label", *lines]))
    given = [f"data.label_names={','.join(names)}"]

    def check(file, *overrides):
        config = load_config(None, overrides).data
        examples, _, _ = read_examples(tmp_path / file, config, model)
        assert [model.decode(row) for row in examples.labels] == [["joy"], ["fear"], ["anger"], []]
        with open_source([tmp_path / file], config, model) as source:
            rows = [
                source.gold.read(dict(zip(source.columns, entry.values, strict=True))) for entry in source.entries if isinstance(entry, Row)
            ]
        assert rows == [([2], []), ([1], []), ([0], []), None]

    check("a.parquet")
    check("b.csv", *given)
    (tmp_path / "labels.txt").write_text("\n".join(names))
    check("b.csv")
    write_declared(tmp_path / "c.parquet", names[::-1], labels)
    with (
        open_source([tmp_path / "a.parquet", tmp_path / "c.parquet"], load_config(None).data, model) as source,
        pytest.raises(DataError, match=r"c.parquet: declares the label names .*; score them one by one"),
    ):
        list(source.entries)


def write_zip(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


ROWS = b"text,labels\none,joy\ntwo,anger\n"


def test_an_archive_of_one_file(tmp_path):
    inner = tmp_path / "a.parquet"
    write(inner, 0, 2)
    others = {"__MACOSX/._a.csv": b"x", "folder/.DS_Store": b"x", "folder/": b""}
    for name, content in {"a.csv": ROWS, "folder/b.CSV": ROWS, "c.parquet": inner.read_bytes()}.items():
        table = read_table(write_zip(tmp_path / "a.csv.zip", {**others, name: content}))
        assert table.columns == ["text", "labels"] and len(table.rows) == 2 and not table.bad_rows


ARCHIVES = {
    "two files": ({"a.csv": ROWS, "b.csv": ROWS}, r"must hold exactly one file, but holds 2 \(a\.csv, b\.csv\); unpack it"),
    "no file": ({}, r"must hold exactly one file, but holds 0 \(nothing\)"),
    "another format": ({"a.docx": ROWS}, "holds a.docx, whose format is unknown"),
    "an archive": ({"a.zip": ROWS}, "holds a.zip, whose format is unknown"),
}


@pytest.mark.parametrize("case", ARCHIVES)
def test_another_archive_is_refused(case, tmp_path):
    files, message = ARCHIVES[case]
    with pytest.raises(DataError, match=rf"a\.zip: {message}"):
        read_table(write_zip(tmp_path / "a.zip", files))


def test_a_damaged_archive_is_one_line(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"a.csv": b"text,labels\n" + b"".join(b"text %d,joy\n" % number for number in range(9_000))})
    content = path.read_bytes()
    path.write_bytes(content[:5_000] + bytes(100) + content[5_100:])
    with pytest.raises(DataError, match=r"a\.zip:\d+: cannot be read \(|a\.zip: cannot be read \("):
        read_table(path)
    path.write_bytes(content[:1_000])
    with pytest.raises(DataError, match=r"a\.zip: cannot be read \(File is not a zip file\)"):
        read_table(path)
    (tmp_path / "b.zip.gz").write_bytes(gzip.compress(content))
    with pytest.raises(DataError, match=r"unknown format '\.zip'"):
        read_table(tmp_path / "b.zip.gz")


MASKED = {
    "no column": ("text\n", "{text}\n", "no column 'labels'"),
    "empty cells": ("text,labels\n", "{text},\n", "column 'labels' holds none in its 20 rows"),
    "blank cells": ("text,labels\n", "{text},  \n", "column 'labels' holds none in its 20 rows"),
    "-1": ("text,labels\n", "{text},-1\n", "column 'labels' holds none in its 20 rows"),
}


@pytest.mark.parametrize("case", MASKED)
def test_a_test_split_without_labels_is_said_and_not_judged(case, tmp_path):
    header, line, reason = MASKED[case]
    write(tmp_path / "train.csv", 0, 40)
    write(tmp_path / "dev.csv", 40, 60)
    (tmp_path / "test.csv").write_text(header + "".join(line.format(text=f"text {number}") for number in range(60, 80)))
    dataset = read(f"data.source={tmp_path}")
    assert set(dataset.splits) == {"train", "validation"} and len(dataset["train"]) == 40
    reason = f"{tmp_path / 'test.csv'} has no gold labels ({reason})"
    assert f"test: {reason}; it cannot be judged" in dataset.messages
    with pytest.raises(DataError) as caught:
        dataset["test"]
    assert str(caught.value) == f"split 'test': {reason}, so it cannot be judged; set data.test=FILE to one with labels"


@pytest.mark.parametrize("cell", ["", "-1", "NONE"])
def test_a_test_split_whose_columns_are_masked(cell, tmp_path):
    (tmp_path / "train.csv").write_text("text,anger,joy\n" + "".join(f"a{number},{number % 2},{1 - number % 2}\n" for number in range(40)))
    (tmp_path / "test.csv").write_text("text,anger,joy\n" + "".join(f"b{number},{cell},{cell}\n" for number in range(5)))
    dataset = read(f"data.source={tmp_path}")
    assert set(dataset.splits) == {"train", "validation"}
    assert "(column 'anger' to 'joy' holds none in its 5 rows)" in dataset.unlabelled["test"]


def test_a_validation_split_without_labels_is_split_off_instead(tmp_path):
    write(tmp_path / "train.csv", 0, 100)
    (tmp_path / "dev.csv").write_text("text\nsome\n")
    dataset = read(f"data.source={tmp_path}")
    assert len(dataset["validation"]) == 10 and "some" not in dataset["validation"].texts


def test_some_rows_without_labels_are_rows_without_emotion(tmp_path):
    write(tmp_path / "train.csv", 0, 40)
    (tmp_path / "test.csv").write_text("text,labels\none,\ntwo,joy\n")
    np.testing.assert_array_equal(read(f"data.source={tmp_path}")["test"].labels, [[0, 0], [0, 1]])


def test_training_rows_without_any_label_are_refused_with_numbers(tmp_path):
    (tmp_path / "a.csv").write_text("text,anger,joy,fear\n" + "".join(f"text {number},0,0,0\n" for number in range(40)))
    with pytest.raises(DataError) as caught:
        read(f"data.source={tmp_path / 'a.csv'}")
    assert str(caught.value) == (
        f"{tmp_path / 'a.csv'}: none of its 40 rows has one of the 3 labels (anger, joy, fear), so there is nothing to learn; "
        "check data.label_columns or data.label_column"
    )


def test_settings_of_files_are_refused_for_a_saved_dataset(tmp_path):
    make_saved(0, 40).save_to_disk(str(tmp_path / "rows"))
    with pytest.raises(DataError, match=r"rows: data\.separator has no effect on it"):
        read(f"data.source={tmp_path / 'rows'}", "data.separator=;")


ARRAYS = {
    "an array": lambda rows: json.dumps(rows),
    "an array over lines": lambda rows: json.dumps(rows, indent=2),
    "an object with an array": lambda rows: json.dumps({"version": 1, "data": rows}),
    "an object per line": lambda rows: "\n".join(map(json.dumps, rows)),
    "an array after a mark": lambda rows: "\ufeff\n" + json.dumps(rows),
}


@pytest.mark.parametrize("case", ARRAYS)
def test_json_as_it_comes(case, tmp_path):
    rows = [{"text": f"{'ä' * 50} {number}", "labels": [NAMES[number % 2]]} for number in range(3_000)]
    for ending in ("json", "jsonl", "json.gz"):
        content = ARRAYS[case](rows).encode()
        (tmp_path / f"a.{ending}").write_bytes(gzip.compress(content) if ending == "json.gz" else content)
        if case == "an object with an array" and ending == "jsonl":
            continue
        table = read_table(tmp_path / f"a.{ending}")
        assert [dict(zip(table.columns, row, strict=True)) for row in table.rows] == rows and table.lines == list(range(1, 3_001))
        assert table.notes == ([f"{tmp_path / f'a.{ending}'}: rows are the objects of 'data'"] if "with" in case else [])


def test_bad_objects_of_an_array_are_bad_rows(tmp_path):
    (tmp_path / "a.json").write_text('[{"text": "a"}, {"text": "b", "text": "c"}, 5, {"text": 1e999}, {"text": "d"}]')
    table = read_table(tmp_path / "a.json", DataConfig())
    assert table.rows == [["a"], ["d"]]
    reasons = ["key 'text' occurs twice", "not a JSON object", "1e999 is beyond the range of a 64-bit float"]
    assert [(bad.line, bad.reason) for bad in table.bad_rows] == list(zip((2, 3, 4), reasons, strict=True))


BROKEN = {
    "no end": ('[{"text": "a"},', r"a\.json: object 2 of the array is not JSON \(the array has no end\)"),
    "cut": ('[{"text": "a"}, {"te', r"a\.json: object 2 of the array is not JSON \("),
    "no array": ('{"text": "a", "n": 1}', r"a\.json: is an object with 0 lists of objects; needed is an array of objects"),
    "two arrays": ('{"a": [{"x": 1}], "b": [{"x": 1}]}', r"a\.json: is an object with 2 lists of objects"),
    "nothing": ("[]", r"a\.json: has no rows"),
    "not JSON": ("text\na\n", r"a\.json: is not JSON \("),
    "a number": ("5", r"a\.json: is a int; needed is"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_json_is_one_line(case, tmp_path):
    content, message = BROKEN[case]
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        read_table(tmp_path / "a.json")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("ending", ["jsonl", "json", "parquet"])
def test_values_below_a_path(ending, tmp_path):
    rows = [{"post": {"text": f"text {n}", "meta": {"tags": [NAMES[n % 2]]}}, "n": n} for n in range(40)]
    path = tmp_path / f"a.{ending}"
    if ending == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text(json.dumps(rows) if ending == "json" else "\n".join(map(json.dumps, rows)))
    settings = [f"data.train={path}", f"data.validation={path}", "data.text_column=post.text", "data.label_column=post.meta.tags"]
    train = read(*settings, "data.id_column=n")["train"]
    assert train.texts == [f"text {n}" for n in range(40)] and train.labels.sum(axis=0).tolist() == [20, 20]
    with pytest.raises(DataError, match=rf"a\.{ending}: 'post\.body' is not in column 'post'; found are post\.meta\.tags, post\.text"):
        read(f"data.train={path}", "data.text_column=post.body")
    with pytest.raises(DataError, match=r"set data\.text_column, perhaps data\.text_column=post\.text$"):
        read(f"data.train={path}", "data.label_column=n")


def test_a_row_without_the_path_is_a_bad_row(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"post": {"text": "a"}, "labels": ["joy"]}\n{"post": null, "labels": ["anger"]}\n')
    with pytest.raises(DataError, match=r"a\.jsonl:2: empty text"):
        read(f"data.train={tmp_path / 'a.jsonl'}", f"data.validation={tmp_path / 'a.jsonl'}", "data.text_column=post.text")


def test_another_configuration_than_the_one_that_is_named_is_not_read(tmp_path):
    (tmp_path / "simplified").mkdir()
    for split in ("train", "validation"):
        write_declared(tmp_path / "simplified" / f"{split}.parquet", ["joy", "anger"], ["joy", "anger"])
    for settings in ([], ["data.hub_config=simplified"]):
        assert read(f"data.source={tmp_path}", *settings).label_set.names == ("joy", "anger")
    with pytest.raises(DataError, match=r"data.hub_config='raw': .* has no such folder, only simplified; choose one of them, or set"):
        read(f"data.source={tmp_path}", "data.hub_config=raw")
