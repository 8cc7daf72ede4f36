"""What a scored file holds beside its input, and its formats: csv, jsonl and parquet, written part by part and joined.

A part is the bytes that it adds to the whole file, so that the parts of a csv or jsonl file are joined by putting one
after the other; gzip members and zstd frames may follow one another too. Parquet parts are files whose row groups are copied.
"""

import csv
import gzip
import io
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from emotion.data.reading.opening import find_format
from emotion.errors import ConfigError, DataError
from emotion.labels import LabelSet

FORMATS = (".csv", ".jsonl", ".parquet")
PREDICTED = "predicted_labels"
DIGITS = 4
"""Decimals of a probability."""
LABEL_SEPARATOR = "|"


def check_format(path: Path) -> str:
    """Return the ending that tells an output's format.

    Raises: DataError if it is none of `FORMATS`, or a parquet file is to be compressed once more.
    """
    ending = find_format(path)
    if ending not in FORMATS or (ending == ".parquet" and path.suffix.lower() != ending):
        raise DataError(f"--output {path}: unknown format; allowed are {', '.join(FORMATS)}, the first two also as .gz or .zst")
    return ending


def format_part(columns: list[str], rows: Sequence[Sequence[Any]], output: Path, schema: Any = None) -> bytes:
    """Return the bytes of some rows; `schema` is Arrow's for a parquet file, None makes all its columns text."""
    if check_format(output) == ".parquet":
        return _format_parquet(columns, rows, schema)
    if check_format(output) == ".csv":
        return _compress(_format_csv(rows), output)
    lines = (_encode_json(dict(zip(columns, row, strict=True))) for row in rows)
    return _compress(b"".join(lines), output)


def format_header(columns: list[str], output: Path) -> bytes:
    """Return the bytes that stand before the first part."""
    return _compress(_format_csv([columns]), output) if check_format(output) == ".csv" else b""


def join_parts(parts: list[Path], header: bytes, output: Path, partial: Path) -> None:
    """Write the parts of `output`, one after the other, to `partial`."""
    if check_format(output) != ".parquet":
        join_bytes(parts, header, partial)
        return
    import pyarrow.parquet as pq

    with pq.ParquetWriter(partial, pq.read_schema(parts[0])) as writer:
        for part in parts:
            writer.write_table(pq.read_table(part))


def join_bytes(parts: list[Path], header: bytes, partial: Path) -> None:
    """Write a header and the bytes of files to `partial`."""
    with partial.open("wb") as whole:
        whole.write(header)
        for part in parts:
            with part.open("rb") as stream:
                shutil.copyfileobj(stream, whole, 2**20)


def name_columns(probabilities: str, label_set: LabelSet, taken: list[str], where: str) -> list[str]:
    """Return the columns that scoring adds.

    Raises: ConfigError for more labels than there are; DataError if the input has a column of that name.
    """
    names = [PREDICTED]
    if probabilities.isdecimal() and int(probabilities) > len(label_set):
        raise ConfigError(f"--probabilities {probabilities}: at most {len(label_set)}, the model has no more labels")
    if probabilities == "all":
        names += [f"probability_{name}" for name in label_set.names]
    elif probabilities != "none":
        names += [name for rank in range(1, int(probabilities) + 1) for name in (f"top_{rank}", f"top_{rank}_probability")]
    if both := sorted(set(names) & set(taken)):
        raise DataError(f"{where}: has a column {both[0]!r} already, which scoring adds: rename it")
    return names


def format_scores(probabilities: np.ndarray, predictions: np.ndarray, kind: str, output: Path, label_set: LabelSet) -> list[Any]:
    """Return the values of the added columns of one row."""
    labels = label_set.decode(predictions)
    values: list[Any] = [LABEL_SEPARATOR.join(labels) if check_format(output) == ".csv" else labels]
    if kind == "all":
        values += [round(float(value), DIGITS) for value in probabilities]
    elif kind != "none":
        for column in np.argsort(-probabilities, kind="stable")[: int(kind)]:
            values += [label_set.names[column], round(float(probabilities[column]), DIGITS)]
    return values


def build_schema(columns: list[str], taken: list[str], schema: Any) -> Any:
    """Return Arrow's schema: the input's own if it is parquet, otherwise text; then labels and probabilities."""
    import pyarrow as pa

    fields = []
    for column in columns:
        if column in taken:
            fields.append(schema.field(column) if schema is not None else pa.field(column, pa.string()))
        elif column == PREDICTED:
            fields.append(pa.field(column, pa.list_(pa.string())))
        else:
            fields.append(pa.field(column, pa.float64() if "probability" in column else pa.string()))
    return pa.schema([field.with_nullable(True) for field in fields])


def _compress(data: bytes, output: Path) -> bytes:
    if output.suffix.lower() == ".gz":
        return gzip.compress(data, mtime=0)  # no time in it: the same rows give the same bytes
    if output.suffix.lower() == ".zst":
        import pyarrow as pa

        return bytes(pa.compress(data, codec="zstd", asbytes=True))
    return data


def _format_csv(rows: Sequence[Sequence[Any]]) -> bytes:
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerows([_to_cell(value) for value in row] for row in rows)
    text = stream.getvalue()
    try:
        return text.encode("utf-8", "surrogateescape")  # bytes that are not UTF-8 leave as they came
    except UnicodeEncodeError:  # half a character out of a JSON escape
        return text.encode("utf-8", "backslashreplace")


def _to_cell(value: Any) -> Any:
    if isinstance(value, (list, dict, bool)):
        return json.dumps(value, ensure_ascii=False, default=str)
    return value


def _encode_json(record: dict[str, Any]) -> bytes:
    try:
        return json.dumps(record, ensure_ascii=False, default=str).encode() + b"\n"
    except UnicodeEncodeError:
        return json.dumps(record, default=str).encode() + b"\n"


def _format_parquet(columns: list[str], rows: Sequence[Sequence[Any]], schema: Any) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrays = {}
    for position, column in enumerate(columns):
        field = schema.field(column)
        values = [row[position] for row in rows]
        arrays[column] = pa.array([_to_text(v) for v in values] if field.type == pa.string() else values, field.type)
    sink = io.BytesIO()
    pq.write_table(pa.table(arrays, schema=schema), sink)
    return sink.getvalue()


def _to_text(value: Any) -> str | None:
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
