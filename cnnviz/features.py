"""What the layers respond to in given pictures: feature maps and the profile of the channels."""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from cnnviz import images as pictures
from cnnviz.adapter import INPUT, LOGITS, OUTPUT, Adapter
from cnnviz.discovery import adapt
from cnnviz.errors import ChannelOutOfRange, InvalidOption, UnknownLayer
from cnnviz.figures import figure_png, profile_figure, sheet_figure, signed_figure
from cnnviz.files import write_arrays
from cnnviz.grids import token_grid
from cnnviz.pictures import picture_batch
from cnnviz.stages import last_spatial, why_last

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FeatureMaps", "Profile", "feature_maps"]

Normalise = Literal["channel", "layer", "zero"]

# A colour, since every grey may be at the edge of a map.
_MARGIN = (0.72, 0.78, 0.86)


@dataclass(frozen=True, eq=False)
class Profile:
    """How strongly each channel of a layer responds, on average.

    Attributes
    ----------
    layer : str
        The layer.
    values : array
        ``(C,)``, float64: the mean activation over all pictures and places.
    """

    layer: str
    values: NDArray[np.float64]

    def rank(self, channel: int) -> int:
        """Say how many channels respond at least as strongly: 1 is the strongest.

        Equal channels share the better rank.

        Raises
        ------
        ChannelOutOfRange
            There is no such channel; negative ones do not count from the end.
        """
        _check_channel(self.layer, channel, len(self.values))
        return 1 + int(np.sum(self.values > self.values[channel]))

    def strongest(self, count: int = 10) -> list[int]:
        """Name the channels that respond most, the strongest first."""
        return [int(i) for i in np.argsort(-self.values, kind="stable")[:count]]

    def plot(self, mark: int | None = None) -> Figure:
        """Draw the mean activation over the channels; `mark` one and its rank is said.

        Raises
        ------
        ChannelOutOfRange
            There is no channel `mark`.
        """
        if mark is not None:
            _check_channel(self.layer, mark, len(self.values))
        return profile_figure(self.values, mark, self.layer, ylabel="mean activation")

    def to_json(self) -> dict[str, Any]:
        """Give layer and values, of what JSON knows."""
        return {"layer": self.layer, "values": self.values.tolist()}

    def _repr_png_(self) -> bytes:
        return figure_png(self.plot())


