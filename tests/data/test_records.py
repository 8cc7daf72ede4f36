"""Lines and csv records are read in linear time and bounded memory, and none is lost."""

import csv
import gzip
import io
import json
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest

from emotion.config import DataConfig, load_config
from emotion.data.reading import json_rows, read_dataset, records
from emotion.data.reading.opening import open_rows
from emotion.data.reading.rows import BadRow, Row
from emotion.data.reading.streams import open_source
from emotion.errors import DataError
from emotion.labels import LabelSet

LIMIT = 100


def parse(text, max_length=10_000_000):
    """Return line and cells of each record; None for those that cannot be parsed."""
    stream = io.BufferedReader(io.BytesIO(text.encode()))
    entries = records.parse_csv("a.csv", records.read_lines(stream, max_length), ",", max_length)
    return [(entry.line, entry.values if isinstance(entry, Row) else None) for entry in entries]


def parse_slowly(text, max_lines):
    """Return what `parse` should: from each line on, the csv module parses one line more until the record is complete."""
    lines = list(io.StringIO(text, newline=""))
    found, start = [], 0
    while start < len(lines):
        for end in range(start + 1, min(len(lines), start + max_lines) + 1):
            try:
                (values,) = csv.reader(lines[start:end], strict=True)
            except csv.Error as error:
                values = None
                if str(error) != records.OPEN_QUOTE:
                    break
            else:
                break
        found.append((start + 1, values))
        start = end if values is not None else start + 1
    return found


def test_random_records_equal_those_that_are_parsed_again_from_each_line(monkeypatch):
    generator = np.random.default_rng(0)
    num_bad = num_long = 0
    for _ in range(1_500):
        monkeypatch.setattr(records, "MAX_RECORD_LINES", int(generator.choice([2, 3, 5, 10_000])))
        pieces = generator.choice(['"', ",", "a", "\n", "\r", "\r\n"], size=generator.integers(40), p=[0.3, 0.2, 0.2, 0.2, 0.05, 0.05])
        text = "".join(pieces)
        found = parse(text)
        assert found == parse_slowly(text, records.MAX_RECORD_LINES), text
        num_bad += sum(values is None for _, values in found)
        num_long += sum(values is not None and any("\n" in cell for cell in values) for _, values in found)
    assert num_bad > 500 and num_long > 500


@pytest.mark.parametrize("max_lines", [7, 10_000])
@pytest.mark.parametrize("unit", ['x",y"z,"\n', '"a\n', '"a,b\nc\n', 'x",y,"z\n', '"\n', '"a\nb"c\n', 'a,"b\n""\n', '"a""\n","\n'])
def test_work_grows_as_the_file_whatever_its_quotes_are(unit, max_lines, monkeypatch):
    """In characters that the csv module parses: each at most once as a start, once within quotes, and once in its record."""
    num_parsed = 0

    def count(lines, **options):
        nonlocal num_parsed
        num_parsed += sum(map(len, lines))
        return csv.reader(lines, **options)

    monkeypatch.setattr(records, "csv", SimpleNamespace(reader=count, Error=csv.Error, field_size_limit=csv.field_size_limit))
    monkeypatch.setattr(records, "MAX_RECORD_LINES", max_lines)
    for repeats in (200, 400, 800):
        text, num_parsed = unit * repeats, 0
        parse(text)
        assert len(text) <= num_parsed <= 3 * len(text) + text.count("\n")


def test_json_lines_without_an_object_are_each_looked_at_once(tmp_path, monkeypatch):
    (tmp_path / "a.jsonl").write_text("nothing\n" * 3_000 + '{"text": "a"}\n')
    num_checks = 0

    def count(entry, types):
        nonlocal num_checks
        num_checks += 1
        return isinstance(entry, types)

    monkeypatch.setattr(json_rows, "isinstance", count, raising=False)
    with open_rows(tmp_path / "a.jsonl") as rows:
        assert rows.columns == ["text"] and sum(1 for _ in rows.entries) == 3_001
    assert num_checks <= 3 * 3_001


LONG_LINES = {
    "csv": ("text,id", lambda size: "x" * (size - 2) + ",1"),
    "tsv": ("text\tid", lambda size: "x" * (size - 2) + "\t1"),
    "jsonl": (None, lambda size: json.dumps({"text": "x" * (size - 23), "id": "1"})),
}


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("ending", LONG_LINES)
def test_a_line_that_is_too_long_is_one_bad_row(ending, end, tmp_path):
    """For every position of the limit in a line and its end, and for lines of several times the limit."""
    header, make = LONG_LINES[ending]
    sizes = [30, *range(LIMIT - 3, LIMIT + 4), 2 * LIMIT, 2 * LIMIT + 2 - len(end), 30, 3 * LIMIT + 2, 30]
    lines = [*([header] if header else []), *map(make, sizes)]
    (tmp_path / f"a.{ending}").write_text(end.join(lines) + end, newline="")
    with open_rows(tmp_path / f"a.{ending}", DataConfig(max_line_length=LIMIT), is_lenient=True) as rows:
        entries = list(rows.entries)
    assert [entry.line for entry in entries] == list(range(1 + bool(header), len(lines) + 1))
    assert [isinstance(entry, Row) for entry in entries] == [size + len(end) <= LIMIT for size in sizes]
    (first, *_) = (entry for entry in entries if not isinstance(entry, Row))
    assert first.reason == "line of more than 100 characters, the limit data.max_line_length" and len(first.content) <= LIMIT + 1


