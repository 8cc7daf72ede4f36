"""Prevalences of all cells with their intervals, and tests of the differences between cells.

A difference is divided by the larger of two standard deviations: over its resamples, and the one that it has if nothing changed. Each of
them alone is too small on one side: a rare label that happens to be absent from a cell has resamples that hardly vary, and one that
happens to be frequent is more frequent than the second one expects. p-values are those of a normal variable, corrected by Holm's method
over all differences of a report. `benchmarks/prevalence_changes.py` measures the rate of false alarms.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from emotion.analysis.prevalence.cells import Cell, CellKey
from emotion.analysis.prevalence.correction import DEFAULT, Correction, fit_correction
from emotion.analysis.prevalence.estimators import MIN_RATE, average, maximize_likelihood
from emotion.analysis.prevalence.fit import measure_fit
from emotion.analysis.prevalence.histograms import list_atoms
from emotion.analysis.prevalence.intervals import find_bounds, resample_correction, resample_group
from emotion.analysis.prevalence.validation import ValidationRows
from emotion.evaluation.uncertainty import adjust_p_values

NUM_RESAMPLES = 500
SIGNIFICANCE_LEVEL = 0.05


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
    is_misfit: np.ndarray
    """Whether a cell has a poor fit, so that its estimate cannot be trusted, bool (cells, L)."""
    changes: list[Change]
    """All comparisons, the smallest p-value first, then the largest difference."""

    @property
    def misfits(self) -> dict[CellKey, np.ndarray]:
        """The labels with a poor fit, int (m,), of the cells that have some: most labels first. Sums of all other cells are left out."""
        found = {key: np.flatnonzero(labels) for key, labels in zip(self.keys, self.is_misfit, strict=True) if not key.is_rest}
        return {key: labels for key, labels in sorted(found.items(), key=lambda item: -len(item[1])) if len(labels)}

    def has_poor_fit(self, change: Change) -> bool:
        """Return whether one of the two cells of a difference has a poor fit."""
        return any(bool(self.is_misfit[self.keys.index(key), change.label]) for key in (change.first, change.second))


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
            others = key._replace(is_rest=True)
            cells[others] = rest
            pairs.append((others, key))
    return pairs


def measure(
    cells: Mapping[CellKey, Cell], validation: ValidationRows, pairs: Sequence[tuple[CellKey, CellKey]], seed: int = 0
) -> Prevalences:
    """Return the prevalences in all cells, and the differences of the pairs."""
    keys = list(cells)
    num_labels = len(validation.supports)
    estimates, bounds = np.full((len(keys), num_labels), np.nan), np.full((len(keys), num_labels, 2), np.nan)
    differences, intervals = np.full((len(pairs), num_labels), np.nan), np.full((len(pairs), num_labels, 2), np.nan)
    scores, fits = np.full((len(pairs), num_labels), np.nan), np.full((len(keys), num_labels), np.nan)
    sides = np.array([[keys.index(key) for key in pair] for pair in pairs], dtype=int).reshape(len(pairs), 2)
    for label in map(int, np.flatnonzero(validation.is_usable)):
        estimates[:, label], draws, expected, fits[:, label] = _estimate_label(list(cells.values()), validation, label, sides, seed)
        bounds[:, label] = np.stack(find_bounds(estimates[:, label], draws), axis=-1)
        if pairs:
            found, resampled = (values[..., sides[:, 1]] - values[..., sides[:, 0]] for values in (estimates[:, label], draws))
            differences[:, label], scores[:, label] = found, found / np.maximum(resampled.std(axis=0), expected)
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
    return Prevalences(keys, counts, estimates, bounds, _find_misfits(fits, cells), changes)


def _find_misfits(fits: np.ndarray, cells: Mapping[CellKey, Cell]) -> np.ndarray:
    """Return which p-values of fit, float (cells, L), are small after correction for their number.

    Sums of all other cells do not count in that number, because their rows are in other cells too.
    """
    is_small, is_rest = np.array([(cell.is_small, key.is_rest) for key, cell in cells.items()]).T
    is_tested = np.isfinite(fits) & ~(is_small | is_rest)[:, None]
    is_misfit = np.zeros(fits.shape, dtype=bool)
    is_misfit[is_tested] = adjust_p_values(fits[is_tested]) < SIGNIFICANCE_LEVEL
    is_misfit[is_rest] = fits[is_rest] * is_tested.sum() < SIGNIFICANCE_LEVEL  # nan is not
    return is_misfit


def _adjust(scores: np.ndarray) -> np.ndarray:
    """Return two-sided p-values of standard normal scores, adjusted for their number."""
    from scipy.stats import norm

    return adjust_p_values(2 * norm.sf(np.abs(scores)).ravel()).reshape(scores.shape)


def _estimate_label(
    cells: Sequence[Cell], validation: ValidationRows, label: int, sides: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the prevalence of a label in each cell, float (cells,), in its resamples, float (B, cells), and of the estimates
    `expect_deviations` and `measure_fit`.
    """
    generator = np.random.default_rng([seed, label])
    positives, negatives = validation.positives[label], validation.negatives[label]
    groups = np.array([cell.counts[label] for cell in cells])
    is_used = (positives + negatives + groups.sum(axis=0)) > 0
    values, is_predicted = (atoms[is_used] for atoms in list_atoms())
    rows = positives[is_used].astype(float), negatives[is_used].astype(float)
    correction = fit_correction(values, is_predicted, *rows)
    resampled = resample_correction(values, is_predicted, *rows, generator, NUM_RESAMPLES)
    groups, effects = groups[:, is_used].astype(float), np.array([cell.design_effects[label] for cell in cells])
    draws = np.zeros((NUM_RESAMPLES, len(cells)))
    for number, (group, effect) in enumerate(zip(groups, effects, strict=True)):
        weights = resample_group(group, correction, resampled, generator, float(effect))
        draws[:, number] = resampled.estimate(weights, DEFAULT, is_bounded=False)
    estimates = correction.estimate(groups, DEFAULT)
    fits = measure_fit(groups, effects, estimates, correction, (int(positives.sum()), int(negatives.sum())))
    return estimates, draws, expect_deviations(groups, effects, sides, correction), fits


def expect_deviations(groups: np.ndarray, effects: np.ndarray, sides: np.ndarray, correction: Correction) -> np.ndarray:
    """Return the standard deviation of each difference if both cells have the prevalence of their rows together, float (pairs,).

    It is that of maximum likelihood; errors of the correction are the same in both cells, and cancel.

    Args:
        groups: rows of the cells by atom, float (cells, A).
        effects: design effects of the cells, float (cells,).
        sides: the two cells of each pair, int (pairs, 2).
        correction: that of all validation rows.
    """
    pooled = groups[sides].sum(axis=1)
    excess = correction.ratios - 1
    slopes = excess / (1 + maximize_likelihood(pooled, correction.ratios)[:, None] * excess)
    information = average(pooled, slopes**2)
    return np.sqrt((effects / groups.sum(axis=1))[sides].sum(axis=1) / np.maximum(information, MIN_RATE))
