from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest


def pytest_ignore_collect(collection_path: Path, config):
    """Leave out what is about one framework alone when another is judged: test_torch_*.py."""
    backend = config.getoption("--backend") or ""
    for framework in ("torch", "keras"):
        if collection_path.name.startswith(f"test_{framework}_"):
            return backend.partition("-")[0] != framework or None
    return None


@pytest.fixture(autouse=True)
def seeded(backend: str) -> None:
    """Networks without weights are drawn at random, and no test is to depend on the draw."""
    if backend.startswith("keras"):
        import_module("keras").utils.set_random_seed(0)
    else:
        import_module("torch").manual_seed(0)


@pytest.fixture
def two_threads(backend: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the framework compute in two threads, whatever the machine has, from few images on."""
    monkeypatch.setattr(import_module("cnnviz.passes"), "_FEW", 4)
    if backend == "torch":
        torch = import_module("torch")
        before = torch.get_num_threads()
        torch.set_num_threads(2)
        yield
        assert torch.get_num_threads() == 2
        torch.set_num_threads(before)
        return
    if backend == "keras-tensorflow":
        # TensorFlow has begun, and takes no other number any more.
        engine = import_module("cnnviz_keras.tensorflow_engine")
        monkeypatch.setattr(engine, "_threads", lambda kind: 2)
    yield