def test_a_quoted_record_that_is_too_long_costs_its_first_line():
    text = '"a\n' + "b\n" * 60 + '"\nc\n"d\ne"\n'
    assert parse(text, LIMIT) == [(1, None), *((line, ["b"]) for line in range(2, 62)), (62, None), (63, ["c"]), (64, ["d\ne"])]
    assert parse(text, 200)[0] == (1, ["a\n" + "b\n" * 60])


@pytest.mark.parametrize("ending, filler", [*((ending, "x" * 1_000) for ending in LONG_LINES), ("csv", "x" * 999 + "\n")])
def test_memory_does_not_grow_with_a_line_or_a_quote(ending, filler, tmp_path):
    header, make = LONG_LINES[ending]
    content = f'{header}\n{make(30)}\n"' if header else f"{make(30)}\n"
    (tmp_path / f"a.{ending}.gz").write_bytes(gzip.compress((content + filler * 8_000).encode(), compresslevel=1))
    with open_rows(tmp_path / f"a.{ending}.gz", DataConfig(max_line_length=20_000), is_lenient=True) as rows:
        tracemalloc.start()
        assert sum(1 for _ in rows.entries) >= 2
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 1_500_000


def test_blank_lines_before_a_header_cost_no_memory(tmp_path):
    (tmp_path / "a.csv").write_text("\n" * 20_000 + "text;id\na;1\n")
    tracemalloc.start()
    with open_rows(tmp_path / "a.csv", is_lenient=True) as rows:
        assert list(rows.entries) == [Row(str(tmp_path / "a.csv"), 20_002, ["a", "1"])]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 500_000


def test_the_limit_is_a_setting_of_training_and_scoring(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text,labels\none,joy\n" + "x" * 300 + ",joy\ntwo,anger\n")
    settings = [f"data.train={path}", f"data.validation={path}", "data.max_line_length=200"]
    with pytest.raises(DataError, match=r"a\.csv:3: line of more than 200 characters, the limit data\.max_line_length"):
        read_dataset(load_config(None, settings).data)
    assert len(read_dataset(load_config(None, settings[:-1]).data)["train"]) == 3
    with open_source([path, path], DataConfig(max_line_length=200), LabelSet(("anger", "joy"))) as source:
        assert [(entry.line, isinstance(entry, Row)) for entry in source.entries] == [(2, True), (3, False), (4, True)] * 2


def test_a_first_line_that_is_too_long_is_one_line_for_the_user(tmp_path):
    (tmp_path / "a.csv").write_text("text," + "c," * 500 + "\na\n")
    with (
        pytest.raises(DataError, match=r"a\.csv:1: the header cannot be read \(line of more than 100 characters"),
        open_rows(tmp_path / "a.csv", DataConfig(max_line_length=LIMIT)),
    ):
        pass


JSON_LINES = {
    '{"text": "a", "text": "b"}': "key 'text' occurs twice",
    '{"text": "a", "x": {"k": 1, "k": 1}}': "key 'k' occurs twice",
    '{"text": "a", "x": [1e999]}': "1e999 is beyond the range of a 64-bit float",
    '{"text": "a", "x": -1.5E+400}': "-1.5E+400 is beyond the range of a 64-bit float",
}


@pytest.mark.parametrize("opening, closing", [("[", "]"), ('{"k": ', "}")])
def test_json_may_be_nested_a_hundred_levels_deep(opening, closing, tmp_path):
    """Deeper objects can be read but not written: both need the interpreter's stack."""
    lines = ['{"text": "a", "x": ' + opening * depth + "1" + closing * depth + "}" for depth in (99, 100, 900)]
    (tmp_path / "a.jsonl").write_text("\n".join([*lines, '{"text": "[[[[", "x": [' + "[]," * 200 + "[]]}"]))
    with open_rows(tmp_path / "a.jsonl", is_lenient=True) as rows:
        reasons = [getattr(entry, "reason", None) for entry in rows.entries]
    assert reasons == [None, "nested deeper than 100 levels", "nested deeper than 100 levels", None]


@pytest.mark.parametrize("line", JSON_LINES)
def test_json_that_would_lose_a_value_is_a_bad_row(line, tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "a", "x": 1}\n' + line + "\n")
    with open_rows(tmp_path / "a.jsonl", is_lenient=True) as rows:
        first, second = rows.entries
    path = str(tmp_path / "a.jsonl")
    assert (first, second) == (Row(path, 1, ["a", 1]), BadRow(path, 2, JSON_LINES[line], line + "\n"))


@pytest.mark.parametrize("name, content", [("a.csv", "\r\n\n1;some words\n2;others\n"), ("a.txt", "\n\nsome words\nothers\n")])
def test_leading_blank_lines_without_a_header_are_rows(name, content, tmp_path):
    (tmp_path / name).write_text(content, newline="")
    with open_rows(tmp_path / name, is_lenient=True) as rows:
        entries = list(rows.entries)
    assert [(entry.line, getattr(entry, "reason", None)) for entry in entries] == [
        (1, "empty line"),
        (2, "empty line"),
        (3, None),
        (4, None),
    ]
    with open_rows(tmp_path / name) as rows:  # training ignores empty lines
        assert [entry.line for entry in rows.entries] == [3, 4]
