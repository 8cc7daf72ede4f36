"""Scores of multi-label predictions. scikit-learn does the counting; only calibration error is ours.

`labels` and `predictions` are bool (n, L), `probabilities` float (n, L) in [0, 1].
"""

from typing import Any

import numpy as np
from sklearn import metrics as sk

CALIBRATION_BINS = 15


def score_predictions(labels: np.ndarray, predictions: np.ndarray) -> dict[str, float]:
    """Return subset accuracy, Jaccard, Hamming loss, and precision, recall and F1 by each average."""
    scores = {
        "subset_accuracy": float(sk.accuracy_score(labels, predictions)),
        "jaccard_samples": _jaccard_samples(labels, predictions),
        "hamming_loss": float(sk.hamming_loss(labels, predictions)),
    }
    for average in ("micro", "macro", "weighted", "samples"):
        precision, recall, f1, _ = sk.precision_recall_fscore_support(labels, predictions, average=average, zero_division=0)
        scores |= {f"{average}_precision": float(precision), f"{average}_recall": float(recall), f"{average}_f1": float(f1)}
    return scores


def score_counts(counts: np.ndarray, num_exact: int, num_rows: int) -> dict[str, float]:
    """Return those of `score_predictions` that counts suffice for: counts is int (3, L), true and false positives, false negatives.

    So a file that does not fit into memory can be scored part by part.
    """
    hits, false_alarms, misses = counts.astype(float)
    scores = {"subset_accuracy": num_exact / max(num_rows, 1)}
    for average, sums in (("micro", counts.sum(axis=1, keepdims=True).astype(float)), ("macro", np.stack([hits, false_alarms, misses]))):
        values = {"precision": _divide(sums[0], sums[0] + sums[1]), "recall": _divide(sums[0], sums[0] + sums[2])}
        values["f1"] = _divide(2 * sums[0], 2 * sums[0] + sums[1] + sums[2])
        scores |= {f"{average}_{name}": float(value.mean()) for name, value in values.items()}
    return scores


def _divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Return the quotient, 0 where nothing was counted."""
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)


def score_probabilities(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Return average precision and AUROC, macro and micro, and expected calibration error.

    Macro averages run over the labels that have a positive (and, for AUROC, a negative) row; nan if there is none.
    """
    has_positive = np.asarray(labels.any(axis=0))
    has_both = np.asarray(has_positive & ~labels.all(axis=0))
    return {
        "macro_average_precision": _mean_over(sk.average_precision_score, labels, probabilities, has_positive),
        "micro_average_precision": float(sk.average_precision_score(labels.ravel(), probabilities.ravel()))
        if labels.any()
        else float("nan"),
        "macro_auroc": _mean_over(sk.roc_auc_score, labels, probabilities, has_both),
        "micro_auroc": float(sk.roc_auc_score(labels.ravel(), probabilities.ravel())) if has_both.any() else float("nan"),
        "expected_calibration_error": expected_calibration_error(labels, probabilities),
    }


def score_labels(labels: np.ndarray, probabilities: np.ndarray, predictions: np.ndarray, names: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return one row a label: support, predicted count, precision, recall, F1, average precision, AUROC."""
    precision, recall, f1, support = sk.precision_recall_fscore_support(labels, predictions, average=None, zero_division=0)
    rows = []
    for column, name in enumerate(names):
        gold, scores = labels[:, column], probabilities[:, column]
        rows.append(
            {
                "label": name,
                "support": int(support[column]),
                "predicted": int(predictions[:, column].sum()),
                "precision": float(precision[column]),
                "recall": float(recall[column]),
                "f1": float(f1[column]),
                "average_precision": float(sk.average_precision_score(gold, scores)) if gold.any() else float("nan"),
                "auroc": float(sk.roc_auc_score(gold, scores)) if 0 < gold.sum() < len(gold) else float("nan"),
            }
        )
    return rows


def confusion_matrices(labels: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Return int (L, 2, 2): for each label [[true negatives, false positives], [false negatives, true positives]]."""
    return np.asarray(sk.multilabel_confusion_matrix(labels, predictions))


def expected_calibration_error(labels: np.ndarray, probabilities: np.ndarray, num_bins: int = CALIBRATION_BINS) -> float:
    """Return the mean gap between probability and frequency over all row-label pairs, in equal-width bins, weighted by size.

    Source: Naeini et al. 2015, "Obtaining Well Calibrated Probabilities Using Bayesian Binning".
    """
    gold, scores = labels.ravel().astype(float), probabilities.ravel().astype(float)
    bins = np.minimum((scores * num_bins).astype(int), num_bins - 1)
    gaps = np.bincount(bins, weights=scores - gold, minlength=num_bins)
    return float(np.abs(gaps).sum() / len(scores))


def _jaccard_samples(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Return the mean over rows of |both| / |either|; nothing predicted where nothing is gold counts 1."""
    return float(sk.jaccard_score(labels, predictions, average="samples", zero_division=1))


def _mean_over(score: Any, labels: np.ndarray, probabilities: np.ndarray, is_used: np.ndarray) -> float:
    values = [score(labels[:, column], probabilities[:, column]) for column in np.flatnonzero(is_used)]
    return float(np.mean(values)) if values else float("nan")
