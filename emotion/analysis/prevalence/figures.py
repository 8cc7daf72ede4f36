"""Figures of a report on prevalences; `emotion.evaluation.drawing.save_figure` draws each for a light and for a dark page."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from emotion.evaluation.comparison.figures import COLORS, MARKERS, WIDTH
from emotion.evaluation.drawing import BLUE, LabelGrid, format_name, make_subplots

if TYPE_CHECKING:
    from matplotlib.figure import Figure as MatplotlibFigure

NUM_COLUMNS = 5
NUM_GROUP_COLUMNS = 4
GRID_INCHES = 1.5
FRAME_COLOR = "#8a929b"
"""A grey that can be seen on a light and on a dark page."""
HEADROOM = 1.08
MAX_TITLE_LENGTH = 18
"""Characters of a label's name above one of `NUM_GROUP_COLUMNS` panels, beside which long names of groups are written."""
MAX_LEGEND_LENGTH = 60
"""Characters of the names in one line of a legend, which fit below two panels."""
OPEN = "#ffffff"
"""Inside of a point whose fit is poor."""


@dataclass(frozen=True)
class Series:
    """Prevalences of some labels in some cells with their 95% intervals, of one group over periods or of one period over groups."""

    name: str
    estimates: np.ndarray
    """float (cells, labels); nan where there are too few rows."""
    bounds: np.ndarray
    """float (cells, labels, 2)"""
    is_misfit: np.ndarray
    """Whether the fit is poor, bool (cells, labels)."""


def plot_periods(series: Sequence[Series], names: Sequence[str], periods: Sequence[str]) -> "MatplotlibFigure":
    """Draw each label's prevalence over the periods, one line with a band for each series; each label has a scale of its own.

    A period without rows, or with too few, is a gap.
    """
    tops = np.array([find_top([part.bounds[:, label] for part in series]) for label in range(len(names))])
    titles = [(name, f", to {format_percent(top)}") for name, top in zip(names, tops, strict=True)]
    title = f"Prevalence from {periods[0]} to {periods[-1]} (95% intervals; each label has its own scale)"
    grid = LabelGrid(titles, NUM_COLUMNS, GRID_INCHES, title, "", "")
    x = np.linspace(0, 1, len(periods)) if len(periods) > 1 else np.array([0.5])
    for number, part in enumerate(series):
        color = COLORS[number % len(COLORS)]
        for label, (left, bottom) in enumerate(grid.corners):
            low, high = (part.bounds[:, label] / tops[label]).T
            grid.axes.fill_between(left + x, bottom + low, bottom + high, color=color, alpha=0.2, linewidth=0)
            y = bottom + part.estimates[:, label] / tops[label]
            is_known = np.pad(np.isfinite(y), 1)
            is_alone = is_known[1:-1] & ~is_known[:-2] & ~is_known[2:]  # a band has no width there
            grid.axes.vlines((left + x)[is_alone], (bottom + low)[is_alone], (bottom + high)[is_alone], color, alpha=0.4, linewidth=2.5)
            marker, is_open = MARKERS[number % len(MARKERS)], part.is_misfit[:, label]
            grid.axes.plot(left + x, y, color=color, linewidth=1.3, marker=marker, markersize=2.5)
            grid.axes.plot((left + x)[is_open], y[is_open], marker, color=color, markerfacecolor=OPEN, markersize=3.5)
    grid.draw_ticks({}, {0.0: "0"})
    grid.axes.collections[-1].set_color(FRAME_COLOR)
    if len(series) > 1:
        handles = [grid.axes.plot([], [], color=COLORS[number % len(COLORS)])[0] for number in range(len(series))]
        names_of_series = [format_name(part.name) for part in series]
        is_wide = sum(map(len, names_of_series)) > MAX_LEGEND_LENGTH  # two lines hold as many names as are drawn
        ncols = -(-len(series) // 2) if is_wide else len(series)
        grid.figure.legend(handles, names_of_series, frameon=False, loc="lower center", ncols=ncols, fontsize=8)
    return grid.figure


def plot_groups(part: Series, names: Sequence[str], groups: Sequence[str]) -> "MatplotlibFigure":
    """Draw each label's prevalence in the groups with its interval."""
    num_rows = -(-len(names) // NUM_GROUP_COLUMNS)
    figure, axes = make_subplots(num_rows, min(NUM_GROUP_COLUMNS, len(names)), (WIDTH, num_rows * (0.75 + 0.2 * len(groups))), sharey=True)
    heights = np.arange(len(groups))[::-1]
    cells = np.ravel(axes)
    for label, cell in enumerate(cells):
        if label >= len(names):
            cell.axis("off")
            continue
        low, high = 100 * part.bounds[:, label].T
        cell.hlines(heights, low, high, color=BLUE, linewidth=2)
        for is_open in (False, True):
            chosen = part.is_misfit[:, label] == is_open
            face = OPEN if is_open else BLUE
            cell.plot(100 * part.estimates[chosen, label], heights[chosen], "o", color=BLUE, markerfacecolor=face, markersize=4)
        cell.set(xlim=(0, 100 * find_top([part.bounds[:, label]])), ylim=(-0.6, len(groups) - 0.4))
        cell.set_title(format_name(names[label], MAX_TITLE_LENGTH), fontsize=9)
        cell.tick_params(labelsize=7)
        cell.grid(axis="x", alpha=0.3)
    cells[0].set_yticks(heights, [format_name(group) for group in groups])
    figure.supxlabel("percent of the rows (95% interval)", fontsize=9)
    return figure


def find_top(bounds: Sequence[np.ndarray]) -> float:
    """Return the upper end of the axis of a label, at most 1."""
    highest = max((float(np.nanmax(part)) for part in bounds if np.isfinite(part).any()), default=0.0)
    return min(HEADROOM * max(highest, 1e-3), 1.0)


def format_percent(value: float) -> str:
    """Return a fraction as a percentage with two significant digits below 10 %."""
    percent = 100 * value
    return f"{percent:.0f}%" if percent >= 9.95 else f"{percent:.1f}%" if percent >= 0.095 or percent == 0 else f"{percent:.2f}%"
