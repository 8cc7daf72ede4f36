"""`Layout`: the columns of text, id and labels in a table, and the format of the labels.

What the config does not name is detected in the training rows and reported in one sentence; the same layout is then used for all splits.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from emotion.config import DataConfig
from emotion.data.reading.emotion_names import find_rater_column, is_unclear_column
from emotion.data.reading.label_columns import (
    check_label_columns,
    find_label_column,
    find_label_columns,
    find_unused_flags,
)
from emotion.data.reading.label_formats import DETECTION_ROWS, detect_format
from emotion.data.reading.label_values import CellFormat, RowLabels, find_choices, parse_cell, read_flag, read_fraction
from emotion.data.reading.nested import find_text_path
from emotion.data.reading.rows import ID_COLUMN_NAMES, LABEL_COLUMN_NAMES, TEXT_COLUMN_NAMES
from emotion.data.reading.soft_labels import HALF
from emotion.data.reading.tables import Table
from emotion.errors import DataError
from emotion.labels import LabelSet, find_lookalikes, fold_name
from emotion.text import format_names, read_digits


@dataclass(frozen=True)
class Layout:
    """The columns of a table by role. Either `label_column` or `label_columns` is set."""

    text_column: str
    id_column: str | None
    label_column: str | None
    label_columns: tuple[str, ...]
    cells: CellFormat
    """How `label_column` is read; its threshold is also that of `label_columns`."""
    rater_column: str | None = None
    """Column of the person who labelled the row; the rows of one text are then merged."""
    unclear_column: str | None = None
    """Column that marks rows whose rater could not judge the text."""
    is_soft: bool = False
    """Whether training is on fractions of raters."""
    has_fractions: bool = False
    """Whether these are values of the labels, not counted from the rows of several raters."""
    notes: list[str] = field(default_factory=list)
    """What the user should know about the columns, without the file's name."""

    def describe(self) -> str:
        """Return the layout as one sentence for the user."""
        ids = f"column {self.id_column!r}" if self.id_column else "the line number"
        return f"text from column {self.text_column!r}, {self.describe_labels()}, ids from {ids}"

    def describe_labels(self) -> str:
        """Return the part of the sentence that is about the labels."""
        threshold = f" from {self.cells.threshold:g} on" if self.cells.threshold is not None else ""
        if self.label_columns:
            first, last, number = self.label_columns[0], self.label_columns[-1], len(self.label_columns)
            columns = f"columns {first!r} to {last!r}" if number > 1 else f"column {first!r}"
            return f"labels from the {f'{number} ' if number > 1 else ''}{'' if threshold else '0/1 '}{columns}{threshold}"
        description = self.cells.description
        separator = " " if description.startswith("split") else ", "
        return f"labels from column {self.label_column!r}" + (f"{separator}{description}" if description else "") + threshold

    def read_labels(self, row: dict[str, Any]) -> RowLabels:
        """Return the labels of a row as names or ids, and those that nobody judged.

        Raises: DataError with the reason if they cannot be read.
        """
        if self.label_column is not None:
            return self.cells.read(row[self.label_column])
        flags = [(column, read_flag(column, row[column], self.cells.threshold)) for column in self.label_columns]
        not_judged: list[str | int] = [column for column, flag in flags if flag is None]
        return RowLabels([column for column, flag in flags if flag], not_judged, len(not_judged) < len(flags))

    def read_fractions(self, row: dict[str, Any]) -> dict[str, float]:
        """Return the value of each label of a row, in [0, 1]; nan where nobody judged it.

        Raises: DataError with the reason if a value is no such number.
        """
        values = {column: row[column] for column in self.label_columns}
        if self.label_column is not None:
            values = self.cells.read_values(row[self.label_column])
        return {str(name).strip(): read_fraction(name, value) for name, value in values.items()}

    def adapt(self, table: Table, config: DataConfig) -> "Layout":
        """Return the layout for a split: with the columns of raters that its table has, and the names that it declares for its ids."""
        declared = () if config.label_names else tuple(table.class_names.get(self.label_column or "", ()))
        return replace(self._add_raters(table, config), cells=replace(self.cells, names_of_ids=declared))

    def _add_raters(self, table: Table, config: DataConfig) -> "Layout":
        """Return the layout with the columns of raters that a table has."""
        if config.rater_column is not None:
            rater_column = config.rater_column if config.rater_column in table.columns else None
        else:
            taken = (self.text_column, self.label_column, *self.label_columns)
            rater_column = find_rater_column([column for column in table.columns if column not in taken])
        unclear_column = next(filter(is_unclear_column, table.columns), None) if rater_column else None
        return replace(self, rater_column=rater_column, unclear_column=unclear_column)


