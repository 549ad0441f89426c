from __future__ import annotations

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
