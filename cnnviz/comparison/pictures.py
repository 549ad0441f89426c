"""What two networks show, in two columns, and where they differ, in a third."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from cnnviz import images as photos
from cnnviz.adapter import Adapter
from cnnviz.ascent import ascend
from cnnviz.attribution.methods import METHODS, attribute
from cnnviz.attribution.settings import require_count
from cnnviz.comparison.comparing import opened
from cnnviz.comparison.matching import Pair, match_layers
from cnnviz.comparison.probes import Probe, weights_by_role
from cnnviz.errors import ChannelOutOfRange, InvalidOption
from cnnviz.features import feature_maps
from cnnviz.figures import SIGNED, UNSIGNED, figure_png
from cnnviz.files import write_bytes
from cnnviz.images import ImagesLike
from cnnviz.pictures import picture_batch, picture_size

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["SideBySide", "SideRow", "side_by_side"]

Array = NDArray[Any]
Kind = Literal["picture", "map", "heat", "bars"]

_BINS = 48


@dataclass(frozen=True)
class SideRow:
    """One thing that both networks show, on one scale.

    Attributes
    ----------
    title : str
    kind : {"picture", "map", "heat", "bars"}
        ``"heat"`` is laid over a photo, ``"bars"`` are counts of a histogram.
    ours, theirs : array
        ``(H, W)``, ``(H, W, 3)`` in [0, 1] for pictures, ``(bins,)`` for bars.
    photo : array, optional
        ``(H, W, 3)``, below the heat.
    """

    title: str
    kind: Kind
    ours: Array
    theirs: Array
    photo: Array | None = None

    @property
    def scale(self) -> float:
        """The largest magnitude of both, which is the end of the colours."""
        return float(max(np.abs(self.ours).max(), np.abs(self.theirs).max()))

    @property
    def difference(self) -> Array:
        """The second less the first."""
        return np.asarray(self.theirs - self.ours)

    @property
    def relative(self) -> float:
        """The largest difference as a part of the scale."""
        return float(np.abs(self.difference).max()) / self.scale if self.scale > 0 else 0.0


@dataclass(frozen=True)
class SideBySide:
    """Two networks side by side.

    Attributes
    ----------
    names : (str, str)
        Of the networks, with their frameworks.
    rows : tuple of SideRow
    """

    names: tuple[str, str]
    rows: tuple[SideRow, ...]

    def tiles(self) -> list[list[Array]]:
        """Give three pictures ``(H, W, 3)`` in [0, 1] a row: both networks and the difference.

        The difference has the scale of the row; where it is below a hundredth of that, it is
        white, as it should be.
        """
        return [_tiles(row) for row in self.rows]

    def plot(self) -> Figure:
        """Draw all rows, with names."""
        from cnnviz.comparison.plots import side_by_side_figure

        return side_by_side_figure(self)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the figure as a PNG.

        Raises
        ------
        InvalidOption
            The suffix is another.
        """
        target = Path(path)
        if target.suffix.lower() != ".png":
            raise InvalidOption(f"a sheet is saved as .png, not {target.suffix!r}")
        return write_bytes(target, figure_png(self.plot()))

    def __repr__(self) -> str:
        return f"<SideBySide {self.names[0]} and {self.names[1]}: {len(self.rows)} rows>"

    def _repr_png_(self) -> bytes:
        return figure_png(self.plot())


def side_by_side(
    a: Any,
    b: Any,
    images: ImagesLike | None = None,
    show: str = "grad_cam",
    *,
    layer: str | None = None,
    layers: Mapping[str, str] | None = None,
    channels: int | Sequence[int] = 4,
    target: Any = None,
    size: int | tuple[int, int] | None = None,
    **options: Any,
) -> SideBySide:
    """Show the same of two networks in two columns and the difference in a third, on one scale.

    Parameters
    ----------
    a, b : model or Adapter
        Of any framework. Layers are matched as by `compare`.
    images : path, Pillow image, array or list of these, optional
        Not needed for ``"ascent"`` and ``"weights"``.
    show : str
        ``"feature_maps"`` of a layer, ``"ascent"`` of channels of a layer or of a class,
        ``"weights"`` as histograms, or any method of `cnnviz.METHODS`.
    layer : str, optional
        Of `a`; for weights all layers that have some, by default.
    layers : mapping of str to str, optional
        From layers of `a` to layers of `b`, where they are not matched rightly.
    channels : int or sequence of int
        How many, or which; by default four: of maps the strongest in `a`, to ascend the first.
    target : optional
        Of an attribution, or the class of an ascent: by default what `a` predicts.
    size : int or (int, int), optional
    **options
        Settings of the method, or of `ascend`.

    Returns
    -------
    SideBySide

    Raises
    ------
    InvalidOption
        It cannot be shown, or the layer has no counterpart.
    UnknownLayer, ChannelOutOfRange, InvalidImage
        An argument is wrong.
    """
    one, two = opened(a, b)
    known = ("feature_maps", "ascent", "weights", *METHODS)
    if show not in known:
        raise InvalidOption(f"show is one of {', '.join(known)}, not {show!r}")
    if images is None and show not in ("ascent", "weights"):
        raise InvalidOption(f"{show} is of images; give some")
    if show in METHODS:
        rows = _attributions((one, two), images, show, layer, layers, target, size, options)
    elif show == "feature_maps":
        rows = _maps((one, two), images, layer, layers, channels, size, options)
    elif show == "ascent":
        rows = _ascents((one, two), layer, layers, channels, target, size, options)
    else:
        rows = _histograms((one, two), layer, layers, size, options)
    return SideBySide((one.title, two.title), tuple(rows))


