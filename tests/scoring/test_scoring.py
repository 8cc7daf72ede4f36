"""Scored files have every row in order, for any format, number of processes and interruptions."""

import csv
import functools
import gzip
import io
import json
import os
import sys
import time

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from tqdm import tqdm

from emotion.config import DataConfig
from emotion.data.reading import records
from emotion.errors import ConfigError, DataError
from emotion.evaluation.metrics import score_predictions
from emotion.scoring.formats import format_header, format_part
from tests.conftest import ROOT, SAMPLE, run_script, start_script
from tests.scoring.oracle import NAMES, Oracle, StopError, hash_text, make_texts, predict_labels, read_output, score

LONG = "x" * 5_000_000


LINES = ("y" * 999 + "\n") * 5_000


EMPTY = None
"""A row that cannot be scored."""


HOSTILE = {
    # csv: quotes
    "quoted comma": ("a.csv", b'id,text\n1,"a, b"\n2,c\n', ["a, b", "c"]),
    "doubled quote": ("a.csv", b'id,text\n1,"a ""b"" c"\n2,c\n', ['a "b" c', "c"]),
    "quoted line break": ("a.csv", b'id,text\n1,"a\nb"\n2,c\n', ["a\nb", "c"]),
    "quoted CRLF": ("a.csv", b'id,text\r\n1,"a\r\nb"\r\n2,c\r\n', ["a\r\nb", "c"]),
    "quote in the middle": ("a.csv", b'id,text\n1,a "b" c\n2,c\n', ['a "b" c', "c"]),
    "one quote in the middle": ("a.csv", b'id,text\n1,5" pipe\n2,c\n3,d\n', ['5" pipe', "c", "d"]),
    "open quote": ("a.csv", b'id,text\n1,"a\n2,c\n3,d\n', [EMPTY, "c", "d"]),
    "text after a closing quote": ("a.csv", b'id,text\n1,"a"b\n2,c\n', [EMPTY, "c"]),
    "two open quotes": ("a.csv", b'id,text\n1,"a\n2,c\n3,"d\n4,e\n', [EMPTY, "c", EMPTY, "e"]),
    "open quote on the last line": ("a.csv", b'id,text\n1,a\n2,"c', ["a", EMPTY]),
    "only a quote": ("a.csv", b'id,text\n1,"\n2,c\n', [EMPTY, "c"]),
    "empty quotes": ("a.csv", b'id,text\n1,""\n2,c\n', [EMPTY, "c"]),
    "quote far away": ("a.csv", b'id,text\n1,"a\n' + b"".join(b"%d,b%d\n" % (i, i) for i in range(2, 900)) + b'900,"z\n',
                       [EMPTY, *(f"b{i}" for i in range(2, 900)), EMPTY]),
    # csv: columns
    "too few columns": ("a.csv", b"id,text\n1\n2,c\n", [EMPTY, "c"]),
    "too many columns": ("a.csv", b"id,text\n1,a,b\n2,c\n", [EMPTY, "c"]),
    "comma at the end": ("a.csv", b"id,text\n1,a,\n2,c\n", [EMPTY, "c"]),
    "semicolons": ("a.csv", b"id;text\n1;a, b\n2;c\n", ["a, b", "c"]),
    "tabs in csv": ("a.csv", b"id\ttext\n1\ta, b\n2\tc\n", ["a, b", "c"]),
    "no header": ("a.csv", b"1,some longer words here\n2,and here some more\n", ["some longer words here", "and here some more"]),
    "one column": ("a.csv", b"text\na\nb\n", ["a", "b"]),
    "one column, an empty line": ("a.csv", b"text\na\n\nb\n", ["a", EMPTY, "b"]),
    "empty lines before a header": ("a.csv", b"\n\r\nid;text\n1;a\n", ["a"]),
    "empty lines before the first row": ("a.csv", b"\n\n1;some words\n2;others\n", [EMPTY, EMPTY, "1;some words", "2;others"]),
    "empty lines between rows": ("a.csv", b"id,text\n1,a\n\n2,c\n", ["a", EMPTY, "c"]),
    "column named twice": ("a.csv", b"text,text\na,b\n", "are not unique"),
    "column that scoring adds": ("a.csv", b"text,predicted_labels\na,b\n", "has a column 'predicted_labels' already"),
    "many columns": ("a.csv", b"text," + b",".join(b"c%d" % i for i in range(2_000)) + b"\n" + b"a" + b",1" * 2_000 + b"\n", ["a"]),
    # csv: bytes
    "byte-order mark": ("a.csv", b"\xef\xbb\xbftext,id\na,1\nb,2\n", ["a", "b"]),
    "CRLF": ("a.csv", b"text,id\r\na,1\r\nb,2\r\n", ["a", "b"]),
    "CR alone": ("a.csv", b"text,id\ra,1\rb,2\r", ["a", "b"]),
    "mixed line ends": ("a.csv", b"text,id\r\na,1\nb,2\r\n", ["a", "b"]),
    "no end of line at the end": ("a.csv", b"text,id\na,1\nb,2", ["a", "b"]),
    "NUL in a text": ("a.csv", b"text,id\na\x00b,1\nb,2\n", ["a\0b", "b"]),
    "NUL beside a text": ("a.csv", b"text,id\na,\x00\nb,2\n", ["a", "b"]),
    "nothing but NULs in a line": ("a.csv", b"text,id\na,1\n\x00\x00\nb,2\n", ["a", EMPTY, "b"]),
    "latin-1 text": ("a.csv", b"text,id\ncaf\xe9,1\nb,2\n", [EMPTY, "b"]),
    "latin-1 beside a text": ("a.csv", b"text,name\na,Ren\xe9\nb,2\n", ["a", "b"]),
    "UTF-16": ("a.csv", "text,id\na,1\n".encode("utf-16"), ["a"]),
    "cut character at the end": ("a.csv", b"text,id\na,1\nb\xf0\x9f,2\n", ["a", EMPTY]),
    "line separators of Unicode": ("a.csv", "text,id\na\u2028b\x85c\x0bd,1\nb,2\n".encode(), ["a\u2028b\x85c\x0bd", "b"]),
    "emoji, flags, families": ("a.csv", "text,id\n👩‍👩‍👧‍👦🇩🇪,1\nb,2\n".encode(), ["👩‍👩‍👧‍👦🇩🇪", "b"]),
    "right to left": ("a.csv", "text,id\nשלום \u202eabc,1\nb,2\n".encode(), ["שלום \u202eabc", "b"]),
    "5 MB in a cell": ("a.csv", f"text,id\n{LONG},1\nb,2\n".encode(), [LONG, "b"]),
    "5 MB beside a text": ("a.csv", f"text,id\na,{LONG}\nb,2\n".encode(), ["a", "b"]),
    "5 MB in quotes over lines": ("a.csv", f'text,id\n"{LINES}",1\nb,2\n'.encode(), [LINES, "b"]),
    # csv: values that other readers change
    "values that other readers take as missing": ("a.csv", b"text,id\nNA,1\nnull,2\nNone,3\nnan,4\n", ["NA", "null", "None", "nan"]),
    "numbers and formulas": ("a.csv", b"text,id\n0012,1\n1e5,2\n=1+1,3\n", ["0012", "1e5", "=1+1"]),
    "blanks only": ("a.csv", b"text,id\n   ,1\n\t,2\nb,3\n", [EMPTY, EMPTY, "b"]),
    "blanks around": ("a.csv", b"text,id\n  a ,1\nb,2\n", ["  a ", "b"]),
    "every row bad": ("a.csv", b"text,id\n,1\n,2\n", [EMPTY, EMPTY]),
    "repeats": ("a.csv", b"text,id\na,1\na,2\nb,3\na,4\n", ["a", "a", "b", "a"]),
    # whole files
    "nothing": ("a.csv", b"", "has no rows"),
    "only a header": ("a.csv", b"text,id\n", "has no rows"),
    "only line ends": ("a.csv", b"\n\n\n", "has no rows"),
    "another ending": ("a.docx", b"PK", "unknown format '.docx'"),
    "no ending": ("a", b"text\na\n", "unknown format"),
    "column that does not exist": ("b.csv", b"body,id\na,1\n", "'nothing' is not among its columns"),
    # compressed
    "gzip": ("a.csv.gz", gzip.compress(b"text,id\na,1\nb,2\n"), ["a", "b"]),
    "two gzip members": ("a.csv.gz", gzip.compress(b"text,id\na,1\n") + gzip.compress(b"b,2\n"), ["a", "b"]),
    "torn gzip": ("a.csv.gz", gzip.compress(b"text,id\n" + b"".join(b"a%d,1\n" % i for i in range(50_000)))[:-2_000], "cannot be read"),
    "not gzip": ("a.csv.gz", b"text,id\na,1\n", "cannot be read"),
    "zstd": ("a.csv.zst", pa.compress(b"text,id\na,1\nb,2\n", "zstd", asbytes=True), ["a", "b"]),
    "not zstd": ("a.csv.zst", b"text,id\na,1\n", "cannot be read"),
    # tsv and plain lines
    "quotes in tsv": ("a.tsv", b'text\tid\n"a\t1\nb"\t2\n', ['"a', 'b"']),
    "too many tabs": ("a.tsv", b"text\tid\na\tb\t1\nc\t2\n", [EMPTY, "c"]),
    "plain lines after an empty one": ("a.txt", b"\nthis is one\nthis, is two\n", [EMPTY, "this is one", "this, is two"]),
    "plain lines": ("a.txt", b"this is one\n\nthis, is two\n", ["this is one", EMPTY, "this, is two"]),
    # jsonl
    "json": ("a.jsonl", b'{"text": "a", "n": 1}\n{"text": "b", "n": null}\n', ["a", "b"]),
    "json, key missing": ("a.jsonl", b'{"text": "a", "n": 1}\n{"text": "b"}\n{"n": 2}\n', ["a", "b", EMPTY]),
    "json, keys in another order": ("a.jsonl", b'{"text": "a", "n": 1}\n{"n": 2, "text": "b"}\n', ["a", "b"]),
    "json, broken line": ("a.jsonl", b'{"text": "a"}\n{"text": "b"\n{"text": "c"}\n', ["a", EMPTY, "c"]),
    "json, empty line": ("a.jsonl", b'{"text": "a"}\n\n{"text": "c"}\n', ["a", EMPTY, "c"]),
    "json, list": ("a.jsonl", b'{"text": "a"}\n["b"]\n{"text": "c"}\n', ["a", EMPTY, "c"]),
    "json, text is a number": ("a.jsonl", b'{"text": "a"}\n{"text": 5}\n', ["a", EMPTY]),
    "json, text is null": ("a.jsonl", b'{"text": "a"}\n{"text": null}\n', ["a", EMPTY]),
    "json, half a character": ("a.jsonl", b'{"text": "a"}\n{"text": "\\ud83d"}\n', ["a", EMPTY]),
    "json, half a character beside": ("a.jsonl", b'{"text": "a", "n": "\\ud83d"}\n', ["a"]),
    "json, nested": ("a.jsonl", b'{"text": "a", "user": {"name": "x", "tags": [1]}}\n', ["a"]),
    "json, deeply nested": ("a.jsonl", b'{"text": "a", "n": 1}\n' + b"[" * 100_000 + b"\n", ["a", EMPTY]),
    "json, latin-1": ("a.jsonl", b'{"text": "caf\xe9"}\n{"text": "b"}\n', [EMPTY, "b"]),
    "json, key twice": ("a.jsonl", b'{"text": "a"}\n{"text": "b", "text": "c"}\n', ["a", EMPTY]),
    "json, number beyond a double": ("a.jsonl", b'{"text": "a", "n": 1}\n{"text": "b", "n": 1e999}\n', ["a", EMPTY]),
    "json, NaN": ("a.jsonl", b'{"text": "a", "n": NaN}\n', ["a"]),
    # parquet
    "not parquet": ("a.parquet", b"text,id\na,1\n", "is not a valid parquet file"),
    "empty parquet": ("a.parquet", b"", "is not a valid parquet file"),
}  # fmt: skip


