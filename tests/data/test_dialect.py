"""Separator, quotes and header of a table are detected where that is certain, and the settings decide otherwise."""

import csv
import io

import pytest

from emotion.config import DataConfig, load_config
from emotion.data.reading.opening import open_rows
from emotion.data.reading.rows import Row
from emotion.data.reading.tables import read_table
from emotion.errors import ConfigError, DataError

PAIRS = [(f"words {number}, and {number} more", ("joy", "anger", "fear")[number % 3]) for number in range(12)]
NO_COLUMN = "the first row is not a header, so the column is named 0; data.has_header=true makes it one"
NO_HEADER = "the first row is not a header, so columns are named by their positions from 0; data.has_header=true makes it one"


def format_csv(rows, **options):
    stream = io.StringIO(newline="")
    csv.writer(stream, lineterminator="\n", **options).writerows(rows)
    return stream.getvalue()


def read(path, content, **settings):
    path.write_text(content, encoding="utf-8", newline="")
    return read_table(path, DataConfig(**settings))


def describe_separator(separator):
    return f"cells are separated by {separator!r}, as detected; data.separator sets another"


@pytest.mark.parametrize("ending", ["csv", "txt", "tsv"])
@pytest.mark.parametrize("separator", [";", "|", "\t"])
def test_a_separator_is_detected_with_and_without_a_header(separator, ending, tmp_path):
    path = tmp_path / f"a.{ending}"
    body = "".join(f"{text}{separator}{label}\n" for text, label in PAIRS)
    is_default = ending != "csv" and separator == "\t"
    for header, columns in ((f"text{separator}emotion\n", ["text", "emotion"]), ("", ["0", "1"])):
        table = read(path, header + body)
        assert table.columns == columns and table.rows == [list(pair) for pair in PAIRS] and not table.bad_rows
        notes = [*([] if is_default else [describe_separator(separator)]), *([] if header else [NO_HEADER])]
        assert table.notes == ([f"{path}: {'; '.join(notes)}"] if notes else [])


@pytest.mark.parametrize("setting, separator", [("#", "#"), ("tab", "\t"), ("\\t", "\t"), (" ", " "), (",", ",")])
def test_data_separator_decides(setting, separator, tmp_path):
    rows = [["text", "emotion"], ["a;b", "joy"], ["c;d", "anger"]]
    for ending, content in (("csv", format_csv(rows, delimiter=separator)), ("txt", "".join(separator.join(row) + "\n" for row in rows))):
        table = read(tmp_path / f"a.{ending}", content, separator=setting)
        assert [table.columns, *table.rows] == rows and table.notes == []


@pytest.mark.parametrize(
    "name, value", [("separator", "||"), ("separator", '"'), ("separator", "\n"), ("escape", "backslash"), ("escape", '"')]
)
def test_separator_and_escape_are_one_character(name, value):
    with pytest.raises(ConfigError, match=rf"data\.{name}=.*: must be one character, or (tab|none)"):
        load_config(None, [f"data.{name}={value}"])


def test_a_single_column_without_a_known_header_is_said(tmp_path):
    """Its header is a text otherwise, and nobody notices."""
    path = tmp_path / "a.csv"
    table = read(path, "Kommentar\n" + "".join(f"I love it {number}\n" for number in range(10)))
    assert table.columns == ["0"] and len(table.rows) == 11 and table.notes == [f"{path}: {NO_COLUMN}"]
    assert read(path, "Kommentar\nI love it\n", has_header=True).columns == ["Kommentar"]


def test_lines_of_text_are_not_split(tmp_path):
    lines = ["one; two", "three, four", "five | six; seven", "eight", "nine; ten", "eleven", "so, so"]
    for ending in ("txt", "csv"):
        table = read(tmp_path / f"a.{ending}", "text\n" + "".join(f'"{line}"\n' if ending == "csv" else f"{line}\n" for line in lines))
        assert table.rows == [[line] for line in lines] and table.notes == []


@pytest.mark.parametrize("first", ["sep=;", '"sep=;"', "SEP=;"])
def test_the_line_of_excel_is_neither_a_header_nor_a_row(first, tmp_path):
    table = read(tmp_path / "a.csv", f"{first}\r\ntext;emotion\r\na, b;joy\r\nc;anger\r\n")
    assert table.columns == ["text", "emotion"] and table.rows == [["a, b", "joy"], ["c", "anger"]] and table.lines == [3, 4]
    assert table.notes == [f"{tmp_path / 'a.csv'}: the first line, {first}, is for Excel and no row"]