@dataclass(frozen=True, eq=False)
class FeatureMaps:
    """The activations of some layers for some pictures.

    Attributes
    ----------
    maps : mapping of str to array
        By layer, as it was asked for: ``(N, H, W, C)``, or ``(N, C)`` or ``(N, T, C)`` where
        the layer has no height and width.
    images : array
        ``(N, H, W, C)`` in [0, 1]: the pictures as the network saw them, not normalised.
    tokens : mapping of str to (int, (int, int))
        For each layer of tokens how many come before those of the grid, such as a class token,
        and the grid's height and width.
    notes : tuple of str
        What a reader must know: which layer was chosen.
    """

    maps: Mapping[str, NDArray[Any]]
    images: NDArray[Any]
    tokens: Mapping[str, tuple[int, tuple[int, ...]]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers, in the order asked for."""
        return tuple(self.maps)

    def __getitem__(self, layer: str) -> NDArray[Any]:
        if layer not in self.maps:
            raise UnknownLayer(layer, self.maps)
        return self.maps[layer]

    def grid(self, layer: str) -> NDArray[Any]:
        """Give the maps of a layer, its tokens laid out as ``(N, h, w, C)``.

        Class tokens and registers are left out; other layers come as in `maps`.
        """
        maps = self[layer]
        if layer not in self.tokens:
            return maps
        before, grid = self.tokens[layer]
        places = maps[:, before : before + math.prod(grid)]
        return places.reshape(len(maps), *grid, maps.shape[-1])

    def profile(self, layer: str | None = None) -> Profile:
        """Average each channel of a layer over all pictures and places.

        Parameters
        ----------
        layer : str, optional
            May be left out where there is only one.
        """
        layer = self._one(layer)
        maps = self[layer]
        return Profile(layer, maps.mean(axis=tuple(range(maps.ndim - 1)), dtype=np.float64))

    def dead(self, layer: str | None = None) -> list[int]:
        """Name the channels that are black everywhere: exactly zero in every picture given."""
        maps = self[self._one(layer)]
        alive = np.any(maps != 0, axis=tuple(range(maps.ndim - 1)))
        return [int(channel) for channel in np.flatnonzero(~alive)]

    def sheet(
        self,
        layer: str | None = None,
        image: int = 0,
        first: int | Sequence[int] = 64,
        columns: int = 8,
        normalise: Normalise = "channel",
        scale: int | None = None,
    ) -> NDArray[Any]:
        """Lay the grey maps of a layer out as one picture.

        Parameters
        ----------
        layer : str, optional
            May be left out where there is only one.
        image : int
            Which of the pictures.
        first : int or sequence of int
            How many channels from the first on (fewer if the layer has fewer), or which ones.
        columns : int
            Maps in a row.
        normalise : {"channel", "layer", "zero"}
            ``"channel"`` stretches each map from its least to its most; one that is the same
            everywhere is black. ``"layer"`` stretches all alike, by the least and the most of
            those shown, so that their brightness can be compared. ``"zero"`` keeps the sign of
            each map: zero is mid grey.

        Returns
        -------
        array
            ``(H, W, 3)`` in [0, 1], as `cnnviz.images.grid` lays it out.

        Raises
        ------
        UnknownLayer
            The layer is not among those computed.
        ChannelOutOfRange
            There is no such picture or channel.
        InvalidOption
            The layer has no height and width, or an option is wrong.
        """
        layer = self._one(layer)
        maps = self.grid(layer)
        if maps.ndim != 4:
            raise InvalidOption(
                f"{layer} has no height and width, its shape is {maps.shape}; use .profile()"
            )
        if not 0 <= image < len(maps):
            raise ChannelOutOfRange("picture", image, len(maps))
        if columns < 1:
            raise InvalidOption(f"columns must be at least 1, not {columns}")
        shown = np.moveaxis(maps[image], -1, 0)[self._channels(layer, first)]
        if normalise in ("channel", "zero"):
            shown = pictures.normalise(shown, "zero" if normalise == "zero" else "minmax")
        elif normalise == "layer":
            low, high = float(shown.min()), float(shown.max())
            shown = (shown - low) / (high - low if high > low else 1)
        else:
            raise InvalidOption(
                f"normalise must be 'channel', 'layer' or 'zero', not {normalise!r}"
            )
        scale = max(1, round(64 / max(shown.shape[1:]))) if scale is None else scale
        if scale < 1:
            raise InvalidOption(f"scale must be at least 1, not {scale}")
        shown = shown.repeat(scale, axis=1).repeat(scale, axis=2)
        return pictures.grid(shown, columns=min(columns, len(shown)), background=_MARGIN)

    def plot(
        self,
        layer: str | None = None,
        image: int = 0,
        first: int | Sequence[int] = 64,
        columns: int = 8,
        normalise: Normalise = "channel",
        scale: int | None = None,
    ) -> Figure:
        """Draw the sheet of a layer, or its profile where it has no height and width.

        The channels of a layer on a signal are rows of one map.

        Parameters and errors are those of `sheet`.
        """
        layer = self._one(layer)
        maps = self.grid(layer)
        if maps.ndim == 3 and self.images.ndim == 3:
            values = maps[image].T[self._channels(layer, first)]
            return signed_figure(values, f"{layer}: a row for each channel", stretched=True)
        if maps.ndim != 4:
            return self.profile(layer).plot()
        sheet = self.sheet(layer, image, first, columns, normalise, scale)
        shown = len(self._channels(layer, first))
        title = f"{layer}: {shown} of {maps.shape[-1]} channels"
        dead = self.dead(layer)
        if dead:
            title += f"\n{len(dead)} dead: {', '.join(map(str, dead[:8]))}"
            title += ", …" if len(dead) > 8 else ""
        return sheet_figure(sheet, title)

    def save(self, path: str | Path) -> Path:
        """Write the activations by layer (``.npz``), or the sheet of the only layer (``.png``).

        Raises
        ------
        InvalidOption
            The suffix is neither, or a picture is asked of several layers.
        """
        path = Path(path)
        match path.suffix.lower():
            case ".npz":
                write_arrays(path, self.maps)
            case ".png":
                pictures.save(path, self.sheet())
            case suffix:
                raise InvalidOption(f"feature maps are saved as .npz or .png, not {suffix!r}")
        return path

    def __repr__(self) -> str:
        shapes = ", ".join(f"{layer} {maps.shape}" for layer, maps in self.maps.items())
        return f"<FeatureMaps {shapes}>"

    def _repr_png_(self) -> bytes:
        return figure_png(self.plot(self.layers[0]))

    def _repr_html_(self) -> str:
        parts = []
        for layer in self.layers:
            data = base64.b64encode(figure_png(self.plot(layer))).decode("ascii")
            parts.append(f'<img alt="{html.escape(layer)}" src="data:image/png;base64,{data}">')
        return "\n".join(parts)

    def _one(self, layer: str | None) -> str:
        if layer is not None:
            return layer
        if len(self.maps) != 1:
            raise InvalidOption(f"say which layer: {', '.join(self.maps)}")
        return self.layers[0]

    def _channels(self, layer: str, first: int | Sequence[int]) -> list[int]:
        count = self[layer].shape[-1]
        if not isinstance(first, int):
            for channel in first:
                _check_channel(layer, channel, count)
            if len(first) == 0:
                raise InvalidOption("no channel is asked for")
            return [int(channel) for channel in first]
        if first < 1:
            raise InvalidOption(f"first must be at least 1, not {first}")
        return list(range(min(first, count)))


def feature_maps(
    net: Any,
    images: pictures.ImagesLike,
    layers: str | Sequence[str] | None = None,
    *,
    size: int | tuple[int, int] | None = None,
    batch: int = 8,
) -> FeatureMaps:
    """Compute the activations of layers for pictures, all layers in one pass.

    Parameters
    ----------
    net : model or Adapter
        The network.
    images : path, Pillow image, array or list of these
        The pictures.
    layers : str or sequence of str, optional
        Names of layers, or `cnnviz.INPUT`, `cnnviz.OUTPUT`, `cnnviz.LOGITS`; by default the
        last stage that has maps (`cnnviz.stages.last_spatial`).
    size : int or (int, int), optional
        Height and width to resize to; by default what the network was trained on.
    batch : int
        Pictures that run at once; it changes the memory needed, not the result.

    Returns
    -------
    FeatureMaps
        With `.maps` by layer, as numpy.

    Raises
    ------
    UnknownLayer
        The network has no such layer; the error names the closest.
    TapNotReached
        The network does not run through the layer.
    InvalidImage, UnknownPreprocessing
        See `cnnviz.pictures.picture_batch`.
    InvalidOption
        No layer is asked for, or `batch` is below one.
    """
    net = adapt(net)
    if batch < 1:
        raise InvalidOption(f"batch must be at least 1, not {batch}")
    # First, since a network that tells no size lists its layers at that of the pictures.
    x = picture_batch(net, images, size)
    taps = _taps(net, layers)
    chunks: dict[str, list[NDArray[Any]]] = {name: [] for name in taps}
    for start in range(0, len(x), batch):
        found = net.forward(net.ops.asarray(x[start : start + batch]), taps=set(taps.values()))
        for name, tap in taps.items():
            chunks[name].append(net.ops.to_numpy(found[tap]))
    maps = {name: np.concatenate(parts) for name, parts in chunks.items()}
    tokens = {}
    for name, tap in taps.items():
        layer = None if tap in (INPUT, OUTPUT, LOGITS) else net.layer(tap)
        if layer is not None and layer.tokens:
            tokens[name] = token_grid(net, layer, maps[name].shape[1], x.shape[1:-1])
    notes = []
    if layers is None:
        (tap,) = taps.values()
        notes.append(f"taken at {tap!r}, {why_last(net.layer(tap))}")
    return FeatureMaps(maps, x, tokens, tuple(notes))


def _taps(net: Adapter[Any], layers: str | Sequence[str] | None) -> dict[str, str]:
    """Map the names asked for to those that the adapter lists."""
    if layers is None:
        return {name: name for name in [last_spatial(net).name]}
    names = [layers] if isinstance(layers, str) else list(layers)
    if not names:
        raise InvalidOption("no layer is asked for")
    special = (INPUT, OUTPUT, LOGITS)
    return {name: name if name in special else net.layer(name).name for name in names}


def _check_channel(layer: str, channel: int, count: int) -> None:
    if not 0 <= channel < count:
        raise ChannelOutOfRange(f"{layer} channel", channel, count)
