import csv
import gzip
import json

import numpy as np
import pandas as pd
import pytest

from emotion.config import DataConfig, load_config
from emotion.data.reading import read_dataset, read_examples
from emotion.data.reading.opening import open_rows
from emotion.errors import DataError
from emotion.labels import LabelSet
from tests.conftest import GOEMOTIONS_ROWS, SAMPLE

HEADER = "id,text,labels\n"


def read(*overrides):
    return read_dataset(load_config(None, list(overrides)).data)


def write_csv(path, rows, header=HEADER):
    path.write_text(header + "".join(rows), encoding="utf-8")
    return path


def read_train(path, *overrides):
    """Read a file as the training split and, so that nothing is split off, as the validation split."""
    return read(f"data.train={path}", f"data.validation={path}", *overrides)["train"]


def test_bundled_corpus_agrees_with_its_card():
    dataset = read("data.source=sample")
    assert {split: len(examples) for split, examples in dataset.splits.items()} == {"train": 1300, "validation": 300, "test": 400}
    assert len(dataset.label_set) == 28
    assert dataset["train"].labels.sum(axis=0).min() >= 59
    frame = pd.read_csv(SAMPLE / "test.csv", keep_default_na=False)
    assert dataset["test"].texts == frame.text.tolist()
    assert dataset["test"].ids == frame.id.tolist()
    for row, labels in enumerate(frame.labels):
        assert dataset.label_set.decode(dataset["test"].labels[row]) == labels.split("|")


@pytest.fixture
def goemotions(tmp_path):
    for name in ("train", "dev", "test"):
        (tmp_path / f"{name}.tsv").write_text("\n".join(GOEMOTIONS_ROWS) + "\n", encoding="utf-8")
    (tmp_path / "labels.txt").write_text("\n".join(f"label{i}" for i in range(28)) + "\n")
    return tmp_path


def test_released_goemotions_files_need_no_setting(goemotions):
    dataset = read(f"data.source={goemotions}")
    assert set(dataset.splits) == {"train", "validation", "test"}
    train = dataset["train"]
    assert train.texts == ["I love this!", 'He said "no"', "NA", "so\x85so 🙃"]
    assert train.ids == ["a1", "a2", "a3", "a4"]
    assert [dataset.label_set.decode(row) for row in train.labels] == [
        ["label18"],
        ["label2", "label3"],
        ["label27"],
        ["label0", "label27"],
    ]
    assert "text from column '0'" in dataset.messages[0]


def test_texts_that_are_in_two_splits_are_counted(goemotions):
    messages = read(f"data.source={goemotions}").messages
    assert "4 rows of validation with a text that is also in train" in messages


SEMEVAL_HEADER = "ID\tTweet\tanger\tjoy\ttrust\n"


def test_released_semeval_files_need_no_setting(tmp_path):
    path = tmp_path / "train.txt"
    path.write_text(SEMEVAL_HEADER + '2017-1\t"Worry is a down payment\t0\t1\t1\n2017-2\tplain "\t0\t0\t0\n', encoding="utf-8")
    dataset = read(f"data.train={path}", f"data.validation={path}")
    assert dataset.label_set.names == ("anger", "joy", "trust")
    assert dataset["train"].texts == ['"Worry is a down payment', 'plain "']
    assert dataset["train"].ids == ["2017-1", "2017-2"]
    np.testing.assert_array_equal(dataset["train"].labels, [[0, 1, 1], [0, 0, 0]])
    assert "train: 1 row without a label" in dataset.messages


