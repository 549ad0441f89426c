from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

FRAMEWORKS = ("torch", "keras")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("zoo")
    group.addoption("--zoo", choices=FRAMEWORKS, help="the framework whose networks are judged")
    group.addoption("--zoo-results", type=Path, help="where each result is added, a line each")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--zoo") == "keras":
        os.environ.setdefault("KERAS_BACKEND", "tensorflow")
        import keras

        keras.config.set_floatx("float64")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """The zoo runs where it is asked for: it needs libraries and minutes that others do not."""
    return None if config.getoption("--zoo", default=None) else True


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "entry" in metafunc.fixturenames:
        if metafunc.config.getoption("--zoo") == "torch":
            from zoo.table_torch import ENTRIES
        else:
            import keras
            from zoo.table_keras import ENTRIES as EVERY

            ENTRIES = [e for e in EVERY if e.engine == keras.backend.backend()]
        metafunc.parametrize("entry", ENTRIES, ids=lambda entry: entry.id)


@pytest.fixture(scope="session")
def framework(request: pytest.FixtureRequest) -> Any:
    if request.config.getoption("--zoo") == "torch":
        from zoo.judge_torch import Torch

        return Torch()
    from zoo.judge_keras import Keras

    return Keras()


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Any:
    """Add a report to the results."""
    path = request.config.getoption("--zoo-results")

    def add(report: Any) -> None:
        if path is not None:
            with Path(path).open("a", encoding="utf-8") as file:
                file.write(json.dumps(report.to_json()) + "\n")

    return add
