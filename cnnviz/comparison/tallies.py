"""How far two arrays are apart, counted as they come in pieces."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.comparison.joint import JointCount, may_count_in_float32
from cnnviz.comparison.loops import count_examples
from cnnviz.compiled import compiled, only_read

__all__ = ["Tally", "products_of", "relative_difference"]

# Of more than 10000 numbers OpenBLAS shares a dot product among threads, whose start takes ten
# times as long as the work.
_ROW = 2**13
# So many rows stay in the cache while they are gone over again and again.
_ROWS = 8
# Numbers that are multiplied at once: they stay in the cache.
_TOGETHER = 2**15
# A product with them is a sum, several times as fast as numpy's.
_ONES = np.ones((1, 1, _ROW), np.float32)

_COMPILED = (np.float32, np.float64)


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

    # What is not finite shows in what comes out.
    @np.errstate(over="ignore", invalid="ignore")
    def add(self, reference: NDArray[Any], other: NDArray[Any]) -> None:
        """Count one piece of each, of the same shape."""
        a, b = np.asarray(reference).ravel(), np.asarray(other).ravel()
        dtype = np.result_type(a, b, np.float32)
        room = np.empty(min(a.size, _ROWS * _ROW), dtype)
        start = 0
        while start < a.size:
            rows = min(_ROWS, (a.size - start) // _ROW) or 1
            end = min(start + rows * _ROW, a.size)
            one, two = (x[start:end].astype(dtype, copy=False).reshape(rows, 1, -1) for x in (a, b))
            difference = np.subtract(two, one, out=room[: end - start].reshape(one.shape))
            near = _products_of_near(one, difference) if dtype == np.float32 else None
            np.abs(difference, out=difference)
            # A maximum over what is no number is none, and shows.
            self.largest = float(np.maximum(self.largest, difference.max()))
            self.reach = float(np.maximum(self.reach, max(one.max(), -one.min())))
            if near is not None:
                self._sums += (_dot(difference, _ONES), *near)
            else:
                # In float32 a constant would have a spread, what lies far from zero a wrong one.
                one, two = one.astype(np.float64, copy=False), two.astype(np.float64, copy=False)
                self._sums += (
                    difference.sum(dtype=np.float64),
                    _dot(one, two),
                    _dot(one, one),
                    _dot(two, two),
                    one.sum(),
                    two.sum(),
                )
            start = end
        self._count += a.size

    def add_examples(
        self, reference: NDArray[Any], other: NDArray[Any]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Count one piece of each, ``(N, ...)``, and give what `products_of` gives of each."""
        a, b = (np.asarray(x).reshape(len(x), -1) for x in (reference, other))
        loop = compiled(count_examples, any_order=True)
        if loop is not None and a.size and a.dtype == b.dtype and a.dtype in _COMPILED:
            kernels, sums, reach = np.zeros((2, len(a), len(a))), np.zeros(6), np.zeros(2)
            loop(only_read(a), only_read(b), sums, reach, kernels)
            # A maximum does not tell of what is no number.
            if np.isfinite(sums).all():
                self.largest, self.reach = np.maximum((self.largest, self.reach), reach).tolist()
                self._sums += sums
                self._count += a.size
                return kernels[0], kernels[1]
        joint = JointCount.of(a, b)
        if joint is None:
            self.add(a, b)
            return products_of(a), products_of(b)
        self.largest = float(np.maximum(self.largest, joint.largest))
        self.reach = float(np.maximum(self.reach, joint.reach))
        self._sums += joint.sums()
        self._count += joint.count
        return joint.kernels()

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


# What is not finite shows in what comes out.
@np.errstate(over="ignore", invalid="ignore")
def products_of(x: NDArray[Any]) -> NDArray[np.float64]:
    """Multiply examples ``(N, ...)`` with each other, counted from the first: ``(N, N)``.

    In their own precision, which is as exact as they are; `similarity` does it in float64.
    """
    flat = x.reshape(len(x), -1)
    count, step = len(flat), max(1, _TOGETHER // len(flat))
    found = np.zeros((count, count))
    # The first row stays zero. Without it on one side, BLAS takes the product for one of two
    # matrices, which is several times as fast as that of one with itself.
    room = np.zeros((count, min(step, flat.shape[1])), np.result_type(flat, np.float32))
    for start in range(0, flat.shape[1], step):
        some = flat[:, start : start + step]
        apart = room[:, : some.shape[1]]
        np.subtract(some[1:], some[0], out=apart[1:])
        found[1:] += apart[1:] @ apart.T
    return found


def _products_of_near(
    one: NDArray[Any], difference: NDArray[Any]
) -> tuple[float, float, float, float, float] | None:
    """Give the products and the sums of two blocks that hardly differ, in float32.

    The squares of both are wrong by the same amount, which neither the cosine nor the
    correlation feels. None where that would not do.
    """
    squares, apart = _dot(one, one), _dot(difference, difference)
    whole = _dot(one, _ONES)
    if not may_count_in_float32(squares, apart, whole, one.size):
        return None
    cross = _dot(one, difference)
    return (
        squares + cross,
        squares,
        squares + 2 * cross + apart,
        whole,
        whole + _dot(difference, _ONES),
    )


def _dot(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Multiply rows ``(R, 1, P)`` with each other, and add these up in float64."""
    rows = a @ b[..., : a.shape[-1]].swapaxes(1, 2)
    return float(np.add.reduce(rows, axis=None, dtype=np.float64))


def _cosine(product: float, a: float, b: float) -> float:
    if not math.isfinite(product + a + b):
        return math.nan
    if a == b == product:
        return 1.0
    if a == 0 or b == 0:
        return 0.0
    return max(-1.0, min(1.0, product / math.sqrt(a) / math.sqrt(b)))
