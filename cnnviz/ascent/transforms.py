"""What happens to a picture before the network sees it, drawn anew at each step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.adapter import Ops
from cnnviz.errors import InvalidOption

__all__ = ["Jitter"]


@dataclass(frozen=True)
class Jitter:
    """Shift each picture by whole pixels, each its own way, round the border.

    Parameters
    ----------
    amount : int
        The largest shift up, down, left or right, in pixels.
    """

    amount: int

    def __post_init__(self) -> None:
        if int(self.amount) != self.amount or self.amount < 0:
            raise InvalidOption(f"jitter must be a whole number of pixels, not {self.amount}")

    def draw(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw the shift ``(dy, dx)`` of one picture for one step."""
        return rng.integers(-self.amount, self.amount + 1, 2)

    def apply(self, ops: Ops[Any], pictures: Any, shifts: Any) -> Any:
        """Shift pictures ``(N, H, W, C)`` by integers ``(N, 2)``."""
        rolled = [
            ops.roll(ops.roll(pictures[i : i + 1], shifts[i, 0], 1), shifts[i, 1], 2)
            for i in range(pictures.shape[0])
        ]
        return rolled[0] if len(rolled) == 1 else ops.concat(rolled, 0)
