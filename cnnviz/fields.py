"""The receptive field: which part of the picture one place of a tensor depends on.

Along each axis the fields of all places are known from those of the first few, since they
recur: of a convolution each is the one before, moved by the stride; of what was enlarged
twofold, each is the one two places before, moved by one step of what was enlarged. So a field
is exact at every place, and holds for a picture of any size.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

__all__ = [
    "ALL",
    "Field",
    "Places",
    "Taps",
    "Window",
    "enlarged",
    "first",
    "held",
    "rounded",
    "shrunk",
    "taken",
    "union",
    "unplaced",
]

ALL: Literal["all"] = "all"

# Resizing again and again by odd ratios makes fields recur after longer and longer ways.
_LONGEST = 4096


@dataclass(frozen=True)
class Places:
    """The fields of all places along one axis.

    Attributes
    ----------
    spans : tuple of (int, int)
        The first pixel, and the one after the last, of the fields of the first places. They
        lie outside the picture where padding does.
    advance : int
        How many pixels further they are, ``len(spans)`` places on.
    """

    spans: tuple[tuple[int, int], ...]
    advance: int

    def __getitem__(self, place: int) -> tuple[int, int]:
        times, phase = divmod(place, len(self.spans))
        start, end = self.spans[phase]
        return start + times * self.advance, end + times * self.advance

    def over(self, places: Iterable[int]) -> tuple[int, int]:
        """Give the hull of the fields of several places."""
        starts, ends = zip(*(self[place] for place in places), strict=True)
        return min(starts), max(ends)

    def repeated(self, times: int) -> Places:
        """Give the same with so many times as many spans."""
        spans = tuple(self[place] for place in range(len(self.spans) * times))
        return Places(spans, self.advance * times)

    def shortest(self) -> Places:
        """Give the same with the fewest spans, so that equal fields compare equal."""
        count = len(self.spans)
        for n in range(1, count):
            if count % n == 0 and self.advance % (count // n) == 0:
                part = Places(self.spans[:n], self.advance // (count // n))
                if part.repeated(count // n) == self:
                    return part
        return self


@dataclass(frozen=True)
class Window:
    """The fields of a tensor's places, each of them a box of pixels.

    Attributes
    ----------
    extent : tuple of float
        Of the widest field, in pixels, along each axis.
    step : tuple of float
        The mean distance of two neighbours, in pixels.
    places : tuple of Places or None
        Where they are; None if only their extent is known.
    """

    extent: tuple[float, ...]
    step: tuple[float, ...]
    places: tuple[Places, ...] | None = None

    @classmethod
    def of(cls, places: Sequence[Places]) -> Window:
        """Make it of the places along each axis."""
        return cls(
            tuple(float(max(end - start for start, end in p.spans)) for p in places),
            tuple(p.advance / len(p.spans) for p in places),
            tuple(places),
        )

    @property
    def start(self) -> tuple[float, ...] | None:
        """The first pixel of the field of place 0; below zero where there is padding."""
        if self.places is None:
            return None
        return tuple(float(axis[0][0]) for axis in self.places)

    def box(self, place: Sequence[int]) -> tuple[int, ...] | None:
        """Give the field of a place: first pixels, then those after the last; not clipped."""
        if self.places is None:
            return None
        spans = [axis[i] for axis, i in zip(self.places, place, strict=True)]
        return (*(start for start, _ in spans), *(end for _, end in spans))


Field = Window | Literal["all"] | None
"""``"all"`` where every place depends on every pixel, None where it is not known."""


@dataclass(frozen=True)
class Taps:
    """Which places each place of the next tensor is made of, along one axis.

    Attributes
    ----------
    ranges : tuple of (int, int)
        The first and the last, for the first places of the next.
    advance : int
        How many places further they are, ``len(ranges)`` places of the next on.
    """

    ranges: tuple[tuple[int, int], ...]
    advance: int


def first(axes: int) -> Field:
    """Give the field of a pixel: itself."""
    return Window.of([Places(((0, 1),), 1)] * axes)


def union(fields: Sequence[Field]) -> Field:
    """Give the field of what is made of several tensors whose places are the same.

    Places are no longer known where the fields of one tensor move on faster than another's.
    """
    windows = [f for f in fields if isinstance(f, Window)]
    if ALL in fields:
        return ALL
    if None in fields or not windows:
        return None
    if len({len(w.extent) for w in windows}) > 1:
        return None
    known = [w.places for w in windows if w.places is not None]
    if len(known) == len(windows):
        hulls = [_hull(axis) for axis in zip(*known, strict=True)]
        if None not in hulls:
            return Window.of([axis for axis in hulls if axis is not None])
    return Window(
        tuple(max(sides) for sides in zip(*(w.extent for w in windows), strict=True)),
        tuple(max(sides) for sides in zip(*(w.step for w in windows), strict=True)),
    )


def taken(field: Field, taps: Sequence[Taps]) -> Field:
    """Give the field after an operation that makes each place of the next out of several."""
    if not isinstance(field, Window):
        return field
    if len(taps) != len(field.extent):
        return None
    if field.places is not None:
        made = [_taken(p, t) for p, t in zip(field.places, taps, strict=True)]
        if None not in made:
            return Window.of([axis for axis in made if axis is not None])
    widest = [max(last - first for first, last in t.ranges) for t in taps]
    return Window(
        tuple(e + n * s for e, n, s in zip(field.extent, widest, field.step, strict=True)),
        tuple(s * t.advance / len(t.ranges) for s, t in zip(field.step, taps, strict=True)),
    )


def enlarged(
    field: Field,
    kernel: Sequence[int],
    stride: Sequence[int],
    before: Sequence[int] | None = None,
    dilation: Sequence[int] | None = None,
) -> Field:
    """Give the field after a window of `kernel` places, `dilation` apart, that moves by `stride`.

    Parameters
    ----------
    field : Field
    kernel, stride : sequence of int
        Along each axis.
    before : sequence of int, optional
        Places of padding before the first; negative where some are cut off.
    dilation : sequence of int, optional
    """
    one = [1] * len(kernel)
    sides = zip(kernel, stride, before or [0] * len(kernel), dilation or one, strict=True)
    return taken(field, [Taps(((-b, (k - 1) * d - b),), s) for k, s, b, d in sides])


def shrunk(
    field: Field,
    kernel: Sequence[int],
    stride: Sequence[int],
    before: Sequence[int] | None = None,
    dilation: Sequence[int] | None = None,
) -> Field:
    """Give the field after a transposed window, of which `before` places are cut off."""
    one = [1] * len(kernel)
    sides = list(zip(kernel, stride, before or [0] * len(kernel), dilation or one, strict=True))
    taps = [_spread(*side) for side in sides]
    if None in taps:
        # Between the windows lie places that depend on nothing.
        fewer = [Taps(((0, max(math.ceil(k / s), 1) - 1),) * s, 1) for k, s, _, _ in sides]
        return taken(unplaced(field), fewer)
    return taken(field, [t for t in taps if t is not None])


def held(field: Field, axes: Iterable[int]) -> Field:
    """Give the field of a tensor whose one place along some axes is laid out over many."""
    if not isinstance(field, Window):
        return field
    axes = set(axes)
    return taken(field, [Taps(((0, 0),), 0 if i in axes else 1) for i in range(len(field.extent))])


def unplaced(field: Field) -> Field:
    """Give the field of a tensor whose places were moved in a way that is not followed."""
    return replace(field, places=None) if isinstance(field, Window) else field


def rounded(field: Field) -> tuple[int, ...] | Literal["all"] | None:
    """Give the extent in whole pixels, as `cnnviz.Layer.receptive_field` has it."""
    if isinstance(field, Window):
        return tuple(math.ceil(side) for side in field.extent)
    return field


def _hull(axis: Sequence[Places]) -> Places | None:
    # Of a tensor laid out over many places, all fields are one, however many places it has.
    count = math.lcm(*(len(p.spans) for p in axis))
    if count > _LONGEST:
        return None
    alike = [p.repeated(count // len(p.spans)) for p in axis]
    if len({p.advance for p in alike}) > 1:
        return None
    pairs = [
        list(zip(*spans, strict=True)) for spans in zip(*(p.spans for p in alike), strict=True)
    ]
    return Places(tuple((min(s), max(e)) for s, e in pairs), alike[0].advance).shortest()


def _taken(places: Places, taps: Taps) -> Places | None:
    times = len(places.spans) // math.gcd(taps.advance, len(places.spans))
    if times * len(taps.ranges) > _LONGEST:
        return None
    spans = [
        places.over(range(start + i * taps.advance, end + i * taps.advance + 1))
        for i in range(times)
        for start, end in taps.ranges
    ]
    moved = times * taps.advance // len(places.spans) * places.advance
    return Places(tuple(spans), moved).shortest()


def _spread(kernel: int, stride: int, before: int, dilation: int) -> Taps | None:
    ranges = []
    for place in range(stride):
        # What is laid down from place i on, at every `dilation`, reaches this one.
        reached = [
            i
            for tap in range(kernel)
            for i, rest in [divmod(place + before - tap * dilation, stride)]
            if rest == 0
        ]
        if not reached:
            return None
        ranges.append((min(reached), max(reached)))
    return Taps(tuple(ranges), 1)
