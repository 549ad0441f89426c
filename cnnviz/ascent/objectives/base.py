"""What an objective is: a weighted sum of numbers that are read off a network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.adapter import LOGITS, OUTPUT, Adapter, Ops
from cnnviz.errors import InvalidOption

__all__ = ["Array", "Objective", "Rule", "Size", "Tap", "TapRule", "Term", "sum_of"]

Array = NDArray[np.float64]
Size = tuple[int, int]


@dataclass(frozen=True)
class Tap:
    """A tensor of the network as objectives read it.

    Attributes
    ----------
    name : str
        Of the tap.
    before, after : int
        Tokens before and after those of the grid.
    grid : (int, int) or None
        The places that tokens stand for.
    """

    name: str
    before: int = 0
    after: int = 0
    grid: tuple[int, ...] | None = None

    @classmethod
    def of(cls, net: Adapter[Any], name: str) -> Tap:
        """Look a tap up; of tokens, those of the grid count.

        Raises
        ------
        UnknownLayer
            The network has no such layer.
        """
        if name.startswith("<"):
            return cls(name)
        layer = net.layer(name)
        if not layer.tokens:
            return cls(layer.name)
        after = layer.other_tokens - layer.class_tokens
        return cls(layer.name, layer.class_tokens, after, layer.spatial)

    def read(self, activations: Mapping[str, Any]) -> Any:
        """Give the activation ``(N, ..., C)``."""
        value = activations[self.name]
        if self.grid is None:
            return value
        return value[:, self.before : value.shape[1] - self.after]

    def means(self, ops: Ops[Any], activations: Mapping[str, Any]) -> Any:
        """Give the mean over all places, ``(N, C)``."""
        value = self.read(activations)
        middle = tuple(range(1, len(value.shape) - 1))
        return ops.mean(value, axis=middle) if middle else value

    def map(self, ops: Ops[Any], activations: Mapping[str, Any]) -> Any:
        """Give the activation ``(N, H, W, C)``; a vector has one place."""
        value = self.read(activations)
        shape = tuple(int(side) for side in value.shape)
        if len(shape) == 4:
            return value
        places = self.grid if self.grid and len(shape) == 3 else shape[1:-1]
        height, width = (*(1,) * (2 - len(places)), *places)
        return ops.reshape(value, (shape[0], height, width, shape[-1]))

    def channels(self, net: Adapter[Any]) -> int:
        """Give the size of its last axis.

        Raises
        ------
        InvalidOption
            It is not one tensor with channels.
        """
        if self.name == LOGITS:
            if net.classes is None:
                net.layers()
            found = net.classes
        elif self.name.startswith(OUTPUT):
            size = tuple(side or 224 for side in (net.listed_size or net.input_shape[:-1]))
            blank = net.ops.asarray(np.full((1, *size, net.input_shape[-1]), 0.5))
            found = int(net.forward(blank, taps=[self.name])[self.name].shape[-1])
        else:
            found = net.layer(self.name).channels
        if found is None:
            raise InvalidOption(
                f"{self.name} is not one tensor with channels; choose a layer within it"
            )
        return found


class Rule(ABC):
    """How a number is read off activations; what equal rules read is computed together.

    Hashable, and free of everything that differs from picture to picture: that is data, which
    comes as tensors, so that one trace serves all.

    Attributes
    ----------
    linear : bool
        Whether the number is linear in the (single) data: then data of several terms add up.
    coupled : bool
        Whether the number of a picture depends on those beside it. Its data is one matrix
        ``(N, N)``.
    """

    linear = False
    coupled = False

    @property
    @abstractmethod
    def taps(self) -> tuple[str, ...]:
        """Where activations are wanted."""

    @abstractmethod
    def __call__(self, ops: Ops[Any], activations: Mapping[str, Any], *data: Any) -> Any:
        """Give ``(N,)``; data has an axis for the pictures first."""


@dataclass(frozen=True)
class TapRule(Rule):
    """A rule that reads one tensor of the network."""

    tap: Tap

    @property
    def taps(self) -> tuple[str, ...]:
        """See `Rule.taps`."""
        return (self.tap.name,)


@dataclass(frozen=True)
class Term(ABC):
    """One number in the network, weighted.

    Attributes
    ----------
    weight : float
        What it is multiplied by.
    net : Adapter or None
        Whose number it is; that of the ascent if none is given.
    """

    weight: float = field(default=1.0, kw_only=True)
    net: Adapter[Any] | None = field(default=None, kw_only=True)

    @abstractmethod
    def rule(self, net: Adapter[Any]) -> Rule:
        """Say how it is read; raises where the network has no such number."""

    @abstractmethod
    def data(self, net: Adapter[Any], size: Size) -> tuple[Array, ...]:
        """Give what the rule needs to know, for a picture of that size."""

    @abstractmethod
    def identity(self, net: Adapter[Any]) -> tuple[Any, ...]:
        """Name it by what does not depend on the framework, for the seed."""

    @abstractmethod
    def describe(self) -> str:
        """Write it without its weight."""

    def __str__(self) -> str:
        text = self.describe() + (f"@{self.net.name}" if self.net is not None else "")
        return text if self.weight == 1 else f"{self.weight:g} * {text}"


@dataclass(frozen=True, repr=False)
class Objective:
    """A weighted sum of numbers in a network; arithmetic makes new ones and changes none.

    Examples
    --------
    >>> from cnnviz import objectives
    >>> objectives.channel("layer3", 7) + 0.5 * objectives.class_logit(281)
    layer3:7 + 0.5 * class:281
    """

    terms: tuple[Term, ...]
    start: Any = field(default=None, compare=False)
    """A picture to begin with, if there is one; see `accentuation`."""

    def __add__(self, other: Objective) -> Objective:
        if not isinstance(other, Objective):
            return NotImplemented
        start = self.start if self.start is not None else other.start
        return Objective(self.terms + other.terms, start)

    def __mul__(self, factor: float) -> Objective:
        if isinstance(factor, Objective):
            return NotImplemented
        weighted = (replace(t, weight=t.weight * float(factor)) for t in self.terms)
        return Objective(tuple(weighted), self.start)

    __rmul__ = __mul__

    def __truediv__(self, divisor: float) -> Objective:
        if isinstance(divisor, Objective):
            return NotImplemented
        return self * (1 / divisor)

    def __neg__(self) -> Objective:
        return self * -1.0

    def __sub__(self, other: Objective) -> Objective:
        if not isinstance(other, Objective):
            return NotImplemented
        return self + -other

    def on(self, net: Any) -> Objective:
        """Mean the same numbers, but of another network, whatever its framework.

        ``class_logit(281) + class_logit(281).on(other)`` is what both call a cat. Between two
        frameworks the picture and its gradient are copied at each step.
        """
        from cnnviz.discovery import adapt

        adapter = adapt(net)
        return Objective(tuple(replace(t, net=adapter) for t in self.terms), self.start)

    def __str__(self) -> str:
        return " + ".join(map(str, self.terms))

    __repr__ = __str__


def sum_of(term: Term, start: Any = None) -> Objective:
    """Make an objective of one term."""
    return Objective((term,), start)
