"""The user's pictures, signals or volumes, as a batch that a network takes."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.adapter import Adapter
from cnnviz.errors import InvalidImage, InvalidOption
from cnnviz.grids import extent_in_words
from cnnviz.images import ImagesLike, read_batch
from cnnviz.images.arrays import as_floats

__all__ = ["picture_batch", "picture_size", "require_pictures", "two_sides"]


def picture_size(
    net: Adapter[Any], size: int | tuple[int, int] | None = None
) -> tuple[int, int] | None:
    """Say the height and width that pictures must have for `net`, in pixels.

    Parameters
    ----------
    net : Adapter
        The network.
    size : int or (int, int), optional
        What the caller asks for; an integer is the side of a square. By default the size
        that the network is fixed to, then that of its preprocessing.

    Returns
    -------
    (int, int) or None
        None if any size will do.

    Raises
    ------
    InvalidOption
        The size is below one.
    UnknownPreprocessing
        Nothing says what the network was trained on.
    """
    preferred = net.require_preprocessing().size or (0, 0)
    if size is None:
        # A model built for another size takes that one, whatever its weights were trained at.
        height, width = (
            fixed or trained for fixed, trained in zip(net.input_shape[:-1], preferred, strict=True)
        )
        return (height, width) if min(height, width) > 0 else None
    return two_sides(size)


def two_sides(size: Any, name: str = "size") -> tuple[int, int]:
    """Give height and width of a size that is either a side or both, or say what is wrong."""
    try:
        given = (size, size) if isinstance(size, (int, np.integer)) else size
        height, width = (operator.index(side) for side in given)
    except (TypeError, ValueError) as error:
        raise InvalidOption(
            f"{name} is a number of pixels or (height, width), not {size!r}"
        ) from error
    if min(height, width) < 1:
        raise InvalidOption(f"{name} must be above zero, not {height} x {width}")
    return height, width


def picture_batch(
    net: Adapter[Any], images: ImagesLike, size: int | tuple[int, int] | None = None
) -> NDArray[Any]:
    """Read pictures and resize them to what `net` was trained on; nothing is normalised yet.

    Parameters
    ----------
    net : Adapter
        The network; its channels, size and interpolation are taken.
    images : path, Pillow image, array or list of these
        See `cnnviz.images.read_batch`. For a network on signals or volumes a float array of
        any range, ``(N, L, C)`` or ``(N, D, H, W, C)``, or a list of single ones.
    size : int or (int, int), optional
        Height and width instead of the network's own; see `picture_size`.

    Returns
    -------
    array
        ``(N, H, W, C)``, RGB in [0, 1]; float64 stays float64. Signals and volumes keep their
        range and their size.

    Raises
    ------
    InvalidImage
        A picture cannot be read, or they differ in size and nothing says which to take.
    InvalidOption
        The size is below one.
    UnknownPreprocessing
        Nothing says what the network was trained on.
    """
    preprocessing = net.require_preprocessing()
    channels = net.input_shape[-1]
    preprocessing.check_channels(channels)
    if len(net.input_shape) != 3:
        batch = _array_batch(net, images, size)
    else:
        batch = read_batch(
            images,
            channels=channels,
            size=picture_size(net, size),
            interpolation=preprocessing.interpolation,
        )
    net.settle(*batch.shape[1:-1])
    return batch


def require_pictures(net: Adapter[Any], what: str) -> None:
    """Raise InvalidOption if a network takes signals or volumes, of which there is no picture.

    Or if its preprocessing is for another number of channels.
    """
    net.require_preprocessing().check_channels(net.input_shape[-1])
    if len(net.input_shape) != 3:
        raise InvalidOption(
            f"{net.name} takes arrays of {extent_in_words(net)}, not pictures; {what} is for"
            " pictures alone"
        )


def _array_batch(
    net: Adapter[Any], arrays: Any, size: int | tuple[int, int] | None
) -> NDArray[Any]:
    """Stack signals or volumes, in any range, at their own size."""
    if size is not None:
        raise InvalidOption(f"{net.name} takes no pictures; cut or resample the arrays yourself")
    rank, channels = len(net.input_shape), net.input_shape[-1]
    what = f"arrays of {extent_in_words(net)} and {channels} channels"
    singles = arrays if isinstance(arrays, (list, tuple)) else [arrays]
    if not singles or not all(isinstance(one, np.ndarray) for one in singles):
        raise InvalidImage(f"{net.name} takes {what}: give numpy arrays of floats")
    if len({one.shape for one in singles}) > 1:
        raise InvalidImage(f"{net.name}: the arrays differ in shape; make them alike")
    batch = as_floats(np.stack(singles), "what the network takes")
    if batch.ndim == rank + 2 and len(batch) == 1:
        batch = batch[0]
    if batch.ndim != rank + 1 or batch.shape[-1] != channels or 0 in batch.shape:
        raise InvalidImage(f"{net.name} takes {what}, channels last, not {singles[0].shape}")
    if not np.isfinite(batch).all():
        raise InvalidImage("what the network takes holds numbers that are not finite")
    return batch
