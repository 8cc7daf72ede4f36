"""Read scored files into cells, row by row: the columns of the groups, the probabilities and, if wanted, texts and clusters."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from emotion.analysis.prevalence.cells import CellCounter, CellKey
from emotion.analysis.prevalence.grouping import Grouping
from emotion.analysis.prevalence.histograms import DECIMALS
from emotion.analysis.prevalence.levels import Levels, list_columns
from emotion.config import DataConfig
from emotion.data.reading.layout import find_text_column
from emotion.data.reading.opening import open_rows
from emotion.data.reading.rows import Row, Rows
from emotion.data.reading.tables import Table
from emotion.errors import DataError
from emotion.evaluation.decision import DecisionRule
from emotion.labels import PREDICTED, LabelSet
from emotion.text import format_count

CHUNK_ROWS = 16_384
MAX_CELLS = 2_000
"""Largest number of cells: 0.1 MB each."""
CHECKED_ROWS = 1_000
"""Number of rows whose dates are read before a file is scored."""
MAX_ROUNDING = 0.500001 * 10**-DECIMALS
"""How far the probabilities of a file are from those that were compared with the thresholds."""
MAX_SKIPPED = 0.05
"""Largest fraction of rows that are left out: a report on the others would mislead."""


@dataclass
class Skipped:
    """Rows that are in no cell, by reason: their number, and where the first is."""

    counts: dict[str, int] = field(default_factory=dict)
    first: dict[str, str] = field(default_factory=dict)

    def add(self, reason: str, where: str) -> None:
        """Count a row."""
        self.counts[reason] = self.counts.get(reason, 0) + 1
        self.first.setdefault(reason, where)

    def describe(self) -> list[str]:
        """Return a sentence for each reason."""
        return [f"{format_count(count, 'row')} left out: {reason} (first: {self.first[reason]})" for reason, count in self.counts.items()]


@dataclass(frozen=True)
class ScoredRows:
    """What was read: the cells and what to tell the user."""

    counter: CellCounter
    skipped: Skipped
    notes: list[str]
    has_texts: bool
    label_set: LabelSet
    """The labels of which the files have probabilities: those of the model, or the parents."""

    @property
    def num_rows(self) -> int:
        """Rows in all cells."""
        return sum(cell.num_rows for cell in self.counter.cells.values())


def is_scored(path: Path, grouping: Grouping, levels: Levels, config: DataConfig, cluster: str | None = None) -> bool:
    """Return whether a file has a probability of each label. It is checked first, because scoring is slow.

    Raises: DataError if it has those of some labels only, or predicted labels without any, if it lacks another column, and if it has none
    and its first rows have no date of the format.
    """
    with open_rows(path, config, names=levels.columns, is_lenient=True) as opened:
        _check_columns(str(path), opened.columns, grouping, cluster)
        is_complete = levels.find_scored(str(path), opened.columns) is not None
        if not is_complete:
            if PREDICTED in opened.columns:
                raise DataError(f"{path}: was scored without the probabilities of all labels; score it again with --probabilities all")
            _check_dates(opened, grouping)
        return is_complete


def read_scored(paths: Sequence[Path], grouping: Grouping, levels: Levels, config: DataConfig, cluster: str | None = None) -> ScoredRows:
    """Return the cells of the rows of scored files.

    Raises: DataError for a file that lacks a column, for too many cells, and if more than 5 % of the rows have to be left out.
    """
    counter, skipped = CellCounter(len(levels.label_set), cluster is not None), Skipped()
    notes: list[str] = []
    has_texts, label_set, num_alone, answers = False, levels.label_set, 0, _Answers()
    for path in paths:
        with open_rows(path, config, names=levels.columns, is_lenient=True) as opened:
            _check_columns(str(path), opened.columns, grouping, cluster)
            reader = _Reader(str(path), opened, grouping, levels, cluster, config)
            notes += [note for note in reader.notes if note not in notes]
            has_texts = has_texts or reader.text is not None
            label_set = levels.model_labels if reader.label_set == levels.model_labels else label_set
            for entries in _cut(opened.entries):
                keys, rows = reader.assign(entries, skipped, notes)
                if not rows:
                    continue
                probabilities = reader.read_probabilities(rows, answers)
                texts = [str(row.values[reader.text] or "") for row in rows] if reader.text is not None else None
                counter.add(keys, probabilities, levels.rule.decide(probabilities), texts, reader.read_clusters(rows))
                if len(counter.cells) > MAX_CELLS:
                    raise DataError(f"--by: makes more than {MAX_CELLS:,} groups; choose columns with fewer values, or a longer period")
            num_alone += reader.num_alone
    _check_skipped(paths, counter, skipped)
    if num_alone:
        notes.append(f"{format_count(num_alone, 'row')} without {cluster!r}, each counted as independent of all others")
    if answers.num_other:
        notes.append(
            f"{PREDICTED!r} of {answers.num_other:,} of {answers.num_rows:,} rows is not what the thresholds of this model give: another "
            "model scored them, for which the correction is wrong, or this one with other thresholds"
        )
    return ScoredRows(counter, skipped, notes, has_texts, label_set)


class _Answers:
    """Compares the predicted labels in scored files with those that a rule gives for their probabilities."""

    def __init__(self) -> None:
        self.num_rows = self.num_other = 0
        self._known: dict[str, np.ndarray | None] = {}

    def compare(self, cells: Sequence[Any], probabilities: np.ndarray, label_set: LabelSet, rule: DecisionRule) -> None:
        """Count the rows that can be compared, and those that differ by more than the rounding of probabilities, float (n, L)."""
        found = [self._read(cell, label_set) for cell in cells]
        rows = [row for row, labels in enumerate(found) if labels is not None]
        if not rows:
            return
        labels, distances = np.array([found[row] for row in rows]), probabilities[rows] - np.array(rule.thresholds)
        is_other = ((distances >= 0) != labels) & (np.abs(distances) > MAX_ROUNDING)
        is_likeliest = (distances < 0).all(axis=1) & (labels.sum(axis=1) == 1)  # by --empty-set top1
        self.num_rows += len(rows)
        self.num_other += int((is_other.any(axis=1) & ~is_likeliest).sum())

    def _read(self, cell: Any, label_set: LabelSet) -> np.ndarray | None:
        """Return the labels of a cell, bool (L,); None if it holds something else."""
        key = str(cell)
        if key not in self._known:
            if len(self._known) >= CHUNK_ROWS:
                self._known.clear()
            self._known[key] = _parse_labels(cell, label_set)
        return self._known[key]


def _parse_labels(cell: Any, label_set: LabelSet) -> np.ndarray | None:
    try:
        positions = [label_set.columns[name] for name in label_set.split_cell(cell)]
    except (KeyError, ValueError, TypeError, RecursionError):
        return None
    return np.isin(np.arange(len(label_set)), positions)


class _Reader:
    """The columns of one file."""

    def __init__(self, path: str, opened: Rows, grouping: Grouping, levels: Levels, cluster: str | None, config: DataConfig) -> None:
        columns = opened.columns
        self.notes = [f"{path}: {note}" for note in opened.notes]
        self._path, self._grouping = path, grouping
        label_set = levels.find_scored(path, columns)
        if label_set is None:
            raise DataError(f"{path}: has no probabilities; score it with --probabilities all")
        self._probabilities = [columns.index(name) for name in list_columns(label_set)]
        self._predicted = columns.index(PREDICTED) if PREDICTED in columns else None
        self.label_set, self._levels = label_set, levels
        self._groups = [columns.index(name) for name in grouping.columns]
        self._date = columns.index(grouping.date_column) if grouping.date_column is not None else None
        self._cluster, self.num_alone = columns.index(cluster) if cluster is not None else None, 0
        self.text = _find_text(path, columns, config)
        self._periods: dict[Any, str | None] = {}

    def assign(self, entries: Sequence[Any], skipped: Skipped, notes: list[str]) -> tuple[list[CellKey], list[Row]]:
        """Return the cells of the rows that have one, and these rows."""
        keys, rows = [], []
        for entry in entries:
            if not isinstance(entry, Row):
                skipped.add("cannot be read", str(entry))
                continue
            values, where = entry.values, f"{entry.path}:{entry.line}"
            if values[self._probabilities[0]] in (None, ""):
                skipped.add("not scored", where)
                continue
            period: str | None = ""
            if self._date is not None:
                try:
                    period = self._find_period(values[self._date])
                except (ValueError, TypeError):  # TypeError: a list or an object
                    reason = f"their {self._grouping.date_column!r} is no date by {self._grouping.date_format}"
                    skipped.add(reason, f"{where}: {str(values[self._date])[:50]!r}")
                    continue
                if period is None:
                    skipped.add("no date", where)
                    continue
                if not any(note.startswith("dates in column") for note in notes):
                    notes.append(self._grouping.describe_dates(values[self._date]))
            keys.append(CellKey(period or "", self._grouping.name_group([values[column] for column in self._groups])))
            rows.append(entry)
        return keys, rows

    def _find_period(self, value: Any) -> str | None:
        if value not in self._periods:
            if len(self._periods) >= CHUNK_ROWS:
                self._periods.clear()
            self._periods[value] = self._grouping.find_period(value)
        return self._periods[value]

    def read_clusters(self, rows: Sequence[Row]) -> list[Any] | None:
        """Return the cluster of each row: a row with an empty cell is one of its own, and is counted. None without clusters."""
        if self._cluster is None:
            return None
        is_alone = [row.values[self._cluster] in (None, "") for row in rows]
        self.num_alone += sum(is_alone)
        return [f"{row.path}:{row.line}" if alone else row.values[self._cluster] for row, alone in zip(rows, is_alone, strict=True)]

    def read_probabilities(self, rows: Sequence[Row], answers: _Answers) -> np.ndarray:
        """Return the probabilities, float (n, L), and compare the answers of the rows with them.

        Raises: DataError for a value that is no number in [0, 1].
        """
        columns = [[row.values[column] for row in rows] for column in self._probabilities]
        try:
            probabilities = np.array(columns, dtype=float).T
            if ((probabilities >= 0) & (probabilities <= 1)).all():
                if self._predicted is not None:
                    rule = self._levels.model_rule if self.label_set == self._levels.model_labels else self._levels.rule
                    answers.compare([row.values[self._predicted] for row in rows], probabilities, self.label_set, rule)
                return self._levels.convert(probabilities, self.label_set)
        except (ValueError, TypeError, OverflowError):
            pass
        for row in rows:
            for column in self._probabilities:
                if not _is_probability(row.values[column]):
                    value = str(row.values[column])[:50]
                    raise DataError(f"{row.path}:{row.line}: {value!r} is no probability; score the file with --probabilities all")
        raise AssertionError


def _check_columns(path: str, columns: list[str], grouping: Grouping, cluster: str | None) -> None:
    grouping.check_columns(path, columns)
    if cluster is not None and cluster not in columns:
        raise DataError(f"{path}: has no column {cluster!r}; its columns are {', '.join(map(repr, columns))}")


def _check_dates(opened: Rows, grouping: Grouping) -> None:
    """Raise a DataError if the first rows have dates, but none of the format."""
    if grouping.date_column is None:
        return
    column, wrong = opened.columns.index(grouping.date_column), []
    for row in itertools.islice(opened.entries, CHECKED_ROWS):
        if isinstance(row, Row):
            try:
                if grouping.find_period(row.values[column]) is not None:
                    return
            except (ValueError, TypeError):
                wrong.append(row)
    if wrong:
        raise DataError(
            f"{wrong[0].path}:{wrong[0].line}: {str(wrong[0].values[column])[:50]!r} in column {grouping.date_column!r} is no date by "
            f"{grouping.date_format}, and no row of the first {CHECKED_ROWS:,} has one; give the format, such as --date-format %d/%m/%Y, "
            "or unix for seconds"
        )


def _find_text(path: str, columns: list[str], config: DataConfig) -> int | None:
    """Return the position of the text column; None if no column has the name of one."""
    if config.text_column is not None:
        return columns.index(find_text_column(Table(path, columns), config))
    try:
        return columns.index(find_text_column(Table(path, columns), config))
    except DataError:
        return None


def _is_probability(value: Any) -> bool:
    try:
        return 0 <= float(value) <= 1
    except (ValueError, TypeError, OverflowError):
        return False


def _cut(entries: Iterable[Any]) -> Iterator[list[Any]]:
    iterator = iter(entries)
    while chunk := list(itertools.islice(iterator, CHUNK_ROWS)):
        yield chunk


def _check_skipped(paths: Sequence[Path], counter: CellCounter, skipped: Skipped) -> None:
    num_skipped = sum(skipped.counts.values())
    num_rows = num_skipped + sum(cell.num_rows for cell in counter.cells.values())
    if not counter.cells or num_skipped > MAX_SKIPPED * num_rows:
        if not skipped.counts:
            raise DataError(f"{paths[0]}: has no rows")
        reason = max(skipped.counts, key=lambda name: skipped.counts[name])
        hint = "; give their format, such as --date-format %d/%m/%Y" if "no date by" in reason else ""
        raise DataError(
            f"{paths[0]}: {num_skipped:,} of {num_rows:,} rows would be left out, and a report on the others would mislead; "
            f"of {skipped.counts[reason]:,}, {reason} (first: {skipped.first[reason]}){hint}"
        )
