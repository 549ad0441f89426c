"""Maps as pictures: heat over a photo, what speaks for and against, outlines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cnnviz import images
from cnnviz.errors import InvalidOption
from cnnviz.images.filters import opencv

__all__ = ["Interpolation", "heat", "outlined", "signed_overlay", "signed_share"]

Array = NDArray[Any]
Interpolation = Literal["bilinear", "bicubic", "nearest"]


def heat(
    raw: Array, size: tuple[int, ...], interpolation: Interpolation, percentile: float
) -> Array:
    """Scale the positive part of maps to [0, 1] at a size; what is above a percentile is 1.

    Parameters
    ----------
    raw : array
        ``(N, *sides)``.
    size : tuple of int
    interpolation : {"bilinear", "bicubic", "nearest"}
    percentile : float
        Of each map's numbers above zero; 100 is the maximum.
    """
    return _scaled(_resized(np.maximum(raw, 0), size, interpolation), percentile)


def signed_share(
    raw: Array, size: tuple[int, ...], interpolation: Interpolation, percentile: float
) -> Array:
    """Scale maps to [-1, 1] at a size, with zero at zero."""
    resized = _resized(raw, size, interpolation)
    return np.asarray(np.sign(resized) * _scaled(np.abs(resized), percentile))


def require_interpolation(interpolation: str) -> None:
    """Raise InvalidOption unless maps can be enlarged so."""
    if interpolation not in ("bilinear", "bicubic", "nearest"):
        raise InvalidOption(
            f"interpolation is 'bilinear', 'bicubic' or 'nearest', not {interpolation!r}"
        )


def require_alpha(alpha: float) -> None:
    """Raise InvalidOption unless it is a share."""
    if not 0 <= alpha <= 1:
        raise InvalidOption(f"alpha must be in [0, 1], not {alpha}")


def require_levels(levels: Sequence[float]) -> None:
    """Raise InvalidOption unless outlines can be drawn at them."""
    numbers = [isinstance(level, (int, float, np.number)) for level in levels]
    if not numbers or not all(numbers) or not all(0 < level <= 1 for level in levels):
        raise InvalidOption(f"levels are numbers above 0 and at most 1, not {levels!r}")


def _resized(maps: Array, size: tuple[int, ...], interpolation: Interpolation) -> Array:
    require_interpolation(interpolation)
    if maps.shape[1:] == tuple(size):
        return maps
    if interpolation == "bilinear" or len(size) != 2:
        return images.enlarge(maps, size)
    return images.resize(maps[..., None], (size[0], size[1]), interpolation)[..., 0]


def _scaled(maps: Array, percentile: float) -> Array:
    if not 0 < percentile <= 100:
        raise InvalidOption(f"percentile must be above 0 and at most 100, not {percentile}")
    found = np.zeros_like(maps)
    for i, one in enumerate(maps):
        above = one[one > 0]
        if above.size:
            top = float(np.percentile(above, percentile))
            if top > np.finfo(maps.dtype).tiny:
                found[i] = np.clip(one / top, 0, 1)
    return found


def signed_overlay(photos: Array, share: Array, alpha: float, cmap: str) -> Array:
    """Colour what speaks for a score and against it, each place as much as it does so.

    Parameters
    ----------
    photos : array
        ``(N, H, W, C)``.
    share : array
        ``(N, H, W)`` in [-1, 1].
    alpha : float
        Share of the colour where the map is largest.
    cmap : str
        A diverging colour map.
    """
    require_alpha(alpha)
    grey = photos.mean(-1, keepdims=True).repeat(3, -1)
    colour = images.colormap(np.asarray((share + 1) / 2, np.float64), cmap)
    weight = alpha * np.abs(share)[..., None]
    return np.asarray(np.clip(weight * colour + (1 - weight) * grey, 0, 1))


def outlined(photos: Array, maps: Array, levels: Sequence[float], colour: Sequence[float]) -> Array:
    """Draw the outlines of where maps are at least so high.

    Parameters
    ----------
    photos : array
        ``(N, H, W, C)`` in [0, 1].
    maps : array
        ``(N, H, W)`` in [0, 1].
    levels : sequence of float
        In (0, 1].
    colour : sequence of float
        RGB in [0, 1].
    """
    cv2 = opencv()
    require_levels(levels)
    paint = np.asarray(colour, np.float64)
    if paint.shape != (3,) or not ((paint >= 0) & (paint <= 1)).all():
        raise InvalidOption(f"a colour is three numbers in [0, 1], not {colour!r}")
    found = photos if photos.shape[-1] == 3 else photos.repeat(3, -1)
    found = found.astype(np.float64)
    width = max(1, round(max(photos.shape[1:3]) / 150))
    for i, one in enumerate(maps):
        lines = np.zeros(one.shape, np.uint8)
        for level in levels:
            inside = (one >= level).astype(np.uint8)
            shapes, _ = cv2.findContours(inside, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
            cv2.drawContours(lines, shapes, -1, 255, width, cv2.LINE_AA)
        share = lines[..., None] / 255
        found[i] = found[i] * (1 - share) + paint * share
    return np.asarray(np.clip(found, 0, 1))
