"""Which places each place is made of, where an axis is resized or goes on beyond its end."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

from cnnviz.fields import Taps

__all__ = ["adaptive", "beyond", "interpolated"]


def interpolated(
    before: int,
    after: int,
    among: int,
    *,
    scale: float | None = None,
    corners: bool = False,
    exact: bool = False,
) -> Taps:
    """Give the taps of an interpolation along one axis.

    Parameters
    ----------
    before, after : int
        Places before and after.
    among : int
        1 for the nearest place, 2 for linear interpolation, 4 for cubic.
    scale : float, optional
        By how much the axis was enlarged, where that is not ``after / before``.
    corners : bool
        Whether the first and the last places are those of what was resized.
    exact : bool
        Whether the nearest place is that nearest to the middle of each, as it is not for
        torch's older mode.
    """
    if corners:
        ratio = Fraction(before - 1, after - 1) if after > 1 else Fraction(0)
    elif scale is not None and math.floor(before * scale) == after and before * scale != after:
        ratio = 1 / Fraction(scale)
    else:
        ratio = Fraction(before, after)
    half = Fraction(0 if corners or (among == 1 and not exact) else 1, 2)

    def range_of(place: int) -> tuple[int, int]:
        at = (place + half) * ratio
        if among == 1:
            return (math.floor(at),) * 2
        at -= half
        low = math.floor(at)
        # The others have no weight.
        return (low, low) if at == low else (low - among // 2 + 1, low + among // 2)

    return _recurring(range_of, ratio, before, after)


def adaptive(before: int, after: int) -> Taps:
    """Give the taps of an adaptive pooling along one axis."""
    ratio = Fraction(before, after)

    def range_of(place: int) -> tuple[int, int]:
        return math.floor(place * ratio), math.ceil((place + 1) * ratio) - 1

    return _recurring(range_of, ratio, before, after)


def beyond(count: int, before: int, after: int, *, mirrored: bool) -> Taps:
    """Give the taps of padding by the places themselves, mirrored or the last again.

    Parameters
    ----------
    count : int
        Places of the axis.
    before, after : int
        Places added.
    mirrored : bool
    """

    def source(place: int) -> int:
        if not mirrored:
            return min(max(place, 0), count - 1)
        place = abs(place)
        return place if place < count else 2 * (count - 1) - place

    places = [source(place) for place in range(-before, count + after)]
    # No place recurs: fields of places outside are made up, as those of any padding.
    return Taps(tuple((place, place) for place in places), len(places))


def _recurring(
    range_of: Callable[[int], tuple[int, int]], ratio: Fraction, before: int, after: int
) -> Taps:
    count, advance = ratio.denominator, ratio.numerator
    if count <= after:
        return Taps(tuple(range_of(place) for place in range(count)), advance)
    return Taps(tuple(range_of(place) for place in range(after)), before)
