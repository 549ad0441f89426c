"""Figures of comparisons: differences over the depth, and pictures in two columns and a third."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from cnnviz.comparison.pictures import SideBySide
    from cnnviz.comparison.result import Comparison

__all__ = ["depth_figure", "side_by_side_figure"]

_COLOURS = {
    "convolution": "#0072b2",
    "dense": "#0072b2",
    "batch norm": "#d55e00",
    "layer norm": "#d55e00",
    "activation": "#009e73",
    "max pool": "#cc79a7",
    "average pool": "#cc79a7",
}
_OTHER = "#6b7280"
_PANEL = 2.1


def depth_figure(found: Comparison) -> Figure:
    """Draw the relative difference of each layer, in order, on a logarithmic scale.

    What is no number, since shapes differ, stands above all others; what is zero on the lowest
    line. The tolerance is a line, a fault an arrow.
    """
    figure = _figure(10, 4)
    axes = figure.subplots()
    values = np.array([row.relative for row in found.layers])
    fine = values[np.isfinite(values) & (values > 0)]
    low = math.floor(math.log10(min([*fine, found.tolerance]))) - 0.5
    high = math.ceil(math.log10(max([*fine, found.tolerance]))) + 0.5
    shown = np.where(np.isfinite(values), np.maximum(values, 10.0**low), 10.0**high)
    x = np.arange(len(shown))
    for family in dict.fromkeys(row.family for row in found.layers):
        chosen = np.array([row.family == family for row in found.layers])
        colour = _COLOURS.get(family, _OTHER)
        axes.scatter(x[chosen], shown[chosen], s=18, color=colour, label=family or "other")
    axes.axhline(found.tolerance, color="#b91c1c", linewidth=1, linestyle="--")
    axes.annotate(
        f"tolerance {found.tolerance:g}",
        (0, found.tolerance),
        (4, 3),
        textcoords="offset points",
        color="#b91c1c",
        fontsize=8,
    )
    first = found.first_divergence
    if first is not None:
        place = [row.name for row in found.layers].index(first.name)
        axes.annotate(
            f"they part at {first.name}",
            (place, shown[place]),
            (0, 22),
            textcoords="offset points",
            ha="left" if place < len(x) / 2 else "right",
            fontsize=9,
            arrowprops={"arrowstyle": "->"},
            parse_math=False,
        )
    axes.set_yscale("log")
    axes.set_ylim(10.0**low, 10.0 ** (high + 0.6))
    axes.set_ylabel("max |difference| / max |reference|")
    axes.set_xlabel("layers, in order")
    step = max(1, len(x) // 12)
    names = [row.name for row in found.layers][::step]
    axes.set_xticks(x[::step], names, rotation=35, ha="right", fontsize=7, parse_math=False)
    axes.set_title(f"{found.names[0]} and {found.names[1]}", fontsize=10, parse_math=False)
    axes.legend(fontsize=7, ncols=4, loc="upper right", framealpha=0.9)
    axes.grid(alpha=0.25)
    return figure


def side_by_side_figure(found: SideBySide) -> Figure:
    """Draw both networks in a column each, and their difference in a third, with names."""
    columns = (*found.names, "difference")
    rows = found.tiles()
    aspect = max(row[0].shape[0] / row[0].shape[1] for row in rows)
    height = _PANEL * min(aspect, 3) + 0.3
    figure = _figure(_PANEL * 3 + 0.4, height * len(rows) + 0.5)
    panels = figure.subplots(len(rows), 3, squeeze=False)
    for i, (row, tiles) in enumerate(zip(found.rows, rows, strict=True)):
        for axes, tile in zip(panels[i], tiles, strict=True):
            axes.imshow(np.clip(tile, 0, 1), interpolation="nearest", aspect="equal")
            axes.set_xticks([])
            axes.set_yticks([])
        panels[i][0].set_title(row.title, fontsize=8, loc="left", parse_math=False)
        told = f"largest {row.relative:.1e} of the scale"
        panels[i][2].set_title(told, fontsize=8, loc="right", parse_math=False)
    for axes, name in zip(panels[-1], columns, strict=True):
        axes.set_xlabel(name, fontsize=9, parse_math=False)
    return figure


def _figure(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure
