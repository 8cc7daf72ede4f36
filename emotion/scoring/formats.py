"""Formats of a scored file (csv, jsonl, parquet, xlsx), and the columns that scoring adds to those of the input.

A file is written in parts that are joined at the end. A part of a csv or jsonl file is the bytes that it adds to the whole file; gzip
members and zstd frames can be concatenated too. A part of a parquet file is a parquet file, which becomes row groups of the whole. A part
of an Excel file is its cells as JSON.
"""

import csv
import gzip
import io
import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from emotion.data.reading.opening import find_format
from emotion.data.reading.rows import BadRow, Row
from emotion.errors import ConfigError, DataError
from emotion.evaluation.decision import rank_labels
from emotion.files import replace_nan
from emotion.labels import LABEL_SEPARATOR, PREDICTED, LabelSet
from emotion.scoring.excel import MAX_CELL_CHARACTERS, count_cell_characters, cut_cell, write_excel
from emotion.text import escape_formula, is_writable_text

FORMATS = (".csv", ".jsonl", ".parquet", ".xlsx")
DIGITS = 4
"""Decimals of a probability."""
JSON_ENCODER = json.JSONEncoder(ensure_ascii=False, default=str, allow_nan=False)


def check_format(output: Path) -> str:
    """Return the suffix that names an output's format, one of `FORMATS`.

    Raises: DataError for another format, and for a compressed parquet or Excel file.
    """
    suffix = find_format(output)
    if suffix not in FORMATS or (suffix in (".parquet", ".xlsx") and output.suffix.lower() != suffix):
        raise DataError(f"--output {output}: unknown format; allowed are {', '.join(FORMATS)}; .csv and .jsonl also with .gz or .zst")
    return suffix


def format_part(
    columns: list[str], rows: Sequence[Sequence[Any]], output: Path, schema: Any = None, entries: Sequence[Row | BadRow] = ()
) -> bytes:
    """Return the bytes of some rows; parquet needs an Arrow `schema`, and an error names the entry of the input from which a row comes.

    Raises: DataError for a value that does not fit into the type of its column.
    """
    suffix = check_format(output)
    if suffix == ".parquet":
        return _format_parquet(columns, rows, schema, entries)
    if suffix == ".csv":
        return _compress(_format_csv(rows), output)
    if suffix == ".xlsx":
        return b"".join(_encode_json([_to_excel_cell(value) for value in row]) + b"\n" for row in rows)
    lines = (_encode_json(dict(zip(columns, row, strict=True))) + b"\n" for row in rows)
    return _compress(b"".join(lines), output)


def format_header(columns: list[str], output: Path) -> bytes:
    """Return the bytes that precede the first part, or the names of the columns as JSON for an Excel file."""
    if check_format(output) == ".xlsx":
        return _encode_json([cut_cell(column) for column in columns])
    return _compress(_format_csv([columns]), output) if check_format(output) == ".csv" else b""


def count_non_finite(rows: Sequence[Sequence[Any]]) -> int:
    """Return how many values are, or contain, nan or infinity, which JSON and Excel do not have; they are written as null."""
    return sum(_has_non_finite(value) for row in rows for value in row)


def _has_non_finite(value: Any) -> bool:
    if isinstance(value, (list, tuple, dict)):
        return any(map(_has_non_finite, value.values() if isinstance(value, dict) else value))
    return isinstance(value, float) and not math.isfinite(value)


def escape_formulas(row: Sequence[Any]) -> list[Any]:
    """Return a row in which text that a spreadsheet would take for a formula begins with an apostrophe."""
    return [escape_formula(value) if isinstance(value, str) else value for value in row]


def join_parts(parts: list[Path], header: bytes, output: Path, target: Path) -> None:
    """Write the parts of `output` to `target`; `header` is that of `format_header`."""
    suffix = check_format(output)
    if suffix == ".xlsx":
        write_excel(json.loads(header), parts, target)
        return
    if suffix != ".parquet":
        join_bytes(parts, header, target)
        return
    import pyarrow.parquet as pq

    with pq.ParquetWriter(target, pq.read_schema(parts[0])) as writer:
        for part in parts:
            writer.write_table(pq.read_table(part))


