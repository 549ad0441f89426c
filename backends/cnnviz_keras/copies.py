"""A copy of a model that computes in float64."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import keras
import numpy as np

from cnnviz.errors import UnsupportedModel
from cnnviz_keras.ops import KerasOps
from cnnviz_keras.precision import float64_kept
from cnnviz_keras.specs import first_line
from cnnviz_keras.structure import flatten

__all__ = ["in_float64"]

_FLOATS = {"float16", "bfloat16", "float32", "mixed_float16", "mixed_bfloat16"}


@contextmanager
def in_float64(model: keras.Model) -> Iterator[keras.Model]:
    """Open a copy of a model in float64, and let Keras compute so.

    Raises
    ------
    UnsupportedModel
        Its configuration does not make it again.
    """
    with float64_kept(), _wide():
        try:
            copy = _made_again(model)
        except Exception as error:
            raise UnsupportedModel(
                f"{model.name} cannot be copied to float64: {first_line(error)}"
            ) from error
        yield copy


def _made_again(model: keras.Model) -> keras.Model:
    """Make a model again of its configuration, with the weights and names that it has."""
    custom = [type(part) for part in flatten(model)]
    kinds = {kind.__name__: kind for kind in custom if not kind.__module__.startswith("keras.")}
    numbers = KerasOps("float64")
    policy, floats = keras.config.dtype_policy(), keras.config.floatx()
    try:
        # For the layers that the model makes by itself.
        keras.config.set_floatx("float64")
        keras.config.set_dtype_policy("float64")
        # A model by keras.Model(...) is functional, whatever made it says.
        with keras.utils.custom_object_scope(kinds):
            copy = type(model).from_config(_widened(model.get_config()))
        if not copy.built:
            copy.build_from_config(model.get_build_config())
            # As Keras does when it loads a model.
            copy.built = True
    finally:
        keras.config.set_floatx(floats)
        keras.config.set_dtype_policy(policy)
    for made, own in zip(flatten(copy), flatten(model), strict=True):
        # Keras counts up the names of those that were given none.
        made.name = own.name
    for made, own in zip(copy.weights, model.weights, strict=True):
        narrow = keras.backend.is_float_dtype(made.dtype) and made.dtype != "float64"
        if narrow or made.name != own.name:
            raise ValueError(f"{own.path} is made again as {made.path} in {made.dtype}")
        made._path = own.path
        value = numbers.to_numpy(own.value)
        made.assign(np.float64(value) if keras.backend.is_float_dtype(own.dtype) else value)
    for made in flatten(copy):
        if isinstance(made, keras.layers.Normalization):
            # It computes with numbers that it has taken from its weights.
            made.finalize_state()
    return copy


def _widened(config: Any) -> Any:
    """Give a configuration with every float type replaced by float64."""
    if isinstance(config, dict):
        named = config.get("class_name") == "DTypePolicy"
        return {
            key: "float64"
            if key == "dtype" and isinstance(value, str) and value in _FLOATS
            else {"name": "float64"}
            if named and key == "config"
            else _widened(value)
            for key, value in config.items()
        }
    if isinstance(config, (list, tuple)):
        return type(config)(_widened(one) for one in config)
    return config


def _wide() -> Any:
    """Let JAX compute in 64 bits, which it does where it is told to only."""
    if keras.backend.backend() != "jax":
        return nullcontext()
    import jax

    return jax.enable_x64(True)
