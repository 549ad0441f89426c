"""What photos have in common: how strong their waves are and how their colours go together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz import images as pictures
from cnnviz import photos
from cnnviz.ascent.canvas.lines import constant
from cnnviz.errors import InvalidImage
from cnnviz.images import ImagesLike

__all__ = ["COLOURS", "Prior", "default_prior", "fit_prior"]

# Square root of the correlation of colours in natural images, rows R, G, B (Distill, 2017).
COLOURS = constant(
    np.array([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]]) / 0.461952
)

_BINS = 24
# Of unit pixels; below it the ends of a photo count more than what it shows.
_LOWEST = 1 / 64


@dataclass(frozen=True)
class Prior:
    """The spectrum and the colours of a set of photos.

    Attributes
    ----------
    frequency : tuple of float
        Cycles a pixel, rising.
    magnitude : tuple of (float, float, float)
        How strong the waves of each frequency are in each decorrelated colour; only ratios
        matter.
    colours : tuple
        ``(3, 3)``: from decorrelated colours to RGB, before the sigmoid; its largest column
        is of length one.
    """

    frequency: tuple[float, ...]
    magnitude: tuple[tuple[float, float, float], ...]
    colours: tuple[tuple[float, float, float], ...]

    @property
    def matrix(self) -> NDArray[np.float64]:
        """Give the colours as an array, the same at each call."""
        return _matrix(self.colours)

    def at(self, frequency: NDArray[Any], channels: int) -> NDArray[np.float64]:
        """Give the magnitude ``(..., channels)`` at some frequencies, on lines in logarithms."""
        low, high = self.frequency[0], self.frequency[-1]
        within = np.log(np.clip(frequency, low, None))
        known, values = np.log(self.frequency), np.log(self.magnitude)
        # Beyond the last bin, in the corners of the spectrum, it falls on as it fell.
        fall = (values[-1] - values[-4]) / (known[-1] - known[-4])
        beyond = np.maximum(within - np.log(high), 0)
        each = [
            np.exp(np.interp(within, known, v) + f * beyond)
            for v, f in zip(values.T, fall, strict=True)
        ]
        if channels != 3:
            # Colours count for nothing here: what they share is brightness, the first.
            each = each[:1] * channels
        return np.stack(each, axis=-1)


@lru_cache(maxsize=32)
def _matrix(colours: tuple[tuple[float, float, float], ...]) -> NDArray[np.float64]:
    return constant(np.array(colours))


def fit_prior(images: ImagesLike) -> Prior:
    """Learn the spectrum and the colours of photos, for `FourierCanvas` and `MacoCanvas`.

    Parameters
    ----------
    images : path, Pillow image, array, or a list of these
        RGB, of any size from 32 pixels on; a few dozen give a smooth spectrum.

    Returns
    -------
    Prior

    Raises
    ------
    InvalidImage
        There is none, one is too small, or all of them are flat.
    """
    given: Sequence[Any] = images if isinstance(images, (list, tuple)) else [images]
    if not given:
        raise InvalidImage("there is no photo to learn from; give at least one")
    stack: list[NDArray[Any]] = []
    for one in given:
        if isinstance(one, np.ndarray) and one.ndim == 4:
            stack.extend(pictures.read(row) for row in one)
        else:
            stack.append(pictures.read(one))
    logits = []
    for photo in stack:
        if min(photo.shape[:2]) < 32:
            size = " x ".join(map(str, photo.shape[:2]))
            raise InvalidImage(f"a photo of {size} is too small to learn from; 32 is the least")
        inside = np.clip(photo, 1 / 255, 1 - 1 / 255)
        logits.append(np.log(inside / (1 - inside)))
    pixels = np.concatenate([(x - x.mean((0, 1))).reshape(-1, 3) for x in logits])
    values, vectors = np.linalg.eigh(pixels.T @ pixels / len(pixels))
    if values[-1] < 1e-12:
        raise InvalidImage("the photos are flat, so there is nothing to learn from them")
    # A greyscale photo has one colour; the others get a hundredth rather than nothing.
    root = vectors[:, ::-1] * np.sqrt(np.maximum(values[::-1], 1e-4 * values[-1]))
    root = root * np.where(root.sum(0) < 0, -1, 1)
    colours = root / np.linalg.norm(root, axis=0).max()
    inverse = np.linalg.inv(colours)
    power = np.zeros((_BINS, 3))
    count = np.zeros(_BINS)
    edges = np.geomspace(_LOWEST, 0.5, _BINS + 1)
    for x in logits:
        share, number = _radial((x - x.mean((0, 1))) @ inverse.T, edges)
        power += share
        count += number
    filled = count > 0
    centres = np.sqrt(edges[:-1] * edges[1:])[filled]
    magnitude = np.sqrt(power[filled] / count[filled, None])
    magnitude = np.maximum(magnitude / magnitude.max(), 1e-6)
    return Prior(
        tuple(map(float, centres)),
        tuple((float(a), float(b), float(c)) for a, b, c in magnitude),
        tuple((float(a), float(b), float(c)) for a, b, c in colours),
    )


def _radial(x: NDArray[Any], edges: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Sum the power a wave, and count the waves, between radii of the spectrum."""
    height, width = x.shape[:2]
    # Without a window the jump from one end of the photo to the other looks like fine detail.
    window = np.hanning(height)[:, None, None] * np.hanning(width)[None, :, None]
    windowed = x * window
    spectrum = np.abs(np.fft.fft2(windowed, axes=(0, 1))) ** 2 / np.sum(window**2)
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None]).ravel()
    place = np.searchsorted(edges, radius, side="right") - 1
    inside = (place >= 0) & (place < len(edges) - 1)
    bins = len(edges) - 1
    flat = spectrum.reshape(-1, 3)[inside]
    total = np.stack([np.bincount(place[inside], flat[:, c], bins) for c in range(3)], axis=-1)
    return total, np.bincount(place[inside], minlength=bins).astype(float)


@lru_cache(maxsize=1)
def default_prior() -> Prior:
    """Give the prior of the photos that come with the package."""
    return fit_prior([str(path) for path in photos.paths().values()])
