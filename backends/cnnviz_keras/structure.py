"""What is read off a Keras model: its parts, its weights, and what it takes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras

from cnnviz_keras.tensors import is_statistic

__all__ = [
    "channels_first",
    "conv_kernels",
    "flatten",
    "own_variables",
    "parameters",
    "picture_dtype",
    "same_place",
]

# Layers that are held and not called: what prepares pictures outside of the network.
_PREPROCESSING = (keras.layers.Resizing, keras.layers.Rescaling, keras.layers.Flatten)


def flatten(layer: keras.layers.Layer) -> Iterator[keras.layers.Layer]:
    """Yield a layer and all within it, each once."""
    yield from layer._flatten_layers(include_self=True, recursive=True)


def own_variables(layer: keras.layers.Layer) -> list[Any]:
    """Weights that a layer holds itself; states of random generators are left out."""
    within = {id(v) for part in layer._layers for v in part.weights}
    return [
        v for v in layer.weights if id(v) not in within and keras.backend.is_float_dtype(v.dtype)
    ]


def parameters(layer: keras.layers.Layer) -> list[Any]:
    """Weights that are no running statistics."""
    return [v for v in layer.weights if not is_statistic(v)]


def conv_kernels(model: keras.Model, rank: int) -> Iterator[Any]:
    """Kernels of convolutions over tensors of so many axes."""
    return (v for v in model.weights if v.name == "kernel" and len(v.shape) == rank)


def picture_dtype(model: keras.Model) -> str:
    """The floats that pictures are given in: the Input's, or the weights'."""
    inputs = getattr(model, "inputs", None)
    dtypes = [inputs[0].dtype] if inputs else []
    dtypes += [v.dtype for v in model.weights]
    return next((str(d) for d in dtypes if keras.backend.is_float_dtype(d)), "float32")


def channels_first(model: keras.Model) -> bool:
    """Say whether pictures go in as ``(N, C, H, W)``: as the first layer that has a format does."""
    moved = False
    for layer in flatten(model):
        if isinstance(layer, keras.layers.Permute):
            moved = True
        told = getattr(layer, "data_format", None)
        if told in ("channels_first", "channels_last") and not isinstance(layer, _PREPROCESSING):
            return bool(told == "channels_first") != moved
    return False


def same_place(wanted: str, there: str) -> bool:
    """Say whether two names of a device mean one."""
    kinds = {"cuda": "gpu"}
    pairs = [place.lower().replace("tfrt_", "").partition(":") for place in (wanted, there)]
    (a, _, i), (b, _, j) = pairs
    return kinds.get(a, a) == kinds.get(b, b).partition("_")[0] and (i or "0") == (j or "0")
