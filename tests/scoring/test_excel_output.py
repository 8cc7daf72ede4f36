"""A scored Excel file holds what a scored csv holds, whatever the cells are, and however often the job was stopped."""

import json
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from emotion.config import DataConfig
from emotion.data.reading.tables import read_table
from emotion.errors import DataError
from emotion.labels import LabelSet
from emotion.scoring import excel
from emotion.scoring.formats import format_scores
from emotion.scoring.manifest import ScoringJob
from emotion.scoring.output import format_tally
from emotion.text import format_count
from tests.data.test_excel import TEXTS, write_excel
from tests.scoring.oracle import make_texts, predict_labels, read_output, score, start_and_fail


def read(path):
    table = read_table(path)
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def test_an_excel_file_scored_into_one(tmp_path):
    filled = [text for text in TEXTS if text]
    rows = [["text", "id", "value", "when"], *([text, f"00{n}", n / 4, n] for n, text in enumerate(filled))]
    path = write_excel(tmp_path / "a.xlsx", {"data": rows})
    tally = score(path, output=tmp_path / "out.xlsx", probabilities="all")
    assert (tally.num_rows, tally.num_bad) == (len(filled), 0)
    found = read(tmp_path / "out.xlsx")
    assert [row["text"] for row in found] == filled and [row["id"] for row in found] == [f"00{n}" for n in range(len(filled))]
    assert [row["value"] for row in found] == [n / 4 for n in range(len(filled))]
    assert [row["predicted_labels"] or "" for row in found] == [predict_labels(text) for text in filled]
    assert all(0 <= row["probability_anger"] <= 1 for row in found)


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_an_excel_file_scored_into_another_format(ending, tmp_path):
    path = write_excel(tmp_path / "a.xlsx", {"data": [["text", "n"], ["one", 3], [None, 4], ["two", 0.5]]})
    tally = score(path, output=tmp_path / f"out.{ending}")
    assert (tally.num_rows, tally.num_bad) == (3, 1)
    if ending == "csv":
        rows = read_output(tmp_path / "out.csv")
        expected: list[tuple] = [("one", "3"), ("", "4"), ("two", "0.5")]
    else:
        rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
        expected = [("one", 3), (None, 4), ("two", 0.5)]
    assert [(row["text"], row["n"]) for row in rows] == expected


def test_the_same_bytes_after_a_stop_and_at_another_time(tmp_path):
    make_texts(tmp_path / "a.csv")
    score(tmp_path / "a.csv", output=tmp_path / "whole.xlsx", part_rows=10)
    start_and_fail(tmp_path / "a.csv", tmp_path / "out.xlsx", num_parts=3)
    assert not (tmp_path / "out.xlsx").exists()
    time.sleep(2.1)  # a zip archive holds times to two seconds
    score(tmp_path / "a.csv", output=tmp_path / "out.xlsx", part_rows=10)
    assert (tmp_path / "out.xlsx").read_bytes() == (tmp_path / "whole.xlsx").read_bytes()
    assert len(read(tmp_path / "out.xlsx")) == 96


