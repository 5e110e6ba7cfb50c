"""Plots in one house style: readable in print, in grey, and by people who see few colours.

Lines differ in colour, dash and marker at once; axes carry their units; nothing is drawn that says nothing. Figures are
made without a display and written as PNG and SVG.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from situ.core.files import write_whole

STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.edgecolor": "#6b7280",
    "axes.labelcolor": "#22262e",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e5e7eb",
    "grid.linewidth": 0.6,
    "text.color": "#22262e",
    "xtick.color": "#22262e",
    "ytick.color": "#22262e",
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "situ",  # the same figure gives the same file
}

# Okabe and Ito's colours, dark enough on white
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#7a5195", "#8c6d1f", "#56b4e9", "#374151", "#b91c1c", "#4d7c0f")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">")
GREY = "#9ca3af"


@dataclass(frozen=True)
class Line:
    """One curve, with a band of confidence where low and high are given."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    baseline: bool = False  # drawn in grey: what the others are compared with


@dataclass(frozen=True)
class Panel:
    """Axes with curves."""

    title: str
    x: str  # what is along the axes, with units
    y: str
    lines: Sequence[Line]
    log_x: bool = False
    log_y: bool = False


@dataclass(frozen=True)
class Bars:
    """Horizontal bars with error bars, one each row."""

    title: str
    x: str
    labels: Sequence[str]
    values: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    marks: Mapping[str, float] = field(default_factory=dict)  # vertical lines, by what they say
    log_x: bool = False


def draw_panels(panels: Sequence[Panel], title: str = "", columns: int = 2) -> Figure:
    """Panels in rows, with one legend for all lines."""
    with mpl.rc_context(STYLE):
        columns = min(columns, len(panels))
        rows = -(-len(panels) // columns)
        figure = _figure(3.7 * columns, 2.9 * rows + (0.75 if title else 0.45))
        grid = figure.subplots(rows, columns, squeeze=False)
        styles = _styles([line for panel in panels for line in panel.lines])
        shown: dict[str, object] = {}
        for axes, panel in zip(grid.flat, panels, strict=False):
            shown.update(_draw_lines(axes, panel, styles))
        for axes in grid.flat[len(panels) :]:
            axes.remove()
        figure.legend(list(shown.values()), list(shown), loc="outside lower center", ncols=min(len(shown), 5))  # pyright: ignore[reportArgumentType]
        if title:
            figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
        return figure


def _styles(lines: Sequence[Line]) -> dict[str, dict[str, object]]:
    """Each label's colour, dash and marker, the same in all panels."""
    styles: dict[str, dict[str, object]] = {}
    for line in lines:
        if line.label in styles:
            continue
        i = len([label for label in styles if styles[label]["color"] != GREY])
        look = {"color": COLOURS[i % len(COLOURS)], "linestyle": DASHES[i % len(DASHES)], "marker": MARKERS[i % 10]}
        styles[line.label] = {"color": GREY, "linestyle": ":", "marker": "."} if line.baseline else look
    return styles


def _draw_lines(axes: Axes, panel: Panel, styles: Mapping[str, Mapping[str, object]]) -> dict[str, object]:
    handles: dict[str, object] = {}
    for line in panel.lines:
        look = dict(styles[line.label])
        handles[line.label] = axes.plot(line.x, line.y, label=line.label, **look)[0]  # pyright: ignore[reportArgumentType]
        if len(line.low):
            axes.fill_between(line.x, line.low, line.high, color=str(look["color"]), alpha=0.15, linewidth=0)
    axes.set(title=panel.title, xlabel=panel.x, ylabel=panel.y)
    if panel.log_x:
        axes.set_xscale("log")
        ticks = sorted({x for line in panel.lines for x in line.x})
        axes.set_xticks(ticks, [f"{x:g}" for x in ticks])
        axes.minorticks_off()
    if panel.log_y:
        axes.set_yscale("log")
    return handles


def draw_bars(groups: Sequence[Bars], title: str = "", columns: int = 2) -> Figure:
    """Groups of bars in rows."""
    with mpl.rc_context(STYLE):
        columns = min(columns, len(groups))
        rows = -(-len(groups) // columns)
        tall = max(len(group.labels) for group in groups)
        figure = _figure(3.7 * columns, rows * (0.28 * tall + 0.9) + (0.4 if title else 0.1))
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes, group in zip(grid.flat, groups, strict=False):
            _draw_bars(axes, group)
        for axes in grid.flat[len(groups) :]:
            axes.remove()
        if title:
            figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
        return figure


def _draw_bars(axes: Axes, group: Bars) -> None:
    places = range(len(group.labels))
    axes.barh(places, group.values, color=COLOURS[0], height=0.62, zorder=2)
    if len(group.low):
        for y, low, high in zip(places, group.low, group.high, strict=True):
            axes.plot([low, high], [y, y], color="#22262e", linewidth=1.2, zorder=3)
    for i, (words, x) in enumerate(group.marks.items()):
        axes.axvline(x, color=COLOURS[1], linestyle="--", linewidth=1.2, zorder=4)
        axes.annotate(words, (x, 1 - 0.08 * i), xycoords=("data", "axes fraction"), fontsize=7, color=COLOURS[1],
                      xytext=(3, -2), textcoords="offset points", va="top")  # fmt: skip
    axes.set_yticks(list(places), list(group.labels))
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.set(title=group.title, xlabel=group.x)
    if group.log_x:
        axes.set_xscale("log")


def _figure(width: float, height: float) -> Figure:
    figure = Figure((width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write NAME.png (180 dots an inch) and NAME.svg, each whole or not at all."""
    paths = [folder / f"{name}.png", folder / f"{name}.svg"]
    with mpl.rc_context(STYLE):
        write_whole(paths[0], lambda place: figure.savefig(place, dpi=180, metadata={"Software": None}))
        write_whole(paths[1], lambda place: figure.savefig(place, metadata={"Date": None}))
    return paths
