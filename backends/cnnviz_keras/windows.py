"""What each kind of layer of Keras makes of the receptive field."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from keras import layers as L
from keras.src.layers.convolutional.base_conv import BaseConv
from keras.src.layers.convolutional.base_conv_transpose import BaseConvTranspose
from keras.src.layers.convolutional.base_depthwise_conv import BaseDepthwiseConv
from keras.src.layers.convolutional.base_separable_conv import BaseSeparableConv
from keras.src.layers.pooling.base_global_pooling import BaseGlobalPooling
from keras.src.layers.pooling.base_pooling import BasePooling

from cnnviz import fields
from cnnviz.fields import Field

__all__ = ["WHOLE", "field_after"]

Tensor = Any

_CONVOLUTIONS = (BaseConv, BaseDepthwiseConv, BaseSeparableConv)
WHOLE: tuple[type, ...] = (
    BaseGlobalPooling,
    L.RNN,
    L.Bidirectional,
    L.MultiHeadAttention,
    L.GroupQueryAttention,
    L.Attention,
    L.AdditiveAttention,
    L.GroupNormalization,
)
"""Layers whose every place depends on every other."""

# Layers of other packages that work on each place alone.
_POINTWISE = ("LayerScale", "StochasticDepth", "DropPath")
# Operations and layers that mix places, or put them elsewhere, in ways that are not followed.
_UNKNOWN = ("Matmul", "Einsum", "Tensordot", "Dot", "Conv", "Roll", "Flip", "FFT", "Resizing")


def field_after(layer: Any, before: Field, inputs: Sequence[Tensor], x: Tensor, rank: int) -> Field:
    """Give the receptive field of what one call gave.

    Parameters
    ----------
    layer : keras.Operation or None
        None for a function that works on each place alone.
    before : Field
        That of all that went in.
    inputs : sequence of tensor
    x : tensor
        What came out.
    rank : int
        Axes of the picture, that of the batch included.
    """
    if len(x.shape) <= 2 and len(x.shape) < rank:
        # One vector for the whole picture; a single place still tells how far it sees.
        return fields.ALL
    if isinstance(layer, _CONVOLUTIONS):
        kernel = [
            (k - 1) * d + 1
            for k, d in zip(layer.kernel_size, _each(layer.dilation_rate, layer), strict=True)
        ]
        return fields.enlarged(before, kernel, _each(layer.strides, layer))
    if isinstance(layer, BaseConvTranspose):
        return fields.shrunk(before, layer.kernel_size, _each(layer.strides, layer))
    if isinstance(layer, BasePooling):
        pool = layer.pool_size
        pool = (pool,) * (rank - 2) if isinstance(pool, int) else pool
        strides = layer.strides if layer.strides is not None else pool
        strides = (strides,) * (rank - 2) if isinstance(strides, int) else strides
        return fields.enlarged(before, pool, strides)
    if isinstance(layer, (L.UpSampling1D, L.UpSampling2D, L.UpSampling3D)):
        size = layer.size
        size = (size,) * (rank - 2) if isinstance(size, int) else tuple(size)
        smooth = getattr(layer, "interpolation", "nearest") != "nearest"
        return fields.enlarged(before, [2 if smooth else 1] * len(size), [1 / n for n in size])
    if isinstance(layer, WHOLE):
        return fields.ALL
    if isinstance(layer, L.LayerNormalization):
        axis = layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis]
        places = {a % len(x.shape) for a in axis} - {len(x.shape) - 1}
        return fields.ALL if places else before
    if layer is None:
        return before
    name = type(layer).__name__
    if type(layer).__module__.startswith("keras.src."):
        if any(word in name for word in _UNKNOWN):
            return before if before == fields.ALL else None
        if name in ("Mean", "Max", "Sum", "Min", "Amax", "Average") and _fewer(inputs, x):
            return fields.ALL
        return before
    if name in _POINTWISE:
        return before
    # A layer of one's own may mix places as it likes.
    return before if before == fields.ALL else None


def _fewer(inputs: Sequence[Tensor], x: Tensor) -> bool:
    """Say whether a reduction went over places."""
    sizes = [math.prod(y.shape[1:-1]) for y in inputs if len(y.shape) > 2]
    return bool(sizes) and math.prod(x.shape[1:-1]) < max(sizes)


def _each(value: Any, layer: Any) -> tuple[int, ...]:
    sides = len(layer.kernel_size)
    return (value,) * sides if isinstance(value, int) else tuple(value)
