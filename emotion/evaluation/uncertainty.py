"""How sure a score is, and whether two models differ: the bootstrap over the rows of a split.

Every score here is a function of column totals over rows, so a resample is a vector of row counts and a thousand of
them one matrix product. `labels` and `predictions` are bool (n, L); B is the number of resamples.
"""

from collections.abc import Iterator, Sequence

import numpy as np

NUM_RESAMPLES = 1_000
CHUNK = 100
"""Resamples counted at once: 100 x 5,427 counts take 2 MB."""


def bootstrap_intervals(
    labels: np.ndarray, predictions: np.ndarray, level: float = 0.95, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Return percentile intervals of the scores that `score_totals` gives, but for those of single labels.

    Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13.
    """
    scores = resample_scores(labels, predictions, draw_counts(len(labels), num_resamples, seed))
    return {name: percentile_interval(values, level) for name, values in scores.items() if name != "label_f1"}


def label_intervals(labels: np.ndarray, predictions: np.ndarray, level: float = 0.95, seed: int = 0) -> np.ndarray:
    """Return the percentile interval of each label's F1, float (L, 2)."""
    scores = resample_scores(labels, predictions, draw_counts(len(labels), NUM_RESAMPLES, seed))
    return np.percentile(scores["label_f1"], _tails(level), axis=0).T


def draw_counts(num_rows: int, num_resamples: int = NUM_RESAMPLES, seed: int = 0) -> Iterator[np.ndarray]:
    """Yield how often each row is drawn in each resample, float32 (up to `CHUNK`, n); the same for the same arguments."""
    generator = np.random.default_rng(seed)
    for start in range(0, num_resamples, CHUNK):
        size = min(CHUNK, num_resamples - start)
        yield generator.multinomial(num_rows, np.full(num_rows, 1 / num_rows), size=size).astype(np.float32)


def tabulate_rows(labels: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Return float32 (n, 3 L + 2): each row's true positives, gold and predicted labels, its Jaccard index, whether all is right."""
    both, either = labels & predictions, labels | predictions
    jaccard = np.where(either.any(axis=1), both.sum(axis=1) / np.maximum(either.sum(axis=1), 1), 1.0)
    exact = (labels == predictions).all(axis=1)
    return np.column_stack([both, labels, predictions, jaccard, exact]).astype(np.float32)


def score_totals(totals: np.ndarray, num_rows: int) -> dict[str, np.ndarray]:
    """Return scores (B,), and `label_f1` (B, L), of column totals (B, 3 L + 2) of what `tabulate_rows` gives.

    As everywhere here a label without rows counts F1 0, an empty row met empty Jaccard 1.
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
    """Return the scores of every resample, as `score_totals` does."""
    return resample_several(labels, [predictions], counts)[0]


def resample_several(labels: np.ndarray, predictions: Sequence[np.ndarray], counts: Iterator[np.ndarray]) -> list[dict[str, np.ndarray]]:
    """Return the scores of several models in the same resamples: drawing rows takes most of the time, and is done once."""
    tables = [tabulate_rows(labels, decided) for decided in predictions]
    chunks = [[score_totals(chunk @ table, len(labels)) for table in tables] for chunk in counts]
    return [{name: np.concatenate([part[name] for part in parts]) for name in parts[0]} for parts in zip(*chunks, strict=True)]


def resample_average_precision(labels: np.ndarray, probabilities: np.ndarray, counts: Iterator[np.ndarray]) -> np.ndarray:
    """Return the macro average precision of every resample, (B,), over the labels that have a positive row in it."""
    return np.concatenate([_average_precision(labels, probabilities, chunk) for chunk in counts])


def paired_p_value(differences: np.ndarray) -> float:
    """Return the two-sided achieved significance level of "no difference", from differences (B,) in the same resamples.

    It is below 1 - level where the percentile interval of that level leaves out 0.
    Source: Efron and Tibshirani 1993, 15.4 and 16; one is added to each count, so that it is never 0.
    """
    at_most, at_least = (differences <= 0).sum(), (differences >= 0).sum()
    return float(min(1.0, 2 * (1 + min(at_most, at_least)) / (1 + len(differences))))


def correct_holm(p_values: np.ndarray) -> np.ndarray:
    """Return p values adjusted so that below .05 anywhere has a chance of .05 at most if there is no difference anywhere.

    Source: Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure".
    """
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(factors * np.asarray(p_values)[order]))
    return adjusted


def percentile_interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Return the middle `level` of values (B,)."""
    low, high = np.percentile(values, _tails(level))
    return float(low), float(high)


def _average_precision(labels: np.ndarray, probabilities: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the macro average precision (b,) of counts (b, n); rows of one probability stand or fall together, as in scikit-learn."""
    total, num_used = np.zeros(len(counts)), np.zeros(len(counts))
    for gold, scores in zip(labels.T, probabilities.T, strict=True):
        order = np.argsort(-scores, kind="stable")
        positives = np.flatnonzero(gold[order])
        if len(positives) == 0:
            continue
        ranked = counts[:, order]
        last_of_equals = np.searchsorted(-scores[order], -scores[order][positives], side="right") - 1
        places = np.searchsorted(positives, last_of_equals, side="right") - 1
        drawn = ranked[:, positives]
        precision = _divide(drawn.cumsum(axis=1)[:, places], ranked.cumsum(axis=1)[:, last_of_equals])
        num_drawn = drawn.sum(axis=1)
        total += _divide((drawn * precision).sum(axis=1), num_drawn)
        num_used += num_drawn > 0
    return _divide(total, num_used)


def _divide(numerators: np.ndarray, denominators: np.ndarray) -> np.ndarray:
    """Return the quotients, 0 where there is nothing to divide by: no numerator here is above its denominator times 2."""
    return np.divide(numerators, denominators, out=np.zeros(np.shape(numerators)), where=denominators > 0)


def _tails(level: float) -> list[float]:
    return [50 * (1 - level), 50 * (1 + level)]
