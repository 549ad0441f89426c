from __future__ import annotations

from pathlib import Path


def pytest_ignore_collect(collection_path: Path, config):
    """Leave out what is about one framework alone when another is judged: test_torch_*.py."""
    backend = config.getoption("--backend") or ""
    for framework in ("torch", "keras"):
        if collection_path.name.startswith(f"test_{framework}_"):
            return backend.partition("-")[0] != framework or None
    return None
