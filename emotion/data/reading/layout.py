"""`Layout`: the columns of text, id and labels in a table, and the format of the labels.

What the config does not name is detected in the training rows and reported in one sentence; the same layout is then used for all splits.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from emotion.config import DataConfig
from emotion.data.reading.rows import ID_COLUMN_NAMES, LABEL_COLUMN_NAMES, TEXT_COLUMN_NAMES
from emotion.data.reading.tables import Table
from emotion.errors import DataError
from emotion.labels import LabelSet

DETECTION_ROWS = 500
"""Number of rows from which columns and delimiter are detected."""
DELIMITERS = ("|", ";", ",", " ")
"""Separators between labels that are detected, in order of preference."""
BINARY_VALUES = {0: False, 1: True, "0": False, "1": True, "0.0": False, "1.0": True}
"""Values of a 0/1 column; False and True equal 0 and 1 as keys."""


@dataclass(frozen=True)
class Layout:
    """The columns of a table by role. Either `label_column` or `label_columns` is set."""

    text_column: str
    id_column: str | None
    label_column: str | None
    label_columns: tuple[str, ...]
    delimiter: str | None

    def describe(self) -> str:
        """Return the layout as one sentence for the user."""
        ids = f"column {self.id_column!r}" if self.id_column else "the line number"
        return f"text from column {self.text_column!r}, {self.describe_labels()}, ids from {ids}"

    def describe_labels(self) -> str:
        """Return the part of the sentence that is about the labels."""
        if self.label_columns:
            return f"labels from the {len(self.label_columns)} 0/1 columns {self.label_columns[0]!r} to {self.label_columns[-1]!r}"
        return f"labels from column {self.label_column!r}" + (f" split at {self.delimiter!r}" if self.delimiter else "")

    def read_labels(self, row: dict[str, Any]) -> list[str | int]:
        """Return the labels of a row as names or ids.

        Raises: DataError with the reason if they cannot be read.
        """
        if self.label_columns:
            return [column for column in self.label_columns if _read_binary(column, row[column])]
        assert self.label_column is not None
        return split_labels(row[self.label_column], self.delimiter)


def find_layout(table: Table, config: DataConfig, known_names: Iterable[str] | None) -> Layout:
    """Return the layout of a table: the columns that the config names, and detected ones for the rest.

    `known_names` are label names known before the rows are read, if there are any.

    Raises: DataError if a named column is missing or a column cannot be detected.
    """
    text_column = find_text_column(table, config)
    for key in ("id_column", "label_column"):
        _check_column(table, key, getattr(config, key))
    for column in config.label_columns or ():
        _check_column(table, "label_columns", column)
    if config.label_column and config.label_columns:
        raise DataError("data.label_column and data.label_columns are both set; set only the one that fits the file")
    label_columns = config.label_columns or ()
    label_column = config.label_column
    if not label_columns and label_column is None:
        label_columns = _detect_binary_columns(table, exclude=text_column)
        if not label_columns:
            label_column = _detect_label_column(table, text_column, set(known_names or ()))
    delimiter = None
    if label_column is not None:
        delimiter = config.label_delimiter or _detect_delimiter(_head(table, label_column), set(known_names or ()))
    id_column = config.id_column or _detect_id_column(table, {text_column, label_column, *label_columns})
    return Layout(text_column, id_column, label_column, label_columns, delimiter)


def name_label_columns(table: Table, config: DataConfig, names: tuple[str, ...]) -> DataConfig:
    """Return the config with a model's label names as `label_columns`, if the table has these columns and the config names none."""
    if config.label_column is None and config.label_columns is None and set(names) <= set(table.columns):
        return replace(config, label_columns=names)
    return config


def find_text_column(table: Table, config: DataConfig) -> str:
    """Return the column of the text: the one that the config names, or the detected one.

    Raises: DataError if the named column is missing or none is detected.
    """
    _check_column(table, "text_column", config.text_column)
    return config.text_column or _detect_text_column(table)


def find_label_set(table: Table, layout: Layout, config: DataConfig, names_beside_data: tuple[str, ...] | None) -> LabelSet:
    """Return the label set of a table.

    It comes from the 0/1 columns, or else from the first of these: the config, the dataset's class names, `labels.txt`, the values.
    """
    if layout.label_columns:
        if config.label_names and set(config.label_names) != set(layout.label_columns):
            raise DataError(
                f"data.label_names={','.join(config.label_names)}: has no effect beside the 0/1 columns {', '.join(layout.label_columns)}, "
                "whose names are the labels; rename the columns, or leave data.label_names out"
            )
        return LabelSet(layout.label_columns)
    assert layout.label_column is not None
    names = config.label_names or tuple(table.class_names.get(layout.label_column, ())) or names_beside_data
    if names:
        return LabelSet(tuple(names))
    found: set[str] = set()
    for value in table.values(layout.label_column):
        found.update(str(label) for label in split_labels(value, layout.delimiter))
    if found and all(name.isdecimal() for name in found):
        return LabelSet(tuple(str(label) for label in range(max(map(int, found)) + 1)))
    return LabelSet(tuple(sorted(found)))


