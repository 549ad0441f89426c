"""What goes through every layer of a network for one picture, and which layer feeds which."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.adapter import Adapter, Layer
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


@dataclass(frozen=True, eq=False)
class Probe:
    """One picture in one network.

    Attributes
    ----------
    net : Adapter
    inputs, outputs : mapping of str to array
        What went into each layer that takes one tensor, and what came out of each, ``(1, ...)``,
        channels last.
    """

    net: Adapter[Any]
    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]
    _settings: dict[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)

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
            What came out of all layers, where it is known already.
        """
        x = net.ops.asarray(picture)
        net.settle(*picture.shape[1:-1])
        names = [layer.name for layer in leaves(net)]
        inputs = net.entering(x, layers=names)
        to_numpy = net.ops.to_numpy
        if outputs is None:
            taken = net.forward(x, taps=names)
            outputs = {name: to_numpy(value, copy=False) for name, value in taken.items()}
        entered = {name: to_numpy(value, copy=False) for name, value in inputs.items()}
        # In the order of the layers, which JAX does not keep.
        return cls(
            net,
            {name: entered[name] for name in names if name in entered},
            {name: outputs[name] for name in names},
        )

    def settings(self, name: str) -> Mapping[str, Any]:
        """Give what a layer was told when it was made."""
        if name not in self._settings:
            self._settings[name] = self.net.settings(name)
        return self._settings[name]

    def family(self, name: str) -> str:
        """Give the family of a layer; empty if it is of none that is known."""
        return str(self.settings(name).get("family", ""))

    @cached_property
    def feeders(self) -> dict[str, list[str]]:
        """Give for each layer those whose output is what goes into it."""
        givers: dict[tuple[int, ...], list[str]] = {}
        for name, value in self.outputs.items():
            givers.setdefault(value.shape, []).append(name)
        order = {name: i for i, name in enumerate(self.outputs)}
        return {
            name: [
                one
                for one in givers.get(value.shape, ())
                if order[one] < order[name] and same_numbers(self.outputs[one], value)
            ]
            for name, value in self.inputs.items()
        }

    @cached_property
    def followers(self) -> dict[str, list[str]]:
        """Give for each layer those that its output goes into, as it is."""
        found: dict[str, list[str]] = {name: [] for name in self.outputs}
        for name, before in self.feeders.items():
            # The last that gives it: what only hands it on is no source.
            for one in before[-1:]:
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
