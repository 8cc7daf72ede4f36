"""Read the labels of rows as columns of a `LabelSet`, and say what of a file matched the labels of a model."""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

from emotion.config import DataConfig
from emotion.data.reading.finding import read_label_names
from emotion.data.reading.label_formats import DETECTION_ROWS
from emotion.data.reading.label_values import is_flag, read_flag
from emotion.data.reading.layout import Layout, find_layout
from emotion.data.reading.rows import LABEL_COLUMN_NAMES
from emotion.data.reading.tables import Table
from emotion.errors import DataError
from emotion.labels import LabelSet, fold_name
from emotion.text import MAX_NAMES_SHOWN, format_count, format_names

LABEL_SETTINGS = ("label_delimiter", "first_label_id", "intensity_threshold")
"""Settings that say how labels are read: given for a file to score, they must have an effect."""


class LabelReader:
    """Reads the labels of rows as columns of a label set.

    A label that is not in the set is an error, or is counted and left out if `is_of_model`: a file that was not made for the model may have
    other labels.
    """

    def __init__(self, layout: Layout, label_set: LabelSet, is_of_model: bool = False) -> None:
        self.layout, self.label_set, self._is_of_model = layout, label_set, is_of_model
        self.unknown: Counter[str] = Counter()
        """Rows of each label that is not in the set."""
        self.respelled: dict[str, str] = {}
        """The label of each name that is written otherwise."""
        self.num_unclear = 0
        """Rows that their rater could not judge."""
        self._found: set[int] = set()
        self._columns: dict[str | int, int | None] = {}

    def read(self, row: dict[str, Any]) -> tuple[list[int], list[int]]:
        """Return the columns of a row's labels, and of the labels that nobody judged.

        Raises: DataError with the reason if they cannot be read.
        """
        unclear = self.layout.unclear_column
        if unclear is not None and row.get(unclear) is not None and read_flag(unclear, row[unclear], None):
            self.num_unclear += 1
            return [], list(range(len(self.label_set)))
        labels = self.layout.read_labels(row)
        found = [column for label in labels.labels if (column := self._find(label)) is not None]
        self._found.update(found)
        if not labels.is_judged:
            return [], list(range(len(self.label_set)))
        return found, [column for label in labels.not_judged if (column := self._find(label, is_counted=False)) is not None]

    def read_fractions(self, row: dict[str, Any]) -> list[float]:
        """Return the fraction of raters who gave each label of the set, 0 where it is not known.

        Raises: DataError with the reason if they cannot be read.
        """
        fractions = [0.0] * len(self.label_set)
        for label, fraction in self.layout.read_fractions(row).items():
            column = self._find(label, is_counted=False)
            if column is not None and fraction == fraction:  # nan, where nobody judged the label, differs from itself
                fractions[column] = fraction
        return fractions

    @property
    def missing(self) -> list[int]:
        """Columns of the labels that the file does not have, after its rows were read.

        A file of 0/1 columns has those of its columns. Any other file has all labels, unless it has labels that the model does not have:
        then it was labelled with other names, and has those that occur.
        """
        if self.layout.label_columns:
            has = {self._find(column, is_counted=False) for column in self.layout.label_columns}
        else:
            has = set(self._found) if self.unknown else set(range(len(self.label_set)))
        return [column for column in range(len(self.label_set)) if column not in has]

    def check(self, path: str) -> None:
        """Check that a label of the file is one of the model.

        Raises: DataError otherwise.
        """
        if len(self.missing) == len(self.label_set):
            raise DataError(
                f"{path}: has the labels {format_names(self.unknown or self.layout.label_columns)}, "
                f"none of which the model has; its labels are {format_names(self.label_set.names)}"
            )

    def describe(self) -> list[str]:
        """Return messages on labels that are written otherwise, that the model does not have, and that the file does not have."""
        messages = []
        if self.respelled:
            pairs = ", ".join(f"{written!r} is {name!r}" for written, name in list(self.respelled.items())[:MAX_NAMES_SHOWN])
            messages.append(f"labels matched in another spelling: {pairs}{' and more' if len(self.respelled) > MAX_NAMES_SHOWN else ''}")
        if self.unknown:
            rows = ", ".join(f"{name!r} ({format_count(number, 'row')})" for name, number in self.unknown.most_common(MAX_NAMES_SHOWN))
            more = " and more" if len(self.unknown) > MAX_NAMES_SHOWN else ""
            messages.append(f"labels that the model does not have are left out: {rows}{more}")
        if self.missing:
            names = [self.label_set.names[column] for column in self.missing]
            judged = f"{len(self.label_set) - len(names)} of the model's {len(self.label_set)} labels are judged"
            messages.append(f"{judged}; the file does not have {format_names(names)}")
        return messages

    def _find(self, label: str | int, is_counted: bool = True) -> int | None:
        """Return the column of a label, or None if a model does not have it."""
        if label not in self._columns:
            try:
                self._columns[label] = column = self.label_set.column(label)
            except DataError:
                if not self._is_of_model:
                    raise
                self._columns[label] = None
            else:
                name = self.label_set.names[column]
                if isinstance(label, str) and label != name and fold_name(label) == fold_name(name):
                    self.respelled[label] = name
        column_or_none = self._columns[label]
        if column_or_none is None and is_counted:
            self.unknown[str(label)] += 1
        return column_or_none