UNWRITABLE = {("latin-1 beside a text", "parquet"), ("json, half a character beside", "csv"), ("json, half a character beside", "parquet")}
"""Cases and outputs that cannot hold the first row as it was read."""


def test_hostile_files_are_collected():
    assert len(HOSTILE) >= 60 and sum(isinstance(expected, str) for _, _, expected in HOSTILE.values()) >= 8


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("case", HOSTILE)
def test_every_row_of_a_hostile_file_is_in_the_output(case, ending, tmp_path):
    name, content, expected = HOSTILE[case]
    path, output = tmp_path / name, tmp_path / f"out.{ending}"
    path.write_bytes(content)
    columns = DataConfig(text_column="nothing") if name == "b.csv" else None
    if isinstance(expected, str):
        with pytest.raises(DataError, match=expected) as stopped:
            score(path, output=output, columns=columns)
        assert "\n" not in str(stopped.value) and str(tmp_path) in str(stopped.value) and not output.exists()
        return
    if (case, ending) in UNWRITABLE:
        expected = [EMPTY, *expected[1:]]
    tally = score(path, output=output, part_rows=2 if len(content) < 1_000 else 500)
    bad = [text is EMPTY for text in expected]
    assert tally.num_rows == len(expected) and tally.num_bad == sum(bad)
    if ending == "csv":
        found = [row["predicted_labels"] for row in read_output(output)]
    elif ending == "jsonl":
        records = [json.loads(line) for line in output.read_text(errors="surrogateescape").split("\n")[:-1]]
        found = ["|".join(record["predicted_labels"] or []) for record in records]
        assert [record["predicted_labels"] is None for record in records] == bad
    else:
        labels = pq.read_table(output).column("predicted_labels").to_pylist()
        assert [value is None for value in labels] == bad
        found = ["|".join(value or []) for value in labels]
    assert found == ["" if text is EMPTY else predict_labels(text) for text in expected]
    quarantine = output.with_name(output.name + ".quarantine.tsv")
    assert (len(list(csv.reader(quarantine.open(newline=""), delimiter="\t"))) == sum(bad) + 1) if any(bad) else not quarantine.exists()
    assert {p.name for p in tmp_path.iterdir()} <= {name, output.name, quarantine.name}  # all parts are removed


