"""Platt scaling of one label's logits: a slope and an intercept, fitted on rows with gold labels.

Source: Platt 1999, "Probabilistic Outputs for Support Vector Machines"; the normal priors around 1 and 0 are ours.
"""

import numpy as np

MAX_STEPS = 50
MAX_CHANGE = 2.0
"""Largest change of a parameter in a step of Newton's method."""
TOLERANCE = 1e-9


def fit_scaling(
    logits: np.ndarray, positives: np.ndarray, negatives: np.ndarray, slope_std: float, intercept_std: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the slope and the intercept, float64 (...), under which `slope * logits + intercept` is most likely.

    Args:
        logits: (A,), one for each row, or for each bin of rows.
        positives: number of rows with the label at each logit, (..., A); leading dimensions are resamples.
        negatives: number of rows without it, (..., A).
        slope_std: standard deviation of the normal prior of the slope around 1; where rows are few, the slope stays near 1.
        intercept_std: that of the intercept around 0.
    """
    total = positives + negatives
    slope, intercept = np.ones(total.shape[:-1]), np.zeros(total.shape[:-1])
    for _ in range(MAX_STEPS):
        probabilities = 1 / (1 + np.exp(-(slope[..., None] * logits + intercept[..., None])))
        residuals, variances = positives - total * probabilities, total * probabilities * (1 - probabilities)
        by_slope = residuals @ logits - (slope - 1) / slope_std**2
        by_intercept = residuals.sum(axis=-1) - intercept / intercept_std**2
        slope_slope = variances @ logits**2 + 1 / slope_std**2
        slope_intercept, intercept_intercept = variances @ logits, variances.sum(axis=-1) + 1 / intercept_std**2
        determinant = slope_slope * intercept_intercept - slope_intercept**2
        slope_step = (by_slope * intercept_intercept - by_intercept * slope_intercept) / determinant
        intercept_step = (by_intercept * slope_slope - by_slope * slope_intercept) / determinant
        slope = slope + np.clip(slope_step, -MAX_CHANGE, MAX_CHANGE)
        intercept = intercept + np.clip(intercept_step, -MAX_CHANGE, MAX_CHANGE)
        if max(np.abs(slope_step).max(initial=0), np.abs(intercept_step).max(initial=0)) < TOLERANCE:
            break
    return slope, intercept