Nets = tuple[Adapter[Any], Adapter[Any]]


def _pairs(nets: Nets, given: Mapping[str, str] | None, size: Any = None) -> list[Pair]:
    side = picture_size(nets[0], size) or picture_size(nets[1], size) or (64, 64)
    shape = (1, *side, nets[0].input_shape[-1])
    noise = np.random.default_rng(0).uniform(0, 1, shape).astype(np.float32)
    matching = match_layers(Probe.of(nets[0], noise), Probe.of(nets[1], noise), given)
    return list(matching.pairs)


def _counterpart(nets: Nets, layer: str, given: Mapping[str, str] | None, size: Any) -> str:
    name = nets[0].layer(layer).name
    for pair in _pairs(nets, given, size):
        if name in pair.layers:
            return pair.other if name == pair.name else pair.other_main
    raise InvalidOption(
        f"{name!r} has no counterpart in {nets[1].name}; name it in layers={{{name!r}: ...}}"
    )


def _attributions(
    nets: Nets,
    images: Any,
    method: str,
    layer: str | None,
    layers: Mapping[str, str] | None,
    target: Any,
    size: Any,
    options: Mapping[str, Any],
) -> list[SideRow]:
    first = attribute(nets[0], images, method, target, layer, size=size, **options)
    if target is None:
        target = list(first.target)
    other = None if layer is None else _counterpart(nets, layer, layers, size)
    second = attribute(nets[1], images, method, target, other, size=size, **options)
    below = _rgb(picture_batch(nets[0], images, size))
    rows = []
    for i, (ours, theirs) in enumerate(zip(first.raw, second.raw, strict=True)):
        if ours.shape != theirs.shape:
            raise InvalidOption(
                f"the maps are {ours.shape} and {theirs.shape}; name layers of one size"
            )
        photo = below[i] if len(below) == len(first.raw) else below[0]
        title = f"{method}: {first.names[i]}"
        rows.append(SideRow(title, "heat", ours, theirs, photo))
    return rows


def _maps(
    nets: Nets,
    images: Any,
    layer: str | None,
    layers: Mapping[str, str] | None,
    channels: int | Sequence[int],
    size: Any,
    options: Mapping[str, Any],
) -> list[SideRow]:
    _no(options, "feature maps")
    if layer is None:
        raise InvalidOption("name the layer whose feature maps are shown")
    other = _counterpart(nets, layer, layers, size)
    name = nets[0].layer(layer).name
    first = feature_maps(nets[0], images, name, size=size).grid(name)
    second = feature_maps(nets[1], images, other, size=size).grid(other)
    if first.ndim != 4 or first.shape != second.shape:
        raise InvalidOption(f"{name!r} and {other!r} give no maps of one shape")
    chosen = _chosen(channels, first.mean((0, 1, 2)), name)
    return [
        SideRow(f"{name}:{k}", "map", ours[..., k], theirs[..., k])
        for ours, theirs in zip(first, second, strict=True)
        for k in chosen
    ]