def test_other_columns_are_copied_unchanged_including_bytes_that_are_not_utf_8(tmp_path):
    path, output = tmp_path / "a.csv", tmp_path / "out.csv"
    path.write_bytes(b'id,text,note\n007,"a, b",Ren\xe9\n1e5,c,"x ""y"""\n')
    score(path, output=output)
    copied = [line.rpartition(b",")[0] for line in output.read_bytes().splitlines()]
    assert copied == path.read_bytes().splitlines()


def test_parquet_columns_keep_their_types(tmp_path):
    frame = pd.DataFrame({"text": ["a", "b"], "when": pd.to_datetime(["2020-01-01", "2021-01-01"]), "n": [1, 2], "x": [[1.5], []]})
    frame.to_parquet(tmp_path / "a.parquet", index=False)
    score(tmp_path / "a.parquet", output=tmp_path / "out.parquet", probabilities="all")
    before, after = (pq.read_table(tmp_path / name) for name in ("a.parquet", "out.parquet"))
    assert after.select(before.column_names).cast(before.schema) == before
    assert after.column("probability_joy").to_pylist() == [round(hash_text(text)[1], 4) for text in "ab"]


def test_top_k_and_all_probabilities(tmp_path):
    (tmp_path / "a.csv").write_text("text\nhello\n")
    score(tmp_path / "a.csv", output=tmp_path / "top.csv", probabilities="2")
    (row,) = read_output(tmp_path / "top.csv")
    order = np.argsort(hash_text("hello"))[::-1]
    assert [row["top_1"], row["top_2"]] == [NAMES[i] for i in order[:2]]
    assert float(row["top_1_probability"]) == round(max(hash_text("hello")), 4)


