"""What every canvas can do, and what those share that squash waves into colours."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.adapter import Adapter, Ops
from cnnviz.ascent.canvas.prior import COLOURS, Prior
from cnnviz.errors import InvalidOption

__all__ = ["Canvas", "Squashed", "squashed", "unsquashed"]

Array = NDArray[np.float64]
Shape = tuple[int, int, int]


class Canvas(ABC):
    """What is optimised in place of a picture.

    Hashable, and equal for equal settings, so that equal canvases share a trace. Values are
    one tensor whose first axis counts the pictures; `shape` is ``(H, W, C)`` of one picture.

    Attributes
    ----------
    coupled : bool
        Whether pictures made together share some of their values.
    alpha : bool
        Whether it paints one channel more, which says how much is seen.
    weighs : bool
        Whether it is shown as far as pixels mattered: alpha is the sum of the magnitudes of
        their gradients.
    """

    coupled = False
    alpha = False
    weighs = False

    @abstractmethod
    def first(self, rng: np.random.Generator, size: tuple[int, int], channels: int) -> Array:
        """Draw the first values of one picture."""

    @abstractmethod
    def to_picture(self, ops: Ops[Any], values: Any, shape: Shape) -> Any:
        """Read pictures ``(N, H, W, C)`` off native values."""

    def from_picture(self, picture: Array) -> Array:
        """Turn pictures ``(N, H, W, C)`` in [0, 1] into values.

        Raises
        ------
        InvalidOption
            This canvas cannot show a given picture.
        """
        raise InvalidOption(
            f"a {type(self).__name__} cannot begin with a picture, so there are no octaves and"
            " no start; choose FourierCanvas or PixelCanvas"
        )

    def clamp(self, ops: Ops[Any], values: Any) -> Any:
        """Keep values within what a picture in [0, 1] can be."""
        return values

    def blur(self, ops: Ops[Any], values: Any, sigma: float) -> Any:
        """Blur by a Gaussian of that standard deviation, in pixels.

        Raises
        ------
        InvalidOption
            The values are no places or waves of a picture.
        """
        raise InvalidOption(
            f"a {type(self).__name__} cannot be blurred on the way; set blur=0 or choose"
            " FourierCanvas or PixelCanvas"
        )

    def frequencies(self, shape: Shape) -> Array | None:
        """Give cycles a pixel of each value, to broadcast; None where values are no waves."""
        return None

    def bound(self, net: Adapter[Any]) -> Canvas:
        """Give the canvas as it is for one network, before anything is drawn on it."""
        return self

    def display(self, picture: Array) -> Array:
        """Turn finished pictures ``(N, H, W, C)`` into what is shown, within [0, 1]."""
        return np.clip(picture, 0, 1)


@dataclass(frozen=True)
class Squashed(Canvas):
    """A canvas of free numbers that are coloured and squashed into [0, 1] at the end.

    Parameters
    ----------
    prior : Prior, optional
        Whose colours to use in place of the field's.
    """

    prior: Prior | None = None

    @abstractmethod
    def raw(self, ops: Ops[Any], values: Any, shape: Shape) -> Any:
        """Give decorrelated colours ``(N, H, W, C)`` without limits."""

    def to_picture(self, ops: Ops[Any], values: Any, shape: Shape) -> Any:
        """Read the picture in [0, 1] off native values."""
        return squashed(ops, self.raw(ops, values, shape), self.colours(shape[-1]))

    def colours(self, channels: int) -> Array | None:
        """Give the matrix from decorrelated colours to RGB; None where there is no RGB."""
        if channels != 3:
            return None
        return COLOURS if self.prior is None else self.prior.matrix


def squashed(ops: Ops[Any], raw: Any, colours: Array | None) -> Any:
    """Colour numbers ``(N, H, W, C)`` and squash them by a sigmoid."""
    if colours is not None:
        shape = tuple(int(side) for side in raw.shape)
        flat = ops.reshape(raw, (shape[0] * shape[1] * shape[2], shape[3]))
        raw = ops.reshape(ops.matmul(flat, ops.permute_dims(ops.constant(colours), (1, 0))), shape)
    return ops.tanh(raw * 0.5) * 0.5 + 0.5


def unsquashed(picture: Array, colours: Array | None) -> Array:
    """Give the numbers that `squashed` makes this picture of."""
    # Black and white are infinitely far; a grey level from them is far enough.
    inside = np.clip(picture, 1 / 255, 1 - 1 / 255)
    x = np.log(inside / (1 - inside))
    return x if colours is None else x @ np.linalg.inv(colours).T
