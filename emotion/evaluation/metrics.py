"""Metrics of multi-label predictions, computed by scikit-learn except for the calibration error.

Shapes: `labels` and `predictions` are bool (n, L); `probabilities` are float (n, L) in [0, 1]. `is_judged`, bool (n, L), says which labels
were annotated, None if all were; where a label was not, `labels` and `predictions` have to be False. A label without a gold row is not
measured: its scores are nan, and macro averages leave it out.

scikit-learn is imported inside the functions because `score_counts` is used where its import time would matter.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

NUM_CALIBRATION_BINS = 15


def score_predictions(labels: np.ndarray, predictions: np.ndarray, is_judged: np.ndarray | None = None) -> dict[str, float]:
    """Return subset accuracy, Jaccard index, Hamming loss, and averaged precision, recall and F1.

    Precision, recall and F1 are averaged in four ways: micro, macro, weighted and samples. A row without gold and predicted labels has
    Jaccard index 1. The Hamming loss is over the row-label pairs that were annotated.
    """
    from sklearn import metrics as sk

    scores = {
        "subset_accuracy": float(sk.accuracy_score(labels, predictions)),
        "jaccard_samples": float(sk.jaccard_score(labels, predictions, average="samples", zero_division=1)),
        "hamming_loss": float(np.mean((labels != predictions)[is_judged])),
    }
    is_used = labels.any(axis=0)
    for average in ("micro", "macro", "weighted", "samples"):
        is_macro = average == "macro"  # of the labels with a gold row; scikit-learn takes a single one of them for two classes
        values = sk.precision_recall_fscore_support(labels, predictions, average=None if is_macro else average, zero_division=0)[:3]
        if is_macro:
            values = [value[is_used].mean() if is_used.any() else np.nan for value in values]
        scores |= {f"{average}_{name}": float(value) for name, value in zip(("precision", "recall", "f1"), values, strict=True)}
    return scores


def score_counts(counts: np.ndarray, num_exact: int, num_rows: int) -> dict[str, float]:
    """Return subset accuracy and micro and macro precision, recall and F1, computed from counts.

    Counts can be summed over parts, so a file that does not fit into memory can be scored.

    Args:
        counts: int (3, L): true positives, false positives and false negatives of each label.
        num_exact: number of rows with every label correct.
        num_rows: number of all rows.
    """
    nan = float("nan")
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
        is_used = true_positives + false_negatives > 0 if average == "macro" else np.array([True])
        scores |= {f"{average}_{name}": float(value[is_used].mean()) if is_used.any() else nan for name, value in values.items()}
    return scores


def score_probabilities(labels: np.ndarray, probabilities: np.ndarray, is_judged: np.ndarray | None = None) -> dict[str, float]:
    """Return macro and micro average precision, macro and micro AUROC, and the expected calibration error.

    Macro averages skip labels without a positive row and, for AUROC, labels without a negative row.
    A score is nan if no label is left.
    """
    from sklearn import metrics as sk

    columns = list(list_judged_columns(labels, probabilities, is_judged))
    gold, scores = labels[is_judged].ravel(), probabilities[is_judged].ravel()
    with_both = [pair for pair in columns if pair[0].any() and not pair[0].all()]
    nan = float("nan")
    return {
        "macro_average_precision": compute_macro_average_precision(labels, probabilities, is_judged),
        "micro_average_precision": float(sk.average_precision_score(gold, scores)) if gold.any() else nan,
        "macro_auroc": _average(sk.roc_auc_score, with_both),
        "micro_auroc": float(sk.roc_auc_score(gold, scores)) if with_both else nan,
        "expected_calibration_error": expected_calibration_error(gold, scores),
    }


def compute_macro_average_precision(labels: np.ndarray, probabilities: np.ndarray, is_judged: np.ndarray | None = None) -> float:
    """Return the mean average precision over the labels with a positive row; nan if there is none."""
    from sklearn.metrics import average_precision_score

    return _average(average_precision_score, [pair for pair in list_judged_columns(labels, probabilities, is_judged) if pair[0].any()])


def score_labels(
    labels: np.ndarray, probabilities: np.ndarray, predictions: np.ndarray, names: tuple[str, ...], is_judged: np.ndarray | None = None
) -> list[dict[str, Any]]:
    """Return one row per label: support, number of predictions, precision, recall, F1, average precision and AUROC.

    With `is_judged`, a row also has the number of rows in which the label was annotated.
    """
    from sklearn import metrics as sk

    precision, recall, f1, support = sk.precision_recall_fscore_support(labels, predictions, average=None, zero_division=0)
    rows = []
    for column, (name, (gold, scores)) in enumerate(zip(names, list_judged_columns(labels, probabilities, is_judged), strict=True)):
        is_measured = bool(gold.any())
        values = {"precision": precision[column], "recall": recall[column], "f1": f1[column]}
        rows.append(
            {
                "label": name,
                "support": int(support[column]),
                **({"judged": len(gold)} if is_judged is not None else {}),
                "predicted": int(predictions[:, column].sum()),
                **{key: float(value) if is_measured else float("nan") for key, value in values.items()},
                "average_precision": float(sk.average_precision_score(gold, scores)) if is_measured else float("nan"),
                "auroc": float(sk.roc_auc_score(gold, scores)) if 0 < gold.sum() < len(gold) else float("nan"),
            }
        )
    return rows


def list_judged_columns(
    labels: np.ndarray, probabilities: np.ndarray, is_judged: np.ndarray | None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield for each label gold, bool (m,), and probabilities, float (m,), of the m rows in which the label was annotated."""
    for column in range(labels.shape[1]):
        rows = slice(None) if is_judged is None else is_judged[:, column]
        yield labels[rows, column], probabilities[rows, column]


def confusion_matrices(labels: np.ndarray, predictions: np.ndarray, is_judged: np.ndarray | None = None) -> np.ndarray:
    """Return int (L, 2, 2): for each label [[true negatives, false positives], [false negatives, true positives]]."""
    num_rows = len(labels) if is_judged is None else is_judged.sum(axis=0)
    hits, gold, predicted = (array.sum(axis=0) for array in (labels & predictions, labels, predictions))
    negatives = np.stack([num_rows - gold - predicted + hits, predicted - hits], axis=1)
    return np.stack([negatives, np.stack([gold - hits, hits], axis=1)], axis=1)


def expected_calibration_error(labels: np.ndarray, probabilities: np.ndarray, num_bins: int = NUM_CALIBRATION_BINS) -> float:
    """Return the mean gap between predicted probability and observed frequency over all row-label pairs.

    The gap is computed in equal-width bins, and bins are weighted by their number of pairs.

    Source: Naeini et al. 2015, "Obtaining Well Calibrated Probabilities Using Bayesian Binning".
    """
    gold, scores = labels.ravel().astype(float), probabilities.ravel().astype(float)
    bins = np.minimum((scores * num_bins).astype(int), num_bins - 1)
    gaps = np.bincount(bins, weights=scores - gold, minlength=num_bins)
    return float(np.abs(gaps).sum() / len(scores))


def _average(score: Any, columns: list[tuple[np.ndarray, np.ndarray]]) -> float:
    values = [score(gold, scores) for gold, scores in columns]
    return float(np.mean(values)) if values else float("nan")


def _divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Return the quotient, 0 where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)