def test_repeated_texts_are_predicted_once(tmp_path):
    (tmp_path / "a.csv").write_text("text\n" + "same\n" * 50 + "other\n")
    oracle = Oracle()
    tally = score(tmp_path / "a.csv", output=tmp_path / "out.csv", predictor=oracle)
    assert sorted(oracle.texts) == ["other", "same"] and tally.num_repeats == 49


def test_scores_against_gold_labels_equal_scikit_learn(tmp_path):
    texts = [f"text {i}" for i in range(40)]
    gold = [["joy"] if i % 3 else ["anger", "fear"] for i in range(40)]
    lines = ["text,labels", *(f"{text},{'|'.join(names)}" for text, names in zip(texts, gold, strict=True))]
    (tmp_path / "a.csv").write_text("\n".join(lines) + "\nno gold,sadness\n")
    tally = score(tmp_path / "a.csv", output=tmp_path / "out.csv", columns=DataConfig(label_column="labels"), part_rows=7)
    expected = score_predictions(Oracle.label_set.encode(gold), np.array([hash_text(text) for text in texts]) >= 0.5)
    found = json.loads((tmp_path / "out.csv.metrics.json").read_text())
    assert tally.num_judged == found.pop("num_rows") == 40 and len(found) == 7
    assert found == pytest.approx({name: expected[name] for name in found})


