"""Every figure. Each function draws one PNG from arrays or rows that are already computed.

Colours are from the Okabe-Ito set and the `viridis` map, told apart with any colour vision.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from emotion.files import written_beside

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN = "#0072B2", "#E69F00", "#009E73"
DPI = 140
RELIABILITY_BINS = 15


def plot_training(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw training loss over steps, and the validation scores, from the rows of `metrics.jsonl`."""
    figure, (left, right) = make_subplots(1, 2, (11, 4))
    steps = [row for row in rows if row["kind"] == "train"]
    checks = [row for row in rows if row["kind"] == "validation"]
    left.plot([row["step"] for row in steps], [row["loss"] for row in steps], color=BLUE, label="train")
    left.plot([row["step"] for row in checks], [row["loss"] for row in checks], "o-", color=ORANGE, label="validation")
    left.set(xlabel="optimizer step", ylabel="BCE loss per label", title="Loss", ylim=(0, None))
    marks = {"macro_average_precision": (BLUE, "o"), "macro_f1_tuned": (ORANGE, "s"), "micro_f1_tuned": (GREEN, "^")}
    for name, (color, marker) in marks.items():
        right.plot([row["epoch"] for row in checks], [row[name] for row in checks], marker=marker, color=color, label=name)
    right.set(xlabel="epoch", ylabel="score", title="Validation (F1 at thresholds fitted on the same rows)", ylim=(0, None))
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
    axes.legend(frameon=False, loc="lower right")
    _save(figure, path)


