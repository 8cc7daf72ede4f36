"""How sure a score is: bootstrap intervals over the rows of a split."""

import numpy as np

NUM_RESAMPLES = 1_000
CHUNK = 100
"""Resamples counted at once: 100 x 5,427 weights take 4 MB."""


def bootstrap_intervals(
    labels: np.ndarray, predictions: np.ndarray, level: float = 0.95, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Return percentile intervals of macro-F1, micro-F1, Jaccard and subset accuracy for bool (n, L) arrays.

    Rows are drawn with replacement. As everywhere here a label without rows counts F1 0, an empty row met empty Jaccard 1.
    Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13.
    """
    both, either = labels & predictions, labels | predictions
    jaccard = np.where(either.any(axis=1), both.sum(axis=1) / np.maximum(either.sum(axis=1), 1), 1.0)
    exact = (labels == predictions).all(axis=1)
    # One product with the resampling weights counts everything: 2 TP = both + both, TP + FP + TP + FN = gold + predicted.
    counted = np.column_stack([both, labels.astype(np.float32) + predictions, jaccard, exact]).astype(np.float32)
    num_rows, num_labels = labels.shape
    generator = np.random.default_rng(seed)
    samples: dict[str, list[np.ndarray]] = {"macro_f1": [], "micro_f1": [], "jaccard_samples": [], "subset_accuracy": []}
    for start in range(0, num_resamples, CHUNK):
        size = min(CHUNK, num_resamples - start)
        weights = generator.multinomial(num_rows, np.full(num_rows, 1 / num_rows), size=size).astype(np.float32)
        totals = weights @ counted
        hits, sizes = 2 * totals[:, :num_labels], totals[:, num_labels : 2 * num_labels]
        samples["macro_f1"].append((hits / np.maximum(sizes, 1)).mean(axis=1))
        samples["micro_f1"].append(hits.sum(axis=1) / np.maximum(sizes.sum(axis=1), 1))
        samples["jaccard_samples"].append(totals[:, -2] / num_rows)
        samples["subset_accuracy"].append(totals[:, -1] / num_rows)
    tails = [50 * (1 - level), 50 * (1 + level)]
    return {name: _as_interval(np.percentile(np.concatenate(values), tails)) for name, values in samples.items()}


def _as_interval(bounds: np.ndarray) -> tuple[float, float]:
    return float(bounds[0]), float(bounds[1])
