"""What layers were told when they were made, in the words of `cnnviz.comparison.settings`."""

from __future__ import annotations

import math
from typing import Any

import keras

__all__ = ["settings_of"]

L = keras.layers

_NAMES = {
    "swish": "silu",
    "hard_swish": "hard silu",
    "hard_silu": "hard silu",
    "hard_sigmoid": "hard sigmoid",
    "log_softmax": "log softmax",
}
_CONVOLUTIONS = (L.Conv1D, L.Conv2D, L.Conv3D, L.DepthwiseConv1D, L.DepthwiseConv2D)
_DEPTHWISE = (L.DepthwiseConv1D, L.DepthwiseConv2D)
_TRANSPOSED = (L.Conv1DTranspose, L.Conv2DTranspose, L.Conv3DTranspose)
_MAX_POOLS = (L.MaxPooling1D, L.MaxPooling2D, L.MaxPooling3D)
_AVERAGE_POOLS = (L.AveragePooling1D, L.AveragePooling2D, L.AveragePooling3D)
_GLOBAL = (L.GlobalAveragePooling1D, L.GlobalAveragePooling2D, L.GlobalAveragePooling3D)
_DROPOUTS = (L.Dropout, L.SpatialDropout1D, L.SpatialDropout2D, L.SpatialDropout3D, L.AlphaDropout)
_PADS = (L.ZeroPadding1D, L.ZeroPadding2D, L.ZeroPadding3D)
_PLAIN: dict[type[keras.layers.Layer], str] = {
    L.Flatten: "flatten",
    L.Identity: "identity",
    L.Add: "add",
    L.Concatenate: "concatenate",
    **dict.fromkeys(_GLOBAL, "global average pool"),
}


def settings_of(layer: keras.layers.Layer) -> dict[str, Any]:
    """Give the settings of a layer; empty if it is of no family that is known."""
    found = _told(layer)
    if found and layer.weights:
        found["dtype"] = keras.backend.standardize_dtype(layer.compute_dtype)
    return found


def _told(layer: Any) -> dict[str, Any]:
    for kind, family in _PLAIN.items():
        if type(layer) is kind:
            return {"family": family}
    activation = _activation_layer(layer)
    if activation is not None:
        return {"family": "activation", "activation": activation}
    if isinstance(layer, _CONVOLUTIONS):
        return {"family": "convolution", **_convolution(layer)}
    if isinstance(layer, _TRANSPOSED):
        return {"family": "transposed convolution", **_convolution(layer)}
    if isinstance(layer, L.Dense):
        return {"family": "dense", "activation": _function(layer.activation)}
    if isinstance(layer, L.BatchNormalization):
        return {
            "family": "batch norm",
            "eps": float(layer.epsilon),
            "momentum": round(1 - float(layer.momentum), 12),
            "statistics": "running",
        }
    if isinstance(layer, L.LayerNormalization) and not getattr(layer, "rms_scaling", False):
        return {"family": "layer norm", "eps": float(layer.epsilon)}
    if isinstance(layer, L.GroupNormalization):
        return {"family": "group norm", "eps": float(layer.epsilon), "groups": layer.groups}
    if isinstance(layer, (*_MAX_POOLS, *_AVERAGE_POOLS)):
        return _pool(layer)
    if isinstance(layer, _DROPOUTS):
        return {"family": "dropout", "rate": float(layer.rate)}
    if isinstance(layer, _PADS):
        return {"family": "padding", "padding": _pairs(layer.padding), "mode": "zeros"}
    if isinstance(layer, L.UpSampling2D):
        return {"family": "resize", "interpolation": layer.interpolation, "antialias": False}
    if isinstance(layer, L.Resizing):
        told = {"interpolation": layer.interpolation, "antialias": bool(layer.antialias)}
        return {"family": "resize", **told}
    return {}


def _activation_layer(layer: Any) -> tuple[Any, ...] | None:
    if isinstance(layer, L.Activation):
        return _function(layer.activation)
    if isinstance(layer, L.ReLU):
        slope, top = float(layer.negative_slope), layer.max_value
        if sum(map(bool, (layer.threshold, slope, top is not None))) > 1:
            numbers = (slope, math.inf if top is None else float(top), float(layer.threshold))
            return ("relu of slope, top and threshold", *numbers)
        if float(layer.threshold):
            return ("relu from", float(layer.threshold))
        if slope:
            return ("leaky relu", slope)
        return ("relu",) if top is None else ("relu6",) if top == 6 else ("relu to", float(top))
    if isinstance(layer, L.LeakyReLU):
        return ("leaky relu", float(layer.negative_slope))
    if isinstance(layer, L.ELU):
        return ("elu", float(layer.alpha))
    if isinstance(layer, L.PReLU):
        return ("prelu",)
    return ("softmax",) if isinstance(layer, L.Softmax) else None


def _function(function: Any) -> tuple[Any, ...]:
    """Name a function of keras.activations, with the numbers that it has by default."""
    name = str(getattr(function, "__name__", type(function).__name__))
    if getattr(keras.activations, name, None) is not function:
        # Whatever it is called: a gelu of one's own may be of the other form.
        return (f"function {name}",)
    numbers = {"leaky_relu": (0.2,), "elu": (1.0,)}.get(name, ())
    return (_NAMES.get(name, name.replace("_", " ")), *numbers)


def _convolution(layer: Any) -> dict[str, Any]:
    axes = len(layer.kernel_size)
    dilation = _each(layer.dilation_rate, axes)
    padding: Any = "same" if layer.padding == "same" else ((0, 0),) * axes
    if layer.padding == "causal":
        padding = ((dilation[0] * (layer.kernel_size[0] - 1), 0),)
    depthwise = isinstance(layer, _DEPTHWISE)
    groups = layer.kernel.shape[-2] if depthwise else getattr(layer, "groups", 1)
    return {
        "strides": _each(layer.strides, axes),
        "dilation": dilation,
        "groups": int(groups),
        "padding": padding,
        "mode": "zeros",
        "activation": _function(layer.activation),
    }


def _pool(layer: Any) -> dict[str, Any]:
    axes = len(layer.pool_size)
    same = layer.padding == "same"
    found: dict[str, Any] = {
        "window": tuple(layer.pool_size),
        "strides": tuple(layer.strides),
        "padding": "same" if same else ((0, 0),) * axes,
        "ceil": False,
    }
    if isinstance(layer, _MAX_POOLS):
        return {"family": "max pool", "dilation": (1,) * axes, **found}
    return {"family": "average pool", "count_padding": False, **found}


def _each(value: Any, axes: int) -> tuple[int, ...]:
    return (int(value),) * axes if isinstance(value, int) else tuple(int(n) for n in value)


def _pairs(padding: Any) -> tuple[tuple[int, int], ...]:
    pairs = padding if isinstance(padding[0], (tuple, list)) else [padding]
    return tuple((int(a), int(b)) for a, b in pairs)
