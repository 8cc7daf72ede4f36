"""How many labels are wrong and how many are missing, label by label, with intervals over rows."""

from dataclasses import dataclass

import numpy as np

from emotion.evaluation.uncertainty import draw_counts, find_interval

NUM_RESAMPLES = 500
TOLERANCE = 1e-6
"""What a probability may lie below a threshold, as in cleanlab."""
MIN_THRESHOLD = 2e-6
"""Lower bound of a threshold, as in cleanlab."""
PSEUDO_COUNT = 0.5
"""Mean of the random pseudo-counts of right and wrong rows in a resample: Jeffreys' prior for a proportion, as in the intervals of F1."""
ESTIMATOR = (
    "confident learning, one label against the rest: a row counts as having (or not having) the label if its out-of-fold probability of "
    "that is at least the mean one of the rows that are labelled so; the counts are scaled to the numbers of given labels"
)
SOURCE = 'Northcutt, Jiang and Chuang 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels", section 3.1'
INTERVAL = (
    f"95%, percentile bootstrap over rows, {NUM_RESAMPLES} resamples with random pseudo-counts, as a few rows without an error do not show "
    "that there is none; the models are those of all rows"
)


@dataclass(frozen=True)
class LabelNoise:
    """Estimates of one label; nan where the label is given in no row or in all rows."""

    num_given: int
    wrong: float
    """Fraction of the given labels that are wrong."""
    wrong_interval: tuple[float, float]
    missing: float
    """Fraction of the true labels that are not given."""
    missing_interval: tuple[float, float]
    num_missing: float
    """Expected number of rows that lack the label."""


def estimate_noise(labels: np.ndarray, probabilities: np.ndarray, is_judged: np.ndarray | None = None, seed: int = 0) -> list[LabelNoise]:
    """Return the estimates of each label from out-of-fold `probabilities`, float (n, L); `labels` and `is_judged` are bool (n, L).

    They equal those of cleanlab's `estimate_joint`, before it rounds to whole rows.
    """
    num_rows, num_labels = labels.shape
    judged = np.ones_like(labels) if is_judged is None else is_judged
    ones = np.ones((1, num_rows), dtype=np.float32)
    estimates = [_count(labels[:, column], probabilities[:, column], ones * judged[:, column]) for column in range(num_labels)]
    chunks: list[list[np.ndarray]] = [[] for _ in range(num_labels)]
    generator = np.random.default_rng([seed, 1])
    for counts in draw_counts(num_rows, NUM_RESAMPLES, seed):
        for column in range(num_labels):
            added = generator.standard_gamma(PSEUDO_COUNT, (len(counts), 2, 2))
            chunks[column].append(_count(labels[:, column], probabilities[:, column], counts * judged[:, column], added))
    resampled = [np.concatenate(parts) for parts in chunks]
    numbers = (labels & judged).sum(axis=0).tolist()
    return [_summarize(number, estimate[0], draws) for number, estimate, draws in zip(numbers, estimates, resampled, strict=True)]


def _count(given: np.ndarray, probability: np.ndarray, weights: np.ndarray, added: np.ndarray | float = 0.0) -> np.ndarray:
    """Return the estimated rows of one label, float (B, 2, 2), by (given, true), for rows that count `weights`, float (B, n), times.

    `added`, float (B, 2, 2), are pseudo-counts of confident rows. nan where the label is given in no row that counts, or in all.
    """
    probability = probability.astype(np.float64)
    numbers = np.stack([weights @ ~given, weights @ given], axis=1)  # (B, 2)
    sums = np.stack([weights @ (~given * (1 - probability)), weights @ (given * probability)], axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        thresholds = np.maximum(sums / numbers, MIN_THRESHOLD) - TOLERANCE
    is_no, is_yes = 1 - probability >= thresholds[:, :1], probability >= thresholds[:, 1:]  # (B, n)
    is_true = is_yes & (~is_no | (probability > 0.5))  # where both are confident, the more probable one
    is_false = is_no & ~is_true
    joint = np.stack(
        [np.stack([(weights * side) @ (given == value) for side in (is_false, is_true)], axis=1) for value in (False, True)], axis=1
    ).astype(np.float64)  # (B, given, true)
    joint[:, [0, 1], [0, 1]] = np.maximum(joint[:, [0, 1], [0, 1]], 1)
    joint += added
    joint *= (numbers / joint.sum(axis=2))[:, :, None]
    joint[(numbers == 0).any(axis=1)] = np.nan
    return joint


def _summarize(num_given: int, joint: np.ndarray, draws: np.ndarray) -> LabelNoise:
    """Return the estimates of a label that is given in `num_given` rows.

    `joint` is its rows by (given, true), float (2, 2), and `draws` those of the resamples, float (B, 2, 2).
    """
    wrong, missing = _divide(joint)
    wrong_draws, missing_draws = _divide(draws)
    is_known = bool(np.isfinite(wrong))
    unknown = (float("nan"), float("nan"))
    return LabelNoise(
        num_given=num_given,
        wrong=float(wrong),
        wrong_interval=find_interval(wrong_draws, float(wrong)) if is_known else unknown,
        missing=float(missing),
        missing_interval=find_interval(missing_draws, float(missing)) if is_known else unknown,
        num_missing=float(joint[0, 1]),
    )


def _divide(joint: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the fraction of given labels that are wrong, and of true labels that are missing, each float (...)."""
    true = joint[..., 0, 1] + joint[..., 1, 1]
    return joint[..., 1, 0] / (joint[..., 1, 0] + joint[..., 1, 1]), joint[..., 0, 1] / true