def test_semeval_test_file_without_labels_is_said_and_a_row_of_it_is_bad(tmp_path):
    train, test = tmp_path / "train.txt", tmp_path / "test.txt"
    train.write_text(SEMEVAL_HEADER + "1\ta text\t0\t1\t1\n2\tb text\t1\t0\t0\n")
    test.write_text(SEMEVAL_HEADER + "3\tc text\tNONE\tNONE\tNONE\n")
    dataset = read(f"data.train={train}", f"data.validation={train}", f"data.test={test}")
    assert f"test: {test} has no gold labels (column 'anger' to 'trust' holds none in its 1 rows); it cannot be judged" in dataset.messages
    with pytest.raises(DataError, match=r"^split 'test': .* set data\.test=FILE to one with labels$"):
        dataset["test"]
    test.write_text(SEMEVAL_HEADER + "3\tc text\tNONE\tNONE\tNONE\n4\td text\t0\t1\t0\n")
    with pytest.raises(DataError, match=r"test\.txt:2: column 'anger' is 'NONE': this file was published without labels"):
        read(f"data.train={train}", f"data.validation={train}", f"data.test={test}")


TEXTS = ["NA", "null", "None", "nan", '"', "🙃 emoji", "x" * 10_000, "a,b", "line\nbreak", " padded ", "\tt", "0", "#"]


def make_frame():
    return pd.DataFrame({"id": [f"r{i}" for i in range(len(TEXTS))], "text": TEXTS, "labels": ["joy", "anger|joy"] * 6 + ["anger"]})


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "jsonl", "jsonl.gz", "parquet"])
def test_texts_are_unchanged_in_every_format(tmp_path, ending):
    path = tmp_path / f"train.{ending}"
    if ending.startswith("csv"):
        make_frame().to_csv(path, index=False)
    elif ending.startswith("jsonl"):
        make_frame().to_json(path, orient="records", lines=True, force_ascii=False)
    else:
        make_frame().to_parquet(path)
    train = read_train(path)
    assert train.texts == TEXTS
    assert train.ids == make_frame().id.tolist()
    assert train.labels.sum(axis=0).tolist() == [7, 12]


def test_tsv_has_no_quoting(tmp_path):
    path = tmp_path / "train.tsv"
    texts = [text for text in TEXTS if "\n" not in text and "\t" not in text]
    path.write_text("text\tlabels\n" + "".join(f"{text}\tjoy|anger\n" for text in texts), encoding="utf-8")
    assert read_train(path).texts == texts


@pytest.mark.parametrize("labels", [[["joy"], ["anger", "joy"]], [[1], [0, 1]]])
def test_labels_can_be_lists_of_names_or_ids(tmp_path, labels):
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps({"text": f"text {i}", "labels": row}) + "\n" for i, row in enumerate(labels)))
    train = read_train(path, "data.label_names=anger,joy")
    np.testing.assert_array_equal(train.labels, [[0, 1], [1, 1]])


@pytest.mark.parametrize("delimiter", ["|", ";", ","])
def test_delimiter_is_detected_and_reported(tmp_path, delimiter):
    path = write_csv(tmp_path / "train.csv", [f'1,one,"joy{delimiter}anger"\n', "2,two,joy\n"])
    dataset = read(f"data.train={path}", f"data.validation={path}")
    assert dataset.label_set.names == ("anger", "joy")
    assert f"split at {delimiter!r}" in dataset.messages[0]


def test_byte_order_mark_and_crlf_are_not_part_of_the_text(tmp_path):
    path = tmp_path / "train.csv"
    path.write_bytes(b"\xef\xbb\xbftext,labels\r\none,joy\r\ntwo,anger\r\n")
    train = read_train(path)
    assert train.texts == ["one", "two"] and train.labels.tolist() == [[False, True], [True, False]]


def test_config_names_columns_that_are_not_recognized(tmp_path):
    path = write_csv(tmp_path / "train.csv", ["one,joy\n", "two,anger\n"], header="utterance x,what y\n")
    train = read_train(path, "data.text_column=utterance x", "data.label_column=what y")
    assert train.texts == ["one", "two"]
    with pytest.raises(DataError, match=r"data\.text_column='body' is not among its columns"):
        read_train(path, "data.text_column=body", "data.label_column=what y")


LONG = "2f0c7a5d9e8b4f31a6c2d7e0b9f81634"


