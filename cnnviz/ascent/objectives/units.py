"""Objectives for parts of a network: channels, neurons, directions, layers and classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from cnnviz.adapter import LOGITS, OUTPUT, Adapter
from cnnviz.ascent.held import Held
from cnnviz.ascent.objectives.base import Array, Objective, Rule, Size, Tap, Term, sum_of
from cnnviz.ascent.objectives.rules import (
    DirectionRule,
    MeanRule,
    OddsRule,
    SpatialRule,
    SquareRule,
)
from cnnviz.classes import class_index
from cnnviz.errors import ChannelOutOfRange, InvalidOption

__all__ = [
    "attribute",
    "channel",
    "class_logit",
    "class_odds",
    "direction",
    "layer",
    "neuron",
    "spatial",
]


@dataclass(frozen=True)
class ChannelTerm(Term):
    """The mean over space of one channel at one tap."""

    tap: str
    index: int | str

    def rule(self, net: Adapter[Any]) -> Rule:
        """See `Term.rule`."""
        return MeanRule(Tap.of(net, self.tap))

    def data(self, net: Adapter[Any], size: Size) -> tuple[Array, ...]:
        """See `Term.data`."""
        one_hot = np.zeros(Tap.of(net, self.tap).channels(net))
        one_hot[_checked(net, self.tap, self.index)] = 1
        return (one_hot,)

    def identity(self, net: Adapter[Any]) -> tuple[Any, ...]:
        """See `Term.identity`."""
        return (_checked(net, self.tap, self.index),)

    def describe(self) -> str:
        """See `Term.describe`."""
        name = "class" if self.tap == LOGITS else self.tap.replace(OUTPUT, "output")
        return f"{name}:{self.index}"


@dataclass(frozen=True)
class OddsTerm(ChannelTerm):
    """A class against all others."""

    def rule(self, net: Adapter[Any]) -> Rule:
        """See `Term.rule`."""
        tap = Tap.of(net, self.tap)
        if tap.channels(net) < 2:
            raise InvalidOption("odds need at least two classes; use class_logit, class:0")
        return OddsRule(tap)

    def identity(self, net: Adapter[Any]) -> tuple[Any, ...]:
        """See `Term.identity`."""
        return ("odds", *super().identity(net))

    def describe(self) -> str:
        """See `Term.describe`."""
        return f"odds:{self.index}"


@dataclass(frozen=True)
class DirectionTerm(Term):
    """A direction in the space of channels, at every place or at one."""

    tap: str
    towards: Held | int
    power: float = 0.0
    place: tuple[int | None, int | None] | None = None

    def rule(self, net: Adapter[Any]) -> Rule:
        """See `Term.rule`."""
        return DirectionRule(Tap.of(net, self.tap), self.power, self.place is not None)

    def data(self, net: Adapter[Any], size: Size) -> tuple[Array, ...]:
        """See `Term.data`."""
        channels = Tap.of(net, self.tap).channels(net)
        if isinstance(self.towards, int):
            vector = np.zeros(channels)
            vector[_checked(net, self.tap, self.towards)] = 1
        else:
            vector = self.towards.array
            if vector.shape != (channels,):
                raise InvalidOption(
                    f"a direction of {self.tap!r} has {channels} numbers, not {vector.shape}"
                )
        if self.place is None:
            return (vector,)
        sides = (net.layer(self.tap).spatial or (1, 1)) if self.tap[0] != "<" else (1, 1)
        shares = []
        for index, side, name in zip(self.place, sides, ("row", "column"), strict=True):
            index = side // 2 if index is None else index
            if not 0 <= index < side:
                raise ChannelOutOfRange(f"{name} of {self.tap!r}", index, side)
            shares.append((index + 0.5) / side)
        return vector, np.array(shares)

    def identity(self, net: Adapter[Any]) -> tuple[Any, ...]:
        """See `Term.identity`."""
        return ("direction", repr(self.towards), self.power, self.place)

    def describe(self) -> str:
        """See `Term.describe`."""
        what = str(self.towards) if isinstance(self.towards, int) else f"({self.towards!r})"
        power = f"^{self.power:g}" if self.power else ""
        if self.place is None:
            return f"{self.tap}:{what}{power}"
        if isinstance(self.towards, int) and not power and None not in self.place:
            # As it is read.
            return f"{self.tap}:{what}@{self.place[0]},{self.place[1]}"
        return f"{self.tap}:{what}{power} at {_place(self.place)}"


def _place(place: tuple[int | None, int | None]) -> str:
    return ",".join("middle" if one is None else str(one) for one in place)


@dataclass(frozen=True)
class SpatialTerm(Term):
    """A pattern of activations."""

    tap: str
    pattern: Held
    power: float = 0.0

    def rule(self, net: Adapter[Any]) -> Rule:
        """See `Term.rule`."""
        # Patterns of two sizes are no one tensor.
        return SpatialRule(Tap.of(net, self.tap), self.power, self.pattern.array.shape[:2])

    def data(self, net: Adapter[Any], size: Size) -> tuple[Array, ...]:
        """See `Term.data`."""
        channels = Tap.of(net, self.tap).channels(net)
        if self.pattern.array.shape[-1] != channels:
            raise InvalidOption(
                f"a pattern of {self.tap!r} has {channels} channels, not"
                f" {self.pattern.array.shape[-1]}"
            )
        return (self.pattern.array,)

    def identity(self, net: Adapter[Any]) -> tuple[Any, ...]:
        """See `Term.identity`."""
        return ("spatial", repr(self.pattern), self.power)

    def describe(self) -> str:
        """See `Term.describe`."""
        return f"{self.tap}:({self.pattern!r})" + (f"^{self.power:g}" if self.power else "")


@dataclass(frozen=True)
class LayerTerm(Term):
    """The mean square of a layer."""

    tap: str

    def rule(self, net: Adapter[Any]) -> Rule:
        """See `Term.rule`."""
        tap = Tap.of(net, self.tap)
        tap.channels(net)
        return SquareRule(tap)

    def data(self, net: Adapter[Any], size: Size) -> tuple[Array, ...]:
        """See `Term.data`."""
        return ()

    def identity(self, net: Adapter[Any]) -> tuple[Any, ...]:
        """See `Term.identity`."""
        return ("layer",)

    def describe(self) -> str:
        """See `Term.describe`."""
        return f"layer:{self.tap}"


def _checked(net: Adapter[Any], tap: str, index: int | str) -> int:
    if tap == LOGITS:
        return class_index(net, index)
    count = Tap.of(net, tap).channels(net)
    if not 0 <= int(index) < count:
        raise ChannelOutOfRange(f"channel of {tap!r}", int(index), count)
    return int(index)


def channel(layer: str, index: int) -> Objective:
    """Excite one channel of a layer, averaged over space.

    Parameters
    ----------
    layer : str
        An address as `cnnviz.layers` lists it.
    index : int
        From 0.
    """
    return sum_of(ChannelTerm(layer, int(index)))


def class_logit(target: int | str) -> Objective:
    """Excite the score of one class before any softmax.

    Parameters
    ----------
    target : int or str
        The index of the class, or its name where the network knows names.
    """
    return sum_of(ChannelTerm(LOGITS, target if isinstance(target, str) else int(target)))


def class_odds(target: int | str) -> Objective:
    """Excite one class and none of the others: the logarithm of its odds.

    The score of the class less the logarithm of the summed exponentials of all other scores:
    ``log(p / (1 - p))`` of its probability. A picture for it shows what tells a class from
    its like, where `class_logit` may show what all of them have.

    Parameters
    ----------
    target : int or str
        The index of the class, or its name where the network knows names.
    """
    return sum_of(OddsTerm(LOGITS, target if isinstance(target, str) else int(target)))


def attribute(output: str | int, index: int) -> Objective:
    """Excite one number of one of several outputs, such as an age or a smile.

    Parameters
    ----------
    output : str or int
        Its key or its place in what the model returns.
    index : int
        Which of its numbers, as the model returns it: after a sigmoid if it ends in one.
    """
    return sum_of(ChannelTerm(f"{OUTPUT}[{output}]", int(index)))


def neuron(layer: str, index: int, row: int | None = None, column: int | None = None) -> Objective:
    """Excite one channel at one place; in the middle by default.

    Parameters
    ----------
    layer : str
    index : int
        The channel.
    row, column : int, optional
        Place on the layer's map, counted as at the network's own size; where the picture is
        of another size, the place moves with it.
    """
    return sum_of(DirectionTerm(layer, int(index), place=(row, column)))


def direction(
    layer: str,
    vector: ArrayLike,
    power: float = 0.0,
    *,
    row: int | None = None,
    column: int | None = None,
) -> Objective:
    """Excite a direction in the space of a layer's channels.

    ``mean(dot * max(0.1, cosine) ** power)`` over all places, or at one: a power keeps the
    activation from growing long beside the direction.

    Parameters
    ----------
    layer : str
    vector : array
        ``(C,)``.
    power : float
        Of the true cosine; from 0, the plain dot product, to about 2.
    row, column : int, optional
        One place, as for `neuron`; if one is given the other is in the middle.
    """
    vector = np.asarray(vector, dtype=np.float64)
    _checked_vector(vector, 1, "a direction")
    place = None if row is None and column is None else (row, column)
    return sum_of(DirectionTerm(layer, Held(vector), _power(power), place))


def spatial(layer: str, pattern: ArrayLike, power: float = 0.0) -> Objective:
    """Excite a pattern of activations over space, such as those of a photo.

    Parameters
    ----------
    layer : str
    pattern : array
        ``(h, w, C)``; where it and the map differ in size, their middles are compared.
    power : float
        Of the true cosine, as for `direction`.
    """
    pattern = np.asarray(pattern, dtype=np.float64)
    _checked_vector(pattern, 3, "a pattern")
    return sum_of(SpatialTerm(layer, Held(pattern), _power(power)))


def layer(name: str) -> Objective:
    """Excite all of a layer at once, whatever it already answers to: DeepDream [1]_.

    The mean of the squares of its activations.

    References
    ----------
    .. [1] Mordvintsev, Olah and Tyka, "Inceptionism", Google Research, 2015.
    """
    return sum_of(LayerTerm(name))


def _power(power: float) -> float:
    if not 0 <= power <= 100:
        raise InvalidOption(f"the power of a cosine is at least 0, not {power}")
    return float(power)


def _checked_vector(x: Array, axes: int, name: str) -> None:
    if x.ndim != axes or not x.size or not np.isfinite(x).all() or not x.any():
        raise InvalidOption(f"{name} is {axes}-dimensional, finite and not all zero")
