from __future__ import annotations

import importlib
import os

import pytest

BACKENDS = ("core", "torch", "keras-tensorflow", "keras-jax", "keras-torch")


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
    if engine == "jax":
        # Parity is proved in float64.
        importlib.import_module("jax").config.update("jax_enable_x64", True)


@pytest.fixture(scope="session")
def backend(request: pytest.FixtureRequest) -> str:
    name = request.config.getoption("--backend")
    if not name:
        pytest.fail("say which backend: pytest tests/contract --backend torch")
    return str(name)