def find_layout(table: Table, config: DataConfig, known_names: Iterable[str] | None, own_names: tuple[str, ...] | None = None) -> Layout:
    """Return the layout of a table: the columns that the config names, and detected ones for the rest.

    `known_names` are label names known before the rows are read, if there are any, in the order of their ids. For a file with labels of a
    model, whose names these are, `own_names` are those that the ids of the file stand for, empty if the file alone can tell.

    Raises: DataError if a named column is missing, a column cannot be detected, or two readings are possible.
    """
    names = config.label_names or tuple(known_names or ())
    text_column = find_text_column(table, config)
    has_fractions = config.soft_labels and not _has_raters(table, text_column, config)
    if has_fractions and config.intensity_threshold is None:
        config = replace(config, intensity_threshold=HALF)
    for key in ("id_column", "label_column"):
        _check_column(table, key, getattr(config, key))
    for column in config.label_columns or ():
        _check_column(table, "label_columns", column)
    if config.label_column and config.label_columns:
        raise DataError("data.label_column and data.label_columns are both set; set only the one that fits the file")
    label_columns, label_column, notes = config.label_columns or (), config.label_column, []
    if not label_columns and label_column is None:
        label_columns = find_label_columns(table, text_column, config, names)
        label_column = None if label_columns else find_label_column(table, text_column, names)
        used = {*(label_columns or [str(label_column)]), config.rater_column or ""}
        if unused := find_unused_flags(table, text_column, used):
            notes.append(f"not used are the 0/1 columns {format_names(unused)}; data.label_columns names the columns of labels")
    if label_columns:
        check_label_columns(table, label_columns, config)
        cells = CellFormat(threshold=config.intensity_threshold)
    else:
        assert label_column is not None
        is_named = config.label_names and own_names is None
        declared = () if is_named or own_names else tuple(table.class_names.get(label_column, ()))
        named = own_names or declared
        if own_names is not None and all(map(str.isdecimal, names)) and not set(map(fold_name, named)) & set(map(fold_name, names)):
            named = declared = ()  # the names of the labels are numbers, and so are the cells
        where = f"{table.path}: column {label_column!r}"
        cells = detect_format(where, table.values(label_column), config, named or names, is_declared=bool(declared))
        cells = cells if own_names is None else replace(cells, names_of_ids=named)
    id_column = config.id_column or _detect_id_column(table, {text_column, label_column, config.rater_column, *label_columns})
    if has_fractions:
        notes.append("training uses the values of the labels as fractions of raters (data.soft_labels)")
    layout = Layout(text_column, id_column, label_column, label_columns, cells, None, None, config.soft_labels, has_fractions, notes)
    return layout._add_raters(table, config)


def find_text_column(table: Table, config: DataConfig) -> str:
    """Return the column of the text: the one that the config names, or the detected one.

    Raises: DataError if the named column is missing or none is detected.
    """
    _check_column(table, "text_column", config.text_column)
    return config.text_column or _detect_text_column(table, config)


def find_label_set(table: Table, layout: Layout, config: DataConfig, names: tuple[str, ...] | None) -> tuple[LabelSet, list[str]]:
    """Return the label set of a table, and messages about its names.

    It comes from the 0/1 columns, or else from the first of these: the config, the names that the data declares, `names`, the values.
    """
    if layout.label_columns:
        if config.label_names and set(map(fold_name, config.label_names)) != set(map(fold_name, layout.label_columns)):
            raise DataError(
                f"data.label_names={','.join(config.label_names)}: has no effect beside the 0/1 columns {', '.join(layout.label_columns)}, "
                "whose names are the labels; rename the columns, or leave data.label_names out"
            )
        is_number = all(column.isdecimal() for column in layout.label_columns)
        return LabelSet(layout.label_columns), ["the labels are numbers, as the names of their columns are"] if is_number else []
    assert layout.label_column is not None
    names = config.label_names or tuple(table.class_names.get(layout.label_column, ())) or names
    if names:
        if pair := find_lookalikes(names):
            same = f"the names {pair[0]!r} and {pair[1]!r} look the same"
            raise DataError(f"labels: {same}; rename one of them in data.label_names or labels.txt")
        return LabelSet(names), []
    spellings: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for name, number in _count_names(table.values(layout.label_column), layout.cells).items():
        spellings[fold_name(name)][name] += number
    numbers = [label_id for name in spellings if (label_id := read_digits(name)) is not None]
    if numbers and len(numbers) == len(spellings):
        message = f"the labels are the numbers {min(numbers)} to {max(numbers)}; data.label_names or a labels.txt names them"
        return LabelSet(_list_numbers(set(numbers))), [message]
    chosen = {key: _choose_spelling(key, found) for key, found in spellings.items()}
    folded = [f"{', '.join(map(repr, sorted(found)))} are {chosen[key]!r}" for key, found in spellings.items() if len(found) > 1]
    if len(chosen) < 2:
        reason = _find_fault(table.values(layout.label_column), layout.cells)
        found_names = f"only {format_names(chosen.values())}" if chosen else "none"
        raise DataError(
            f"{table.path}: {layout.describe_labels()}: found {found_names}, need at least 2 labels; "
            f"{f'the first cell that cannot be read: {reason}; ' if reason else ''}check data.label_column or data.label_columns"
        )
    return LabelSet(tuple(sorted(chosen.values()))), [f"names that look the same are one label: {'; '.join(folded)}"] if folded else []


