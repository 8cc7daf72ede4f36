"""The mistakes of a model: which label is taken for which, and the most confident errors."""

from typing import Any

import numpy as np

from emotion.evaluation.rows import ScoredRows

NUM_SHOWN = 10


def count_confusions(labels: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Return int (L, L + 1): in how many rows the row's label was missed and the column's label was predicted wrongly.

    The last column counts the rows in which the row's label was missed and no label was predicted wrongly. `labels` and `predictions` are
    bool (n, L). A row with several wrong labels counts once for each.
    """
    is_missed, is_false_alarm = labels & ~predictions, predictions & ~labels
    is_alone = ~is_false_alarm.any(axis=1, keepdims=True)
    columns = np.concatenate([is_false_alarm, is_alone], axis=1)
    return (is_missed.astype(np.float64).T @ columns.astype(np.float64)).astype(int)


def rank_confusions(rows: ScoredRows, predictions: np.ndarray, num_shown: int = NUM_SHOWN) -> list[dict[str, Any]]:
    """Return the most frequent confusions: a gold label that was missed in rows where another label was predicted wrongly."""
    counts = count_confusions(rows.labels, predictions)[:, :-1]
    num_missed = (rows.labels & ~predictions).sum(axis=0)
    names = rows.label_set.names
    most_frequent = np.argsort(-counts, axis=None, kind="stable")[:num_shown]
    return [
        {
            "missed label": names[gold],
            "predicted instead": names[predicted],
            "rows": int(counts[gold, predicted]),
            "fraction of missed": counts[gold, predicted] / num_missed[gold],
        }
        for gold, predicted in zip(*np.unravel_index(most_frequent, counts.shape), strict=True)
        if counts[gold, predicted] > 0
    ]


def rank_errors(rows: ScoredRows, predictions: np.ndarray, num_shown: int = NUM_SHOWN) -> list[dict[str, Any]]:
    """Return the most confident errors, at most one per row, with the texts if the rows have them."""
    confidence = np.where(rows.labels, 1 - rows.probabilities, rows.probabilities) * (rows.labels != predictions)
    worst_label = confidence.argmax(axis=1)
    worst = confidence.max(axis=1)
    errors = []
    for row in np.argsort(-worst, kind="stable")[:num_shown]:
        if worst[row] == 0:
            break
        column = worst_label[row]
        text = {"text": rows.texts[row]} if rows.texts is not None else {}
        decision = {
            "gold": ", ".join(rows.label_set.decode(rows.labels[row])) or "(none)",
            "predicted": ", ".join(rows.label_set.decode(predictions[row])) or "(none)",
            "wrong label": rows.label_set.names[column],
            "probability": float(rows.probabilities[row, column]),
        }
        errors.append({"id": rows.ids[row]} | text | decision)
    return errors
