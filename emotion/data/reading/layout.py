"""Which columns hold the text, the id and the labels, and how the labels are written.

What the config leaves open is guessed on the training rows, said in one plain sentence, and then held for all splits.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from emotion.config import DataConfig
from emotion.data.reading.rows import ID_WORDS, LABEL_WORDS, TEXT_WORDS
from emotion.data.reading.tables import Table
from emotion.errors import DataError
from emotion.labels import LabelSet

GUESS_ROWS = 500
"""Rows looked at for a guess."""
DELIMITERS = ("|", ";", ",", " ")
SWITCHES = {0: False, 1: True, "0": False, "1": True, "0.0": False, "1.0": True}  # True is 1


@dataclass(frozen=True)
class Layout:
    """Where things stand in a row. Either `label_column` or `label_columns` is given."""

    text_column: str
    id_column: str | None
    label_column: str | None
    label_columns: tuple[str, ...]
    delimiter: str | None

    def describe(self) -> str:
        labels = (
            f"labels from the {len(self.label_columns)} 0/1 columns {self.label_columns[0]!r} to {self.label_columns[-1]!r}"
            if self.label_columns
            else f"labels from column {self.label_column!r}" + (f" split at {self.delimiter!r}" if self.delimiter else "")
        )
        return f"text from column {self.text_column!r}, {labels}, ids from " + (
            f"column {self.id_column!r}" if self.id_column else "the line number"
        )

    def read_labels(self, row: dict[str, Any]) -> list[str | int]:
        """Return the labels of a row as names or ids.

        Raises: DataError with the reason if the row's labels cannot be read.
        """
        if self.label_columns:
            return [column for column in self.label_columns if _read_switch(column, row[column])]
        assert self.label_column is not None
        return split_labels(row[self.label_column], self.delimiter)


def find_layout(table: Table, config: DataConfig, known_names: Iterable[str] | None) -> Layout:
    """Return the layout of a table: what the config says, and guesses for the rest.

    Raises: DataError if a named column is missing or a column cannot be guessed.
    """
    text_column = find_text(table, config)
    for key in ("id_column", "label_column"):
        _require(table, key, getattr(config, key))
    for column in config.label_columns or ():
        _require(table, "label_columns", column)
    if config.label_column and config.label_columns:
        raise DataError("data.label_column and data.label_columns exclude each other: give the one that your file has")
    label_columns = config.label_columns or ()
    label_column = config.label_column
    if not label_columns and label_column is None:
        label_columns = _guess_switches(table, exclude=text_column)
        if not label_columns:
            label_column = _guess_label_column(table, text_column, set(known_names or ()))
    delimiter = None
    if label_column is not None:
        delimiter = config.label_delimiter or _guess_delimiter(_head(table, label_column), set(known_names or ()))
    id_column = config.id_column or _guess_id(table, {text_column, label_column, *label_columns})
    return Layout(text_column, id_column, label_column, label_columns, delimiter)


def name_label_columns(table: Table, config: DataConfig, names: tuple[str, ...]) -> DataConfig:
    """Return the config with all of a model's labels as its 0/1 columns, if the table has them and nothing else is named."""
    if config.label_column is None and config.label_columns is None and set(names) <= set(table.columns):
        return replace(config, label_columns=names)
    return config


def find_text(table: Table, config: DataConfig) -> str:
    """Return the column of the text, named by the config or guessed.

    Raises: DataError if there is none.
    """
    _require(table, "text_column", config.text_column)
    return config.text_column or _guess_text(table)


def find_labels(table: Table, layout: Layout, config: DataConfig, names_beside_data: tuple[str, ...] | None) -> LabelSet:
    """Return the labels, from the config, the format, `labels.txt`, the 0/1 columns, or the training rows, in this order."""
    if layout.label_columns:
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
    """Return the labels of one cell: a list, a number, or delimited text; empty text is no label."""
    if value is None:
        return []
    if isinstance(value, (list, tuple)):
        return list(value)
    if isinstance(value, int):
        return [value]
    parts = str(value).split(delimiter) if delimiter else [str(value)]
    return [part.strip() for part in parts if part.strip()]


def _read_switch(column: str, value: Any) -> bool:
    key = value.strip() if isinstance(value, str) else value
    if key == "NONE":
        raise DataError(f"column {column!r} is 'NONE': this file was published without its labels")
    try:
        return SWITCHES[key]
    except (KeyError, TypeError):
        raise DataError(f"column {column!r} is {value!r}, allowed are 0 and 1") from None


def _require(table: Table, key: str, column: str | None) -> None:
    if column is not None and column not in table.columns:
        raise DataError(f"{table.path}: data.{key}={column!r} is not among its columns {table.columns}")


def _head(table: Table, column: str) -> list[Any]:
    return table.values(column)[:GUESS_ROWS]


def _guess_text(table: Table) -> str:
    for word in TEXT_WORDS:
        for column in table.columns:
            if column.lower() == word:
                return column
    lengths = {column: _mean_length(_head(table, column)) for column in table.columns}
    best = max(lengths, key=lambda column: lengths[column], default=None)
    if best is None or lengths[best] == 0:
        raise DataError(f"{table.path}: no column looks like text among {table.columns}: name it with data.text_column")
    return best


def _mean_length(values: list[Any]) -> float:
    return sum(len(value) for value in values if isinstance(value, str)) / max(len(values), 1)


def _guess_switches(table: Table, exclude: str) -> tuple[str, ...]:
    """Return the columns whose every value is 0 or 1, if there are at least two."""
    columns = [
        column
        for column in table.columns
        if column != exclude and column.lower() not in ID_WORDS and all(_is_switch(value) for value in _head(table, column))
    ]
    return tuple(columns) if len(columns) > 1 and table.has_header else ()


def _is_switch(value: Any) -> bool:
    try:
        return (value.strip() if isinstance(value, str) else value) in SWITCHES
    except TypeError:
        return False


def _guess_label_column(table: Table, text_column: str, known_names: set[str]) -> str:
    others = [column for column in table.columns if column != text_column]
    for word in LABEL_WORDS:
        for column in others:
            if column.lower() == word:
                return column
    for column in others:
        values = _head(table, column)
        delimiter = _guess_delimiter(values, known_names)
        parts = [str(part) for value in values for part in split_labels(value, delimiter)]
        if parts and (set(parts) <= known_names or (known_names and all(part.isdecimal() for part in parts))):
            return column
    raise DataError(
        f"{table.path}: no column looks like labels among {table.columns}: name it with data.label_column or data.label_columns"
    )


def _guess_delimiter(values: list[Any], known_names: set[str]) -> str | None:
    """Return the first delimiter that occurs; a space only if what it separates are ids or known names."""
    texts = [value for value in values if isinstance(value, str)]
    for delimiter in DELIMITERS:
        if any(delimiter in text.strip() for text in texts):
            parts = [part.strip() for text in texts for part in text.split(delimiter) if part.strip()]
            if delimiter != " " or all(part.isdecimal() or part in known_names for part in parts):
                return delimiter
    return None


def _guess_id(table: Table, taken: set[str | None]) -> str | None:
    others = [column for column in table.columns if column not in taken]
    for column in others:
        if column.lower() in ID_WORDS:
            return column
    if table.has_header:
        return None
    unique = [column for column in others if len(set(map(str, table.values(column)))) == len(table.rows)]
    return unique[0] if unique else None
