"""Examples of two networks that hardly differ, counted and multiplied in one go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.images.filters import opencv

__all__ = ["JointCount", "may_count_in_float32"]

# Where sums of squares may be taken in float32: of a difference that is small, whose error then
# is too, of a reference whose spread is no small part of it, and of numbers whose squares are
# neither lost nor too large.
_NEAR, _SPREAD, _LEAST, _MOST = 1e-4, 0.05, 1e-20, 1e30
# The multiplications of a product of matrices up to which OpenBLAS stays in one thread.
_PRODUCT = 2**18
# Of more examples the pieces would be short, and each by itself is faster.
_EXAMPLES = 5


@dataclass
class JointCount:
    """What is counted of a reference ``(N, P)`` and of what it is compared with.

    Attributes
    ----------
    products : array of float64
        ``(2 N, 2 N + 1)``: of the examples as counted from the first, the first, and the N
        differences of the two sides, with all these and with ones.
    largest, reach, distance : float
        Largest magnitude of the differences, and of the reference; sum of the magnitudes of
        the differences.
    count : int
        Numbers of the reference.
    """

    products: NDArray[np.float64]
    largest: float = 0.0
    reach: float = 0.0
    distance: float = 0.0
    count: int = 0

    @classmethod
    # What is not finite, or too large, is seen by what comes out.
    @np.errstate(over="ignore", invalid="ignore")
    def of(cls, a: NDArray[Any], b: NDArray[Any]) -> JointCount | None:
        """Count; None for what has to be counted in another way."""
        n = len(a)
        if n > _EXAMPLES or not a.size or not a.dtype == b.dtype == np.float32:
            return None
        cv, found = opencv(), cls(np.zeros((2 * n, 2 * n + 1)))
        step = _PRODUCT // (2 * n * (2 * n + 1))
        room = np.ones((2 * n + 1, min(step, a.shape[1])), np.float32)
        for start in range(0, a.shape[1], step):
            one, two = a[:, start : start + step], b[:, start : start + step]
            rows = room[:, : one.shape[1]]
            apart = rows[n : 2 * n]
            np.subtract(one[1:], one[0], out=rows[: n - 1])
            rows[n - 1] = one[0]
            np.subtract(two, one, out=apart)
            # With all rows on both sides BLAS takes another way, several times as slow.
            found.products += rows[:-1] @ rows.T
            found.largest = max(found.largest, cv.norm(apart, cv.NORM_INF))
            found.distance += cv.norm(apart, cv.NORM_L1)
            found.reach = max(found.reach, cv.norm(one, cv.NORM_INF))
            found.count += one.size
            if start == 0 and not found.fits:
                return None
        return found if found.fits else None

    @property
    def fits(self) -> bool:
        """Whether sums in float32 will do; not so where a number is none."""
        n = self._examples
        _, _, squares, _, whole, _ = self.sums()
        return may_count_in_float32(
            squares, self.products[n:, n : 2 * n].trace(), whole, self.count
        )

    @property
    def _examples(self) -> int:
        return len(self.products) // 2

    def sums(self) -> tuple[float, float, float, float, float, float]:
        """Give the sums of `cnnviz.comparison.tallies.Tally`, in its order."""
        n, products = self._examples, self.products
        first, ones = products[n - 1], products[:, -1]
        squares = n * first[n - 1] + 2 * first[: n - 1].sum() + products[: n - 1, : n - 1].trace()
        whole = n * ones[n - 1] + ones[: n - 1].sum()
        cross = first[n : 2 * n].sum() + products[: n - 1, n + 1 : 2 * n].trace()
        apart = products[n:, n : 2 * n].trace()
        return (
            self.distance,
            squares + cross,
            squares,
            squares + 2 * cross + apart,
            whole,
            whole + ones[n:].sum(),
        )

    def kernels(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Give the products of the examples of each side, counted from the first of it."""
        n, products = self._examples, self.products
        own, cross = products[: n - 1, : n - 1], products[: n - 1, n : 2 * n]
        apart = products[n:, n : 2 * n]
        kernels = np.zeros((2, n, n))
        kernels[:, 1:, 1:] = own
        # The other side's first has a difference of its own.
        beyond = cross[:, 1:] - cross[:, :1]
        moved = apart[1:, 1:] - apart[1:, :1] - apart[:1, 1:] + apart[0, 0]
        kernels[1, 1:, 1:] += beyond + beyond.T + moved
        return kernels[0], kernels[1]


def may_count_in_float32(squares: float, apart: float, whole: float, count: int) -> bool:
    """Say so by the squares of the reference and of the difference, and the reference's sum."""
    if not (_LEAST < squares < _MOST and apart <= _NEAR * squares):
        return False
    return squares - whole * whole / count >= _SPREAD * squares
