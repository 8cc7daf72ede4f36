"""Read a suite of behaviour checks from a csv or jsonl file: one case per row, checked before any model is loaded."""

import csv
import difflib
import hashlib
import json
import re
import reprlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from emotion.errors import DataError
from emotion.text import is_writable_text

BUNDLED = Path(__file__).parents[2] / "data" / "behaviour" / "suite.jsonl"
MAX_BYTES = 2**26
"""Largest suite that is read; the bundled one has 230 kB."""
EXPECTATIONS = {
    "any": "at least one of the labels is predicted",
    "all": "all of the labels are predicted",
    "none": "none of the labels is predicted",
    "higher": "the mean probability of the labels is higher than for `compare_to`",
    "lower": "the mean probability of the labels is lower than for `compare_to`",
    "not_lower": "the mean probability of the labels is at most the tolerance lower than for `compare_to`",
    "same": "every probability is within the tolerance of that for `compare_to`, or of the mean of the group",
}
"""What a case can expect. The first three are minimum functionality tests, `same` an invariance test, the others directional tests."""
ABSOLUTE = ("any", "all", "none")
TRUTH = {"": False, "false": False, "no": False, "0": False, "true": True, "yes": True, "1": True}
COLUMNS = ("id", "capability", "text", "expect", "labels", "compare_to", "group", "term", "reason", "hard")
REQUIRED = ("capability", "text", "expect")


@dataclass(frozen=True)
class Case:
    """One text and what a model should answer."""

    id: str
    capability: str
    text: str
    expect: str
    """One of `EXPECTATIONS`."""
    labels: tuple[str, ...]
    """Empty in `same`, if all labels of the model are meant."""
    compare_to: str
    """The text that this one is compared with; empty if there is none."""
    group: str
    """Name of the cases that should get the same probabilities; empty if there is none."""
    term: str
    """The identity term in the text; empty if there is none."""
    reason: str
    is_hard: bool
    """Whether a model may be expected to fail, such as on sarcasm."""

    @property
    def cluster(self) -> str:
        """What the case shares with cases that are not independent of it: group, counterpart or text."""
        return f"group {self.group}" if self.group else self.compare_to or self.text


def read_suite(path: Path) -> list[Case]:
    """Return the cases of a csv or jsonl file.

    Raises: DataError, naming the line and the key, for a file or a case that cannot be used.
    """
    text = _read_text(path)
    rows = _list_csv(text, path) if path.suffix.lower() == ".csv" else _list_json(text, path)
    cases = [_make_case(values, where, number) for number, (where, values) in enumerate(rows, start=1)]
    if not cases:
        raise DataError(f"{path}: has no case; docs/behaviour.md describes the format")
    _check_together(cases, path)
    return cases


def compute_fingerprint(cases: Sequence[Case]) -> str:
    """Return the SHA-256 of all that decides whether a case passes; reasons may change."""
    decisive = [[value for name, value in zip(COLUMNS, astuple(case), strict=True) if name != "reason"] for case in cases]
    return hashlib.sha256(json.dumps(decisive).encode()).hexdigest()


def _read_text(path: Path) -> str:
    if path.suffix.lower() not in (".csv", ".jsonl"):
        raise DataError(f"{path}: a suite is a .csv or .jsonl file, got {path.suffix or 'no suffix'!r}; save it as one")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"{path}: has {path.stat().st_size:,} bytes, a suite at most {MAX_BYTES:,}; split it")
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); give another suite") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: byte {error.start:,} is not UTF-8; save the suite as UTF-8") from None


