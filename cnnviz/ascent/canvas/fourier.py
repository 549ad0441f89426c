"""Canvases of waves: free ones, and those whose strength is given and whose place is free."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from cnnviz.adapter import Ops
from cnnviz.ascent.canvas.base import Array, Canvas, Shape, Squashed, squashed, unsquashed
from cnnviz.ascent.canvas.lines import constant, fourier_lines, frequencies, on_lines
from cnnviz.ascent.canvas.prior import COLOURS, Prior, default_prior
from cnnviz.errors import InvalidOption
from cnnviz.ops import WaveOps

__all__ = ["FourierCanvas", "MacoCanvas"]


@dataclass(frozen=True)
class FourierCanvas(Squashed):
    """Waves in decorrelated colours are free, the long ones easier to change than the short [1]_.

    A picture is ``sigmoid(C (F_h (z s) F_w^T))``: `z` holds a number for each wave and colour,
    `s` makes long waves strong, `F` are orthonormal real Fourier matrices and `C` turns
    decorrelated colours into RGB. Whatever the decay, noise of one deviation gives pictures
    of one contrast.

    Parameters
    ----------
    prior : Prior, optional
        Spectrum and colours fitted on photos by `fit_prior`, in place of `decay`.
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
        shape = picture.shape[-3:]
        x = np.moveaxis(unsquashed(picture, self.colours(shape[-1])), -1, -3)
        z = np.moveaxis(fourier_lines(shape[0]).T @ x @ fourier_lines(shape[1]), -3, -1)
        return z / _scale(self.prior, self.decay, (shape[0], shape[1], shape[2]))

    def raw(self, ops: Ops[Any], values: Any, shape: Shape) -> Any:
        """Add up the waves."""
        scaled = values * ops.constant(_scale(self.prior, self.decay, shape))
        if isinstance(ops, WaveOps):
            return ops.waves(scaled)
        return on_lines(ops, scaled, fourier_lines(shape[0]), fourier_lines(shape[1]))

    def blur(self, ops: Ops[Any], values: Any, sigma: float) -> Any:
        """Weaken the short waves, as a blur does that goes round the border."""
        height, width = (int(side) for side in values.shape[1:3])
        return values * ops.constant(_kept(height, width, sigma))

    def frequencies(self, shape: Shape) -> Array:
        """Cycles a pixel, ``(H, W, 1)``."""
        return np.hypot(frequencies(shape[0])[:, None], frequencies(shape[1])[None])[..., None]


@lru_cache(maxsize=32)
def _scale(prior: Prior | None, decay: float, shape: Shape) -> Array:
    """Give how strong each wave is made, ``(H, W, 1 or C)``."""
    height, width, channels = shape
    radius = np.hypot(frequencies(height)[:, None], frequencies(width)[None])
    lowest = np.maximum(radius, 1 / max(height, width))
    # In the field a wave is a complex number for two that mirror each other, hence the root.
    reference = lowest[..., None] ** -1.0 * np.sqrt(2) / 4
    free = lowest[..., None] ** -decay
    scale = free if prior is None else prior.at(lowest, channels)
    # As a mean over colours, so that a prior keeps how they differ.
    return constant(scale * np.sqrt(np.mean(reference**2) / np.mean(scale**2)))


@lru_cache(maxsize=32)
def _kept(height: int, width: int, sigma: float) -> Array:
    """Give what a blur leaves of each wave, ``(H, W, 1)``."""
    squared = frequencies(height)[:, None] ** 2 + frequencies(width)[None] ** 2
    return constant(np.exp(-2 * (np.pi * sigma) ** 2 * squared)[..., None])


@dataclass(frozen=True)
class MacoCanvas(Canvas):
    """Only the phase of each wave is free; its magnitude is that of photos: MaCo [1]_.

    It is shown as far as pixels mattered: see `Ascent.alpha`.

    Parameters
    ----------
    prior : Prior, optional
        Where the magnitudes come from; by default the photos that come with the package. Its
        colours are used as well.
    low, high : float
        Percentiles of a picture that are shown as black and white.

    References
    ----------
    .. [1] Fel et al., "Unlocking Feature Visualization for Deeper Networks with MAgnitude
       Constrained Optimization", NeurIPS 2023, arXiv:2306.06805.
    """

    prior: Prior | None = None
    low: float = 1.0
    high: float = 99.0
    weighs = True

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high <= 100:
            raise InvalidOption(f"percentiles rise from 0 to 100, not {self.low} to {self.high}")

    def first(self, rng: np.random.Generator, size: tuple[int, int], channels: int) -> Array:
        """Draw the first phases ``(H, W // 2 + 1, C)``, in radians."""
        return rng.uniform(-np.pi, np.pi, (size[0], size[1] // 2 + 1, channels))

    def to_picture(self, ops: Ops[Any], values: Any, shape: Shape) -> Any:
        """Read the picture in [0, 1] off native phases."""
        height, width, channels = shape
        prior = self.prior or default_prior()
        magnitude = ops.constant(_magnitude(prior, shape))
        stacked = ops.concat([ops.cos(values) * magnitude, ops.sin(values) * magnitude], 1)
        even, cosines, odd, sines = _inverse(height, width)
        x = on_lines(ops, stacked, even, cosines) - on_lines(ops, stacked, odd, sines)
        x = x - ops.mean(x, axis=(1, 2, 3), keepdims=True)
        x = x / ops.sqrt(ops.mean(x * x, axis=(1, 2, 3), keepdims=True))
        colours = (prior.matrix if self.prior else COLOURS) if channels == 3 else None
        return squashed(ops, x, colours)

    def display(self, picture: Array) -> Array:
        """Stretch each picture between two of its percentiles."""
        low, high = np.percentile(picture, (self.low, self.high), (1, 2, 3), keepdims=True)
        stretched = (picture - low) / np.maximum(high - low, 1e-12)
        return np.asarray(np.clip(stretched, 0, 1))


@lru_cache(maxsize=16)
def _magnitude(prior: Prior, shape: Shape) -> Array:
    """Give the strength of each wave, ``(H, W // 2 + 1, C)``."""
    height, width, channels = shape
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.arange(width // 2 + 1)[None] / width)
    magnitude = prior.at(np.maximum(frequency, 1 / max(height, width)), channels)
    # Brightness as a whole is no wave, and the standardising would take it away.
    magnitude[0, 0] = 0
    return constant(magnitude)


@lru_cache(maxsize=16)
def _inverse(height: int, width: int) -> tuple[Array, Array, Array, Array]:
    """Give what turns real parts, stacked on imaginary ones, into a picture."""
    half = np.arange(width // 2 + 1)
    down = 2 * np.pi * np.outer(np.arange(height), np.fft.fftfreq(height))
    along = 2 * np.pi * np.outer(np.arange(width), half / width)
    # All waves but the first, and the last of an even width, stand for two.
    twice = np.where((half == 0) | (2 * half == width), 1.0, 2.0)
    even = np.concatenate([np.cos(down), -np.sin(down)], 1)
    odd = np.concatenate([np.sin(down), np.cos(down)], 1)
    matrices = (even, np.cos(along) * twice, odd, np.sin(along) * twice)
    even, cosines, odd, sines = map(constant, matrices)
    return even, cosines, odd, sines
