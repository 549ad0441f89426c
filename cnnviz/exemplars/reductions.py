"""Reductions of activations over places: by numba where it is installed, else by OpenCV.

Both add in the same order, so that they give the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cnnviz.compiled import compiled, only_read
from cnnviz.exemplars.loops import reduce_maps
from cnnviz.images.filters import opencv

__all__ = ["Reduced", "reduced"]

# What numpy reduces in one row runs well from this length on.
_WIDE = 256
# An image of so many numbers is worth a call of its own.
_LARGE = 2**12
# Numbers that OpenCV reduces at once: with what is made of them they stay in the cache.
_NEAR = 2**17


@dataclass(frozen=True)
class Reduced:
    """What some images' activations come to.

    Attributes
    ----------
    sums, squares : array of float64
        ``(N, C)``, over the places of each image: of the values, and of their squares.
    largest : array
        ``(N, C)``; of zeros, the one without a sign, as `smallest`.
    places : array of int32, optional
        ``(N, C)``, where they are largest: the first place. None where it is not known.
    smallest : array
        ``(C,)``, over all images and places.
    zeros : array of int64
        ``(C,)``, over all as well.
    """

    sums: NDArray[np.float64]
    squares: NDArray[np.float64]
    largest: NDArray[Any]
    places: NDArray[np.int32] | None
    smallest: NDArray[Any]
    zeros: NDArray[np.int64]


def reduced(values: NDArray[Any]) -> Reduced:
    """Reduce ``(N, P, C)``, contiguous floats, over places.

    What is not finite shows in the sums; the rest is worth nothing then.
    """
    images, places, channels = values.shape
    width = _width(places, channels)
    part = values.reshape(images, places // width, width * channels)
    loop = compiled(reduce_maps)
    return _by_opencv(part, channels) if loop is None else _by_numba(loop, part, channels)


def _by_numba(loop: Any, part: NDArray[Any], channels: int) -> Reduced:
    """Reduce ``(N, R, W * C)``."""
    images, _, wide = part.shape
    sums, squares = np.empty((2, images, channels))
    largest, places = np.empty((images, channels), part.dtype), np.empty(sums.shape, np.int32)
    smallest, zeros = np.empty(channels, part.dtype), np.empty(channels, np.int64)
    width = wide // channels
    loop(only_read(part), width, sums, squares, largest, places, smallest, zeros)
    return Reduced(sums, squares, largest, places, smallest, zeros)


def _by_opencv(part: NDArray[Any], channels: int) -> Reduced:
    """Reduce ``(N, R, W * C)``, as many images at once as stay in the cache."""
    step = max(1, _NEAR // max(1, part[0].size))
    found = []
    for start in range(0, len(part), step):
        span = part[start : start + step]
        found.append(
            (
                _of_images(span, channels, "sum"),
                _of_images(span, channels, "squares"),
                _of_images(span, channels, "max"),
                _smallest(span, channels),
                _zeros(span, channels),
            )
        )
    sums, squares, largest, smallest, zeros = zip(*found, strict=True)
    return Reduced(
        np.concatenate(sums),
        np.concatenate(squares),
        # Which of two zeros is the larger nobody has fixed.
        np.concatenate(largest) + 0.0,
        None,
        np.stack(smallest).min(axis=0) + 0.0,
        np.stack(zeros).sum(axis=0, dtype=np.int64),
    )


def _of_images(
    part: NDArray[Any], channels: int, how: Literal["sum", "squares", "max"]
) -> NDArray[Any]:
    """Reduce ``(N, R, W * C)`` over the places of each image, to ``(N, C)``."""
    cv = opencv()
    if part[0].size < _LARGE:
        # Calls would cost more than the work.
        if how == "max":
            wide = part.max(axis=1)
        else:
            power = part.astype(np.float64) ** 2 if how == "squares" else part
            wide = power.sum(axis=1, dtype=np.float64)
    elif how == "max":
        wide = np.concatenate([cv.reduce(one, 0, cv.REDUCE_MAX) for one in part])
    else:
        kind = cv.REDUCE_SUM if how == "sum" else cv.REDUCE_SUM2
        wide = np.concatenate([cv.reduce(one, 0, kind, dtype=cv.CV_64F) for one in part])
    cube = wide.reshape(len(part), -1, channels)
    if how == "max":
        return np.asarray(cube.max(axis=1))
    total: NDArray[np.float64] = cube[:, 0]
    # One after the other: numpy adds a single channel in an order of its own.
    for row in range(1, cube.shape[1]):
        total = total + cube[:, row]
    return total + 0.0


def _smallest(part: NDArray[Any], channels: int) -> NDArray[Any]:
    cv = opencv()
    wide = cv.reduce(part.reshape(-1, part.shape[-1]), 0, cv.REDUCE_MIN)
    return np.asarray(wide.reshape(-1, channels).min(axis=0))


def _zeros(part: NDArray[Any], channels: int) -> NDArray[Any]:
    cv = opencv()
    rows = (part == 0).reshape(-1, part.shape[-1]).view(np.uint8)
    wide = cv.reduce(rows, 0, cv.REDUCE_SUM, dtype=cv.CV_32S)
    return np.asarray(wide.reshape(-1, channels).sum(axis=0))


def _width(places: int, channels: int) -> int:
    """Say how many places are taken for one row, so that rows are long enough to run well."""
    fine = (n for n in range(1, places + 1) if places % n == 0 and n * channels >= _WIDE)
    found = next(fine, places)
    # A number of places that has no divisor would leave one row of them all.
    return found if found * channels <= 16 * _WIDE else 1
