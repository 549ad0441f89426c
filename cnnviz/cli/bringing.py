"""What specs of networks will import, read off them before anything is run."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

__all__ = ["torch_first", "wants_torch"]

_SPECS = ("torchvision:", "timm:", "demo:torch")
_FILES = (".pt", ".pth", ".pt2")
_MODULES = {"torch", "torchvision", "timm", "transformers", "lightning"}


def torch_first(specs: Iterable[str]) -> None:
    """Import torch if one of several networks needs it, since it cannot come after TensorFlow."""
    if not any(map(wants_torch, specs)):
        return
    # Triton is what clashes with TensorFlow, and torch itself brings it in late.
    for name in ("torch", "triton"):
        if find_spec(name) is not None:
            # One that is broken is told of where the network is loaded.
            with suppress(ImportError, OSError):
                import_module(name)


def wants_torch(spec: str) -> bool:
    """Say whether loading a network imports torch, as far as it can be told without running it.

    Parameters
    ----------
    spec : str
        As for `cnnviz.load`. Of ``module.py:function`` the imports are read, also those of the
        modules beside it.
    """
    path, _, function = spec.partition(":")
    if path.endswith(".py") and function:
        return not _MODULES.isdisjoint(_imported(Path(path), set()))
    # Without a framework the demo is that of torch where it is installed.
    return spec == "demo" or spec.startswith(_SPECS) or spec.lower().endswith(_FILES)


def _imported(path: Path, seen: set[Path]) -> Iterator[str]:
    """Give the packages that a file imports, and those of what it imports from beside it."""
    if path in seen or not path.is_file():
        return
    seen.add(path)
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        # The error is told when the file is run.
        return
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            # What is taken from a package may be a module of it.
            start = node.module or ""
            names = [start, *(f"{start}.{alias.name}".strip(".") for alias in node.names)]
        for name in filter(None, names):
            yield name.partition(".")[0]
            there = path.parent.joinpath(*name.split("."))
            yield from _imported(there.with_suffix(".py"), seen)
            yield from _imported(there / "__init__.py", seen)
