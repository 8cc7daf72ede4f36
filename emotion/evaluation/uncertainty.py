"""Confidence intervals and paired tests by the bootstrap over the rows of a split.

Most scores here are functions of column totals over rows. A resample is then a vector of row counts, and many resamples are
one matrix product. Macro scores of a resample are averaged over the labels with a gold row in it, as those of the split are.
`benchmarks/interval_coverage.py` measures how often the intervals hold the true value.

Shapes: `labels` and `predictions` are bool (n, L), `probabilities` float (n, L); B is the number of resamples.
"""

from collections.abc import Iterator, Sequence
from statistics import NormalDist

import numpy as np

NUM_RESAMPLES = 1_000
CHUNK_SIZE = 100
"""Number of resamples that are drawn at once: 100 x 5,427 counts take 2 MB."""
PSEUDO_COUNT = 0.5
"""Mean of the random pseudo-counts of a label's hits and of its errors in the interval of its F1."""


def bootstrap_intervals(
    labels: np.ndarray, predictions: np.ndarray, level: float = 0.95, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Return percentile intervals of the scores of `score_totals`, except for `label_f1`. Each contains the score of all rows.

    Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13.
    """
    scores = resample_scores(labels, predictions, draw_counts(len(labels), num_resamples, seed))
    estimates = score_rows(labels, predictions)
    return {name: find_interval(values, float(estimates[name]), level) for name, values in scores.items() if name != "label_f1"}


def bootstrap_label_intervals(labels: np.ndarray, predictions: np.ndarray, level: float = 0.95, seed: int = 0) -> np.ndarray:
    """Return the interval of each label's F1, float (L, 2); nan for a label without a gold row.

    A random number of hits and of errors is added in every resample. Without them, a label with three gold rows would get an interval
    that holds the true value in half of the cases.

    Source: the pseudo-counts are Jeffreys' prior for a proportion: Brown, Cai and DasGupta 2001, "Interval Estimation for a Binomial
    Proportion".
    """
    counts = draw_counts(len(labels), NUM_RESAMPLES, seed)
    label_hits, gold, predicted = split_totals(resample_totals(labels, [predictions], counts)[0])
    hits, errors = np.random.default_rng([seed, 1]).standard_gamma(PSEUDO_COUNT, (2, *gold.shape))
    resampled = 2 * (label_hits + hits) / (gold + predicted + 2 * hits + errors)
    estimates = score_rows(labels, predictions)["label_f1"]
    intervals = [find_interval(values, float(estimate), level) for values, estimate in zip(resampled.T, estimates, strict=True)]
    is_measured = np.asarray(labels.any(axis=0))
    return np.where(is_measured[:, None], np.array(intervals), np.nan)


def draw_counts(num_rows: int, num_resamples: int = NUM_RESAMPLES, seed: int = 0) -> Iterator[np.ndarray]:
    """Yield how often each row occurs in each resample, in chunks of float32 (up to `CHUNK_SIZE`, n).

    Equal arguments yield equal counts.
    """
    generator = np.random.default_rng(seed)
    for start in range(0, num_resamples, CHUNK_SIZE):
        size = min(CHUNK_SIZE, num_resamples - start)
        yield generator.multinomial(num_rows, np.full(num_rows, 1 / num_rows), size=size).astype(np.float32)


def tabulate_rows(labels: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Return float32 (n, 3 L + 2), the terms of each row in the column totals.

    The columns are true positives (L), gold labels (L), predicted labels (L), the Jaccard index, and whether all labels are correct.
    """
    both, either = labels & predictions, labels | predictions
    jaccard = np.where(either.any(axis=1), both.sum(axis=1) / np.maximum(either.sum(axis=1), 1), 1.0)
    is_exact = (labels == predictions).all(axis=1)
    return np.column_stack([both, labels, predictions, jaccard, is_exact]).astype(np.float32)


def score_totals(totals: np.ndarray, num_rows: int) -> dict[str, np.ndarray]:
    """Return scores, float (B,), and `label_f1`, float (B, L), from column totals of `tabulate_rows`, float (B, 3 L + 2).

    As in `metrics.score_predictions`, macro averages are over the labels with a gold row, and a row without gold and predicted labels
    has Jaccard index 1.
    """
    hits, gold, predicted = split_totals(totals)
    label_f1 = _divide(2 * hits, gold + predicted)
    all_hits, all_gold, all_predicted = (part.sum(axis=1) for part in (hits, gold, predicted))
    return {
        "subset_accuracy": totals[:, -1] / num_rows,
        "jaccard_samples": totals[:, -2] / num_rows,
        "micro_precision": _divide(all_hits, all_predicted),
        "micro_recall": _divide(all_hits, all_gold),
        "micro_f1": _divide(2 * all_hits, all_gold + all_predicted),
        "macro_precision": _average_measured(_divide(hits, predicted), gold),
        "macro_recall": _average_measured(_divide(hits, gold), gold),
        "macro_f1": _average_measured(label_f1, gold),
        "label_f1": label_f1,
    }


def score_rows(labels: np.ndarray, predictions: np.ndarray) -> dict[str, np.ndarray]:
    """Return the scores of `score_totals` on all rows: floats, and `label_f1`, float (L,)."""
    totals = tabulate_rows(labels, predictions).sum(axis=0, keepdims=True, dtype=np.float64)
    return {name: values[0] for name, values in score_totals(totals, len(labels)).items()}


def split_totals(totals: np.ndarray) -> list[np.ndarray]:
    """Return true positives, gold labels and predicted labels, each float64 (B, L), from column totals of `tabulate_rows`."""
    return np.split(totals[:, :-2].astype(np.float64), 3, axis=1)


def resample_scores(labels: np.ndarray, predictions: np.ndarray, counts: Iterator[np.ndarray]) -> dict[str, np.ndarray]:
    """Return the scores of `score_totals` for every resample."""
    return resample_several(labels, [predictions], counts)[0]


def resample_several(labels: np.ndarray, predictions: Sequence[np.ndarray], counts: Iterator[np.ndarray]) -> list[dict[str, np.ndarray]]:
    """Return the scores of several models on the same resamples, one dictionary per model."""
    return [score_totals(totals, len(labels)) for totals in resample_totals(labels, predictions, counts)]


def resample_totals(labels: np.ndarray, predictions: Sequence[np.ndarray], counts: Iterator[np.ndarray]) -> list[np.ndarray]:
    """Return the column totals of several models on the same resamples, float32 (B, 3 L + 2) per model.

    Drawing rows takes most of the time, and this draws them once for all models.
    """
    return resample_tables([tabulate_rows(labels, predicted) for predicted in predictions], counts)


def resample_tables(tables: Sequence[np.ndarray], counts: Iterator[np.ndarray]) -> list[np.ndarray]:
    """Return the column totals of several tables on the same resamples, float32 (B, 3 L + 2) per table.

    A table, float32 (n, 3 L + 2), has the terms of `tabulate_rows` of each unit that is drawn: a row, or the sum of several.
    """
    return [np.concatenate(parts) for parts in zip(*([chunk @ table for table in tables] for chunk in counts), strict=True)]


def paired_p_value(differences: np.ndarray) -> float:
    """Return the two-sided achieved significance level of "no difference", given paired differences, float (B,).

    It is below `1 - level` where the percentile interval of that level does not contain 0. One is added to both counts,
    so the result is never 0. A resample without a gold row has no macro score: its difference is nan, and does not count.

    Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", section 15.4 and chapter 16.
    """
    differences = differences[~np.isnan(differences)]
    at_most, at_least = (differences <= 0).sum(), (differences >= 0).sum()
    return float(min(1.0, 2 * (1 + min(at_most, at_least)) / (1 + len(differences))))


def equivalence_p_value(differences: np.ndarray, margin: float, num_rows: int) -> float:
    """Return the p-value of "the difference is at least `margin` in one direction", given paired differences, float (B,).

    It is the larger one of two one-sided tests, and below 0.05 where the central 90% of the differences are within the margin. One is
    added to both counts, and nan does not count. Resamples of rows on which two models do not differ do not differ either, so the result
    is at least the chance of `num_rows` such rows where the models differ on the fraction `margin` of all rows.

    Source: Schuirmann 1987, "A Comparison of the Two One-Sided Tests Procedure and the Power Approach".
    """
    differences = differences[~np.isnan(differences)]
    outside = max((differences >= margin).sum(), (differences <= -margin).sum())
    return float(max((1 + outside) / (1 + len(differences)), (1 - margin) ** num_rows))


def adjust_p_values(p_values: np.ndarray) -> np.ndarray:
    """Return p-values adjusted by Holm's method, which controls the family-wise error rate.

    If no difference exists, the probability that any adjusted p-value is below 0.05 is at most 0.05.

    Source: Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure".
    """
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(factors * np.asarray(p_values)[order]))
    return adjusted


