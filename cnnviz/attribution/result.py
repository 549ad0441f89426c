"""What an attribution gives back: the map, raw and as a picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cnnviz import images
from cnnviz.errors import InvalidOption
from cnnviz.files import write_arrays
from cnnviz.images import ImageLike

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Attribution"]


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
    target : tuple of int
        The class of each map.
    names : tuple of str
        Its name, or ``"class 281"``.
    score : array
        ``(N,)``: the score of that class, before any softmax.
    layer : str
        Where the map was taken.
    method : str
        Such as ``"grad_cam"``.
    network, framework : str
        Whose maps they are.
    notes : tuple of str
        What a reader must know: which layer was chosen, that a softmax was stepped over, why
        a map is empty.
    """

    raw: NDArray[Any]
    map: NDArray[Any]
    images: NDArray[Any]
    target: tuple[int, ...]
    names: tuple[str, ...]
    score: NDArray[Any]
    layer: str
    method: str
    network: str
    framework: str
    notes: tuple[str, ...] = ()

    def overlay(
        self, image: ImageLike | None = None, alpha: float = 0.3, cmap: str = "jet"
    ) -> NDArray[Any]:
        """Lay the maps over the pictures, ``(N, H, W, 3)``.

        Parameters
        ----------
        image : path, Pillow image or array, optional
            The photo of a single map in its own size, in place of what the network saw.
        alpha : float
            Share of the heat; the photo has the rest.
        cmap : str
            Name of a matplotlib colour map.
        """
        if self.images.ndim != 4:
            raise InvalidOption(
                "only pictures have an overlay; .map holds the numbers, .save('maps.npz') keeps"
                " them"
            )
        if image is None:
            return images.overlay(self._shown, self.map, alpha, cmap)
        photo = images.read(image)[None]
        heat = images.resize(self.map[..., None], photo.shape[1:3])[..., 0]
        return images.overlay(np.repeat(photo, len(heat), 0), np.clip(heat, 0, 1), alpha, cmap)

    @property
    def _shown(self) -> NDArray[Any]:
        """The pictures in grey where their channels are no colours."""
        colours = self.images.shape[-1] in (1, 3)
        return self.images if colours else self.images.mean(axis=-1, keepdims=True)

    def plot(self) -> Figure:
        """Draw photo, map and overlay, a row a picture.

        A signal is drawn over its heat; of a volume the slice in the middle is shown.
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
        return figures.heat_figure(self._shown, self.map, self.overlay(), names)

    def save(self, path: str | Path) -> Path:
        """Write the overlays as a picture, or all the numbers as ``.npz``."""
        path = Path(path)
        if path.suffix.lower() == ".npz":
            return write_arrays(
                path,
                {
                    "raw": self.raw,
                    "map": self.map,
                    "target": np.asarray(self.target),
                    "score": self.score,
                },
            )
        overlays = self.overlay()
        return images.save(path, overlays[0] if len(overlays) == 1 else images.grid(overlays))

    def _repr_png_(self) -> bytes:
        from cnnviz import figures

        return figures.figure_png(self.plot())
