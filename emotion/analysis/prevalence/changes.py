"""Prevalences of all cells with their intervals, and tests of the differences between cells.

A difference is divided by its standard deviation over the resamples. Without a change, the result is close to normal: with 300 to 3,000
rows in a cell its largest absolute values are those of a normal variable, or smaller for rare labels (docs/log/prevalence.md). The p-values
are corrected by Holm's method over all differences of a report.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np

from emotion.analysis.prevalence.cells import Cell, CellKey
from emotion.analysis.prevalence.correction import DEFAULT, fit_correction
from emotion.analysis.prevalence.histograms import list_atoms
from emotion.analysis.prevalence.intervals import find_bounds, resample_correction, resample_group
from emotion.analysis.prevalence.validation import ValidationRows
from emotion.evaluation.uncertainty import adjust_p_values

NUM_RESAMPLES = 500
SIGNIFICANCE_LEVEL = 0.05
ALL_BUT = "all but "
"""Prefix of the name of all other periods, or all other groups."""
MIN_DEVIATION = 1e-6


@dataclass(frozen=True)
class Change:
    """The difference of a label's prevalence between two cells."""

    label: int
    first: CellKey
    second: CellKey
    difference: float
    """Second minus first."""
    interval: tuple[float, float]
    """95% interval of this difference alone."""
    p_value: float
    """Adjusted for the number of comparisons."""

    @property
    def is_shown(self) -> bool:
        """Whether the difference is more than chance."""
        return self.p_value < SIGNIFICANCE_LEVEL


@dataclass(frozen=True)
class Prevalences:
    """Estimates of all cells and labels; nan for a label without validation rows."""

    keys: list[CellKey]
    counts: np.ndarray
    """Fraction of the rows for which the label is predicted, float (cells, L)."""
    estimates: np.ndarray
    """float (cells, L)"""
    bounds: np.ndarray
    """95% intervals, float (cells, L, 2)."""
    changes: list[Change]
    """All comparisons, the smallest p-value first, then the largest difference."""


def sum_cells(cells: Mapping[CellKey, Cell]) -> dict[CellKey, Cell]:
    """Return the cells, and their sums over groups, over periods, and over all. One group alone is no group."""
    sums: dict[CellKey, Cell] = {}
    has_groups = len({key.group for key in cells}) > 1
    for key in sorted(cells):
        own = key if has_groups else CellKey(key.period)
        for total in {own, CellKey(own.period), CellKey("", own.group), CellKey()}:
            sums[total] = sums[total] + cells[key] if total in sums else cells[key]
    return dict(sorted(sums.items()))


def list_comparisons(cells: dict[CellKey, Cell]) -> list[tuple[CellKey, CellKey]]:
    """Return the pairs of cells that are compared, and add the cells of all other periods, or groups, to `cells`.

    Each period is compared with all other periods together, in all rows and in each group; each group is compared with all other groups.
    Two periods, or two groups, are compared with each other. A cell with too few rows is left out.
    """
    totals = [key for key in cells if not key.period]
    pairs = [
        pair for total in totals for pair in _compare_parts([key for key in cells if key.group == total.group and key.period], total, cells)
    ]
    return [*pairs, *_compare_parts([key for key in totals if key.group], CellKey(), cells)]


def _compare_parts(parts: list[CellKey], total: CellKey, cells: dict[CellKey, Cell]) -> list[tuple[CellKey, CellKey]]:
    """Return each part of a total with the rest, which is added to `cells`; of two parts the first with the second."""
    large = [key for key in parts if not cells[key].is_small]
    if len(parts) == 2 and len(large) == 2:
        return [(parts[0], parts[1])]
    pairs = []
    for key in large if len(parts) > 2 else ():
        rest = cells[total].without(cells[key])
        if not rest.is_small:
            others = CellKey(ALL_BUT + key.period, key.group) if key.period else CellKey("", ALL_BUT + key.group)
            cells[others] = rest
            pairs.append((others, key))
    return pairs


def measure(
    cells: Mapping[CellKey, Cell], validation: ValidationRows, pairs: Sequence[tuple[CellKey, CellKey]], seed: int = 0
) -> Prevalences:
    """Return the prevalences in all cells, and the differences of the pairs."""
    keys = list(cells)
    first, second = (np.array([keys.index(pair[side]) for pair in pairs], dtype=int) for side in (0, 1))
    num_labels = len(validation.supports)
    estimates, bounds = np.full((len(keys), num_labels), np.nan), np.full((len(keys), num_labels, 2), np.nan)
    differences, intervals = np.full((len(pairs), num_labels), np.nan), np.full((len(pairs), num_labels, 2), np.nan)
    scores = np.full((len(pairs), num_labels), np.nan)
    for label in np.flatnonzero(validation.is_usable):
        estimates[:, label], draws = _estimate_label(list(cells.values()), validation, int(label), seed)
        bounds[:, label] = np.stack(find_bounds(estimates[:, label], draws), axis=-1)
        if pairs:
            found, resampled = estimates[second, label] - estimates[first, label], draws[:, second] - draws[:, first]
            deviations = np.maximum(resampled.std(axis=0), MIN_DEVIATION)
            differences[:, label], scores[:, label] = found, found / deviations
            low, high = np.percentile(resampled, [2.5, 97.5], axis=0)
            intervals[:, label] = np.stack([np.fmin(low, found), np.fmax(high, found)], axis=-1)
    p_values = scores.copy()
    p_values[:, validation.is_usable] = _adjust(scores[:, validation.is_usable])
    changes = [
        Change(label, *pair, float(differences[row, label]), tuple(intervals[row, label].tolist()), float(p_values[row, label]))
        for row, pair in enumerate(pairs)
        for label in map(int, np.flatnonzero(validation.is_usable))
    ]
    changes.sort(key=lambda change: (change.p_value, -abs(change.difference)))
    decisions = list_atoms()[1]
    counts = np.array([cell.counts @ decisions / max(cell.num_rows, 1) for cell in cells.values()])
    return Prevalences(keys, counts, estimates, bounds, changes)


def _adjust(scores: np.ndarray) -> np.ndarray:
    """Return two-sided p-values of standard normal scores, adjusted for their number."""
    from scipy.stats import norm

    return adjust_p_values(2 * norm.sf(np.abs(scores)).ravel()).reshape(scores.shape)


def _estimate_label(cells: Sequence[Cell], validation: ValidationRows, label: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the prevalence of a label in each cell, float (cells,), and in its resamples, float (B, cells)."""
    generator = np.random.default_rng([seed, label])
    positives, negatives = validation.positives[label], validation.negatives[label]
    groups = np.array([cell.counts[label] for cell in cells])
    is_used = (positives + negatives + reduce(add, groups)) > 0
    values, is_predicted = (atoms[is_used] for atoms in list_atoms())
    rows = positives[is_used].astype(float), negatives[is_used].astype(float)
    correction = fit_correction(values, is_predicted, *rows)
    resampled = resample_correction(values, is_predicted, *rows, generator, NUM_RESAMPLES)
    estimates, draws = np.zeros(len(cells)), np.zeros((NUM_RESAMPLES, len(cells)))
    for number, (cell, group) in enumerate(zip(cells, groups[:, is_used], strict=True)):
        estimates[number] = correction.estimate(group, DEFAULT)
        weights = resample_group(group, correction, resampled, generator, float(cell.design_effects[label]))
        draws[:, number] = resampled.estimate(weights, DEFAULT, is_bounded=False)
    return estimates, draws
