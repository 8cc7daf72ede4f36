"""Values within the objects of a column, named by a path such as `post.text`."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from emotion.config import DataConfig
from emotion.data.reading.dialect import HEAD_ROWS, take_head
from emotion.data.reading.rows import BadRow, Row, Rows
from emotion.errors import DataError
from emotion.text import read_digits


def add_nested_columns(path: str, rows: Rows, config: DataConfig) -> Rows:
    """Return the rows with a column for each path that the config names.

    A name that is a column itself is not a path. A path ends at the values that it leads to; a row that does not have it gets None.

    Raises: DataError if none of the first rows has the path.
    """
    names = [name for name in sorted(config.named_columns) if name not in rows.columns and name.partition(".")[0] in rows.columns]
    if not names:
        return rows
    paths = [(rows.columns.index(first), keys) for first, *keys in (name.split(".") for name in names)]
    head = take_head(rows.entries, lambda entry: 1)
    for name, (position, keys) in zip(names, paths, strict=True):
        values = [entry.values[position] for entry in head if isinstance(entry, Row)]
        if values and all(_follow(value, keys) is None for value in values):
            known = sorted({found for value in values for found in list_paths(rows.columns[position], value)})
            found_paths = f"; found are {', '.join(known[:10])}" if known else ", whose values are not objects"
            raise DataError(f"{path}: {name!r} is not in column {rows.columns[position]!r}{found_paths}")

    def extend() -> Iterator[Row | BadRow]:
        for source in (head, rows.entries):
            for entry in source:
                if isinstance(entry, Row) and entry.values:
                    nested = [_follow(entry.values[position], keys) for position, keys in paths]
                    yield Row(entry.path, entry.line, [*entry.values, *nested])
                else:
                    yield entry

    return replace(rows, columns=[*rows.columns, *names], entries=extend(), num_nested=len(names))


def find_text_path(columns: list[str], rows: list[list[Any]]) -> str | None:
    """Return the path to the longest strings within the objects of these rows; None if there are no strings within objects."""
    lengths: Counter[str] = Counter()
    for row in rows[:HEAD_ROWS]:
        for column, value in zip(columns, row, strict=True):
            for path in list_paths(column, value):
                found = _follow({column: value}, path.split("."))
                lengths[path] += len(found) if isinstance(found, str) else 0
    best = max(lengths, key=lengths.__getitem__, default=None)
    return best if best is not None and lengths[best] else None


def list_paths(name: str, value: Any) -> list[str]:
    """Return the paths to the values of a nested object, which is named `name`."""
    if not isinstance(value, dict):
        return []
    return [path for key, child in value.items() for path in (list_paths(f"{name}.{key}", child) or [f"{name}.{key}"])]


def _follow(value: Any, keys: list[str]) -> Any:
    """Return the value at the end of a path, or None."""
    for key in keys:
        if isinstance(value, list) and (position := read_digits(key)) is not None and position < len(value):
            value = value[position]
        elif isinstance(value, dict):
            value = value.get(key)
        else:
            return None
    return value
