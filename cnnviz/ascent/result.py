"""What an ascent gives back: the pictures, and how they came about."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cnnviz import images
from cnnviz.adapter import Adapter
from cnnviz.ascent.objectives import Objective
from cnnviz.ascent.quality import Card, Transfer, quality, transfer
from cnnviz.ascent.recipes import Recipe
from cnnviz.images import ImagesLike
from cnnviz.images.animation import ANIMATED, save_animation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Ascent"]


@dataclass(frozen=True, eq=False)
class Ascent:
    """Pictures made by gradient ascent.

    Attributes
    ----------
    images : array
        ``(N, H, W, C)`` in [0, 1], RGB.
    objective : tuple of str
        What each picture was made for.
    trace : array
        ``(steps, N)``: the objective before each step, through all octaves.
    octaves : array
        ``(octaves, N)``: the objective at the last step of each octave.
    clean : array
        ``(N,)``: the objective of the finished pictures, without transforms and penalties.
    seeds : tuple of int
        The seed of each picture: the best, where there were several.
    intermediates : tuple of (int, array)
        Steps done and the pictures then.
    recipe : Recipe
        The settings.
    network, framework : str
        Whose pictures they are.
    notes : tuple of str
        What could not be done, such as a dead unit; usually empty.
    verdicts : tuple of str
        Of each picture, why it says nothing; empty for most.
    alpha : array or None
        ``(N, H, W)``: how much of each pixel is shown, where the canvas tells: over white on
        sheets and in files; `images` is without it.
    net : Adapter
        The network.
    objectives : tuple of Objective
        As `objective`, to be asked again.
    """

    images: NDArray[Any]
    objective: tuple[str, ...]
    trace: NDArray[Any]
    octaves: NDArray[Any]
    clean: NDArray[Any]
    seeds: tuple[int, ...]
    intermediates: tuple[tuple[int, NDArray[Any]], ...]
    recipe: Recipe = field(repr=False)
    network: str
    framework: str
    notes: tuple[str, ...] = ()
    verdicts: tuple[str, ...] = ()
    alpha: NDArray[Any] | None = field(default=None, repr=False)
    net: Adapter[Any] | None = field(default=None, repr=False, compare=False)
    objectives: tuple[Objective, ...] = field(default=(), repr=False)

    @property
    def shown(self) -> NDArray[Any]:
        """The pictures as they are shown: over white, where there is an alpha."""
        if self.alpha is None:
            return self.images
        cover = self.alpha[..., None]
        return np.asarray(self.images * cover + (1 - cover))

    def sheet(self, columns: int | None = None) -> NDArray[Any]:
        """Lay the pictures out on one, ``(H, W, C)``."""
        return _sheet(self.shown, columns)

    def plot(self) -> Figure:
        """Draw the pictures with what they were made for."""
        from cnnviz import figures

        return figures.images_figure(
            self.shown,
            [f"{o}  {v:.3g}" for o, v in zip(self.objective, self.clean, strict=True)],
        )

    def frames(self) -> list[NDArray[Any]]:
        """Give the sheets on the way, ``(H, W, C)`` each, and the finished one at the end."""
        kept = [pictures for _, pictures in self.intermediates]
        if not kept or kept[-1].shape != self.shown.shape or (kept[-1] != self.shown).any():
            kept.append(self.shown)
        return [_sheet(pictures) for pictures in kept]

    def quality(self, images: ImagesLike | None = None, seeds: int = 0) -> tuple[Card, ...]:
        """Judge each picture: its objective against real images, its grain, seed agreement.

        Parameters
        ----------
        images : path, Pillow image, array, or a list of these, optional
            Real images whose largest objective is put beside that of the picture.
        seeds : int
            How many more seeds to make each picture with, to see whether they agree.
        """
        return quality(self, images, seeds)

    def transfer(self, other: Any) -> Transfer:
        """Show class pictures to another classifier, and give the rank it gives each class.

        Parameters
        ----------
        other : model or Adapter
            Of any framework. Classes are matched by name where both know names, else by
            number.

        Raises
        ------
        InvalidOption
            A picture was made for no class, or the classes cannot be matched.
        """
        return transfer(self, other)

    def save(self, path: str | Path) -> Path:
        """Write the pictures as one, with how it was made in a PNG's metadata.

        A ``.gif`` or ``.mp4`` shows the pictures on the way, which the recipe's `keep` keeps.
        """
        if Path(path).suffix.lower() in ANIMATED:
            return save_animation(path, self.frames())
        about = {
            "Software": "cnnviz",
            "cnnviz:network": f"{self.network} ({self.framework})",
            "cnnviz:objective": "; ".join(self.objective),
            "cnnviz:seed": "; ".join(map(str, self.seeds)),
            "cnnviz:recipe": repr(self.recipe),
        }
        metadata = about if Path(path).suffix.lower() == ".png" else None
        return images.save(path, self.sheet(), metadata)

    def _repr_png_(self) -> bytes:
        return images.png_bytes(np.clip(self.sheet(), 0, 1))


def _sheet(pictures: NDArray[Any], columns: int | None = None) -> NDArray[Any]:
    return np.asarray(pictures[0]) if len(pictures) == 1 else images.grid(pictures, columns)