def join_bytes(parts: list[Path], header: bytes, target: Path) -> None:
    """Write a header and the bytes of the parts to `target`."""
    with target.open("wb") as whole:
        whole.write(header)
        for part in parts:
            with part.open("rb") as stream:
                shutil.copyfileobj(stream, whole, 2**20)


def name_columns(probabilities: str, label_set: LabelSet, input_columns: list[str], where: str) -> list[str]:
    """Return the names of the columns that scoring adds; `where` names the input in an error.

    Raises: ConfigError for more labels than the model has; DataError if the input has a column of that name.
    """
    names = [PREDICTED]
    if probabilities.isdecimal() and int(probabilities) > len(label_set):
        raise ConfigError(f"--probabilities {probabilities}: the model has {len(label_set)} labels; give at most {len(label_set)}")
    if probabilities == "all":
        names += [f"probability_{name}" for name in label_set.names]
    elif probabilities != "none":
        names += [name for rank in range(1, int(probabilities) + 1) for name in (f"top_{rank}", f"top_{rank}_probability")]
    if duplicates := sorted(set(names) & set(input_columns)):
        raise DataError(f"{where}: has a column {duplicates[0]!r} already, which scoring would add; rename it in the input")
    return names


def format_scores(
    row: np.ndarray, predictions: np.ndarray, probabilities: str, output: Path, label_set: LabelSet, digits: int | None = DIGITS
) -> list[Any]:
    """Return the values of the added columns for one text.

    `row` is its probabilities, float (L,), `predictions` is bool (L,), `probabilities` is the setting of `ScoringJob`, and `digits` are the
    decimals of a probability, None for all.
    """

    def to_number(value: np.floating) -> float:
        return float(value) if digits is None else round(float(value), digits)

    labels = label_set.decode(predictions)
    values: list[Any] = [_join_labels(labels, label_set) if check_format(output) in (".csv", ".xlsx") else labels]
    if probabilities == "all":
        values += [to_number(value) for value in row]
    elif probabilities != "none":
        for column in rank_labels(row)[: int(probabilities)]:
            values += [label_set.names[column], to_number(row[column])]
    return values


def _join_labels(labels: list[str], label_set: LabelSet) -> str:
    return LABEL_SEPARATOR.join(labels) if label_set.is_separable else _encode_json(labels).decode()


def find_unwritable(columns: list[str], values: list[Any], output: Path) -> str | None:
    """Return why the output cannot hold a row of the input unchanged, or None.

    Bytes that are not UTF-8 and halves of surrogate pairs were read as lone surrogates. A csv file holds the former as the same bytes,
    a jsonl file both as escapes, the others neither. A cell of Excel has a limit.
    """
    for column, value in zip(columns, values, strict=True):
        is_long = isinstance(value, str) and 2 * len(value) > MAX_CELL_CHARACTERS and check_format(output) == ".xlsx"
        if is_long and (length := count_cell_characters(value)) > MAX_CELL_CHARACTERS:
            return f"column {column!r} has {length:,} characters, and a cell of .xlsx holds {MAX_CELL_CHARACTERS:,}"
        if isinstance(value, bytes) and (suffix := check_format(output)) != ".parquet":
            return f"column {column!r} holds bytes, and {suffix} cannot hold them"
        if not is_writable_text(value):
            suffix = check_format(output)
            if suffix in (".parquet", ".xlsx") or (suffix == ".csv" and not _is_escaped_bytes(value)):
                return f"column {column!r} is not valid UTF-8, and {suffix} cannot hold it"
    return None


