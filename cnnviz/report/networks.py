"""The demo network in each framework that is installed."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any

import cnnviz
from cnnviz.adapter import Adapter
from cnnviz.discovery import frameworks
from cnnviz.errors import MissingDependency

__all__ = ["Side", "canonical", "how_to_get", "open_sides", "title_of"]

_TITLES = {"torch": "PyTorch", "keras": "Keras", "tensorflow": "TensorFlow", "jax": "JAX"}

_ENVIRONMENT = {
    # Threads that spin while they wait stop each other where the cores are shared: the same
    # ascent was seen to take 7 s and 70 s.
    "OMP_WAIT_POLICY": "PASSIVE",
}


@dataclass(frozen=True, eq=False)
class Side:
    """One network of several that are the same, and what its framework calls things.

    Attributes
    ----------
    framework : str
        As `cnnviz.discovery.frameworks` has it: ``"torch"``.
    net : Adapter
        The network.
    names : mapping of str to str
        From the name that all sides share (see `canonical`) to the network's own.
    """

    framework: str
    net: Adapter[Any]
    names: Mapping[str, str]

    @classmethod
    def of(cls, framework: str, net: Adapter[Any]) -> Side:
        """Take a network; containers are left out, for not every framework has them."""
        return cls(framework, net, {canonical(x.name): x.name for x in net.layers() if x.leaf})

    @property
    def short(self) -> str:
        """The name of the framework for a reader: PyTorch."""
        return title_of(self.framework)

    @property
    def title(self) -> str:
        """The framework and what it runs on: Keras on TensorFlow."""
        return " on ".join(map(title_of, self._parts))

    @property
    def versions(self) -> dict[str, str]:
        """The versions of the framework and of what it runs on."""
        found = {part: getattr(sys.modules.get(part), "__version__", None) for part in self._parts}
        return {title_of(part): str(v) for part, v in found.items() if v}

    @property
    def _parts(self) -> list[str]:
        return self.net.framework.split("-")


def title_of(framework: str) -> str:
    """Give the name of a framework as its makers write it."""
    return _TITLES.get(framework, framework)


def canonical(name: str) -> str:
    """Give the name that a layer of the demo network has in Keras; see `cnnviz.lite0`."""
    return name.replace("blocks.", "block").replace(".", "_")


def open_sides() -> tuple[list[Side], list[str]]:
    """Load the demo network in each framework, and name the frameworks that are not there.

    Raises
    ------
    MissingDependency
        No framework is installed, or the weights are not.
    """
    shown = {entry.name for entry in entry_points(group="cnnviz.demo")}
    # Torch first: what it loads late cannot come after TensorFlow's.
    known = sorted(shown & set(frameworks()), key=lambda name: (name != "torch", name))
    sides, missing = [], []
    reason: MissingDependency | None = None
    with _environment(), _quiet():
        for name in known:
            if not frameworks()[name]:
                missing.append(name)
                continue
            try:
                sides.append(Side.of(name, cnnviz.load("demo", framework=name)))
            except MissingDependency as error:
                # Keras without anything to run on, or no weights at all.
                missing.append(name)
                reason = reason or error
    if not sides:
        raise reason or MissingDependency(
            f"no framework is installed; {how_to_get(known)} installs all that this page shows"
        )
    return sides, missing


def how_to_get(frameworks: Sequence[str]) -> str:
    """Give the command that installs frameworks with what the demo needs."""
    return f"pip install 'cnnviz[{','.join([*frameworks, 'demo'])}]'"


@contextmanager
def _environment() -> Iterator[None]:
    """Set what frameworks read while they are imported, unless the user has."""
    added = {name: value for name, value in _ENVIRONMENT.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


@contextmanager
def _quiet() -> Iterator[None]:
    """Send file descriptor 2 nowhere: TensorFlow's C++ talks there, whatever it is told."""
    try:
        real = os.dup(2)
    except OSError:
        yield
        return
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(real, 2)
        os.close(real)