@pytest.mark.parametrize(
    ("header", "others", "settings"),
    [
        ("id,sms,label", (f"{LONG}-{{}}", "joy"), []),
        ("label,sms", ("joy and a long name of it",), []),
        ("worker_id,sms,label", (f"{LONG}-{{}}", "joy"), []),
        ("key,sms,label", (f"{LONG}-{{}}", "joy"), ["data.id_column=key"]),
        ("what,sms", ("joy and a long name of it",), ["data.label_column=what"]),
        ("text,sms", ("joy and a long name of it",), ["data.label_column=text"]),
    ],
)
def test_long_ids_labels_and_raters_are_not_the_text(tmp_path, header, others, settings):
    """Texts are the longest strings, but a column that is known to be something else is not the text."""
    names = header.split(",")
    cells = [[*(other.format(row) for other in others[:1]), f"so {row}", *others[1:]] for row in range(4)]
    cells = [[cell.replace("joy", ("joy", "anger")[row % 2]) for cell in cells[row]] for row in range(4)]
    path = write_csv(tmp_path / "train.csv", [",".join(row) + "\n" for row in cells], header=",".join(names) + "\n")
    assert read_train(path, *settings).texts == [f"so {row}" for row in range(4)]


def test_a_column_named_like_an_id_is_the_text_where_there_is_no_other(tmp_path):
    path = write_csv(tmp_path / "train.csv", ["so it is,joy\n", "no it is not,anger\n"], header="index,labels\n")
    assert read_train(path).texts == ["so it is", "no it is not"]


BAD = {
    "3 columns, expected 2": b"text,labels\none,joy\na,b,joy\ntwo,anger\n",
    "1 columns, expected 2": b"text,labels\none,joy\nalone\ntwo,anger\n",
    "unknown label 'joyy', did you mean 'joy'": b"text,labels\none,joy\nx,joyy\ntwo,anger\n",
    "empty text": b"text,labels\none,joy\n  ,joy\ntwo,anger\n",
    "not valid UTF-8": b"text,labels\none,joy\ncaf\xe9,joy\ntwo,anger\n",
    "unbalanced quote": b'text,labels\none,joy\n"x"y,joy\ntwo,anger\n',
}


@pytest.mark.parametrize("reason", BAD)
def test_bad_row_raises_with_file_line_and_reason(tmp_path, reason):
    path = tmp_path / "train.csv"
    path.write_bytes(BAD[reason])
    with pytest.raises(DataError) as caught:
        read_train(path, "data.label_names=anger,joy")
    assert f"{path}:3: {reason}" in str(caught.value)


def test_too_few_rows_are_said_with_the_columns_that_were_read_and_the_setting_of_the_split(tmp_path):
    path = write_csv(tmp_path / "few.csv", [f"{number},text {number},{['joy', 'anger'][number % 2]}\n" for number in range(4)])
    read_as = f"{path}: text from column 'text', labels from column 'labels', ids from column 'id'; 2 labels"
    with pytest.raises(DataError) as caught:
        read(f"data.source={path}")
    remedy = "label more rows, merge rare labels, or set data.test=FILE"
    assert str(caught.value) == f"{read_as}: 4 distinct texts are too few to split off a fraction of 0.1; {remedy}"
    with pytest.raises(DataError) as caught:
        read(f"data.train={path}", f"data.validation={path}", "data.train_fraction=0.9")
    remedy = "take another data.train_fraction than 0.9, or 1 for all rows"
    assert str(caught.value) == f"{read_as}: 4 distinct texts are too few to split off a fraction of 0.1; {remedy}"


