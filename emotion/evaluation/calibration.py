"""Calibration of logits by a scale and a shift, fitted on rows with gold labels: of all labels together, and then of each label.

Source: Platt 1999, "Probabilistic Outputs for Support Vector Machines"; the normal priors of one label around 1 and 0 are ours.
"""

from dataclasses import dataclass

import numpy as np

SCALE_BOUNDS = (0.2, 5.0)
"""Bounds of 1 / temperature."""
SHIFT_BOUNDS = (-5.0, 5.0)
INTERCEPT_STDS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
"""Standard deviations of a label's own intercept around 0, of which the most likely is taken."""
SLOPE_STD_RATIO = 0.4
"""That of its own slope around 1, relative to them."""
MIN_SLOPE = 0.2
"""A label's own slope stays above 0, so that calibration never turns the order of texts round."""
FIXED_STD = 1e-6
"""Standard deviation of what is not to be fitted."""
MAX_STEPS = 100
MAX_CHANGE = 2.0
"""Largest change of a parameter in a step of Newton's method."""
MAX_HALVINGS = 40
TOLERANCE = 1e-9
ROUNDING = 1e-12
"""Rise of the loss, relative to it, that rounding explains."""


def fit_scaling(
    logits: np.ndarray, positives: np.ndarray, negatives: np.ndarray, slope_std: float | np.ndarray, intercept_std: float | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the slope and the intercept, float64 (...), under which `slope * logits + intercept` is most likely.

    A step of Newton's method is halved until the loss does not rise. Full steps swing between two points where the logits are too sure.

    Args:
        logits: (A,), one for each row, or for each bin of rows.
        positives: number of rows with the label at each logit, (..., A); leading dimensions are resamples.
        negatives: number of rows without it, (..., A).
        slope_std: standard deviation of the normal prior of the slope around 1, one number or (...); where rows are few, it stays near 1.
        intercept_std: that of the intercept around 0, in the same shape.
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


@dataclass(frozen=True)
class Calibration:
    """The logits of calibrated probabilities are `scales * logits + shifts`; both are float64 (L,), and the scales are above 0."""

    scales: np.ndarray
    shifts: np.ndarray

    def apply(self, logits: np.ndarray) -> np.ndarray:
        """Return calibrated logits, float64 (n, L), for those of a model, float (n, L)."""
        return logits * self.scales + self.shifts


def skip_calibration(num_labels: int) -> Calibration:
    """Return the calibration that leaves the logits as they are."""
    return Calibration(np.ones(num_labels), np.zeros(num_labels))


def fit_calibration(labels: np.ndarray, logits: np.ndarray, is_judged: np.ndarray | None = None, has_bias: bool = True) -> Calibration:
    """Return the calibration fitted on validation logits, float (n, L), and gold labels, bool (n, L).

    One scale and one shift of all labels are fitted first, and then a slope and an intercept of each label, as far as the rows show that
    labels differ. `is_judged`, bool (n, L), says which labels were annotated, None if all were. A head without biases can hold no shift:
    without `has_bias` there is the scale of all labels alone.
    """
    is_judged = np.ones_like(labels) if is_judged is None else is_judged
    scale, shift = fit_common_scale(labels[is_judged], logits[is_judged], has_bias)
    common = Calibration(np.full(labels.shape[1], scale), np.full(labels.shape[1], shift))
    if not has_bias:
        return common
    slopes, intercepts = fit_label_scales(labels, common.apply(logits), is_judged)
    return Calibration(slopes * scale, slopes * shift + intercepts)


def fit_common_scale(labels: np.ndarray, logits: np.ndarray, has_bias: bool = True) -> tuple[float, float]:
    """Return the scale and the shift, each one number for all labels, under which `scale * logits + shift` is most likely.

    `labels` and `logits` are bool and float, of any one shape. Without `has_bias` the shift is 0, and the scale is one through a
    temperature (Guo et al. 2017, "On Calibration of Modern Neural Networks").
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
    return float(scale), float(shift)


def fit_label_scales(labels: np.ndarray, logits: np.ndarray, is_judged: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the slope and the intercept of each label, float64 (L,) each; all arguments are (n, L).

    How far labels differ is learnt from the rows: of several widths of the priors, that one is taken under which the labels are most likely
    (empirical Bayes, with Laplace's approximation of the integral: MacKay 1992, "Bayesian Interpolation").
    """
    intercept_stds = np.array(INTERCEPT_STDS)
    slope_stds, num_labels = SLOPE_STD_RATIO * intercept_stds, labels.shape[1]
    slopes, intercepts = np.empty((2, num_labels, len(intercept_stds)))
    evidence = np.zeros(len(intercept_stds))
    columns = [(logits[rows, column], labels[rows, column].astype(float)) for column, rows in enumerate(is_judged.T)]
    for column, (values, gold) in enumerate(columns):
        positives = np.broadcast_to(gold, (len(intercept_stds), len(gold)))
        slopes[column], intercepts[column] = fit_scaling(values, positives, 1 - positives, slope_stds, intercept_stds)
        evidence += measure_evidence(values, gold, slopes[column], intercepts[column], slope_stds, intercept_stds)
    best = int(np.argmax(evidence))
    for column, (values, gold) in enumerate(columns):
        if slopes[column, best] < MIN_SLOPE:
            _, intercepts[column, best] = fit_scaling(MIN_SLOPE * values, gold, 1 - gold, FIXED_STD, intercept_stds[best])
            slopes[column, best] = MIN_SLOPE
    return slopes[:, best], intercepts[:, best]


def measure_evidence(
    logits: np.ndarray, gold: np.ndarray, slopes: np.ndarray, intercepts: np.ndarray, slope_stds: np.ndarray, intercept_stds: np.ndarray
) -> np.ndarray:
    """Return the logarithm of the probability of one label's gold labels, float (A,), under priors of K widths, but for a constant, (K,).

    `slopes` and `intercepts`, (K,), are the most likely ones under the priors of these standard deviations, (K,).
    """
    scaled = slopes[:, None] * logits + intercepts[:, None]
    probabilities = (1 + np.tanh(scaled / 2)) / 2
    variances = probabilities * (1 - probabilities)
    log_likelihood = (gold * scaled - np.logaddexp(0, scaled)).sum(axis=-1)
    log_prior = -(((slopes - 1) / slope_stds) ** 2 + (intercepts / intercept_stds) ** 2) / 2 - np.log(slope_stds * intercept_stds)
    by_slope, by_intercept = variances @ logits**2 + slope_stds**-2, variances.sum(axis=-1) + intercept_stds**-2
    determinants = by_slope * by_intercept - (variances @ logits) ** 2
    return np.asarray(log_likelihood + log_prior - np.log(determinants) / 2)
