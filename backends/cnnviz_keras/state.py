"""The numbers that a model holds: reading them, and writing them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from cnnviz.assignment import assigned
from cnnviz_keras.structure import flatten, own_variables
from cnnviz_keras.tensors import native_kernel, neutral_kernel

__all__ = ["assign", "named_variables", "names_within", "unfilled", "weights_of"]

ToNumpy = Callable[[Any], NDArray[Any]]


def named_variables(
    owner: keras.layers.Layer, *, alone: bool
) -> dict[str, tuple[keras.layers.Layer, Any]]:
    """Give each variable of a layer, and of those within it, by its name, with its holder.

    Parameters
    ----------
    owner : keras.layers.Layer
    alone : bool
        Whether the layer is asked for by itself; one that holds no other then has short names.
    """
    parts = list(flatten(owner))
    short = alone and len(parts) == 1
    found: dict[str, tuple[keras.layers.Layer, Any]] = {}
    seen: set[int] = set()
    for part in parts:
        for variable in own_variables(part):
            if id(variable) not in seen:
                seen.add(id(variable))
                name = variable.name if short else variable.path
                while name in found:
                    name += "'"
                found[name] = part, variable
    return found


def weights_of(
    owner: keras.layers.Layer, to_numpy: ToNumpy, *, alone: bool
) -> dict[str, NDArray[Any]]:
    """Give the weights of a layer, and of those within it, as the contract has them."""
    return {
        name: neutral_kernel(part, variable.name, to_numpy(variable.value))
        for name, (part, variable) in named_variables(owner, alone=alone).items()
    }


def unfilled(
    variables: Mapping[str, tuple[keras.layers.Layer, Any]],
) -> dict[str, NDArray[Any]]:
    """Give arrays like those of `weights_of`, with no numbers read into them.

    Parameters
    ----------
    variables : mapping
        As `named_variables` gives them.
    """
    return {
        name: neutral_kernel(part, v.name, np.empty(tuple(v.shape), _dtype(v)))
        for name, (part, v) in variables.items()
    }


def names_within(model: keras.Model, owner: keras.layers.Layer) -> dict[str, str]:
    """Say what the whole model calls the weights of one layer, by their names there."""
    whole = {id(v): name for name, (_, v) in named_variables(model, alone=False).items()}
    within = named_variables(owner, alone=True)
    return {name: whole[id(variable)] for name, (_, variable) in within.items()}


def assign(model: keras.Model, weights: Mapping[str, NDArray[Any]], to_numpy: ToNumpy) -> None:
    """Write weights into a model, all of those that are given or none.

    Raises
    ------
    InvalidOption
        A name, a shape or a number does not fit.
    """
    variables = named_variables(model, alone=False)
    new = assigned(model.name, unfilled(variables), weights)
    old: list[tuple[Any, NDArray[Any]]] = []
    try:
        for name, value in new.items():
            part, variable = variables[name]
            old.append((variable, to_numpy(variable.value)))
            variable.assign(_plain(native_kernel(part, variable.name, value, variable.shape)))
    except BaseException:
        # An interrupt, or no memory left.
        for variable, value in old:
            variable.assign(value)
        raise


def _dtype(variable: Any) -> np.dtype[Any]:
    kind = keras.backend.standardize_dtype(variable.dtype)
    found: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16 if kind == "bfloat16" else kind)
    return found


def _plain(value: NDArray[Any]) -> NDArray[Any]:
    """Give short floats, which not every engine takes from numpy, as longer ones."""
    value = np.ascontiguousarray(value) if value.ndim else value
    return value.astype(np.float32) if value.dtype.itemsize == 2 else value
