"""Whether a map lies where the thing is: boxes, masks, and mosaics of several pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz import images
from cnnviz.attribution.result import Attribution
from cnnviz.attribution.settings import require_count
from cnnviz.errors import InvalidOption

__all__ = ["centre_box", "energy_pointing", "pointing_game", "random_map"]

Array = NDArray[Any]
Place = Any
"""A box ``(top, left, bottom, right)`` in pixels, the last two beyond it, or a mask ``(H, W)``."""


def pointing_game(
    maps: Attribution | Array, places: Sequence[Place], tolerance: float = 15
) -> NDArray[np.bool_]:
    """Say of each map whether its maximum is at the thing, or close to it [1]_.

    Of several maxima the first counts, row by row; a map that is nowhere positive points at
    nothing and misses.

    Parameters
    ----------
    maps : Attribution or array
        Maps ``(N, H, W)``, of which the positive part counts.
    places : sequence
        Where the thing is, one for each map: a box ``(top, left, bottom, right)`` in pixels,
        the last two beyond it, or a boolean mask ``(H, W)``.
    tolerance : float
        In pixels, between the centres of pixels; 15 in the paper.

    Returns
    -------
    array of bool
        ``(N,)``; the mean is the accuracy.

    Raises
    ------
    InvalidOption
        A place is empty or does not fit, or the tolerance is below zero.

    References
    ----------
    .. [1] Zhang et al., "Top-down Neural Attention by Excitation Backprop", ECCV 2016,
       arXiv:1608.00507.
    """
    if not isinstance(tolerance, (int, float)) or not 0 <= tolerance < np.inf:
        raise InvalidOption(f"tolerance is a number of pixels from 0 on, not {tolerance!r}")
    shown = positive_maps(maps)
    found = []
    for one, mask in zip(shown, _masks(places, shown), strict=True):
        peak = np.array(np.unravel_index(int(one.argmax()), one.shape))
        apart = ((np.argwhere(mask) - peak) ** 2).sum(1).min()
        found.append(bool(one.max() > 0 and apart <= tolerance**2))
    return np.array(found)


def energy_pointing(maps: Attribution | Array, places: Sequence[Place]) -> NDArray[np.float64]:
    """Say which share of each map lies at the thing [1]_: ``sum_box L / sum L``, L positive.

    Parameters
    ----------
    maps, places
        As for `pointing_game`.

    Returns
    -------
    array
        ``(N,)`` in [0, 1]; 0 for a map that is nowhere positive.

    Raises
    ------
    InvalidOption
        A place is empty or does not fit.

    References
    ----------
    .. [1] Wang et al., "Score-CAM", CVPR Workshops 2020, arXiv:1910.01279.
    """
    shown = positive_maps(maps)
    masks = _masks(places, shown)
    return shares_within(shown, masks)


def positive_maps(maps: Attribution | Array) -> Array:
    """Give the positive part of maps ``(N, H, W)``, at the size of the pictures."""
    if isinstance(maps, Attribution):
        sides, found = maps.map.shape[1:], np.maximum(maps.raw, 0)
        found = found if found.shape[1:] == sides else images.enlarge(found, sides)
    else:
        found = np.asarray(maps)
        if found.dtype.kind not in "fiub" or not np.isfinite(found).all():
            raise InvalidOption("maps hold finite numbers")
        found = np.maximum(found, 0)
    if found.ndim != 3:
        raise InvalidOption(f"maps of pictures are (N, H, W), not {found.shape}")
    return np.asarray(found)


def shares_within(shown: Array, masks: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Give the share of each positive map within a mask of its own."""
    total = shown.sum((1, 2), dtype=np.float64)
    within = (shown * masks).sum((1, 2), dtype=np.float64)
    return np.asarray(np.where(total > 0, within / np.where(total > 0, total, 1), 0))


def _masks(places: Sequence[Place], shown: Array) -> NDArray[np.bool_]:
    if len(places) != len(shown):
        raise InvalidOption(f"{len(places)} places for {len(shown)} maps; give one for each")
    masks = np.stack([_mask(place, shown.shape[1:]) for place in places])
    if not masks.any((1, 2)).all():
        raise InvalidOption("a place where the thing is has at least one pixel")
    return masks


def _mask(place: Place, sides: tuple[int, ...]) -> NDArray[np.bool_]:
    array = np.asarray(place)
    if array.shape == tuple(sides) and array.dtype == bool:
        return array
    if array.shape != (4,) or array.dtype.kind not in "iu":
        raise InvalidOption(
            "a place is a box (top, left, bottom, right) of integers or a boolean mask of"
            f" {sides[0]} x {sides[1]}, not {array.dtype} {array.shape}"
        )
    top, left, bottom, right = (int(n) for n in array)
    if not (0 <= top < bottom <= sides[0] and 0 <= left < right <= sides[1]):
        raise InvalidOption(
            f"the box {top, left, bottom, right} is empty or not within {sides[0]} x {sides[1]}"
        )
    mask = np.zeros(sides, bool)
    mask[top:bottom, left:right] = True
    return mask


def centre_box(count: int, sides: tuple[int, int], area: float = 0.25) -> NDArray[np.float64]:
    """Give maps that always point at the middle: what any method must do better than.

    Parameters
    ----------
    count : int
    sides : (int, int)
        Height and width.
    area : float
        Of the box over that of the picture.

    Returns
    -------
    array
        ``(count, *sides)``: 1 in the box, 0 around it.

    Raises
    ------
    InvalidOption
        The area is none.
    """
    require_count("count", count)
    if not isinstance(area, (int, float)) or not 0 < area <= 1:
        raise InvalidOption(f"area is a share above 0, up to 1, not {area!r}")
    found = np.zeros((count, *sides))
    # As much on either side, so that no cell of a mosaic has more of it.
    top, left = (min(round(side * (1 - area**0.5) / 2), (side - 1) // 2) for side in sides)
    found[:, top : sides[0] - top, left : sides[1] - left] = 1
    return found


def random_map(
    count: int, sides: tuple[int, int], cells: int | None = None, seed: int = 0
) -> NDArray[np.float64]:
    """Give maps of noise, uniform in [0, 1]: what a method that knows nothing does.

    Parameters
    ----------
    count : int
    sides : (int, int)
        Height and width.
    cells : int, optional
        Along each side; fewer than pixels are enlarged, as a class activation map is. By
        default each pixel is drawn by itself.
    seed : int

    Returns
    -------
    array
        ``(count, *sides)``.

    Raises
    ------
    InvalidOption
        A count is none.
    """
    require_count("count", count)
    rng = np.random.default_rng(require_count("seed", seed, 0))
    if cells is None:
        return rng.uniform(0, 1, (count, *sides))
    cells = require_count("cells", cells)
    return images.enlarge(rng.uniform(0, 1, (count, cells, cells)), sides)
