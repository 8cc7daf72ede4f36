"""Intervals of pass rates, and the paired test of two models on the same cases.

Cases that share a group, a counterpart or a text are not independent. The interval is Wilson's with an effective number of cases, which the
spread of the clusters gives. It was chosen over the bootstrap because many pass rates are near 0 or 1, and resamples of ten passed cases
all pass: the bootstrap's interval would have no width.
"""

import numpy as np

from emotion.evaluation.uncertainty import compute_wilson_interval

NUM_SIGN_FLIPS = 10_000


def find_pass_interval(passed: np.ndarray, clusters: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Return the interval of the mean of `passed`, float (n,) in [0, 1], given the cluster of each case, int (n,).

    Source of the effective number of cases: Korn and Graubard 1998, "Confidence Intervals for Proportions with Small Expected Number of
    Positive Counts Estimated from Survey Data".
    """
    from scipy.stats import t

    _, members = np.unique(clusters, return_inverse=True)
    num_cases, num_clusters, rate = len(passed), int(members.max()) + 1, float(passed.mean())
    if num_clusters < 2:
        return 0.0, 1.0  # one cluster does not tell how much clusters differ
    residuals = np.bincount(members, weights=passed - rate)
    variance = num_clusters / (num_clusters - 1) * (residuals**2).sum() / num_cases**2
    if num_clusters == num_cases:
        effective = float(num_cases)
    elif variance > 0:
        tails = [t.ppf((1 + level) / 2, count - 1) for count in (num_cases, num_clusters)]
        effective = min(rate * (1 - rate) / variance, num_cases) * (tails[0] / tails[1]) ** 2
    else:
        effective = float(num_clusters)
    return compute_wilson_interval(rate * effective, effective, level)


def compute_paired_p_value(first: np.ndarray, second: np.ndarray, clusters: np.ndarray, seed: int = 0) -> float:
    """Return the two-sided p-value of "both models pass equally often", given passes, float (n,), on the same cases.

    The models are swapped in random clusters. With one case per cluster this is McNemar's test.

    Source: Good 2005, "Permutation, Parametric and Bootstrap Tests of Hypotheses", chapter 3.
    """
    _, members = np.unique(clusters, return_inverse=True)
    differences = np.bincount(members, weights=first - second)
    differences = differences[differences != 0]
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], (NUM_SIGN_FLIPS, len(differences)))
    is_as_large = np.abs(signs @ differences) >= abs(differences.sum()) - 1e-9
    return float((1 + is_as_large.sum()) / (1 + NUM_SIGN_FLIPS))
