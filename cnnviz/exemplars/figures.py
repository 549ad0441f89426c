"""Figures of exemplars: a channel with its images and histogram, a profile within a data set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.exemplars.statistics import EDGES
from cnnviz.features import Profile
from cnnviz.figures import profile_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from cnnviz.exemplars.pictures import Pictures
    from cnnviz.exemplars.result import LayerExemplars

__all__ = ["channel_figure", "profile_in_data"]

_SIDE = 1.25
_INK, _MARK, _FAINT = "#3b5b7e", "#d1495b", "#8a8f98"


def channel_figure(pictures: Pictures, layer: LayerExemplars, channel: int) -> Figure:
    """Draw one channel: its best patches, the images about them, quartiles, and its histogram.

    Parameters
    ----------
    pictures : Pictures
    layer : LayerExemplars
    channel : int
    """
    from matplotlib.figure import Figure

    top = layer.top(channel)
    quartiles = layer.quantiles(channel, 4, 2)
    columns = max(len(top), 8)
    figure = Figure(figsize=(_SIDE * columns, _SIDE * 3 + 2.4), layout="constrained")
    grid = figure.add_gridspec(4, columns, height_ratios=[1, 1, 1, 1.1])
    rows = [
        [(pictures.patch(e), f"{e.value:.3g}") for e in top],
        [(pictures.whole(e), "") for e in top],
        [
            (pictures.whole(e), f"{name}: {e.value:.2g}")
            for name, part in zip(("lowest", "2nd", "3rd", "highest"), quartiles, strict=True)
            for e in part
        ],
    ]
    names = ("what it sees", "in the image", "quarters")
    for i, row in enumerate(rows):
        for k, (picture, title) in enumerate(row[:columns]):
            axes = figure.add_subplot(grid[i, k])
            axes.imshow(picture.clip(0, 1), interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
            axes.set_title(title, fontsize=7, pad=2)
            if k == 0:
                axes.set_ylabel(names[i], fontsize=8)
    axes = figure.add_subplot(grid[3, :])
    _histogram(axes, layer, channel)
    statistics = layer.statistics
    figure.suptitle(
        f"{layer.layer}, channel {channel}: mean {statistics.mean[channel]:.3g},"
        f" std {statistics.std[channel]:.3g}, zero at {statistics.zero_share[channel]:.0%}",
        fontsize=10,
        parse_math=False,
    )
    return figure


def _histogram(axes: Any, layer: LayerExemplars, channel: int) -> None:
    """Draw shares of activations on an axis that is linear about zero and logarithmic beyond."""
    counts = layer.statistics.histogram[channel].astype(np.float64)
    share = counts / max(counts.sum(), 1)
    low, high = float(layer.statistics.min[channel]), float(layer.statistics.max[channel])
    edges = EDGES.copy()
    edges[0], edges[-1] = min(low, edges[1] * 2), max(high, edges[-2] * 2)
    used = np.flatnonzero(counts)
    axes.set_yticks([])
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(labelsize=7)
    axes.set_xlabel("activation (some places of every image)", fontsize=8)
    if not len(used):
        return
    # Linear below a hundredth of the largest, where the rest is too small to be told apart.
    large = max(abs(low), abs(high)) or 1.0
    axes.set_xscale("symlog", linthresh=large / 100, linscale=0.3)
    first, last = used[0], used[-1] + 1
    axes.stairs(share[first:last], edges[first : last + 1], fill=True, color=_INK)
    axes.axvline(float(layer.statistics.mean[channel]), color=_MARK, lw=0.9)
    axes.set_xlim(min(low, 0) - large / 100, max(high, 0) * 1.3 + large / 100)


def profile_in_data(
    layer: LayerExemplars, profile: Profile | NDArray[Any], mark: int | None = None
) -> Figure:
    """Draw the profile of a picture over what a data set's images give: 5 to 95 % in grey.

    Parameters
    ----------
    layer : LayerExemplars
    profile : Profile or array
        ``(C,)``, the mean activation of each channel in a picture; see
        `cnnviz.FeatureMaps.profile`.
    mark : int, optional
        The channel to mark.

    Raises
    ------
    InvalidOption
        It has another number of channels.
    ChannelOutOfRange
        There is no channel `mark`.
    """
    from cnnviz.errors import InvalidOption

    values = profile.values if isinstance(profile, Profile) else np.asarray(profile)
    if values.shape != (layer.channels,):
        raise InvalidOption(
            f"the profile has {values.size} channels and {layer.layer} has {layer.channels}"
        )
    figure = profile_figure(values, mark, layer.layer, ylabel="mean activation")
    axes = figure.axes[0]
    low, middle, high = layer.image_means((0.05, 0.5, 0.95))
    x = np.arange(layer.channels)
    axes.fill_between(x, low, high, color=_FAINT, alpha=0.35, lw=0, zorder=0)
    axes.plot(x, middle, color=_FAINT, lw=0.8, zorder=0)
    return figure
