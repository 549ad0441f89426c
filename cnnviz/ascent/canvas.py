"""What is optimised in place of a picture, and how a picture is read off it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from cnnviz.adapter import Ops
from cnnviz.errors import InvalidOption
from cnnviz.preprocessing import PRESETS

__all__ = ["Canvas", "FourierCanvas", "PixelCanvas"]

Array = NDArray[np.float64]

# Square root of the correlation of colours in natural images, rows R, G, B.
_COLOURS = np.array([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]]) / 0.461952


class Canvas(Protocol):
    """What is optimised; values have the shape of the picture ``(N, H, W, C)``.

    Hashable, and equal for equal settings, so that equal canvases share a trace.
    """

    def first(self, rng: np.random.Generator, size: tuple[int, int], channels: int) -> Array:
        """Draw the first values of one picture."""

    def from_picture(self, picture: Array) -> Array:
        """Turn pictures in [0, 1] into values."""

    def to_picture(self, ops: Ops[Any], values: Any) -> Any:
        """Read pictures off native values."""

    def clamp(self, ops: Ops[Any], values: Any) -> Any:
        """Keep values within what a picture in [0, 1] can be."""

    def blur(self, ops: Ops[Any], values: Any, sigma: float) -> Any:
        """Blur by a Gaussian of that standard deviation, in pixels."""


@dataclass(frozen=True)
class PixelCanvas:
    """Every pixel is free.

    Parameters
    ----------
    unit : {"normalised", "pixel"}
        What one unit is: a standard deviation of ImageNet's pixels, about their mean (the
        scale that the recipes of the field are written in, whatever this network was trained
        on), or the full range from black to white.
    start : {"normal", "uniform"}
        Distribution of the first picture.
    low, high : float
        For uniform noise: its limits as parts of white.
    deviation : float
        For normal noise, about the middle: its standard deviation, in units.
    """

    unit: Literal["normalised", "pixel"] = "normalised"
    start: Literal["normal", "uniform"] = "normal"
    low: float = 0.0
    high: float = 1.0
    deviation: float = 1.0

    def __post_init__(self) -> None:
        if self.unit not in ("normalised", "pixel") or self.start not in ("normal", "uniform"):
            raise InvalidOption("a pixel canvas is 'normalised' or 'pixel', 'normal' or 'uniform'")

    def first(self, rng: np.random.Generator, size: tuple[int, int], channels: int) -> Array:
        """Draw the first values ``(H, W, C)``, in units."""
        if self.start == "uniform":
            return self.from_picture(rng.uniform(self.low, self.high, (*size, channels)))
        return rng.normal(0, self.deviation, (*size, channels))

    def from_picture(self, picture: Array) -> Array:
        """Turn a picture ``(..., H, W, C)`` in [0, 1] into values."""
        middle, spread = self._scale(picture.shape[-1])
        return (picture - middle) / spread

    def to_picture(self, ops: Ops[Any], values: Any) -> Any:
        """Read the picture in [0, 1] off native values; beyond it where they are not clamped."""
        middle, spread = (ops.asarray(v) for v in self._scale(values.shape[-1]))
        return values * spread + middle

    def clamp(self, ops: Ops[Any], values: Any) -> Any:
        """Keep values within what a picture in [0, 1] can be."""
        middle, spread = self._scale(values.shape[-1])
        limits = ((0 - middle) / spread, (1 - middle) / spread)
        return ops.clip(values, *(ops.asarray(v) for v in limits))

    def blur(self, ops: Ops[Any], values: Any, sigma: float) -> Any:
        """Blur by two products with a banded matrix; the picture is reflected at its border."""
        count, height, width, channels = (int(side) for side in values.shape)
        flat = ops.reshape(values, (count, height, width * channels))
        down = ops.matmul(ops.asarray(gaussian_kernel_matrix(height, sigma)), flat)
        across = ops.asarray(gaussian_kernel_matrix(width, sigma))
        return ops.matmul(across, ops.reshape(down, (count, height, width, channels)))

    def _scale(self, channels: int) -> tuple[Array, Array]:
        if self.unit == "pixel":
            return np.full(channels, 0.5), np.ones(channels)
        if channels == 3:
            return np.asarray(PRESETS["imagenet"].mean), np.asarray(PRESETS["imagenet"].std)
        return np.full(channels, 0.45), np.full(channels, 0.225)


@dataclass(frozen=True)
class FourierCanvas:
    """Waves in decorrelated colours are free, the long ones as easy to change as the short [1]_.

    A picture is ``sigmoid(C (F_h (z s) F_w^T))``: `z` holds a number for each wave and colour,
    `s` makes long waves strong, `F` are orthonormal real Fourier matrices and `C` turns
    decorrelated colours into RGB.

    Parameters
    ----------
    decay : float
        Waves of frequency f are scaled by ``f ** -decay``; 1 is the spectrum of photos.
    deviation : float
        Standard deviation of the first values.

    References
    ----------
    .. [1] Olah, Mordvintsev and Schubert, "Feature Visualization", Distill, 2017.
    """

    decay: float = 1.0
    deviation: float = 0.01

    def first(self, rng: np.random.Generator, size: tuple[int, int], channels: int) -> Array:
        """Draw the first values ``(H, W, C)``."""
        return rng.normal(0, self.deviation, (*size, channels))

    def from_picture(self, picture: Array) -> Array:
        """Turn a picture ``(..., H, W, C)`` in [0, 1] into values."""
        height, width, channels = picture.shape[-3:]
        # Black and white are infinitely far; a grey level from them is far enough.
        inside = np.clip(picture, 1 / 255, 1 - 1 / 255)
        x = np.log(inside / (1 - inside))
        if channels == 3:
            x = x @ np.linalg.inv(_COLOURS).T
        x = np.moveaxis(x, -1, -3)
        z = _fourier(height).T @ x @ _fourier(width) / self._scale(height, width)
        return np.moveaxis(z, -3, -1)

    def to_picture(self, ops: Ops[Any], values: Any) -> Any:
        """Read the picture in [0, 1] off native values."""
        count, height, width, channels = (int(side) for side in values.shape)
        scaled = values * ops.asarray(self._scale(height, width)[..., None])
        down = ops.asarray(_fourier(height))
        x = ops.matmul(down, ops.reshape(scaled, (count, height, width * channels)))
        x = ops.reshape(x, (count, height, width, channels))
        # One large product is faster than many with three columns.
        x = ops.reshape(ops.permute_dims(x, (0, 1, 3, 2)), (count * height * channels, width))
        x = ops.matmul(x, ops.asarray(_fourier(width).T))
        x = ops.permute_dims(ops.reshape(x, (count, height, channels, width)), (0, 1, 3, 2))
        if channels == 3:
            flat = ops.reshape(x, (count * height * width, channels))
            x = ops.matmul(flat, ops.asarray(_COLOURS.T))
            x = ops.reshape(x, (count, height, width, channels))
        return ops.tanh(x * 0.5) * 0.5 + 0.5

    def clamp(self, ops: Ops[Any], values: Any) -> Any:
        """Change nothing: the sigmoid keeps every picture within [0, 1]."""
        return values

    def blur(self, ops: Ops[Any], values: Any, sigma: float) -> Any:
        """Weaken the short waves, as a blur does that goes round the border."""
        height, width = (int(side) for side in values.shape[1:3])
        squared = _frequencies(height)[:, None] ** 2 + _frequencies(width)[None] ** 2
        kept = np.exp(-2 * (np.pi * sigma) ** 2 * squared)
        return values * ops.asarray(kept[..., None])

    def _scale(self, height: int, width: int) -> Array:
        frequency = np.hypot(_frequencies(height)[:, None], _frequencies(width)[None])
        return np.maximum(frequency, 1 / max(height, width)) ** -self.decay / 4


def _frequencies(size: int) -> Array:
    """Cycles a pixel of each column of `_fourier`."""
    return (np.arange(size) + 1) // 2 / size


@lru_cache(maxsize=32)
def _fourier(size: int) -> Array:
    """Give the orthonormal matrix whose columns are 1, cos, sin, cos, sin, ... of a line."""
    angle = 2 * np.pi * np.arange(size)[:, None] * _frequencies(size)
    matrix = np.where(np.arange(size) % 2, np.cos(angle), np.sin(angle))
    matrix[:, 0] = 1
    return np.asarray(matrix / np.linalg.norm(matrix, axis=0))


@lru_cache(maxsize=32)
def gaussian_kernel_matrix(size: int, sigma: float) -> NDArray[np.float64]:
    """Give the ``(size, size)`` matrix that blurs a line of pixels, reflecting at its ends."""
    radius = max(1, int(4 * sigma + 0.5))
    offsets = np.arange(-radius, radius + 1)
    kernel = np.exp(-0.5 * (offsets / sigma) ** 2)
    kernel /= kernel.sum()
    matrix = np.zeros((size, size))
    period = 2 * size
    for offset, weight in zip(offsets, kernel, strict=True):
        # d c b a | a b c d | d c b a
        place = (np.arange(size) + offset) % period
        place = np.where(place < size, place, period - 1 - place)
        np.add.at(matrix, (np.arange(size), place), weight)
    return matrix
