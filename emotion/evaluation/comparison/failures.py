"""Where a model fails: labels taken for one another, sure and wrong, and kinds of text it is worse at."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from emotion.evaluation.comparison.runs import Run
from emotion.evaluation.uncertainty import draw_counts, percentile_interval, resample_scores, score_totals, tabulate_rows

NUM_SHOWN = 10
MIN_SLICE = 30
"""Rows below which a slice says nothing worth a line."""


@dataclass(frozen=True)
class Slice:
    """Test rows of one kind, by position."""

    kind: str
    name: str
    rows: np.ndarray


def rank_confusions(run: Run, num_shown: int = NUM_SHOWN) -> list[dict[str, Any]]:
    """Return the pairs (gold label that was missed, label that was given in its row and is not gold) with the most rows."""
    missed, invented = run.labels & ~run.predictions, run.predictions & ~run.labels
    counts = missed.astype(np.float64).T @ invented.astype(np.float64)  # (gold, predicted)
    num_missed = missed.sum(axis=0)
    names = run.label_set.names
    best = np.argsort(-counts, axis=None, kind="stable")[:num_shown]
    rows = []
    for gold, predicted in zip(*np.unravel_index(best, counts.shape), strict=True):
        if counts[gold, predicted] > 0:
            share = counts[gold, predicted] / num_missed[gold]
            rows.append({"gold": names[gold], "given instead": names[predicted], "rows": int(counts[gold, predicted]), "of missed": share})
    return rows


def rank_errors(run: Run, texts: Sequence[str] | None, num_shown: int = NUM_SHOWN) -> list[dict[str, Any]]:
    """Return the decisions that were wrong by the largest probability, one a row, with the text where texts are given."""
    wrongness = np.where(run.labels, 1 - run.probabilities, run.probabilities) * (run.labels != run.predictions)
    worst_label = wrongness.argmax(axis=1)
    worst = wrongness.max(axis=1)
    found = []
    for row in np.argsort(-worst, kind="stable")[:num_shown]:
        if worst[row] == 0:
            break
        column = worst_label[row]
        entry = {"id": run.ids[row]} | ({"text": texts[row]} if texts is not None else {})
        found.append(
            entry
            | {
                "gold": ", ".join(run.label_set.decode(run.labels[row])) or "(none)",
                "predicted": ", ".join(run.label_set.decode(run.predictions[row])) or "(none)",
                "worst label": run.label_set.names[column],
                "its probability": float(run.probabilities[row, column]),
            }
        )
    return found


def make_slices(labels: np.ndarray, texts: Sequence[str] | None) -> list[Slice]:
    """Return slices by the number of gold labels, and by the quarters of text length where texts are given."""
    num_labels = labels.sum(axis=1)
    slices = [Slice("labels", str(number), np.flatnonzero(num_labels == number)) for number in range(3)]
    slices.append(Slice("labels", "3 or more", np.flatnonzero(num_labels >= 3)))
    if texts is not None:
        lengths = np.array([len(text.split()) for text in texts])
        edges = np.unique(np.percentile(lengths, [0, 25, 50, 75, 100]).astype(int))
        for position, (low, high) in enumerate(pairwise(edges)):
            first = low if position == 0 else low + 1
            slices.append(Slice("words", f"{first} to {high}", np.flatnonzero((lengths >= first) & (lengths <= high))))
    return [part for part in slices if len(part.rows) >= MIN_SLICE]


def score_slice(run: Run, part: Slice, metric: str) -> tuple[float, tuple[float, float]]:
    """Return a score on the rows of a slice, and its 95 % interval."""
    labels, predictions = run.labels[part.rows], run.predictions[part.rows]
    totals = tabulate_rows(labels, predictions).sum(axis=0, keepdims=True, dtype=np.float64)
    resampled = resample_scores(labels, predictions, draw_counts(len(labels)))
    return float(score_totals(totals, len(labels))[metric][0]), percentile_interval(resampled[metric])
