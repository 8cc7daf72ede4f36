"""Figures of a comparison. Each is drawn twice, for a light and for a dark page."""

from typing import TYPE_CHECKING, Any

import numpy as np

from emotion.evaluation.comparison.accuracy import MAIN_METRIC, SIGNIFICANCE_LEVEL, Difference, ModelScores, compare_labels
from emotion.evaluation.comparison.costs import find_pareto_front
from emotion.evaluation.drawing import BLUE, GREEN, ORANGE, describe_hidden, format_name, make_subplots
from emotion.evaluation.plots import MAX_LABELS_SHOWN, format_tick

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as MatplotlibFigure

WIDTH = 8.6
"""Inches. At the DPI of all figures this is the width of the page's column, so 9-point text keeps its size."""
LIGHT_ORANGE, LIGHT_BLUE = "#F3C27A", "#8EC5E8"
MARKERS = "osD^vP*X"
NAME_SIZE, NAME_GAP, LINE_GAP = 8, 7, 21
"""Size of the name of a point, and its distance from the point, in typographic points."""
COLORS = (BLUE, ORANGE, GREEN, "#CC79A7", "#56B4E9", "#D55E00")


def plot_scores(models: list[ModelScores]) -> "MatplotlibFigure":
    """Draw macro-F1, micro-F1 and macro average precision with their intervals, and a small dot for each seed."""
    metrics = {MAIN_METRIC: "macro-F1", "micro_f1": "micro-F1", "macro_average_precision": "mAP"}
    figure, axes = make_subplots(1, len(metrics), (WIDTH, 1.3 + 0.36 * len(models)), sharey=True)
    heights = np.arange(len(models))[::-1]
    for cell, (metric, title) in zip(axes, metrics.items(), strict=True):
        for y, model in zip(heights, models, strict=True):
            if metric in model.resampled:
                cell.plot(model.interval(metric), [y, y], color=BLUE, linewidth=2)
            cell.plot(model.score(metric), y, "o", color=BLUE, markersize=6)
            if len(model.by_seed) > 1:
                cell.plot([scores[metric] for scores in model.by_seed], [y - 0.22] * len(model.by_seed), ".", color=ORANGE)
        cell.set(title=title, ylim=(-0.6, len(models) - 0.4))
        cell.grid(axis="x", alpha=0.3)
    axes[0].set_yticks(heights, [format_name(model.name) for model in models])
    return figure


