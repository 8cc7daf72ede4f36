"""Goodness of fit: is a group's histogram of probabilities a mixture of those of the validation rows with the label and without it?

Label shift, which the correction assumes, implies that it is. Where it is not, estimate and interval cannot be trusted.
"""

import numpy as np

from emotion.analysis.prevalence.correction import Correction

NUM_BINS = 10
"""Bins of about as many rows each."""


def measure_fit(
    groups: np.ndarray, effects: np.ndarray, estimates: np.ndarray, correction: Correction, num_rows: tuple[int, int]
) -> np.ndarray:
    """Return the p-value of each group: how likely so bad a fit is if label shift holds, float (cells,).

    A chi-squared test of the fractions of rows in bins. Their variances hold the chance in the group and in the validation rows.

    Args:
        groups: number of rows by atom, float (cells, A).
        effects: design effects of the groups, float (cells,).
        estimates: prevalences of the label, float (cells,).
        correction: that of the validation rows.
        num_rows: validation rows with the label and without it.

    Source: Pearson 1900; `benchmarks/prevalence_fit.py` measures the rate of false alarms.
    """
    from scipy.stats import chi2

    order = np.argsort(correction.values, kind="stable")
    with_label, without = (density[order] for density in correction.densities)
    p_values = np.ones(len(groups))
    for number, (group, effect, estimate) in enumerate(zip(groups[:, order], effects, estimates, strict=True)):
        found, expected = group / group.sum(), estimate * with_label + (1 - estimate) * without
        own = effect / group.sum()
        other = estimate**2 / num_rows[0] + (1 - estimate) ** 2 / num_rows[1]
        pooled = (found * other + expected * own) / (own + other)  # weighted by precision
        bins = np.minimum((np.cumsum(pooled) - pooled / 2) * NUM_BINS, NUM_BINS - 1).astype(int)
        sums = [np.bincount(bins, values, NUM_BINS) for values in (found - expected, pooled)]
        is_used = sums[1] > 0
        statistic = (sums[0][is_used] ** 2 / sums[1][is_used]).sum() / (own + other)
        p_values[number] = chi2.sf(statistic, max(int(is_used.sum()) - 1, 1))
    return p_values
