"""Pictures of numbers: colour maps, heat over a photo, sheets of tiles."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cnnviz.errors import InvalidImage, InvalidOption
from cnnviz.images.arrays import as_floats, as_unit
from cnnviz.images.reading import ImageLike, read, read_batch

__all__ = ["colormap", "grid", "normalise", "overlay"]


def colormap(values: NDArray[Any], name: str = "viridis") -> NDArray[Any]:
    """Colour numbers in [0, 1] by a colour map of matplotlib.

    Parameters
    ----------
    values : array
        Floats in [0, 1], of any shape. Integers are refused: 255 and 1.0 would be confused.
    name : str
        Such as ``"viridis"`` for a map that has no sign, ``"jet"`` for heat over a photo.

    Returns
    -------
    array
        The shape of `values` and a last axis of 3, RGB in [0, 1]; float64 if `values` is,
        else float32.

    Raises
    ------
    InvalidImage
        `values` are not floats in [0, 1].
    InvalidOption
        matplotlib has no such colour map.
    """
    # Matplotlib takes a while to import, and who only reads pictures never needs it.
    from matplotlib import colormaps

    unit = as_unit(values, "what is coloured", allow_uint8=False)
    if name not in colormaps:
        raise InvalidOption(
            f"matplotlib has no colour map {name!r}; try viridis, magma, gray, jet or turbo"
        )
    return np.asarray(colormaps[name](unit), dtype=unit.dtype)[..., :3].copy()


def overlay(
    image: ImageLike, heat: NDArray[Any], alpha: float = 0.3, cmap: str = "jet"
) -> NDArray[Any]:
    """Lay a heat map over a photo: `alpha` parts of heat and 1 - `alpha` of photo.

    Nothing is divided by the maximum: a dim photo stays dim, and 1 is drawn hottest.

    Parameters
    ----------
    image : path, Pillow image or array
        One image, grey or RGB, or an array of them ``(N, H, W, C)``.
    heat : array
        ``(H, W)`` or ``(N, H, W)``, floats in [0, 1], as high and wide as the photo.
    alpha : float
        Share of the heat, in [0, 1].
    cmap : str
        See `colormap`.

    Returns
    -------
    array
        ``(H, W, 3)``, or ``(N, H, W, 3)`` if `image` or `heat` has N; RGB in [0, 1].

    Raises
    ------
    InvalidImage
        The image cannot be read, the heat is not floats in [0, 1], or their sizes differ.
    InvalidOption
        `alpha` is outside [0, 1], or there is no such colour map.
    """
    if not 0 <= alpha <= 1:
        raise InvalidOption(f"alpha must be in [0, 1], not {alpha}")
    photo = read_batch(image) if getattr(image, "ndim", 0) == 4 else read(image)
    heat = as_unit(heat, "the heat map", allow_uint8=False)
    if heat.ndim not in (2, 3):
        raise InvalidImage(f"the heat map must have shape (H, W) or (N, H, W), not {heat.shape}")
    if heat.shape[-2:] != photo.shape[-3:-1]:
        raise InvalidImage(
            f"the heat map is {heat.shape[-2]} x {heat.shape[-1]} and the photo"
            f" {photo.shape[-3]} x {photo.shape[-2]} (height x width); resize the heat map to it"
        )
    if heat.ndim == 3 and photo.ndim == 4 and len(heat) != len(photo):
        raise InvalidImage(f"there are {len(heat)} heat maps for {len(photo)} photos")
    mixed = alpha * colormap(heat, cmap) + (1 - alpha) * photo
    return np.clip(mixed, 0, 1)


def grid(
    images: NDArray[Any] | Sequence[NDArray[Any]],
    columns: int | None = None,
    margin: int = 5,
    background: float | Sequence[float] = 1.0,
) -> NDArray[Any]:
    """Lay pictures of one size out as a sheet, row by row, with margins around each.

    Parameters
    ----------
    images : array or list of arrays
        ``(N, H, W, C)``, or greys ``(N, H, W)``, which become RGB; float in [0, 1] or uint8.
    columns : int, optional
        Pictures in a row; by default about as many as there are rows.
    margin : int
        Pixels between the pictures and around the sheet.
    background : float or sequence of float
        What shows between the pictures, and where the last row has none: one value in
        [0, 1], or one a channel.

    Returns
    -------
    array
        ``(rows (H + margin) + margin, columns (W + margin) + margin, C)``, in [0, 1].

    Raises
    ------
    InvalidImage
        There is no picture, they differ in shape, or they are not in [0, 1].
    InvalidOption
        `columns` or `margin` is too small, or `background` is no colour.
    """
    tiles = as_unit(_stacked(images), "the sheet's pictures")
    if tiles.ndim == 3:
        tiles = np.repeat(tiles[..., None], 3, axis=-1)
    if tiles.ndim != 4:
        raise InvalidImage(
            f"the sheet's pictures must have shape (N, H, W, C) or (N, H, W), not {tiles.shape}"
        )
    count, height, width, channels = tiles.shape
    columns = math.ceil(math.sqrt(count)) if columns is None else _whole(columns, "columns", 1)
    margin = _whole(margin, "margin", 0)
    rows = -(-count // columns)
    shape = (rows * (height + margin) + margin, columns * (width + margin) + margin, channels)
    sheet = np.empty(shape, tiles.dtype)
    sheet[:] = _colour(background, channels)
    for i, tile in enumerate(tiles):
        top = margin + i // columns * (height + margin)
        left = margin + i % columns * (width + margin)
        sheet[top : top + height, left : left + width] = tile
    return sheet


def normalise(x: NDArray[Any], how: Literal["minmax", "zero"] = "minmax") -> NDArray[Any]:
    """Scale each map to [0, 1] by itself, to be shown as grey.

    Parameters
    ----------
    x : array
        Floats ``(H, W)``, ``(N, H, W)`` or ``(N, H, W, C)``. Each map counts on its own, so
        each channel of each picture: colours are not kept.
    how : {"minmax", "zero"}
        ``"minmax"`` puts a map's lowest number at 0 and its highest at 1; one that is the same
        everywhere comes out 0. ``"zero"`` keeps the sign: 0 comes out at 0.5, and the number
        farthest from it at 0 or 1.

    Returns
    -------
    array
        Of the same shape; float64 if `x` is, else float32.

    Raises
    ------
    InvalidImage
        `x` is not floats of such a shape, or holds NaN or infinity.
    InvalidOption
        `how` is another word.
    """
    if how not in ("minmax", "zero"):
        raise InvalidOption(f"how must be 'minmax' or 'zero', not {how!r}")
    x = as_floats(x, "what is normalised")
    if x.ndim not in (2, 3, 4) or x.size == 0:
        raise InvalidImage(f"maps must have shape (H, W), (N, H, W) or (N, H, W, C), not {x.shape}")
    if not np.isfinite(x).all():
        raise InvalidImage("a map that holds NaN or infinity cannot be shown as grey")
    axes = (0, 1) if x.ndim == 2 else (1, 2)
    # By the largest first: the distance of two huge numbers may not be a number any more.
    reach = np.abs(x).max(axis=axes, keepdims=True)
    x /= np.where(reach > 0, reach, 1)
    if how == "zero":
        return np.asarray(0.5 + 0.5 * x)
    x -= x.min(axis=axes, keepdims=True)
    span = x.max(axis=axes, keepdims=True)
    x /= np.where(span > 0, span, 1)
    return x


def _stacked(images: NDArray[Any] | Sequence[NDArray[Any]]) -> NDArray[Any]:
    if not isinstance(images, list | tuple):
        return np.asarray(images)
    if not images:
        raise InvalidImage("the sheet has no pictures")
    arrays = [np.asarray(image) for image in images]
    for i, array in enumerate(arrays):
        if array.shape != arrays[0].shape:
            raise InvalidImage(
                f"the sheet's pictures differ in shape: picture 0 has {arrays[0].shape},"
                f" picture {i} has {array.shape}"
            )
    return np.stack(arrays)


def _whole(value: int, name: str, least: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if number < least:
        raise InvalidOption(f"{name} must be an integer of at least {least}, not {value!r}")
    return number


def _colour(background: ArrayLike, channels: int) -> NDArray[np.float64]:
    try:
        colour = np.asarray(background, dtype=np.float64)
    except (TypeError, ValueError):
        colour = np.full(1, np.nan)
    if colour.shape not in ((), (channels,)) or not ((colour >= 0) & (colour <= 1)).all():
        raise InvalidOption(
            f"background must be a number in [0, 1], or {channels} of them, not {background!r}"
        )
    return colour