def split_labels(value: Any, delimiter: str | None) -> list[str | int]:
    """Return the labels of one cell, which is a list, a number, or a delimited string; an empty string has no labels."""
    if value is None:
        return []
    if isinstance(value, (list, tuple)):
        return list(value)
    if isinstance(value, int):
        return [value]
    parts = str(value).split(delimiter) if delimiter else [str(value)]
    return [part.strip() for part in parts if part.strip()]


def _read_binary(column: str, value: Any) -> bool:
    key = value.strip() if isinstance(value, str) else value
    if key == "NONE":  # the test file of SemEval-2018 E-c as released during the competition
        raise DataError(f"column {column!r} is 'NONE': this file was published without labels; use the file with gold labels")
    try:
        return BINARY_VALUES[key]
    except (KeyError, TypeError):
        raise DataError(f"column {column!r} is {value!r}, must be 0 or 1") from None


def _check_column(table: Table, key: str, column: str | None) -> None:
    if column is not None and column not in table.columns:
        raise DataError(f"{table.path}: data.{key}={column!r} is not among its columns {table.columns}")


def _head(table: Table, column: str) -> list[Any]:
    return table.values(column)[:DETECTION_ROWS]


def _detect_text_column(table: Table) -> str:
    """Return the column with a known name for texts, otherwise the one with the longest strings on average."""
    if (known := _find_by_name(table.columns, TEXT_COLUMN_NAMES)) is not None:
        return known
    lengths = {column: _mean_length(_head(table, column)) for column in table.columns}
    best = max(lengths, key=lambda column: lengths[column], default=None)
    if best is None or lengths[best] == 0:
        raise DataError(f"{table.path}: no column looks like text among {table.columns}; set data.text_column")
    return best


def _find_by_name(columns: list[str], names: tuple[str, ...]) -> str | None:
    """Return the column whose name comes first in `names`, or None; case is ignored."""
    return next((column for name in names for column in columns if column.lower() == name), None)


def _mean_length(values: list[Any]) -> float:
    return sum(len(value) for value in values if isinstance(value, str)) / max(len(values), 1)


def _detect_binary_columns(table: Table, exclude: str) -> tuple[str, ...]:
    """Return the columns that contain only 0 and 1, if there are at least two and the file has a header."""
    columns = [
        column
        for column in table.columns
        if column != exclude and column.lower() not in ID_COLUMN_NAMES and all(_is_binary(value) for value in _head(table, column))
    ]
    return tuple(columns) if len(columns) > 1 and table.has_header else ()


def _is_binary(value: Any) -> bool:
    try:
        return (value.strip() if isinstance(value, str) else value) in BINARY_VALUES
    except TypeError:
        return False


def _detect_label_column(table: Table, text_column: str, known_names: set[str]) -> str:
    """Return the column with a known name for labels, otherwise the first one that contains only known label names or their ids."""
    others = [column for column in table.columns if column != text_column]
    if (known := _find_by_name(others, LABEL_COLUMN_NAMES)) is not None:
        return known
    for column in others:
        values = _head(table, column)
        delimiter = _detect_delimiter(values, known_names)
        parts = [str(part) for value in values for part in split_labels(value, delimiter)]
        if parts and (set(parts) <= known_names or (known_names and all(part.isdecimal() for part in parts))):
            return column
    raise DataError(f"{table.path}: no column looks like labels among {table.columns}; set data.label_column or data.label_columns")


def _detect_delimiter(values: list[Any], known_names: set[str]) -> str | None:
    """Return the first delimiter that occurs in the values; a space counts only if it separates ids or known names."""
    texts = [value for value in values if isinstance(value, str)]
    for delimiter in DELIMITERS:
        if any(delimiter in text.strip() for text in texts):
            parts = [part.strip() for text in texts for part in text.split(delimiter) if part.strip()]
            if delimiter != " " or all(part.isdecimal() or part in known_names for part in parts):
                return delimiter
    return None


def _detect_id_column(table: Table, taken: set[str | None]) -> str | None:
    """Return the first column with a known name for ids; in a file without a header, the first one whose values are unique."""
    others = [column for column in table.columns if column not in taken]
    for column in others:
        if column.lower() in ID_COLUMN_NAMES:
            return column
    if table.has_header:
        return None
    unique = [column for column in others if len(set(map(str, table.values(column)))) == len(table.rows)]
    return unique[0] if unique else None
