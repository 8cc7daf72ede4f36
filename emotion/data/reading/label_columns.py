"""Find the columns of a table that hold labels: 0/1 columns, or one column of names or ids."""

import re
import shlex
from collections.abc import Collection
from typing import Any

from emotion.config import DataConfig
from emotion.data.reading.emotion_names import find_rater_column, is_emotion_name, is_unclear_column
from emotion.data.reading.label_formats import DETECTION_ROWS, SET_THRESHOLD
from emotion.data.reading.label_values import find_number, is_empty_flag, is_flag, is_intensity, parse_cell
from emotion.data.reading.rows import ID_COLUMN_NAMES, LABEL_COLUMN_NAMES
from emotion.data.reading.tables import Table
from emotion.errors import DataError
from emotion.labels import find_lookalikes, fold_name
from emotion.text import format_names

MOSTLY_FLAGS = 0.9
"""Fraction of flags from which a column is one of labels, whatever its other values are."""


def find_label_columns(table: Table, text_column: str, config: DataConfig, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the 0/1 columns, if there are at least two and the file has a header; `names` are label names that are known.

    Raises: DataError if it cannot be told which of them are labels.
    """
    if not table.has_header:
        return ()
    others = [column for column in _list_others(table, text_column) if column != config.rater_column]
    fractions = {column: _measure_flags(table, column) for column in others}
    known = {fold_name(name) for name in names}
    expected = {column for column in fractions if is_emotion_name(column) or fold_name(column) in known}
    found = [column for column, fraction in fractions.items() if fraction >= (0 if column in expected else 0.5)]
    if len(found) < 2:
        return ()
    if config.label_names and {fold_name(name) for name in config.label_names} <= set(map(fold_name, found)):
        wanted = {fold_name(name) for name in config.label_names}
        return tuple(column for column in found if fold_name(column) in wanted)
    unknown = [column for column in found if column not in expected]
    if len(unknown) < len(found) - len(unknown):  # most are emotions
        flags = [column for column in unknown if fractions[column] >= MOSTLY_FLAGS]
        found = [column for column in found if column in expected]
        if flags:
            holds = "holds" if len(flags) == 1 else "hold"
            raise DataError(
                f"{table.path}: {format_names(flags)} {holds} 0 and 1, but {format_names(found)} are emotions; "
                f"set {_quote('label_columns', *found)}, with {format_names(flags)} added if it is a label"
            )
    elif (named := _find_named_label_column(table, text_column)) is not None:
        if len(unknown) < len(found):
            return tuple(found)
        emotions = [name for value in table.values(named)[:DETECTION_ROWS] for name in _list_names(value)]
        if emotions and sum(map(is_emotion_name, emotions)) > len(emotions) / 2:
            return ()
        raise DataError(
            f"{table.path}: the labels may be column {named!r} or the 0/1 columns {format_names(found)}; "
            f"set {_quote('label_column', named)} or {_quote('label_columns', *found)}"
        )
    return tuple(found)


def find_unused_flags(table: Table, text_column: str, label_columns: Collection[str]) -> list[str]:
    """Return the columns of 0 and 1 that are not among the label columns."""
    return [column for column in _list_others(table, text_column) if column not in label_columns and _measure_flags(table, column) == 1]


def check_label_columns(table: Table, columns: tuple[str, ...], config: DataConfig) -> None:
    """Check that 0/1 columns have different names, and no intensities unless there is a threshold.

    Raises: DataError otherwise.
    """
    if pair := find_lookalikes(columns):
        raise DataError(f"{table.path}: the label columns {pair[0]!r} and {pair[1]!r} have names that look the same; rename one of them")
    if config.first_label_id is not None:
        raise DataError(f"data.first_label_id={config.first_label_id}: has no effect beside the 0/1 columns {format_names(columns)}")
    if config.label_delimiter is not None:
        raise DataError(f"data.label_delimiter={config.label_delimiter!r}: has no effect beside the 0/1 columns {format_names(columns)}")
    if config.soft_labels and config.intensity_threshold is not None:
        _check_fractions(table, columns, config)
    if config.intensity_threshold is not None:
        return
    for column in columns:
        numbers = [value for value in table.values(column)[:DETECTION_ROWS] if is_intensity(value)]
        if len(numbers) > 1 and not (config.on_bad_row == "skip" and _measure_flags(table, column) >= MOSTLY_FLAGS):
            raise DataError(
                f"{table.path}: column {column!r} holds values such as {numbers[0]} beside 0 and 1; "
                f"{SET_THRESHOLD}, or name the columns of labels with data.label_columns"
            )


def _check_fractions(table: Table, columns: tuple[str, ...], config: DataConfig) -> None:
    """Check that no column holds other numbers than fractions, as far as that shows in several of the first rows."""
    for column in columns:
        numbers = [number for value in table.values(column)[:DETECTION_ROWS] if (number := find_number(value)) is not None]
        outside = [number for number in numbers if not 0 <= number <= 1 and number != -1]
        if len(outside) > 1 and config.on_bad_row == "stop":
            raise DataError(
                f"{table.path}: column {column!r} holds values such as {outside[0]:g}, outside [0, 1]; data.soft_labels reads fractions: "
                "divide the votes by the number of raters, or name the columns of labels with data.label_columns"
            )


def find_label_column(table: Table, text_column: str, names: tuple[str, ...]) -> str:
    """Return the column with a known name for labels, otherwise the first one that contains only known label names or their ids.

    Raises: DataError if there is none, with a column that may be the one.
    """
    if (named := _find_named_label_column(table, text_column)) is not None:
        return named
    known = {fold_name(name) for name in names}
    others = [column for column in table.columns if column != text_column and column.lower() not in ID_COLUMN_NAMES]
    for column in others if known else ():
        parts = [part for value in table.values(column)[:DETECTION_ROWS] for part in _list_names(value)]
        if parts and (all(fold_name(part) in known for part in parts) or _are_ids(parts, len(known), table.has_header)):
            return column
    raise DataError(f"{table.path}: no column looks like labels among {table.columns}; set {_suggest(table, others)}")


def _list_others(table: Table, text_column: str) -> list[str]:
    """Return the columns that may be 0/1 columns: not ids, raters, row numbers of pandas, or values within another column."""
    rater = find_rater_column(table.columns)
    return [
        column
        for column in table.columns
        if column not in (text_column, rater, "")
        and column.lower() not in ID_COLUMN_NAMES
        and not column.startswith("Unnamed:")
        and not is_unclear_column(column)
        and not ("." in column and column.rpartition(".")[0] in table.columns)
    ]


def _measure_flags(table: Table, column: str) -> float:
    """Return the fraction of flags among the values that are not empty; -1 if there are none, or other values than numbers prevail."""
    values = table.values(column)
    filled = [value for value in values[:DETECTION_ROWS] if not is_empty_flag(value)]
    head = filled or [value for value in values if not is_empty_flag(value)]
    fraction = sum(map(is_flag, head)) / len(head) if head else -1.0
    return fraction if fraction >= MOSTLY_FLAGS or all(is_flag(value) or find_number(value) is not None for value in head) else -1.0


def _find_named_label_column(table: Table, text_column: str) -> str | None:
    """Return the column with a known name for labels, otherwise the only one whose name contains such a word."""
    others = [column for column in table.columns if column != text_column]
    for name in LABEL_COLUMN_NAMES:
        for column in others:
            if column.lower() == name:
                return column
    worded = [column for column in others if set(LABEL_COLUMN_NAMES) & set(re.split(r"[\W_]+", fold_name(column)))]
    worded = [column for column in worded if "id" not in re.split(r"[\W_]+", fold_name(column)) and _count_values(table, column)]
    return worded[0] if len(worded) == 1 and table.has_header else None


def _list_names(value: Any) -> list[str]:
    """Return the labels of a cell in any format; a text is split at every usual separator."""
    try:
        parsed = parse_cell(value)
    except DataError:
        return []
    if isinstance(parsed, list):
        return [str(item) for item in parsed]
    return [] if parsed is None else [part.strip() for part in re.split(r"[|;,]|(?<=\d)\s+(?=\d)", str(parsed)) if part.strip()]


def _count_values(table: Table, column: str) -> int:
    """Return the number of different values of a column if they are repeated as labels are, otherwise 0."""
    values = [str(value).strip() for value in table.values(column)[:DETECTION_ROWS] if isinstance(value, (str, int, list))]
    different = len(set(values) - {""})
    return different if different > 1 and 2 * different <= len(values) else 0


def _are_ids(parts: list[str], num_names: int, has_header: bool) -> bool:
    """Return whether all labels are ids: below a header, other numbers such as stars or years must be told from them."""
    if not all(part.isdecimal() for part in parts):
        return False
    return not has_header or (max(map(int, parts)) <= num_names <= 2 * len(set(parts)))


def _suggest(table: Table, columns: list[str]) -> str:
    """Return the setting that names the column whose values are most like labels: few, and no numbers."""
    counts = {column: _count_values(table, column) for column in columns if column.lower() not in ID_COLUMN_NAMES}
    likely = [column for column, count in counts.items() if count]
    if not likely:
        return "data.label_column or data.label_columns"
    is_number = {column: all(find_number(value) is not None for value in table.values(column)[:DETECTION_ROWS]) for column in likely}
    best = min(likely, key=lambda column: (is_number[column], counts[column]))
    return f"data.label_column or data.label_columns, perhaps {_quote('label_column', best)} ({counts[best]} values)"


def _quote(key: str, *values: str) -> str:
    """Return a setting as it is typed in a shell."""
    return shlex.quote(f"data.{key}={','.join(values)}")
