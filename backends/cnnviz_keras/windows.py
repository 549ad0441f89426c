"""What each kind of layer of Keras makes of the receptive field."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from keras import layers as L
from keras.src.layers.convolutional.base_conv import BaseConv
from keras.src.layers.convolutional.base_conv_transpose import BaseConvTranspose
from keras.src.layers.convolutional.base_depthwise_conv import BaseDepthwiseConv
from keras.src.layers.convolutional.base_separable_conv import BaseSeparableConv
from keras.src.layers.pooling.base_global_pooling import BaseGlobalPooling
from keras.src.layers.pooling.base_pooling import BasePooling

from cnnviz import fields, taps
from cnnviz.fields import Field, Taps

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


# Of those that are followed, what keeps the shape of a tensor and yet moves its places.
_MOVING = ("Sort", "Take", "Scatter", "Rot90", "GetItem", "Slice", "Cum", "Shuffle", "Where")
_AMONG = {"nearest": 1, "bilinear": 2, "bicubic": 4, "lanczos3": 6, "lanczos5": 10}


def field_after(
    layer: Any, parts: Sequence[tuple[Tensor, Field]], x: Tensor, rank: int, first: bool
) -> Field:
    """Give the receptive field of what one call gave.

    Parameters
    ----------
    layer : keras.Operation or None
        None for a function that works on each place alone.
    parts : sequence of (tensor, Field)
        All that went in.
    x : tensor
        What came out.
    rank : int
        Axes of the picture, that of the batch included.
    first : bool
        Whether the channels of what came out come before its places.
    """
    if len(x.shape) <= 2 and len(x.shape) < rank:
        # One vector for the whole picture; a single place still tells how far it sees.
        return fields.ALL
    before = fields.union([field for _, field in parts])
    inputs = [y for y, _ in parts]
    followed = _sampled(layer, inputs, rank)
    if followed is not None:
        return followed(before)
    if isinstance(layer, WHOLE):
        return fields.ALL
    if isinstance(layer, L.LayerNormalization):
        axis = layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis]
        places = {a % len(x.shape) for a in axis} - {len(x.shape) - 1}
        return fields.ALL if places else before
    name = type(layer).__name__
    if layer is not None and type(layer).__module__.startswith("keras.src."):
        if any(word in name for word in _UNKNOWN):
            return before if before == fields.ALL else None
        if name in ("Mean", "Max", "Sum", "Min", "Amax", "Average") and _fewer(inputs, x):
            return fields.ALL
        joined = _place_by_place(parts, x, rank, first)
        return fields.unplaced(joined) if _moves(layer, inputs, x, rank, first) else joined
    if layer is None or name in _POINTWISE:
        return _place_by_place(parts, x, rank, first)
    # A layer of one's own may mix places as it likes.
    return before if before == fields.ALL else None


def _sampled(layer: Any, inputs: Sequence[Tensor], rank: int) -> Callable[[Field], Field] | None:
    """Give what a layer that takes each place of several others makes of a field."""
    if isinstance(layer, (*_CONVOLUTIONS, BaseConvTranspose, BasePooling)):
        sides = _sides(inputs[0], layer.data_format == "channels_first") if inputs else ()
        pooling = isinstance(layer, BasePooling)
        kernel = _each(layer.pool_size if pooling else layer.kernel_size, len(sides))
        stride = _each(layer.strides if layer.strides is not None else kernel, len(sides))
        dilation = _each(1 if pooling else layer.dilation_rate, len(sides))
        if isinstance(layer, BaseConvTranspose):
            cut = [
                _cut(*side, layer.padding)
                for side in zip(
                    kernel,
                    stride,
                    dilation,
                    _each(layer.output_padding, len(sides)),
                    strict=True,
                )
            ]
            return lambda before: fields.shrunk(before, kernel, stride, cut, dilation)
        each = zip(sides, kernel, stride, dilation, strict=True)
        return _taking([_window(*side, layer.padding) for side in each])
    if isinstance(layer, (L.UpSampling1D, L.UpSampling2D, L.UpSampling3D)):
        among = _AMONG[getattr(layer, "interpolation", "nearest")]
        return _taking([taps.interpolated(1, n, among) for n in _each(layer.size, rank - 2)])
    if isinstance(layer, (L.ZeroPadding1D, L.ZeroPadding2D, L.ZeroPadding3D)):
        pairs = [layer.padding] if rank == 3 else layer.padding
        return _taking([Taps(((-start,) * 2,), 1) for start, _ in pairs])
    if isinstance(layer, (L.Cropping1D, L.Cropping2D, L.Cropping3D)):
        pairs = [layer.cropping] if rank == 3 else layer.cropping
        return _taking([Taps(((start,) * 2,), 1) for start, _ in pairs])
    return None


def _taking(made: Sequence[Taps]) -> Callable[[Field], Field]:
    return lambda before: fields.taken(before, made)


def _window(side: int, kernel: int, stride: int, dilation: int, padding: str) -> Taps:
    reach = (kernel - 1) * dilation
    start = 0
    if padding == "causal":
        start = reach
    elif padding == "same":
        start = max((math.ceil(side / stride) - 1) * stride + reach + 1 - side, 0) // 2
    return Taps(((-start, reach - start),), stride)


def _cut(kernel: int, stride: int, dilation: int, more: int | None, padding: str) -> int:
    """Say how many places of a transposed window are cut off before, as Keras does."""
    if padding == "valid":
        return 0
    kernel = (kernel - 1) * dilation + 1
    total = stride + kernel - 2 if more is None else kernel + kernel % 2 - 2 + more
    return kernel - 1 - min(total // 2 + total % 2, kernel - 1)


def _place_by_place(
    parts: Sequence[tuple[Tensor, Field]], x: Tensor, rank: int, first: bool
) -> Field:
    """Give the field of what is made of several tensors, each place of those of the same."""
    wide = _sides(x, first and len(x.shape) == rank)
    joined = []
    for y, field in parts:
        own = _sides(y, first and len(y.shape) == rank)
        tokens = len(y.shape) != rank or len(x.shape) != rank
        if own != wide and not (tokens and math.prod(own) == math.prod(wide)):
            narrow = [i for i, (n, m) in enumerate(zip(own, wide, strict=False)) if n != m]
            alike = len(own) == len(wide) and all(own[i] == 1 for i in narrow)
            field = fields.held(field, narrow) if alike else fields.unplaced(field)
        joined.append(field)
    return fields.union(joined)


def _moves(layer: Any, inputs: Sequence[Tensor], x: Tensor, rank: int, first: bool) -> bool:
    """Say whether a layer or an operation puts places elsewhere in a tensor of the same size."""
    name = type(layer).__name__
    if any(word in name for word in _MOVING):
        return True
    order: list[int] | None = None
    if isinstance(layer, L.Permute):
        order = [0, *layer.dims]
    elif getattr(layer, "axes", None) is not None:
        order = list(layer.axes)
    if name in ("Permute", "Transpose"):
        # Channels may come first or last; the others must stay in their order.
        if order is None:
            return True
        channels = 1 if order[-1] == 1 else len(order) - 1
        moved = [axis for axis in order if axis != channels]
        return moved != sorted(moved)
    if "Concat" in name or "Stack" in name:
        channels = 1 if first and len(x.shape) == rank else len(x.shape) - 1
        return len(x.shape) == rank and layer.axis % len(x.shape) != channels
    if "Reshape" in name:
        source = inputs[0]
        laid = _sides(source, False) == _sides(x, False) or len(x.shape) == 3 < rank
        return not (laid and source.shape[-1] == x.shape[-1])
    return False


def _sides(x: Tensor, first: bool) -> tuple[int, ...]:
    return tuple(x.shape[2:] if first else x.shape[1:-1])


def _fewer(inputs: Sequence[Tensor], x: Tensor) -> bool:
    """Say whether a reduction went over places."""
    sizes = [math.prod(y.shape[1:-1]) for y in inputs if len(y.shape) > 2]
    return bool(sizes) and math.prod(x.shape[1:-1]) < max(sizes)


def _each(value: Any, count: int) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (list, tuple)) else (value,) * count
