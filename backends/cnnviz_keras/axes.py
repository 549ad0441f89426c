"""Axes and dtypes where tensors pass between a Keras model and the contract."""

from __future__ import annotations

import math
from typing import Any

import keras

from cnnviz.adapter import LOGITS
from cnnviz.errors import InvalidOption
from cnnviz_keras.calls import Place

__all__ = ["channels_first", "native", "native_picture", "presented"]

Tensor = Any

# What each kind of float holds without loss.
_NARROWER = {
    "float32": ("float16", "bfloat16"),
    "float64": ("float16", "bfloat16", "float32"),
}


def native_picture(picture: Tensor, first: bool) -> Tensor:
    """Move the channels of pictures to where the model takes them."""
    return channels_first(picture) if first else picture


def presented(
    tap: str, place: Place, x: Tensor, *, count: int, dtype: str, lead: int = 0
) -> Tensor:
    """Give a tensor as the contract has it; class scores with an axis for each picture.

    Parameters
    ----------
    tap : str
    place : Place
    x : tensor
    count : int
        Of pictures.
    dtype : str
        Of pictures.
    lead : int
        Axes before that of the batch.
    """
    shape = tuple(x.shape)
    rank = len(shape) - lead
    kind = keras.backend.standardize_dtype(x.dtype)
    if kind != dtype and kind in _NARROWER.get(dtype, ()):
        # Layers of mixed precision give less than the picture has, and do not mix with it.
        x = keras.ops.cast(x, dtype)
    if place.first:
        x = keras.ops.transpose(x, (*range(lead + 1), *range(lead + 2, lead + rank), lead + 1))
        shape = tuple(x.shape)
    if tap == LOGITS and rank <= 1:
        return keras.ops.reshape(x, (*shape[:lead], count, -1))
    rows = shape[lead] if rank else 1
    if tap == LOGITS and rows not in (count, None) and rows % count == 0:
        return keras.ops.reshape(x, (*shape[:lead], count, rows // count, *shape[lead + 1 :]))
    return x


def native(
    tap: str, place: Place, x: Tensor, *, one: tuple[int, ...], dtype: str
) -> tuple[Tensor, int]:
    """Give a tensor as the model has it, the inverse of `presented`, and for how many pictures.

    Parameters
    ----------
    tap : str
    place : Place
    x : tensor
        For any number of pictures.
    one : tuple of int
        The shape that the model has it in for one picture.
    dtype : str
        That the model has it in.

    Raises
    ------
    InvalidOption
        It has not the shape that the tap gives.
    """
    shape = tuple(x.shape)
    rows, *inner = one or (1,)
    if place.first:
        inner = [*inner[1:], inner[0]]
    count = (shape or (0,))[0] if tap == LOGITS else (shape or (0,))[0] // rows
    taken = (count * rows, *inner)
    alike = math.prod(shape) == math.prod(taken) if tap == LOGITS else shape == taken
    if not count or not alike:
        raise InvalidOption(
            f"{tap!r} gives {_by((rows, *inner))} for one picture; activations"
            f" of {_by(shape)} do not go in its place"
        )
    x = keras.ops.reshape(x, taken)
    if place.first:
        x = channels_first(x)
    return keras.ops.cast(x, dtype), count


def channels_first(x: Tensor) -> Tensor:
    """Move the channels of a tensor before its places."""
    rank = len(x.shape)
    return keras.ops.transpose(x, (0, rank - 1, *range(1, rank - 1)))


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) if shape else "a single number"
