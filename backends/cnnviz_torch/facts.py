"""What is known of a tensor of a run, and one operation as its rule sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from cnnviz.fields import Field
from cnnviz_torch.axes import SPACE, Axes, merged, resized, unknown
from cnnviz_torch.windows import joined_fields

__all__ = ["Facts", "Step", "by_shape", "laid_out", "plain"]


@dataclass(frozen=True)
class Facts:
    """What is known of a tensor.

    Attributes
    ----------
    axes : Axes
    field : Field
    layers : int
        Bit ``i`` is set if it depends on what the i-th call of a layer gave.
    """

    axes: Axes
    field: Field
    layers: int = 0


@dataclass(frozen=True)
class Step:
    """One output of one operation, as its rule sees it."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    known: Sequence[tuple[Tensor, Facts]]
    first: Facts
    out: Tensor
    number: int
    name: str = ""

    def arg(self, place: int, name: str, default: Any = None) -> Any:
        """Give an argument by its place or its name."""
        return self.args[place] if len(self.args) > place else self.kwargs.get(name, default)

    def dim(self, place: int, default: int = 0) -> int:
        """Give an argument that is an axis, counted from 0."""
        return int(self.arg(place, "dim", default)) % max(len(self.first.axes), 1)


def by_shape(known: Sequence[tuple[Tensor, Facts]], out: Tensor) -> Axes:
    """Follow an operation by shapes alone: by element, or along axes that keep their use."""
    if all(_broadcasts(x.shape, out.shape) for x, _ in known):
        return merged([facts.axes for _, facts in known], out.shape)
    source, facts = known[0]
    if source.ndim == out.ndim:
        return tuple(resized(a, n) for a, n in zip(facts.axes, out.shape, strict=True))
    return tuple(map(unknown, out.shape))


def laid_out(step: Step, axes: Axes) -> Facts:
    """Give the facts of what is made place by place, once its axes are known."""
    parts = [(facts.axes, x.shape, facts.field) for x, facts in step.known]
    return replace(step.first, axes=axes, field=joined_fields(parts, axes))


def plain(x: Tensor) -> Axes:
    """Read axes as torch's convolutions do: ``(N, C, *sides)``."""
    tags = ("c", *SPACE[-(x.ndim - 2) :])
    sides = zip(tags, x.shape[1:], strict=True)
    return ((), *(((tag, n),) if n > 1 else () for tag, n in sides))


def _broadcasts(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    # That of torch imports a second's worth of symbolic algebra.
    try:
        return np.broadcast_shapes(shape, wanted) == tuple(wanted)
    except ValueError:
        return False
