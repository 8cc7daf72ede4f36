"""Read what another model predicted for rows that are known by id: label names, 0/1 columns or probabilities, in a file of any format."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from emotion.config import DataConfig
from emotion.data.reading.label_formats import detect_format
from emotion.data.reading.label_values import find_number, is_flag, read_flag
from emotion.data.reading.rows import ID_COLUMN_NAMES, LABEL_COLUMN_NAMES
from emotion.data.reading.tables import Table, read_table
from emotion.errors import DataError
from emotion.labels import LabelSet, fold_name
from emotion.text import MAX_NAMES_SHOWN, format_count, format_names

PREDICTION_COLUMN_NAMES = ("predicted_labels", "predicted_label", "predictions", "prediction", "predicted")
PREFIX = "probability_"
"""Before the name of a label in the columns of a scored file."""
THRESHOLD = 0.5
"""Of labels that have probabilities only: a threshold fitted on the rows that are scored would flatter the model."""

Reader = Callable[[list[Any]], list[str | int]]
"""Returns the labels of a row, by name or id. Raises DataError if they cannot be read."""


@dataclass(frozen=True)
class FilePredictions:
    """Predictions of a file for given rows, in their order."""

    predictions: np.ndarray
    """bool (n, L)."""
    probabilities: np.ndarray | None
    """float32 (n, L); None if the file has labels only."""
    notes: list[str]
    """What was read and what was left out: messages for the user, without the file's name."""


def read_predictions(path: Path, ids: Sequence[str], label_set: LabelSet) -> FilePredictions:
    """Return the predictions of a file for the rows `ids`. A row that the file lacks counts as one without labels, with probabilities 0.

    Raises: DataError if ids or predictions are not found, an id occurs twice, no label is known, or a probability is not in [0, 1].
    """
    names = {*ID_COLUMN_NAMES, *PREDICTION_COLUMN_NAMES, *LABEL_COLUMN_NAMES, *label_set.names}
    table = read_table(path, DataConfig(), names)
    rows, notes = _match_rows(table, ids)
    notes += [f"{format_count(len(table.bad_rows), 'bad row')} left out, the first: {table.bad_rows[0]}"] if table.bad_rows else []
    columns, strangers = _find_label_columns(table, label_set)
    is_flags = bool(columns) and all(is_flag(value) for name in columns.values() for value in table.values(name))
    label_column = _find_label_column(table, allow_gold_names=not columns)
    probabilities = _read_probabilities(table, columns, rows, label_set) if columns and not is_flags else None
    if label_column is not None:
        reader = _read_cells(table, label_column, label_set)
        predictions, label_notes = _read_labels(table, rows, label_set, reader)
        notes = [f"labels from column {label_column!r}", *notes, *label_notes]
    elif is_flags:
        positions = {label: table.columns.index(name) for label, name in columns.items()}
        predictions, label_notes = _read_labels(table, rows, label_set, partial(_read_flags, positions))
        notes = [f"labels from {len(columns)} 0/1 columns", *notes, *label_notes]
    elif probabilities is not None:
        predictions = probabilities >= THRESHOLD
        notes = [f"no labels, so those with a probability of at least {THRESHOLD} count; no threshold is fitted on the rows scored", *notes]
    else:
        wanted = f"{PREDICTION_COLUMN_NAMES[0]}, or a column for each label, such as {PREFIX}{label_set.names[0]}"
        raise DataError(f"{path}: no column of predictions among {table.columns}; name it {wanted}")
    notes += [f"probabilities from {len(columns)} columns"] if probabilities is not None else ["labels only, no probabilities"]
    if columns and (missing := [name for column, name in enumerate(label_set.names) if column not in columns]):
        notes.append(f"no column for {format_names(missing)}")
    notes += [f"unknown labels are left out: {format_names(strangers)}"] if strangers else []
    return FilePredictions(predictions, probabilities, notes)


