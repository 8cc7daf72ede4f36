"""Confidence intervals and paired tests by the bootstrap over the rows of a split.

Most scores here are functions of column totals over rows. A resample is then a vector of row counts, and many resamples are
one matrix product. Shapes: `labels` and `predictions` are bool (n, L), `probabilities` float (n, L); B is the number of resamples.
"""

from collections.abc import Iterator, Sequence

import numpy as np

NUM_RESAMPLES = 1_000
CHUNK_SIZE = 100
"""Number of resamples that are drawn at once: 100 x 5,427 counts take 2 MB."""


def bootstrap_intervals(
    labels: np.ndarray, predictions: np.ndarray, level: float = 0.95, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Return percentile intervals of the scores of `score_totals`, except for `label_f1`.

    Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13.
    """
    scores = resample_scores(labels, predictions, draw_counts(len(labels), num_resamples, seed))
    return {name: percentile_interval(values, level) for name, values in scores.items() if name != "label_f1"}


def bootstrap_label_intervals(labels: np.ndarray, predictions: np.ndarray, level: float = 0.95, seed: int = 0) -> np.ndarray:
    """Return the percentile interval of each label's F1, float (L, 2)."""
    scores = resample_scores(labels, predictions, draw_counts(len(labels), NUM_RESAMPLES, seed))
    return np.percentile(scores["label_f1"], _get_percentiles(level), axis=0).T


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

    As in `metrics.score_predictions`, a label without gold and predicted rows has F1 0, and a row without gold and predicted
    labels has Jaccard index 1.
    """
    hits, gold, predicted = np.split(totals[:, :-2].astype(np.float64), 3, axis=1)
    label_f1 = _divide(2 * hits, gold + predicted)
    all_hits, all_gold, all_predicted = (part.sum(axis=1) for part in (hits, gold, predicted))
    return {
        "subset_accuracy": totals[:, -1] / num_rows,
        "jaccard_samples": totals[:, -2] / num_rows,
        "micro_precision": _divide(all_hits, all_predicted),
        "micro_recall": _divide(all_hits, all_gold),
        "micro_f1": _divide(2 * all_hits, all_gold + all_predicted),
        "macro_precision": _divide(hits, predicted).mean(axis=1),
        "macro_recall": _divide(hits, gold).mean(axis=1),
        "macro_f1": label_f1.mean(axis=1),
        "label_f1": label_f1,
    }


def resample_scores(labels: np.ndarray, predictions: np.ndarray, counts: Iterator[np.ndarray]) -> dict[str, np.ndarray]:
    """Return the scores of `score_totals` for every resample."""
    return resample_several(labels, [predictions], counts)[0]


def resample_several(labels: np.ndarray, predictions: Sequence[np.ndarray], counts: Iterator[np.ndarray]) -> list[dict[str, np.ndarray]]:
    """Return the scores of several models on the same resamples, one dictionary per model.

    Drawing rows takes most of the time, and this draws them once for all models.
    """
    tables = [tabulate_rows(labels, predicted) for predicted in predictions]
    chunks = [[score_totals(chunk @ table, len(labels)) for table in tables] for chunk in counts]
    return [{name: np.concatenate([part[name] for part in parts]) for name in parts[0]} for parts in zip(*chunks, strict=True)]


def resample_average_precision(labels: np.ndarray, probabilities: np.ndarray, counts: Iterator[np.ndarray]) -> np.ndarray:
    """Return the macro average precision of every resample, float (B,), over the labels with a positive row in it."""
    return np.concatenate([_compute_average_precision(labels, probabilities, chunk) for chunk in counts])


def paired_p_value(differences: np.ndarray) -> float:
    """Return the two-sided achieved significance level of "no difference", given paired differences, float (B,).

    It is below `1 - level` where the percentile interval of that level does not contain 0. One is added to both counts,
    so the result is never 0.

    Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", section 15.4 and chapter 16.
    """
    at_most, at_least = (differences <= 0).sum(), (differences >= 0).sum()
    return float(min(1.0, 2 * (1 + min(at_most, at_least)) / (1 + len(differences))))


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


def percentile_interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Return the central interval that holds the fraction `level` of values, float (B,)."""
    low, high = np.percentile(values, _get_percentiles(level))
    return float(low), float(high)


def _compute_average_precision(labels: np.ndarray, probabilities: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the macro average precision, float (b,), of the resamples in `counts`, float (b, n).

    Rows with equal probability share one threshold, as in scikit-learn.
    """
    total, num_used = np.zeros(len(counts)), np.zeros(len(counts))
    for gold, scores in zip(labels.T, probabilities.T, strict=True):
        order = np.argsort(-scores, kind="stable")
        positives = np.flatnonzero(gold[order])  # ranks of the positive rows
        if len(positives) == 0:
            continue
        ranked = counts[:, order]
        last_tied_rank = np.searchsorted(-scores[order], -scores[order][positives], side="right") - 1
        last_tied_positive = np.searchsorted(positives, last_tied_rank, side="right") - 1
        positive_counts = ranked[:, positives]
        precision = _divide(positive_counts.cumsum(axis=1)[:, last_tied_positive], ranked.cumsum(axis=1)[:, last_tied_rank])
        num_positives = positive_counts.sum(axis=1)
        total += _divide((positive_counts * precision).sum(axis=1), num_positives)
        num_used += num_positives > 0
    return _divide(total, num_used)


def _divide(numerators: np.ndarray, denominators: np.ndarray) -> np.ndarray:
    """Return the quotients, 0 where the denominator is 0."""
    return np.divide(numerators, denominators, out=np.zeros(np.shape(numerators)), where=denominators > 0)


def _get_percentiles(level: float) -> list[float]:
    return [50 * (1 - level), 50 * (1 + level)]
