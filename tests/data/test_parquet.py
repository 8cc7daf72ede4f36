"""A parquet file gives its rows unchanged, bad rows for values that Python does not have, or one line for the user."""

import datetime
import io
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from emotion.data.reading.opening import open_rows
from emotion.data.reading.rows import BadRow, Row
from emotion.errors import DataError


def read(path):
    with open_rows(path, is_lenient=True) as rows:
        return rows.columns, list(rows.entries)


def write(path, **columns):
    pq.write_table(pa.table(columns), path)
    return path


def make_strings(*values):
    """Return an Arrow array of strings whose bytes are not checked."""
    ends = np.cumsum([0, *map(len, values)]).astype(np.int32)
    return pa.Array.from_buffers(pa.string(), len(values), [None, pa.py_buffer(ends), pa.py_buffer(b"".join(values))])


UNREADABLE = {
    "timestamp beyond year 9999": pa.array([0, 2**62], pa.timestamp("us")),
    "date beyond year 9999": pa.array([0, 2**30], pa.date32()),
    "duration beyond a C int": pa.array([0, 2**62], pa.duration("ms")),
    "unknown time zone": pa.array([None, 1], pa.timestamp("us", "Mars/Phobos")),
    "invalid UTF-8": make_strings(b"good", b"caf\xe9"),
    "invalid UTF-8 in a list": pa.ListArray.from_arrays([0, 1, 2], make_strings(b"good", b"caf\xe9")),
    "nanoseconds of a time": pa.array([1_000, 1], pa.time64("ns")),
    "time beyond a day": pa.array([1, 10**15], pa.time64("us")),
    "negative time": pa.array([1, -1], pa.time32("ms")),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_a_value_that_python_does_not_have_makes_its_row_bad(case, tmp_path):
    array = UNREADABLE[case]
    columns, (first, second) = read(write(tmp_path / "a.parquet", text=["a", "b"], x=array))
    assert columns == ["text", "x"] and isinstance(first, Row) and first.values == ["a", array[0].as_py()]
    assert isinstance(second, BadRow) and str(second).startswith(f"{tmp_path / 'a.parquet'}:2: column 'x' ({str(array.type)[:4]}")
    assert ": the value cannot be read (" in second.reason and second.content == "b\tNone" and "\n" not in second.reason


READABLE: dict[str, tuple[Any, list]] = {
    "nulls": (pa.array([None, None]), [None, None]),
    "dictionary": (pa.array(["u", None]).dictionary_encode(), ["u", None]),
    "large_string": (pa.array(["u", "v"], pa.large_string()), ["u", "v"]),
    "string_view": (pa.array(["u", "v"], pa.string_view()), ["u", "v"]),
    "decimal": (pa.array([Decimal("1.10"), None]), [Decimal("1.10"), None]),
    "uint64": (pa.array([2**64 - 1, 0], pa.uint64()), [2**64 - 1, 0]),
    "struct": (pa.array([{"k": [1]}, None]), [{"k": [1]}, None]),
    "map": (pa.array([[("k", 1), ("k", 2)], []], pa.map_(pa.string(), pa.int8())), [[("k", 1), ("k", 2)], []]),
    "time": (pa.array([1, None], pa.time64("us")), [datetime.time(microsecond=1), None]),
}


@pytest.mark.parametrize("case", READABLE)
def test_values_are_those_that_were_written(case, tmp_path):
    array, values = READABLE[case]
    _, entries = read(write(tmp_path / "a.parquet", text=["a", "b"], x=array))
    assert [entry.values for entry in entries] == [["a", values[0]], ["b", values[1]]]


def test_columns_of_one_name_are_refused(tmp_path):
    pq.write_table(pa.table([pa.array(["a"]), pa.array(["b"])], names=["text", "text"]), tmp_path / "a.parquet")
    with pytest.raises(DataError) as caught:
        read(tmp_path / "a.parquet")
    assert str(caught.value) == f"{tmp_path / 'a.parquet'}: the column names ['text', 'text'] are not unique; rename the duplicates"


def test_a_file_without_rows_has_columns_and_no_entries(tmp_path):
    assert read(write(tmp_path / "a.parquet", text=pa.array([], pa.string()))) == (["text"], [])


@pytest.mark.parametrize(
    "count, num_places, reason",
    [
        (b"\xc6\x01", 1, ": is damaged (it has 100 rows, and 99 according to its footer)"),
        (b"\xca\x01", 1, ": is damaged (it has 100 rows, and 101 according to its footer)"),
        (b"\xca\x01", -1, ": is damaged (it has 100 rows, and 101 according to its footer)"),
    ],
)
def test_a_footer_that_counts_other_rows_is_refused(count, num_places, reason, tmp_path):
    """A footer holds 100 as the bytes C8 01 after the type of the field, first for the file, then for row group and columns."""
    path = write(tmp_path / "a.parquet", text=["a"] * 100)
    content = path.read_bytes()
    length = int.from_bytes(content[-8:-4], "little")
    footer = content[-8 - length : -8]
    changed = footer.replace(b"\x16\xc8\x01", b"\x16" + count, num_places)
    assert changed != footer
    path.write_bytes(content[: -8 - length] + changed + content[-8:])
    with pytest.raises(DataError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}{reason}")


@pytest.mark.parametrize("compression", ["none", "snappy"])
def test_flipped_bytes_give_rows_or_one_line(compression, tmp_path):
    columns = {
        "text": [f"text {number}" for number in range(50)],
        "when": pa.array([None, *range(49)], pa.timestamp("us", "UTC")),
        "tags": [["a", "b"]] * 50,
        "kind": pa.array(["u", "v"] * 25).dictionary_encode(),
    }
    whole = io.BytesIO()
    pq.write_table(pa.table(columns), whole, compression=compression)
    generator = np.random.default_rng(0)
    num_read = num_refused = 0
    for _ in range(200):
        content = bytearray(whole.getvalue())
        for position in generator.integers(len(content), size=generator.integers(1, 5)):
            content[position] ^= 1 << generator.integers(8)
        (tmp_path / "a.parquet").write_bytes(content)
        try:
            assert len(read(tmp_path / "a.parquet")[1]) == 50
            num_read += 1
        except DataError as error:
            assert str(error).startswith(str(tmp_path / "a.parquet")) and "\n" not in str(error)
            num_refused += 1
    assert num_read > 20 and num_refused > 20
