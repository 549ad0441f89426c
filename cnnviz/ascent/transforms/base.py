"""What every transform is, and when it is drawn."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.adapter import Ops
from cnnviz.errors import InvalidOption

__all__ = ["Array", "Geometric", "Moment", "Photometric", "Size", "Transform", "require_amount"]

Array = NDArray[np.float64]
Size = tuple[int, int]


@dataclass(frozen=True)
class Moment:
    """When a transform is drawn.

    Attributes
    ----------
    size : (int, int)
        What it is given.
    done : float
        Share of the steps that are done, from 0 to 1.
    wanted : (int, int)
        What the network takes.
    """

    size: Size
    done: float
    wanted: Size


class Transform:
    """One change; `Chain` puts several one after another."""

    def resized(self, size: Size, wanted: Size) -> Size:
        """Give the size of what comes out."""
        return size

    def scaled(self, factor: float, side: int) -> Transform:
        """Give the transform for pictures of another size, where it is written in pixels."""
        return self


class Geometric(Transform):
    """A change of place: an affine map."""

    @abstractmethod
    def matrix(self, rng: np.random.Generator, moment: Moment) -> Array:
        """Draw ``(3, 3)``: from where a pixel goes, ``(y, x, 1)``, to where it is read.

        Both are counted from the middle of the picture, in pixels.
        """


class Photometric(Transform):
    """A change of colour, or one that every place of the picture shares.

    Attributes
    ----------
    draws : int
        How many arrays it draws.
    """

    draws = 0

    def draw(self, rng: np.random.Generator, moment: Moment, channels: int) -> tuple[Array, ...]:
        """Draw the arrays that `apply` takes, for one picture."""
        return ()

    @abstractmethod
    def apply(self, ops: Ops[Any], x: Any, drawn: Sequence[Any]) -> Any:
        """Change pictures ``(N, H, W, C)``; what was drawn is stacked."""


def require_amount(value: float, name: str) -> None:
    """Raise InvalidOption if an amount is below zero."""
    if not value >= 0:
        raise InvalidOption(f"{name} must not be below zero, not {value}")