def test_a_column_of_numbers_is_not_used_as_gold_labels(tmp_path):
    (tmp_path / "a.csv").write_text("id,text\n1,a\n2,b\n0,c\n")
    assert score(tmp_path / "a.csv", output=tmp_path / "out.csv").scores is None


def test_several_files_are_scored_into_one_and_other_columns_are_refused(tmp_path):
    for name, text in (("a.csv", "text,id\na,1\n"), ("b.jsonl", '{"text": "b", "id": 2}\n'), ("c.csv", "text,other\nc,3\n")):
        (tmp_path / name).write_text(text)
    score(tmp_path / "a.csv", tmp_path / "b.jsonl", output=tmp_path / "out.csv")
    assert [(row["text"], row["id"]) for row in read_output(tmp_path / "out.csv")] == [("a", "1"), ("b", "2")]
    with pytest.raises(DataError, match=r"c.csv: has the columns \['text', 'other'\]"):
        score(tmp_path / "a.csv", tmp_path / "c.csv", output=tmp_path / "out2.csv")


def test_a_later_file_without_rows_adds_none(tmp_path):
    for name, content in {"a": '{"text": "a"}\n', "b": "", "c": "no JSON\n", "d": '{"text": "d"}\n'}.items():
        (tmp_path / f"{name}.jsonl").write_text(content)
    messages = []
    tally = score(*(tmp_path / f"{name}.jsonl" for name in "abcd"), output=tmp_path / "out.jsonl", log=messages.append)
    assert (tally.num_rows, tally.num_bad) == (3, 1)
    assert [json.loads(line)["text"] for line in (tmp_path / "out.jsonl").read_text().splitlines()] == ["a", None, "d"]
    assert f"data: {tmp_path / 'b.jsonl'}: has no rows" in messages


def test_a_text_in_another_encoding_names_the_setting(tmp_path):
    """Too few lines to detect it."""
    (tmp_path / "a.csv").write_bytes("text,id\ncafé,1\nb,2\n".encode("latin-1"))
    assert score(tmp_path / "a.csv", output=tmp_path / "out.csv").num_bad == 1
    assert "not valid UTF-8; for another encoding, set data.encoding" in (tmp_path / "out.csv.quarantine.tsv").read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux only")