def test_what_a_cell_cannot_hold_is_listed(tmp_path):
    limit = excel.MAX_CELL_CHARACTERS
    texts = ["x" * limit, "x" * (limit + 1), "🙃" * (limit // 2), "🙃" * (limit // 2 + 1), "\ud83d half", "fine"]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"note": text, "text": f"text {n}"}) for n, text in enumerate(texts)))
    tally = score(tmp_path / "a.jsonl", output=tmp_path / "out.xlsx", columns=DataConfig(text_column="text"))
    assert (tally.num_rows, tally.num_bad) == (6, 3)
    found = read(tmp_path / "out.xlsx")
    assert [row["predicted_labels"] or "" for row in found] == [predict_labels(f"text {n}") if n in (0, 2, 5) else "" for n in range(6)]
    assert [row["note"] for row in found] == [texts[0], texts[0], texts[2], texts[2], "? half", "fine"]
    reasons = (tmp_path / "out.xlsx.quarantine.tsv").read_text()
    assert f"column 'note' has {limit + 1:,} characters, and a cell of .xlsx holds {limit:,}" in reasons
    assert "column 'note' is not valid UTF-8, and .xlsx cannot hold it" in reasons


def test_values_of_parquet_in_cells(tmp_path):
    columns = {
        "text": ["one", "two"],
        "big": pa.array([2**53 + 1, 7], pa.int64()),
        "nan": pa.array([float("nan"), 1.5]),
        "list": [["a", "b"], []],
        "flag": [True, None],
        "when": pa.array([0, 86_400_000], pa.timestamp("ms")),
    }
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    score(tmp_path / "a.parquet", output=tmp_path / "out.xlsx")
    first, second = read(tmp_path / "out.xlsx")
    assert (first["big"], first["nan"], first["list"], first["flag"]) == ("9007199254740993", None, '["a", "b"]', True)
    assert (second["big"], second["nan"], second["list"], second["flag"]) == ("7", 1.5, "[]", None)
    assert second["when"] == "1970-01-02 00:00:00"


def test_rows_beyond_the_limit_of_a_sheet_go_to_another(tmp_path, monkeypatch):
    monkeypatch.setattr(excel, "MAX_ROWS", 41)
    make_texts(tmp_path / "a.csv")
    score(tmp_path / "a.csv", output=tmp_path / "out.xlsx", part_rows=10)
    rows = [read_table(tmp_path / "out.xlsx", DataConfig(sheet=f"scored {number}")) for number in (1, 2, 3)]
    assert [len(table.rows) for table in rows] == [40, 40, 16] and len({tuple(table.columns) for table in rows}) == 1
    assert [row[1] for table in rows for row in table.rows] == [*map(str, range(95)), "empty"]


def test_more_columns_than_a_sheet_has_are_refused_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(excel, "MAX_COLUMNS", 3)
    for header, line in (("text,id", "a,1"), ("text,id,more", "a,1,2")):
        (tmp_path / f"{len(line)}.csv").write_text(f"{header}\n{line}\n")
    score(tmp_path / "3.csv", output=tmp_path / "3.xlsx")
    with pytest.raises(DataError, match=r"--output .*5\.xlsx: has 4 columns, and a sheet 3 at most; write \.csv or \.parquet"):
        score(tmp_path / "5.csv", output=tmp_path / "5.xlsx")


def test_the_package_is_named_if_it_is_missing(tmp_path, monkeypatch):
    make_texts(tmp_path / "a.csv", 3)
    monkeypatch.setitem(__import__("sys").modules, "xlsxwriter", None)
    with pytest.raises(DataError, match=r"out\.xlsx: Excel files need XlsxWriter: pip install -r requirements-excel\.txt, or write \.csv"):
        score(tmp_path / "a.csv", output=tmp_path / "out.xlsx")
    assert not list((tmp_path / ".out.xlsx.parts").glob("part-*"))


@pytest.mark.parametrize("name", ["out.xls", "out.xlsx.gz", "out.zip"])
def test_other_archives_and_books_are_not_written(name, tmp_path):
    make_texts(tmp_path / "a.csv", 3)
    with pytest.raises(DataError, match=r"unknown format; allowed are \.csv, \.jsonl, \.parquet, \.xlsx"):
        score(tmp_path / "a.csv", output=tmp_path / name)


@pytest.mark.parametrize("ending", ["csv", "xlsx"])
def test_labels_whose_names_hold_the_separator_stay_apart(ending, tmp_path):
    output, predicted = tmp_path / f"out.{ending}", [True, True]
    assert format_scores(None, predicted, "none", output, LabelSet(("a", "b"))) == ["a|b"]
    assert format_scores(None, predicted, "none", output, LabelSet(("a|b", "c"))) == ['["a|b", "c"]']
    assert format_scores(None, [False, False], "none", output, LabelSet(("a|b", "c"))) == ["[]"]


def test_nested_texts_are_scored_and_other_columns_pass(tmp_path):
    rows = [{"post": {"text": f"text {number}"}, "n": number} for number in range(3)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for ending in ("jsonl", "parquet"):
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
        source = tmp_path / f"a.{ending}"
        score(source, output=tmp_path / f"out.{ending}", columns=DataConfig(text_column="post.text"))
        if ending == "jsonl":
            found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
        else:
            found = pq.read_table(tmp_path / "out.parquet").to_pylist()
        assert [list(row) for row in found] == [["post", "n", "predicted_labels"]] * 3
        assert ["|".join(row["predicted_labels"]) for row in found] == [predict_labels(f"text {number}") for number in range(3)]


def test_what_was_detected_in_each_file_is_said(tmp_path):
    messages = []
    (tmp_path / "a.csv").write_text("text;id\none;1\n")
    (tmp_path / "b.csv").write_text("text|id\ntwo|2\n")
    score(tmp_path / "a.csv", tmp_path / "b.csv", output=tmp_path / "out.csv", log=messages.append)
    for name, separator in (("a.csv", ";"), ("b.csv", "|")):
        assert f"data: {tmp_path / name}: cells are separated by {separator!r}, as detected; data.separator sets another" in messages


def test_the_summary_says_that_no_row_could_be_scored(tmp_path):
    job = ScoringJob((tmp_path / "a.csv",), tmp_path / "out.csv", DataConfig())
    for content, num_scored, ending in (
        ("text,id\n,1\n,2\n", 0, f"no row could be scored; {job.quarantine} has the reasons"),
        ("text,id\n,1\na,2\n", 1, f"1 row could not be scored, listed in {job.quarantine}"),
    ):
        (tmp_path / "a.csv").write_text(content)
        job.output.unlink(missing_ok=True)
        tally = score(tmp_path / "a.csv", output=job.output)
        assert tally.num_scored == num_scored and format_tally(tally, job, 1.0)[-1].endswith(f"; {ending}")


def test_the_summary_of_stdout_names_no_file_that_is_not_kept(tmp_path):
    job = ScoringJob((tmp_path / "a.csv",), tmp_path / "stdout.csv", DataConfig())
    for content, ending in (
        ("text,label\na,joy\n,joy\n", "1 row could not be scored, --output FILE.csv lists the reasons"),
        ("text,label\n,joy\n", "no row could be scored; --output FILE.csv lists the reasons"),
    ):
        (tmp_path / "a.csv").write_text(content)
        job.output.unlink(missing_ok=True)
        tally = score(tmp_path / "a.csv", output=job.output)
        *others, last = format_tally(tally, job, 2.0, is_stdout=True)
        assert last == f"stdout: {format_count(tally.num_rows, 'row')} in 2.0 s ({tally.num_rows / 2:.0f} rows/s); {ending}"
        assert str(tmp_path) not in "".join(others)
        assert tally.scores is None or others[0].endswith("; --output FILE.csv writes all metrics")