def _has_raters(table: Table, text_column: str, config: DataConfig) -> bool:
    """Return whether a table has a column of raters, and texts that occur several times."""
    texts = table.values(text_column)
    return (config.rater_column or find_rater_column(table.columns)) in table.columns and len(set(map(str, texts))) < len(texts)


def _choose_spelling(key: str, found: Counter[str]) -> str:
    """Return the most frequent spelling of a name; the folded one, or the first, of several."""
    return min(found, key=lambda name: (-found[name], name != key, name))


def _count_names(values: list[Any], cells: CellFormat) -> Counter[str]:
    """Return how often each label is written; the keys of an object are labels even if all its flags are 0."""
    counts: Counter[str] = Counter()
    for value in values:
        try:
            labels = cells.read(value)
            parsed = parse_cell(value, cells.delimiter)
        except DataError:  # reported when the row is read
            continue
        counts.update(map(str, labels.labels))
        if isinstance(parsed, dict) and find_choices(parsed) is None:
            counts.update({str(key).strip(): 0 for key in parsed})
    return counts


def _find_fault(values: list[Any], cells: CellFormat) -> str | None:
    """Return why the first cell that cannot be read is bad; None if all can be read."""
    for value in values:
        try:
            cells.read(value)
        except DataError as error:
            return str(error)
    return None


def _list_numbers(found: set[int]) -> tuple[str, ...]:
    """Return the names of numeric labels: 0 or 1 up to the last one, or those that occur if most numbers between do not."""
    first, last = min(1, *found), max(found)
    return tuple(map(str, range(first, last + 1) if last - first < 2 * len(found) else sorted(found)))


def _check_column(table: Table, key: str, column: str | None) -> None:
    if column is not None and column not in table.columns:
        raise DataError(f"{table.path}: data.{key}={column!r} is not among its columns {table.columns}")


def _head(table: Table, column: str) -> list[Any]:
    return table.values(column)[:DETECTION_ROWS]


def _detect_text_column(table: Table, config: DataConfig) -> str:
    """Return the column with a known name for texts, otherwise the one with the longest strings on average.

    A column that the config names for something else is none; one with a known name for ids, labels or raters only if it is the only one.

    Raises: DataError if there are no strings, or if a value within objects has a known name for texts.
    """
    free = [column for column in table.columns if column not in config.named_columns]
    if (known := _find_by_name(free, TEXT_COLUMN_NAMES)) is not None:
        return known
    path = find_text_path(table.columns, table.rows)
    other_names = {*ID_COLUMN_NAMES, *LABEL_COLUMN_NAMES, str(find_rater_column(free)).lower()}
    for columns in ([column for column in free if column.lower() not in other_names], free):
        lengths = {column: _mean_length(_head(table, column)) for column in columns}
        best = max(lengths, key=lambda column: lengths[column], default=None)
        if best is not None and lengths[best] > 0:
            if path is not None and path.rpartition(".")[2].lower() in TEXT_COLUMN_NAMES:
                raise DataError(f"{table.path}: the text may be in column {best!r} or in {path!r}; set data.text_column to one of them")
            return best
    hint = f", perhaps data.text_column={path}" if path else ""
    raise DataError(f"{table.path}: no column looks like text among {table.columns}; set data.text_column{hint}")


def _find_by_name(columns: list[str], names: tuple[str, ...]) -> str | None:
    """Return the column whose name comes first in `names`, or None; case is ignored."""
    return next((column for name in names for column in columns if column.lower() == name), None)


def _mean_length(values: list[Any]) -> float:
    return sum(len(value) for value in values if isinstance(value, str)) / max(len(values), 1)


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
