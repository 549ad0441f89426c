"""What each kind of operation of torch makes of the receptive field."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from cnnviz import fields, taps
from cnnviz.fields import Field, Taps
from cnnviz_torch.axes import SPACE, Axes, space_in

__all__ = [
    "along",
    "each",
    "interpolated",
    "joined_fields",
    "tags",
    "taken_along",
    "through_convolution",
]


def tags(field: Field) -> tuple[str, ...]:
    """Give the tags of the axes that a field has."""
    return SPACE[-len(field.extent) :] if isinstance(field, fields.Window) else ()


def each(value: Any, count: int) -> list[int]:
    """Give one number for each axis in space."""
    sides = list(value) if isinstance(value, (list, tuple)) else [value]
    return sides * count if len(sides) == 1 else sides


def along(axes: Axes, field: Field) -> list[int] | None:
    """Say along which axis of a tensor each axis of a field lies; None if that is not clear."""
    found = []
    wanted = tags(field)
    for k, tag in enumerate(wanted):
        holders = [i for i, axis in enumerate(axes) if tag in {t for t, _ in space_in(axis)}]
        if not holders:
            # An axis of length one carries nothing.
            own = len(axes) - len(wanted) + k
            if own < 1 or axes[own]:
                return None
            found.append(own)
        elif len(holders) > 1 or len(axes[holders[0]]) > 1 or axes[holders[0]][0][0] != tag:
            return None
        else:
            found.append(holders[0])
    return found


def taken_along(axes: Axes, field: Field, made: Sequence[Taps]) -> Field:
    """Give the field after an operation on the last axes of a tensor."""
    found = along(axes, field)
    start = len(axes) - len(made)
    if found is None:
        return fields.taken(fields.unplaced(field), made)
    still = Taps(((0, 0),), 1)
    return fields.taken(field, [made[i - start] if i >= start else still for i in found])


def through_convolution(
    field: Field, axes: Axes, weight: Tensor, args: Sequence[Any], transposed: bool
) -> Field:
    """Give the field after a convolution; `args` are its stride, padding and dilation."""
    count = weight.ndim - 2
    contracted = space_in(axes[1])
    if contracted and isinstance(field, fields.Window):
        # Places that a view has laid along the channels.
        sizes = [math.prod(n for t, n in contracted if t == tag) for tag in tags(field)]
        field = fields.enlarged(field, sizes, sizes)
        axes = (axes[0], (), *axes[2:])
    if along(axes, field) != list(range(2, 2 + count)):
        field = fields.unplaced(field)
    stride, padding, dilation = (each(value, count) for value in args)
    follow = fields.shrunk if transposed else fields.enlarged
    return follow(field, list(weight.shape[2:]), stride, padding, dilation)


def interpolated(
    source: Tensor, out: Tensor, among: int, args: Sequence[Any], exact: bool
) -> list[Taps]:
    """Give the taps of an upsampling, whose arguments are those after the size."""
    count = source.ndim - 2
    corners = False
    if among > 1:
        corners, *args = args or [False]
    scales = [*args, *[None] * count][:count]
    sides = zip(source.shape[2:], out.shape[2:], scales, strict=True)
    return [
        taps.interpolated(n, m, among, scale=scale, corners=bool(corners), exact=exact)
        for n, m, scale in sides
    ]


def joined_fields(known: Sequence[tuple[Axes, Sequence[int], Field]], axes: Axes) -> Field:
    """Give the field of what is made of several tensors, place by place.

    Parameters
    ----------
    known : sequence of (Axes, shape, Field)
        Of each.
    axes : Axes
        Of what is made.
    """
    return fields.union([_laid_over(*one, axes) for one in known])


def _laid_over(axes: Axes, shape: Sequence[int], field: Field, whole: Axes) -> Field:
    wide = [space_in(axis) for axis in whole]
    own: list[Any] = [space_in(axis) for axis in axes]
    sizes = list(shape)
    # Tensors meet at their last axes.
    lacking = len(wide) - len(own)
    if lacking < 0:
        return fields.unplaced(field)
    own, sizes = [()] * lacking + own, [1] * lacking + sizes
    spread: list[str] = []
    for mine, theirs, size in zip(own, wide, sizes, strict=True):
        if mine == theirs:
            continue
        if mine or size != 1:
            return fields.unplaced(field)
        spread += [tag for tag, _ in theirs]
    names = tags(field)
    return fields.held(field, [names.index(tag) for tag in spread if tag in names])
