"""The receptive field: how much of the picture one place of a tensor depends on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = ["ALL", "Field", "Window", "enlarged", "first", "rounded", "shrunk", "union"]

ALL: Literal["all"] = "all"


@dataclass(frozen=True)
class Window:
    """Extent of the field and distance between two neighbours, in pixels, along each axis."""

    extent: tuple[float, ...]
    step: tuple[float, ...]


Field = Window | Literal["all"] | None
"""None where it is not known."""


def first(axes: int) -> Field:
    """Give the field of a pixel: itself."""
    return Window((1.0,) * axes, (1.0,) * axes)


def union(fields: Sequence[Field]) -> Field:
    """Give the field of what is made of several tensors."""
    windows = [f for f in fields if isinstance(f, Window)]
    if ALL in fields:
        return ALL
    if None in fields or not windows:
        return None
    if len({len(w.extent) for w in windows}) > 1:
        return None
    return Window(
        tuple(max(sides) for sides in zip(*(w.extent for w in windows), strict=True)),
        tuple(max(sides) for sides in zip(*(w.step for w in windows), strict=True)),
    )


def enlarged(field: Field, kernel: Sequence[float], stride: Sequence[float]) -> Field:
    """Give the field after a window of `kernel` places that moves by `stride`."""
    if not isinstance(field, Window):
        return field
    if len(kernel) != len(field.extent):
        return None
    return Window(
        tuple(e + (k - 1) * s for e, k, s in zip(field.extent, kernel, field.step, strict=True)),
        tuple(s * t for s, t in zip(field.step, stride, strict=True)),
    )


def shrunk(field: Field, kernel: Sequence[int], stride: Sequence[int]) -> Field:
    """Give the field after a transposed window: each place is made of fewer."""
    fewer = [math.ceil(k / s) for k, s in zip(kernel, stride, strict=True)]
    return enlarged(field, fewer, [1 / s for s in stride])


def rounded(field: Field) -> tuple[int, ...] | Literal["all"] | None:
    """Give the field in whole pixels, as `cnnviz.Layer` has it."""
    if isinstance(field, Window):
        return tuple(math.ceil(side) for side in field.extent)
    return field
