from __future__ import annotations

import importlib
import os
from contextlib import ExitStack

import pytest

BACKENDS = ("core", "torch", "keras-tensorflow", "keras-jax", "keras-torch")

_open = ExitStack()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--backend",
        choices=BACKENDS,
        help="the backend that the contract is held to; it must be installed",
    )


def pytest_configure(config: pytest.Config) -> None:
    backend = config.getoption("--backend")
    if not backend or backend == "core":
        return
    framework, _, engine = backend.partition("-")
    if engine:
        # Keras takes its engine when it is imported, once for a process.
        os.environ["KERAS_BACKEND"] = engine
    for module in filter(None, (framework, engine)):
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise pytest.UsageError(f"--backend {backend}: {error}") from error
    if engine:
        keep_float64()


def pytest_unconfigure(config: pytest.Config) -> None:
    _open.close()


def keep_float64() -> None:
    """Parity is proved in float64, which Keras gives up on JAX and torch unless told to."""
    if os.environ["KERAS_BACKEND"] == "jax":
        importlib.import_module("jax").config.update("jax_enable_x64", True)
    _open.enter_context(importlib.import_module("cnnviz_keras.precision").float64_kept())


@pytest.fixture(scope="session")
def backend(request: pytest.FixtureRequest) -> str:
    name = request.config.getoption("--backend")
    if not name:
        pytest.fail("say which backend: pytest tests/contract --backend torch")
    return str(name)
