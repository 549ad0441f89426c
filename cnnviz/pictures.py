"""The user's pictures, as a batch that a network takes."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from cnnviz.adapter import Adapter
from cnnviz.errors import InvalidOption
from cnnviz.images import ImagesLike, read_batch

__all__ = ["picture_batch", "picture_size"]


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
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < 1:
        raise InvalidOption(f"size must be above zero, not {height} x {width}")
    return int(height), int(width)


def picture_batch(
    net: Adapter[Any], images: ImagesLike, size: int | tuple[int, int] | None = None
) -> NDArray[Any]:
    """Read pictures and resize them to what `net` was trained on; nothing is normalised yet.

    Parameters
    ----------
    net : Adapter
        The network; its channels, size and interpolation are taken.
    images : path, Pillow image, array or list of these
        See `cnnviz.images.read_batch`.
    size : int or (int, int), optional
        Height and width instead of the network's own; see `picture_size`.

    Returns
    -------
    array
        ``(N, H, W, C)``, RGB in [0, 1]; float64 stays float64.

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
    batch = read_batch(
        images,
        channels=net.input_shape[-1],
        size=picture_size(net, size),
        interpolation=preprocessing.interpolation,
    )
    net.settle(*batch.shape[1:3])
    return batch