def test_too_few_labels_are_said_with_the_column_and_the_first_cell_that_cannot_be_read(tmp_path):
    remedy = "check data.label_column or data.label_columns"
    path = write_csv(tmp_path / "one.csv", [f"{number},text {number},joy\n" for number in range(4)])
    with pytest.raises(DataError) as caught:
        read(f"data.source={path}")
    assert str(caught.value) == f"{path}: labels from column 'labels': found only 'joy', need at least 2 labels; {remedy}"
    path = tmp_path / "tool.jsonl"
    rows = [{"text": f"text {number}", "answers": [{"id": number, "was_cancelled": False}]} for number in range(4)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError) as caught:
        read(f"data.source={path}", "data.label_column=answers")
    reason = "\"{'id': 0, 'was_cancelled': False}\" in a list of labels, must be a name or an id"
    assert str(caught.value) == (
        f"{path}: labels from column 'answers', lists in the cells: found none, need at least 2 labels; "
        f"the first cell that cannot be read: {reason}; {remedy}"
    )


@pytest.mark.parametrize("name", ["text", "body"])
def test_a_text_within_objects_is_asked_about_and_never_replaced_by_the_longest_other_string(name, tmp_path):
    """Label Studio's JSON, and what Reddit answers: beside the object there are times and kinds."""
    path = tmp_path / "tasks.json"
    rows = [
        {"created_at": f"2024-01-{number + 1:02}T10:00:00Z", "data": {name: f"a longer text {number}"}, "label": "joy"}
        for number in range(20)
    ]
    path.write_text(json.dumps(rows))
    with pytest.raises(DataError) as caught:
        read(f"data.source={path}")
    assert str(caught.value) == f"{path}: the text may be in column 'created_at' or in 'data.{name}'; set data.text_column to one of them"
    path.write_text(json.dumps([{**row, "label": ["joy", "anger"][number % 2]} for number, row in enumerate(rows)]))
    assert read_train(path, f"data.text_column=data.{name}").texts[:2] == ["a longer text 0", "a longer text 1"]


def test_an_error_of_the_columns_says_what_was_detected_in_the_file(tmp_path):
    path = tmp_path / "two.csv"
    path.write_bytes("datum;bemerkung\n1.1.;für Ärger\n2.1.;für Öl\n3.1.;zu spät\n".encode("cp1252"))
    with pytest.raises(DataError) as caught:
        read(f"data.source={path}")
    assert str(caught.value).startswith(f"{path}: no column looks like labels among ['datum', 'bemerkung']; set data.label_column")
    assert f"; how it was read: {path}: the encoding is windows-1252, as detected" in str(caught.value)


@pytest.mark.parametrize("reason", BAD)
def test_skipped_bad_row_is_quarantined_and_other_rows_are_kept(tmp_path, reason):
    path, other = tmp_path / "train.csv", write_csv(tmp_path / "v.csv", ["three,joy\n", "four,anger\n"], "text,labels\n")
    path.write_bytes(BAD[reason])
    dataset = read(f"data.train={path}", f"data.validation={other}", "data.on_bad_row=skip", "data.label_names=anger,joy")
    assert dataset["train"].texts == ["one", "two"]
    assert [(row.line, reason in row.reason) for row in dataset.bad_rows] == [(3, True)]
    dataset.write_quarantine(tmp_path / "quarantine.tsv")
    written = (tmp_path / "quarantine.tsv").read_text().splitlines()
    assert len(written) == 2 and str(path) in written[1] and reason.split(",")[0] in written[1]


def test_unclosed_quote_raises_instead_of_swallowing_rows(tmp_path):
    path = tmp_path / "train.csv"
    path.write_text('text,labels\none,joy\n"two,anger\nthree,joy\n')
    with pytest.raises(DataError, match="unbalanced quote in lines 3-4"):
        read_train(path)


def test_error_lists_twenty_bad_rows_and_the_total(tmp_path):
    path = write_csv(tmp_path / "train.csv", ["1,one,joy\n", "2,two,anger\n"] + [f"{i},,joy\n" for i in range(25)])
    with pytest.raises(DataError, match="25 bad rows") as caught:
        read(f"data.source={path}")
    assert str(caught.value).count("empty text") == 20 and "and 5 more" in str(caught.value)


