"""Every figure. Each function draws one PNG from arrays or rows that are already computed.

Colours are from the Okabe-Ito set and the `viridis` map, told apart with any colour vision.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from emotion.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN = "#0072B2", "#E69F00", "#009E73"
DPI = 140
RELIABILITY_BINS = 15
HALVES = {0.0: "0", 0.5: ".5", 1.0: "1"}
"""The marks of an axis from 0 to 1 on a small square."""


def plot_training(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw training loss over steps, and the validation scores, from the rows of `metrics.jsonl`."""
    figure, (left, right) = make_subplots(1, 2, (11, 4))
    steps = [row for row in rows if row["kind"] == "train"]
    checks = [row for row in rows if row["kind"] == "validation"]
    mark = "." if len(steps) == 1 else None  # a line through one point is not seen
    left.plot([row["step"] for row in steps], [row["loss"] for row in steps], marker=mark, color=BLUE, label="train")
    left.plot([row["step"] for row in checks], [row["loss"] for row in checks], "o-", color=ORANGE, label="validation")
    left.set(xlabel="optimizer step", ylabel="BCE loss per label", title="Loss", ylim=(0, None))
    marks = {"macro_average_precision": (BLUE, "o"), "macro_f1_tuned": (ORANGE, "s"), "micro_f1_tuned": (GREEN, "^")}
    for name, (color, marker) in marks.items():
        right.plot([row["epoch"] for row in checks], [row[name] for row in checks], marker=marker, color=color, label=name)
    top = 1.08 * max((row[name] for row in checks for name in marks), default=1.0)
    right.set(xlabel="epoch", ylabel="score", title="Validation (F1 at thresholds fitted on the same rows)", ylim=(0, top))
    right.xaxis.get_major_locator().set_params(integer=True)
    for axes, place in ((left, "upper right"), (right, "lower right")):  # where the curves are not: losses fall, scores rise
        axes.legend(frameon=False, loc=place)
        axes.grid(alpha=0.3)
    _save(figure, path)