def test_bad_rows_of_a_file_whose_name_is_not_utf_8_are_listed(tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9.csv")
    path.write_text("text,x\na,1\n,2\n")
    assert score(path, output=tmp_path / "out.csv").num_bad == 1
    assert (tmp_path / "out.csv.quarantine.tsv").read_text().splitlines()[1].startswith(str(tmp_path / "caf\\udce9.csv\t3\tempty text"))


def test_a_quote_that_is_never_closed_costs_its_own_row(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "MAX_RECORD_LINES", 10)
    (tmp_path / "a.csv").write_text('text,id\n"a,1\n' + "".join(f"b{i},{i}\n" for i in range(100)))
    tally = score(tmp_path / "a.csv", output=tmp_path / "out.csv")
    assert (tally.num_rows, tally.num_bad) == (101, 1)


def test_resumed_without_a_bar(tmp_path, monkeypatch):
    """As with `--quiet`: a bar that is turned off has fewer attributes."""
    make_texts(tmp_path / "a.csv")
    monkeypatch.setattr("emotion.scoring.scoring.tqdm", functools.partial(tqdm, disable=True))
    oracle = Oracle()
    monkeypatch.setattr(oracle, "predict", lambda texts: Oracle.predict(oracle, texts) if len(oracle.texts) < 40 else 1 / 0, raising=False)
    with pytest.raises(ZeroDivisionError):
        score(tmp_path / "a.csv", output=tmp_path / "out.csv", predictor=oracle, part_rows=10)
    assert score(tmp_path / "a.csv", output=tmp_path / "out.csv", part_rows=10).num_rows == 96


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "jsonl.zst", "parquet"])
def test_stopped_and_resumed_is_byte_identical(tmp_path, monkeypatch, ending):
    make_texts(tmp_path / "a.csv")
    score(tmp_path / "a.csv", output=tmp_path / f"whole.{ending}", part_rows=10)
    output, oracle = tmp_path / f"cut.{ending}", Oracle()

    def stop(texts):
        if len(oracle.texts) > 40:
            raise StopError
        return Oracle.predict(oracle, texts)

    monkeypatch.setattr(oracle, "predict", stop, raising=False)
    with pytest.raises(StopError):
        score(tmp_path / "a.csv", output=output, predictor=oracle, part_rows=10)
    assert not output.exists() and len(list((tmp_path / f".cut.{ending}.parts").glob("*.json"))) == 6
    second = Oracle()
    score(tmp_path / "a.csv", output=output, predictor=second, part_rows=10)
    assert len(second.texts) == 95 - 50 and output.read_bytes() == (tmp_path / f"whole.{ending}").read_bytes()
    resumed, whole = (tmp_path / f"{name}.{ending}.quarantine.tsv" for name in ("cut", "whole"))
    assert resumed.read_bytes() == whole.read_bytes()


def test_a_name_without_room_for_the_files_beside_it_is_refused_before_scoring(tmp_path):
    make_texts(tmp_path / "a.csv", 5)
    oracle = Oracle()
    with pytest.raises(ConfigError, match="its name is too long; at most 240 bytes"):
        score(tmp_path / "a.csv", output=tmp_path / f"{'x' * 237}.csv", predictor=oracle)
    assert not oracle.texts and list(tmp_path.iterdir()) == [tmp_path / "a.csv"]
    assert score(tmp_path / "a.csv", output=tmp_path / f"{'x' * 236}.csv").num_bad == 1


def test_an_error_of_the_output_does_not_blame_the_input(tmp_path, monkeypatch):
    make_texts(tmp_path / "a.csv", 5)
    monkeypatch.setattr("emotion.scoring.scoring.write_durably", lambda *_: (_ for _ in ()).throw(OSError(5, "Input/output error")))
    with pytest.raises(OSError, match="Input/output error"):
        score(tmp_path / "a.csv", output=tmp_path / "out.csv")


