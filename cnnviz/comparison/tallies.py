"""How far two arrays are apart, counted as they come in pieces."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Tally", "relative_difference"]

# So many numbers stay in the cache while they are gone over again and again. Of more than 10000
# OpenBLAS shares a dot product among threads, whose start takes ten times as long as the work.
_BLOCK = 2**13


@dataclass
class Tally:
    """Numbers of two arrays that come in pieces; sums are kept in float64.

    Attributes
    ----------
    largest, reach : float
        Largest magnitude of the difference, and of the reference.
    """

    largest: float = field(init=False, default=0.0)
    reach: float = field(init=False, default=0.0)
    _sums: NDArray[np.float64] = field(init=False, default_factory=lambda: np.zeros(6))
    _count: int = field(init=False, default=0)

    def add(self, reference: NDArray[Any], other: NDArray[Any]) -> None:
        """Count one piece of each, of the same shape."""
        a, b = np.asarray(reference).ravel(), np.asarray(other).ravel()
        dtype = np.result_type(a, b, np.float32)
        for start in range(0, a.size, _BLOCK):
            one = a[start : start + _BLOCK].astype(dtype, copy=False)
            two = b[start : start + _BLOCK].astype(dtype, copy=False)
            difference = two - one
            np.abs(difference, out=difference)
            # A maximum over what is no number is none, and shows.
            self.largest = float(np.maximum(self.largest, difference.max()))
            self.reach = float(np.maximum(self.reach, max(one.max(), -one.min())))
            # In float32 a constant would have a spread, and what lies far from zero a wrong one.
            one, two = one.astype(np.float64, copy=False), two.astype(np.float64, copy=False)
            self._sums += (
                difference.sum(dtype=np.float64),
                np.dot(one, two),
                np.dot(one, one),
                np.dot(two, two),
                one.sum(),
                two.sum(),
            )
        self._count += a.size

    @property
    def relative(self) -> float:
        """The largest difference as a part of the reference's largest magnitude."""
        if self.reach > 0:
            return self.largest / self.reach
        return 0.0 if self.largest == 0 else math.inf

    @property
    def mean(self) -> float:
        """The mean magnitude of the difference."""
        return float(self._sums[0]) / max(self._count, 1)

    @property
    def cosine(self) -> float:
        """The cosine of the angle between the two; 1 if both are zero, NaN if one is not finite."""
        _, product, a, b = (float(v) for v in self._sums[:4])
        return _cosine(product, a, b)

    @property
    def correlation(self) -> float:
        """Pearson's correlation of the two; 1 if both are constant, NaN as the cosine."""
        n = max(self._count, 1)
        _, product, a, b, one, two = (float(v) for v in self._sums)
        if not math.isfinite(product + a + b):
            return math.nan
        spread = max(0.0, a - one * one / n), max(0.0, b - two * two / n)
        # What is left of a constant by rounding.
        flat = [left <= 1e-12 * whole for left, whole in zip(spread, (a, b), strict=True)]
        if any(flat):
            return 1.0 if all(flat) else 0.0
        return _cosine(product - one * two / n, *spread)


def relative_difference(reference: NDArray[Any], other: NDArray[Any]) -> float:
    """Give max|other - reference| / max|reference|."""
    tally = Tally()
    tally.add(reference, other)
    return tally.relative


def _cosine(product: float, a: float, b: float) -> float:
    if not math.isfinite(product + a + b):
        return math.nan
    if a == b == product:
        return 1.0
    if a == 0 or b == 0:
        return 0.0
    return max(-1.0, min(1.0, product / math.sqrt(a) / math.sqrt(b)))