def plot_label_f1(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw each label's F1, best first, with its 95 % interval and its support."""
    rows = sorted(rows, key=lambda row: row["f1"])
    figure, axes = make_subplots(1, 1, (8, 1.2 + 0.26 * len(rows)))
    axes.barh([row["label"] for row in rows], [row["f1"] for row in rows], color=BLUE, height=0.72)
    low, high = ([row[name] for row in rows] for name in ("f1_low", "f1_high"))
    axes.hlines(range(len(rows)), low, high, color="black", linewidth=1.2, label="95 % interval over rows")
    for position, row in enumerate(rows):
        axes.text(1.02, position, f"{row['f1']:.2f}  (n={row['support']:,})", va="center", fontsize=8)
    axes.axvline(float(np.mean([row["f1"] for row in rows])), color=ORANGE, linestyle="--", label="mean (macro-F1)")
    axes.set(xlim=(0, 1), xlabel="F1 at the decision rule", title="F1 per label (n: gold rows)")
    axes.margins(y=0.01)
    figure.legend(frameon=False, loc="outside lower center", ncols=2)
    _save(figure, path)


def plot_confusion_matrices(matrices: np.ndarray, names: tuple[str, ...], path: Path) -> None:
    """Draw a grid of 2 x 2 heatmaps, one a label, coloured by the share of each gold row; int (L, 2, 2)."""
    grid = LabelGrid(names, 7, 1.35, "Confusion matrix of each label (rows and share of the gold row)", "predicted", "gold")
    for matrix, (left, bottom) in zip(matrices, grid.corners, strict=True):
        shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        grid.axes.imshow(shares, cmap="viridis", vmin=0, vmax=1, extent=(left, left + 1, bottom, bottom + 1))
        for (row, column), share in np.ndenumerate(shares):
            color = "white" if share < 0.6 else "black"
            place = left + 0.25 + 0.5 * column, bottom + 0.75 - 0.5 * row
            text = f"{matrix[row, column]:,}\n{share:.0%}"
            grid.axes.text(*place, text, ha="center", va="center", fontsize=8, color=color)
    grid.mark({0.25: "no", 0.75: "yes"}, {0.25: "yes", 0.75: "no"})
    _save(grid.figure, path)


def plot_co_occurrence(labels: np.ndarray, predictions: np.ndarray, names: tuple[str, ...], path: Path) -> None:
    """Draw P(column label | row label) among gold labels beside that among predictions; bool (n, L)."""
    side, margin = 0.24 * len(names), 0.3 + 0.06 * max(map(len, names))  # inches; laid out by hand, matplotlib takes a second for it
    width, height = 2 * (margin + side) + 1.2, margin + side + 0.8
    figure, axes = make_subplots(1, 2, (width, height), layout=None)
    images = []
    for left, cell, array, title in zip((margin, 2 * margin + side), axes, (labels, predictions), ("gold", "predicted"), strict=True):
        counts = array.astype(float).T @ array.astype(float)
        shares = counts / np.maximum(np.diag(counts), 1)[:, None]
        np.fill_diagonal(shares, np.nan)
        cell.set_position((left / width, margin / height, side / width, side / height))
        images.append(cell.imshow(shares, cmap="viridis", vmin=0, vmax=0.5))
        cell.set_title(title, fontsize=10)
        cell.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
        cell.set_yticks(range(len(names)), names, fontsize=7)
    figure.suptitle("Which labels come together: share of rows with the label on the left that also have the one below")
    bar = figure.add_axes((1 - 0.9 / width, (margin + 0.1 * side) / height, 0.18 / width, 0.8 * side / height))
    figure.colorbar(images[0], cax=bar, extend="max", label="share of rows")
    _save(figure, path)


def plot_precision_recall(
    labels: np.ndarray, probabilities: np.ndarray, predictions: np.ndarray, names: tuple[str, ...], path: Path
) -> None:
    """Draw each label's precision against its recall over all thresholds, and the point that the decision rule takes."""
    from sklearn.metrics import average_precision_score, precision_recall_curve

    pairs = list(zip(labels.T, probabilities.T, strict=True))
    averages = [average_precision_score(gold, scores) if gold.any() else None for gold, scores in pairs]
    titles = [name if average is None else f"{name}  {average:.2f}" for name, average in zip(names, averages, strict=True)]
    title = "Precision and recall over thresholds, with average precision (dot: decision rule)"
    grid = LabelGrid(titles, 6, 1.5, title, "recall", "precision")
    for (left, bottom), (gold, scores), chosen in zip(grid.corners, pairs, predictions.T, strict=True):
        if gold.any():
            precision, recall, _ = precision_recall_curve(gold, scores)
            grid.axes.step(left + recall, bottom + precision, where="post", color=BLUE, linewidth=1.2)
        if gold.any() and chosen.any():
            hits = (gold & chosen).sum()
            grid.axes.plot(left + hits / gold.sum(), bottom + hits / chosen.sum(), "o", color=ORANGE, markersize=5)
        grid.axes.plot([left, left + 1], 2 * [bottom + gold.mean()], color="grey", linewidth=0.8, linestyle=":")
    grid.mark(HALVES, HALVES)
    _save(grid.figure, path)


def plot_thresholds(
    labels: np.ndarray, probabilities: np.ndarray, thresholds: tuple[float, ...], names: tuple[str, ...], path: Path
) -> None:
    """Draw each label's F1, precision and recall over thresholds, and the threshold of the decision rule."""
    at = np.linspace(0.01, 0.99, 99)
    titles = [f"{name}  {threshold:.2f}" for name, threshold in zip(names, thresholds, strict=True)]
    grid = LabelGrid(titles, 6, 1.5, "F1, precision and recall over thresholds (line and number: the decision rule's)", "threshold", "")
    for column, (left, bottom) in enumerate(grid.corners):
        gold = np.sort(probabilities[labels[:, column], column])
        given = np.sort(probabilities[:, column])
        hits, predicted = (len(scores) - np.searchsorted(scores, at) for scores in (gold, given))
        f1 = 2 * hits / np.maximum(predicted + len(gold), 1)
        grid.axes.plot(left + at, bottom + hits / np.maximum(predicted, 1), color=ORANGE, linewidth=0.9, linestyle="--", label="precision")
        grid.axes.plot(left + at, bottom + hits / max(len(gold), 1), color=GREEN, linewidth=0.9, linestyle=":", label="recall")
        grid.axes.plot(left + at, bottom + f1, color=BLUE, linewidth=1.6, label="F1")
        grid.axes.plot(2 * [left + thresholds[column]], [bottom, bottom + 1], color="black", linewidth=0.8)
    grid.mark(HALVES, HALVES)
    handles, words = grid.axes.get_legend_handles_labels()
    grid.figure.legend(handles[:3], words[:3], loc="lower right", ncols=3, frameon=False, fontsize=9)
    _save(grid.figure, path)


def plot_reliability(labels: np.ndarray, probabilities: np.ndarray, path: Path) -> None:
    """Draw how often a decision is right against its probability, over all row-label pairs, and how many pairs there are."""
    gold, scores = labels.ravel().astype(float), probabilities.ravel().astype(float)
    bins = np.minimum((scores * RELIABILITY_BINS).astype(int), RELIABILITY_BINS - 1)
    counts = np.bincount(bins, minlength=RELIABILITY_BINS)
    used = counts > 0
    means, shares = (np.bincount(bins, weights=values, minlength=RELIABILITY_BINS)[used] / counts[used] for values in (scores, gold))
    figure, (top, bottom) = make_subplots(2, 1, (6, 6.4), sharex=True, height_ratios=(3, 1))
    error = 1.96 * np.sqrt(np.maximum(shares * (1 - shares), 0) / counts[used])
    top.plot([0, 1], [0, 1], color="grey", linestyle=":", label="perfect calibration")
    top.errorbar(means, shares, yerr=error, color=BLUE, marker="o", markersize=5, linewidth=1.2, label="observed, 95 % (normal)")
    top.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="share that is gold", title="Reliability over all row-label pairs")
    top.legend(frameon=False, loc="upper left")
    top.grid(alpha=0.3)
    bottom.bar(np.arange(RELIABILITY_BINS) / RELIABILITY_BINS, counts, width=0.94 / RELIABILITY_BINS, align="edge", color=BLUE)
    bottom.set(yscale="log", xlabel="probability", ylabel="pairs")
    _save(figure, path)


