"""What is done to the canvas at the rim of a step, after the optimizer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnviz.adapter import Ops
from cnnviz.ascent.canvas.base import Canvas
from cnnviz.ascent.canvas.lines import box_lines, on_lines
from cnnviz.ascent.canvas.pixel import PixelCanvas
from cnnviz.ascent.canvas.wrapped import MaskedCanvas
from cnnviz.errors import InvalidOption

__all__ = ["BilateralBlur", "BoxBlur", "GaussianBlur", "Projection"]


@dataclass(frozen=True)
class Projection(ABC):
    """A change of the canvas after each step, or after each few.

    Parameters
    ----------
    every : int
        After how many steps.
    """

    every: int = 1

    def __post_init__(self) -> None:
        if int(self.every) != self.every or self.every < 1:
            raise InvalidOption(f"a projection comes each 1, 2, ... steps, not {self.every}")

    @abstractmethod
    def __call__(self, ops: Ops[Any], canvas: Canvas, values: Any) -> Any:
        """Give the changed values of a canvas."""

    @abstractmethod
    def check(self, canvas: Canvas) -> None:
        """Raise InvalidOption if it cannot be done to this kind of canvas."""


@dataclass(frozen=True)
class GaussianBlur(Projection):
    """Blur by a Gaussian.

    Parameters
    ----------
    every : int
    sigma : float
        Standard deviation in pixels.
    """

    sigma: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.sigma > 0:
            raise InvalidOption(f"a blur has a deviation above zero, not {self.sigma}")

    def __call__(self, ops: Ops[Any], canvas: Canvas, values: Any) -> Any:
        """See `Projection`."""
        return canvas.blur(ops, values, self.sigma)

    def check(self, canvas: Canvas) -> None:
        """See `Projection.check`."""
        while isinstance(canvas, MaskedCanvas):
            canvas = canvas.inner
        if type(canvas).blur is Canvas.blur:
            canvas.blur(None, None, self.sigma)  # type: ignore[arg-type]


@dataclass(frozen=True)
class _PixelProjection(Projection):
    def check(self, canvas: Canvas) -> None:
        """See `Projection.check`."""
        if not isinstance(canvas, PixelCanvas):
            raise InvalidOption(
                f"a {type(self).__name__} is for pixels; a {type(canvas).__name__} has none to"
                " blur, so choose PixelCanvas or a GaussianBlur"
            )


@dataclass(frozen=True)
class BoxBlur(_PixelProjection):
    """Average over a square of pixels.

    Parameters
    ----------
    every : int
    side : int
        Of the square, odd.
    """

    side: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        if int(self.side) != self.side or self.side < 1 or self.side % 2 == 0:
            raise InvalidOption(f"the side of a box blur is 1, 3, 5, ..., not {self.side}")

    def __call__(self, ops: Ops[Any], canvas: Canvas, values: Any) -> Any:
        """See `Projection`."""
        height, width = (int(side) for side in values.shape[1:3])
        return on_lines(ops, values, box_lines(height, self.side), box_lines(width, self.side))


@dataclass(frozen=True)
class BilateralBlur(_PixelProjection):
    """Average over near pixels of like colour, as OpenCV does: edges stay [1]_.

    Parameters
    ----------
    every : int
    diameter : int
        Of the disc of pixels, odd.
    sigma_colour : float
        Of the sum of the colours' differences, in parts of the distance from black to white.
    sigma_space : float
        In pixels.

    References
    ----------
    .. [1] Tomasi and Manduchi, "Bilateral Filtering for Gray and Color Images", ICCV 1998.
    """

    diameter: int = 3
    sigma_colour: float = 25 / 255
    sigma_space: float = 25.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if int(self.diameter) != self.diameter or self.diameter < 3 or self.diameter % 2 == 0:
            raise InvalidOption(f"the diameter of a disc is 3, 5, 7, ..., not {self.diameter}")
        if not (self.sigma_colour > 0 and self.sigma_space > 0):
            raise InvalidOption("the deviations of a bilateral blur are above zero")

    def __call__(self, ops: Ops[Any], canvas: Canvas, values: Any) -> Any:
        """See `Projection`; at the border the picture is reflected about its last pixel."""
        assert isinstance(canvas, PixelCanvas)
        channels = int(values.shape[-1])
        scale = ops.asarray(canvas.scale(channels)[1])
        radius = self.diameter // 2
        total: Any = values
        weights: Any = None
        for dy in range(-radius, radius + 1):
            for dx in range(-radius, radius + 1):
                far = dy * dy + dx * dx
                if far == 0 or far > radius * radius:
                    continue
                near = _shifted(ops, _shifted(ops, values, dy, 1), dx, 2)
                apart = ops.sum(ops.abs(near - values) * scale, axis=(3,), keepdims=True)
                colour = ops.exp(apart * apart * (-0.5 / self.sigma_colour**2))
                weight = colour * float(np.exp(-0.5 * far / self.sigma_space**2))
                total = total + near * weight
                weights = weight if weights is None else weights + weight
        return total / (weights + 1.0)


def _shifted(ops: Ops[Any], x: Any, by: int, axis: int) -> Any:
    """Give what lies `by` pixels further on, reflected about the last one."""
    if by == 0:
        return x
    side = int(x.shape[axis])

    def part(begin: int, end: int) -> Any:
        index = [slice(None)] * len(x.shape)
        index[axis] = slice(begin, end)
        return x[tuple(index)]

    ends = [abs(i) for i in range(by, 0)] if by < 0 else [side - 2 - i for i in range(by)]
    # A picture of one pixel has nothing beside it.
    singles = [part(i, i + 1) for i in (min(max(one, 0), side - 1) for one in ends)]
    if by < 0:
        return ops.concat([*singles, part(0, side + by)] if side + by > 0 else singles[:side], axis)
    return ops.concat([part(by, side), *singles] if by < side else singles[:side], axis)
