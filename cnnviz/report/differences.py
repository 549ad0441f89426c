"""How far two networks that should be the same are apart: layer by layer, and in their weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.comparison.tallies import Tally
from cnnviz.layers import tensor_role
from cnnviz.report.networks import Side, canonical

__all__ = [
    "LayerDifference",
    "WeightDifference",
    "layer_differences",
    "tensor_key",
    "weight_differences",
    "worst",
]


@dataclass(frozen=True)
class LayerDifference:
    """How far a layer's outputs are apart.

    Attributes
    ----------
    name, other : str
        What the reference calls the layer, and what the other network does.
    kind : str
        The class of the layer in the reference.
    shape : tuple of int
        Of one picture's output.
    relative : float
        max|difference| / max|reference|.
    mean : float
        Mean of |difference|, in the units of the layer.
    cosine : float
        Of the angle between the two outputs.
    """

    name: str
    other: str
    kind: str
    shape: tuple[int, ...]
    relative: float
    mean: float
    cosine: float


@dataclass(frozen=True)
class WeightDifference:
    """How far the weights are apart.

    Attributes
    ----------
    compared, equal : int
        Tensors that both have, and how many of them are the same, bit for bit.
    left_out : int
        Tensors that only one of the two has, or in another shape.
    largest : float
        The largest difference of any two weights.
    """

    compared: int
    equal: int
    left_out: int
    largest: float


def layer_differences(a: Side, b: Side, pictures: NDArray[Any]) -> list[LayerDifference]:
    """Run both networks once a picture, and compare all layers whose outputs agree in shape.

    Parameters
    ----------
    a, b : Side
        The reference and the other.
    pictures : array
        ``(N, H, W, C)`` in [0, 1], as the networks take them. They run one by one: all
        layers of the demo network are 80 MB a picture.
    """
    shared = {own: b.names[name] for name, own in a.names.items() if name in b.names}
    tallies: dict[str, Tally] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for k in range(len(pictures)):
        x = pictures[k : k + 1]
        ours = a.net.forward(a.net.ops.asarray(x), taps=list(shared))
        theirs = b.net.forward(b.net.ops.asarray(x), taps=list(shared.values()))
        for own, other in shared.items():
            one, two = a.net.ops.to_numpy(ours[own]), b.net.ops.to_numpy(theirs[other])
            if one.shape == two.shape:
                shapes[own] = one.shape[1:]
                tallies.setdefault(own, Tally()).add(one, two)
    kinds = {layer.name: layer.kind for layer in a.net.layers()}
    return [
        LayerDifference(
            name=own,
            other=shared[own],
            kind=kinds[own],
            shape=shapes[own],
            relative=tally.relative,
            mean=tally.mean,
            cosine=tally.cosine,
        )
        for own, tally in tallies.items()
    ]


def weight_differences(a: Side, b: Side) -> WeightDifference:
    """Compare the weights tensor by tensor, matched by layer and role."""
    ours, theirs = _by_role(a), _by_role(b)
    shared = [key for key in ours if key in theirs and ours[key].shape == theirs[key].shape]
    tally = Tally()
    for key in shared:
        tally.add(ours[key], theirs[key])
    return WeightDifference(
        compared=len(shared),
        equal=sum(np.array_equal(ours[key], theirs[key]) for key in shared),
        left_out=len(set(ours) | set(theirs)) - len(shared),
        largest=tally.largest,
    )


def tensor_key(name: str, role: str) -> tuple[str, str]:
    """Name a tensor by what all frameworks share: its layer and its role."""
    return canonical(name[: max(name.rfind("."), name.rfind("/"), 0)]), role


def _by_role(side: Side) -> dict[tuple[str, str], NDArray[Any]]:
    weights = side.net.weights()
    return {
        tensor_key(name, tensor_role(name, weights)): np.asarray(value)
        for name, value in weights.items()
    }


def worst(rows: Sequence[LayerDifference]) -> LayerDifference:
    """Give the layer that is farthest apart."""
    return max(rows, key=lambda row: row.relative)