SPARK = 'text,emotion\n"He said \\"no\\", twice",joy\n"a path C:\\\\dir\\\\",anger\n"plain, words",joy\n"C:\\dir",fear\n'
SPARK_ROWS = [['He said "no", twice', "joy"], ["a path C:\\\\dir\\", "anger"], ["plain, words", "joy"], ["C:\\dir", "fear"]]
"""A backslash is doubled where it would escape the closing quote, and only there."""


def test_quotes_that_spark_escapes(tmp_path):
    table = read(tmp_path / "a.csv", SPARK)
    assert table.rows == SPARK_ROWS and not table.bad_rows
    assert table.notes == [rf"{tmp_path / 'a.csv'}: quotes are escaped as \", as detected; data.escape=none treats the \ as a character"]
    assert read(tmp_path / "a.csv", SPARK, escape="\\").rows == SPARK_ROWS
    bad_rows = read(tmp_path / "a.csv", SPARK, escape="none").bad_rows
    assert bad_rows[0].reason.endswith(r"; if its quotes are written \", set data.escape=" + "\\")


def test_another_escape_character(tmp_path):
    assert read(tmp_path / "a.csv", 'text,id\n"say ^"x^" now",1\n', escape="^").rows == [['say "x" now', "1"]]


def test_a_backslash_at_the_end_of_a_cell_of_rfc_4180_is_a_character(tmp_path):
    table = read(tmp_path / "a.csv", 'text,id\n"in C:\\dir\\",1\n"a ""b""",2\n')
    assert table.rows == [["in C:\\dir\\", "1"], ['a "b"', "2"]] and table.notes == []


def test_quotes_that_cannot_enclose_a_cell_are_characters(tmp_path):
    """In a file that was written without quoting, a text may begin with a quote."""
    rows = [*PAIRS[:6], ('"well" done', "joy"), *PAIRS[6:]]
    content = "".join(f"{text.replace(',', '')};{label}\n" for text, label in rows)
    table = read(tmp_path / "a.csv", content, has_header=False)
    assert [tuple(row) for row in table.rows] == [(text.replace(",", ""), label) for text, label in rows] and not table.bad_rows
    assert "quotes are ordinary characters, as detected; data.quoting=true makes them enclose cells" in table.notes[0]
    assert len(read(tmp_path / "a.csv", content, has_header=False, quoting=True).bad_rows) == 1
    quoted = 'text,id\n"a, b",1\n' + "c,2\n" * 5 + '"x"y,3\n'  # here a quote encloses a comma
    assert [bad.line for bad in read(tmp_path / "a.csv", quoted).bad_rows] == [8]
    assert read(tmp_path / "a.csv", 'text,id\n"x",1\n', quoting=False).rows == [['"x"', "1"]]


HEADERS = {
    "known name": (["text", "x"], True),
    "names with blanks": (["Tweet Text", "Emotion Label"], True),
    "questions of a form": (["What happened, in your words?", "How did it feel?"], True),
    "names of another language": (["Kommentar", "Gefühl"], True),
    "a row": (["I love this", "joy"], False),
    "a row of two words": (["Amazing", "joy"], False),
    "a number": (["Amazing", "5"], False),
    "the same twice": (["word", "word"], False),
    "no name": (["word", ""], False),
}


@pytest.mark.parametrize("case", HEADERS)
def test_a_header_is_recognized_by_the_rows_below_it(case, tmp_path):
    first, has_header = HEADERS[case]
    for header in (first, first[::-1]):
        rows = [pair if header is first else pair[::-1] for pair in PAIRS]
        table = read(tmp_path / "a.csv", format_csv([header, *rows]))
        if case == "no name" and header is not first:  # the first column may be the index of pandas
            has_header = True
        assert table.has_header is has_header and len(table.rows) == len(PAIRS) + (not has_header)
        assert table.columns == (header if has_header else ["0", "1"])


def test_what_was_taken_for_a_header_is_said(tmp_path):
    path = tmp_path / "a.csv"
    table = read(path, format_csv([["Tweet Text", "Mood"], *PAIRS]))
    note = "the first row, ['Tweet Text', 'Mood'], is taken for the names of the columns; data.has_header=false makes it a row"
    assert table.notes == [f"{path}: {note}"]


