"""What is read off a Keras model: its parts, its weights, and what it takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import keras

from cnnviz.errors import TapNotReached
from cnnviz_keras.tensors import is_statistic

__all__ = [
    "built_shape",
    "channels_first",
    "conv_kernels",
    "flatten",
    "own_variables",
    "parameters",
    "picture_dtype",
    "primary_tensor",
    "same_place",
    "structured",
]

Tensor = Any


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


def conv_kernels(model: keras.Model) -> Iterator[Any]:
    """Kernels of two-dimensional convolutions."""
    return (v for v in model.weights if v.name == "kernel" and len(v.shape) == 4)


def picture_dtype(model: keras.Model) -> str:
    """The floats that pictures are given in: the Input's, or the weights'."""
    inputs = getattr(model, "inputs", None)
    dtypes = [inputs[0].dtype] if inputs else []
    dtypes += [v.dtype for v in model.weights]
    return next((str(d) for d in dtypes if keras.backend.is_float_dtype(d)), "float32")


def channels_first(model: keras.Model) -> bool:
    """Say whether pictures go in as ``(N, C, H, W)``."""
    return any(
        isinstance(layer, keras.layers.Layer)
        and getattr(layer, "data_format", None) == "channels_first"
        for layer in flatten(model)
    )


def built_shape(model: keras.Model) -> tuple[int | None, ...] | None:
    """Give the shape that a model was built for, as its own format has it."""
    inputs = getattr(model, "inputs", None)
    if inputs:
        return tuple(inputs[0].shape)
    config = model.get_build_config() or {}
    shape = config.get("input_shape")
    return tuple(shape) if isinstance(shape, (list, tuple)) else None


def structured(model: keras.Model, native: Tensor) -> Any:
    """Wrap the picture as the inputs are: ``keras.Model(other.inputs, ...)`` wants a list."""
    wanted = getattr(model, "_inputs_struct", None)
    if isinstance(wanted, (list, tuple)) and len(wanted) == 1:
        return [native]
    if isinstance(wanted, dict) and len(wanted) == 1:
        return dict.fromkeys(wanted, native)
    return native


def primary_tensor(output: Any) -> Tensor:
    """Pick the tensor of scores out of what a model returns."""
    if hasattr(output, "shape"):
        return output
    parts = output.values() if isinstance(output, Mapping) else output
    for part in parts if isinstance(parts, Iterable) else ():
        if hasattr(part, "shape"):
            return part
    raise TapNotReached(f"the model's output, a {type(output).__name__}, holds no tensor")


def same_place(wanted: str, there: str) -> bool:
    """Say whether two names of a device mean one."""
    kinds = {"cuda": "gpu"}
    pairs = [place.lower().replace("tfrt_", "").partition(":") for place in (wanted, there)]
    (a, _, i), (b, _, j) = pairs
    return kinds.get(a, a) == kinds.get(b, b).partition("_")[0] and (i or "0") == (j or "0")
