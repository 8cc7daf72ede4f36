"""Texts without labels: which of a file's are added to the training rows, and that nothing of them is judged."""

import numpy as np
import pytest

from emotion.config import DataConfig
from emotion.data.reading import Dataset, Examples
from emotion.data.reading.plain_texts import add_texts
from emotion.data.remembered import EARLIER, RememberedRows, hash_texts
from emotion.errors import DataError
from emotion.labels import LabelSet


@pytest.fixture
def dataset():
    splits = {"train": ["one", "two", "three"], "validation": ["Four  four"], "test": ["five"]}
    labels = np.array([[True, False], [False, True], [False, False]])
    examples = {name: Examples([f"{name}-{n}" for n in range(len(texts))], texts, labels[: len(texts)]) for name, texts in splits.items()}
    return Dataset(examples, LabelSet(("anger", "joy")))


def write(path, *lines):
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return str(path)


def test_new_texts_become_training_rows_of_which_no_label_is_judged(tmp_path, dataset):
    file = write(tmp_path / "more.csv", "text,source", "six,a", "four FOUR,b", "six,c", '" ",d', "seven,e", "two,f", "five,g")
    before = dataset["train"]
    message = add_texts(dataset, file, DataConfig())
    assert message == (
        f"{file}: 2 texts without labels, from column 'text'; left out: 4 that occur twice or are in a split, "
        f"1 that cannot be read (first: {file}:5: empty text)"
    )
    rows = dataset["train"]
    assert rows.texts == [*before.texts, "six", "seven"] and rows.ids[3:] == [f"{file}:2", f"{file}:6"]
    np.testing.assert_array_equal(rows.is_judged.any(axis=1), [True, True, True, False, False])
    np.testing.assert_array_equal(rows.labels[:3], before.labels)
    assert not rows.labels[3:].any()
    np.testing.assert_array_equal(rows.frequencies, before.frequencies)  # of the rows that have labels


def test_several_files_and_a_list_of_texts(tmp_path, dataset):
    first, second = write(tmp_path / "a.txt", "six it is", "seven, with a comma"), write(tmp_path / "b.txt", "eight it is")
    add_texts(dataset, f"{first},{second}", DataConfig(text_column="words"))  # the column of the labelled rows, which these files lack
    assert dataset["train"].texts[3:] == ["six it is", "seven, with a comma", "eight it is"]
    assert dataset["train"].ids[3:] == [f"{first}:1", f"{first}:2", f"{second}:1"]


@pytest.mark.parametrize(("lines", "message"), [(["text", "one", "five"], "no text that is new: 2 that occur twice"), ([], "has no rows")])
def test_files_without_a_new_text_are_refused(tmp_path, dataset, lines, message):
    with pytest.raises(DataError, match=message):
        add_texts(dataset, write(tmp_path / "more.csv", *lines), DataConfig())
    with pytest.raises(DataError, match=r"nowhere\.csv"):
        add_texts(dataset, str(tmp_path / "nowhere.csv"), DataConfig())


def test_the_message_says_how_a_file_was_read_and_why_a_row_was_not(tmp_path, dataset):
    western, broken = tmp_path / "western.csv", tmp_path / "broken.csv"
    western.write_bytes("text\nschöne Größe\nüble Sache\nfür später\n".encode("cp1252"))
    message = add_texts(dataset, str(western), DataConfig())
    assert message.endswith(f"from column 'text'; {western}: the encoding is windows-1252, as detected; data.encoding sets another")
    broken.write_bytes("text\nschön\n".encode("cp1252"))
    with pytest.raises(DataError, match=r"\(first: .*broken\.csv:2: not valid UTF-8; for another encoding, set data\.encoding\)"):
        add_texts(dataset, str(broken), DataConfig())


def test_of_several_names_the_one_that_is_missing_is_named(tmp_path, dataset):
    file = write(tmp_path / "more.csv", "text", "six")
    with pytest.raises(DataError) as error:
        add_texts(dataset, f"{file}, {tmp_path}/nowhere.csv", DataConfig())
    assert str(error.value) == f"{tmp_path}/nowhere.csv: cannot be read (No such file or directory)"


def test_a_run_remembers_them_as_trained_but_not_as_rows_of_its_data(tmp_path, dataset):
    labelled = RememberedRows.compute(dataset)
    add_texts(dataset, write(tmp_path / "more.csv", "text", "six", "seven"), DataConfig())
    RememberedRows.compute(dataset).write(tmp_path / "rows.parquet")
    rows = RememberedRows.read(tmp_path / "rows.parquet")
    assert rows.splits["train"].equals(labelled.splits["train"])
    assert rows.count_known(["six", "one", "nine"], ["train"]) == {"train": 2}
    resumed = labelled.add_earlier(rows)
    np.testing.assert_array_equal(resumed.splits[EARLIER].texts, hash_texts(["six", "seven"]))
    again = rows.add_earlier(rows)
    assert again.splits[EARLIER].equals(rows.splits[EARLIER])