def build_schema(columns: list[str], input_columns: list[str], input_schema: Any) -> Any:
    """Return the Arrow schema of an output; columns of an input that is not parquet (`input_schema` is None) are text.

    Raises: DataError for a column whose name is not valid UTF-8.
    """
    import pyarrow as pa

    if wrong := [column for column in columns if not is_writable_text(column)]:
        raise DataError(f"column {wrong[0]!r} of the input: its name is not valid UTF-8; rename it, or write .csv")
    fields = []
    for column in columns:
        if column in input_columns:
            fields.append(input_schema.field(column) if input_schema is not None else pa.field(column, pa.string()))
        elif column == PREDICTED:
            fields.append(pa.field(column, pa.list_(pa.string())))
        else:
            fields.append(pa.field(column, pa.float64() if "probability" in column else pa.string()))
    return pa.schema([field.with_nullable(True) for field in fields])


def _compress(data: bytes, output: Path) -> bytes:
    if output.suffix.lower() == ".gz":
        return gzip.compress(data, mtime=0)  # no timestamp: the same rows give the same bytes
    if output.suffix.lower() == ".zst":
        import pyarrow as pa

        return bytes(pa.compress(data, codec="zstd", asbytes=True))
    return data


def _format_csv(rows: Sequence[Sequence[Any]]) -> bytes:
    lines = _Lines()
    csv.writer(lines, lineterminator="\r\n").writerows([_to_cell(value) for value in row] for row in rows)
    text = "".join(lines)
    try:
        return text.encode("utf-8", "surrogateescape")  # input bytes that are not UTF-8 are written unchanged
    except UnicodeEncodeError:  # half of a surrogate pair, from a JSON escape
        return text.encode("utf-8", "backslashreplace")


class _Lines(list[str]):
    """Collects the lines of a csv writer with "\\n" at their ends.

    The writer must believe that a line ends with "\\r\\n": it quotes only what its own line ends hold, and a carriage return that is not
    quoted splits the row for every reader.
    """

    def write(self, line: str) -> None:
        self.append(line.removesuffix("\r\n") + "\n")


def _is_escaped_bytes(text: str) -> bool:
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


def _to_cell(value: Any) -> Any:
    return _encode_json(value).decode() if isinstance(value, (list, dict, bool)) else value


def _to_excel_cell(value: Any) -> Any:
    """Return a value that a cell of Excel holds; longer text is cut, and listed as a bad row by `find_unwritable`."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    text = value if isinstance(value, str) else str(_to_cell(value))
    return cut_cell(text if is_writable_text(text) else text.encode("utf-8", "replace").decode())


def _encode_json(value: Any) -> bytes:
    """Return a value as JSON: nan and infinity, which JSON does not have, become null, and lone surrogates become escapes."""
    try:
        return JSON_ENCODER.encode(value).encode()
    except ValueError:
        value = replace_nan(value)
        text = JSON_ENCODER.encode(value)
        return (text if is_writable_text(text) else json.dumps(value, default=str)).encode()


def _format_parquet(columns: list[str], rows: Sequence[Sequence[Any]], schema: Any, entries: Sequence[Row | BadRow]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrays = {}
    for position, column in enumerate(columns):
        field = schema.field(column)
        values = [_to_text(row[position]) if field.type == pa.string() else row[position] for row in rows]
        try:
            arrays[column] = pa.array(values, field.type)
        except Exception:  # the library raises many types
            where = _find_wrong_value(values, field.type, entries)
            raise DataError(f"{where}column {column!r}: cannot be written as {field.type}; write .csv or .jsonl") from None
    sink = io.BytesIO()
    pq.write_table(pa.table(arrays, schema=schema), sink)
    return sink.getvalue()


def _find_wrong_value(values: list[Any], arrow_type: Any, entries: Sequence[Row | BadRow]) -> str:
    """Return file and line of the first value that Arrow cannot convert, as the beginning of a message."""
    import pyarrow as pa

    for value, entry in zip(values, entries, strict=False):
        try:
            pa.array([value], arrow_type)
        except Exception:
            return f"{entry.path}:{entry.line}: "
    return ""


def _to_text(value: Any) -> str | None:
    if value is None:
        return None
    cell = _to_cell(value)
    text = cell if isinstance(cell, str) else json.dumps(cell, default=str)
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
