"""What the axes of a tensor stand for, followed through views, products and reductions.

torch names no axes: ``(N, 49, 96)`` may be tokens by channels or channels by places. So each
axis carries factors, such as ``("h", 14)`` and ``("w", 14)`` on an axis of 196 tokens, which a
view splits and joins as it does the axis. Axes of length one carry none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = [
    "SPACE",
    "Axes",
    "Axis",
    "Tokens",
    "joined",
    "merged",
    "place_of",
    "resized",
    "sliced",
    "space_in",
    "unknown",
    "viewed",
]

SPACE = ("d", "h", "w")
"""Tags of the axes in space; a signal has ``w`` alone. Channels are ``c``, the rest ``x``."""


@dataclass(frozen=True)
class Tokens:
    """The tag of an axis that holds a grid with other tokens before and after it."""

    before: int
    grid: tuple[tuple[str, int], ...]
    after: int


Tag = str | Tokens
Axis = tuple[tuple[Tag, int], ...]
Axes = tuple[Axis, ...]


def unknown(size: int) -> Axis:
    """Give the axis of which nothing is known."""
    return (("x", size),) if size > 1 else ()


def space_in(axis: Axis) -> tuple[tuple[str, int], ...]:
    """Give the factors of an axis that are places in space, those within tokens too."""
    found: list[tuple[str, int]] = []
    for tag, size in axis:
        if isinstance(tag, Tokens):
            found += tag.grid
        elif tag in SPACE:
            found.append((tag, size))
    return tuple(found)


def viewed(axes: Axes, shape: Sequence[int]) -> Axes:
    """Follow a view to another shape with the same numbers in the same order."""
    left = [factor for axis in axes for factor in axis]
    made: list[Axis] = []
    for side in shape:
        taken: list[tuple[Tag, int]] = []
        need = side
        while need > 1 and left:
            tag, size = left.pop(0)
            if need % size == 0:
                taken.append((tag, size))
                need //= size
            elif size % need == 0 and not isinstance(tag, Tokens):
                taken.append((tag, need))
                left.insert(0, (tag, size // need))
                need = 1
            else:
                return tuple(map(unknown, shape))
        if need > 1:
            return tuple(map(unknown, shape))
        made.append(_fused(taken))
    return tuple(made)


def sliced(axis: Axis, start: int, length: int, whole: int) -> Axis:
    """Follow a slice along one axis."""
    if length == whole:
        return axis
    if length <= 1:
        return ()
    if len(axis) != 1:
        return unknown(length)
    tag, _ = axis[0]
    if isinstance(tag, Tokens):
        count = math.prod(n for _, n in tag.grid)
        before = tag.before - start
        after = length - count - before
        if before < 0 or after < 0:
            # What was cut off is the grid, or a part of it.
            return unknown(length)
        return tag.grid if before == after == 0 else ((Tokens(before, tag.grid, after), length),)
    return ((tag, length),)


def resized(axis: Axis, size: int) -> Axis:
    """Follow what keeps the meaning of an axis and changes its length, such as a pooling."""
    if math.prod(n for _, n in axis) == size:
        return axis
    if size <= 1:
        return ()
    if len(axis) == 1 and not isinstance(axis[0][0], Tokens):
        return ((axis[0][0], size),)
    return unknown(size)


def joined(axes: Sequence[Axis], sizes: Sequence[int]) -> Axis:
    """Follow a concatenation along one axis."""
    total = sum(sizes)
    if total <= 1:
        return ()
    tags = {tag for axis in axes for tag, _ in axis}
    if len(tags) == 1 and all(len(axis) <= 1 for axis in axes):
        (tag,) = tags
        if not isinstance(tag, Tokens):
            return ((tag, total),)
    laid = [i for i, axis in enumerate(axes) if space_in(axis)]
    if len(laid) == 1:
        (i,) = laid
        before, after, axis = sum(sizes[:i]), sum(sizes[i + 1 :]), axes[i]
        if len(axis) == 1 and isinstance(axis[0][0], Tokens):
            own = axis[0][0]
            return ((Tokens(own.before + before, own.grid, own.after + after), total),)
        if all(tag in SPACE for tag, _ in axis):
            return ((Tokens(before, space_in(axis), after), total),)
    return (("c", total),) if "c" in tags and not laid else unknown(total)


def merged(operands: Sequence[Axes], shape: Sequence[int]) -> Axes:
    """Follow an operation that works element by element, with broadcasting."""
    made = []
    for place, size in enumerate(shape):
        candidates = [
            axes[place - len(shape)]
            for axes in operands
            if len(axes) >= len(shape) - place
            and math.prod(n for _, n in axes[place - len(shape)]) == size
        ]
        made.append(max(candidates, key=_known, default=unknown(size)) if size > 1 else ())
    return tuple(made)


def place_of(axes: Axes) -> tuple[int | None, tuple[int, ...] | None, int]:
    """Say which axis holds the channels, the grid of the others, and how many tokens precede it.

    The channel axis is None where it cannot be told, the grid None where some axis is unknown.
    """
    inner = range(1, len(axes))
    # Merged patches bring places along: their axis holds (2, 2, C).
    channels = [i for i in inner if any(tag == "c" for tag, _ in axes[i])]
    in_space = [i for i in inner if space_in(axes[i]) and i not in channels]
    if not channels:
        # Of length one, it carries nothing; so does an axis of space of length one.
        rest = [i for i in inner if not axes[i]]
        channels = rest if len(rest) == 1 and len(in_space) == len(axes) - 2 else []
    if len(channels) != 1:
        return None, None, 0
    places = [axes[i] for i in inner if i != channels[0]]
    if len(places) == 1 and len(places[0]) == 1 and isinstance(places[0][0][0], Tokens):
        tokens = places[0][0][0]
        return channels[0], tuple(n for _, n in tokens.grid), tokens.before
    if len(places) == 1 and len(places[0]) > 1:
        return channels[0], tuple(n for _, n in places[0]) if _in_order(places[0]) else (), 0
    if all(len(axis) <= 1 for axis in places) and _in_order([f for a in places for f in a]):
        return channels[0], tuple(axis[0][1] if axis else 1 for axis in places), 0
    return channels[0], (), 0


def _in_order(factors: Sequence[tuple[Tag, int]]) -> bool:
    """Say whether factors are places in space alone, each axis once: height before width."""
    tags = [tag for tag, _ in factors]
    return all(tag in SPACE for tag in tags) and tags == sorted(set(tags), key=str)


def _known(axis: Axis) -> int:
    if space_in(axis):
        return 2
    return 1 if any(tag == "c" for tag, _ in axis) else 0


def _fused(factors: Sequence[tuple[Tag, int]]) -> Axis:
    made: list[tuple[Tag, int]] = []
    for tag, size in factors:
        if made and made[-1][0] == tag and not isinstance(tag, Tokens):
            made[-1] = (tag, made[-1][1] * size)
        else:
            made.append((tag, size))
    return tuple(made)