def test_columns_named_by_position_are_of_a_file_without_a_header(tmp_path):
    """Also where the first row has a cell that equals one of the numbers, such as the id of a label."""
    path, settings = tmp_path / "a.tsv", {"text_column": "0", "label_column": "1"}
    rows = [["a text", "1"], ["another", "2"], ["the third one", "1, 2"]]
    table = read(path, "".join("\t".join(row) + "\n" for row in rows), **settings)
    assert table.columns == ["0", "1"] and table.rows == rows and not table.has_header
    table = read(path, "0\t1\n" + "".join("\t".join(row) + "\n" for row in rows), **settings)  # as pandas names columns
    assert table.columns == ["0", "1"] and table.rows == rows and table.has_header


def test_few_rows_do_not_show_a_header(tmp_path):
    assert read(tmp_path / "a.csv", "Amazing,joy\nGreat,fun\n").has_header  # as before: two identifiers
    assert not read(tmp_path / "a.csv", "Tweet Text,Mood Now\nGreat,fun\n").has_header


@pytest.mark.parametrize("ending", ["csv", "tsv"])
def test_data_has_header_decides(ending, tmp_path):
    content = "text,labels\n1,2\n".replace(",", "," if ending == "csv" else "\t")
    assert read(tmp_path / f"a.{ending}", content, has_header=False).rows == [["text", "labels"], ["1", "2"]]
    content = "1,2\n3,4\n".replace(",", "," if ending == "csv" else "\t")
    table = read(tmp_path / f"a.{ending}", content, has_header=True)
    assert (table.columns, table.rows, table.notes) == (["1", "2"], [["3", "4"]], [])


def test_columns_without_a_name_get_different_ones(tmp_path):
    table = read(tmp_path / "a.csv", "text,labels,,\na,joy,,\n")
    assert table.columns == ["text", "labels", "column 3", "column 4"] and table.rows == [["a", "joy", "", ""]]
    assert read(tmp_path / "a.csv", ",text,labels\n0,a,joy\n").columns == ["", "text", "labels"]  # the index of pandas


@pytest.mark.parametrize("ending, end", [("tsv", "\n"), ("tsv", "\r\n"), ("jsonl", "\n")])
def test_a_carriage_return_within_a_line_does_not_end_it(ending, end, tmp_path):
    if ending == "tsv":
        content = f"text\tid{end}one\r#tag\t1{end}two\t2{end}"
        texts = ["one\r#tag", "two"]
    else:
        content, texts = '{"text":\r"one"}\n{"text": "two"}\n', ["one", "two"]
    for max_length in (10_000_000, 14):
        table = read(tmp_path / f"a.{ending}", content, max_line_length=max_length)
        assert [row[0] for row in table.rows] == (texts if max_length > 14 else texts[len(texts) - len(table.rows) :])
        assert len(table.rows) + len(table.bad_rows) == 2
    assert read(tmp_path / "b.tsv", "text\tid\rone\t1\rtwo\t2\r").rows == [["one", "1"], ["two", "2"]]  # of an old Macintosh


NO_EFFECT = {
    "separator": (";", "parquet"),
    "escape": ("\\", "tsv"),
    "quoting": (False, "jsonl"),
    "encoding": ("utf-8", "parquet"),
    "has_header": (True, "jsonl"),
    "sheet": ("a", "csv"),
}


@pytest.mark.parametrize("name", NO_EFFECT)
def test_a_setting_without_effect_is_refused(name, tmp_path):
    value, ending = NO_EFFECT[name]
    (tmp_path / f"a.{ending}").write_text("")
    with pytest.raises(DataError, match=rf"a\.{ending}: data\.{name} has no effect on it, only on \.\w+"):
        read_table(tmp_path / f"a.{ending}", DataConfig(**{name: value}))


def test_detection_loses_no_line(tmp_path):
    """The head from which separator and header are found is a part of the rows, in files longer than it."""
    rows = [[f"text {number}", ("joy", "fear")[number % 2]] for number in range(1_000)]
    for separator in (",", ";", "|", "\t"):
        (tmp_path / "a.csv").write_text(format_csv([["My Text", "My Mood"], *rows], delimiter=separator))
        with open_rows(tmp_path / "a.csv", is_lenient=True) as opened:
            entries = list(opened.entries)
        assert entries == [Row(str(tmp_path / "a.csv"), line, row) for line, row in enumerate(rows, start=2)]
