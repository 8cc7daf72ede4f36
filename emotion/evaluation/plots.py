"""Plots of a training run and of one split. Each function draws one figure from computed arrays or rows.

The colors are from the Okabe-Ito palette and sequential maps, which remain distinct with color vision deficiency. matplotlib
is imported where a figure is made.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from emotion.evaluation.drawing import BLUE, GREEN, ORANGE, LabelGrid, describe_hidden, format_name, make_subplots
from emotion.evaluation.uncertainty import compute_wilson_interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_LABELS_SHOWN = 60
"""Figures show the most frequent labels: more cannot be read, and a grid of a thousand does not fit into memory."""
NUM_RELIABILITY_BINS = 15
Columns = list[tuple[np.ndarray, np.ndarray]]
"""For each label gold, bool (m,), and probabilities, float (m,), of the m rows in which it was annotated."""
UNIT_TICKS = {0.0: "0", 0.5: "0.5", 1.0: "1"}
"""Positions and labels of the ticks on a small axis from 0 to 1."""


def plot_training(rows: list[dict[str, Any]]) -> "Figure":
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
    return figure


def plot_label_f1(rows: list[dict[str, Any]], macro_f1: float, num_hidden: int = 0) -> "Figure":
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
    return figure


def plot_confusion_matrices(matrices: np.ndarray, names: Sequence[str], num_hidden: int = 0) -> "Figure":
    """Draw the confusion matrix of each label, int (L, 2, 2). Only errors are colored, by how frequent they are.

    The color of false alarms is their fraction of the predictions, that of missed rows their fraction of the gold rows.
    """
    title = "Confusion matrix per label: false alarms in % of the predictions, missed rows in % of the gold rows" + describe_hidden(
        num_hidden
    )
    grid = LabelGrid([(name, "") for name in names], 7, 1.35, title, "predicted", "gold")
    for matrix, (left, bottom) in zip(matrices, grid.corners, strict=True):
        (_, false_alarms), (missed, hits) = matrix
        fractions = np.array([[0, false_alarms / max(false_alarms + hits, 1)], [missed / max(missed + hits, 1), 0]])
        colored = np.ma.masked_where(np.eye(2, dtype=bool), fractions)
        grid.axes.imshow(colored, cmap="Oranges", vmin=0, vmax=1, extent=(left, left + 1, bottom, bottom + 1))
        for (row, column), count in np.ndenumerate(matrix):
            x, y = left + 0.25 + 0.5 * column, bottom + 0.75 - 0.5 * row
            is_error = row != column
            text = f"{count:,}" + (f"\n{fractions[row, column]:.0%}" if is_error else "")
            style = {"color": "white" if fractions[row, column] > 0.6 else "black"} if is_error else {"alpha": 0.6}
            grid.axes.text(x, y, text, ha="center", va="center", fontsize=8, **style)
    grid.draw_ticks({0.25: "no", 0.75: "yes"}, {0.25: "yes", 0.75: "no"}, has_lines=False)
    return grid.figure


def plot_confusions(counts: np.ndarray, support: np.ndarray, names: Sequence[str], num_hidden: int = 0) -> "Figure":
    """Draw which label is taken for which: counts of rows, int (L, L + 1), as `mistakes.count_confusions` returns them.

    A cell is colored by its fraction of the gold rows of the label, `support`, int (L,).
    """
    size, names = len(names), list(map(format_name, names))
    rows = [f"{name} ({number:,})" for name, number in zip(names, support, strict=True)]
    fractions = np.ma.masked_equal(counts / np.maximum(support, 1)[:, None], 0)  # no error, no color
    cell, fontsize = (0.27, 7) if size > 12 else (max(0.42, 1.7 / size), 9)  # inches, points; the labels of the axes are 2 inches long
    left, bottom = 0.55 + 0.068 * max(map(len, rows)), 0.55 + 0.068 * max(9, *map(len, names))  # constrained layout would take a second
    width, height = left + cell * (size + 1) + 1.1, bottom + cell * size + 0.4
    figure, axes = make_subplots(1, 1, (width, height), layout=None)
    axes.set_position((left / width, bottom / height, cell * (size + 1) / width, cell * size / height))
    image = axes.imshow(fractions, cmap="Oranges", vmin=0, vmax=max(0.2, float(fractions.max() or 0)))
    for row, column in np.argwhere(counts):
        color = "white" if fractions[row, column] > 0.6 * image.norm.vmax else "black"
        axes.text(column, row, f"{counts[row, column]:,}", ha="center", va="center", fontsize=fontsize, color=color)
    axes.set_xticks(range(size + 1), [*names, "(nothing)"], rotation=90, fontsize=8)
    axes.set_yticks(range(size), rows, fontsize=8)
    axes.plot([-0.5, size - 0.5], [-0.5, size - 0.5], color="grey", linewidth=0.6)
    axes.axvline(size - 0.5, color="grey", linewidth=1)
    axes.set(xlabel="predicted instead", ylabel="missed gold label (gold rows)")
    axes.set_title("Rows by missed and wrong label" + describe_hidden(num_hidden), fontsize=10)
    bar = figure.add_axes((1 - 0.9 / width, (bottom + 0.2 * cell * size) / height, 0.16 / width, 0.6 * cell * size / height))
    figure.colorbar(image, cax=bar, label="fraction of the gold rows")
    return figure


def plot_co_occurrence(labels: np.ndarray, predictions: np.ndarray, names: Sequence[str], num_hidden: int = 0) -> "Figure":
    """Draw P(column label | row label) among gold labels and among predictions, both bool (n, L), side by side."""
    names = tuple(map(format_name, names))
    side = max(0.24 * len(names), 1.92)  # inches; margins are computed here because constrained layout takes 1 s
    margin = 0.3 + 0.06 * max(map(len, names))
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
    title = "Label co-occurrence: fraction of rows with the label\non the left that also have the label below"  # fits the smallest side
    title += describe_hidden(num_hidden)
    figure.suptitle(title, fontsize=10)
    bar = figure.add_axes((1 - 0.9 / width, (margin + 0.1 * side) / height, 0.18 / width, 0.8 * side / height))
    figure.colorbar(images[0], cax=bar, extend="max", label="fraction of rows")
    return figure


def plot_precision_recall(columns: Columns, matrices: np.ndarray, names: Sequence[str], num_hidden: int = 0) -> "Figure":
    """Draw the precision-recall curve of each label and its point at the decision rule, which the confusion matrices, (L, 2, 2), give."""
    from sklearn.metrics import average_precision_score, precision_recall_curve

    averages = [average_precision_score(gold, scores) if gold.any() else None for gold, scores in columns]
    titles = [(name, "" if average is None else f"  {average:.2f}") for name, average in zip(names, averages, strict=True)]
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
    return grid.figure


def plot_thresholds(columns: Columns, thresholds: Sequence[float], names: Sequence[str], num_hidden: int = 0) -> "Figure":
    """Draw F1, precision and recall of each label over thresholds, and the threshold of the decision rule."""
    tried = np.linspace(0.01, 0.99, 99)
    titles = [(name, f"  {threshold:.2f}") for name, threshold in zip(names, thresholds, strict=True)]
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
        grid.axes.plot(2 * [left + threshold], [bottom, bottom + 1], color="grey", linewidth=1.0)
    grid.draw_ticks(UNIT_TICKS, UNIT_TICKS)
    handles, legend_labels = grid.axes.get_legend_handles_labels()
    grid.figure.legend(handles[:3], legend_labels[:3], loc="lower right", ncols=3, frameon=False, fontsize=9)
    return grid.figure


def plot_reliability(gold: np.ndarray, scores: np.ndarray) -> "Figure":
    """Draw the observed frequency against the predicted probability, and how many pairs have which probability.

    Left in bins of equal width, with the percentage of the pairs in each; right in bins of as many pairs each, on logarithmic axes: there
    is where most pairs are. `gold`, bool (m,), and `scores`, float (m,), are those of all row-label pairs.
    """
    figure, grid = make_subplots(2, 2, (9.4, 5.2), sharex="col", height_ratios=(3, 1))
    (left, right), (bottom, log_bottom) = grid
    edges = np.linspace(0, 1, NUM_RELIABILITY_BINS + 1)
    equal_width = np.minimum((scores * NUM_RELIABILITY_BINS).astype(int), NUM_RELIABILITY_BINS - 1)
    _draw_calibration(left, gold, scores, equal_width)
    left.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="fraction of positives", title="Bins of equal width")
    left.legend(frameon=False, loc="upper left", fontsize=9)
    percents = 100 * np.bincount(equal_width, minlength=NUM_RELIABILITY_BINS) / max(len(scores), 1)
    bottom.bar(edges[:-1], percents, width=0.94 / NUM_RELIABILITY_BINS, align="edge", color=BLUE)
    for edge, percent in zip(edges[:-1][percents > 0], percents[percents > 0], strict=True):
        text = f"{percent:.0f}" if percent >= 1 else "<1"
        bottom.text(edge + 0.47 / NUM_RELIABILITY_BINS, percent, text, ha="center", va="bottom", fontsize=7)
    bottom.set(xlabel="predicted probability", ylabel="% of pairs", ylim=(0, 1.25 * max(percents.max(), 1)))
    low = max(1e-3, float(np.quantile(scores, 0.01))) / 1.5 if len(scores) else 1e-3
    equal_counts = np.argsort(np.argsort(scores, kind="stable"), kind="stable") * NUM_RELIABILITY_BINS // max(len(scores), 1)
    _draw_calibration(right, gold, scores, equal_counts)
    right.set(xscale="log", yscale="log", xlim=(low, 1), ylim=(low / 2, 1.4), title="Bins of as many pairs each, logarithmic axes")
    log_bottom.hist(
        np.clip(scores, low, 1), bins=np.geomspace(low, 1, 40).tolist(), weights=np.full(len(scores), 100 / max(len(scores), 1)), color=BLUE
    )
    log_bottom.set(xscale="log", xlabel="predicted probability", ylabel="% of pairs")
    for axis in (right.xaxis, right.yaxis, log_bottom.xaxis):
        axis.set_major_formatter(format_tick)
    figure.suptitle("Reliability over all row-label pairs", fontsize=11)
    return figure


def _draw_calibration(axes: Any, gold: np.ndarray, scores: np.ndarray, bins: np.ndarray) -> None:
    """Draw the fraction of positives against the mean probability of each bin, int (m,), with Wilson's 95% intervals."""
    counts = np.bincount(bins, minlength=NUM_RELIABILITY_BINS)
    is_used = counts > 0
    means, fractions = (
        np.bincount(bins, weights=values, minlength=NUM_RELIABILITY_BINS)[is_used] / counts[is_used] for values in (scores, gold)
    )
    bounds = np.array([compute_wilson_interval(*pair) for pair in zip(fractions * counts[is_used], counts[is_used], strict=True)])
    error = np.abs(bounds.reshape(-1, 2).T - fractions)  # not 0 where all pairs of a bin are positive, or none is
    axes.plot([1e-6, 1], [1e-6, 1], color="grey", linestyle=":", label="perfect calibration")
    axes.errorbar(means, fractions, yerr=error, color=BLUE, marker="o", markersize=4, linewidth=1.2, label="observed, 95% interval")
    axes.grid(alpha=0.3)


def format_tick(value: float, position: int | None = None) -> str:
    """Return the label of a tick as a plain number, such as `0.1` in place of a power of ten."""
    return f"{value:,.12g}"
