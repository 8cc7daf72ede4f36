"""The parts of a scored file: how rows are cut into them, what they count, and the markers that they are complete."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from emotion.data.reading.rows import BadRow, Row
from emotion.evaluation.metrics import score_counts
from emotion.files import atomic_write, compute_checksum
from emotion.inference.text_checks import TextChecks

PART_CHARACTERS = 2**25
"""A part ends at about this many characters of text, which bounds the memory of its rows."""

Part = list[Row | BadRow]


@dataclass
class Tally:
    """Counts of one or several parts."""

    num_rows: int = 0
    num_bad: int = 0
    num_repeats: int = 0
    num_non_finite: int = 0
    """Values that are nan or infinity, written as null because JSON and Excel do not have them."""
    num_judged: int = 0
    """Rows whose gold labels could be read."""
    num_exact: int = 0
    """Rows whose predicted labels are exactly the gold labels."""
    num_cut: int = 0
    """Texts that are longer than the model reads."""
    num_unknown: int = 0
    """Texts that are mostly of words that the model does not know."""
    num_foreign: int = 0
    """Texts that are mostly in a script that the training texts do not have."""
    num_trained: int = 0
    """Scored texts that are in the model's training data; counted where there are gold labels."""
    num_split: int = 0
    """Texts that were split into segments."""
    num_segments: int = 0
    """Segments that these were split into."""
    counts: list[list[int]] | None = None
    """True positives, false positives and false negatives of each label, (3, L)."""

    def add(self, other: "Tally") -> None:
        """Add the counts of another tally to this one."""
        for name in (field.name for field in fields(self) if field.name != "counts"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        if other.counts is not None:
            self.counts = (np.array(other.counts) + (0 if self.counts is None else np.array(self.counts))).tolist()

    def count_checks(self, checks: TextChecks, positions: list[int]) -> None:
        """Count what was found in the texts of rows; `positions` has the position of each row's text in `checks`."""
        for name, number in checks.count(np.array(positions, dtype=np.int64)).items():
            setattr(self, f"num_{name}", number)

    @property
    def text_checks(self) -> dict[str, int]:
        """The number of texts by what was found in them, as `TextChecks.counts`."""
        found = {"cut": self.num_cut, "split": self.num_split, "segments": self.num_segments}
        return found | {"unknown": self.num_unknown, "foreign": self.num_foreign}

    @property
    def known_texts(self) -> dict[str, int]:
        """The number of texts that are in the training data of the model's run."""
        return {"train": self.num_trained}

    @property
    def num_scored(self) -> int:
        """Number of rows that have labels in the output."""
        return self.num_rows - self.num_bad

    @property
    def scores(self) -> dict[str, float] | None:
        """Scores against the gold labels; None if there are none."""
        return None if not self.num_judged else score_counts(np.array(self.counts), self.num_exact, self.num_judged)


def cut_parts(entries: Iterable[Row | BadRow], part_rows: int) -> Iterator[Part]:
    """Yield the rows in parts of at most `part_rows` rows and about `PART_CHARACTERS` characters."""
    part: Part = []
    size = 0
    for entry in entries:
        part.append(entry)
        if isinstance(entry, Row):
            size += sum(len(value) for value in entry.values if isinstance(value, str))
        if len(part) == part_rows or size >= PART_CHARACTERS:
            yield part
            part, size = [], 0
    if part:
        yield part


def find_part(folder: Path, number: int) -> Path:
    """Return the file of a part, numbered from 0."""
    return folder / f"part-{number:06d}"


def find_marker(part: Path) -> Path:
    """Return the file that exists when a part is complete; it contains the part's `Tally` and the checksums of its files."""
    return part.with_suffix(".json")


def write_marker(part: Path, tally: Tally) -> None:
    """Write the marker that a part is complete."""
    checksums = {file.name: compute_checksum(file) for file in (part, find_bad_rows(part))}
    counts = asdict(tally)
    marker = {"tally": counts, "checksums": checksums, "checksum of the tally": _compute_counts_checksum(counts)}
    write_durably(find_marker(part), json.dumps(marker, indent=2).encode())


def read_marker(part: Path) -> Tally | None:
    """Return the counts of a part, or None if it is not complete, or not what was written."""
    try:
        marker = json.loads(find_marker(part).read_text(encoding="utf-8"))
        tally, checksums = Tally(**marker["tally"]), dict(marker["checksums"])
        is_whole = all(compute_checksum(file) == checksums[file.name] for file in (part, find_bad_rows(part)))
        # Of the counts as they are in the file: earlier versions had fewer.
        is_whole = is_whole and marker["checksum of the tally"] == _compute_counts_checksum(marker["tally"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return tally if is_whole else None


def write_durably(path: Path, content: bytes) -> None:
    """Write a file atomically, and have it on the disk before it gets its name. Another process may write the same part meanwhile."""
    with atomic_write(path, len(content), is_shared=True) as partial, partial.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def find_bad_rows(part: Path) -> Path:
    """Return the file of a part's bad rows."""
    return part.with_suffix(".bad")


def _compute_counts_checksum(counts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(counts).encode()).hexdigest()
