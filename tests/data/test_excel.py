"""Excel files are read as they look, and their ids, dates and texts are not changed."""

import datetime
import io

import numpy as np
import pytest

from emotion.config import DataConfig, load_config
from emotion.data.reading import read_dataset
from emotion.data.reading.opening import open_rows
from emotion.data.reading.rows import BadRow
from emotion.data.reading.tables import read_table
from emotion.errors import DataError

xlsxwriter = pytest.importorskip("xlsxwriter", reason="needs requirements-excel.txt")

TEXTS = ["plain", "=1+1", "@x +y -z", " padded ", "line\nbreak\r\nend", "_x0041_ \x07", "🙃 emoji", "NA", "", "5"]


def write_excel(path, sheets):
    """Write rows of Python values; a text stays text, and a date gets a format of dates."""
    stream = io.BytesIO()
    with xlsxwriter.Workbook(stream, {"strings_to_formulas": False, "default_date_format": "yyyy-mm-dd hh:mm:ss"}) as book:
        for name, rows in sheets.items():
            sheet = book.add_worksheet(name)
            for position, row in enumerate(rows):
                for column, value in enumerate(row):
                    if isinstance(value, str):
                        sheet.write_string(position, column, value)
                    else:
                        sheet.write(position, column, value)
    path.write_bytes(stream.getvalue())
    return path


def read(path, rows, **settings):
    return read_table(write_excel(path, {"Sheet1": rows}), DataConfig(**settings))


def test_texts_are_unchanged(tmp_path):
    table = read(tmp_path / "a.xlsx", [["text", "label"], *([text, "joy"] for text in TEXTS)])
    assert table.columns == ["text", "label"] and [row[0] or "" for row in table.rows] == TEXTS
    assert table.lines == list(range(2, len(TEXTS) + 2)) and not table.bad_rows and table.notes == []


VALUES = {
    "whole number": (7, 7),
    "fraction": (0.25, 0.25),
    "flag": (True, True),
    "15 digits": (123456789012345, 123456789012345),
    "an id of 16 digits": (1234567890123456, "1234567890123456"),
    "negative": (-3, -3),
    "date and time": (datetime.datetime(2024, 1, 2, 3, 4, 5), "2024-01-02T03:04:05"),
    "empty": (None, None),
}


@pytest.mark.parametrize("case", VALUES)
def test_values_in_a_column_without_text(case, tmp_path):
    value, expected = VALUES[case]
    (row,) = read(tmp_path / "a.xlsx", [["text", "value"], ["some", value]]).rows
    assert row == ["some", expected] and type(row[1]) is type(expected)


def test_numbers_in_a_column_of_texts_are_texts(tmp_path):
    """A comment may be `5`, and an id `12` beside `A12`."""
    rows = [["text", "id"], ["some", "A12"], [5, 12], [0.5, 13.0], [True, None]]
    assert read(tmp_path / "a.xlsx", rows).rows == [["some", "A12"], ["5", "12"], ["0.5", "13"], ["TRUE", None]]


def test_training_rows(tmp_path):
    rows = [["Comment", "anger", "joy"], *([f"text {number}", number % 2, 1 - number % 2] for number in range(40))]
    path = write_excel(tmp_path / "train.xlsx", {"data": rows})
    write_excel(tmp_path / "dev.xlsx", {"data": rows})
    train = read_dataset(load_config(None, [f"data.source={tmp_path}"]).data)["train"]
    np.testing.assert_array_equal(train.labels[:2], [[0, 1], [1, 0]])
    assert train.texts[0] == "text 0" and path.is_file()


def test_the_first_sheet_that_is_not_empty(tmp_path):
    path = write_excel(tmp_path / "a.xlsx", {"cover": [], "data": [["text"], ["a"]], "more": [["text"], ["b"]]})
    table = read_table(path)
    assert table.rows == [["a"]]
    assert table.notes == [f"{path}: sheet 'data' of ['cover', 'data', 'more']; data.sheet sets another"]
    table = read_table(path, DataConfig(sheet="more"))
    assert table.rows == [["b"]] and table.notes == []
    with pytest.raises(DataError, match=r"a\.xlsx: data\.sheet='x' is not among its sheets \['cover', 'data', 'more'\]"):
        read_table(path, DataConfig(sheet="x"))
    with pytest.raises(DataError, match=r"a\.xlsx: has no rows"):
        read_table(path, DataConfig(sheet="cover"))


def test_empty_rows_and_columns(tmp_path):
    rows = [[], ["text", None, "label", None], [], ["a", None, "joy", None], [], [], ["b", None, "joy", "x"], [], []]
    path = write_excel(tmp_path / "a.xlsx", {"data": rows})
    table = read_table(path)
    assert table.columns == ["text", "column 2", "label", "column 4"]
    assert table.rows == [["a", None, "joy", None], ["b", None, "joy", "x"]] and table.lines == [4, 7]
    with open_rows(path, is_lenient=True) as opened:  # an output has a row for each row up to the last one
        entries = list(opened.entries)
    assert [(entry.line, getattr(entry, "reason", None)) for entry in entries] == [
        *[(3, "empty line"), (4, None), (5, "empty line"), (6, "empty line"), (7, None)]
    ]
    assert isinstance(entries[0], BadRow)


def test_header_settings_take_effect(tmp_path):
    assert read(tmp_path / "a.xlsx", [["text", "id"], ["a", 1]], has_header=False).rows == [["text", "id"], ["a", 1]]
    assert read(tmp_path / "a.xlsx", [["My Text", 3], ["a", 1]], has_header=True).columns == ["My Text", "3"]


def test_a_damaged_file_is_one_line(tmp_path):
    content = write_excel(tmp_path / "a.xlsx", {"data": [["text"], *([f"text {number}"] for number in range(3_000))]}).read_bytes()
    generator = np.random.default_rng(0)
    damaged = [b"", b"text\na\n", b"PK\x03\x04" + b"0" * 100, *(content[: len(content) * part // 5] for part in range(1, 5))]
    for _ in range(20):
        start = int(generator.integers(len(content)))
        damaged.append(content[:start] + generator.bytes(50) + content[start + 50 :])
    num_refused = 0
    for some in damaged:
        (tmp_path / "b.xlsx").write_bytes(some)
        try:
            read_table(tmp_path / "b.xlsx")
        except DataError as error:
            assert "\n" not in str(error) and "b.xlsx: " in str(error)
            num_refused += 1
    assert num_refused >= 7


def test_the_package_is_named_if_it_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "python_calamine", None)
    with pytest.raises(DataError, match=r"a\.xlsx: Excel files need python-calamine: pip install -r requirements-excel\.txt"):
        read(tmp_path / "a.xlsx", [["text"], ["a"]])