def test_numbers_that_json_lacks_are_counted(tmp_path):
    columns = {"text": ["a", "b", "c"], "x": [1.0, float("nan"), float("-inf")], "y": [[1.0], [float("inf"), 2.0], [2.0]]}
    columns["z"] = pa.array([[("k", 1)], [], None], pa.map_(pa.string(), pa.int64()))  # its pairs are tuples, which JSON has as lists
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    tally = score(tmp_path / "a.parquet", output=tmp_path / "out.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert tally.num_non_finite == 3 and tally.num_bad == 0
    pytest.importorskip("xlsxwriter", reason="XlsxWriter is not installed: pip install -r requirements-excel.txt")
    assert score(tmp_path / "a.parquet", output=tmp_path / "out.xlsx").num_non_finite == 3
    assert [(row["x"], row["y"]) for row in rows] == [(1.0, [1.0]), (None, [None, 2.0]), (None, [2.0])]


CELL_CHARACTERS = [*map(chr, range(1, 32)), "\x7f", "\x85", "\u2028", '"', ",", "'", ";", "\t", "\r\n", "\n\r", "a", "ä", "🙃", " "]
"""Control characters, quotes, delimiters, line ends and letters; not NUL, which no reader of csv agrees on."""


@pytest.mark.parametrize("seed", range(20))
def test_random_cells_come_back_from_every_reader_of_csv(seed, tmp_path):
    """Python's csv module, Arrow and DuckDB read the same number of rows and the same cells as were written."""
    generator = np.random.default_rng(seed)
    cells = [["".join(generator.choice(CELL_CHARACTERS, size=generator.integers(1, 9))) for _ in range(3)] for _ in range(60)]
    path = tmp_path / "out.csv"
    path.write_bytes(format_header(["a", "b", "c"], path) + format_part(["a", "b", "c"], cells, path))
    with path.open(newline="", encoding="utf-8") as stream:
        assert list(csv.reader(stream)) == [["a", "b", "c"], *cells]
    parse = pa_csv.ParseOptions(newlines_in_values=True)
    convert = pa_csv.ConvertOptions(column_types=dict.fromkeys("abc", pa.string()), strings_can_be_null=False)
    table = pa_csv.read_csv(path, parse_options=parse, convert_options=convert)
    assert [list(row.values()) for row in table.to_pylist()] == cells
    relation = duckdb.read_csv(str(path), header=True, all_varchar=True, delimiter=",", quotechar='"', escapechar='"')
    assert [list(row) for row in relation.fetchall()] == cells


def test_a_carriage_return_in_a_cell_stays_in_its_row(tmp_path):
    (tmp_path / "a.csv").write_bytes(b'id,text\n1,"good\rday"\n2,c\n')
    score(tmp_path / "a.csv", output=tmp_path / "out.csv")
    assert [row["text"] for row in read_output(tmp_path / "out.csv")] == ["good\rday", "c"]
    assert b'"good\rday"' in (tmp_path / "out.csv").read_bytes()


def test_excel_safe_cells_are_no_formulas(tmp_path):
    texts = ["=1+1", "+49 30", "-5 stars", "@home", "a=b", "'quoted"]
    (tmp_path / "a.csv").write_text(
        "text,=head\n" + "".join(f'"{text}",{number}\n' for number, text in enumerate(texts)) + '"\tx",\n"\ry",\n'
    )
    score(tmp_path / "a.csv", output=tmp_path / "out.csv", is_excel_safe=True, probabilities="all")
    rows = read_output(tmp_path / "out.csv")
    assert [row["text"] for row in rows] == ["'=1+1", "'+49 30", "'-5 stars", "'@home", "a=b", "'quoted", "'\tx", "'\ry"]
    assert [row["'=head"] for row in rows[:2]] == ["0", "1"] and 0 <= float(rows[0]["probability_joy"]) <= 1
    score(tmp_path / "a.csv", output=tmp_path / "plain.csv")
    assert [row["text"] for row in read_output(tmp_path / "plain.csv")] == [*texts, "\tx", "\ry"]


def score_arguments(model, path, output, *options):
    return ["evaluate.py", "--model", str(model), "--input", str(path), "--output", str(output), "--part-rows", "60", *options]


@pytest.fixture(scope="module")
def many_texts(tmp_path_factory):
    path = tmp_path_factory.mktemp("texts") / "texts.csv"
    rows = pd.concat([pd.read_csv(SAMPLE / f"{split}.csv", keep_default_na=False) for split in ("train", "validation", "test")])
    rows[["id", "text"]].to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def scored(tiny_run, many_texts):
    output = many_texts.with_name("whole.csv")
    result = run_script(*score_arguments(tiny_run, many_texts, output, "--probabilities", "all"))
    assert result.returncode == 0, result.stderr
    assert "2,000 rows in" in result.stderr and "every row was scored" in result.stderr and "text from column 'text'" in result.stderr
    return output


@pytest.mark.slow
def test_scored_file_equals_the_predictor(tiny_run, scored, many_texts):
    from emotion.inference.predictor import Predictor

    predictor = Predictor.load(str(tiny_run))
    frame, texts = pd.read_csv(scored, keep_default_na=False), pd.read_csv(many_texts, keep_default_na=False)
    assert frame[["id", "text"]].equals(texts)
    probabilities = predictor.predict(texts.text.tolist())
    np.testing.assert_allclose(frame.iloc[:, 3:].to_numpy(), probabilities, atol=1e-4)
    predictions = predictor.rule.decide(probabilities)
    assert frame.predicted_labels.tolist() == ["|".join(predictor.label_set.decode(row)) for row in predictions]


@pytest.mark.slow
def test_killed_three_times_is_byte_identical(tiny_run, scored, many_texts, tmp_path):
    output, parts = tmp_path / "cut.csv", tmp_path / ".cut.csv.parts"
    arguments = score_arguments(tiny_run, many_texts, output, "--probabilities", "all")
    num_killed = 0
    for num_done in (3, 9, 21):
        script, deadline = start_script(*arguments), time.time() + 60
        while script.poll() is None and len(list(parts.glob("part-*.json"))) < num_done and time.time() < deadline:
            time.sleep(0.001)
        script.send_signal(9)
        num_killed += script.wait(60) == -9
    assert num_killed == 3 and not output.exists()
    last = run_script(*arguments)
    assert last.returncode == 0 and "resuming; " in last.stderr
    assert output.read_bytes() == scored.read_bytes() and not parts.exists()


@pytest.mark.slow
def test_two_launched_processes_give_the_same_bytes(tiny_run, scored, many_texts, tmp_path):
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]  # standalone: on a free port
    result = run_script(*launch, *score_arguments(tiny_run, many_texts, tmp_path / "two.csv", "--probabilities", "all"), warm=True)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "two.csv").read_bytes() == scored.read_bytes()


