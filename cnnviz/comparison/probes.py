"""What goes through every layer of a network for one picture, and which layer feeds which."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.adapter import OUTPUT, Adapter, Layer
from cnnviz.layers import tensor_role

__all__ = ["Probe", "leaves", "same_numbers", "weights_by_role"]

Array = NDArray[Any]

_ROUNDING = 1e-5


def leaves(net: Adapter[Any]) -> list[Layer]:
    """Give the layers that hold no others and give a tensor, in the order in which they finish."""
    return [layer for layer in net.layers() if layer.leaf and layer.output_shape]


def weights_by_role(net: Adapter[Any], layer: str) -> dict[str, tuple[str, Array]]:
    """Give the weights of a layer by what they do, each with its name there.

    Where two do the same, as the kernels of a separable convolution, the names tell them apart.
    """
    weights = net.weights(layer)
    found: dict[str, tuple[str, Array]] = {}
    slopes = bool(weights) and net.settings(layer).get("activation") == ("prelu",)
    for name, value in weights.items():
        # By its name that of torch would be a scale.
        role: str = "slope" if slopes else tensor_role(name, weights)
        found[name if role in found else role] = name, np.asarray(value)
    return found


class _Entering(Mapping[str, Array]):
    """What goes into layers, for which the network runs once it is asked for."""

    def __init__(self, net: Adapter[Any], picture: Array) -> None:
        self._net, self._picture = net, picture

    def __getitem__(self, name: str) -> Array:
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    @cached_property
    def _found(self) -> dict[str, Array]:
        names = [layer.name for layer in leaves(self._net)]
        ops = self._net.ops
        inputs = self._net.entering(ops.asarray(self._picture), layers=names)
        # In the order of the layers, which JAX does not keep.
        return {name: ops.to_numpy(inputs[name], copy=False) for name in names if name in inputs}


@dataclass(frozen=True, eq=False)
class Probe:
    """One picture in one network.

    Attributes
    ----------
    net : Adapter
    inputs, outputs : mapping of str to array
        What went into each layer that takes one tensor, and what came out of each, ``(1, ...)``,
        channels last.
    picture : array
        ``(1, H, W, C)`` in [0, 1].
    """

    net: Adapter[Any]
    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]
    picture: Array
    _settings: dict[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)
    _fed_by: dict[str, list[str]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(
        cls, net: Adapter[Any], picture: Array, outputs: Mapping[str, Array] | None = None
    ) -> Probe:
        """Run a picture through a network.

        Parameters
        ----------
        net : Adapter
        picture : array
            ``(1, H, W, C)`` in [0, 1].
        outputs : mapping of str to array, optional
            What came out of all layers, where it is known already. What goes into them is then
            found once it is asked for; the weights must not have changed by then.
        """
        net.settle(*picture.shape[1:-1])
        names = [layer.name for layer in leaves(net)]
        inputs: Mapping[str, Array] = _Entering(net, picture)
        if outputs is None:
            inputs = dict(inputs)
            taken = net.forward(net.ops.asarray(picture), taps=names)
            outputs = {name: net.ops.to_numpy(value, copy=False) for name, value in taken.items()}
        return cls(net, inputs, {name: outputs[name] for name in names}, picture)

    @cached_property
    def output(self) -> Array:
        """What comes out of the network."""
        taken = self.net.forward(self.net.ops.asarray(self.picture), taps=[OUTPUT])
        return self.net.ops.to_numpy(taken[OUTPUT])

    def settings(self, name: str) -> Mapping[str, Any]:
        """Give what a layer was told when it was made."""
        if name not in self._settings:
            self._settings[name] = self.net.settings(name)
        return self._settings[name]

    def family(self, name: str) -> str:
        """Give the family of a layer; empty if it is of none that is known."""
        return str(self.settings(name).get("family", ""))

    def fed_by(self, name: str) -> list[str]:
        """Give the layers whose output is what goes into a layer, in their order."""
        if name not in self._fed_by:
            value = self.inputs.get(name)
            self._fed_by[name] = [] if value is None else self._giving(name, value)
        return self._fed_by[name]

    def _giving(self, name: str, value: Array) -> list[str]:
        found = []
        for one, given in self.outputs.items():
            if one == name:
                break
            if given.shape == value.shape and same_numbers(given, value):
                found.append(one)
        return found

    @cached_property
    def followers(self) -> dict[str, list[str]]:
        """Give for each layer those that its output goes into, as it is."""
        found: dict[str, list[str]] = {name: [] for name in self.outputs}
        for name in self.inputs:
            # The last that gives it: what only hands it on is no source.
            for one in self.fed_by(name)[-1:]:
                found[one].append(name)
        return found

    def apply(self, layers: tuple[str, ...], x: Array) -> Array:
        """Run layers, one after the other, on what goes into the first."""
        value = self.net.ops.asarray(x)
        for name in layers:
            value = self.net.apply(name, value)
        return self.net.ops.to_numpy(value)


def same_numbers(a: Array, b: Array) -> bool:
    """Say whether two arrays are one tensor, of two runs that may have been compiled apart."""
    step = max(1, a.size // 64)
    # Most are told apart by some of their numbers.
    return all(
        np.abs(x - y).max(initial=0) <= _ROUNDING * np.abs(x).max(initial=0)
        for x, y in ((a.reshape(-1)[::step], b.reshape(-1)[::step]), (a, b))
    )
