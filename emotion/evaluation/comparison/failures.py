"""The section on errors: confused labels, the most confident errors, and scores on slices of the test rows."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np

from emotion.evaluation.comparison.accuracy import ModelScores, format_score
from emotion.evaluation.comparison.runs import Run
from emotion.evaluation.document import Figure, Paragraph, Section, Table, escape_markdown
from emotion.evaluation.drawing import save_figure
from emotion.evaluation.mistakes import count_confusions, rank_confusions, rank_errors
from emotion.evaluation.plots import MAX_LABELS_SHOWN, plot_confusions
from emotion.evaluation.uncertainty import draw_counts, find_interval, resample_scores, score_rows

SLICE_METRIC = "jaccard_samples"
"""Unlike F1, it is also meaningful on rows without a gold label."""
MIN_SLICE_SIZE = 30
"""Slices with fewer rows are left out: their scores are too uncertain."""


@dataclass(frozen=True)
class Slice:
    """A subset of the test rows."""

    criterion: Literal["num_labels", "num_words"]
    name: str
    rows: np.ndarray
    """Indices of the rows, int."""


def report_failures(folder: Path, ranked: list[ModelScores], texts: Sequence[str] | None, quote_texts: bool) -> Section:
    """Return confusions and errors of the best run with probabilities, and the scores of all models on slices of the rows."""
    run = next(model.group.runs[0] for model in ranked if model.group.runs[0].probabilities is not None)
    run_name = escape_markdown(run.name)
    rows = replace(run.rows, texts=texts if quote_texts else None)
    confusions = rank_confusions(rows, run.predictions)
    confusion_rows = [
        [row["missed label"], row["predicted instead"], str(row["rows"]), f"{row['fraction of missed']:.0%}"] for row in confusions
    ]
    errors = rank_errors(rows, run.predictions)
    error_rows = [[f"{value:.3f}" if isinstance(value, float) else str(value) for value in row.values()] for row in errors]
    slice_rows = [
        [part.name, f"{len(part.rows):,}"] + [format_score(*score_slice(model.group.runs[0], part, SLICE_METRIC)) for model in ranked]
        for part in make_slices(run.labels, texts)
    ]
    missing_texts = "" if texts else " (the test texts were not found; name their location with `--data`)"
    criteria = "number of gold labels" + (" and by length of the text in words" if texts else "")
    return Section(
        "Error analysis",
        [
            _draw_confusions(folder, run),
            Paragraph(f"Most frequent confusions of **{run_name}**: rows in which one label was missed and another was predicted wrongly."),
            Table("confusions", ["missed label", "predicted instead", "rows", "fraction of missed"], confusion_rows),
            Paragraph(f"Most confident errors of **{run_name}**{missing_texts}:"),
            Table("errors", list(errors[0]) if errors else ["id"], error_rows),
            Paragraph(f"Jaccard index by {criteria}, for the first run of each model, with its 95% interval in parentheses:"),
            Table("slices", ["rows", "number of rows", *(model.name for model in ranked)], slice_rows),
        ],
    )


def _draw_confusions(folder: Path, run: Run) -> Figure:
    """Draw which label a run takes for which, of the most frequent labels."""
    support = run.labels.sum(axis=0)
    drawn = np.sort(np.argsort(-support, kind="stable")[:MAX_LABELS_SHOWN])
    names = [run.label_set.names[label] for label in drawn]
    counts = count_confusions(run.labels[:, drawn], run.predictions[:, drawn])
    caption = (
        f"Which label {escape_markdown(run.name)} takes for which: rows in which one label was missed and another was predicted wrongly."
    )
    arguments = counts, support[drawn], names, len(run.label_set) - len(names)
    return save_figure(folder / "confusions.png", caption, plot_confusions, *arguments)


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
