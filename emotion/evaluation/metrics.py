"""Metrics of multi-label predictions, computed by scikit-learn except for the calibration error.

Shapes: `labels` and `predictions` are bool (n, L); `probabilities` are float (n, L) in [0, 1].
scikit-learn is imported inside the functions because `score_counts` is used where its import time would matter.
"""

from typing import Any

import numpy as np

NUM_CALIBRATION_BINS = 15


def score_predictions(labels: np.ndarray, predictions: np.ndarray) -> dict[str, float]:
    """Return subset accuracy, Jaccard index, Hamming loss, and averaged precision, recall and F1.

    Precision, recall and F1 are averaged in four ways: micro, macro, weighted and samples. A label without gold and predicted
    rows has F1 0. A row without gold and predicted labels has Jaccard index 1.
    """
    from sklearn import metrics as sk

    scores = {
        "subset_accuracy": float(sk.accuracy_score(labels, predictions)),
        "jaccard_samples": float(sk.jaccard_score(labels, predictions, average="samples", zero_division=1)),
        "hamming_loss": float(sk.hamming_loss(labels, predictions)),
    }
    for average in ("micro", "macro", "weighted", "samples"):
        precision, recall, f1, _ = sk.precision_recall_fscore_support(labels, predictions, average=average, zero_division=0)
        scores |= {f"{average}_precision": float(precision), f"{average}_recall": float(recall), f"{average}_f1": float(f1)}
    return scores


def score_counts(counts: np.ndarray, num_exact: int, num_rows: int) -> dict[str, float]:
    """Return subset accuracy and micro and macro precision, recall and F1, computed from counts.

    Counts can be summed over parts, so a file that does not fit into memory can be scored.

    Args:
        counts: int (3, L): true positives, false positives and false negatives of each label.
        num_exact: number of rows with every label correct.
        num_rows: number of all rows.
    """
    scores = {"subset_accuracy": num_exact / max(num_rows, 1)}
    per_label = counts.astype(float)
    for average, (true_positives, false_positives, false_negatives) in (
        ("micro", per_label.sum(axis=1, keepdims=True)),
        ("macro", per_label),
    ):
        values = {
            "precision": _divide(true_positives, true_positives + false_positives),
            "recall": _divide(true_positives, true_positives + false_negatives),
            "f1": _divide(2 * true_positives, 2 * true_positives + false_positives + false_negatives),
        }
        scores |= {f"{average}_{name}": float(value.mean()) for name, value in values.items()}
    return scores


def score_probabilities(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Return macro and micro average precision, macro and micro AUROC, and the expected calibration error.

    Macro averages skip labels without a positive row and, for AUROC, labels without a negative row.
    A score is nan if no label is left.
    """
    from sklearn import metrics as sk

    has_positive = np.asarray(labels.any(axis=0))
    has_both = np.asarray(has_positive & ~labels.all(axis=0))
    nan = float("nan")
    return {
        "macro_average_precision": _average_over_labels(sk.average_precision_score, labels, probabilities, has_positive),
        "micro_average_precision": float(sk.average_precision_score(labels.ravel(), probabilities.ravel())) if labels.any() else nan,
        "macro_auroc": _average_over_labels(sk.roc_auc_score, labels, probabilities, has_both),
        "micro_auroc": float(sk.roc_auc_score(labels.ravel(), probabilities.ravel())) if has_both.any() else nan,
        "expected_calibration_error": expected_calibration_error(labels, probabilities),
    }


def score_labels(labels: np.ndarray, probabilities: np.ndarray, predictions: np.ndarray, names: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return one row per label: support, number of predictions, precision, recall, F1, average precision and AUROC."""
    from sklearn import metrics as sk

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
    from sklearn.metrics import multilabel_confusion_matrix

    return np.asarray(multilabel_confusion_matrix(labels, predictions))


def expected_calibration_error(labels: np.ndarray, probabilities: np.ndarray, num_bins: int = NUM_CALIBRATION_BINS) -> float:
    """Return the mean gap between predicted probability and observed frequency over all row-label pairs.

    The gap is computed in equal-width bins, and bins are weighted by their number of pairs.

    Source: Naeini et al. 2015, "Obtaining Well Calibrated Probabilities Using Bayesian Binning".
    """
    gold, scores = labels.ravel().astype(float), probabilities.ravel().astype(float)
    bins = np.minimum((scores * num_bins).astype(int), num_bins - 1)
    gaps = np.bincount(bins, weights=scores - gold, minlength=num_bins)
    return float(np.abs(gaps).sum() / len(scores))


def _average_over_labels(score: Any, labels: np.ndarray, probabilities: np.ndarray, is_used: np.ndarray) -> float:
    values = [score(labels[:, column], probabilities[:, column]) for column in np.flatnonzero(is_used)]
    return float(np.mean(values)) if values else float("nan")


def _divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Return the quotient, 0 where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)
