"""Groups of `benchmarks.hostile` on values: parquet, and what other columns hold."""

import json
import math
import random
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.attacks.scripts import Target, Trials, expect, flip_byte, make_text

NUMBERS = [
    "1e999",
    "-1e999",
    "NaN",
    "Infinity",
    "12345678901234567890",
    "0.1000000000000000055",
    "1e-400",
    "9" * 5_000,
    "1.0",
    "-0.0",
    "1E2",
]
JSON_TEXTS = {"a lone surrogate": r'"\ud800"', "a NUL": r'"a\u0000b"', "nested lists": "[" * 500 + "]" * 500}
LATIN_1 = "café".encode("latin-1")


def attack_parquet(target: Target, folder: Path) -> Trials:
    """Parquet files that are damaged, or hold what Python cannot: rows, or one line."""
    for number in range(10):
        yield f"flipped bytes {number}", partial(check_flipped, target)
    for name, column in make_faulty_columns().items():
        for ending in ("csv", "parquet"):
            yield f"{name} to {ending}", partial(check_parquet, target, pa.table({"text": ["a", "b"], "x": column}), ending)
    for name, column in make_rare_columns().items():
        yield name, partial(check_parquet, target, pa.table({"text": ["a", "b"], "x": column}), "parquet", is_valid=True)
    repeated = pa.Table.from_arrays([pa.array(["a", "b"])] * 3, names=["text", "x", "x"])
    for ending in ("jsonl", "parquet"):
        yield f"duplicate column names to {ending}", partial(check_refused, target, repeated, ending)
    yield "texts that are not UTF-8", partial(check_parquet, target, pa.table({"text": make_bad_strings()}), "csv")
    contents = {"an empty file": b"", "only the magic": b"PAR1PAR1", "a footer that lies": b"PAR1" + b"\xff" * 60 + b"PAR1"}
    for name, content in contents.items():
        yield name, partial(check_refused, target, content, "csv")


def make_faulty_columns() -> dict[str, pa.Array]:
    far = pa.array([2**60, 0], pa.int64())
    return {
        "dates beyond year 9999": pa.array([10**7, 0], pa.int32()).cast(pa.date32()),
        "times beyond year 9999": far.cast(pa.timestamp("us")),
        "an unknown time zone": pa.array([0, 1], pa.int64()).cast(pa.timestamp("ms", "Mars/Olympus")),
        "long durations": far.cast(pa.duration("s")),
        "strings that are not UTF-8": make_bad_strings(),
    }


def make_bad_strings() -> pa.Array:
    return pa.StringArray.from_buffers(2, pa.py_buffer(b"\0\0\0\0\2\0\0\0\4\0\0\0"), pa.py_buffer(b"\xff\xfeok"))


def make_rare_columns() -> dict[str, pa.Array]:
    return {
        "nested values": pa.array([[{"a": [1]}], None]),
        "a dictionary": pa.array(["x", "y"]).dictionary_encode(),
        "decimals": pa.array([Decimal("1.10"), None], pa.decimal128(30, 2)),
        "nulls only": pa.nulls(2),
        "large strings": pa.array(["x", "y"], pa.large_string()),
    }


def check_flipped(target: Target, tmp_dir: Path, generator: random.Random) -> None:
    rows = range(300)
    path = tmp_dir / "in.parquet"
    columns = {"text": [make_text(generator) for _ in rows], "n": [*rows], "day": pa.array(rows, pa.int32()).cast(pa.date32())}
    pq.write_table(pa.table(columns), path, row_group_size=100)
    flip_byte(path, generator, generator.randint(1, 8))
    target.score(path, tmp_dir / "out.csv").check()


def check_parquet(target: Target, table: pa.Table, ending: str, folder: Path, generator: random.Random, is_valid: bool = False) -> None:
    source, output = folder / "in.parquet", folder / f"out.{ending}"
    pq.write_table(table, source)
    result = target.score(source, output)
    if is_valid:
        result.check_done()
        expect(pq.read_table(output)["x"].to_pylist() == table["x"].to_pylist(), "values are changed")
    elif not result.check().is_refused:
        num_rows = pq.read_table(output).num_rows if ending == "parquet" else len(output.read_bytes().splitlines()) - 1
        expect(num_rows == 2, "rows are lost")


def check_refused(target: Target, content: Any, ending: str, folder: Path, generator: random.Random) -> None:
    source = folder / "in.parquet"
    if isinstance(content, bytes):
        source.write_bytes(content)
    else:
        pq.write_table(content, source)
    target.score(source, folder / f"out.{ending}").check_refused()


def attack_values(target: Target, folder: Path) -> Trials:
    """A value of another column is written as it was read, or its row is counted as bad."""
    for value in NUMBERS:
        yield f"the number {value[:30]}", partial(check_json, target, value)
    for name, value in JSON_TEXTS.items():
        yield name, partial(check_json, target, value)
    yield "a key twice", partial(check_json, target, '1, "n": 2')
    for ending in ("csv", "jsonl", "parquet"):
        yield f"Latin-1 to {ending}", partial(check_bytes, target, ending)
    for ending in ("csv", "tsv"):
        yield f"a blank line above a {ending} without a header", partial(check_blank_line, target, ending)


def check_json(target: Target, value: str, tmp_dir: Path, generator: random.Random) -> None:
    source, output = tmp_dir / "in.jsonl", tmp_dir / "out.jsonl"
    source.write_text(f'{{"text": "a", "n": 0}}\n{{"text": "b", "n": {value}}}\n')
    result = target.score(source, output).check()
    if result.is_refused or "1 rows could not be scored" in result.err or "1 values are nan or infinity" in result.err:
        return
    found = json.loads(output.read_text().splitlines()[1], parse_int=Decimal, parse_constant=refuse_constant)
    expect(found["n"] == json.loads(value, parse_int=Decimal), f"changed to {str(found['n'])[:40]}")


def refuse_constant(name: str) -> float:
    expect(False, f"{name} is written, which is not JSON")
    return math.nan


def check_bytes(target: Target, ending: str, tmp_dir: Path, generator: random.Random) -> None:
    source, output = tmp_dir / "in.csv", tmp_dir / f"out.{ending}"
    source.write_bytes(b"note,text\nplain,a\n" + LATIN_1 + b",b\n")
    result = target.score(source, output).check()
    if result.is_refused or "1 rows could not be scored" in result.err:
        return
    if ending == "csv":
        expect(LATIN_1 in output.read_bytes(), "the bytes are changed")
        return
    rows = pq.read_table(output).to_pylist() if ending == "parquet" else [json.loads(line) for line in output.read_text().splitlines()]
    expect(rows[1]["note"].encode("utf-8", "surrogateescape") == LATIN_1, f"changed to {rows[1]['note']!r}")


def check_blank_line(target: Target, ending: str, tmp_dir: Path, generator: random.Random) -> None:
    source, output = tmp_dir / f"in.{ending}", tmp_dir / "out.csv"
    source.write_text("\nthe first text\nthe second one\n")
    result = target.score(source, output).check()
    num_rows = 0 if result.is_refused else len(output.read_text().splitlines()) - 1
    expect(
        result.is_refused or num_rows == 3 or "1 rows could not be scored" in result.err,
        f"{num_rows} rows of 3 lines, every row was scored",
    )
