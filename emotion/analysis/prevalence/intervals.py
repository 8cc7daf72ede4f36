"""Intervals of prevalences by resampling the rows of groups and of validation together.

A resample gives each row a random weight (the Bayesian bootstrap), so the weight of an atom with c rows follows a gamma distribution of
shape c. All groups share the resamples of validation: in the difference of two groups, errors of the correction cancel as they should.
`benchmarks/prevalence.py` measures how often the intervals hold the true value.

Source: Rubin 1981, "The Bayesian Bootstrap".
"""

import numpy as np

from emotion.analysis.prevalence.correction import Correction, fit_correction

PSEUDO_COUNT = 0.5
"""Mean weight of the random rows with the label and without it that are added to a group: Jeffreys' prior for a proportion. Without them
a group in which no row looks like the label would have an interval of length 0."""


def resample_correction(
    values: np.ndarray, is_predicted: np.ndarray, positives: np.ndarray, negatives: np.ndarray, generator: np.random.Generator, size: int
) -> Correction:
    """Return the corrections of resamples of the validation rows; their leading dimension is `size`."""
    draws = [generator.standard_gamma(weights, (size, len(values))) for weights in (positives, negatives)]
    return fit_correction(values, is_predicted, *draws)


def resample_group(
    group: np.ndarray, correction: Correction, resampled: Correction, generator: np.random.Generator, design_effect: float = 1.0
) -> np.ndarray:
    """Return the weights of resamples of a group, float (B, A).

    Args:
        group: number of rows by atom, (A,).
        correction: correction of the validation rows, from which the pseudo-counts are.
        resampled: corrections of the B resamples of the validation rows.
        generator: the source of random numbers.
        design_effect: variance of a mean of clustered rows, divided by that of independent rows; the group counts as fewer rows.
    """
    pseudo_counts = PSEUDO_COUNT * (correction.densities[0] + correction.densities[1])
    return generator.standard_gamma(group / design_effect + pseudo_counts, (len(resampled.calibrated), len(group)))


def find_bounds(estimate: np.ndarray, draws: np.ndarray, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Return the central interval of the fraction `level` of draws, float (B, ...), in [0, 1], extended to contain the estimate."""
    low, high = np.nanpercentile(draws, [50 * (1 - level), 50 * (1 + level)], axis=0)
    return np.fmin(np.clip(low, 0, 1), estimate), np.fmax(np.clip(high, 0, 1), estimate)
