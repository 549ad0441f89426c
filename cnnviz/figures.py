"""Every matplotlib figure of cnnviz, made without pyplot: nothing global is opened or changed."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.errors import ChannelOutOfRange, InvalidOption

# Matplotlib takes longer to import than all the rest; it is imported by who draws.
if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage
    from matplotlib.ticker import Locator

    from cnnviz.weights import TensorStats

__all__ = [
    "figure_png",
    "heat_figure",
    "histogram_figure",
    "images_figure",
    "profile_figure",
    "sheet_figure",
    "signal_figure",
    "signed_figure",
    "table_figure",
]

SIGNED = "RdBu_r"
"""The colour map of what has a sign: white is zero."""
UNSIGNED = "viridis"
"""The colour map of what has none."""

_LINE, _MARK, _FAINT = "#3b5b7e", "#d1495b", "#8a8f98"
_PANEL = 2.6
_MAX_LABELS = 80


def sheet_figure(picture: NDArray[Any], title: str = "") -> Figure:
    """Show one picture with a title, no pixel smoothed.

    Parameters
    ----------
    picture : array
        ``(H, W)`` or ``(H, W, C)`` in [0, 1].
    title : str
        What to write above; not read as mathematics.
    """
    height, width = picture.shape[:2]
    inches = 7.0
    # A very tall sheet would be cut by the page, a very wide one illegible.
    figure_width = float(np.clip(inches * np.sqrt(width / height), 3.0, 10.0))
    figure = _figure(figure_width, figure_width * height / width + (0.4 if title else 0.0))
    axes = figure.subplots()
    _picture(axes, picture, smooth=False)
    _title(axes, title, figure_width)
    return figure


def images_figure(
    images: NDArray[Any] | Sequence[NDArray[Any]],
    titles: Sequence[str] | None = None,
    *,
    columns: int | None = None,
) -> Figure:
    """Show pictures in rows, each with its title.

    Parameters
    ----------
    images : array or sequence of array
        ``(N, H, W, C)``, or N pictures ``(H, W)`` or ``(H, W, C)``, in [0, 1].
    titles : sequence of str, optional
        One a picture.
    columns : int, optional
        Pictures in a row; at most 4 by default.

    Raises
    ------
    InvalidOption
        There is no picture, or not one title for each.
    """
    _same_length("titles", titles, len(images))
    columns = max(1, min(len(images), columns or 4))
    rows = -(-len(images) // columns)
    aspect = max(image.shape[0] / image.shape[1] for image in images)
    above = 0.27 if titles else 0.05
    figure = _figure(_PANEL * columns, (_PANEL * aspect + above) * rows)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for i, axes in enumerate(panels):
        if i < len(images):
            _picture(axes, images[i])
            _title(axes, titles[i] if titles else "", _PANEL)
        else:
            axes.set_axis_off()
    return figure


def table_figure(
    rows: Sequence[Sequence[NDArray[Any]]],
    columns: Sequence[str],
    labels: Sequence[str],
) -> Figure:
    """Show pictures as a table, with a name above each column and above each row.

    Parameters
    ----------
    rows : sequence of sequence of array
        Pictures ``(H, W, 3)`` in [0, 1], as many in each row.
    columns, labels : sequence of str
        One a column, one a row.

    Raises
    ------
    InvalidOption
        There is no picture, or not one name for each column and row.
    """
    _same_length("labels", labels, len(rows))
    _same_length("columns", columns, len(rows[0]))
    aspect = max(row[0].shape[0] / row[0].shape[1] for row in rows)
    side = _PANEL * 0.8
    figure = _figure(side * len(columns), (side * aspect + 0.25) * len(rows) + 0.3)
    panels = figure.subplots(len(rows), len(columns), squeeze=False)
    for i, row in enumerate(rows):
        for k, picture in enumerate(row):
            _picture(panels[i][k], picture)
            if i == 0 and k:
                _title(panels[i][k], columns[k], side, 9)
        _left_title(panels[i][0], labels[i], side)
    return figure


def heat_figure(
    images: NDArray[Any],
    maps: NDArray[Any],
    overlays: NDArray[Any] | None = None,
    titles: Sequence[str] | None = None,
) -> Figure:
    """Show for each photo a row: the photo, its map with a colour bar, the overlay.

    Parameters
    ----------
    images : array
        ``(N, H, W, C)`` in [0, 1].
    maps : array
        ``(N, h, w)``. If any number is below zero all of them are drawn on a diverging
        scale about zero, else from zero up. Each row has its own scale.
    overlays : array, optional
        ``(N, H, W, 3)`` in [0, 1]; no third column without.
    titles : sequence of str, optional
        One a photo, written above its row.

    Raises
    ------
    InvalidOption
        There is no photo, or not one map, overlay and title for each.
    """
    _same_length("titles", titles, len(images))
    _same_length("maps", maps, len(images))
    _same_length("overlays", overlays, len(images))
    signed = bool(np.nanmin(maps) < 0)
    columns = 2 if overlays is None else 3
    aspect = images.shape[1] / images.shape[2]
    above = 0.32 if titles else 0.1
    figure = _figure(_PANEL * columns + 0.7, (_PANEL * aspect + above) * len(images))
    panels = figure.subplots(len(images), columns, squeeze=False)
    for i, row in enumerate(panels):
        _picture(row[0], images[i])
        _left_title(row[0], titles[i] if titles else "", figure.get_figwidth())
        height, width = images.shape[1:3]
        # The extent of the photo, so that a coarse map lies over it cell by cell.
        drawn = _map(row[1], maps[i], signed, extent=(-0.5, width - 0.5, height - 0.5, -0.5))
        figure.colorbar(drawn, ax=row[1], fraction=0.046, pad=0.03)
        if overlays is not None:
            _picture(row[2], overlays[i])
    return figure


def signal_figure(signals: NDArray[Any], maps: NDArray[Any], titles: Sequence[str]) -> Figure:
    """Show signals as lines over a map of the same length, a row each.

    Parameters
    ----------
    signals : array
        ``(N, L, C)``, a line for each channel.
    maps : array
        ``(N, L)``, from zero up.
    titles : sequence of str
        One a signal.
    """
    _same_length("maps", maps, len(signals))
    _same_length("titles", titles, len(signals))
    figure = _figure(9.0, 2.2 * len(signals))
    for axes, lines, heat, title in zip(
        figure.subplots(len(signals), 1, squeeze=False).ravel(), signals, maps, titles, strict=True
    ):
        low, high = float(lines.min()), float(lines.max())
        edge = 0.05 * (high - low or 1.0)
        extent = (-0.5, len(heat) - 0.5, low - edge, high + edge)
        drawn = axes.imshow(
            heat[None], cmap="Reds", vmin=0, extent=extent, aspect="auto", interpolation="nearest"
        )
        axes.plot(np.arange(len(lines)), lines, color=_LINE, lw=0.9)
        figure.colorbar(drawn, ax=axes, fraction=0.046, pad=0.01)
        _left_title(axes, title, 9.0)
    return figure


def signed_figure(values: NDArray[Any], title: str = "", *, stretched: bool = False) -> Figure:
    """Show a map whose sign counts: white is zero, red above, blue below, with a colour bar.

    Parameters
    ----------
    values : array
        ``(H, W)``.
    title : str
        What to write above.
    stretched : bool
        Fill a wide figure, whatever the shape: for maps whose axes are not both space.
    """
    height, width = values.shape
    inches = 9.0 if stretched else 4.6
    tall = 3.2 if stretched else float(np.clip(4.0 * height / width, 1.5, 12.0))
    figure = _figure(inches, tall + (0.4 if title else 0.1))
    axes = figure.subplots()
    drawn = _map(axes, values, signed=True)
    if stretched:
        axes.set_aspect("auto")
    figure.colorbar(drawn, ax=axes, fraction=0.046, pad=0.03)
    _title(axes, title, inches)
    return figure


def profile_figure(
    values: NDArray[Any], mark: int | None = None, title: str = "", *, ylabel: str = "activation"
) -> Figure:
    """Draw one number a channel as a line; a chosen channel is marked and its rank said.

    Parameters
    ----------
    values : array
        ``(C,)``.
    mark : int, optional
        The channel to mark. Rank 1 is the strongest; equal ones share the better rank.
    title, ylabel : str
        What to write above, and beside the axis.

    Raises
    ------
    ChannelOutOfRange
        There is no channel `mark`.
    """
    count = len(values)
    if mark is not None and not 0 <= mark < count:
        raise ChannelOutOfRange("channel", mark, count)
    figure = _figure(9.0, 3.2)
    axes = figure.subplots()
    # Many channels make a line; a few are dots that it joins.
    axes.plot(np.arange(count), values, color=_LINE, lw=0.9, marker="." if count <= 64 else "")
    axes.set_xlim(-0.02 * count - 0.5, 1.02 * count - 0.5)
    axes.xaxis.set_major_locator(_locator(12, integer=True))
    axes.set_xlabel("channel")
    axes.set_ylabel(ylabel)
    axes.axhline(0, color=_FAINT, lw=0.6, zorder=0)
    axes.spines[["top", "right"]].set_visible(False)
    if mark is not None:
        rank = 1 + int(np.sum(values > values[mark]))
        axes.axvline(mark, color=_MARK, lw=0.8, alpha=0.5, zorder=0)
        axes.plot(
            [mark],
            [values[mark]],
            "o",
            color=_MARK,
            label=f"channel {mark}: {values[mark]:.4g}, rank {rank} of {count}",
        )
        # Above the axes, where no line can run through it.
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), frameon=False, borderaxespad=0.2)
    _left_title(axes, title, 5.0 if mark is not None else 9.0)
    return figure


def histogram_figure(
    rows: Sequence[TensorStats], title: str = "", *, columns: int | None = None
) -> Figure:
    """Draw the histogram of each tensor with its mean and spread; statistics are grey.

    Parameters
    ----------
    rows : sequence of TensorStats
        As `cnnviz.weight_stats` gives them.
    title : str
        What to write above all.
    columns : int, optional
        Histograms in a row; at most 5 by default.

    Raises
    ------
    InvalidOption
        There is no tensor.
    """
    _same_length("tensors", None, len(rows))
    columns = max(1, min(len(rows), columns or 5))
    lines = -(-len(rows) // columns)
    figure = _figure(max(2.3 * columns, 4.0), 1.75 * lines + (0.4 if title else 0.0))
    if title:
        figure.suptitle(title, fontsize=11, parse_math=False)
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes in panels[len(rows) :]:
        axes.set_axis_off()
    for axes, row in zip(panels, rows, strict=False):
        colour = _FAINT if row.is_statistic else _LINE
        axes.stairs(row.histogram, row.edges, fill=True, color=colour)
        axes.axvline(row.mean, color=_MARK, lw=0.9)
        note = f"{row.role}, mean {row.mean:.2g}, std {row.std:.2g}"
        if row.non_finite:
            note = f"{row.non_finite} of {row.count} not finite"
        _title(axes, f"{row.name}\n", 2.3, size=8)
        axes.text(
            *(0.5, 1.03),
            note,
            transform=axes.transAxes,
            ha="center",
            va="bottom",
            fontsize=6.5,
            color=_MARK if row.non_finite else "#555555",
        )
        axes.set_yticks([])
        axes.xaxis.set_major_locator(_locator(4))
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right", "left"]].set_visible(False)
    return figure


def figure_png(figure: Figure, dpi: int = 110) -> bytes:
    """Draw a figure as the bytes of a PNG file."""
    data = io.BytesIO()
    # The date and the version of matplotlib would make equal pictures differ.
    figure.savefig(data, format="png", dpi=dpi, metadata={"Software": None})
    return data.getvalue()


def _locator(count: int, integer: bool = False) -> Locator:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(count, integer=integer, steps=[1, 2, 5, 10])


def _figure(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, max(height, 1.0)), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _picture(axes: Axes, picture: NDArray[Any], *, smooth: bool = True) -> None:
    if picture.ndim == 3 and picture.shape[2] == 1:
        picture = picture[:, :, 0]
    # Enlarged pixels stay squares; only what must shrink is smoothed.
    axes.imshow(
        np.clip(np.asarray(picture, dtype=np.float64), 0, 1),
        cmap="gray",
        vmin=0,
        vmax=1,
        interpolation="antialiased" if smooth else "nearest",
    )
    axes.set_axis_off()


def _map(
    axes: Axes,
    values: NDArray[Any],
    signed: bool,
    extent: tuple[float, float, float, float] | None = None,
) -> AxesImage:
    values = np.asarray(values, dtype=np.float64)
    finite = values[np.isfinite(values)]
    reach = float(np.abs(finite).max()) if finite.size else 0.0
    reach = reach or 1.0
    drawn = axes.imshow(
        values,
        cmap=SIGNED if signed else UNSIGNED,
        vmin=-reach if signed else 0.0,
        vmax=reach,
        extent=extent,
        interpolation="nearest",
    )
    axes.set_axis_off()
    return drawn


def _title(axes: Axes, title: str, inches: float, size: float = 10) -> None:
    axes.set_title(_shortened(title, inches, size), fontsize=size, parse_math=False)


def _left_title(axes: Axes, title: str, inches: float) -> None:
    axes.set_title(_shortened(title, inches, 10), fontsize=10, loc="left", parse_math=False)


def _shortened(title: str, inches: float, size: float) -> str:
    # The middle is cut: classes are told apart by their beginning, layers by their end. A letter
    # is a little wider than half its height.
    limit = min(_MAX_LABELS, max(8, int(inches * 72 / (0.56 * size))))
    return "\n".join(
        line if len(line) <= limit else f"{line[: limit // 2]}…{line[-((limit - 1) // 2) :]}"
        for line in title.split("\n")
    )


def _same_length(what: str, values: Sequence[Any] | NDArray[Any] | None, count: int) -> None:
    if count == 0:
        raise InvalidOption("there is nothing to draw")
    if values is not None and len(values) != count:
        raise InvalidOption(f"there are {len(values)} {what} for {count} pictures")
