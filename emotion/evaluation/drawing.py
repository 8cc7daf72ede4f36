"""What the figures of all reports share: colors, sizes, names, a grid of small panels, and PNGs for light and dark pages.

The colors are from the Okabe-Ito palette, which remains distinct with color vision deficiency. matplotlib is imported where a figure
is made.
"""

import textwrap
import warnings
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from emotion.evaluation.document import Figure
from emotion.files import atomic_write
from emotion.text import escape_controls

if TYPE_CHECKING:
    from matplotlib.figure import Figure as MatplotlibFigure

BLUE, ORANGE, GREEN = "#0072B2", "#E69F00", "#009E73"
DPI = 140
MAX_NAME_LENGTH = 40
"""Characters of a name in a figure; a figure as wide as a name of thousands is too large to draw."""
MIN_GRID_WIDTH = 6.2
"""Inches of a figure of panels: with two or three labels, title and legend are wider than the panels."""
TITLE_INCHES, NAME_INCHES = 0.088, 0.075
"""Mean width of a character of a figure's title, of 11 points, and of a panel's, of 9 points."""
DARK_STYLE: dict[Any, str] = {"figure.facecolor": "#14171b", "axes.facecolor": "#14171b", "savefig.facecolor": "#14171b"} | dict.fromkeys(
    ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), "#e6e8eb"
)


def save_figure(path: Path, caption: str, plot: Callable[..., "MatplotlibFigure"], *arguments: Any) -> Figure:
    """Write `plot(*arguments)` to `path`, and return it together with its version for a dark page."""
    from matplotlib import rc_context

    save_light_figure(path, plot(*arguments))
    with rc_context(DARK_STYLE):
        stream = BytesIO()
        save_png(plot(*arguments), stream)
    return Figure(path, stream.getvalue(), caption)


def save_light_figure(path: Path, figure: "MatplotlibFigure") -> None:
    """Write a figure that is shown on light pages only."""
    with atomic_write(path) as partial:
        save_png(figure, partial)


class LabelGrid:
    """A unit square for each label, in rows of `num_columns`, all in one matplotlib axes.

    Drawing 28 separate axes takes seconds. `corners`, float (L, 2), are the lower left corners of the squares; content of a label
    is drawn relative to its corner. `inches` is the side of a square. `titles` are the names of the labels, each with what follows it;
    names are shortened to the width of a square.
    """

    def __init__(self, titles: Sequence[tuple[str, str]], num_columns: int, inches: float, title: str, xlabel: str, ylabel: str):
        self.num_columns = min(num_columns, len(titles))
        num_rows = -(-len(titles) // self.num_columns)
        column, row = np.arange(len(titles)) % self.num_columns, np.arange(len(titles)) // self.num_columns
        self.corners = np.stack([1.16 * column, -1.3 * row], axis=1)
        grid_width, grid_height = 1.16 * self.num_columns - 0.16, 1.3 * num_rows - 0.3  # in squares
        width = max(inches * grid_width + 0.8, MIN_GRID_WIDTH)
        lines = textwrap.wrap(title, int(width / TITLE_INCHES))
        margins = {"left": 0.65, "bottom": 0.65, "top": 0.57 + 0.18 * len(lines)}  # inches
        height = inches * grid_height + margins["bottom"] + margins["top"]
        self.figure, self.axes = make_subplots(1, 1, (width, height), layout=None)
        self.axes.set_position(
            (margins["left"] / width, margins["bottom"] / height, inches * grid_width / width, inches * grid_height / height)
        )
        self.axes.axis("off")
        for (left, bottom), (name, ending) in zip(self.corners, titles, strict=True):
            text = format_name(name, int(1.16 * inches / NAME_INCHES) - len(ending)) + ending
            self.axes.text(left + 0.5, bottom + 1.07, text, ha="center", fontsize=9)
        self.figure.supxlabel(xlabel, fontsize=10, x=(margins["left"] + inches * grid_width / 2) / width)
        self.figure.supylabel(ylabel, fontsize=10)
        self.figure.suptitle("\n".join(lines), fontsize=11)
        self._limits = (0, grid_width), (1 - grid_height, 1)

    def draw_ticks(self, x_ticks: dict[float, str], y_ticks: dict[float, str], has_lines: bool = True) -> None:
        """Draw frames, grid lines at the ticks if `has_lines`, and tick labels along the lower and left edge of the grid.

        The ticks map a position in [0, 1] to its label. Call this last, because it sets the limits of the axes.
        """
        from matplotlib import rcParams
        from matplotlib.collections import LineCollection

        first_of_last_row = len(self.corners) - self.num_columns
        frames, lines = [], []
        for position, (left, bottom) in enumerate(self.corners):
            square = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]) + np.array([left, bottom])
            frames.append(square)
            if has_lines:
                lines += [[(left + x, bottom), (left + x, bottom + 1)] for x in x_ticks]
                lines += [[(left, bottom + y), (left + 1, bottom + y)] for y in y_ticks]
            for x, text in x_ticks.items() if position >= first_of_last_row else ():
                self.axes.text(left + x, bottom - 0.03, text, ha="center", va="top", fontsize=7)
            for y, text in y_ticks.items() if position % self.num_columns == 0 else ():
                self.axes.text(left - 0.03, bottom + y, text, ha="right", va="center", fontsize=7)
        self.axes.add_collection(LineCollection(lines, colors="grey", alpha=0.35, linewidths=0.5, zorder=-1))
        self.axes.add_collection(LineCollection(frames, colors=rcParams["axes.edgecolor"], linewidths=0.8))
        self.axes.set(xlim=self._limits[0], ylim=self._limits[1], aspect="auto")
        for artist in (*self.axes.lines, *self.axes.collections):
            artist.set_clip_on(False)  # frames and points at the edge of the grid would be cut in half


def describe_hidden(num_hidden: int) -> str:
    """Return the end of a title where a figure leaves out labels, otherwise an empty string."""
    return f"; {num_hidden:,} rarer labels are not drawn" if num_hidden else ""


def format_name(name: str, max_length: int = MAX_NAME_LENGTH) -> str:
    """Return the name of a label or model as a figure shows it: no formula, no control character, at most `max_length` long."""
    shown = escape_controls(name)
    shown = shown if len(shown) <= max_length else shown[: max_length - 1] + "…"
    shown = f" {shown}" if shown.startswith("_") else shown  # matplotlib leaves such a name out of a legend
    return shown.replace("$", r"\$")  # matplotlib takes text between two dollar signs for a formula


def make_subplots(
    num_rows: int, num_columns: int, size: tuple[float, float], layout: Any = "constrained", **options: Any
) -> tuple["MatplotlibFigure", Any]:
    """Return a figure of `size` inches and its axes; unlike pyplot, this opens no window and keeps no global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as MatplotlibFigure

    figure = MatplotlibFigure(figsize=size, layout=layout)
    FigureCanvasAgg(figure)
    return figure, figure.subplots(num_rows, num_columns, **options)


def save_png(figure: "MatplotlibFigure", target: Path | BytesIO) -> None:
    """Write a figure as PNG, without matplotlib's warning for each character that its fonts lack."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph .* missing from font|Matplotlib currently does not support")
        figure.savefig(target, dpi=DPI, format="png")
