"""Corrections: a person's decisions on the labels of rows, in the file that audit.py writes, applied to the rows of a data set."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from emotion.config import DataConfig
from emotion.data.reading.examples import CorrectedRow, Dataset, Examples
from emotion.data.reading.label_formats import DELIMITERS
from emotion.data.reading.label_values import parse_cell
from emotion.data.reading.tables import read_table
from emotion.data.splitting import normalize_text
from emotion.errors import DataError
from emotion.labels import LabelSet
from emotion.paths import expand_path
from emotion.text import format_count, unescape_formula

KEEP, DROP, NO_LABEL = "keep", "drop", "none"
"""Decisions other than labels: the labels are right, the row is left out, the row has no label."""
COLUMNS = ("id", "split", "text", "decision")
CSV_ENDINGS = (".csv", ".tsv", ".txt")
MAX_SHOWN = 20
UNUSED = "unused"
"""Name of the training rows that `data.train_fraction` left out."""
FindSplit = Callable[[str, str], str | None]
"""From the id and the text of a row to its split in a run, `UNUSED` included; None if the run does not have it."""


@dataclass(frozen=True)
class Decision:
    """A decision on a row."""

    line: int
    split: str
    id: str
    text: str
    labels: list[int] | None
    """Columns of the new labels; None for `keep` and `drop`."""
    is_drop: bool

    @property
    def is_change(self) -> bool:
        return self.is_drop or self.labels is not None


def apply_corrections(dataset: Dataset, config: DataConfig, find_split: FindSplit | None = None) -> None:
    """Drop and relabel the rows of a data set as `data.corrections` says, and add messages that count what was done.

    `find_split` tells the split of a row where `dataset` is not split as in training: in the run that is scored, which remembers its rows.
    Decisions on rows that are not there are then left out.

    Raises: DataError that lists each decision that cannot be used.
    """
    assert config.corrections is not None
    path = expand_path(config.corrections)
    if find_split is not None and not path.exists():
        dataset.messages.append(f"corrections: {path} is no longer there, so training rows have the labels of the data")
        return
    decisions, num_empty = read_decisions(path, dataset.label_set)
    found, problems = _find_rows(decisions, dataset, is_complete=find_split is None)
    _check(problems + _find_conflicts(found), path)
    counts: Counter[str] = Counter()
    skipped: Counter[str] = Counter()
    changes: dict[str, dict[int, Decision]] = defaultdict(dict)
    for decision, split, rows in found:
        # A row that the run does not remember is in none of its splits: training has dropped it.
        own = split if find_split is None else find_split(dataset[split].ids[rows[0]], dataset[split].texts[rows[0]])
        if not decision.is_change:
            counts[KEEP] += 1
        elif own is not None and own not in config.corrected_splits:
            skipped[own] += 1
        else:
            counts[DROP if decision.is_drop else "labels"] += 1
            changes[split] |= dict.fromkeys(rows, decision)
    for split, of_rows in changes.items():
        dataset.splits[split] = _change_rows(split, dataset, of_rows)
    done = f"{format_count(counts[DROP], 'row')} dropped, {counts['labels']:,} with new labels, {counts[KEEP]:,} kept"
    dataset.messages.append(f"corrections: {path}: {done}; {num_empty:,} without a decision")
    for split, number in skipped.items():
        dataset.messages.append(_describe_skipped(split, number, config.corrected_splits))


def read_decisions(path: Path, label_set: LabelSet) -> tuple[list[Decision], int]:
    """Return the decisions in a file, and the number of rows without one.

    Raises: DataError if columns are missing, for labels that are not in the set, and for rows with two different decisions.
    """
    is_csv = any(path.name.lower().endswith(ending) for ending in CSV_ENDINGS)
    table = read_table(path, DataConfig(has_header=True, quoting=True, escape="none") if is_csv else None, set(COLUMNS))
    problems = [f"{row.path}:{row.line}: {row.reason}" for row in table.bad_rows]
    if missing := [column for column in COLUMNS if column not in table.columns]:
        raise DataError(f"data.corrections={path}: lacks the columns {missing}; give a file that audit.py wrote, with its columns")
    decisions: dict[tuple[str, str, str], Decision] = {}
    num_empty = 0
    for line, values in zip(table.lines, table.rows, strict=True):
        row = dict(zip(table.columns, values, strict=True))
        row_id, split, text, cell = ("" if row[column] is None else str(row[column]) for column in COLUMNS)
        if not cell.strip():
            num_empty += 1
            continue
        try:
            labels = read_labels(cell, label_set)
        except DataError as error:
            problems.append(f"{path}:{line}: {error}; write {KEEP}, {DROP}, {NO_LABEL} or labels of the data, separated by |")
            continue
        decision = Decision(line, split.strip(), row_id, text, labels, cell.strip().lower() == DROP)
        key = (decision.split, row_id, normalize_text(text))
        earlier = decisions.setdefault(key, decision)
        if replace(earlier, line=line, text=text) != decision:
            problems.append(f"{path}:{line}: row {row_id!r} of {split} has another decision in line {earlier.line}; leave one of them")
    _check(problems, path)
    return list(decisions.values()), num_empty


def read_labels(cell: str, label_set: LabelSet) -> list[int] | None:
    """Return the columns of the labels in a cell; None for `keep` and `drop`.

    A name that contains a separator is one label if it is in the set; a list in brackets is read as JSON.

    Raises: DataError for a label that is not in the set.
    """
    text = cell.strip()
    text = text if _is_known(text, label_set) else unescape_formula(text)  # copied from another cell of audit.csv
    if text.lower() in (KEEP, DROP):
        return None
    if text.lower() == NO_LABEL and not _is_known(text, label_set):
        return []
    value = parse_cell(text)
    if isinstance(value, list):
        return sorted({_find_column(str(label), label_set) for label in value})
    candidates = [[text], *([part.strip() for part in text.split(mark) if part.strip()] for mark in DELIMITERS if mark in text)]
    parts = next((parts for parts in candidates if parts and all(_is_known(part, label_set) for part in parts)), candidates[-1])
    return sorted({_find_column(part, label_set) for part in parts or [text]})


def _find_column(name: str, label_set: LabelSet) -> int:
    """Return the column of a label. A person who writes 1 means yes, and not the label with this id, so ids are refused."""
    column = label_set.column(name)
    if name.strip().isdecimal() and not label_set.names[column].isdecimal():
        raise DataError(f"unknown label {name!r}")
    return column


def _is_known(name: str, label_set: LabelSet) -> bool:
    try:
        _find_column(name, label_set)
    except DataError:
        return False
    return True


def _find_conflicts(found: list[tuple[Decision, str, list[int]]]) -> list[str]:
    """Return a problem for each row that has two different decisions, under whatever split and id the lines name it."""
    problems = []
    decided: dict[tuple[str, int], Decision] = {}
    for decision, split, rows in found:
        for row in rows:
            earlier = decided.setdefault((split, row), decision)
            if (earlier.labels, earlier.is_drop) != (decision.labels, decision.is_drop):
                problems.append(
                    f"line {decision.line}: row {decision.id!r} of {split} has another decision in line {earlier.line}; leave one of them"
                )
                break
    return problems


def _find_rows(decisions: list[Decision], dataset: Dataset, is_complete: bool) -> tuple[list[tuple[Decision, str, list[int]]], list[str]]:
    """Return (decision, split, its rows there) for each decision and, if `is_complete`, a problem for each whose row is not in the data.

    The row is in the split that the file names, or in another one where the splits were drawn anew.
    """
    parts = dataset.splits | ({UNUSED: dataset.unused} if dataset.unused is not None else {})
    by_id: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for split, examples in parts.items():
        for row, row_id in enumerate(examples.ids):
            by_id[row_id].append((split, row))
    found, problems = [], []
    for decision in decisions:  # audit.py puts an apostrophe before what a spreadsheet would take for a formula
        texts = {normalize_text(decision.text), normalize_text(unescape_formula(decision.text))}
        candidates = [pair for row_id in {decision.id, unescape_formula(decision.id)} for pair in by_id[row_id]]
        equal = [(split, row) for split, row in candidates if normalize_text(parts[split].texts[row]) in texts]
        own = [(split, row) for split, row in equal if split == decision.split] or equal
        if own:
            split = own[0][0]
            found.append((decision, split, [row for other, row in own if other == split]))
        elif is_complete:
            problems.append(_describe_missing(decision, any(split == decision.split for split, _ in candidates)))
    return found, problems


def _describe_missing(decision: Decision, is_known: bool) -> str:
    where = f"line {decision.line}: row {decision.id!r} of {decision.split}"
    if is_known:
        return f"{where} has another text than in the data; decide on the text as it is now, or leave the line out"
    return f"{where} is not in the data; give the data that was audited, or leave the line out"


def _change_rows(split: str, dataset: Dataset, decisions: dict[int, Decision]) -> Examples:
    """Return the rows of a split after the decisions on them, by row, and record each change."""
    examples = dataset.splits[split]
    labels = examples.labels.copy()
    is_judged, fractions = (None if values is None else values.copy() for values in (examples.is_judged, examples.fractions))
    for row, decision in sorted(decisions.items()):
        before = dataset.label_set.decode(labels[row])
        if decision.labels is not None:
            labels[row] = False
            labels[row, decision.labels] = True
            if is_judged is not None:
                is_judged[row, decision.labels] = True
            if fractions is not None:  # a decision stands above the votes
                fractions[row] = labels[row]
        after = None if decision.is_drop else dataset.label_set.decode(labels[row])
        dataset.corrected.append(CorrectedRow(split, examples.ids[row], before, after))
    kept = np.array([row for row in range(len(examples)) if row not in decisions or not decisions[row].is_drop], dtype=np.int64)
    return replace(examples, labels=labels, is_judged=is_judged, fractions=fractions).take(kept)


def _describe_skipped(split: str, number: int, allowed: tuple[str, ...]) -> str:
    if split == UNUSED:
        return f"corrections: {format_count(number, 'decision')} on training rows that data.train_fraction leaves out"
    remedy = f"data.corrected_splits={','.join([*allowed, split])} applies them"
    decisions = format_count(number, "decision")
    return f"corrections: {decisions} on {split} rows not applied, so that scores compare with those of other runs; {remedy}"


def _check(problems: list[str], path: Path) -> None:
    """Raise a DataError that lists the problems, if there are any."""

    def list_lines() -> Iterator[str]:
        yield f"data.corrections={path}: cannot use {format_count(len(problems), 'line')}:"
        yield from (f"  {problem}" for problem in problems[:MAX_SHOWN])
        if len(problems) > MAX_SHOWN:
            yield f"  and {len(problems) - MAX_SHOWN:,} more"

    if problems:
        raise DataError(*list_lines())
