"""Sums that do not depend on the order of what is added, to the last bit."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.compiled import compiled, only_read
from cnnviz.exemplars.loops import add_digits

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
        ``(D, C)`` or ``(D, K, C)``, contiguous, the largest digit first.
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

    def add(self, values: NDArray[Any], at: int = 0) -> None:
        """Add finite numbers ``(N, C)``, to row `at` of sums that have several."""
        rows = self.digits.reshape(len(self.digits), -1, self.digits.shape[-1])
        rest = np.array(values, np.float64)
        units = np.ldexp(1.0, self._unit - _WIDTH * np.arange(len(rows)))
        loop = compiled(add_digits)
        if loop is not None:
            loop(only_read(rest), units, 1 / units, rows, at)
            return
        largest = float(np.abs(rest).max(initial=0.0))
        for digits, unit in zip(rows, units, strict=True):
            if largest < unit and unit != units[-1]:
                continue
            whole = np.trunc(rest / unit)
            digits[at] += whole.astype(np.int64).sum(axis=0)
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
