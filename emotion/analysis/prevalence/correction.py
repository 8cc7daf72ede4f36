"""What the validation rows say about a model's errors on one label, and the estimators that use it.

Shapes as in `estimators`: A atoms; leading dimensions are resamples of the validation rows.
"""

from dataclasses import dataclass

import numpy as np

from emotion.analysis.prevalence.estimators import adjust, average, calibrate, compute_ratios, maximize_likelihood

ESTIMATORS = ("count", "pcc", "acc", "pacc", "sld")
"""Plain count, mean probability, adjusted count, adjusted probabilities, expectation-maximization."""
DEFAULT = "sld"
"""The estimator with the smallest error in docs/log/prevalence.md."""


@dataclass(frozen=True)
class Correction:
    """Rates of a label's validation rows, and its calibrated probabilities. Made by `fit_correction`."""

    values: np.ndarray
    """Probability of each atom, float (A,)."""
    is_predicted: np.ndarray
    """Decision of each atom, bool (A,)."""
    rates: tuple[np.ndarray, np.ndarray]
    """Fraction predicted among the rows with the label and without it, float (...)."""
    means: tuple[np.ndarray, np.ndarray]
    """Mean probability among the rows with the label and without it, float (...)."""
    calibrated: np.ndarray
    """Probability of each atom, calibrated for this label, float (..., A)."""
    ratios: np.ndarray
    """Likelihood ratios of the calibrated probabilities, float (..., A)."""
    densities: tuple[np.ndarray, np.ndarray]
    """Fraction of the rows with the label and without it in each atom, float (..., A)."""

    def estimate(self, group: np.ndarray, estimator: str = DEFAULT, is_bounded: bool = True) -> np.ndarray:
        """Return the prevalence of the label in groups, float (...), for their weights, float (..., A).

        With `is_bounded=False` adjusted estimates may lie outside [0, 1], as their resamples have to.
        """
        if estimator == "count":
            return average(group, self.is_predicted.astype(float))
        if estimator == "pcc":
            return average(group, self.calibrated)
        if estimator == "sld":
            return maximize_likelihood(group, self.ratios)
        assert estimator in ("acc", "pacc"), estimator
        values, rates = (self.is_predicted.astype(float), self.rates) if estimator == "acc" else (self.values, self.means)
        estimate = adjust(average(group, values), *rates)
        return np.clip(estimate, 0, 1) if is_bounded else estimate


def fit_correction(values: np.ndarray, is_predicted: np.ndarray, positives: np.ndarray, negatives: np.ndarray) -> Correction:
    """Return the correction from the weights of validation rows with the label and without it, float (..., A); neither is all zero."""
    num_positives, num_negatives = positives.sum(axis=-1), negatives.sum(axis=-1)
    decisions = is_predicted.astype(float)
    calibrated = calibrate(values, positives, negatives)
    ratios = compute_ratios(calibrated, num_positives / (num_positives + num_negatives))
    rates = (average(positives, decisions), average(negatives, decisions))
    means = (average(positives, values), average(negatives, values))
    densities = (positives / num_positives[..., None], negatives / num_negatives[..., None])
    return Correction(values, is_predicted, rates, means, calibrated, ratios, densities)
