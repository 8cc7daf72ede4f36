"""Estimators of the prevalence of one label in a group of rows: the fraction of the rows that have it.

All functions work on atoms. An atom is a probability and a decision, with a weight: the number of rows that have both. With one atom per
row, they are the estimators of the literature; with one atom per bin of a histogram, many resamples are one array.

Shapes: A is the number of atoms; `values`, float (A,) or (..., A), are probabilities in [0, 1]; `is_predicted` is bool (A,); the weights
`group`, `positives` (validation rows with the label) and `negatives` (those without) are (..., A). The results are float (...).

Label shift is assumed: the texts with the label are alike in the group and in validation, and so are the texts without it.
"""

import numpy as np

from emotion.evaluation.calibration import fit_scaling

NUM_NEWTON_STEPS = 40
"""Most steps of `maximize_likelihood`; a step that leaves the bracket is replaced by a bisection."""
TOLERANCE = 1e-9
SLOPE_STD, INTERCEPT_STD = 0.25, 1.0
"""Standard deviations of the priors of `fit_scaling`: a label with few positives keeps the model's own probabilities."""
MIN_RATE = 1e-9


def average(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the weighted mean of values. With decisions it is the plain count (CC), with calibrated probabilities it is PCC.

    Source: Forman 2008, "Quantifying counts and costs via classification" (CC); Bella et al. 2010, "Quantification via Probability
    Estimators" (PCC).
    """
    return np.einsum("...a,...a->...", weights, values) / weights.sum(axis=-1)


def adjust(rate: np.ndarray, rate_in_positives: np.ndarray, rate_in_negatives: np.ndarray) -> np.ndarray:
    """Return the prevalence at which the two rates of validation give the rate of the group; it may lie outside [0, 1].

    With rates of decisions this is the adjusted count (ACC), with mean probabilities it is PACC. The result is nan where the model does
    not tell the label apart at all.

    Source: Forman 2008 (ACC); Bella et al. 2010 (PACC, there "scaled probability average").
    """
    distance = np.asarray(rate_in_positives - rate_in_negatives, dtype=float)
    shift = np.asarray(rate - rate_in_negatives, dtype=float)
    return np.divide(shift, distance, out=np.full(np.broadcast(shift, distance).shape, np.nan), where=np.abs(distance) > MIN_RATE)


def compute_ratios(values: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """Return likelihood ratios, float (..., A): how much more often a probability occurs in texts with the label than in others.

    `prior`, float (...), is the prevalence at which the probabilities are calibrated.
    """
    prior = np.asarray(prior)[..., None]
    return values / (1 - values) * ((1 - prior) / np.maximum(prior, MIN_RATE))


def maximize_likelihood(group: np.ndarray, ratios: np.ndarray) -> np.ndarray:
    """Return the prevalence in [0, 1] under which the group's probabilities are most likely (SLD, the limit of expectation-maximization).

    The log-likelihood is concave in the prevalence, so that Newton's method within a bracket finds the same limit in a few steps.

    Source: Saerens, Latinne and Decaestecker 2002, "Adjusting the Outputs of a Classifier to New a Priori Probabilities".
    """
    excess = np.asarray(ratios - 1)
    group, excess = np.broadcast_arrays(group, excess)
    low, high = np.zeros(group.shape[:-1]), np.ones(group.shape[:-1])
    is_zero = np.einsum("...a,...a->...", group, excess) <= 0
    with np.errstate(divide="ignore", invalid="ignore"):
        at_one = np.where(group > 0, group * excess / (1 + excess), 0).sum(axis=-1)
    is_one = (at_one >= 0) & ~is_zero
    prevalence = np.clip(average(group, excess > 0), 0.001, 0.999)
    for _ in range(NUM_NEWTON_STEPS):
        terms = excess / (1 + prevalence[..., None] * excess)
        slope = np.einsum("...a,...a->...", group, terms)
        curvature = np.einsum("...a,...a,...a->...", group, terms, terms)
        low, high = np.where(slope > 0, prevalence, low), np.where(slope > 0, high, prevalence)
        step = prevalence + slope / np.maximum(curvature, MIN_RATE)
        middle = np.where(low > 0, np.sqrt(low * high), high / 10)  # in the logarithm: a rare label is near 0
        following = np.where((step >= low) & (step <= high), step, middle)
        is_done = np.abs(following - prevalence).max(initial=0, where=~(is_zero | is_one)) < TOLERANCE
        prevalence = following
        if is_done:
            break
    return np.where(is_zero, 0.0, np.where(is_one, 1.0, prevalence))


def calibrate(values: np.ndarray, positives: np.ndarray, negatives: np.ndarray) -> np.ndarray:
    """Return the values as probabilities that are calibrated for one label on validation rows, float (..., A)."""
    logits = np.log(values / (1 - values))
    slope, intercept = fit_scaling(logits, positives, negatives, SLOPE_STD, INTERCEPT_STD)
    return 1 / (1 + np.exp(-(slope[..., None] * logits + intercept[..., None])))
