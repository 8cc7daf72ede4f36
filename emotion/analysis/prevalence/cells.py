"""The cells of a report: all rows of one group in one period, and what is kept of them while a file is read.

The memory of a cell does not depend on its number of rows: histograms, sums, and a random sample of the texts.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from emotion.analysis.prevalence.histograms import count_atoms, find_atoms, list_atoms

NUM_BATCHES = 100
"""Random batches of clusters, from whose differences the effect of clustering is estimated."""
MIN_ROWS = 100
"""Smallest group of which anything is said: the smallest in `benchmarks/prevalence.py`."""
MIN_BATCHES = 20
"""Fewest batches with a row of which anything is said, which are about as many clusters."""
NUM_TEXTS = 300
"""Texts of the random sample of a cell, for checks of texts."""
NUM_EXAMPLES = 3
"""Texts kept of each label that is predicted in a cell."""
MEASURES = ("confidence", "empty", "words")
"""What is summed over rows: highest probability of the row, whether no label is predicted, number of words."""


class CellKey(NamedTuple):
    """The period and the group of a cell; an empty period means all periods, and an empty group all groups."""

    period: str = ""
    group: str = ""
    is_rest: bool = False
    """Whether the cell is all periods but this one or, without a period, all groups but this one."""

    def __str__(self) -> str:
        return ", ".join(filter(None, reversed(self.columns))) or "all rows"

    @property
    def columns(self) -> tuple[str, str]:
        """Period and group as tables have them, such as `all but 2024-03`."""
        if not self.is_rest:
            return self.period, self.group
        return (f"all but {self.period}", self.group) if self.period else ("", f"all but {self.group}")


@dataclass
class Cell:
    """What is kept of the rows of a cell."""

    counts: np.ndarray
    """Rows by label and atom, int64 (L, A)."""
    num_rows: int = 0
    sums: np.ndarray = field(default_factory=lambda: np.zeros((2, len(MEASURES))))
    """Sums and sums of squares of `MEASURES`."""
    batches: np.ndarray | None = None
    """By batch of clusters, the number of rows and the sums of the probabilities, float (NUM_BATCHES, 1 + L); None without clusters."""
    texts: list[tuple[float, str]] = field(default_factory=list)
    """Random numbers and texts: those with the smallest numbers."""
    examples: dict[int, list[tuple[float, str]]] = field(default_factory=dict)
    """The same, of the rows for which a label is predicted, by label."""

    def __add__(self, other: "Cell") -> "Cell":
        batches = None if self.batches is None or other.batches is None else self.batches + other.batches
        examples = {
            label: merge_samples(self.examples.get(label, []), other.examples.get(label, []), NUM_EXAMPLES)
            for label in self.examples.keys() | other.examples.keys()
        }
        texts = merge_samples(self.texts, other.texts, NUM_TEXTS)
        return Cell(self.counts + other.counts, self.num_rows + other.num_rows, self.sums + other.sums, batches, texts, examples)

    def without(self, part: "Cell") -> "Cell":
        """Return the counts of the rows that are not in `part`; texts are left out."""
        batches = None if self.batches is None or part.batches is None else self.batches - part.batches
        return Cell(self.counts - part.counts, self.num_rows - part.num_rows, self.sums - part.sums, batches)

    @property
    def is_small(self) -> bool:
        """Whether there are too few rows, or clusters, to say anything."""
        is_few = self.batches is not None and int((self.batches[:, 0] > 0).sum()) < MIN_BATCHES
        return self.num_rows < MIN_ROWS or is_few

    @cached_property
    def design_effects(self) -> np.ndarray:
        """Variance of each label's mean probability over clusters, divided by that over independent rows; at least 1, float (L,).

        Source: Kish 1965, "Survey Sampling"; the variance is that of random groups: Wolter 2007, "Introduction to Variance Estimation".
        """
        if self.batches is None or self.num_rows < 2:
            return np.ones(len(self.counts))
        values = list_atoms()[0]
        means = self.counts @ values / self.num_rows
        variances = self.counts @ values**2 / self.num_rows - means**2
        totals = self.batches[:, 1:] - self.batches[:, :1] * means
        between = (totals**2).sum(axis=0) * NUM_BATCHES / (NUM_BATCHES - 1)
        return np.maximum(1, between / np.maximum(self.num_rows * variances, 1e-12))


class CellCounter:
    """Adds rows to cells."""

    def __init__(self, num_labels: int, has_clusters: bool, seed: int = 0) -> None:
        self.cells: dict[CellKey, Cell] = {}
        self._num_labels, self._has_clusters = num_labels, has_clusters
        self._generator = np.random.default_rng(seed)

    def add(
        self,
        keys: Sequence[CellKey],
        probabilities: np.ndarray,
        predictions: np.ndarray,
        texts: Sequence[str] | None = None,
        clusters: Sequence[Any] | None = None,
    ) -> None:
        """Add rows: their cells, probabilities, float (n, L), predictions, bool (n, L), and, if known, texts and clusters."""
        positions = {key: number for number, key in enumerate(dict.fromkeys(keys))}
        rows = np.array([positions[key] for key in keys])
        atoms = find_atoms(probabilities, predictions)
        counts = count_atoms(atoms, rows, len(positions))
        words = np.array([len(text.split()) for text in texts]) if texts is not None else np.full(len(keys), np.nan)
        measures = np.column_stack([probabilities.max(axis=1), ~predictions.any(axis=1), words])
        batches = np.array([find_batch(cluster) for cluster in clusters]) if clusters is not None else None
        values = list_atoms()[0][atoms]
        for key, number in positions.items():
            chosen = np.flatnonzero(rows == number)
            cell = self._find(key)
            cell.counts += counts[number]
            cell.num_rows += len(chosen)
            cell.sums += np.stack([measures[chosen].sum(axis=0), (measures[chosen] ** 2).sum(axis=0)])
            if cell.batches is not None and batches is not None:
                np.add.at(cell.batches, batches[chosen], np.column_stack([np.ones(len(chosen)), values[chosen]]))
            if texts is not None:
                self._sample(cell, chosen, predictions, texts)

    def _find(self, key: CellKey) -> Cell:
        if key not in self.cells:
            counts = np.zeros((self._num_labels, len(list_atoms()[0])), dtype=np.int64)
            batches = np.zeros((NUM_BATCHES, 1 + self._num_labels)) if self._has_clusters else None
            self.cells[key] = Cell(counts, batches=batches)
        return self.cells[key]

    def _sample(self, cell: Cell, chosen: np.ndarray, predictions: np.ndarray, texts: Sequence[str]) -> None:
        """Keep the texts whose random numbers are among the smallest of the cell, and of each label's predictions."""
        numbers = self._generator.random(len(chosen))
        cell.texts = merge_samples(cell.texts, _list_smallest(numbers, chosen, texts, NUM_TEXTS), NUM_TEXTS)
        smallest = np.where(predictions[chosen], numbers[:, None], np.inf).min(axis=0)
        for label in map(int, np.flatnonzero(np.isfinite(smallest))):
            kept = cell.examples.get(label, [])
            if len(kept) == NUM_EXAMPLES and smallest[label] > kept[-1][0]:
                continue  # of most labels, in most calls
            has_label = predictions[chosen, label]
            sample = _list_smallest(numbers[has_label], chosen[has_label], texts, NUM_EXAMPLES)
            cell.examples[label] = merge_samples(kept, sample, NUM_EXAMPLES)


def merge_samples(first: list[tuple[float, str]], second: list[tuple[float, str]], size: int) -> list[tuple[float, str]]:
    """Return the random sample of two sets of rows from their samples."""
    return sorted([*first, *second])[:size]


def find_batch(cluster: Any) -> int:
    """Return the batch of a cluster; it depends on its name only."""
    return int.from_bytes(hashlib.blake2b(str(cluster).encode("utf-8", "surrogateescape"), digest_size=4).digest()) % NUM_BATCHES


def _list_smallest(numbers: np.ndarray, rows: np.ndarray, texts: Sequence[str], size: int) -> list[tuple[float, str]]:
    order = np.argpartition(numbers, size)[:size] if len(numbers) > size else np.arange(len(numbers))
    return [(float(numbers[position]), texts[rows[position]]) for position in order]
