"""How numbers are read off activations: means, odds, dot products, squares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnviz.adapter import Ops
from cnnviz.ascent.objectives.base import TapRule

__all__ = [
    "DirectionRule",
    "MeanRule",
    "OddsRule",
    "SpatialRule",
    "SquareRule",
    "powered_cosine",
]


@dataclass(frozen=True)
class MeanRule(TapRule):
    """The mean over space, weighted over channels; data is ``(C,)``."""

    linear = True

    def __call__(self, ops: Ops[Any], activations: Mapping[str, Any], *data: Any) -> Any:
        """See `Rule`."""
        return ops.sum(self.tap.means(ops, activations) * data[0], axis=(1,))


@dataclass(frozen=True)
class OddsRule(TapRule):
    """A score less the logarithm of the summed exponentials of all others; data is one-hot."""

    def __call__(self, ops: Ops[Any], activations: Mapping[str, Any], *data: Any) -> Any:
        """See `Rule`."""
        scores, chosen = self.tap.means(ops, activations), data[0]
        # Out of reach of all others, whatever the scores are.
        others = scores - chosen * 1e4
        top = ops.max(others, axis=(1,), keepdims=True)
        rest = ops.log(ops.sum(ops.exp(others - top), axis=(1,), keepdims=True)) + top
        return ops.sum(scores * chosen, axis=(1,)) - ops.sum(rest, axis=(1,))


@dataclass(frozen=True)
class DirectionRule(TapRule):
    """A dot product with ``(C,)``, times a power of the cosine, at all places or at one."""

    power: float
    placed: bool

    def __call__(self, ops: Ops[Any], activations: Mapping[str, Any], *data: Any) -> Any:
        """See `Rule`; data is the direction, and the place as shares of height and width."""
        value = self.tap.map(ops, activations)
        height, width, channels = (int(side) for side in value.shape[1:])
        towards = ops.reshape(data[0], (-1, 1, 1, channels))
        dot = ops.sum(value * towards, axis=(3,))
        found = dot * powered_cosine(ops, dot, value, towards, (3,), self.power)
        if not self.placed:
            return ops.mean(found, axis=(1, 2))
        place = data[1]
        hats = []
        for axis, side in enumerate((height, width)):
            # Not beyond the last centre, where a smaller map would count for less.
            middle = ops.clip(ops.reshape(place[:, axis] * side, (-1, 1)), 0.5, side - 0.5)
            distance = ops.abs(ops.asarray(np.arange(side) + 0.5) - middle)
            hats.append(ops.maximum(1 - distance, 0.0))
        down = ops.reshape(hats[0], (-1, height, 1))
        return ops.sum(found * down * ops.reshape(hats[1], (-1, 1, width)), axis=(1, 2))


@dataclass(frozen=True)
class SpatialRule(TapRule):
    """A dot product with ``(h, w, C)``, over what both have in their middles."""

    power: float
    extent: tuple[int, ...]

    def __call__(self, ops: Ops[Any], activations: Mapping[str, Any], *data: Any) -> Any:
        """See `Rule`."""
        value, wanted = self.tap.map(ops, activations), data[0]
        for axis in (1, 2):
            side = min(int(value.shape[axis]), int(wanted.shape[axis]))
            value, wanted = (_middle(x, axis, side) for x in (value, wanted))
        dot = ops.sum(value * wanted, axis=(1, 2, 3))
        return dot * powered_cosine(ops, dot, value, wanted, (1, 2, 3), self.power)


@dataclass(frozen=True)
class SquareRule(TapRule):
    """The mean square of a whole layer."""

    def __call__(self, ops: Ops[Any], activations: Mapping[str, Any], *data: Any) -> Any:
        """See `Rule`."""
        value = self.tap.read(activations)
        return ops.mean(value * value, axis=tuple(range(1, len(value.shape))))


def powered_cosine(
    ops: Ops[Any], dot: Any, a: Any, b: Any, axes: tuple[int, ...], power: float
) -> Any:
    """Give ``max(0.1, cosine) ** power``."""
    if power == 0:
        return 1.0
    lengths = ops.sum(a * a, axis=axes) * ops.sum(b * b, axis=axes)
    # Within the root, where a length of zero would have no derivative.
    cosine = dot / ops.sqrt(lengths + 1e-12)
    return ops.maximum(cosine, 0.1) ** power


def _middle(x: Any, axis: int, side: int) -> Any:
    begin = (int(x.shape[axis]) - side) // 2
    index = [slice(None)] * len(x.shape)
    index[axis] = slice(begin, begin + side)
    return x[tuple(index)]
