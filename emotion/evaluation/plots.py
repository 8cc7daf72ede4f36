"""Plots of a training run and of one split. Each function draws one PNG from computed arrays or rows.

The colors are from the Okabe-Ito palette and the `viridis` map, which remain distinct with color vision deficiency. matplotlib
is imported where a figure is made.
"""

import warnings
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from emotion.files import atomic_write
from emotion.text import escape_controls

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN = "#0072B2", "#E69F00", "#009E73"
DPI = 140
MAX_LABELS_SHOWN = 60
"""Figures show the most frequent labels: more cannot be read, and a grid of a thousand does not fit into memory."""
MAX_NAME_LENGTH = 40
"""Characters of a name in a figure; a figure as wide as a name of thousands is too large to draw."""
NUM_RELIABILITY_BINS = 15
Columns = list[tuple[np.ndarray, np.ndarray]]
"""For each label gold, bool (m,), and probabilities, float (m,), of the m rows in which it was annotated."""
UNIT_TICKS = {0.0: "0", 0.5: "0.5", 1.0: "1"}
"""Positions and labels of the ticks on a small axis from 0 to 1."""


def plot_training(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw the losses over steps and the validation scores over epochs, from the rows of `metrics.jsonl`."""
    figure, (left, right) = make_subplots(1, 2, (11, 4))
    train_rows = [row for row in rows if row["kind"] == "train"]
    validation_rows = [row for row in rows if row["kind"] == "validation"]
    train_marker = "." if len(train_rows) == 1 else None  # a line through a single point is invisible
    left.plot([row["step"] for row in train_rows], [row["loss"] for row in train_rows], marker=train_marker, color=BLUE, label="train")
    left.plot([row["step"] for row in validation_rows], [row["loss"] for row in validation_rows], "o-", color=ORANGE, label="validation")
    left.set(xlabel="optimizer step", ylabel="BCE loss per label", title="Loss", ylim=(0, None))
    epochs = [row["epoch"] for row in validation_rows]
    styles = {"macro_average_precision": (BLUE, "o"), "macro_f1_tuned": (ORANGE, "s"), "micro_f1_tuned": (GREEN, "^")}
    for name, (color, marker) in styles.items():
        right.plot(epochs, [row[name] for row in validation_rows], marker=marker, color=color, label=name)
    top = 1.08 * max((row[name] for row in validation_rows for name in styles), default=1.0)
    right.set(xlabel="epoch", ylabel="score", title="Validation (F1 at thresholds fitted on the same rows)", ylim=(0, top))
    right.xaxis.get_major_locator().set_params(integer=True)
    for axes, location in ((left, "upper right"), (right, "lower right")):  # clear of the curves: losses fall, scores rise
        axes.legend(frameon=False, loc=location)
        axes.grid(alpha=0.3)
    _save(figure, path)


def plot_label_f1(rows: list[dict[str, Any]], macro_f1: float, path: Path, num_hidden: int = 0) -> None:
    """Draw the F1 of each label, best first, with its 95% interval and its support.

    `rows` are those of `metrics.score_labels`, with `f1_low` and `f1_high` added; a label without a gold row comes last, without a bar.
    """
    rows = sorted(rows, key=lambda row: row["f1"] if row["support"] else -1)
    figure, axes = make_subplots(1, 1, (8, 1.2 + 0.26 * len(rows)))
    axes.barh(range(len(rows)), [row["f1"] if row["support"] else 0 for row in rows], color=BLUE, height=0.72)
    axes.set_yticks(range(len(rows)), [format_name(row["label"]) for row in rows])
    low, high = ([row[name] for row in rows] for name in ("f1_low", "f1_high"))
    axes.hlines(range(len(rows)), low, high, color="black", linewidth=1.2, label="95% interval over rows")
    for position, row in enumerate(rows):
        text = f"{row['f1']:.2f}  (n={row['support']:,})" if row["support"] else "not measured"
        axes.text(1.02, position, text, va="center", fontsize=8)
    axes.axvline(macro_f1, color=ORANGE, linestyle="--", label="mean (macro-F1)")
    axes.set(xlim=(0, 1), xlabel="F1 at the decision rule", title="F1 per label (n: support)" + describe_hidden(num_hidden))
    axes.margins(y=0.01)
    figure.legend(frameon=False, loc="outside lower center", ncols=2)
    _save(figure, path)


def plot_confusion_matrices(matrices: np.ndarray, names: Sequence[str], path: Path, num_hidden: int = 0) -> None:
    """Draw the confusion matrix of each label, int (L, 2, 2), colored by the fraction of the gold row."""
    titles = list(map(format_name, names))
    title = "Confusion matrix per label (count and fraction of the gold row)" + describe_hidden(num_hidden)
    grid = LabelGrid(titles, 7, 1.35, title, "predicted", "gold")
    for matrix, (left, bottom) in zip(matrices, grid.corners, strict=True):
        fractions = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        grid.axes.imshow(fractions, cmap="viridis", vmin=0, vmax=1, extent=(left, left + 1, bottom, bottom + 1))
        for (row, column), fraction in np.ndenumerate(fractions):
            color = "white" if fraction < 0.6 else "black"
            x, y = left + 0.25 + 0.5 * column, bottom + 0.75 - 0.5 * row
            text = f"{matrix[row, column]:,}\n{fraction:.0%}"
            grid.axes.text(x, y, text, ha="center", va="center", fontsize=8, color=color)
    grid.draw_ticks({0.25: "no", 0.75: "yes"}, {0.25: "yes", 0.75: "no"})
    _save(grid.figure, path)


def plot_co_occurrence(labels: np.ndarray, predictions: np.ndarray, names: Sequence[str], path: Path, num_hidden: int = 0) -> None:
    """Draw P(column label | row label) among gold labels and among predictions, both bool (n, L), side by side."""
    names = tuple(map(format_name, names))
    side, margin = 0.24 * len(names), 0.3 + 0.06 * max(map(len, names))  # inches; computed here because constrained layout takes 1 s
    width, height = 2 * (margin + side) + 1.2, margin + side + 0.8
    figure, axes = make_subplots(1, 2, (width, height), layout=None)
    images = []
    for left, cell, array, title in zip((margin, 2 * margin + side), axes, (labels, predictions), ("gold", "predicted"), strict=True):
        counts = array.astype(float).T @ array.astype(float)
        fractions = counts / np.maximum(np.diag(counts), 1)[:, None]
        np.fill_diagonal(fractions, np.nan)
        cell.set_position((left / width, margin / height, side / width, side / height))
        images.append(cell.imshow(fractions, cmap="viridis", vmin=0, vmax=0.5))
        cell.set_title(title, fontsize=10)
        cell.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
        cell.set_yticks(range(len(names)), names, fontsize=7)
    title = "Label co-occurrence: fraction of rows with the label\non the left that also have the label below"  # fits 8 labels
    title += describe_hidden(num_hidden)
    figure.suptitle(title, fontsize=10)
    bar = figure.add_axes((1 - 0.9 / width, (margin + 0.1 * side) / height, 0.18 / width, 0.8 * side / height))
    figure.colorbar(images[0], cax=bar, extend="max", label="fraction of rows")
    _save(figure, path)


def plot_precision_recall(columns: Columns, matrices: np.ndarray, names: Sequence[str], path: Path, num_hidden: int = 0) -> None:
    """Draw the precision-recall curve of each label and its point at the decision rule, which the confusion matrices, (L, 2, 2), give."""
    from sklearn.metrics import average_precision_score, precision_recall_curve

    averages = [average_precision_score(gold, scores) if gold.any() else None for gold, scores in columns]
    titles = [format_name(name) + ("" if average is None else f"  {average:.2f}") for name, average in zip(names, averages, strict=True)]
    title = "Precision-recall curve per label, with average precision (dot: decision rule)" + describe_hidden(num_hidden)
    grid = LabelGrid(titles, 6, 1.5, title, "recall", "precision")
    for (left, bottom), (gold, scores), ((_, false_alarms), (_, hits)) in zip(grid.corners, columns, matrices, strict=True):
        if not gold.any():
            continue
        precision, recall, _ = precision_recall_curve(gold, scores)
        grid.axes.step(left + recall, bottom + precision, where="post", color=BLUE, linewidth=1.2)
        if hits + false_alarms:
            grid.axes.plot(left + hits / gold.sum(), bottom + hits / (hits + false_alarms), "o", color=ORANGE, markersize=5)
        grid.axes.plot([left, left + 1], 2 * [bottom + gold.mean()], color="grey", linewidth=0.8, linestyle=":")
    grid.draw_ticks(UNIT_TICKS, UNIT_TICKS)
    _save(grid.figure, path)


def plot_thresholds(columns: Columns, thresholds: Sequence[float], names: Sequence[str], path: Path, num_hidden: int = 0) -> None:
    """Draw F1, precision and recall of each label over thresholds, and the threshold of the decision rule."""
    tried = np.linspace(0.01, 0.99, 99)
    titles = [f"{format_name(name)}  {threshold:.2f}" for name, threshold in zip(names, thresholds, strict=True)]
    title = "F1, precision and recall by threshold (vertical line and number: decision rule)" + describe_hidden(num_hidden)
    grid = LabelGrid(titles, 6, 1.5, title, "threshold", "")
    for (left, bottom), (gold, scores), threshold in zip(grid.corners, columns, thresholds, strict=True):
        all_scores, positive_scores = np.sort(scores), np.sort(scores[gold])
        num_positives = len(positive_scores)
        hits, num_predicted = (len(ranked) - np.searchsorted(ranked, tried) for ranked in (positive_scores, all_scores))
        precision, recall = hits / np.maximum(num_predicted, 1), hits / max(num_positives, 1)
        f1 = 2 * hits / np.maximum(num_predicted + num_positives, 1)
        grid.axes.plot(left + tried, bottom + precision, color=ORANGE, linewidth=0.9, linestyle="--", label="precision")
        grid.axes.plot(left + tried, bottom + recall, color=GREEN, linewidth=0.9, linestyle=":", label="recall")
        grid.axes.plot(left + tried, bottom + f1, color=BLUE, linewidth=1.6, label="F1")
        grid.axes.plot(2 * [left + threshold], [bottom, bottom + 1], color="black", linewidth=0.8)
    grid.draw_ticks(UNIT_TICKS, UNIT_TICKS)
    handles, legend_labels = grid.axes.get_legend_handles_labels()
    grid.figure.legend(handles[:3], legend_labels[:3], loc="lower right", ncols=3, frameon=False, fontsize=9)
    _save(grid.figure, path)


def plot_reliability(gold: np.ndarray, scores: np.ndarray, path: Path) -> None:
    """Draw the observed frequency against the predicted probability, and the number of pairs per bin.

    `gold`, bool (m,), and `scores`, float (m,), are those of all row-label pairs.
    """
    bins = np.minimum((scores * NUM_RELIABILITY_BINS).astype(int), NUM_RELIABILITY_BINS - 1)
    counts = np.bincount(bins, minlength=NUM_RELIABILITY_BINS)
    is_used = counts > 0
    means, fractions = (
        np.bincount(bins, weights=values, minlength=NUM_RELIABILITY_BINS)[is_used] / counts[is_used] for values in (scores, gold)
    )
    figure, (top, bottom) = make_subplots(2, 1, (6, 6.4), sharex=True, height_ratios=(3, 1))
    error = 1.96 * np.sqrt(np.maximum(fractions * (1 - fractions), 0) / counts[is_used])
    top.plot([0, 1], [0, 1], color="grey", linestyle=":", label="perfect calibration")
    top.errorbar(means, fractions, yerr=error, color=BLUE, marker="o", markersize=5, linewidth=1.2, label="observed, 95% interval (normal)")
    top.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="fraction of positives", title="Reliability over all row-label pairs")
    top.legend(frameon=False, loc="upper left")
    top.grid(alpha=0.3)
    bottom.bar(np.arange(NUM_RELIABILITY_BINS) / NUM_RELIABILITY_BINS, counts, width=0.94 / NUM_RELIABILITY_BINS, align="edge", color=BLUE)
    bottom.set(yscale="log", xlabel="predicted probability", ylabel="pairs")
    _save(figure, path)


class LabelGrid:
    """A unit square for each label, in rows of `num_columns`, all in one matplotlib axes.

    Drawing 28 separate axes takes seconds. `corners`, float (L, 2), are the lower left corners of the squares; content of a label
    is drawn relative to its corner. `inches` is the side of a square.
    """

    def __init__(self, titles: Sequence[str], num_columns: int, inches: float, title: str, xlabel: str, ylabel: str):
        self.num_columns = min(num_columns, len(titles))
        num_rows = -(-len(titles) // self.num_columns)
        column, row = np.arange(len(titles)) % self.num_columns, np.arange(len(titles)) // self.num_columns
        self.corners = np.stack([1.16 * column, -1.3 * row], axis=1)
        grid_width, grid_height = 1.16 * self.num_columns - 0.16, 1.3 * num_rows - 0.3  # in squares
        margins = {"left": 0.65, "right": 0.15, "bottom": 0.65, "top": 0.75}  # inches
        width, height = inches * grid_width + 0.8, inches * grid_height + 1.4
        self.figure, self.axes = make_subplots(1, 1, (width, height), layout=None)
        self.axes.set_position(
            (margins["left"] / width, margins["bottom"] / height, inches * grid_width / width, inches * grid_height / height)
        )
        self.axes.axis("off")
        for (left, bottom), text in zip(self.corners, titles, strict=True):
            self.axes.text(left + 0.5, bottom + 1.04, text, ha="center", fontsize=9)
        middle = (margins["left"] - margins["right"]) / 2 / width
        self.figure.supxlabel(xlabel, fontsize=10)
        self.figure.supylabel(ylabel, fontsize=10)
        self.figure.suptitle(title, fontsize=11, x=0.5 + middle)
        self._limits = (0, grid_width), (1 - grid_height, 1)

    def draw_ticks(self, x_ticks: dict[float, str], y_ticks: dict[float, str]) -> None:
        """Draw frames, grid lines at the ticks, and tick labels along the lower and left edge of the grid.

        The ticks map a position in [0, 1] to its label. Call this last, because it sets the limits of the axes.
        """
        from matplotlib.collections import LineCollection

        first_of_last_row = len(self.corners) - self.num_columns
        frames, lines = [], []
        for position, (left, bottom) in enumerate(self.corners):
            square = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]) + np.array([left, bottom])
            frames.append(square)
            lines += [[(left + x, bottom), (left + x, bottom + 1)] for x in x_ticks]
            lines += [[(left, bottom + y), (left + 1, bottom + y)] for y in y_ticks]
            for x, text in x_ticks.items() if position >= first_of_last_row else ():
                self.axes.text(left + x, bottom - 0.03, text, ha="center", va="top", fontsize=7)
            for y, text in y_ticks.items() if position % self.num_columns == 0 else ():
                self.axes.text(left - 0.03, bottom + y, text, ha="right", va="center", fontsize=7)
        self.axes.add_collection(LineCollection(lines, colors="lightgrey", linewidths=0.5, zorder=-1))
        self.axes.add_collection(LineCollection(frames, colors="black", linewidths=0.8))
        self.axes.set(xlim=self._limits[0], ylim=self._limits[1], aspect="auto")


def describe_hidden(num_hidden: int) -> str:
    """Return the end of a title where a figure leaves out labels, otherwise an empty string."""
    return f"; {num_hidden:,} rarer labels are not drawn" if num_hidden else ""


def format_name(name: str) -> str:
    """Return the name of a label or model as a figure shows it: no formula, no control character, at most `MAX_NAME_LENGTH` long."""
    shown = escape_controls(name)
    shown = shown if len(shown) <= MAX_NAME_LENGTH else shown[: MAX_NAME_LENGTH - 1] + "…"
    shown = f" {shown}" if shown.startswith("_") else shown  # matplotlib leaves such a name out of a legend
    return shown.replace("$", r"\$")  # matplotlib takes text between two dollar signs for a formula


def make_subplots(
    num_rows: int, num_columns: int, size: tuple[float, float], layout: Any = "constrained", **options: Any
) -> tuple["Figure", Any]:
    """Return a figure of `size` inches and its axes; unlike pyplot, this opens no window and keeps no global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout=layout)
    FigureCanvasAgg(figure)
    return figure, figure.subplots(num_rows, num_columns, **options)


def save_png(figure: "Figure", target: Path | BytesIO) -> None:
    """Write a figure as PNG, without matplotlib's warning for each character that its fonts lack."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph .* missing from font|Matplotlib currently does not support")
        figure.savefig(target, dpi=DPI, format="png")


def _save(figure: "Figure", path: Path) -> None:
    with atomic_write(path) as partial:
        save_png(figure, partial)
