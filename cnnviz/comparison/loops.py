"""Loops over two networks' activations for numba to compile; each reads every number once."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["count_examples"]

# So many columns of all examples stay in the nearest cache.
_NEAR = 256


def count_examples(a: Any, b: Any, sums: Any, reach: Any, kernels: Any) -> None:
    """Count a reference ``(N, P)`` and what it is compared with, in float64.

    Added to: the six `sums` of `cnnviz.comparison.tallies.Tally`; and `kernels` ``(2, N, N)``,
    products of the examples of each side, counted from the first of it. Written: `reach`, the
    largest magnitude of the difference, and of the reference.
    """
    count, size = a.shape
    one, two = np.empty((count, _NEAR)), np.empty((count, _NEAR))
    # Lanes of their own, as sums have: a maximum over a row would be taken number by number.
    most, highest = np.zeros(_NEAR), np.zeros(_NEAR)
    for start in range(0, size, _NEAR):
        width = min(_NEAR, size - start)
        for i in range(count):
            x, y = a[i, start : start + width], b[i, start : start + width]
            for j in range(width):
                one[i, j], two[i, j] = x[j], y[j]
            apart, product, square, other_square, whole, other_whole = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
            for j in range(width):
                p, q = one[i, j], two[i, j]
                apart += abs(q - p)
                product += p * q
                square += p * p
                other_square += q * q
                whole += p
                other_whole += q
            sums[0] += apart
            sums[1] += product
            sums[2] += square
            sums[3] += other_square
            sums[4] += whole
            sums[5] += other_whole
            for j in range(width):
                distance, height = abs(two[i, j] - one[i, j]), abs(one[i, j])
                most[j] = distance if distance > most[j] else most[j]
                highest[j] = height if height > highest[j] else highest[j]
        for i in range(1, count):
            for j in range(width):
                one[i, j] -= one[0, j]
                two[i, j] -= two[0, j]
        for i in range(1, count):
            for k in range(1, i + 1):
                ours, theirs = 0.0, 0.0
                for j in range(width):
                    ours += one[i, j] * one[k, j]
                    theirs += two[i, j] * two[k, j]
                kernels[0, i, k] += ours
                kernels[1, i, k] += theirs
    reach[0], reach[1] = most.max(), highest.max()
    for i in range(count):
        for k in range(i):
            kernels[:, k, i] = kernels[:, i, k]
