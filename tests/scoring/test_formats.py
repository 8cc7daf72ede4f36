"""Values of the input come out of scoring as they were, or an error or a reason says which do not."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from emotion.config import DataConfig
from emotion.data.reading.rows import Row
from emotion.data.reading.streams import open_source
from emotion.errors import DataError
from emotion.labels import LabelSet
from emotion.scoring.formats import build_schema, find_unwritable, format_part
from tests.scoring.oracle import score

LABELS = LabelSet(("anger", "joy"))


def refuse_constant(name):
    raise AssertionError(f"{name} is not JSON")


def parse_strictly(line):
    return json.loads(line, parse_constant=refuse_constant)


NUMBERS = ["1.0", "12345678901234567890", "-0.0", "1e22", "5e-324", "0.1000000000000000055", "true", "null", '"1.0"', "[0.1, {}]"]


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_numbers_of_a_json_file_keep_their_value(ending, tmp_path):
    lines = [f'{{"text": "t{number}", "x": {text}}}' for number, text in enumerate(NUMBERS)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    score(tmp_path / "a.jsonl", output=tmp_path / f"out.{ending}")
    content = (tmp_path / f"out.{ending}").read_text()
    if ending == "jsonl":
        found = [parse_strictly(line)["x"] for line in content.splitlines()]
        assert found == [json.loads(text) for text in NUMBERS] and list(map(type, found)) == [type(json.loads(text)) for text in NUMBERS]
    else:
        cells = [row["x"] for row in csv.DictReader(io.StringIO(content))]
        assert cells == ["1.0", "12345678901234567890", "-0.0", "1e+22", "5e-324", "0.1", "true", "", "1.0", "[0.1, {}]"]


def test_output_in_json_is_json_whatever_the_floats_are(tmp_path):
    nested = [{"k": [1.5, float("-inf")], "s": "ä"}, {"k": [float("nan")], "s": None}]
    pq.write_table(pa.table({"text": ["ä", "b"], "x": [float("nan"), float("inf")], "y": nested}), tmp_path / "a.parquet")
    score(tmp_path / "a.parquet", output=tmp_path / "out.jsonl")
    first, second = map(parse_strictly, (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines())
    assert (first["text"], first["x"], first["y"]) == ("ä", None, {"k": [1.5, None], "s": "ä"})
    assert (second["x"], second["y"]) == (None, {"k": [None], "s": None})
    score(tmp_path / "a.parquet", output=tmp_path / "out.csv")
    rows = list(csv.DictReader((tmp_path / "out.csv").open(encoding="utf-8", newline="")))
    assert [row["x"] for row in rows] == ["nan", "inf"] and parse_strictly(rows[0]["y"]) == {"k": [1.5, None], "s": "ä"}


BYTES, HALF = "Ren\udce9", "\ud83d"
"""Latin-1 bytes and half of a surrogate pair, as they are read."""


@pytest.mark.parametrize(
    "value, ending, is_kept",
    [
        *((value, ending, True) for value in ("René", 5, None, [HALF]) for ending in ("csv", "jsonl", "parquet")),
        (BYTES, "csv", True),
        (BYTES, "csv.gz", True),
        (BYTES, "jsonl", True),
        (BYTES, "parquet", False),
        (HALF, "csv", False),
        (HALF, "jsonl", True),
        (HALF, "parquet", False),
    ],
)
def test_bytes_that_are_not_utf_8_are_kept_or_said(value, ending, is_kept):
    output = Path(f"out.{ending}")
    reason = find_unwritable(["text", "name"], ["a", value], output)
    assert reason == (None if is_kept else f"column 'name' is not valid UTF-8, and .{ending} cannot hold it")
    if is_kept and isinstance(value, str) and ending == "csv":
        assert format_part(["name"], [[value]], output).decode("utf-8", "surrogateescape") == f"{value}\n"
    elif is_kept and ending == "jsonl":
        assert json.loads(format_part(["name"], [[value]], output)) == {"name": value}


@pytest.mark.parametrize("ending", ["csv", "jsonl.gz", "xlsx", "parquet"])
def test_a_column_of_bytes_is_kept_in_parquet_and_said_elsewhere(ending):
    reason = find_unwritable(["text", "hash"], ["a", b"\xff\x00"], Path(f"out.{ending}"))
    assert reason == (None if ending == "parquet" else f"column 'hash' holds bytes, and .{ending.removesuffix('.gz')} cannot hold them")


TYPES = {
    "timestamp[ns]": pa.array([1, None], pa.timestamp("ns")),
    "timestamp with a zone": pa.array([1, None], pa.timestamp("us", "Europe/Berlin")),
    "date": pa.array([1, None], pa.date32()),
    "time": pa.array([1, None], pa.time64("us")),
    "duration": pa.array([1, None], pa.duration("ns")),
    "dictionary": pa.array(["u", None]).dictionary_encode(),
    "large_string": pa.array(["u", None], pa.large_string()),
    "string_view": pa.array(["u", None], pa.string_view()),
    "binary": pa.array([b"\xff", None]),
    "decimal": pa.array([1, None], pa.int64()).cast(pa.decimal128(30, 2)),
    "float16": pa.array([0.5, None], pa.float16()),
    "float32": pa.array([0.1, None], pa.float32()),
    "uint64": pa.array([2**64 - 1, None], pa.uint64()),
    "nulls": pa.array([None, None]),
    "list": pa.array([[1], None], pa.large_list(pa.int8())),
    "struct": pa.array([{"a": [1], "b": None}, None]),
    "map": pa.array([[("a", 1), ("a", 2)], None], pa.map_(pa.string(), pa.int64())),
}


def test_parquet_columns_of_every_type_are_unchanged(tmp_path):
    before = pa.table({"text": ["a", "b"], **TYPES})
    pq.write_table(before, tmp_path / "a.parquet")
    score(tmp_path / "a.parquet", output=tmp_path / "out.parquet", part_rows=1)
    after, read = pq.read_table(tmp_path / "out.parquet").select(before.column_names), pq.read_table(tmp_path / "a.parquet")
    for name in TYPES:
        assert after.schema.field(name).type == read.schema.field(name).type, name
        assert after.column(name).combine_chunks().to_pylist() == read.column(name).combine_chunks().to_pylist(), name


def test_flipped_bytes_are_scored_or_one_line(tmp_path):
    whole = io.BytesIO()
    columns = {name: pa.array([*array.to_pylist(), *array.to_pylist()], array.type) for name, array in TYPES.items() if name != "nulls"}
    pq.write_table(pa.table({"text": ["a", "b", "c", "d"], **columns}), whole, compression="none", store_schema=False)
    generator = np.random.default_rng(0)
    num_scored = num_refused = 0
    for number in range(60):
        content = bytearray(whole.getvalue())
        for position in generator.integers(len(content), size=2):
            content[position] ^= 1 << generator.integers(8)
        (tmp_path / "a.parquet").write_bytes(content)
        try:
            num_scored += score(tmp_path / "a.parquet", output=tmp_path / f"{number}.parquet").num_rows == 4
        except DataError as error:
            assert "\n" not in str(error)
            num_refused += 1
    assert num_scored + num_refused == 60 and num_scored > 5 and num_refused > 5


def test_a_value_of_another_type_is_one_line_with_file_column_and_row():
    schema = build_schema(["x"], ["x"], pa.schema([("x", pa.int64())]))
    entries = [Row("a.parquet", 7, [1]), Row("b.parquet", 8, ["y"])]
    with pytest.raises(DataError) as caught:
        format_part(["x"], [[1], ["y"]], Path("out.parquet"), schema, entries)
    assert str(caught.value) == "b.parquet:8: column 'x': cannot be written as int64; write .csv or .jsonl"


def test_a_column_name_that_is_not_utf_8_is_one_line():
    with pytest.raises(DataError, match=r"column 'Ren\\udce9' of the input: its name is not valid UTF-8; rename it, or write \.csv"):
        build_schema(["text", BYTES], ["text", BYTES], None)


def test_typed_output_needs_files_of_the_same_types(tmp_path):
    """Arrow would store 0.1 of a 64-bit column in a 32-bit one without an error."""
    first, second, third = tmp_path / "a.parquet", tmp_path / "b.parquet", tmp_path / "c.csv"
    pq.write_table(pa.table({"text": ["a"], "x": pa.array([0.5], pa.float32())}), first)
    pq.write_table(pa.table({"text": ["b"], "x": [0.1]}), second)
    third.write_text("text,x\nc,1\n")
    for other, message in (
        (second, f"{second}: column 'x' has the type double, but float in {first}; for an output in parquet, all files must have the"),
        (third, f"{third}: is not parquet, but {first} is; for an output in parquet, give files of one format"),
    ):
        with open_source([first, other], DataConfig(), LABELS) as source:
            assert len(list(source.entries)) == 2
        with pytest.raises(DataError) as caught, open_source([first, other], DataConfig(), LABELS, is_typed=True) as source:
            list(source.entries)
        assert str(caught.value).startswith(message)


def test_a_file_of_which_no_row_can_be_read_is_refused_with_the_reason(tmp_path):
    when = pa.array([1], pa.timestamp("us", "Mars/Phobos"))
    pq.write_table(pa.table({"words": ["a"], "when": when}), tmp_path / "a.parquet")
    with (
        pytest.raises(DataError, match=r"a\.parquet:1: column 'when' \(timestamp\[us, tz=Mars/Phobos\]\): the value cannot be read"),
        open_source([tmp_path / "a.parquet"], DataConfig(), LABELS),
    ):
        pass