def compute_wilson_interval(count: float, total: float, level: float = 0.95) -> tuple[float, float]:
    """Return the interval of the fraction count / total, in [0, 1]; (0, 1) without rows. Effective numbers of rows need not be whole.

    Source: Wilson 1927, "Probable Inference, the Law of Succession, and Statistical Inference".
    """
    if total == 0:
        return 0.0, 1.0
    fraction, weight = count / total, NormalDist().inv_cdf((1 + level) / 2) ** 2 / total
    center = (fraction + weight / 2) / (1 + weight)
    half = (weight * max(fraction * (1 - fraction), 0.0) + weight**2 / 4) ** 0.5 / (1 + weight)
    return max(min(center - half, fraction), 0.0), min(max(center + half, fraction), 1.0)


def find_interval(values: np.ndarray, estimate: float, level: float = 0.95) -> tuple[float, float]:
    """Return the central interval that holds the fraction `level` of values, float (B,), extended to contain the estimate."""
    low, high = np.nanpercentile(values, [50 * (1 - level), 50 * (1 + level)]) if np.isfinite(values).any() else (np.nan, np.nan)
    return float(np.fmin(low, estimate)), float(np.fmax(high, estimate))


def _average_measured(values: np.ndarray, gold: np.ndarray) -> np.ndarray:
    """Return the mean over the labels with gold rows, float (B,), of `values`, float (B, L); nan if there is none."""
    is_measured = gold > 0
    num_measured = is_measured.sum(axis=1)
    return np.divide((values * is_measured).sum(axis=1), num_measured, out=np.full(len(values), np.nan), where=num_measured > 0)


def _divide(numerators: np.ndarray, denominators: np.ndarray) -> np.ndarray:
    """Return the quotients, 0 where the denominator is 0."""
    return np.divide(numerators, denominators, out=np.zeros(np.shape(numerators)), where=denominators > 0)
