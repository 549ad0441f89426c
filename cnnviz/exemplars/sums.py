"""Sums that do not depend on the order of what is added, to the last bit."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["ExactSum"]

# Numbers are cut into digits of 32 bits; a sum of digits stays whole for 2^31 of them.
_WIDTH = 32


class ExactSum:
    """Sums of floats in fixed point: any order and any grouping give the same bits.

    A number is cut at fixed powers of two into whole digits, and digits are added as integers.
    This is the idea of a long accumulator (Kulisch, 2013), with the digits apart.

    Parameters
    ----------
    digits : array of int64
        ``(D, ...)``, the largest digit first.
    unit : int
        The exponent of two that the first digit stands for; it takes numbers up to
        ``2**(unit + 62)``. The last leaves out what is below ``2**(unit - 32 * (D - 1))``.
    """

    def __init__(self, digits: NDArray[np.int64], unit: int) -> None:
        self.digits, self._unit = digits, unit

    @classmethod
    def zeros(cls, shape: tuple[int, ...], unit: int = 160, count: int = 11) -> ExactSum:
        """Begin with nothing; by default from 1e67 down to 1e-48, so squares of float32 fit."""
        return cls(np.zeros((count, *shape), np.int64), unit)

    def add(self, values: NDArray[Any], where: Any = ...) -> None:
        """Add finite numbers ``(N, ...)``, N of the shape of the sums or of their part `where`."""
        rest = np.array(values, np.float64)
        largest = float(np.abs(rest).max(initial=0.0))
        for i, digit in enumerate(self.digits):
            unit = 2.0 ** (self._unit - _WIDTH * i)
            if largest < unit and i < len(self.digits) - 1:
                continue
            whole = np.trunc(rest / unit)
            digit[where] += whole.astype(np.int64).sum(axis=0)
            rest -= whole * unit
            largest = min(largest, unit)
            if not rest.any():
                break

    def merge(self, other: ExactSum) -> None:
        """Add the sums of others."""
        self.digits += other.digits

    @property
    def value(self) -> NDArray[np.float64]:
        """The sums, in float64."""
        total = np.zeros(self.digits.shape[1:])
        for i in reversed(range(len(self.digits))):
            total += self.digits[i] * 2.0 ** (self._unit - _WIDTH * i)
        return total