def test_single_file_is_split_without_losing_rows(tmp_path):
    texts = [f"text {i}" for i in range(100)]
    path = write_csv(tmp_path / "all.csv", [f"{i},{text},{'joy' if i % 2 else 'anger'}\n" for i, text in enumerate(texts)])
    dataset = read(f"data.source={path}")
    parts = [dataset[split].texts for split in ("train", "validation", "test")]
    assert sorted(text for part in parts for text in part) == sorted(texts)
    assert [len(part) for part in parts] == [80, 10, 10]


@pytest.mark.parametrize(
    "overrides, message",
    [
        (["data.source=missing.csv"], "no such file or folder"),
        (["data.source=./missing/folder"], "no such file or folder"),
        (["data.train=x.docx"], "unknown format '.docx'"),
        (["data.train=missing.csv"], "cannot be read"),
    ],
)
def test_wrong_source_raises_one_line(overrides, message):
    with pytest.raises(DataError, match=message) as caught:
        read(*overrides)
    assert "\n" not in str(caught.value)


def test_a_folder_is_said_with_its_files(tmp_path):
    folder = tmp_path / "rows.csv"
    folder.mkdir()
    for name, pattern in (("README", "*.csv"), ("a.jsonl.gz", "*.jsonl")):
        (folder / name).touch()
        with pytest.raises(DataError) as caught, open_rows(folder):
            pass
        assert str(caught.value) == f"{folder}: is a folder; give its files, such as '{folder}/{pattern}'"


@pytest.mark.parametrize("name, content", [("a.csv", b""), ("a.csv.gz", b"text,labels\n"), ("a.parquet", b"no parquet"), ("b.csv.gz", b"")])
def test_empty_or_damaged_file_raises_one_line(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if name == "b.csv.gz" else content)
    with pytest.raises(DataError, match=name):
        read_train(path)


def test_hub_dataset_with_class_labels(monkeypatch):
    import datasets

    features = datasets.Features(
        {
            "text": datasets.Value("string"),
            "labels": datasets.Sequence(datasets.ClassLabel(names=["anger", "joy"])),
            "id": datasets.Value("string"),
        }
    )
    rows = datasets.Dataset.from_dict({"text": ["one", "NA"], "labels": [[1], [0, 1]], "id": ["a", "b"]}, features=features)
    calls = []

    def load(name, config):
        calls.append((name, config))
        return datasets.DatasetDict({"train": rows, "validation": rows, "test": rows})

    monkeypatch.setattr(datasets, "load_dataset", load)
    dataset = read("data.source=google-research-datasets/go_emotions", "data.hub_config=simplified")
    assert calls == [("google-research-datasets/go_emotions", "simplified")]
    assert dataset.label_set.names == ("anger", "joy")
    assert dataset["test"].texts == ["one", "NA"] and dataset["test"].ids == ["a", "b"]
    np.testing.assert_array_equal(dataset["validation"].labels, [[0, 1], [1, 1]])


def test_unreachable_hub_raises_one_line(monkeypatch):
    import datasets

    def fail(name, config):
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(DataError, match=r"cannot be loaded from the Hub.*no route.*data\.source=FOLDER") as caught:
        read("data.source=someone/something")
    assert "\n" not in str(caught.value)


def test_configs_of_a_hub_dataset_are_listed(monkeypatch):
    import datasets

    def fail(name, config):
        raise ValueError("Config name is missing.\nPlease pick one among the available configs: ['raw', 'small']\nExample of usage:\n\t`x`")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(
        DataError, match=r"Config name is missing\. Please pick one among the available configs: \['raw', 'small'\]\); check"
    ):
        read("data.source=someone/something")


def test_read_examples_uses_the_label_set_of_the_model(tmp_path):
    label_set = LabelSet(("anger", "joy", "fear"))
    config = load_config(None).data
    path = write_csv(tmp_path / "some.csv", ["1,one,joy\n", "2,two,anger|joy\n"])
    examples, messages, bad_rows = read_examples(path, config, label_set)
    np.testing.assert_array_equal(examples.labels, [[0, 1, 0], [1, 1, 0]])
    assert messages and not bad_rows
    columns = write_csv(tmp_path / "columns.csv", ["one,0,1,1\n"], header="text,fear,joy,anger\n")
    np.testing.assert_array_equal(read_examples(columns, config, label_set)[0].labels, [[1, 1, 0]])


