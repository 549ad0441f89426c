"""Reductions of activations over places: by numba where it is installed, else by OpenCV.

Both add in the same order, so that they give the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cnnviz.compiled import compiled, only_read
from cnnviz.exemplars.loops import reduce_rows
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
    loop = compiled(reduce_rows)
    found = _by_opencv(part, channels) if loop is None else _by_numba(loop, part, channels)
    # Which of two zeros is the larger nobody has fixed.
    return replace(found, largest=found.largest + 0.0, smallest=found.smallest + 0.0)


def _by_numba(loop: Any, part: NDArray[Any], channels: int) -> Reduced:
    """Reduce ``(N, R, W * C)``."""
    images, height, wide = part.shape
    width = wide // channels
    sums, squares = np.empty((2, images, wide))
    largest, rows = np.empty((images, wide), part.dtype), np.empty((images, wide), np.int32)
    smallest, zeros = np.full(wide, np.inf, part.dtype), np.zeros(wide, np.int32)
    loop(only_read(part), sums, squares, largest, rows, smallest, zeros)
    if width == 1:
        return Reduced(sums, squares, largest, rows, smallest, zeros.astype(np.int64))
    cube = largest.reshape(images, width, channels)
    most = cube.max(axis=1)
    found = rows.reshape(cube.shape) * np.int32(width) + np.arange(width, dtype=np.int32)[:, None]
    found[cube != most[:, None]] = height * width
    return Reduced(
        sums.reshape(cube.shape).sum(axis=1),
        squares.reshape(cube.shape).sum(axis=1),
        most,
        found.min(axis=1),
        smallest.reshape(width, channels).min(axis=0),
        zeros.reshape(width, channels).sum(axis=0, dtype=np.int64),
    )


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
        np.concatenate(largest),
        None,
        np.stack(smallest).min(axis=0),
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
    return np.asarray(cube.max(axis=1) if how == "max" else cube.sum(axis=1))


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
