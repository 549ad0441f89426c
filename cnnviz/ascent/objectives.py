"""What a picture is pushed towards: channels and classes, and sums and multiples of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.adapter import LOGITS, Adapter, Ops
from cnnviz.classes import class_index
from cnnviz.errors import ChannelOutOfRange, InvalidOption

__all__ = ["BatchScore", "Objective", "Term", "as_objectives", "channel", "class_logit", "parse"]


@dataclass(frozen=True)
class Term:
    """One number in the network: the mean over space of one channel at one tap, weighted."""

    tap: str
    index: int | str
    weight: float = 1.0

    def __str__(self) -> str:
        name = f"class:{self.index}" if self.tap == LOGITS else f"{self.tap}:{self.index}"
        return name if self.weight == 1 else f"{self.weight:g} * {name}"


@dataclass(frozen=True)
class Objective:
    """A weighted sum of channels and classes; arithmetic makes new ones and changes none.

    Examples
    --------
    >>> channel("layer3", 7) + 0.5 * class_logit(281)
    layer3:7 + 0.5 * class:281
    """

    terms: tuple[Term, ...]

    def __add__(self, other: Objective) -> Objective:
        if not isinstance(other, Objective):
            return NotImplemented
        return Objective(self.terms + other.terms)

    def __mul__(self, factor: float) -> Objective:
        if isinstance(factor, Objective):
            return NotImplemented
        return Objective(tuple(Term(t.tap, t.index, t.weight * float(factor)) for t in self.terms))

    __rmul__ = __mul__

    def __neg__(self) -> Objective:
        return self * -1.0

    def __sub__(self, other: Objective) -> Objective:
        return self + -other

    def __str__(self) -> str:
        return " + ".join(map(str, self.terms))

    __repr__ = __str__


def channel(layer: str, index: int) -> Objective:
    """Excite one channel of a layer, averaged over space.

    Parameters
    ----------
    layer : str
        An address as `cnnviz.layers` lists it.
    index : int
        From 0.
    """
    return Objective((Term(layer, int(index)),))


def class_logit(target: int | str) -> Objective:
    """Excite the score of one class before any softmax.

    Parameters
    ----------
    target : int or str
        The index of the class, or its name where the network knows names.
    """
    return Objective((Term(LOGITS, target if isinstance(target, str) else int(target)),))


def parse(text: str) -> Objective:
    """Read ``LAYER:CHANNEL`` or ``class:INDEX`` (or ``class:NAME``), as the command line has it.

    Raises
    ------
    InvalidOption
        It is neither.
    """
    head, _, tail = text.rpartition(":")
    if head == "class" and tail:
        return class_logit(int(tail) if re.fullmatch(r"-?\d+", tail) else tail)
    if head and re.fullmatch(r"-?\d+", tail):
        return channel(head, int(tail))
    raise InvalidOption(
        f"cannot read the objective {text!r}; write LAYER:CHANNEL, class:INDEX or class:NAME"
    )


def as_objectives(objective: Objective | str | Sequence[Objective | str]) -> list[Objective]:
    """Make a list of one or several objectives, given as objects or as text."""
    given = [objective] if isinstance(objective, (Objective, str)) else list(objective)
    if not given:
        raise InvalidOption("there is no objective; give at least one")
    found = []
    for one in given:
        one = parse(one) if isinstance(one, str) else one
        if not isinstance(one, Objective):
            raise InvalidOption(
                "an objective is made by cnnviz.objectives or written as LAYER:CHANNEL,"
                f" not a {type(one).__name__}"
            )
        found.append(one)
    return found


@dataclass(frozen=True)
class BatchScore:
    """The score of a batch in which each picture has its own objective.

    Equal for equal taps whatever the channels, which come as an argument: one trace serves
    every channel of a layer. Of tokens, those of the grid count.
    """

    ops: Ops[Any]
    taps: tuple[str, ...]
    grids: tuple[tuple[int, int] | None, ...] = ()

    def __call__(self, activations: Mapping[str, Any], *weights: Any) -> Any:
        """Give ``(N,)`` scores; `weights` holds ``(N, C)`` for each tap."""
        total: Any = 0.0
        grids = self.grids or (None,) * len(self.taps)
        for tap, weight, grid in zip(self.taps, weights, grids, strict=True):
            value = activations[tap]
            if grid is not None:
                before, after = grid
                value = value[:, before : value.shape[1] - after]
            if len(value.shape) > 2:
                value = self.ops.mean(value, axis=tuple(range(1, len(value.shape) - 1)))
            total = total + self.ops.sum(value * weight, axis=(1,))
        return total

    @classmethod
    def of(
        cls, net: Adapter[Any], objectives: Sequence[Objective]
    ) -> tuple[BatchScore, list[NDArray[np.float64]]]:
        """Make the score of some objectives and the weights ``(N, C)`` that it takes.

        Raises
        ------
        UnknownLayer, ChannelOutOfRange
            The network has no such layer or channel.
        """
        taps = tuple(dict.fromkeys(term.tap for o in objectives for term in o.terms))
        weights = []
        for tap in taps:
            weight = np.zeros((len(objectives), _channels(net, tap)))
            for row, objective in enumerate(objectives):
                for term in objective.terms:
                    if term.tap == tap:
                        weight[row, _index(net, term)] += term.weight
            weights.append(weight)
        return cls(net.ops, taps, tuple(_grid(net, tap) for tap in taps)), weights


def _grid(net: Adapter[Any], tap: str) -> tuple[int, int] | None:
    """Give the numbers of tokens before and after the grid, None where there are none."""
    layer = None if tap == LOGITS else net.layer(tap)
    if layer is None or not layer.tokens:
        return None
    return layer.class_tokens, layer.other_tokens - layer.class_tokens


def _channels(net: Adapter[Any], tap: str) -> int:
    if tap == LOGITS:
        if net.classes is None:
            net.layers()
        found = net.classes
    else:
        found = net.layer(tap).channels
    if found is None:
        raise InvalidOption(f"{tap} is not one tensor with channels; choose a layer within it")
    return found


def _index(net: Adapter[Any], term: Term) -> int:
    if term.tap == LOGITS:
        return class_index(net, term.index)
    count = _channels(net, term.tap)
    if not 0 <= int(term.index) < count:
        raise ChannelOutOfRange(f"channel of {term.tap!r}", int(term.index), count)
    return int(term.index)
