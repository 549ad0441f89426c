"""What the affine layers of a model add, whatever they are given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

__all__ = ["offset_of"]

L = keras.layers
_BIASED = (
    *(L.Conv1D, L.Conv2D, L.Conv3D),
    *(L.Conv1DTranspose, L.Conv2DTranspose, L.Conv3DTranspose),
    *(L.DepthwiseConv1D, L.DepthwiseConv2D, L.SeparableConv1D, L.SeparableConv2D),
    *(L.Dense, L.EinsumDense),
)


def offset_of(
    layer: keras.layers.Layer, to_numpy: Callable[[Any], NDArray[Any]]
) -> NDArray[Any] | None:
    """Give what a layer adds to each channel, in float64; None if it adds nothing.

    None also for a layer with an activation of its own, such as ``Conv2D(activation="relu")``:
    what comes out of it is not affine in what goes in.
    """

    def numbers(variable: Any) -> NDArray[Any]:
        return to_numpy(variable.value).astype(np.float64)

    if isinstance(layer, L.BatchNormalization):
        deviation = np.sqrt(numbers(layer.moving_variance) + layer.epsilon)
        gamma = numbers(layer.gamma) if layer.scale else 1.0
        beta = numbers(layer.beta) if layer.center else 0.0
        return np.asarray(beta - numbers(layer.moving_mean) * gamma / deviation)
    bias = getattr(layer, "bias", None) if isinstance(layer, _BIASED) else None
    if bias is None or len(bias.shape) != 1 or layer.activation is not keras.activations.linear:
        return None
    return numbers(bias)
