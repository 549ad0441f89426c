"""The library that is tested is the one that is installed, and it brings no framework along."""

from __future__ import annotations

import importlib.util
import os
import pkgutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import cnnviz

FRAMEWORKS = {"torch", "tensorflow", "keras", "jax"}

on_the_wheel = pytest.mark.skipif(
    not os.environ.get("CNNVIZ_EXPECT_WHEEL"), reason="this is not a run on the wheel (see nox)"
)


def frameworks_imported(code: str, folder: Path) -> set[str]:
    """Run code in a new Python, in a folder that it can import from, and see what it brought."""
    run = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print('\\n' + ' '.join(sys.modules))"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = {name.partition(".")[0] for name in run.stdout.splitlines()[-1].split()}
    return loaded & FRAMEWORKS


def modules() -> list[str]:
    """Every module of the core; running `__main__` would start the program."""
    found = pkgutil.walk_packages(cnnviz.__path__, "cnnviz.")
    return ["cnnviz", *(m.name for m in found if not m.name.endswith("__main__"))]


def test_importing_cnnviz_imports_no_framework(tmp_path: Path) -> None:
    assert frameworks_imported("import cnnviz", tmp_path) == set()


def test_no_module_of_the_core_imports_a_framework(tmp_path: Path) -> None:
    names = modules()
    assert "cnnviz.testing.oracle" in names
    assert frameworks_imported(f"import {', '.join(names)}", tmp_path) == set()


@pytest.mark.parametrize("framework", sorted(FRAMEWORKS))
def test_an_imported_framework_would_be_noticed(framework: str, tmp_path: Path) -> None:
    (tmp_path / framework).mkdir()
    (tmp_path / framework / "__init__.py").write_text("from . import part\n")
    (tmp_path / framework / "part.py").write_text("")
    code = f"import cnnviz, {framework}.part"
    assert frameworks_imported(code, tmp_path) == {framework}


@on_the_wheel
def test_the_wheel_is_what_is_tested() -> None:
    assert Path(cnnviz.__file__).is_relative_to(sysconfig.get_path("purelib"))


@on_the_wheel
def test_the_folder_of_the_backends_is_no_package() -> None:
    assert importlib.util.find_spec("backends") is None
    for backend in ("cnnviz_torch", "cnnviz_keras"):
        spec = importlib.util.find_spec(backend)
        assert spec is not None
        assert spec.origin is not None
        assert Path(spec.origin).is_relative_to(sysconfig.get_path("purelib"))


def test_frameworks_are_told_without_importing_them(tmp_path: Path) -> None:
    code = "from cnnviz.discovery import frameworks; print(frameworks())"
    assert frameworks_imported(code, tmp_path) == set()
