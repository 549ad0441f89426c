"""Where Keras puts axes and weights, and where cnnviz does."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

__all__ = ["is_statistic", "native_kernel", "neutral_kernel"]

_TRANSPOSED = (
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
)


def is_statistic(variable: Any) -> bool:
    """Say whether a variable is a running statistic of a batch norm."""
    return variable.name in ("moving_mean", "moving_variance")


def neutral_kernel(layer: keras.layers.Layer, name: str, value: NDArray[Any]) -> NDArray[Any]:
    """Give a kernel as ``(kh, kw, in, out)``; others stay."""
    if isinstance(layer, _TRANSPOSED):
        return np.swapaxes(value, -1, -2) if name == "kernel" else value
    depthwise = isinstance(layer, (keras.layers.DepthwiseConv2D, keras.layers.DepthwiseConv1D))
    if (depthwise and name == "kernel") or name == "depthwise_kernel":
        # (..., C, M) to one input for each of C * M outputs, as in a grouped convolution.
        return value.reshape(*value.shape[:-2], 1, value.shape[-2] * value.shape[-1])
    return value


def native_kernel(
    layer: keras.layers.Layer, name: str, value: NDArray[Any], shape: tuple[int, ...]
) -> NDArray[Any]:
    """Give a kernel as Keras has it, in this shape: the inverse of `neutral_kernel`."""
    if isinstance(layer, _TRANSPOSED) and name == "kernel":
        return np.swapaxes(value, -1, -2)
    return value.reshape(shape)
