"""Layers computed by numpy in float64 from their settings and weights, to try repairs on.

Only what a doctor needs: a layer of one network with a setting or a weight of the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

__all__ = ["ACTIVATIONS", "activate", "computed", "padded_by"]

Array = NDArray[Any]
Weights = Mapping[str, Array]
Pads = tuple[tuple[int, int], ...]

_erf = np.vectorize(math.erf, otypes=[np.float64])


def _sigmoid(x: Array) -> Array:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * x)))


def _softmax(x: Array) -> Array:
    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


ACTIVATIONS: Mapping[str, Callable[..., Array]] = {
    "linear": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "relu to": lambda x, top: np.clip(x, 0, top),
    "leaky relu": lambda x, slope: np.where(x > 0, x, slope * x),
    "elu": lambda x, alpha: np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0))),
    "gelu": lambda x: 0.5 * x * (1 + _erf(x / math.sqrt(2))),
    "gelu by tanh": lambda x: (
        0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    ),
    "silu": lambda x: x * _sigmoid(x),
    "sigmoid": _sigmoid,
    "tanh": np.tanh,
    "hard silu": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "hard sigmoid": lambda x: np.clip(x + 3, 0, 6) / 6,
    "softplus": lambda x: np.logaddexp(0, x),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "selu": lambda x: (
        1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(np.minimum(x, 0)))
    ),
    "mish": lambda x: x * np.tanh(np.logaddexp(0, x)),
    "softmax": _softmax,
    "log softmax": lambda x: np.log(_softmax(x)),
}
"""Activations by the words of `cnnviz.comparison.settings`; their numbers follow."""


def activate(x: Array, activation: tuple[Any, ...]) -> Array:
    """Apply an activation, such as ``("leaky relu", 0.01)``.

    Raises
    ------
    KeyError
        It is not known here.
    """
    name, *numbers = activation
    return np.asarray(ACTIVATIONS[name](np.asarray(x, np.float64), *numbers))


def padded_by(settings: Mapping[str, Any], window: tuple[int, ...], sides: tuple[int, ...]) -> Pads:
    """Give what a layer adds before and after each axis of a map of some height and width."""
    if settings["padding"] != "same":
        found: Pads = settings["padding"]
        return found
    pads = []
    for side, reach, step, wide in zip(
        sides, window, settings["strides"], _dilation(settings, len(window)), strict=True
    ):
        total = max((math.ceil(side / step) - 1) * step + (reach - 1) * wide + 1 - side, 0)
        pads.append((total // 2, total - total // 2))
    return tuple(pads)


def computed(
    settings: Mapping[str, Any], weights: Weights, x: Array, *, batch: bool = False
) -> Array:
    """Compute a layer.

    Parameters
    ----------
    settings : mapping
        See `cnnviz.comparison.settings`.
    weights : mapping of str to array
        By role: ``kernel``, ``bias``, ``scale``, ``offset``, ``running mean`` and ``variance``.
    x : array
        What goes in, channels last.
    batch : bool
        Whether a batch norm takes the statistics of what goes in.

    Raises
    ------
    KeyError
        It is of no family that is known here.
    """
    x = np.asarray(x, np.float64)
    # float16 would overflow in sums of squares.
    weights = {role: np.asarray(value, np.float64) for role, value in weights.items()}
    found = _COMPUTED[settings["family"]](settings, weights, x)
    if batch and settings["family"] == "batch norm":
        axes = tuple(range(x.ndim - 1))
        weights |= {"running mean": x.mean(axes), "running variance": x.var(axes)}
        found = _batch_norm(settings, weights, x)
    if settings["family"] == "activation":
        return found
    return activate(found, settings.get("activation", ("linear",)))


def _convolution(settings: Mapping[str, Any], weights: Weights, x: Array) -> Array:
    kernel = weights["kernel"]
    if x.ndim != 4 or kernel.ndim != 4 or settings["mode"] != "zeros":
        raise KeyError("only convolutions of maps that pad with zeros")
    reach = kernel.shape[:2]
    windows = _windows(settings, reach, x, 0.0)
    groups = x.shape[-1] // kernel.shape[2]
    n, h, w = windows.shape[:3]
    parts = windows.reshape(n, h, w, groups, kernel.shape[2], *reach)
    split = kernel.reshape(*reach, kernel.shape[2], groups, -1)
    out = np.einsum("nhwgckl,klcgo->nhwgo", parts, split, optimize=True)
    return np.asarray(out.reshape(n, h, w, -1) + weights.get("bias", 0.0))


def _dense(settings: Mapping[str, Any], weights: Weights, x: Array) -> Array:
    return np.asarray(x @ weights["kernel"] + weights.get("bias", 0.0))


def _batch_norm(settings: Mapping[str, Any], weights: Weights, x: Array) -> Array:
    spread = np.sqrt(weights["running variance"] + settings["eps"])
    scaled = (x - weights["running mean"]) / spread * weights.get("scale", 1.0)
    return np.asarray(scaled + weights.get("offset", 0.0))


def _layer_norm(settings: Mapping[str, Any], weights: Weights, x: Array) -> Array:
    scale = weights.get("scale", weights.get("kernel"))
    axes = tuple(range(-np.ndim(scale if scale is not None else 0) or -1, 0))
    centred = x - x.mean(axes, keepdims=True)
    spread = np.sqrt((centred**2).mean(axes, keepdims=True) + settings["eps"])
    factor = 1.0 if scale is None else scale
    return np.asarray(centred / spread * factor + weights.get("offset", weights.get("bias", 0.0)))


def _group_norm(settings: Mapping[str, Any], weights: Weights, x: Array) -> Array:
    groups = settings["groups"]
    split = x.reshape(len(x), -1, groups, x.shape[-1] // groups)
    centred = split - split.mean((1, 3), keepdims=True)
    spread = np.sqrt((centred**2).mean((1, 3), keepdims=True) + settings["eps"])
    scaled = (centred / spread).reshape(x.shape) * weights.get("scale", 1.0)
    return np.asarray(scaled + weights.get("offset", 0.0))


def _max_pool(settings: Mapping[str, Any], weights: Weights, x: Array) -> Array:
    return np.asarray(_windows(settings, settings["window"], x, -np.inf).max((-2, -1)))


def _average_pool(settings: Mapping[str, Any], weights: Weights, x: Array) -> Array:
    sums = _windows(settings, settings["window"], x, 0.0).sum((-2, -1))
    counts = _windows(settings, settings["window"], np.ones_like(x), 0.0).sum((-2, -1))
    if settings["count_padding"]:
        counts = np.full_like(counts, math.prod(settings["window"]))
    return np.asarray(sums / counts)


def _windows(settings: Mapping[str, Any], reach: tuple[int, ...], x: Array, value: float) -> Array:
    """Give ``(N, H', W', C, kh, kw)``, what each place of the output sees."""
    if settings.get("ceil"):
        raise KeyError("no windows beyond the edge")
    pads = padded_by(settings, reach, x.shape[1:3])
    x = np.pad(x, ((0, 0), *pads, (0, 0)), constant_values=value)
    wide = _dilation(settings, 2)
    whole = [(n - 1) * d + 1 for n, d in zip(reach, wide, strict=True)]
    down, across = settings["strides"]
    seen = sliding_window_view(x, whole, axis=(1, 2))
    return np.asarray(seen[:, ::down, ::across, :, :: wide[0], :: wide[1]])


def _dilation(settings: Mapping[str, Any], axes: int) -> tuple[int, ...]:
    found: tuple[int, ...] = settings.get("dilation", (1,) * axes)
    return found


_COMPUTED: Mapping[str, Callable[[Mapping[str, Any], Weights, Array], Array]] = {
    "convolution": _convolution,
    "dense": _dense,
    "batch norm": _batch_norm,
    "layer norm": _layer_norm,
    "group norm": _group_norm,
    "max pool": _max_pool,
    "average pool": _average_pool,
    "global average pool": lambda settings, weights, x: x.mean(tuple(range(1, x.ndim - 1))),
    "activation": lambda settings, weights, x: activate(x, settings["activation"]),
}
