"""Objectives for several pictures that are made together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnviz.adapter import Adapter, Ops
from cnnviz.ascent.objectives.base import Array, Objective, Rule, Size, Tap, TapRule, Term, sum_of
from cnnviz.errors import InvalidOption

__all__ = ["CoupledTerm", "alignment", "diversity", "interpolate"]


@dataclass(frozen=True)
class DiversityRule(TapRule):
    """Minus how alike the textures of two pictures are, for each picture."""

    coupled = True

    def __call__(self, ops: Ops[Any], activations: Mapping[str, Any], *data: Any) -> Any:
        """See `Rule`."""
        value = self.tap.map(ops, activations)
        count, height, width, channels = (int(side) for side in value.shape)
        flat = ops.reshape(value, (count, height * width, channels))
        gram = ops.matmul(ops.permute_dims(flat, (0, 2, 1)), flat)
        gram = ops.reshape(gram, (count, channels * channels))
        gram = gram / ops.sqrt(ops.sum(gram * gram, axis=(1,), keepdims=True) + 1e-12)
        alike = ops.matmul(gram, ops.permute_dims(gram, (1, 0)))
        return -ops.sum(alike * data[0], axis=(1,))


@dataclass(frozen=True)
class AlignmentRule(TapRule):
    """Minus the mean square between neighbours' activations, for each picture."""

    decay: float
    coupled = True

    def __call__(self, ops: Ops[Any], activations: Mapping[str, Any], *data: Any) -> Any:
        """See `Rule`."""
        value = self.tap.map(ops, activations)
        count = int(value.shape[0])
        flat = ops.reshape(value, (count, -1))
        size = int(flat.shape[1])
        products = ops.matmul(flat, ops.permute_dims(flat, (1, 0)))
        squares = ops.sum(flat * flat, axis=(1,), keepdims=True)
        apart = squares + ops.permute_dims(squares, (1, 0)) - 2 * products
        return -ops.sum(apart * data[0], axis=(1,)) / size


@dataclass(frozen=True)
class CoupledTerm(Term):
    """A comparison of the pictures of a batch; the data is made for all of them at once."""

    tap: str
    kind: str
    decay: float = 2.0
    reach: int = 3

    def rule(self, net: Adapter[Any]) -> Rule:
        """See `Term.rule`."""
        tap = Tap.of(net, self.tap)
        tap.channels(net)
        return DiversityRule(tap) if self.kind == "diversity" else AlignmentRule(tap, self.decay)

    def data(self, net: Adapter[Any], size: Size) -> tuple[Array, ...]:
        """Give nothing: see `matrix`."""
        return ()

    def matrix(self, groups: Sequence[int | None]) -> Array:
        """Give ``(N, N)``: how much each pair counts.

        Parameters
        ----------
        groups : sequence of int or None
            For each picture of the batch, the number of its objective; None for those
            without this term.
        """
        count = len(groups)
        found = np.zeros((count, count))
        mine = [i for i, group in enumerate(groups) if group is not None]
        for place, i in enumerate(mine):
            if self.kind == "diversity":
                same = [j for j in mine if j != i and groups[j] == groups[i]]
                found[i, same] = 1 / (len(same) + 1)
            else:
                for other, j in enumerate(mine):
                    apart = abs(other - place)
                    if 0 < apart <= self.reach:
                        # Each pair is seen from both of its ends.
                        found[i, j] = 0.5 * self.decay ** -(apart - 1)
        return found

    def identity(self, net: Adapter[Any]) -> tuple[Any, ...]:
        """See `Term.identity`."""
        return (self.kind,)

    def describe(self) -> str:
        """See `Term.describe`."""
        return f"{self.kind}:{self.tap}"


def diversity(layer: str) -> Objective:
    """Make the pictures of one objective differ in texture from each other [1]_.

    Minus the mean cosine of a picture's Gram matrix with those of the others that have the
    same objective: ``[channel("layer3", 7) + 100 * diversity("layer2")] * 4``.

    Parameters
    ----------
    layer : str
        Where textures are compared.

    References
    ----------
    .. [1] Olah, Mordvintsev and Schubert, "Feature Visualization", Distill, 2017.
    """
    return sum_of(CoupledTerm(layer, "diversity"))


def alignment(layer: str, decay: float = 2.0) -> Objective:
    """Make neighbours in a row of pictures look alike to a layer [1]_.

    Minus the mean square of the difference of their activations; pictures two and three
    places apart count less.

    Parameters
    ----------
    layer : str
    decay : float
        How many times less a pair counts with each place between them.

    References
    ----------
    .. [1] Mordvintsev, Pezzotti, Schubert and Olah, "Differentiable Image
       Parameterizations", Distill, 2018.
    """
    if not decay >= 1:
        raise InvalidOption(f"decay is at least 1, not {decay}")
    return sum_of(CoupledTerm(layer, "alignment", float(decay)))


def interpolate(a: Objective, b: Objective, count: int = 5) -> list[Objective]:
    """Give a row of objectives that leads from one to another in even steps.

    Parameters
    ----------
    a, b : Objective
    count : int
        How many, both ends included; at least 2.
    """
    if count < 2:
        raise InvalidOption(f"a row from one objective to another has at least 2, not {count}")
    shares = np.linspace(0, 1, count)
    return [a if s == 0 else b if s == 1 else (1 - s) * a + float(s) * b for s in shares]
