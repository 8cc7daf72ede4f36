"""The rows of a data set: `Examples` of one split, and `Dataset`, which has them by split."""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from emotion.data.reading.rows import BadRow, format_bad_rows
from emotion.errors import DataError
from emotion.files import atomic_write
from emotion.labels import LabelSet
from emotion.ratings import Ratings


@dataclass(frozen=True)
class Examples:
    """The rows of one split; `labels` is bool (n, L)."""

    ids: list[str]
    texts: list[str]
    labels: np.ndarray
    is_judged: np.ndarray | None = None
    """Whether somebody judged the label, bool (n, L); None if all were judged. `labels` is False where it is False."""
    fractions: np.ndarray | None = None
    """The fraction of raters who gave the label, float32 (n, L), 0 where nobody judged it; None without `data.soft_labels`."""
    ratings: Ratings | None = None
    """What each rater said of the rows; None if the raters are not known."""

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def targets(self) -> np.ndarray:
        """What training aims at, (n, L): the fractions of the raters with `data.soft_labels`, otherwise the labels, bool."""
        return self.labels if self.fractions is None else self.fractions

    @property
    def frequencies(self) -> np.ndarray:
        """The mean target of a label over its judged rows, float (L,); 0 for a label that was judged nowhere."""
        num_judged = np.full(self.labels.shape[1], len(self)) if self.is_judged is None else self.is_judged.sum(axis=0)
        return self.targets.sum(axis=0, dtype=np.float64) / np.maximum(num_judged, 1)

    def take(self, rows: np.ndarray) -> "Examples":
        """Return the given rows, in the given order."""
        is_judged, fractions = (None if values is None else values[rows] for values in (self.is_judged, self.fractions))
        ratings = None if self.ratings is None else self.ratings.take(rows)
        ids, texts = ([values[row] for row in rows] for values in (self.ids, self.texts))
        return Examples(ids, texts, self.labels[rows], is_judged, fractions, ratings)

    @classmethod
    def join(cls, parts: Sequence["Examples"]) -> "Examples":
        """Return the rows of several splits, one after another."""
        ids, texts = ([value for part in parts for value in getattr(part, name)] for name in ("ids", "texts"))
        is_judged = fractions = None
        if any(part.fractions is not None for part in parts):
            fractions = np.concatenate([part.targets.astype(np.float32) for part in parts])
        if any(part.is_judged is not None for part in parts):
            is_judged = np.concatenate([np.ones_like(part.labels) if part.is_judged is None else part.is_judged for part in parts])
        starts = np.cumsum([0, *map(len, parts)]).tolist()[:-1]
        ratings = Ratings.concatenate([part.ratings for part in parts], starts)
        return cls(ids, texts, np.concatenate([part.labels for part in parts]), is_judged, fractions, ratings)


@dataclass(frozen=True)
class CorrectedRow:
    """A row that a decision has dropped or given other labels."""

    split: str
    id: str
    before: list[str]
    """Names of its labels in the data."""
    after: list[str] | None
    """Names of its labels now; None if the row was dropped."""


@dataclass
class Dataset:
    """The splits of a source by name (`train`, `validation`, `test`), with messages for the user and the bad rows."""

    splits: dict[str, Examples]
    label_set: LabelSet
    messages: list[str] = field(default_factory=list)
    bad_rows: list[BadRow] = field(default_factory=list)
    unused: Examples | None = None
    """Training rows that `data.train_fraction` leaves out."""
    corrected: list[CorrectedRow] = field(default_factory=list)
    """Rows that `data.corrections` has changed."""
    unlabelled: dict[str, str] = field(default_factory=dict)
    """Why a split of the source is not among the splits: it has no gold labels."""

    def __getitem__(self, split: str) -> Examples:
        if split in self.unlabelled and split not in self.splits:
            raise DataError(f"split {split!r}: {self.unlabelled[split]}, so it cannot be judged; set data.{split}=FILE to one with labels")
        if split not in self.splits:
            raise DataError(f"split {split!r}: not in the data, which has {', '.join(self.splits)}; set data.{split}=FILE")
        return self.splits[split]

    def write_quarantine(self, path: Path) -> None:
        """Write the bad rows as tab-separated lines: file, line, reason, content."""
        with atomic_write(path) as partial, partial.open("w", encoding="utf-8", newline="") as stream:
            stream.write(format_bad_rows(self.bad_rows, has_header=True))

    def write_corrected(self, path: Path) -> None:
        """Write the corrected rows as csv: split, id, labels before and after, each as a JSON list; `drop` where the row was dropped."""
        with atomic_write(path) as partial, partial.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["split", "id", "labels_before", "labels_after"])
            for row in self.corrected:
                after = "drop" if row.after is None else json.dumps(row.after, ensure_ascii=False)
                writer.writerow([row.split, row.id, json.dumps(row.before, ensure_ascii=False), after])
