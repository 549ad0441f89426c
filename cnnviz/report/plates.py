"""The pictures of a report as files, each with its alternative text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from cnnviz import images
from cnnviz.figures import SIGNED, figure_png
from cnnviz.files import write_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Album", "Plate", "signed_picture"]

FOLDER = "pictures"


@dataclass(frozen=True)
class Plate:
    """A picture that has been written.

    Attributes
    ----------
    src : str
        From the page to the file.
    alt : str
        What is to be seen, for who cannot see it.
    width, height : int
        In pixels of the file.
    kind : {"photo", "pixels", "plot"}
        Whether enlarging smooths it, keeps its pixels as squares, or whether it is dark on
        white and may be inverted.
    """

    src: str
    alt: str
    width: int
    height: int
    kind: Literal["photo", "pixels", "plot"]


class Album:
    """Writes pictures into a folder below the page's.

    Parameters
    ----------
    page : Path
        The folder of the page, which exists.
    """

    def __init__(self, page: Path) -> None:
        self._page = page
        (page / FOLDER).mkdir()
        self._taken: set[str] = set()

    def picture(self, name: str, image: NDArray[Any], alt: str, *, pixels: bool = False) -> Plate:
        """Write a picture ``(H, W, 3)`` in [0, 1]."""
        data = images.png_bytes(np.clip(image, 0, 1))
        height, width = image.shape[:2]
        src = self._write(name, data)
        return Plate(src, alt, width, height, "pixels" if pixels else "photo")

    def figure(self, name: str, figure: Figure, alt: str, dpi: int = 170) -> Plate:
        """Draw a figure of matplotlib."""
        width, height = (round(side * dpi) for side in figure.get_size_inches())
        return Plate(self._write(name, figure_png(figure, dpi)), alt, width, height, "plot")

    def _write(self, name: str, data: bytes) -> str:
        stem = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
        while stem in self._taken:
            stem += "-x"
        self._taken.add(stem)
        src = f"{FOLDER}/{stem}.png"
        write_bytes(self._page / src, data)
        return src


def signed_picture(values: NDArray[Any], reach: float, scale: int = 1) -> NDArray[Any]:
    """Colour numbers by sign, white at zero, red at `reach`, blue at its opposite.

    Parameters
    ----------
    values : array
        ``(H, W)``.
    reach : float
        Where the colours end; all is white if it is zero.
    scale : int
        Pixels of the picture for each number along a side.
    """
    unit = 0.5 + 0.5 * np.clip(np.asarray(values, np.float64) / (reach or 1.0), -1, 1)
    return images.colormap(unit.repeat(scale, axis=0).repeat(scale, axis=1), SIGNED)
