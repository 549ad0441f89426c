"""A copy of a model that computes in float64."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import keras
import numpy as np

from cnnviz.errors import UnsupportedModel
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
            config = _widened(model.get_config())
            kinds = {type(layer).__name__: type(layer) for layer in flatten(model)}
            # A model by keras.Model(...) is functional, whatever made it says.
            with keras.utils.custom_object_scope(kinds):
                copy = type(model).from_config(config)
            if not copy.built and model.built:
                copy.build(model.input_shape)
            copy.set_weights([np.float64(x) for x in model.get_weights()])
        except Exception as error:
            raise UnsupportedModel(
                f"{model.name} cannot be copied to float64: {first_line(error)}"
            ) from error
        yield copy


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