def _ascents(
    nets: Nets,
    layer: str | None,
    layers: Mapping[str, str] | None,
    channels: int | Sequence[int],
    target: Any,
    size: Any,
    options: Mapping[str, Any],
) -> list[SideRow]:
    from cnnviz.ascent import objectives

    asked: list[tuple[str, Any, Any]] = []
    if layer is None:
        if target is None:
            raise InvalidOption("name a layer, or a class by target=, to ascend")
        for one in target if isinstance(target, (list, tuple)) else [target]:
            asked.append((f"class {one}", objectives.class_logit(one), objectives.class_logit(one)))
    else:
        other = _counterpart(nets, layer, layers, size)
        name = nets[0].layer(layer).name
        width = nets[0].layer(name).channels or 1
        # Of equal strength the first are chosen.
        for k in _chosen(channels, np.zeros(width), name):
            asked.append((f"{name}:{k}", objectives.channel(name, k), objectives.channel(other, k)))
    rows = []
    for title, ours, theirs in asked:
        made = [
            ascend(net, wanted, size=size, **options)
            for net, wanted in zip(nets, (ours, theirs), strict=True)
        ]
        rows.append(SideRow(title, "picture", made[0].shown[0], made[1].shown[0]))
    return rows


def _histograms(
    nets: Nets,
    layer: str | None,
    layers: Mapping[str, str] | None,
    size: Any,
    options: Mapping[str, Any],
) -> list[SideRow]:
    _no(options, "histograms of weights")
    wanted = None if layer is None else nets[0].layer(layer).name
    rows = []
    for pair in _pairs(nets, layers, size):
        if wanted is not None and pair.main != wanted:
            continue
        ours = weights_by_role(nets[0], pair.main)
        theirs = weights_by_role(nets[1], pair.other_main)
        for role in (role for role in ours if role in theirs):
            a, b = ours[role][1], theirs[role][1]
            if wanted is None and role != "kernel":
                continue
            low, high = min(a.min(), b.min()), max(a.max(), b.max())
            span = (float(low), float(high)) if high > low else (float(low) - 1, float(high) + 1)
            counts = [np.histogram(x, _BINS, span)[0] / x.size for x in (a, b)]
            title = f"{pair.main} {role}: {span[0]:.3g} to {span[1]:.3g}"
            rows.append(SideRow(title, "bars", counts[0], counts[1]))
    if not rows:
        where = "both networks" if wanted is None else f"{wanted!r} and its counterpart"
        raise InvalidOption(f"{where} have no weights to compare")
    return rows


def _chosen(channels: int | Sequence[int], strength: Array, name: str) -> list[int]:
    if isinstance(channels, int):
        count = min(require_count("channels", channels), len(strength))
        return [int(k) for k in np.argsort(-strength, kind="stable")[:count]]
    if not len(channels):
        raise InvalidOption("no channel is asked for")
    for k in channels:
        if not 0 <= k < len(strength):
            raise ChannelOutOfRange(f"channel of {name!r}", k, len(strength))
    return [int(k) for k in channels]


def _no(options: Mapping[str, Any], what: str) -> None:
    if options:
        raise InvalidOption(f"{what} take no {next(iter(options))!r}")


def _tiles(row: SideRow) -> list[Array]:
    scale = row.scale or 1.0
    if row.kind == "picture":
        shift = row.difference.mean(-1)
        return [row.ours, row.theirs, _coloured(shift / scale, SIGNED)]
    if row.kind == "bars":
        return [_bars(row.ours / scale), _bars(row.theirs / scale), _bars(row.difference / scale)]
    signed = min(row.ours.min(), row.theirs.min()) < 0
    both = []
    for values in (row.ours, row.theirs):
        share = values / scale
        if row.photo is None:
            both.append(_coloured(share, SIGNED if signed else UNSIGNED, signed))
        else:
            big = photos.resize(
                np.maximum(share, 0).astype(np.float32)[..., None], row.photo.shape[:2]
            )
            both.append(photos.overlay(row.photo, np.clip(big[..., 0], 0, 1), 0.5))
    return [*both, _coloured(row.difference / scale, SIGNED)]


def _coloured(share: Array, cmap: str, signed: bool = True) -> Array:
    from matplotlib import colormaps

    place = (share + 1) / 2 if signed else share
    return np.asarray(colormaps[cmap](np.clip(place, 0, 1))[..., :3])


def _bars(share: Array) -> Array:
    """Draw shares in [-1, 1] as bars of four pixels; what is below zero hangs down."""
    height = 64
    floor = 0.5 if share.min() < 0 else 1.0
    rows = (np.arange(height) + 0.5)[:, None] / height
    top = floor - np.maximum(share, 0) * floor
    bottom = floor + np.maximum(-share, 0) * (1 - floor)
    filled = (rows >= top) & (rows <= bottom)
    picture = np.where(filled[..., None], (0.0, 0.447, 0.698), 1.0)
    return np.repeat(picture, 4, axis=1)


def _rgb(pictures: Array) -> Array:
    return pictures if pictures.shape[-1] == 3 else np.repeat(pictures[..., :1], 3, -1)
