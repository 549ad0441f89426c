"""What is taken off the score for pictures that look unnatural, each weighted.

Penalties see the picture in [0, 1], before any transform. The weights of the field are for
sums over all pixels and colours, and so are these.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnviz.adapter import Ops
from cnnviz.ascent.canvas.lines import gaussian_lines, on_lines
from cnnviz.errors import InvalidOption

__all__ = ["L1", "L2", "BlurDifference", "Boundary", "Penalty", "TotalVariation"]

_AXES = (1, 2, 3)


@dataclass(frozen=True)
class Penalty(ABC):
    """A number to keep small.

    Parameters
    ----------
    weight : float
        What it is multiplied by before it is taken off the score.
    """

    weight: float

    def __post_init__(self) -> None:
        if not np.isfinite(self.weight):
            raise InvalidOption(f"the weight of a penalty is a finite number, not {self.weight}")

    @abstractmethod
    def __call__(self, ops: Ops[Any], pictures: Any) -> Any:
        """Give ``(N,)`` of pictures ``(N, H, W, C)``, weighted."""


@dataclass(frozen=True)
class L1(Penalty):
    """Sum of the distances from a grey.

    Parameters
    ----------
    weight : float
        About 0.05 for a pixel canvas.
    grey : float
    """

    grey: float = 0.5

    def __call__(self, ops: Ops[Any], pictures: Any) -> Any:
        """See `Penalty`."""
        return ops.sum(ops.abs(pictures - self.grey), axis=_AXES) * self.weight


@dataclass(frozen=True)
class L2(Penalty):
    """Sum of the squared distances from a grey.

    Parameters
    ----------
    weight : float
    grey : float
    """

    grey: float = 0.5

    def __call__(self, ops: Ops[Any], pictures: Any) -> Any:
        """See `Penalty`."""
        apart = pictures - self.grey
        return ops.sum(apart * apart, axis=_AXES) * self.weight


@dataclass(frozen=True)
class TotalVariation(Penalty):
    """Sum of the differences between neighbouring pixels [1]_.

    Parameters
    ----------
    weight : float
        About 0.25 for a pixel canvas.

    References
    ----------
    .. [1] Mahendran and Vedaldi, arXiv:1412.0035.
    """

    def __call__(self, ops: Ops[Any], pictures: Any) -> Any:
        """See `Penalty`."""
        down = ops.abs(pictures[:, 1:] - pictures[:, :-1])
        across = ops.abs(pictures[:, :, 1:] - pictures[:, :, :-1])
        return (ops.sum(down, axis=_AXES) + ops.sum(across, axis=_AXES)) * self.weight


@dataclass(frozen=True)
class BlurDifference(Penalty):
    """Half the squared distance from the blurred picture.

    Parameters
    ----------
    weight : float
        About 1 for a pixel canvas.
    sigma : float
        Of the Gaussian blur, in pixels.
    """

    sigma: float = 1.0

    def __call__(self, ops: Ops[Any], pictures: Any) -> Any:
        """See `Penalty`."""
        lines = [gaussian_lines(int(side), self.sigma) for side in pictures.shape[1:3]]
        apart = pictures - on_lines(ops, pictures, lines[0], lines[1])
        return ops.sum(apart * apart, axis=_AXES) * (0.5 * self.weight)


@dataclass(frozen=True)
class Boundary(Penalty):
    """Sum of the squared distances from a grey near the edge of the picture.

    Parameters
    ----------
    weight : float
    width : float
        Of the edge, as a share of each side.
    grey : float
    """

    width: float = 0.1
    grey: float = 0.5

    def __call__(self, ops: Ops[Any], pictures: Any) -> Any:
        """See `Penalty`."""
        edges = []
        for side in (int(side) for side in pictures.shape[1:3]):
            depth = np.minimum(np.arange(side), np.arange(side)[::-1])
            edges.append(depth < max(1, round(self.width * side)))
        mask = (edges[0][:, None] | edges[1][None])[..., None].astype(float)
        apart = pictures - self.grey
        return ops.sum(apart * apart * ops.asarray(mask), axis=_AXES) * self.weight
