"""Pictures at another size, by the kernels of Pillow, for any dtype and number of channels."""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.errors import InvalidOption
from cnnviz.images.arrays import as_floats, require_picture
from cnnviz.preprocessing import Interpolation

__all__ = ["enlarge", "resize"]


def resize(
    x: NDArray[Any],
    size: tuple[int, int],
    interpolation: Interpolation = "bilinear",
    antialias: bool = True,
) -> NDArray[Any]:
    """Resize pictures or maps to `size`; the whole of each is kept, whatever its shape.

    Pixels are squares: the corners of the picture stay its corners (half-pixel centres). Each
    picture comes out the same to the last bit, whatever stands beside it in the batch.

    Parameters
    ----------
    x : array
        Floats ``(H, W, C)`` or ``(N, H, W, C)`` of any range and any number of channels.
    size : (int, int)
        Height and width that are wanted, in pixels.
    interpolation : {"nearest", "bilinear", "bicubic", "lanczos"}
        The kernel; bicubic (a = -0.5) and lanczos (3 lobes) overshoot at edges, and the
        result is not clipped.
    antialias : bool
        Widen the kernel where the picture shrinks, so that each pixel counts, as Pillow does.
        Nearest has no kernel to widen.

    Returns
    -------
    array
        ``(h, w, C)`` or ``(N, h, w, C)``; float64 if `x` is, else float32; never a view of `x`.

    Raises
    ------
    InvalidImage
        `x` is not an array of floats of such a shape.
    InvalidOption
        The size is not two integers above zero, or the interpolation is unknown.
    """
    height, width = checked_size(size)
    if interpolation not in ("nearest", *_KERNELS):
        raise InvalidOption(
            f"interpolation must be nearest, bilinear, bicubic or lanczos, not {interpolation!r}"
        )
    x = as_floats(x, "what is resized")
    require_picture(x, "what is resized")
    steps = [(-3, height), (-2, width)]
    if height > x.shape[-3]:
        # Whole rows are the quickest to add up, but not once there are more of them.
        steps.reverse()
    for axis, target in steps:
        if x.shape[axis] != target:
            x = _resample(x, axis, *_taps(x.shape[axis], target, interpolation, antialias))
    return x


def enlarge(maps: NDArray[Any], size: tuple[int, ...]) -> NDArray[Any]:
    """Resize maps ``(N, *sides)`` over any number of axes, linearly; the corners stay corners.

    Parameters
    ----------
    maps : array
        Floats of any range.
    size : tuple of int
        The sides that are wanted, one for each after the first.

    Returns
    -------
    array
        ``(N, *size)``; float64 if `maps` is, else float32.
    """
    if len(size) == 2:
        return resize(maps[..., None], size)[..., 0]
    x = as_floats(maps, "what is enlarged")[..., None, None]
    for axis, target in enumerate(size, 1):
        side = x.shape[axis]
        if side != target:
            x = _resample(x, axis - x.ndim, *_taps(side, target, "bilinear", True))
    return np.ascontiguousarray(x[..., 0, 0])


def checked_size(size: tuple[int, int]) -> tuple[int, int]:
    """Give ``(height, width)`` as integers.

    Raises
    ------
    InvalidOption
        They are not two integers above zero.
    """
    try:
        height, width = (operator.index(side) for side in size)
    except (TypeError, ValueError):
        height = width = 0
    if min(height, width) < 1:
        raise InvalidOption(f"size must be (height, width), integers above zero, not {size!r}")
    return height, width


def _triangle(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.maximum(1 - np.abs(x), 0))


def _cubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    x, a = np.abs(x), -0.5
    inner = ((a + 2) * x - (a + 3)) * x * x + 1
    outer = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, inner, np.where(x < 2, outer, 0))


def _lanczos(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0)


_KERNELS: dict[str, tuple[int, Callable[[NDArray[np.float64]], NDArray[np.float64]]]] = {
    "bilinear": (1, _triangle),
    "bicubic": (2, _cubic),
    "lanczos": (3, _lanczos),
}


@lru_cache(maxsize=64)
def _taps(
    source: int, target: int, interpolation: str, antialias: bool
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Give the source index and the weight, each ``(taps, target)``, of every target pixel."""
    if interpolation == "nearest":
        # In integers: floats put a centre that falls on an edge now left and now right of it.
        index = (2 * np.arange(target) + 1) * source // (2 * target)
        return index[None], np.ones((1, target))
    radius, kernel = _KERNELS[interpolation]
    stretch = max(source / target, 1.0) if antialias else 1.0
    centre = (np.arange(target) + 0.5) * (source / target)
    first = np.maximum(np.floor(centre - radius * stretch + 0.5), 0)
    stop = np.minimum(np.floor(centre + radius * stretch + 0.5), source)
    index = first + np.arange(int((stop - first).max()))[:, None]
    weight = np.where(index < stop, kernel((index + 0.5 - centre) / stretch), 0)
    weight /= weight.sum(axis=0)
    return np.minimum(index, source - 1).astype(np.intp), weight


def _resample(
    x: NDArray[Any], axis: int, index: NDArray[np.intp], weight: NDArray[np.float64]
) -> NDArray[Any]:
    """Sum weighted pixels along one axis.

    A sum tap by tap rather than a product of matrices: the order of the additions, so the
    last bit, does not hang on the size of the batch or the number of threads.
    """
    if axis == -2 and x.shape[-1] < 16:
        # Columns of few channels lie scattered in memory: turned into rows they are quicker.
        rows = np.ascontiguousarray(np.swapaxes(x, -3, -2))
        return np.ascontiguousarray(np.swapaxes(_resample(rows, -3, index, weight), -3, -2))
    factors = weight.astype(x.dtype).reshape(len(weight), -1, *[1] * (-axis - 1))
    total = np.take(x, index[0], axis=axis) * factors[0]
    for row, factor in zip(index[1:], factors[1:], strict=True):
        part = np.take(x, row, axis=axis)
        part *= factor
        total += part
    return np.asarray(total)
