"""Calls of layers, operations and functions in a run, and where in them a tensor is met."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import keras
from keras.src.models.functional import Functional

__all__ = ["Answer", "Call", "Key", "Place", "is_graph", "is_tensor"]

Key = tuple[str, str, int]
"""What was called, its address, and which call of it."""


@dataclass(frozen=True)
class Place:
    """Where a tensor is met in a run.

    Attributes
    ----------
    source : str
        What gives it: a call of a layer, the model itself, or, for what goes into a softmax
        or its like, a call of that function.
    address : str
        Of the layer, or the name of the function.
    call : int
        Which call of it.
    part : str
        The keys that lead to it in what is given.
    first : bool
        Whether its channels come before its places.
    """

    source: Literal["layer", "output", "activation"]
    address: str = ""
    call: int = 0
    part: str = ""
    first: bool = False

    @property
    def key(self) -> Key:
        """The call that gives it."""
        return self.source, self.address, self.call


@dataclass(frozen=True)
class Call:
    """One call of one layer, operation or function that has finished.

    Attributes
    ----------
    inner : int
        How many calls had finished before it began; those since are within it.
    """

    source: str
    address: str
    number: int
    layer: Any
    args: Any
    output: Any
    inner: int

    @property
    def key(self) -> Key:
        """What was called, and which time."""
        return self.source, self.address, self.number


@dataclass(frozen=True)
class Answer:
    """What a call gives without being run.

    Attributes
    ----------
    output : object
    within : sequence of Key
        The calls that it would have made, which count as made.
    """

    output: Any
    within: tuple[Key, ...] = ()


def is_tensor(value: Any) -> bool:
    """Say whether a value is one tensor of the engine."""
    return hasattr(value, "shape") and hasattr(value, "dtype")


def is_graph(layer: keras.layers.Layer) -> bool:
    """Say whether a layer is a functional or Sequential model that does nothing else."""
    return type(layer).call in (Functional.call, keras.Sequential.call)
