"""What an attribution gives back: the map, raw and as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cnnviz import images
from cnnviz.attribution import drawing
from cnnviz.attribution.card import Card
from cnnviz.attribution.drawing import Interpolation
from cnnviz.errors import InvalidOption
from cnnviz.files import write_arrays
from cnnviz.images import ImageLike

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Attribution", "above"]


def above(raw: NDArray[Any], base: NDArray[Any]) -> NDArray[Any]:
    """Count the numbers of each map from its base."""
    return np.asarray(raw - base.reshape(-1, *(1,) * (raw.ndim - 1)))


@dataclass(frozen=True)
class Attribution:
    """Where the score of a class comes from, for each picture.

    Attributes
    ----------
    raw : array
        ``(N, h, w)``, signed, at the layer's own resolution: no ReLU, no scaling. ``(N, l)``
        for signals, ``(N, d, h, w)`` for volumes; so are `map` and `images`.
    map : array
        ``(N, H, W)`` in [0, 1], at the size of the pictures: ReLU, enlarged, divided by its
        maximum. All zero where `raw` is nowhere positive; `notes` then says why.
    images : array
        ``(N, H, W, C)``: the pictures as the network saw them, before normalisation.
    target : tuple of int or None
        The class of each map; None where no class is explained.
    names : tuple of str
        Its name, or ``"class 281"``.
    score : array
        ``(N,)``: what the network gives the picture; see `score_kind`.
    layer : str
        Where the map was taken.
    method : str
        Such as ``"grad_cam"``.
    network, framework : str
        Whose maps they are.
    values : array or None
        ``(N, H, W, C)``: of methods at the picture, the signed number of each pixel and channel.
    score_kind : str
        ``"logit"`` or ``"probability"`` of a class, ``"objective"``, ``"region"``, ``"function"``.
    empty : tuple of str
        Why a map is empty; an empty text for those that are not.
    fuse : str
        How several layers became one map, each cut at zero and scaled to [0, 1] before; empty
        for one layer.
    facts : mapping of str to array
        Further numbers ``(N,)``, such as ``"residue"``: what of the score the map does not
        account for.
    base : array or None
        ``(N,)``: the number in `raw` that says nothing, which `map` and pictures count from. Zero
        but for RISE, whose numbers are all above zero: there it is the least of each map.
    forwards, backwards : int
        How many pictures the network was run on, and how many derivatives were taken.
    notes : tuple of str
        What a reader must know: which layer was chosen, that a softmax was stepped over, why
        a map is empty.
    """

    raw: NDArray[Any]
    map: NDArray[Any]
    images: NDArray[Any]
    target: tuple[int | None, ...]
    names: tuple[str, ...]
    score: NDArray[Any]
    layer: str
    method: str
    network: str
    framework: str
    notes: tuple[str, ...] = ()
    values: NDArray[Any] | None = None
    score_kind: str = "logit"
    empty: tuple[str, ...] = ()
    facts: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    base: NDArray[Any] | None = None
    forwards: int = 0
    backwards: int = 0
    fuse: str = ""

    def __repr__(self) -> str:
        at = f" at {self.layer!r}" if self.layer else ""
        names = list(dict.fromkeys(self.names))
        named = ", ".join(names[:3]) + ", ..." * (len(names) > 3)
        return f"<Attribution {self.method}{at} of {named}: raw {self.raw.shape}>"

    @property
    def cards(self) -> tuple[Card, ...]:
        """What each map is, in numbers and words."""
        found = []
        for i, raw in enumerate(self.raw):
            size = float(np.abs(raw).sum())
            below = float(np.abs(raw[raw < 0]).sum())
            found.append(
                Card(
                    method=self.method,
                    network=self.network,
                    framework=self.framework,
                    layer=self.layer,
                    target=self.target[i],
                    name=self.names[i],
                    score_kind=self.score_kind,
                    score=float(self.score[i]),
                    low=float(raw.min()),
                    high=float(raw.max()),
                    negative=below / size if below > 0 else 0.0,
                    empty=self.empty[i] if self.empty else "",
                    fuse=self.fuse,
                    facts={key: float(fact[i]) for key, fact in self.facts.items()},
                )
            )
        return tuple(found)

    @property
    def signed(self) -> NDArray[Any]:
        """The maps with their sign, ``(N, H, W)`` in [-1, 1]: enlarged, over their largest size."""
        sides = self.map.shape[1:]
        raw = self._above
        if raw.shape[1:] != sides:
            raw = images.enlarge(raw, sides)
        top = np.abs(raw).max(axis=tuple(range(1, raw.ndim)), keepdims=True)
        return np.clip(raw / np.where(top > np.finfo(raw.dtype).tiny, top, np.inf), -1, 1)

    def heat(
        self,
        interpolation: Interpolation = "bilinear",
        percentile: float | None = None,
        size: tuple[int, int] | None = None,
    ) -> NDArray[Any]:
        """Give the maps as they are drawn, ``(N, H, W)`` in [0, 1].

        Parameters
        ----------
        interpolation : {"bilinear", "bicubic", "nearest"}
            How a coarse map is enlarged; ``"nearest"`` shows its cells.
        percentile : float, optional
            What is above it is drawn as 1. By default the maximum of a class activation map,
            and 99 of numbers by pixel, of which a few are far above all others.
        size : (int, int), optional
            Height and width in place of the pictures'.
        """
        sides = size or self.map.shape[1:]
        return drawing.heat(self._above, sides, interpolation, self._percentile(percentile))

    @property
    def _above(self) -> NDArray[Any]:
        return self.raw if self.base is None else above(self.raw, self.base)

    def _percentile(self, given: float | None) -> float:
        return given if given is not None else 100.0 if self.values is None else 99.0

    def overlay(
        self,
        image: ImageLike | None = None,
        alpha: float | None = None,
        cmap: str | None = None,
        *,
        interpolation: Interpolation = "bilinear",
        percentile: float | None = None,
        signed: bool = False,
    ) -> NDArray[Any]:
        """Lay the maps over the pictures, ``(N, H, W, 3)``.

        Parameters
        ----------
        image : path, Pillow image or array, optional
            The photo of a single map in its own size, in place of what the network saw.
        alpha : float, optional
            Share of the heat; the photo has the rest. 0.3, or 0.9 where signs are drawn.
        cmap : str, optional
            Name of a matplotlib colour map; ``"jet"``, or ``"RdBu_r"`` where signs are drawn.
        interpolation, percentile
            As for `heat`.
        signed : bool
            Whether to draw what speaks against the target as well, over the photo in grey.

        Raises
        ------
        InvalidOption
            An option cannot be meant, or there are no pictures to lay maps over.
        """
        photos, size = self._photos(image)
        if signed:
            share = drawing.signed_share(
                self._above, size, interpolation, self._percentile(percentile)
            )
            return drawing.signed_overlay(
                photos, share, 0.9 if alpha is None else alpha, cmap or "RdBu_r"
            )
        heat = self.heat(interpolation, percentile, size)
        return images.overlay(photos, heat, 0.3 if alpha is None else alpha, cmap or "jet")

    def contour(
        self,
        levels: float | Sequence[float] = (0.5,),
        image: ImageLike | None = None,
        *,
        colour: Sequence[float] = (1.0, 0.85, 0.0),
        interpolation: Interpolation = "bilinear",
        percentile: float | None = None,
    ) -> NDArray[Any]:
        """Draw the outlines of where the maps are at least so high, ``(N, H, W, 3)``.

        Parameters
        ----------
        levels : float or sequence of float
            Shares of the maximum, in (0, 1].
        image, interpolation, percentile
            As for `overlay`.
        colour : sequence of float
            RGB in [0, 1].
        """
        shares = [levels] if isinstance(levels, (int, float, np.number)) else list(levels)
        photos, size = self._photos(image)
        heat = self.heat(interpolation, percentile, size)
        return drawing.outlined(photos, heat, shares, colour)

    def _photos(self, image: ImageLike | None) -> tuple[NDArray[Any], tuple[int, int]]:
        """Give what the maps are drawn over, and its size."""
        if self.images.ndim != 4:
            raise InvalidOption(
                "only pictures have an overlay; .map holds the numbers, .save('maps.npz') keeps"
                " them"
            )
        photos = self._shown
        if image is not None:
            photo = images.read(image)[None]
            photos = np.repeat(photo, len(self.raw), 0)
        return photos, (photos.shape[1], photos.shape[2])

    @property
    def _shown(self) -> NDArray[Any]:
        """The pictures in grey where their channels are no colours."""
        colours = self.images.shape[-1] in (1, 3)
        return self.images if colours else self.images.mean(axis=-1, keepdims=True)

    def plot(self, *, signed: bool = False) -> Figure:
        """Draw photo, map and overlay, a row a picture.

        A signal is drawn over its heat; of a volume the slice in the middle is shown.

        Parameters
        ----------
        signed : bool
            Whether to draw what speaks against the target as well, about zero.
        """
        from cnnviz import figures

        names = list(self.names)
        if self.images.ndim == 3:
            return figures.signal_figure(self.images, self.map, names)
        if self.images.ndim == 5:
            # The slice in the middle stands for a volume.
            middle = self.images.shape[1] // 2
            shown = np.stack([images.normalise(v[middle], "minmax") for v in self.images])
            names = [f"{name}, slice {middle} of {self.images.shape[1]}" for name in names]
            grey = shown.mean(-1, keepdims=True)
            return figures.heat_figure(grey, self.map[:, middle], None, names)
        maps = self.signed if signed else self.heat()
        return figures.heat_figure(self._shown, maps, self.overlay(signed=signed), names)

    def save(self, path: str | Path) -> Path:
        """Write the overlays as a picture, or all the numbers as ``.npz``."""
        path = Path(path)
        if path.suffix.lower() == ".npz":
            return write_arrays(
                path,
                {
                    "raw": self.raw,
                    "map": self.map,
                    "target": np.asarray([-1 if t is None else t for t in self.target]),
                    "score": self.score,
                    **({} if self.values is None else {"values": self.values}),
                    **self.facts,
                },
            )
        overlays = self.overlay()
        return images.save(path, overlays[0] if len(overlays) == 1 else images.grid(overlays))

    def _repr_png_(self) -> bytes:
        from cnnviz import figures

        return figures.figure_png(self.plot())
