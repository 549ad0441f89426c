"""Changes of colour, and those that every place of a picture shares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnviz.adapter import Ops
from cnnviz.ascent.canvas.lines import gaussian_lines, on_lines
from cnnviz.ascent.transforms.base import Array, Moment, Photometric, require_amount
from cnnviz.errors import InvalidOption

__all__ = ["Blur", "Colour", "Noise", "Roll"]


@dataclass(frozen=True)
class Roll(Photometric):
    """Shift by whole pixels, round the border.

    Parameters
    ----------
    pixels : int
        The largest shift up, down, left or right; never more than a quarter of the picture.
    """

    pixels: int
    draws = 1

    def __post_init__(self) -> None:
        if int(self.pixels) != self.pixels or self.pixels < 0:
            raise InvalidOption(f"jitter must be a whole number of pixels, not {self.pixels}")

    def draw(self, rng: np.random.Generator, moment: Moment, channels: int) -> tuple[Any, ...]:
        """See `Photometric.draw`."""
        amount = min(self.pixels, *(side // 4 for side in moment.size))
        return (rng.integers(-amount, amount + 1, 2),)

    def apply(self, ops: Ops[Any], x: Any, drawn: Sequence[Any]) -> Any:
        """See `Photometric.apply`."""
        shifts = drawn[0]
        rolled = [
            ops.roll(ops.roll(x[i : i + 1], shifts[i, 0], 1), shifts[i, 1], 2)
            for i in range(int(x.shape[0]))
        ]
        return rolled[0] if len(rolled) == 1 else ops.concat(rolled, 0)


@dataclass(frozen=True)
class Blur(Photometric):
    """Blur by a Gaussian.

    Parameters
    ----------
    sigma : float
        Standard deviation in pixels.
    """

    sigma: float

    def __post_init__(self) -> None:
        if not self.sigma > 0:
            raise InvalidOption(f"a blur has a deviation above zero, not {self.sigma}")

    def apply(self, ops: Ops[Any], x: Any, drawn: Sequence[Any]) -> Any:
        """See `Photometric.apply`."""
        height, width = (int(side) for side in x.shape[1:3])
        lines = gaussian_lines(height, self.sigma), gaussian_lines(width, self.sigma)
        return on_lines(ops, x, *lines)


@dataclass(frozen=True)
class Noise(Photometric):
    """Add normal noise.

    Parameters
    ----------
    deviation : float
        Of 1, the distance from black to white.
    """

    deviation: float
    draws = 1

    def __post_init__(self) -> None:
        require_amount(self.deviation, "noise")

    def draw(self, rng: np.random.Generator, moment: Moment, channels: int) -> tuple[Any, ...]:
        """See `Photometric.draw`."""
        # In float32, which is twice as fast to draw and fine enough for noise.
        noise = rng.standard_normal((*moment.size, channels), np.float32)
        return (noise * np.float32(self.deviation),)

    def apply(self, ops: Ops[Any], x: Any, drawn: Sequence[Any]) -> Any:
        """See `Photometric.apply`."""
        return x + drawn[0]


@dataclass(frozen=True)
class Colour(Photometric):
    """Change the contrast, and shift each colour.

    Parameters
    ----------
    contrast : float
        The picture is multiplied by a factor drawn from one minus to one plus this.
    shift : float
        Each colour is moved by an amount drawn from minus to plus this.
    """

    contrast: float = 0.1
    shift: float = 0.1
    draws = 2

    def __post_init__(self) -> None:
        require_amount(self.contrast, "contrast")
        require_amount(self.shift, "shift")

    def draw(self, rng: np.random.Generator, moment: Moment, channels: int) -> tuple[Array, ...]:
        """See `Photometric.draw`."""
        factor = 1 + rng.uniform(-self.contrast, self.contrast, (1, 1, 1))
        return factor, rng.uniform(-self.shift, self.shift, (1, 1, channels))

    def apply(self, ops: Ops[Any], x: Any, drawn: Sequence[Any]) -> Any:
        """See `Photometric.apply`."""
        return x * drawn[0] + drawn[1]
