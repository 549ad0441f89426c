"""Matrices that work on the lines and columns of a picture: blur, enlarge, waves."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.adapter import Ops

__all__ = [
    "bilinear_lines",
    "box_lines",
    "constant",
    "fourier_lines",
    "frequencies",
    "gaussian_lines",
    "on_lines",
]

Array = NDArray[np.float64]


def constant(x: Array) -> Array:
    """Give an array that nobody can change, as `Ops.constant` takes it."""
    x = np.asarray(x)
    x.setflags(write=False)
    return x


def on_lines(ops: Ops[Any], x: Any, down: Array, across: Array) -> Any:
    """Multiply pictures ``(N, H, W, C)`` by ``(h, H)`` down and ``(w, W)`` across.

    The matrices are taken for constants: give the same arrays at each step.
    """
    count, height, width, channels = (int(side) for side in x.shape)
    x = ops.matmul(ops.constant(down), ops.reshape(x, (count, height, width * channels)))
    height = len(down)
    x = ops.reshape(x, (count, height, width, channels))
    # One large product is faster than many with three columns.
    x = ops.reshape(ops.permute_dims(x, (0, 1, 3, 2)), (count * height * channels, width))
    x = ops.matmul(x, ops.permute_dims(ops.constant(across), (1, 0)))
    return ops.permute_dims(ops.reshape(x, (count, height, channels, len(across))), (0, 1, 3, 2))


def frequencies(size: int) -> Array:
    """Cycles a pixel of each column of `fourier_lines`."""
    return (np.arange(size) + 1) // 2 / size


@lru_cache(maxsize=32)
def fourier_lines(size: int) -> Array:
    """Give the orthonormal matrix whose columns are 1, cos, sin, cos, sin, ... of a line."""
    angle = 2 * np.pi * np.arange(size)[:, None] * frequencies(size)
    matrix = np.where(np.arange(size) % 2, np.cos(angle), np.sin(angle))
    matrix[:, 0] = 1
    return constant(matrix / np.linalg.norm(matrix, axis=0))


@lru_cache(maxsize=32)
def bilinear_lines(size: int, large: int) -> Array:
    """Give the ``(large, size)`` matrix that enlarges a line, straight between its pixels."""
    place = np.clip((np.arange(large) + 0.5) * size / large - 0.5, 0, size - 1)
    return constant(np.maximum(1 - np.abs(place[:, None] - np.arange(size)), 0))


@lru_cache(maxsize=32)
def gaussian_lines(size: int, sigma: float) -> Array:
    """Give the ``(size, size)`` matrix that blurs a line of pixels, reflecting at its ends."""
    radius = max(1, int(4 * sigma + 0.5))
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return _banded(size, kernel / kernel.sum())


@lru_cache(maxsize=32)
def box_lines(size: int, side: int) -> Array:
    """Give the ``(size, size)`` matrix that averages `side` pixels, reflecting at the ends."""
    return _banded(size, np.full(side, 1 / side))


def _banded(size: int, kernel: Array) -> Array:
    matrix = np.zeros((size, size))
    period = 2 * size
    for offset, weight in zip(np.arange(len(kernel)) - len(kernel) // 2, kernel, strict=True):
        # d c b a | a b c d | d c b a
        place = (np.arange(size) + offset) % period
        place = np.where(place < size, place, period - 1 - place)
        np.add.at(matrix, (np.arange(size), place), weight)
    return constant(matrix)
