"""Canvases of several resolutions, and a network that paints."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from cnnviz.adapter import Ops
from cnnviz.ascent.canvas.base import Array, Canvas, Shape, Squashed
from cnnviz.ascent.canvas.lines import bilinear_lines, constant, on_lines
from cnnviz.errors import InvalidOption

__all__ = ["CPPNCanvas", "LaplacianCanvas", "SharedCanvas"]


@dataclass(frozen=True)
class LaplacianCanvas(Squashed):
    """A sum of pictures, each half the size of the one before: a Laplacian pyramid [1]_.

    Parameters
    ----------
    prior : Prior, optional
        Whose colours to use.
    levels : int
        How many pictures; fewer where one would be less than two pixels.
    deviation : float
        Standard deviation of the first values.

    References
    ----------
    .. [1] Burt and Adelson, "The Laplacian Pyramid as a Compact Image Code", 1983.
    """

    levels: int = 5
    deviation: float = 0.01

    def __post_init__(self) -> None:
        if self.levels < 1:
            raise InvalidOption(f"a pyramid has at least one level, not {self.levels}")

    def first(self, rng: np.random.Generator, size: tuple[int, int], channels: int) -> Array:
        """Draw the first values of all levels, one after another, ``(P,)``."""
        total = sum(h * w * channels for h, w in self._sizes(size))
        return rng.normal(0, self.deviation, total)

    def raw(self, ops: Ops[Any], values: Any, shape: Shape) -> Any:
        """Enlarge the levels and add them up."""
        height, width, channels = shape
        total: Any = 0.0
        begin = 0
        for h, w in self._sizes((height, width)):
            end = begin + h * w * channels
            level = ops.reshape(values[:, begin:end], (int(values.shape[0]), h, w, channels))
            down, across = bilinear_lines(h, height), bilinear_lines(w, width)
            total = total + (level if begin == 0 else on_lines(ops, level, down, across))
            begin = end
        return total

    def _sizes(self, size: tuple[int, int]) -> list[tuple[int, int]]:
        found = [(math.ceil(size[0] / 2**k), math.ceil(size[1] / 2**k)) for k in range(self.levels)]
        return [one for k, one in enumerate(found) if k == 0 or min(one) >= 2]


@dataclass(frozen=True)
class SharedCanvas(Squashed):
    """Pictures made together share what is coarse in them, and differ in detail [1]_.

    Parameters
    ----------
    prior : Prior, optional
        Taken from `own`.
    own : Squashed
        What each picture has for itself.
    factor : int
        How many times smaller the shared picture is.

    References
    ----------
    .. [1] Mordvintsev, Pezzotti, Schubert and Olah, "Differentiable Image
       Parameterizations", Distill, 2018.
    """

    own: Squashed | None = None
    factor: int = 8
    coupled = True

    def __post_init__(self) -> None:
        if self.own is None or not isinstance(self.own, Squashed) or self.own.coupled:
            raise InvalidOption(
                "a SharedCanvas needs what each picture has for itself: own=FourierCanvas()"
            )
        if self.factor < 1:
            raise InvalidOption(f"the shared picture cannot be larger: factor {self.factor}")

    def first(self, rng: np.random.Generator, size: tuple[int, int], channels: int) -> Array:
        """Draw the first values of a picture's own, ``(P,)``; what is shared begins at zero."""
        assert self.own is not None
        own = self.own.first(rng, size, channels).ravel()
        low = self._low((*size, channels))
        return np.concatenate([own, np.zeros(math.prod(low))])

    def raw(self, ops: Ops[Any], values: Any, shape: Shape) -> Any:
        """Add the shared picture to each one's own."""
        assert self.own is not None
        like = self.own.first(np.random.default_rng(0), shape[:2], shape[2]).shape
        count, size = int(values.shape[0]), math.prod(like)
        own = self.own.raw(ops, ops.reshape(values[:, :size], (count, *like)), shape)
        # All hold a copy and step by the mean of their gradients, so one optimizer serves.
        low = ops.mean(values[:, size:], axis=(0,), keepdims=True)
        low = ops.reshape(low, (1, *self._low(shape)))
        down = bilinear_lines(int(low.shape[1]), shape[0])
        across = bilinear_lines(int(low.shape[2]), shape[1])
        return own + on_lines(ops, low, down, across)

    def colours(self, channels: int) -> Array | None:
        """See `Squashed.colours`."""
        assert self.own is not None
        return self.own.colours(channels)

    def _low(self, shape: Shape) -> Shape:
        return math.ceil(shape[0] / self.factor), math.ceil(shape[1] / self.factor), shape[2]


@dataclass(frozen=True)
class CPPNCanvas(Canvas):
    """A small network paints: from the place of a pixel to its colour, at any size [1]_.

    Parameters
    ----------
    layers, width : int
        Hidden layers, and channels in each before their activations double them.

    References
    ----------
    .. [1] Stanley, "Compositional pattern producing networks", 2007; Mordvintsev et al.,
       "Differentiable Image Parameterizations", Distill, 2018.
    """

    layers: int = 8
    width: int = 24

    def __post_init__(self) -> None:
        if self.layers < 1 or self.width < 1:
            raise InvalidOption("a CPPN has at least one layer and one channel")

    def first(self, rng: np.random.Generator, size: tuple[int, int], channels: int) -> Array:
        """Draw the weights of the network, ``(P,)``; those of the last layer are zero."""
        parts = []
        for inner, outer in self._widths(channels):
            parts.append(rng.normal(0, np.sqrt(1 / inner), inner * outer))
            parts.append(np.zeros(outer))
        inner, outer = self._widths(channels)[-1]
        parts[-2] = np.zeros(inner * outer)
        return np.concatenate(parts)

    def to_picture(self, ops: Ops[Any], values: Any, shape: Shape) -> Any:
        """Paint each picture with its own weights."""
        height, width, channels = shape
        count = int(values.shape[0])
        x: Any = ops.constant(_places(height, width, count))
        begin = 0
        widths = self._widths(channels)
        for k, (inner, outer) in enumerate(widths):
            middle, end = begin + inner * outer, begin + (inner + 1) * outer
            kernel = ops.reshape(values[:, begin:middle], (count, inner, outer))
            x = ops.matmul(x, kernel) + ops.reshape(values[:, middle:end], (count, 1, outer))
            if k + 1 < len(widths):
                bent = ops.atan(x)
                # To unit variance, so that depth changes nothing.
                x = ops.concat([bent * (1 / 0.67), bent * bent * (1 / 0.6)], 2)
            begin = end
        x = ops.reshape(x, (count, height, width, channels))
        return ops.tanh(x * 0.5) * 0.5 + 0.5

    def _widths(self, channels: int) -> list[tuple[int, int]]:
        hidden = [(2 * self.width, self.width)] * (self.layers - 1)
        return [(2, self.width), *hidden, (2 * self.width, channels)]


@lru_cache(maxsize=16)
def _places(height: int, width: int, count: int) -> Array:
    """Give the place of each pixel, ``(N, H * W, 2)``."""
    axes = [np.linspace(-1, 1, side) * np.sqrt(3) for side in (height, width)]
    places = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(1, -1, 2)
    return constant(np.repeat(places, count, 0))