def find_gold_layout(table: Table, config: DataConfig, label_set: LabelSet) -> Layout:
    """Return the layout of a file with labels of a model: 0/1 columns that are named like its labels are found even if they are few.

    Ids stand for `data.label_names`, the names that the file declares, or those in a `labels.txt` beside it; otherwise for the model's.

    Raises: DataError as `find_layout` does.
    """
    names = label_set.names
    own_names = config.label_names or (() if table.class_names else read_label_names(table.path)) or ()
    if any(name.isdecimal() for name in own_names):  # a number is then a name, and not an id
        own_names = ()
    config = replace(config, label_names=names)
    if config.label_column is None and config.label_columns is None:
        known = {fold_name(name) for name in names}
        matched = tuple(column for column in table.columns if fold_name(column) in known and column != config.text_column)
        has_label_column = any(column.lower() in LABEL_COLUMN_NAMES for column in table.columns)
        is_whole = known <= set(map(fold_name, matched))
        if is_whole or (matched and not has_label_column and all(_has_flags(table, column) for column in matched)):
            config = replace(config, label_columns=matched)
    layout = find_layout(table, config, names, own_names)
    column = layout.label_column
    is_guess = config.label_column is None and column is not None and column.lower() not in LABEL_COLUMN_NAMES and table.has_header
    if is_guess and all(str(value).strip().isdecimal() for value in table.values(str(column))[:DETECTION_ROWS]):  # stars, numbers of rows
        raise DataError(f"{table.path}: no column looks like labels among {table.columns}; set data.label_column or data.label_columns")
    return layout


def _has_flags(table: Table, column: str) -> bool:
    """Return whether a column has a flag in its first rows."""
    return any(map(is_flag, table.values(column)[:DETECTION_ROWS]))


@dataclass(frozen=True)
class Gold:
    """Reads gold labels of rows that are scored one after another."""

    reader: LabelReader
    missing: list[int]
    """Columns of the labels that the file does not have."""

    def read(self, row: dict[str, Any]) -> tuple[list[int], list[int]] | None:
        """Return the columns of a row's labels and of those not judged; None if nobody judged it, or it has other labels than the model."""
        try:
            labels, not_judged = self.reader.read(row)
        except DataError:
            return None
        return None if len(not_judged) == len(self.reader.label_set) else (labels, [*not_judged, *self.missing])


def find_gold(table: Table, config: DataConfig, label_set: LabelSet) -> tuple[Gold | None, list[str]]:
    """Return how the gold labels of a table are read, or None if it has no labels of `label_set`, and messages for the user.

    `table` is the first rows of a file.

    Raises: DataError if the config names a column that does not exist, or that cannot be read.
    """
    has_named_columns = bool(config.label_column or config.label_columns)
    has_settings = has_named_columns or any(getattr(config, name) is not None for name in LABEL_SETTINGS)
    named = next((column for column in table.columns if column.lower() in LABEL_COLUMN_NAMES), None)
    try:
        layout = find_gold_layout(table, config, label_set)
        reader = LabelReader(layout, label_set, is_of_model=True)
        has_labels = _read_all(reader, table)
        reader.check(table.path)
    except DataError as error:
        if has_settings:
            raise
        return None, [f"no gold labels are read: {error}"] if named else []
    if not has_labels and not has_named_columns:
        return None, [f"no gold labels are read: column {named!r} is empty in the first rows"] if named else []
    notes = [*layout.notes, *reader.describe()]
    if reader.unknown:
        notes.append("rows with a label that the model does not have are not judged")
    return Gold(LabelReader(layout, label_set), reader.missing), notes


def _read_all(reader: LabelReader, table: Table) -> bool:
    """Read the labels of all rows, and return whether there are any; a number in a column of another name need not be a label's id."""
    column, has_labels = reader.layout.label_column, False
    for values in table.rows:
        row = dict(zip(table.columns, values, strict=True))
        try:
            labels, _ = reader.read(row)
        except DataError:
            continue
        is_number = column is not None and column.lower() not in LABEL_COLUMN_NAMES and str(row[column]).strip().isdecimal()
        has_labels |= bool(labels) and not is_number
    return has_labels
