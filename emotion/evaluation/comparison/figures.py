"""The figures of a comparison; each is drawn for a light and a dark page."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from emotion.evaluation.comparison.accuracy import LEVEL, MAIN_METRIC, Difference, ModelScores, compare_labels
from emotion.evaluation.comparison.costs import Cost, find_front, share_of
from emotion.evaluation.comparison.document import Figure
from emotion.evaluation.plots import BLUE, DPI, GREEN, ORANGE, make_subplots
from emotion.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

WIDTH = 8.6
"""Inches; at `DPI` the pixels of a page's column, so that 9-point text is read at its size."""
DARK: dict[Any, str] = {"figure.facecolor": "#14171b", "axes.facecolor": "#14171b", "savefig.facecolor": "#14171b"} | dict.fromkeys(
    ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), "#e6e8eb"
)
MARKERS = "osD^vP*X"
LINES = (BLUE, ORANGE, GREEN, "#CC79A7", "#56B4E9", "#D55E00")


def draw(path: Path, caption: str, paint: Callable[..., "Canvas"], *arguments: Any) -> Figure:
    """Write the figure that `paint` makes of the arguments, and return it with its dark twin."""
    from matplotlib import rc_context

    with atomic_write(path) as partial:
        paint(*arguments).savefig(partial, dpi=DPI, format="png")
    with rc_context(DARK):
        stream = BytesIO()
        paint(*arguments).savefig(stream, dpi=DPI, format="png")
    return Figure(path, stream.getvalue(), caption)


def paint_scores(standings: list[ModelScores]) -> "Canvas":
    """Draw macro-F1, micro-F1 and macro average precision with their intervals, and each seed as a dot."""
    metrics = {MAIN_METRIC: "macro-F1", "micro_f1": "micro-F1", "macro_average_precision": "mAP"}
    figure, axes = make_subplots(1, len(metrics), (WIDTH, 1.3 + 0.36 * len(standings)), sharey=True)
    places = np.arange(len(standings))[::-1]
    for cell, (metric, title) in zip(axes, metrics.items(), strict=True):
        for place, standing in zip(places, standings, strict=True):
            value, (low, high) = standing.score(metric), standing.interval(metric)
            cell.plot([low, high], [place, place], color=BLUE, linewidth=2)
            cell.plot(value, place, "o", color=BLUE, markersize=6)
            if len(standing.by_seed) > 1:
                cell.plot([scores[metric] for scores in standing.by_seed], [place - 0.22] * len(standing.by_seed), ".", color=ORANGE)
        cell.set(title=title, ylim=(-0.6, len(standings) - 0.4))
        cell.grid(axis="x", alpha=0.3)
    axes[0].set_yticks(places, [standing.name for standing in standings])
    return figure


