"""Loops over activations for numba to compile; each reads every number once."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["add_digits", "offer", "reduce_maps", "tally_bins"]


def reduce_maps(
    part: Any,
    width: int,
    sums: Any,
    squares: Any,
    largest: Any,
    places: Any,
    smallest: Any,
    zeros: Any,
) -> None:
    """Reduce ``(N, R, W * C)``, `width` W, over places: the rows first, then what a row holds.

    Sums, sums of squares, maxima and their first places are ``(N, C)``; minima and counts of
    zeros are over all images, ``(C,)``.
    """
    count, height, wide = part.shape
    channels = wide // width
    total, square = np.empty(wide), np.empty(wide)
    most, row = np.empty(wide, part.dtype), np.empty(wide, np.int32)
    least, none = np.full(wide, np.inf, part.dtype), np.zeros(wide, np.int32)
    whole = height // 4 * 4
    for n in range(count):
        for j in range(wide):
            total[j], square[j], most[j], row[j] = 0.0, 0.0, part[n, 0, j], 0
        # Four rows at once keep what is added to in registers; the order stays that of the rows.
        for r in range(0, whole, 4):
            for j in range(wide):
                a, b, c, d = part[n, r, j], part[n, r + 1, j], part[n, r + 2, j], part[n, r + 3, j]
                of, squared, high, at = total[j], square[j], most[j], row[j]
                of += np.float64(a)
                of += np.float64(b)
                of += np.float64(c)
                of += np.float64(d)
                squared += np.float64(a) * np.float64(a)
                squared += np.float64(b) * np.float64(b)
                squared += np.float64(c) * np.float64(c)
                squared += np.float64(d) * np.float64(d)
                if a > high:
                    high, at = a, np.int32(r)
                if b > high:
                    high, at = b, np.int32(r + 1)
                if c > high:
                    high, at = c, np.int32(r + 2)
                if d > high:
                    high, at = d, np.int32(r + 3)
                total[j], square[j], most[j], row[j] = of, squared, high, at
                least[j] = min(min(least[j], a), min(min(b, c), d))
                none[j] += np.int32(a == 0) + np.int32(b == 0) + np.int32(c == 0) + np.int32(d == 0)
        for r in range(whole, height):
            for j in range(wide):
                a = part[n, r, j]
                total[j] += np.float64(a)
                square[j] += np.float64(a) * np.float64(a)
                if a > most[j]:
                    most[j], row[j] = a, np.int32(r)
                least[j] = min(least[j], a)
                none[j] += np.int32(a == 0)
        for j in range(channels):
            sums[n, j], squares[n, j] = total[j], square[j]
            largest[n, j], places[n, j] = most[j], row[j] * width
        for w in range(1, width):
            for c in range(channels):
                j = w * channels + c
                sums[n, c] += total[j]
                squares[n, c] += square[j]
                place = np.int32(row[j] * width + w)
                if most[j] > largest[n, c] or (most[j] == largest[n, c] and place < places[n, c]):
                    largest[n, c], places[n, c] = most[j], place
        for c in range(channels):
            # Of zeros the one without a sign.
            largest[n, c] += 0.0
    for c in range(channels):
        smallest[c], zeros[c] = least[c], none[c]
    for w in range(1, width):
        for c in range(channels):
            smallest[c] = min(smallest[c], least[w * channels + c])
            zeros[c] += none[w * channels + c]
    for c in range(channels):
        smallest[c] += 0.0


def offer(values: Any, numbers: Any, places: Any, best: Any, images: Any, spots: Any) -> None:
    """Put values ``(N, C)`` of images, in rising order, where they belong among the best.

    ``(C, k)``, largest first; of equals the earlier stays before the later.
    """
    count, channels = values.shape
    last = best.shape[1] - 1
    for n in range(count):
        for c in range(channels):
            value = values[n, c]
            if value > best[c, last]:
                i = last
                while i > 0 and value > best[c, i - 1]:
                    best[c, i], images[c, i] = best[c, i - 1], images[c, i - 1]
                    spots[c, i] = spots[c, i - 1]
                    i -= 1
                best[c, i], images[c, i], spots[c, i] = value, numbers[n], places[n, c]


def add_digits(values: Any, units: Any, parts: Any, digits: Any, at: int) -> None:
    """Add finite numbers ``(N, C)`` to row `at` of sums ``(D, K, C)``, a digit for each unit.

    `parts` are one over the units, which are powers of two.
    """
    count, channels = values.shape
    last = len(units) - 1
    first = np.zeros(channels, np.int64)
    for n in range(count):
        # Most are of the size of the one before: the digit at which they begin is seldom sought.
        for c in range(channels):
            size, i = abs(values[n, c]), first[c]
            # What is no number begins at the first.
            while i > 0 and not size < units[i - 1]:
                i -= 1
            while i < last and size < units[i]:
                i += 1
            first[c] = i
            rest = values[n, c]
            while rest != 0 and i <= last:
                whole = np.trunc(rest * parts[i])
                digits[i, at, c] += np.int64(whole)
                rest -= whole * units[i]
                i += 1


def tally_bins(bits: Any, least: int, steps: int, histogram: Any) -> None:
    """Count floats of 32 bits ``(N, C)``, given as integers, into bins on either side of zero.

    ``(C, 2 * steps + 3)``: the middle one is for what is nearer to zero than `least`, in
    quarters of powers of two, and the outer ones for what is beyond. What is not finite is
    left out.
    """
    count, channels = bits.shape
    # Channel by channel: the bins of one are near each other, those of all are not.
    for c in range(channels):
        for n in range(count):
            magnitude = bits[n, c] & 0x7FFFFFFF
            # Infinity, and beyond it what is no number.
            if magnitude < 0x7F800000:
                step = min(max((magnitude >> 21) - least, 0), steps + 1)
                histogram[c, steps + 1 + (-step if bits[n, c] < 0 else step)] += 1
