"""The figure of a matrix of similarities."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cnnviz.figures import UNSIGNED

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

    from cnnviz.comparison.similarity import Similarity

__all__ = ["similarity_figure"]

# Names along a side that can still be read, and the letters of each.
_NAMES = 36
_LETTERS = 26
_CONSTANT = "#c9ccd1"


def similarity_figure(found: Similarity) -> Figure:
    """Draw a matrix of CKA: layers of the first network upwards, of the other to the right.

    Parameters
    ----------
    found : Similarity
        Rows and columns of constant layers are grey.
    """
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows, columns = found.matrix.shape
    hidden = np.zeros(found.matrix.shape, bool)
    hidden[np.isin(found.layers, found.constant[0])] = True
    hidden[:, np.isin(found.other_layers, found.constant[1])] = True
    width, height = (float(np.clip(0.22 * n, 1.6, 6.5)) for n in (columns, rows))
    # Names, title and colour bar have room of their own.
    figure = Figure(figsize=(width + 3.2, height + 2.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    drawn = axes.imshow(
        np.ma.array(found.matrix, mask=hidden),
        cmap=colormaps[UNSIGNED].with_extremes(bad=_CONSTANT),
        vmin=0,
        vmax=1,
        origin="lower",
        aspect="auto",
        interpolation="nearest",
    )
    for axis, layers, name in zip(
        (axes.yaxis, axes.xaxis),
        (found.layers, found.other_layers),
        found.names,
        strict=True,
    ):
        _name(axis, layers, name)
    axes.tick_params(axis="x", labelrotation=90)
    below = bool((found.matrix[~hidden] < 0).any())
    bar = figure.colorbar(drawn, ax=axes, extend="min" if below else "neither", fraction=0.06)
    bar.set_label("linear CKA")
    note = "; grey: constant" if hidden.any() else ""
    kind = "unbiased" if found.unbiased else "biased"
    over = ", means over space" if found.features == "mean" else ""
    axes.set_title(f"{kind}, {found.images} images{over}{note}", fontsize=9, loc="left")
    return figure


def _name(axis: Axis, layers: Sequence[str], name: str) -> None:
    """Write the names of layers along a side, as many as can be read, and whose they are."""
    places = range(0, len(layers), math.ceil(len(layers) / _NAMES))
    axis.set_ticks(places, [_short(layers[i]) for i in places], fontsize=7, parse_math=False)
    axis.set_label_text(name, fontsize=10, parse_math=False)


def _short(name: str) -> str:
    # Layers are told apart by their end.
    return name if len(name) <= _LETTERS else f"{name[:5]}…{name[-(_LETTERS - 6) :]}"
