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
    """Draw each label's F1, best first, with its support beside it."""
    rows = sorted(rows, key=lambda row: row["f1"])
    figure, axes = make_subplots(1, 1, (8, 1.2 + 0.26 * len(rows)))
    axes.barh([row["label"] for row in rows], [row["f1"] for row in rows], color=BLUE, height=0.72)
    for position, row in enumerate(rows):
        inside = row["f1"] > 0.25  # white on the bar, so that the line of the mean does not cross it
        x, color = (0.01, "white") if inside else (row["f1"] + 0.01, "black")
        axes.text(x, position, f"{row['f1']:.2f}  (n={row['support']:,})", va="center", fontsize=8, color=color)
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


def make_subplots(num_rows: int, num_columns: int, size: tuple[float, float], **options: Any) -> tuple["Figure", Any]:
    """Return a figure of the given inches, without a window and without global state, and its axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(num_rows, num_columns, **options)


def _save(figure: "Figure", path: Path) -> None:
    with written_beside(path) as partial:
        figure.savefig(partial, dpi=DPI, format="png")
