"""Rows of a parquet file.

The library raises errors of many types for a damaged file. They become one `DataError`, and a value that Python cannot represent makes its
row a `BadRow`.
"""

import io
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from emotion.data.reading.rows import BadRow, ReadOptions, Row, Rows, check_unique
from emotion.errors import DataError
from emotion.text import describe_error

BATCH_ROWS = 4_096
"""Number of rows that are read at a time."""


def read_parquet(path: str, stream: IO[bytes], options: ReadOptions) -> Rows:
    """Return the columns and rows of a parquet file; a row's line is its number from 1. No setting in `options` changes how it is read."""
    import pyarrow.parquet as pq

    try:
        seekable = stream if stream.seekable() and Path(path).suffix.lower() not in (".gz", ".zip") else io.BytesIO(stream.read())
        file = pq.ParquetFile(seekable, page_checksum_verification=True)
        schema, num_rows = file.schema_arrow, file.metadata.num_rows
        columns = schema.names
    except Exception as error:
        raise DataError(f"{path}: is not a valid parquet file ({describe_error(error)})") from None
    check_unique(path, columns)

    def read() -> Iterator[Row | BadRow]:
        line = 0
        try:
            for batch in file.iter_batches(batch_size=BATCH_ROWS):
                for entry in convert_rows(path, line, columns, batch):
                    line = entry.line
                    yield entry
        except Exception as error:
            raise DataError(f"{path}:{line + 1}: cannot be read ({describe_error(error)})") from None
        if line != num_rows:
            raise DataError(f"{path}: is damaged (it has {line:,} rows, and {num_rows:,} according to its footer)")

    return Rows(columns, read(), schema=schema, class_names=_read_class_names(schema))


def _find_class_names(feature: Any) -> list[str] | None:
    """Return the label names of a feature as `datasets` writes it into metadata: of class labels, or of a list of them."""
    if isinstance(feature, list):
        return _find_class_names(feature[0]) if feature else None
    if not isinstance(feature, dict):
        return None
    if feature.get("_type") == "ClassLabel" and isinstance(feature.get("names"), list):
        return [str(name) for name in feature["names"]]
    return _find_class_names(feature.get("feature"))


def _read_class_names(schema: Any) -> dict[str, list[str]]:
    """Return the label names of each column for which the metadata of `datasets` has them."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        found = {column: _find_class_names(feature) for column, feature in features.items()}
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):  # of another program, or of another version
        return {}
    return {column: names for column, names in found.items() if names}


def convert_rows(path: str, line: int, columns: list[str], batch: Any) -> Iterator[Row | BadRow]:
    """Yield the rows of a batch that begins after row `line`."""
    faults: dict[int, str] = {}
    values = [convert_column(name, array, faults) for name, array in zip(columns, batch.columns, strict=True)]
    for number, row in enumerate(zip(*values, strict=True)):
        if number in faults:
            yield BadRow.describe(path, line + number + 1, faults[number], list(row))
        else:
            yield Row(path, line + number + 1, list(row))


def convert_column(name: str, array: Any, faults: dict[int, str]) -> list[Any]:
    """Return the values of an Arrow array; where there is none in Python, the value is None and `faults` has the reason."""
    import pyarrow as pa

    def is_unchanged(values: list[Any]) -> bool:  # nanoseconds of a time, and times beyond a day, would be lost
        return not pa.types.is_time(array.type) or pa.array(values, array.type).equals(array)

    with suppress(Exception):  # of at least one value; the loop below finds which
        values: list[Any] = array.to_pylist()
        if is_unchanged(values):
            return values
    values = []
    for number, scalar in enumerate(array):
        value, reason = None, ""
        try:
            value = scalar.as_py()
            if pa.types.is_time(array.type) and pa.scalar(value, array.type) != scalar:
                value, reason = None, "Python has no such time of day"
        except Exception as error:
            reason = describe_error(error)
        if reason:
            faults.setdefault(number, f"column {name!r} ({array.type}): the value cannot be read ({reason})")
        values.append(value)
    return values
