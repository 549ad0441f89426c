"""One score for a batch in which each picture has its own objective."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnviz.adapter import Adapter, Ops
from cnnviz.ascent.objectives.base import Array, Objective, Rule, Size, Term
from cnnviz.ascent.objectives.sets import CoupledTerm

__all__ = ["BatchScore", "seed_of"]


@dataclass(frozen=True)
class BatchScore:
    """The score of a batch in which each picture has its own objective.

    Equal for equal rules whatever the channels, which come as arguments: one trace serves
    every channel of a layer.

    Attributes
    ----------
    ops : Ops
    rules : tuple of Rule
    counts : tuple of int
        How many arguments each takes, its weight included.
    """

    ops: Ops[Any]
    rules: tuple[Rule, ...]
    counts: tuple[int, ...]

    @property
    def taps(self) -> tuple[str, ...]:
        """Where activations are wanted."""
        return tuple(dict.fromkeys(tap for rule in self.rules for tap in rule.taps))

    def __call__(self, activations: Mapping[str, Any], *args: Any) -> Any:
        """Give ``(N,)`` scores; for each rule come ``(N,)`` weights and its data."""
        total: Any = 0.0
        begin = 0
        for rule, count in zip(self.rules, self.counts, strict=True):
            weight, *data = args[begin : begin + count]
            total = total + rule(self.ops, activations, *data) * weight
            begin += count
        return total

    @classmethod
    def of(
        cls,
        net: Adapter[Any],
        objectives: Sequence[Objective],
        size: Size | None = None,
        own: bool = True,
    ) -> tuple[BatchScore, list[Array]]:
        """Make the score of some objectives and the arguments that it takes.

        Parameters
        ----------
        net : Adapter
        objectives : sequence of Objective
            One for each picture.
        size : (int, int), optional
            Of the pictures.
        own : bool
            Whether terms that name no network are `net`'s.

        Raises
        ------
        UnknownLayer, ChannelOutOfRange
            The network has no such layer or channel.
        """
        at = size or net.listed_size or (224, 224)
        rows: dict[tuple[Rule, int], dict[int, Term]] = {}
        names = [str(objective) for objective in objectives]
        for row, objective in enumerate(objectives):
            for term in objective.terms:
                if term.net is not net and not (own and term.net is None):
                    continue
                rule = term.rule(net)
                slot = 0
                while row in rows.get((rule, slot), {}):
                    slot += 1
                rows.setdefault((rule, slot), {})[row] = term
        rules, counts, args = [], [], []
        # Numbers that are linear in their data are added up before they are read.
        merged: dict[Rule, Array] = {}
        for (rule, _), terms in rows.items():
            weight = np.zeros(len(objectives))
            data: list[Array] = []
            if rule.coupled:
                groups = [names.index(name) if r in terms else None for r, name in enumerate(names)]
                first = next(iter(terms.values()))
                assert isinstance(first, CoupledTerm)
                data = [first.matrix(groups)]
                for row, term in terms.items():
                    weight[row] = term.weight
            else:
                for row, term in terms.items():
                    weight[row] = term.weight
                    each = term.data(net, (int(at[0]), int(at[1])))
                    if not data:
                        data = [np.zeros((len(objectives), *one.shape)) for one in each]
                    for whole, one in zip(data, each, strict=True):
                        whole[row] = one
            if rule.linear:
                data = [data[0] * weight[:, None]]
                if rule in merged:
                    merged[rule] += data[0]
                    continue
                merged[rule] = data[0]
                weight = np.ones(len(objectives))
            rules.append(rule)
            counts.append(1 + len(data))
            args.extend([weight, *data])
        return cls(net.ops, tuple(rules), tuple(counts)), args


def seed_of(net: Adapter[Any], objective: Objective) -> int:
    """Number an objective by what it asks for alone: a layer's name differs by framework."""
    plain: list[tuple[Any, ...]] = []
    others: list[tuple[Any, ...]] = []
    for term in objective.terms:
        name = (*term.identity(term.net or net), float(term.weight))
        (plain if len(name) == 2 and isinstance(name[0], int) else others).append(name)
    return zlib.crc32(repr(sorted(plain) + sorted(others, key=repr)).encode())
