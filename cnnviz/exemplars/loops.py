"""Loops over activations for numba to compile; each reads every number once."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["reduce_rows", "tally_bins"]


def reduce_rows(
    part: Any, sums: Any, squares: Any, largest: Any, rows: Any, smallest: Any, zeros: Any
) -> None:
    """Reduce ``(N, R, W)`` over rows: sums, sums of squares, maxima and their first rows.

    ``(N, W)`` each; minima and counts of zeros are over all, ``(W,)``, and added to what is there.
    """
    count, height, width = part.shape
    for n in range(count):
        for j in range(width):
            sums[n, j], squares[n, j] = 0.0, 0.0
            largest[n, j] = part[n, 0, j]
            rows[n, j] = 0
        # Four rows at once keep what is added to in registers; the order stays that of the rows.
        whole = height // 4 * 4
        for r in range(0, whole, 4):
            for j in range(width):
                a, b, c, d = part[n, r, j], part[n, r + 1, j], part[n, r + 2, j], part[n, r + 3, j]
                total, square = sums[n, j], squares[n, j]
                most, row, least = largest[n, j], rows[n, j], smallest[j]
                total += np.float64(a)
                total += np.float64(b)
                total += np.float64(c)
                total += np.float64(d)
                square += np.float64(a) * np.float64(a)
                square += np.float64(b) * np.float64(b)
                square += np.float64(c) * np.float64(c)
                square += np.float64(d) * np.float64(d)
                if a > most:
                    most, row = a, np.int32(r)
                if b > most:
                    most, row = b, np.int32(r + 1)
                if c > most:
                    most, row = c, np.int32(r + 2)
                if d > most:
                    most, row = d, np.int32(r + 3)
                least = min(min(least, a), min(min(b, c), d))
                sums[n, j], squares[n, j] = total, square
                largest[n, j], rows[n, j], smallest[j] = most, row, least
                zeros[j] += (
                    np.int32(a == 0) + np.int32(b == 0) + np.int32(c == 0) + np.int32(d == 0)
                )
        for r in range(whole, height):
            for j in range(width):
                a = part[n, r, j]
                sums[n, j] += np.float64(a)
                squares[n, j] += np.float64(a) * np.float64(a)
                if a > largest[n, j]:
                    largest[n, j], rows[n, j] = a, np.int32(r)
                smallest[j] = min(smallest[j], a)
                zeros[j] += np.int32(a == 0)


def tally_bins(bits: Any, least: int, steps: int, histogram: Any) -> None:
    """Count floats of 32 bits ``(N, C)``, given as integers, into bins on either side of zero.

    ``(C, 2 * steps + 3)``: the middle one is for what is nearer to zero than `least`, in
    quarters of powers of two, and the outer ones for what is beyond. What is not finite is
    left out.
    """
    count, channels = bits.shape
    for n in range(count):
        for c in range(channels):
            magnitude = bits[n, c] & 0x7FFFFFFF
            # Infinity, and beyond it what is no number.
            if magnitude < 0x7F800000:
                step = min(max((magnitude >> 21) - least, 0), steps + 1)
                histogram[c, steps + 1 + (-step if bits[n, c] < 0 else step)] += 1