@pytest.mark.parametrize("delimiter", ["#", " ", "\n", " and ", ";;"])
def test_any_delimiter_takes_effect(delimiter, tmp_path):
    cell = f"joy{delimiter}anger"
    with (tmp_path / "a.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["text", "labels"], *[[f"text {number}", cell if number % 2 else "joy"] for number in range(40)]])
    dataset = read(f"data.train={tmp_path / 'a.csv'}", f"data.validation={tmp_path / 'a.csv'}", f"data.label_delimiter={delimiter}")
    assert dataset.label_set.names == ("anger", "joy") and dataset["train"].labels.sum(axis=0).tolist() == [20, 40]


def test_label_names_beside_columns_of_other_names_are_refused(tmp_path):
    (tmp_path / "a.csv").write_text("text,0,1\n" + "".join(f"text {number},{number % 2},1\n" for number in range(40)))
    with pytest.raises(DataError, match=r"data.label_names=joy,anger: has no effect beside the 0/1 columns 0, 1"):
        read(f"data.train={tmp_path / 'a.csv'}", f"data.validation={tmp_path / 'a.csv'}", "data.label_names=joy,anger")


def test_a_setting_of_a_split_that_the_data_has_is_said_to_have_no_effect(tmp_path):
    rows = "text,labels\n" + "".join(f"text {number},{'joy' if number % 2 else 'anger'}\n" for number in range(40))
    for name in ("train", "validation", "test"):
        (tmp_path / f"{name}.csv").write_text(rows.replace("text ", f"{name} "))
    messages = read_dataset(DataConfig(source=str(tmp_path), validation_fraction=0.3, split_seed=5)).messages
    assert [message for message in messages if "no effect" in message] == [
        "data.validation_fraction=0.3 has no effect: these rows are not split off",
        "data.split_seed=5 has no effect: these rows are not split off",
    ]
    single = DataConfig(source=str(tmp_path / "train.csv"), validation_fraction=0.3, test_fraction=0.2, split_seed=5)
    assert not any("no effect" in message for message in read_dataset(single).messages)


def test_a_split_that_was_drawn_without_any_label_is_refused(tmp_path):
    rows = "text,anger,joy\n" + "".join(f"text {number},{int(number == 3)},0\n" for number in range(60))
    (tmp_path / "few.csv").write_text(rows)
    with pytest.raises(DataError, match=r"(train|validation): none of its \d+ rows has a label, which training needs"):
        read_dataset(DataConfig(source=str(tmp_path / "few.csv")))


@pytest.mark.parametrize("fraction", [0.001, 0.9999])
def test_a_fraction_of_the_training_rows_that_leaves_a_side_empty_is_named(tmp_path, fraction):
    rows = [f"text {row},{('joy', 'anger')[row % 2]}\n" for row in range(60)]
    path = write_csv(tmp_path / "train.csv", rows, header="text,labels\n")
    message = rf"too few to split off a fraction of [\d.e-]+; take another data\.train_fraction than {fraction}, or 1 for all rows$"
    with pytest.raises(DataError, match=message):
        read_train(path, f"data.train_fraction={fraction}")


def test_a_fraction_of_the_training_rows_without_any_label_is_refused(tmp_path):
    rows = [f"text {row},{int(row == 3)},0\n" for row in range(60)]
    train = write_csv(tmp_path / "train.csv", rows, header="text,anger,joy\n")
    validation = write_csv(tmp_path / "validation.csv", rows[:9], header="text,anger,joy\n")
    with pytest.raises(DataError, match=r"^train: none of its \d+ rows has a label, which training needs"):
        read(f"data.train={train}", f"data.validation={validation}", "data.train_fraction=0.2")
