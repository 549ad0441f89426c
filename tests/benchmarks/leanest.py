"""What the loops by hand share: the numbers of a Fourier canvas, and draws of the transforms."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["COLOURS", "SIZE", "Variant", "affine", "half_spectrum", "lines", "spectrum"]

Array = NDArray[np.float64]

SIZE = 224
COLOURS = np.array([[0.26, 0.09, 0.02], [0.27, 0.0, -0.05], [0.27, -0.09, 0.03]]) / 0.461952


@dataclass(frozen=True)
class Variant:
    """One way to write the loop.

    Attributes
    ----------
    waves : {"fft", "matrices"}
        How the waves are added up.
    warp : str
        How the picture is read between its pixels; "none" without transforms.
    """

    waves: str
    warp: str

    def __str__(self) -> str:
        return self.waves if self.warp == "none" else f"{self.waves}, {self.warp}"


def lines(size: int) -> Array:
    """Give the orthonormal matrix of 1, cos, sin, cos, sin, ... in its columns."""
    frequency = (np.arange(size) + 1) // 2 / size
    angle = 2 * np.pi * np.arange(size)[:, None] * frequency
    matrix = np.where(np.arange(size) % 2, np.cos(angle), np.sin(angle))
    matrix[:, 0] = 1
    return np.asarray(matrix / np.linalg.norm(matrix, axis=0))


def spectrum(size: int) -> Array:
    """Give how strong each wave of `lines` is made, ``(size, size)``."""
    frequency = (np.arange(size) + 1) // 2 / size
    radius = np.hypot(frequency[:, None], frequency)
    return np.asarray(1 / np.maximum(radius, 1 / size) / 4)


def half_spectrum(size: int) -> Array:
    """Give the same for what ``irfft2`` takes, ``(size, size // 2 + 1)``."""
    radius = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size))
    return np.asarray(1 / np.maximum(radius, 1 / size) / 4)


def affine(rng: np.random.Generator, count: int) -> Array:
    """Draw jitter, scale, rotate, jitter as one map ``(count, 2, 3)`` of ``(x, y, 1)`` in pixels.

    Counted from the middle; what is read outside of the picture is grey, as if it were padded.
    """
    scale = rng.choice([1.0, 0.975, 1.025, 0.95, 1.05], count)
    angle = np.radians(rng.integers(-5, 6, count))
    first, second = rng.integers(-8, 9, (count, 2)), rng.integers(-4, 5, (count, 2))
    maps = np.empty((count, 2, 3))
    for k in range(count):
        cos, sin = math.cos(angle[k]) / scale[k], math.sin(angle[k]) / scale[k]
        maps[k, :, :2] = [[cos, -sin], [sin, cos]]
        maps[k, :, 2] = maps[k, :, :2] @ second[k] + first[k]
    return maps
