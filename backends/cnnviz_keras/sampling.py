"""Pictures read between their pixels, with a derivative that is exactly the adjoint.

TensorFlow's own derivative of a projective transform is not its adjoint, and that of a gather
adds up row by row; there, reading is a product with a sparse matrix, whose derivative is a
product with the same one.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import keras
import numpy as np

__all__ = ["sample"]

Tensor = Any


def sample(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """See `cnnviz.adapter.Ops.sample`."""
    height, width = (int(side) for side in x.shape[1:3])
    # Two lines of zeros after the last: what is read there has none beside it to mix with.
    padded = keras.ops.pad(x, ((0, 0), (1, 2), (1, 2), (0, 0)))
    rows = keras.ops.clip(rows, -1, height)
    columns = keras.ops.clip(columns, -1, width)
    top, left = keras.ops.floor(rows), keras.ops.floor(columns)
    down, across = rows - top, columns - left
    both = down * across
    near = (1 - down - across + both, across - both, down - both, both)
    # Whole before they are multiplied: floats would lose the place.
    top, left = (keras.ops.cast(n, "int32") for n in (top, left))
    return _added(padded, top, left, near)


def _added(x: Tensor, top: Tensor, left: Tensor, near: tuple[Tensor, ...]) -> Tensor:
    """Add up four pixels around each place, weighted; places count from the first but one."""
    count, height, width, channels = (int(side) for side in x.shape)
    shape = (count, *(int(side) for side in top.shape[1:]), channels)
    first = np.arange(count).reshape(-1, 1, 1) * (height * width) + width + 1
    place = top * width + left + keras.ops.convert_to_tensor(first, "int32")
    places = (place, place + 1, place + width, place + (width + 1))
    flat = keras.ops.reshape(x, (count * height * width, channels))
    if _by_matrix() and keras.backend.standardize_dtype(x.dtype) in ("float32", "float64"):
        return keras.ops.reshape(_product(flat, places, near), shape)
    total: Any = 0.0
    for one, weight in zip(places, near, strict=True):
        total = total + keras.ops.take(flat, one, axis=0) * keras.ops.expand_dims(weight, -1)
    return total


@cache
def _by_matrix() -> bool:
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow

    # Measured on processors alone.
    return not tensorflow.config.list_logical_devices("GPU")


def _product(flat: Tensor, places: tuple[Tensor, ...], near: tuple[Tensor, ...]) -> Tensor:
    import tensorflow as tf

    lines = np.prod([int(side) for side in places[0].shape])
    numbers = tf.constant(np.tile(np.arange(lines), len(places)), tf.int32)
    indices = tf.stack([numbers, tf.reshape(tf.stack(places), (-1,))], 1)
    return tf.raw_ops.SparseTensorDenseMatMul(
        a_indices=indices,
        a_values=tf.reshape(tf.stack(near), (-1,)),
        a_shape=np.array([lines, flat.shape[0]], np.int64),
        b=flat,
    )