def _list_json(text: str, path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield where each object is and its values; blank lines are left out."""
    for number, line in enumerate(text.split("\n"), start=1):  # other separators, such as U+2028, can be in a JSON string
        where = f"{path}, line {number}"
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{where}: is not JSON ({error}); write one object per line") from None
        if not isinstance(values, dict):
            raise DataError(f"{where}: must be a JSON object, not {reprlib.repr(values)}")
        yield where, values


def _list_csv(text: str, path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield where each row ends and its cells; blank lines are left out."""
    rows = csv.reader(StringIO(text, newline=""), strict=True)
    names: list[str] = []
    try:
        for row in rows:
            where = f"{path}, line {rows.line_num}"
            if not names:
                names = row
                if duplicates := [name for name, count in Counter(names).items() if count > 1]:
                    raise DataError(f"{where}: two columns are called {duplicates[0]!r}; rename one")
            elif row and len(row) != len(names):
                raise DataError(f"{where}: has {len(row)} cells, the header has {len(names)}; quote cells that hold commas")
            elif row:
                yield where, dict(zip(names, row, strict=True))
    except csv.Error as error:
        raise DataError(f"{path}, line {rows.line_num}: is not csv ({error}); quote cells that hold quotes or commas") from None


def _make_case(values: dict[str, Any], where: str, number: int) -> Case:
    """Return a case from the values of a row."""
    if unknown := [key for key in values if key not in COLUMNS]:
        near = difflib.get_close_matches(unknown[0], COLUMNS, n=1)
        raise DataError(f"{where}: unknown key {unknown[0]!r}, " + (f"did you mean {near[0]}?" if near else f"use {', '.join(COLUMNS)}"))
    labels, hard = values.get("labels"), values.get("hard")
    names = re.split(r"[|;,]", labels) if isinstance(labels, str) else [] if labels is None else labels
    if not isinstance(names, list) or not all(isinstance(name, str) and is_writable_text(name) for name in names):
        raise DataError(f"{where}: labels={reprlib.repr(labels)}: must be a list of names, or names between |")
    is_hard = hard if isinstance(hard, bool) else TRUTH.get(str("" if hard is None else hard).strip().lower())
    if is_hard is None:
        raise DataError(f"{where}: hard={reprlib.repr(hard)}: must be true or false")
    texts = {key: _read_cell(values.get(key), key, where) for key in COLUMNS if key not in ("labels", "hard")}
    labels = tuple(dict.fromkeys(name.strip() for name in names if name.strip()))
    case = Case(**texts | {"id": texts["id"] or str(number)}, labels=labels, is_hard=is_hard)
    _check_case(case, where)
    return case


def _read_cell(value: Any, key: str, where: str) -> str:
    if not isinstance(value, str | None) or not is_writable_text(value):
        raise DataError(f"{where}: {key}={reprlib.repr(value)}: must be text")
    text = value or ""
    if key in REQUIRED and not text.strip():
        raise DataError(f"{where}: {key} is missing; every case has {', '.join(REQUIRED)}")
    return text if key in ("text", "compare_to") else text.strip()


def _check_case(case: Case, where: str) -> None:
    """Raise a DataError for values that do not fit together."""
    if case.expect not in EXPECTATIONS:
        raise DataError(f"{where}: expect={case.expect!r}: must be one of {', '.join(EXPECTATIONS)}")
    if case.expect != "same" and not case.labels:
        raise DataError(f"{where}: expect={case.expect}: needs labels")
    needed = {"same": "compare_to or group, one of them"}.get(case.expect, "no compare_to" if case.expect in ABSOLUTE else "compare_to")
    has_one = bool(case.compare_to) != bool(case.group)
    is_complete = has_one if case.expect == "same" else bool(case.compare_to) == (case.expect not in ABSOLUTE)
    if not is_complete:
        raise DataError(f"{where}: expect={case.expect}: needs {needed}")
    if case.group and case.expect != "same":
        raise DataError(f"{where}: group={case.group!r}: is for expect=same, got expect={case.expect}")
    if case.term and not case.group:
        raise DataError(f"{where}: term={case.term!r}: needs a group, whose cases differ in their terms only")
    if case.compare_to and case.compare_to == case.text:
        raise DataError(f"{where}: compare_to is the text itself; give another one")


def _check_together(cases: Sequence[Case], path: Path) -> None:
    """Raise a DataError for ids or terms that occur twice, a group of one case, or one that has two capabilities."""
    if repeated := [name for name, count in Counter(case.id for case in cases).items() if count > 1]:
        raise DataError(f"{path}: two cases have the id {repeated[0]!r}; rename one")
    groups: dict[str, list[Case]] = {}
    for case in cases:
        if case.group:
            groups.setdefault(case.group, []).append(case)
    for name, members in groups.items():
        terms = [case.term for case in members if case.term]
        if len(members) == 1:
            raise DataError(f"{path}: group {name!r} has one case; a group has two or more, which are compared")
        if len({case.capability for case in members}) > 1:
            raise DataError(f"{path}: group {name!r} has cases of {len({case.capability for case in members})} capabilities; it needs one")
        if len(set(terms)) < len(terms) or (terms and len(terms) < len(members)):
            raise DataError(f"{path}: group {name!r}: give each of its cases a term of its own, or none of them a term")
