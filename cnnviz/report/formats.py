"""Numbers as a reader wants them."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["listed", "percent", "power_of_ten", "scientific", "times"]

_TIMES = "\N{MULTIPLICATION SIGN}"
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def scientific(value: float) -> str:
    """Write a number with two digits and a power of ten: 7.6 × 10⁻⁶."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits, exponent = f"{value:.1e}".split("e")
    if -3 <= int(exponent) <= 3:
        return f"{value:.2g}"
    return f"{digits} {_TIMES} {power_of_ten(int(exponent))}"


def power_of_ten(exponent: int) -> str:
    """Write a power of ten: 10⁻⁶."""
    return f"10{str(exponent).translate(_RAISED)}"


def percent(share: float) -> str:
    """Write a part of one in percent: 94.6 %."""
    if 0 < share < 0.001:
        return "< 0.1 %"
    return f"{100 * share:.1f} %"


def times(shape: Sequence[int | str]) -> str:
    """Write a shape: 3 × 3 × 32."""
    return f" {_TIMES} ".join(map(str, shape)) or "scalar"


def listed(words: Sequence[str]) -> str:
    """Join words as in a sentence: a, b and c."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last
