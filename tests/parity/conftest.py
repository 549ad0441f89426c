from __future__ import annotations

import os
from contextlib import ExitStack

import pytest

# Torch first: Triton, which torch brings in late, cannot come after TensorFlow's LLVM.
import torch  # noqa: F401
import torchvision  # noqa: F401

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
import keras

if keras.backend.backend() == "jax":
    import jax

    jax.config.update("jax_enable_x64", True)


@pytest.fixture(scope="session", autouse=True)
def _float64():
    """Parity is proved in float64, which Keras gives up on JAX and torch unless told to."""
    from cnnviz_keras.precision import float64_kept

    with ExitStack() as stack:
        stack.enter_context(float64_kept())
        yield
