"""Error analysis: confused labels, the most confident errors, and scores on slices of the test rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from emotion.evaluation.comparison.runs import Run
from emotion.evaluation.uncertainty import draw_counts, find_interval, resample_scores, score_rows

NUM_SHOWN = 10
MIN_SLICE_SIZE = 30
"""Slices with fewer rows are left out: their scores are too uncertain."""


@dataclass(frozen=True)
class Slice:
    """A subset of the test rows."""

    criterion: Literal["num_labels", "num_words"]
    name: str
    rows: np.ndarray
    """Indices of the rows, int."""


def rank_confusions(run: Run, num_shown: int = NUM_SHOWN) -> list[dict[str, Any]]:
    """Return the most frequent confusions: a gold label that was missed in rows where another label was predicted wrongly."""
    is_missed, is_false_alarm = run.labels & ~run.predictions, run.predictions & ~run.labels
    counts = is_missed.astype(np.float64).T @ is_false_alarm.astype(np.float64)  # (gold label, predicted label)
    num_missed = is_missed.sum(axis=0)
    names = run.label_set.names
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


def rank_errors(run: Run, texts: Sequence[str] | None, num_shown: int = NUM_SHOWN) -> list[dict[str, Any]]:
    """Return the most confident errors, at most one per row, with the texts if they are given."""
    confidence = np.where(run.labels, 1 - run.probabilities, run.probabilities) * (run.labels != run.predictions)
    worst_label = confidence.argmax(axis=1)
    worst = confidence.max(axis=1)
    errors = []
    for row in np.argsort(-worst, kind="stable")[:num_shown]:
        if worst[row] == 0:
            break
        column = worst_label[row]
        text = {"text": texts[row]} if texts is not None else {}
        decision = {
            "gold": ", ".join(run.label_set.decode(run.labels[row])) or "(none)",
            "predicted": ", ".join(run.label_set.decode(run.predictions[row])) or "(none)",
            "wrong label": run.label_set.names[column],
            "probability": float(run.probabilities[row, column]),
        }
        errors.append({"id": run.ids[row]} | text | decision)
    return errors


def make_slices(labels: np.ndarray, texts: Sequence[str] | None) -> list[Slice]:
    """Return slices by the number of gold labels and, if texts are given, by quartiles of the text length in words."""
    num_labels = labels.sum(axis=1)
    names = ("0 labels", "1 label", "2 labels")
    slices = [Slice("num_labels", name, np.flatnonzero(num_labels == number)) for number, name in enumerate(names)]
    slices.append(Slice("num_labels", "3 or more labels", np.flatnonzero(num_labels >= 3)))
    if texts is not None:
        num_words = np.array([len(text.split()) for text in texts])
        edges = np.unique(np.percentile(num_words, [0, 25, 50, 75, 100]).astype(int))
        for position, (low, high) in enumerate(pairwise(edges)):
            first = low if position == 0 else low + 1
            slices.append(Slice("num_words", f"{first} to {high} words", np.flatnonzero((num_words >= first) & (num_words <= high))))
    return [part for part in slices if len(part.rows) >= MIN_SLICE_SIZE]


def score_slice(run: Run, part: Slice, metric: str) -> tuple[float, tuple[float, float]]:
    """Return a score on the rows of a slice and its 95% interval."""
    labels, predictions = run.labels[part.rows], run.predictions[part.rows]
    score = float(score_rows(labels, predictions)[metric])
    return score, find_interval(resample_scores(labels, predictions, draw_counts(len(labels)))[metric], score)
