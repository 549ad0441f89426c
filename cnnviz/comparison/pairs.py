"""Layers of two networks that do the same, and what each gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.comparison.reference import activate

__all__ = ["Matching", "Pair"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Pair:
    """Layers of two networks that do the same.

    Attributes
    ----------
    layers, others : tuple of str
        Those of the one and of the other. Several, one after the other, where one network
        does in a layer what the other does in two: padding, then convolution, then activation.
    main, other_main : str
        The one of each that holds the weights, or gives the pair its family.
    family : str
        See `cnnviz.comparison.settings.FAMILIES`; empty if it is not known.
    given : bool
        Whether the caller named them.
    activation, other_activation : tuple, optional
        What a function, and no layer, does to the output of one network where the other has it
        within: ``("relu",)``.
    """

    layers: tuple[str, ...]
    others: tuple[str, ...]
    main: str
    other_main: str
    family: str
    given: bool = False
    activation: tuple[Any, ...] | None = None
    other_activation: tuple[Any, ...] | None = None

    @property
    def name(self) -> str:
        """Where the output of the pair is tapped in the first network."""
        return self.layers[-1]

    @property
    def other(self) -> str:
        """Where it is tapped in the second."""
        return self.others[-1]

    @property
    def as_tapped(self) -> bool:
        """Whether both taps give the same, without a function that is applied after one."""
        return self.activation is None and self.other_activation is None

    def ours(self, outputs: Mapping[str, Array]) -> Array:
        """Give what comes out of it in the first network, of what comes out of all layers."""
        return _finished(outputs[self.name], self.activation)

    def theirs(self, outputs: Mapping[str, Array]) -> Array:
        """Give what comes out of it in the second network."""
        return self.finished(outputs[self.other])

    def finished(self, value: Array) -> Array:
        """Apply what follows the layers of the second network to what they give."""
        return _finished(value, self.other_activation)


@dataclass(frozen=True)
class Matching:
    """All pairs, in the order of the first network, and what has no counterpart.

    Attributes
    ----------
    pairs : tuple of Pair
    only, only_other : tuple of str
        Layers of one network alone. Dropouts, identities and flattenings are not counted.
    """

    pairs: tuple[Pair, ...]
    only: tuple[str, ...]
    only_other: tuple[str, ...]


def _finished(value: Array, activation: tuple[Any, ...] | None) -> Array:
    if activation is None:
        return value
    return np.asarray(activate(value, activation), value.dtype)