@pytest.mark.slow
def test_stdin_to_stdout(tiny_run, scored):
    arguments = ["evaluate.py", "--model", str(tiny_run), "--input", "-", "--output", "-", "--probabilities", "all"]
    head = pd.read_csv(scored, keep_default_na=False).head(2)
    result = run_script(*arguments, stdin=head[["id", "text"]].to_csv(index=False))
    assert result.returncode == 0, result.stderr
    found = pd.read_csv(io.StringIO(result.stdout), keep_default_na=False)
    pd.testing.assert_frame_equal(found, head, atol=1e-4)


MISTAKES = {
    "no such file": (["--input", "none.csv", "--output", "o.csv"], "--input none.csv: no such file"),
    "no input": (["--output", "o.csv"], "give the files to score with --input"),
    "format": (["--input", "{texts}", "--output", "o.xls"], "allowed are .csv, .jsonl, .parquet, .xlsx"),
    "probabilities": (["--input", "{texts}", "--output", "o.csv", "--probabilities", "top"], "must be none, all or a number"),
    "probabilities of a report": (["--probabilities", "all"], "is for scored files"),
    "more labels than there are": (["--input", "{texts}", "--output", "o.csv", "--probabilities", "99"], "at most 28"),
    "stdin twice": (["--input", "-", "-", "--output", "o.csv"], "--input -: stdin can be read only once"),
    "Excel-safe parquet": (["--input", "{texts}", "--output", "o.parquet", "--excel-safe"], "--excel-safe: is for scored csv files"),
    "part rows": (["--input", "{texts}", "--output", "o.csv", "--part-rows", "0"], "must be at least 1"),
    "column": (["--input", "{texts}", "--output", "o.csv", "data.text_column=body"], "'body' is not among its columns"),
    "folder that does not exist": (["--input", "{texts}", "--output", "/proc/none/o.csv"], "cannot be written"),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_line_and_status_2(case, tiny_run, many_texts, tmp_path):
    arguments, message = MISTAKES[case]
    result = run_script(
        str(ROOT / "evaluate.py"), "--model", str(tiny_run), *(argument.format(texts=many_texts) for argument in arguments), folder=tmp_path
    )
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert result.returncode == 2 and len(errors) == 1 and message in errors[0], result.stderr
    assert not [path for path in tmp_path.iterdir() if not path.name.startswith(".")]
