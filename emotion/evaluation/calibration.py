"""Calibration of logits by a scale and an intercept, fitted on rows with gold labels: of all labels together, and of one label.

Source: Platt 1999, "Probabilistic Outputs for Support Vector Machines"; the normal priors around 1 and 0 of one label are ours.
"""

import numpy as np

SCALE_BOUNDS = (0.2, 5.0)
"""Bounds of 1 / temperature."""
SHIFT_BOUNDS = (-5.0, 5.0)
MAX_STEPS = 100
MAX_CHANGE = 2.0
"""Largest change of a parameter in a step of Newton's method."""
MAX_HALVINGS = 40
TOLERANCE = 1e-9
ROUNDING = 1e-12
"""Rise of the loss, relative to it, that rounding explains."""


def fit_scaling(
    logits: np.ndarray, positives: np.ndarray, negatives: np.ndarray, slope_std: float, intercept_std: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the slope and the intercept, float64 (...), under which `slope * logits + intercept` is most likely.

    A step of Newton's method is halved until the loss does not rise. Full steps swing between two points where the logits are too sure.

    Args:
        logits: (A,), one for each row, or for each bin of rows.
        positives: number of rows with the label at each logit, (..., A); leading dimensions are resamples.
        negatives: number of rows without it, (..., A).
        slope_std: standard deviation of the normal prior of the slope around 1; where rows are few, the slope stays near 1.
        intercept_std: that of the intercept around 0.
    """
    total = positives + negatives

    def compute_loss(slope: np.ndarray, intercept: np.ndarray) -> np.ndarray:
        """Return the negative logarithm of the posterior, but for a constant, float64 (...)."""
        scaled = slope[..., None] * logits + intercept[..., None]
        penalty = ((slope - 1) / slope_std) ** 2 + (intercept / intercept_std) ** 2
        return np.asarray((total * np.logaddexp(0, scaled) - positives * scaled).sum(axis=-1) + penalty / 2)

    slope, intercept = np.ones(total.shape[:-1]), np.zeros(total.shape[:-1])
    loss = compute_loss(slope, intercept)
    for _ in range(MAX_STEPS):
        probabilities = (1 + np.tanh((slope[..., None] * logits + intercept[..., None]) / 2)) / 2
        residuals, variances = positives - total * probabilities, total * probabilities * (1 - probabilities)
        by_slope = residuals @ logits - (slope - 1) / slope_std**2
        by_intercept = residuals.sum(axis=-1) - intercept / intercept_std**2
        slope_slope = variances @ logits**2 + 1 / slope_std**2
        slope_intercept, intercept_intercept = variances @ logits, variances.sum(axis=-1) + 1 / intercept_std**2
        determinant = slope_slope * intercept_intercept - slope_intercept**2
        slope_step = (by_slope * intercept_intercept - by_intercept * slope_intercept) / determinant
        intercept_step = (by_intercept * slope_slope - by_slope * slope_intercept) / determinant
        length = np.maximum(np.abs(slope_step), np.abs(intercept_step))
        fraction = MAX_CHANGE / np.maximum(length, MAX_CHANGE)
        for _ in range(MAX_HALVINGS):
            new_loss = compute_loss(slope + fraction * slope_step, intercept + fraction * intercept_step)
            is_worse = new_loss > loss + ROUNDING * np.abs(loss)
            if not is_worse.any():
                break
            fraction = np.where(is_worse, fraction / 2, fraction)
        slope, intercept, loss = slope + fraction * slope_step, intercept + fraction * intercept_step, new_loss
        if length.max(initial=0) < TOLERANCE:
            break
    return slope, intercept


def fit_calibration(labels: np.ndarray, logits: np.ndarray, has_bias: bool = True) -> tuple[float, float]:
    """Return the temperature and the shift, each one number for all labels, under which `logits / temperature + shift` is most likely.

    `labels` and `logits` are bool and float, of any one shape. Without `has_bias` the shift is 0. Source of the temperature alone: Guo et
    al. 2017, "On Calibration of Modern Neural Networks".
    """
    from scipy.optimize import minimize
    from scipy.special import expit

    gold, values = labels.ravel().astype(float), logits.ravel().astype(float)

    def negative_log_likelihood(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        scaled = parameters[0] * values + parameters[1]
        residuals = expit(scaled) - gold
        gradient = np.array([np.mean(residuals * values), np.mean(residuals)])
        return float(np.mean(np.logaddexp(0, scaled) - gold * scaled)), gradient

    bounds = [SCALE_BOUNDS, SHIFT_BOUNDS if has_bias else (0, 0)]
    scale, shift = minimize(negative_log_likelihood, (1, 0), jac=True, bounds=bounds, method="L-BFGS-B", tol=1e-12).x
    return float(1 / scale), float(shift)