class LabelGrid:
    """A small unit square for each label, rows of `num_columns`, all in one axes: 28 axes of their own take seconds to draw.

    `corners` (L, 2) are the lower left corners; what belongs to a label is drawn from there.
    """

    def __init__(self, titles: Sequence[str], num_columns: int, inches: float, title: str, xlabel: str, ylabel: str):
        self.num_columns = min(num_columns, len(titles))
        num_rows = -(-len(titles) // self.num_columns)
        column, row = np.arange(len(titles)) % self.num_columns, np.arange(len(titles)) // self.num_columns
        self.corners = np.stack([1.16 * column, -1.3 * row], axis=1)
        across, up = 1.16 * self.num_columns - 0.16, 1.3 * num_rows - 0.3
        margins = {"left": 0.65, "right": 0.15, "bottom": 0.65, "top": 0.75}  # inches
        width, height = inches * across + 0.8, inches * up + 1.4
        self.figure, self.axes = make_subplots(1, 1, (width, height), layout=None)
        self.axes.set_position((margins["left"] / width, margins["bottom"] / height, inches * across / width, inches * up / height))
        self.axes.axis("off")
        for (left, bottom), words in zip(self.corners, titles, strict=True):
            self.axes.text(left + 0.5, bottom + 1.04, words, ha="center", fontsize=9)
        middle = (margins["left"] - margins["right"]) / 2 / width
        self.figure.supxlabel(xlabel, fontsize=10)
        self.figure.supylabel(ylabel, fontsize=10)
        self.figure.suptitle(title, fontsize=11, x=0.5 + middle)
        self._limits = (0, across), (1 - up, 1)

    def mark(self, across: dict[float, str], up: dict[float, str]) -> None:
        """Draw frames, lines at the marks, and their words below the lowest and left of the leftmost squares; the last thing to do."""
        from matplotlib.collections import LineCollection

        last = len(self.corners) - self.num_columns
        frames, lines = [], []
        for position, (left, bottom) in enumerate(self.corners):
            square = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]) + np.array([left, bottom])
            frames.append(square)
            lines += [[(left + place, bottom), (left + place, bottom + 1)] for place in across]
            lines += [[(left, bottom + place), (left + 1, bottom + place)] for place in up]
            for place, words in across.items() if position >= last else ():
                self.axes.text(left + place, bottom - 0.03, words, ha="center", va="top", fontsize=7)
            for place, words in up.items() if position % self.num_columns == 0 else ():
                self.axes.text(left - 0.03, bottom + place, words, ha="right", va="center", fontsize=7)
        self.axes.add_collection(LineCollection(lines, colors="lightgrey", linewidths=0.5, zorder=-1))
        self.axes.add_collection(LineCollection(frames, colors="black", linewidths=0.8))
        self.axes.set(xlim=self._limits[0], ylim=self._limits[1], aspect="auto")


def make_subplots(
    num_rows: int, num_columns: int, size: tuple[float, float], layout: Any = "constrained", **options: Any
) -> tuple["Figure", Any]:
    """Return a figure of the given inches, without a window and without global state, and its axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout=layout)
    FigureCanvasAgg(figure)
    return figure, figure.subplots(num_rows, num_columns, **options)


def _save(figure: "Figure", path: Path) -> None:
    with atomic_write(path) as partial:
        figure.savefig(partial, dpi=DPI, format="png")