def paint_matrix(standings: list[ModelScores], differences: list[Difference]) -> "Canvas":
    """Draw who beats whom: the row's macro-F1 minus the column's, or "no difference shown"."""
    size = len(standings)
    side = max(1.15, min(1.5, (WIDTH - 2.4) / size))
    figure, axes = make_subplots(1, 1, (2.2 + side * size, 1.2 + 0.72 * size))
    values = np.full((size, size), np.nan)
    for difference in differences:
        row, column = standings.index(difference.first), standings.index(difference.second)
        values[row, column], values[column, row] = difference.value, -difference.value
        low, high = difference.interval
        for y, x, sign, bounds in ((row, column, 1, (low, high)), (column, row, -1, (-high, -low))):
            verdict = f"{sign * difference.value:+.3f}" if difference.is_shown else "no difference\nshown"
            is_strong = difference.is_shown
            text = f"{verdict}\n({bounds[0]:+.3f} to {bounds[1]:+.3f})" if is_strong else verdict
            color = "black" if is_strong else None
            axes.text(x, y, text, ha="center", va="center", fontsize=8, **({"color": color} if color else {}))
    shown = np.zeros_like(values, dtype=bool)
    for difference in differences:
        row, column = standings.index(difference.first), standings.index(difference.second)
        shown[row, column] = shown[column, row] = difference.is_shown
    # One shade a direction: the numbers say how far, a deep shade would hide them.
    signs = np.where(shown, np.sign(values), np.nan)
    from matplotlib.colors import ListedColormap

    axes.imshow(signs, cmap=ListedColormap(["#F3C27A", "#8EC5E8"]), vmin=-1, vmax=1, aspect="auto")
    names = [standing.name for standing in standings]
    axes.set_xticks(range(size), names, rotation=20, ha="right")
    axes.set_yticks(range(size), names)
    axes.set_xticks(np.arange(size + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(size + 1) - 0.5, minor=True)
    axes.grid(which="minor", alpha=0.4)
    axes.tick_params(which="both", length=0)
    axes.set_title("macro-F1 of the row minus that of the column\n(blue: row better, orange: worse)", fontsize=10)
    return figure


def paint_labels(standings: list[ModelScores], reference: ModelScores) -> "Canvas":
    """Draw each label's F1 minus the reference's as a heatmap; a dot marks what is more than the choice of test rows."""
    names = reference.group.runs[0].label_set.names
    support = reference.group.runs[0].labels.sum(axis=0)
    order = np.argsort(-support, kind="stable")
    others = [standing for standing in standings if standing is not reference]
    width = max(WIDTH * 0.62, 3.2 + 0.95 * len(others))
    figure, axes = make_subplots(1, 1, (width, 1.3 + 0.25 * len(names)))
    found = [compare_labels(standing, reference) for standing in others]
    gaps = np.array([gap[order] for gap, _ in found]).T
    bound = max(0.05, float(np.abs(gaps).max()))
    image = axes.imshow(gaps, cmap="PuOr", vmin=-bound, vmax=bound, aspect="auto")
    for column, (_, p_values) in enumerate(found):
        for row, label in enumerate(order):
            value = gaps[row, column]
            mark = " ●" if p_values[label] < LEVEL else ""
            color = "white" if abs(value) > 0.75 * bound else "black"
            axes.text(column, row, f"{value:+.2f}{mark}", ha="center", va="center", fontsize=8, color=color)
    axes.set_xticks(range(len(others)), [standing.name for standing in others], rotation=15, ha="right")
    axes.set_yticks(range(len(names)), [f"{names[label]} ({support[label]:,})" for label in order], fontsize=8)
    axes.tick_params(length=0)
    axes.set_title(f"F1 minus that of {reference.name}", fontsize=10)
    figure.colorbar(image, ax=axes, shrink=0.6, label="difference of F1")
    return figure


def paint_front(costs: list[Cost], values: list[float], label: str) -> "Canvas":
    """Draw macro-F1 against a cost, with the line of those that none beats in both."""
    scores = [cost.standing.score(MAIN_METRIC) for cost in costs]
    figure, axes = make_subplots(1, 1, (WIDTH * 0.8, 3.9))
    front = find_front(values, scores)
    axes.step([values[i] for i in front], [scores[i] for i in front], where="post", color=GREEN, linestyle="--", label="Pareto front")
    for position, (cost, value, score) in enumerate(zip(costs, values, scores, strict=True)):
        low, high = cost.standing.interval(MAIN_METRIC)
        color = BLUE if position in front else ORANGE
        axes.plot([value, value], [low, high], color=color, alpha=0.6)
        axes.plot(value, score, MARKERS[position % len(MARKERS)], color=color, markersize=8, label=cost.standing.name)
    if min(values) > 0 and max(values) > 5 * min(values):
        axes.set_xscale("log")
    axes.set(xlabel=label, ylabel="macro-F1 (95 % interval)")
    axes.margins(x=0.12)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def paint_ladders(scaling_curves: list[list[ModelScores]]) -> "Canvas":
    """Draw macro-F1 against the share of training rows, one line a recipe."""
    figure, axes = make_subplots(1, 1, (WIDTH * 0.8, 3.8))
    for ladder, color, marker in zip(scaling_curves, LINES * len(scaling_curves), MARKERS * len(scaling_curves), strict=False):
        shares = [100 * share_of(standing) for standing in ladder]
        scores = [standing.score(MAIN_METRIC) for standing in ladder]
        bounds = np.array([standing.interval(MAIN_METRIC) for standing in ladder])
        axes.plot(shares, scores, marker=marker, color=color, label=ladder[-1].name)
        axes.vlines(shares, bounds[:, 0], bounds[:, 1], color=color, alpha=0.6)
    axes.set_xscale("log")
    ticks = sorted({100 * share_of(standing) for ladder in scaling_curves for standing in ladder})
    axes.set_xticks(ticks, [f"{tick:g} %" for tick in ticks])
    axes.minorticks_off()
    axes.set(xlabel="share of the training rows", ylabel="macro-F1 (95 % interval)")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    return figure