def _match_rows(table: Table, ids: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """Return the position in the table of each row `ids`, int (n,), -1 where it is missing, and messages for the user.

    Without a known name for ids, a column must hold all of them: numbers such as stars or years hold some by chance.
    """
    wanted = set(ids)
    if len(wanted) < len(ids):
        repeated, count = Counter(ids).most_common(1)[0]
        raise DataError(
            f"{table.path}: {count:,} test rows of the run have the id {repeated!r}, so predictions cannot be matched by id; give each row "
            "an id of its own, train and evaluate again"
        )
    named = [column for column in table.columns if column.lower() in ID_COLUMN_NAMES]
    candidates = {column: [_format_id(value) for value in table.values(column)] for column in named or table.columns}
    column = max(candidates, key=lambda name: len(wanted.intersection(candidates[name])), default=None)
    if column is None or not wanted.intersection(candidates[column]):
        where = f"column {column!r} holds no" if named else f"none of the columns {table.columns} holds an"
        raise DataError(f"{table.path}: {where} id of a test row, such as {ids[0]!r}; name the column with them id")
    if not named and not wanted <= set(candidates[column]):
        where = f"no column is named id, and none of {table.columns} holds the ids of all test rows"
        raise DataError(f"{table.path}: {where}, such as {ids[0]!r}; name the column with them id")
    values = candidates[column]
    positions: dict[str, int] = {}
    for position, value in enumerate(values):
        if value in wanted and positions.setdefault(value, position) != position:
            lines = f"lines {table.lines[positions[value]]} and {table.lines[position]}"
            remedy = "remove one of them" if named else "name the column with the ids id"
            raise DataError(f"{table.path}: the id {value!r} of column {column!r} is in {lines}; {remedy}")
    num_missing, num_other = len(wanted - positions.keys()), sum(value not in wanted for value in values)
    missing = f"{num_missing:,} of {len(wanted):,} test rows are missing and count as rows without labels"
    notes = [] if named else [f"ids from column {column!r}"]
    notes += [missing] if num_missing else []
    notes += [f"{format_count(num_other, 'row')} left out: not of the test split"] if num_other else []
    return np.array([positions.get(row, -1) for row in ids]), notes


def _format_id(value: Any) -> str:
    """Return an id as text; a table of numbers may hold 7 as 7.0."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


def _find_label_columns(table: Table, label_set: LabelSet) -> tuple[dict[int, str], list[str]]:
    """Return the column of the table for each label that has one, and the columns that scored files have for labels not in the set."""
    folded = {fold_name(name): column for column, name in enumerate(label_set.names)}
    prefixed = [column for column in table.columns if column.startswith(PREFIX)]
    if not prefixed:
        return {folded[fold_name(column)]: column for column in table.columns if fold_name(column) in folded}, []
    known = {fold_name(column.removeprefix(PREFIX)): column for column in prefixed}
    strangers = [column.removeprefix(PREFIX) for key, column in known.items() if key not in folded]
    return {folded[key]: column for key, column in known.items() if key in folded}, strangers


def _find_label_column(table: Table, allow_gold_names: bool) -> str | None:
    """Return the column of predicted labels; `labels` and the like are taken for gold labels beside columns of predictions."""
    names = (*PREDICTION_COLUMN_NAMES, *(LABEL_COLUMN_NAMES if allow_gold_names else ()))
    return next((column for name in names for column in table.columns if column.lower() == name), None)


def _read_cells(table: Table, column: str, label_set: LabelSet) -> Reader:
    """Return how the labels of a row are read from the cell of one column."""
    try:
        cells = detect_format(f"{table.path}: column {column!r}", table.values(column), DataConfig(), label_set.names)
    except DataError as error:  # its remedy is a setting of data.*
        raise DataError(f"{str(error).partition(';')[0]}; write names of labels, or a column {PREFIX}NAME for each label") from None
    position = table.columns.index(column)
    return lambda row: cells.read(row[position]).labels


def _read_flags(positions: dict[int, int], row: list[Any]) -> list[str | int]:
    """Return the labels whose 0/1 column says yes; `positions` are those of the columns of the labels."""
    return [label for label, position in positions.items() if read_flag(str(label), row[position], None)]


def _read_labels(table: Table, rows: np.ndarray, label_set: LabelSet, read: Reader) -> tuple[np.ndarray, list[str]]:
    """Return the labels of the rows at the positions `rows`, bool (n, L), and messages on labels and cells that are not known."""
    unknown: Counter[str] = Counter()
    unreadable: list[str] = []
    columns: list[list[int]] = [[] for _ in rows]
    for number, position in enumerate(rows):
        if position < 0:
            continue
        try:
            labels = read(table.rows[position])
        except DataError as error:
            unreadable.append(f"{table.path}:{table.lines[position]}: {error}")
            continue
        for label in labels:
            try:
                columns[number].append(label_set.column(label))
            except DataError:
                unknown[str(label)] += 1
    if unknown and not any(columns):
        raise DataError(
            f"{table.path}: has the labels {format_names(unknown)}, none of which the runs have; "
            f"their labels are {format_names(label_set.names)}"
        )
    notes = [f"{format_count(len(unreadable), 'unreadable row')}, as if without labels, the first: {unreadable[0]}"] if unreadable else []
    if unknown:
        shown = ", ".join(f"{name!r} ({format_count(number, 'row')})" for name, number in unknown.most_common(MAX_NAMES_SHOWN))
        notes.append(f"unknown labels are left out: {shown}{' and more' if len(unknown) > MAX_NAMES_SHOWN else ''}")
    return label_set.encode_columns(columns), notes


def _read_probabilities(table: Table, columns: dict[int, str], rows: np.ndarray, label_set: LabelSet) -> np.ndarray:
    """Return the probabilities of the rows at the positions `rows`, float32 (n, L)."""
    probabilities = np.zeros((len(rows), len(label_set)), dtype=np.float32)
    for label, column in columns.items():
        values = table.values(column)
        for number, position in enumerate(rows):
            if position < 0:
                continue
            probability = find_number(values[position])
            if probability is None or not 0 <= probability <= 1:
                where = f"{table.path}:{table.lines[position]}: column {column!r}"
                raise DataError(f"{where} is {values[position]!r}, must be a probability in [0, 1]")
            probabilities[number, label] = probability
    return probabilities