def plot_differences(models: list[ModelScores], differences: list[Difference]) -> "MatplotlibFigure":
    """Draw a matrix of the row's macro-F1 minus the column's, or "not significant"."""
    from matplotlib.colors import ListedColormap

    size, names = len(models), [format_name(model.name) for model in models]
    side = max(1.25, min(1.9, (WIDTH - 2.4) / size))  # inches: an interval needs 1.2, and the title above two models 3.7
    figure, axes = make_subplots(1, 1, (max(2.2, 0.4 + 0.09 * max(map(len, names))) + side * size, 1.2 + 0.72 * size))
    signs = np.full((size, size), np.nan)
    for difference in differences:
        first, second = models.index(difference.first), models.index(difference.second)
        low, high = difference.interval
        cells = ((first, second, difference.value, low, high), (second, first, -difference.value, -high, -low))
        for row, column, value, lower, upper in cells:
            if difference.is_significant:
                signs[row, column] = np.sign(value)
                text, style = f"{value:+.3f}\n({lower:+.3f} to {upper:+.3f})", {"color": "black"}
            else:
                text, style = "practically\nequal" if difference.is_equivalent else "not\nsignificant", {}
            axes.text(column, row, text, ha="center", va="center", fontsize=8, **style)
    # One shade per sign: a shade by size would make the numbers hard to read.
    axes.imshow(signs, cmap=ListedColormap([LIGHT_ORANGE, LIGHT_BLUE]), vmin=-1, vmax=1, aspect="auto")
    axes.set_xticks(range(size), names, rotation=20, ha="right")
    axes.set_yticks(range(size), names)
    axes.set_xticks(np.arange(size + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(size + 1) - 0.5, minor=True)
    axes.grid(which="minor", alpha=0.4)
    axes.tick_params(which="both", length=0)
    axes.set_title("macro-F1 of the row minus macro-F1 of the column\n(blue: row is better, orange: row is worse)", fontsize=10)
    return figure


def plot_label_differences(models: list[ModelScores], reference: ModelScores) -> "MatplotlibFigure":
    """Draw a heatmap of each label's F1 minus that of the reference; a dot marks significant differences."""
    names = reference.group.runs[0].label_set.names
    support = reference.group.runs[0].labels.sum(axis=0)
    order = np.argsort(-support, kind="stable")[: min(MAX_LABELS_SHOWN, int((support > 0).sum()))]
    others = [model for model in models if model is not reference]
    width = max(WIDTH * 0.62, 3.2 + 0.95 * len(others))
    figure, axes = make_subplots(1, 1, (width, 1.3 + 0.25 * len(order)))
    comparisons = [compare_labels(model, reference) for model in others]
    gaps = np.array([gap[order] for gap, _ in comparisons]).T
    p_values = np.array([p_value[order] for _, p_value in comparisons]).T
    bound = max(0.05, float(np.abs(gaps).max()))
    image = axes.imshow(gaps, cmap="PuOr", vmin=-bound, vmax=bound, aspect="auto")
    for (row, column), gap in np.ndenumerate(gaps):
        mark = " ●" if p_values[row, column] < SIGNIFICANCE_LEVEL else ""
        color = "white" if abs(gap) > 0.75 * bound else "black"
        axes.text(column, row, f"{gap:+.2f}{mark}", ha="center", va="center", fontsize=8, color=color)
    axes.set_xticks(range(len(others)), [format_name(model.name) for model in others], rotation=15, ha="right")
    axes.set_yticks(range(len(order)), [f"{format_name(names[label])} ({support[label]:,})" for label in order], fontsize=8)
    axes.tick_params(length=0)
    axes.set_title(f"F1 minus F1 of {format_name(reference.name)}{describe_hidden(len(names) - len(order))}", fontsize=10)
    figure.colorbar(image, ax=axes, shrink=0.6)
    return figure


def plot_pareto_front(models: list[ModelScores], costs: list[float], cost_label: str) -> "MatplotlibFigure":
    """Draw macro-F1 against a cost, each point with its name, and the Pareto front as a dashed line."""
    scores = [model.score(MAIN_METRIC) for model in models]
    figure, axes = make_subplots(1, 1, (WIDTH * 0.8, 3.9))
    front = find_pareto_front(costs, scores)
    axes.step([costs[i] for i in front], [scores[i] for i in front], where="post", color=GREEN, linestyle="--", label="Pareto front")
    for index, (model, cost, score) in enumerate(zip(models, costs, scores, strict=True)):
        color = BLUE if index in front else ORANGE
        axes.plot([cost, cost], model.interval(MAIN_METRIC), color=color, alpha=0.6)
        axes.plot(cost, score, MARKERS[index % len(MARKERS)], color=color, markersize=8)
    if min(costs) > 0 and max(costs) > 5 * min(costs):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(format_tick)
        axes.xaxis.set_minor_formatter("")
    axes.set(xlabel=cost_label, ylabel="macro-F1 (95% interval)")
    axes.margins(x=0.2)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    figure.draw_without_rendering()  # the layout, on which distances depend
    _name_points(axes, costs, scores, [format_name(model.name) for model in models])
    return figure


def _name_points(axes: "Axes", x: list[float], y: list[float], names: list[str]) -> None:
    """Write the name of each point beside it: on the side where there is room, and apart from names that are written already.

    A line connects a point and a name that had to move up or to the left.
    """
    scale = 72 / axes.figure.dpi
    points = scale * axes.transData.transform(np.column_stack([x, y]))
    right = scale * axes.transAxes.transform((1, 1))[0]
    taken: list[tuple[float, float, float]] = []  # left end, right end and height of each name
    for index in np.argsort(points[:, 1], kind="stable"):
        across, height = points[index] + (0, NAME_GAP)  # above the line of the front
        width = 0.65 * NAME_SIZE * len(names[index])
        is_right = across + LINE_GAP + width < right
        start = across + NAME_GAP if is_right else across - NAME_GAP - width
        while any(start < end and begin < start + width and abs(height - other) < 1.4 * NAME_SIZE for begin, end, other in taken):
            height += 1.0
        taken.append((start, start + width, height))
        is_moved = not is_right or height > points[index, 1] + 2 * NAME_GAP
        gap = LINE_GAP if is_moved else NAME_GAP
        offset = gap if is_right else -gap, height - points[index, 1]
        style: dict[str, Any] = {"ha": "left" if is_right else "right", "va": "center", "fontsize": NAME_SIZE}
        if is_moved:
            end = (0, 0.5) if is_right else (1, 0.5)
            color = axes.xaxis.label.get_color()  # that of text, on a light and on a dark page
            style["arrowprops"] = {"arrowstyle": "-", "color": color, "linewidth": 0.8, "relpos": end, "shrinkA": 0, "shrinkB": 0}
        axes.annotate(names[index], (x[index], y[index]), offset, textcoords="offset points", **style)


def plot_scaling_curves(curves: list[list[ModelScores]]) -> "MatplotlibFigure":
    """Draw macro-F1 against the fraction of the training rows, one line per set of models."""
    figure, axes = make_subplots(1, 1, (WIDTH * 0.8, 3.8))
    for curve, color, marker in zip(curves, COLORS * len(curves), MARKERS * len(curves), strict=False):
        percents = [100 * model.group.train_fraction for model in curve]
        scores = [model.score(MAIN_METRIC) for model in curve]
        bounds = np.array([model.interval(MAIN_METRIC) for model in curve])
        axes.plot(percents, scores, marker=marker, color=color, label=format_name(curve[-1].name))
        axes.vlines(percents, bounds[:, 0], bounds[:, 1], color=color, alpha=0.6)
    axes.set_xscale("log")
    ticks = sorted({100 * model.group.train_fraction for curve in curves for model in curve})
    axes.set_xticks(ticks, [f"{tick:g}%" for tick in ticks])
    axes.minorticks_off()
    axes.set(xlabel="fraction of the training rows", ylabel="macro-F1 (95% interval)")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    return figure
