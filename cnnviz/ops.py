"""The operations on native tensors that the algorithms are written in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

from numpy.typing import NDArray

__all__ = ["Ops", "WaveOps"]

T = TypeVar("T")


class Ops(Protocol[T]):
    """What the algorithms do with native tensors, spelled as in the Array API standard.

    Tensors also support ``+ - * /``, ``**`` by a number, unary minus and indexing with slices.
    `asarray` gives the dtype and the device that the model computes in, so float64 survives
    from rim to rim.
    """

    def asarray(self, x: NDArray[Any]) -> T:
        """Make a native tensor of numpy numbers: floats in the model's dtype, integers kept."""

    def constant(self, x: NDArray[Any]) -> T:
        """As `asarray`, of an array that never changes: its tensor may be kept."""

    def to_numpy(self, x: T, copy: bool = True) -> NDArray[Any]:
        """Give a tensor to numpy, off its device and out of any graph; half types as float32.

        Without a copy it may share its memory with the tensor, and must not be written to.
        """

    def reshape(self, x: T, shape: tuple[int, ...]) -> T:
        """Give the same numbers in another shape; -1 is worked out."""

    def permute_dims(self, x: T, axes: tuple[int, ...]) -> T:
        """Put the axes into another order."""

    def concat(self, xs: Sequence[T], axis: int) -> T:
        """Join along an axis that there is."""

    def sum(self, x: T, axis: tuple[int, ...] | None = None, keepdims: bool = False) -> T:
        """Add up."""

    def mean(self, x: T, axis: tuple[int, ...] | None = None, keepdims: bool = False) -> T:
        """Average."""

    def max(self, x: T, axis: tuple[int, ...] | None = None, keepdims: bool = False) -> T:
        """Give the largest."""

    def sqrt(self, x: T) -> T:
        """Take the square root."""

    def abs(self, x: T) -> T:
        """Take the magnitude."""

    def tanh(self, x: T) -> T:
        """Take the hyperbolic tangent."""

    def exp(self, x: T) -> T:
        """Take the exponential."""

    def log(self, x: T) -> T:
        """Take the natural logarithm."""

    def sin(self, x: T) -> T:
        """Take the sine."""

    def cos(self, x: T) -> T:
        """Take the cosine."""

    def atan(self, x: T) -> T:
        """Take the inverse tangent."""

    def clip(self, x: T, low: T | float, high: T | float) -> T:
        """Keep each number within two limits that broadcast."""

    def maximum(self, x: T, y: T | float) -> T:
        """Give the larger of two, element by element."""

    def matmul(self, x: T, y: T) -> T:
        """Multiply matrices on the last two axes; the others broadcast."""

    def roll(self, x: T, shift: T, axis: int) -> T:
        """Shift along one axis, round the end; `shift` is an integer tensor of no axes."""

    def sample(self, x: T, rows: T, columns: T) -> T:
        """Read pictures ``(N, H, W, C)`` at places ``(N, h, w)``, zero outside.

        Bilinear between the centres of pixels, which lie at whole numbers. Its derivative is
        exactly the adjoint.
        """


@runtime_checkable
class WaveOps(Protocol[T]):
    """What those `Ops` have besides that transform faster than they multiply matrices."""

    def waves(self, x: T) -> T:
        """Add up the waves of ``(N, H, W, C)``, down and across.

        By the orthonormal matrix, on each axis, whose columns are 1, cos, sin, cos, sin, ... of
        rising frequency; the last column of an even number is a cosine.
        """