def plot_confusion_matrices(matrices: np.ndarray, names: tuple[str, ...], path: Path) -> None:
    """Draw a grid of 2 x 2 heatmaps, one a label, coloured by the share of each gold row; int (L, 2, 2)."""
    num_columns = min(7, len(names))
    num_rows = -(-len(names) // num_columns)
    figure, axes = make_subplots(num_rows, num_columns, (1.75 * num_columns, 1.0 + 1.85 * num_rows))
    for position, cell in enumerate(np.atleast_1d(axes).ravel()):
        if position >= len(names):
            cell.axis("off")
            continue
        matrix = matrices[position]
        shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        cell.imshow(shares, cmap="viridis", vmin=0, vmax=1)
        for (row, column), share in np.ndenumerate(shares):
            color = "white" if share < 0.6 else "black"
            cell.text(column, row, f"{matrix[row, column]:,}\n{share:.0%}", ha="center", va="center", fontsize=8, color=color)
        cell.set_title(names[position], fontsize=9)
        cell.set_xticks([0, 1], ["no", "yes"], fontsize=7)
        cell.set_yticks([0, 1], ["no", "yes"], fontsize=7)
        cell.tick_params(length=0)
    figure.supxlabel("predicted", fontsize=10)
    figure.supylabel("gold", fontsize=10)
    figure.suptitle("Confusion matrix of each label (rows and share of the gold row)", fontsize=12)
    _save(figure, path)


def plot_co_occurrence(labels: np.ndarray, predictions: np.ndarray, names: tuple[str, ...], path: Path) -> None:
    """Draw P(column label | row label) among gold labels beside that among predictions; bool (n, L)."""
    side = 2.2 + 0.24 * len(names)
    figure, axes = make_subplots(1, 2, (2 * side, side))
    images = []
    for cell, array, title in zip(axes, (labels, predictions), ("gold", "predicted"), strict=True):
        counts = array.astype(float).T @ array.astype(float)
        shares = counts / np.maximum(np.diag(counts), 1)[:, None]
        np.fill_diagonal(shares, np.nan)
        images.append(cell.imshow(shares, cmap="viridis", vmin=0, vmax=0.5))
        cell.set_title(title)
        cell.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
        cell.set_yticks(range(len(names)), names, fontsize=7)
    figure.suptitle("Which labels come together: share of rows with the label on the left that also have the one below")
    figure.colorbar(images[0], ax=axes, shrink=0.7, extend="max", label="share of rows")
    _save(figure, path)


def plot_precision_recall(
    labels: np.ndarray, probabilities: np.ndarray, predictions: np.ndarray, names: tuple[str, ...], path: Path
) -> None:
    """Draw each label's precision against its recall over all thresholds, and the point that the decision rule takes."""
    from sklearn.metrics import average_precision_score, precision_recall_curve

    figure, axes = _make_label_grid(len(names))
    for column, cell in enumerate(axes[: len(names)]):
        gold, chosen = labels[:, column], predictions[:, column]
        title = names[column]
        if gold.any():
            precision, recall, _ = precision_recall_curve(gold, probabilities[:, column])
            cell.step(recall, precision, where="post", color=BLUE, linewidth=1.2)
            title += f"  {average_precision_score(gold, probabilities[:, column]):.2f}"
        if gold.any() and chosen.any():
            hits = (gold & chosen).sum()
            cell.plot(hits / gold.sum(), hits / chosen.sum(), "o", color=ORANGE, markersize=5)
        cell.axhline(gold.mean(), color="grey", linewidth=0.8, linestyle=":")
        cell.set(xlim=(0, 1), ylim=(0, 1.02))
        cell.set_title(title, fontsize=9)
    figure.supxlabel("recall", fontsize=10)
    figure.supylabel("precision", fontsize=10)
    figure.suptitle("Precision and recall over thresholds, with average precision (dot: decision rule)", fontsize=11)
    _save(figure, path)


def plot_thresholds(
    labels: np.ndarray, probabilities: np.ndarray, thresholds: tuple[float, ...], names: tuple[str, ...], path: Path
) -> None:
    """Draw each label's F1, precision and recall over thresholds, and the threshold of the decision rule."""
    grid = np.linspace(0.01, 0.99, 99)
    figure, axes = _make_label_grid(len(names))
    for column, cell in enumerate(axes[: len(names)]):
        gold = np.sort(probabilities[labels[:, column], column])
        given = np.sort(probabilities[:, column])
        hits, predicted = (len(scores) - np.searchsorted(scores, grid) for scores in (gold, given))
        f1 = 2 * hits / np.maximum(predicted + len(gold), 1)
        cell.plot(grid, hits / np.maximum(predicted, 1), color=ORANGE, linewidth=0.9, linestyle="--", label="precision")
        cell.plot(grid, hits / max(len(gold), 1), color=GREEN, linewidth=0.9, linestyle=":", label="recall")
        cell.plot(grid, f1, color=BLUE, linewidth=1.6, label="F1")
        cell.axvline(thresholds[column], color="black", linewidth=0.8)
        cell.set(xlim=(0, 1), ylim=(0, 1.02))
        cell.set_title(f"{names[column]}  {thresholds[column]:.2f}", fontsize=9)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="lower right", ncols=3, frameon=False, fontsize=9)
    figure.supxlabel("threshold", fontsize=10)
    figure.suptitle("F1, precision and recall over thresholds (line and number: the decision rule's)", fontsize=11)
    _save(figure, path)


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


def _make_label_grid(num_labels: int) -> tuple["Figure", Any]:
    """Return a figure with a small square for each label, and all its axes in a row; those left over are blank."""
    num_columns = min(6, num_labels)
    num_rows = -(-num_labels // num_columns)
    size = (1.85 * num_columns, 1.1 + 1.75 * num_rows)  # laid out by hand: matplotlib takes seconds to find room for 28 squares
    figure, grid = make_subplots(num_rows, num_columns, size, layout=None, sharex=True, sharey=True, squeeze=False)
    width, height = size
    figure.subplots_adjust(left=0.7 / width, right=1 - 0.15 / width, bottom=0.65 / height, top=1 - 0.7 / height, wspace=0.12, hspace=0.28)
    grid[0, 0].set_xticks([0, 0.5, 1], ["0", ".5", "1"])  # shared by all
    grid[0, 0].set_yticks([0, 0.5, 1], ["0", ".5", "1"])
    for cell in grid.ravel():
        cell.tick_params(labelsize=7)
        cell.grid(alpha=0.3)
    for cell in grid.ravel()[num_labels:]:
        cell.axis("off")
    return figure, grid.ravel()


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
    with written_beside(path) as partial:
        figure.savefig(partial, dpi=DPI, format="png")
