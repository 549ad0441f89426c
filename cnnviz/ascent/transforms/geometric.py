"""Changes of place: affine maps, of which several in a row are one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cnnviz.ascent.transforms.base import Array, Geometric, Moment, Size, Transform, require_amount
from cnnviz.errors import InvalidOption

__all__ = ["Crop", "Flip", "Jitter", "Pad", "RandomCrop", "Rotate", "Scale", "distill"]


def _linear(yy: float, yx: float, xy: float, xx: float) -> Array:
    return np.array([[yy, yx, 0.0], [xy, xx, 0.0], [0.0, 0.0, 1.0]])


def _shift(y: float, x: float) -> Array:
    return np.array([[1.0, 0.0, y], [0.0, 1.0, x], [0.0, 0.0, 1.0]])


@dataclass(frozen=True)
class Pad(Geometric):
    """Put a border of one grey around the picture.

    Parameters
    ----------
    pixels : int
        Width of the border at 224 pixels; scaled with the picture.
    fill : float
        Its grey, from 0 to 1; also what later shifts and turns bring in from outside.
    """

    pixels: int
    fill: float = 0.5

    def __post_init__(self) -> None:
        require_amount(self.pixels, "pad")

    def matrix(self, rng: np.random.Generator, moment: Moment) -> Array:
        """See `Geometric.matrix`."""
        return np.eye(3)

    def resized(self, size: Size, wanted: Size) -> Size:
        """See `Transform.resized`."""
        return size[0] + 2 * self.pixels, size[1] + 2 * self.pixels

    def scaled(self, factor: float, side: int) -> Pad:
        """See `Transform.scaled`."""
        return Pad(round(self.pixels * factor), self.fill)


@dataclass(frozen=True)
class Crop(Geometric):
    """Cut off a border.

    Parameters
    ----------
    pixels : int
        Width of the border at 224 pixels; scaled with the picture.
    """

    pixels: int

    def __post_init__(self) -> None:
        require_amount(self.pixels, "crop")

    def matrix(self, rng: np.random.Generator, moment: Moment) -> Array:
        """See `Geometric.matrix`."""
        return np.eye(3)

    def resized(self, size: Size, wanted: Size) -> Size:
        """See `Transform.resized`."""
        return max(1, size[0] - 2 * self.pixels), max(1, size[1] - 2 * self.pixels)

    def scaled(self, factor: float, side: int) -> Crop:
        """See `Transform.scaled`."""
        return Crop(round(self.pixels * factor))


@dataclass(frozen=True)
class Jitter(Geometric):
    """Shift by whole pixels within a range, as cropping at a random place does.

    Parameters
    ----------
    pixels : int
        The range at 224 pixels, half of it each way; scaled with the picture, and never more
        than an eighth of a small one.
    """

    pixels: int

    def __post_init__(self) -> None:
        if int(self.pixels) != self.pixels:
            raise InvalidOption(f"jitter must be a whole number of pixels, not {self.pixels}")
        require_amount(self.pixels, "jitter")

    def matrix(self, rng: np.random.Generator, moment: Moment) -> Array:
        """See `Geometric.matrix`."""
        y, x = rng.integers(0, self.pixels + 1, 2) - self.pixels // 2
        return _shift(float(y), float(x))

    def scaled(self, factor: float, side: int) -> Jitter:
        """See `Transform.scaled`."""
        return Jitter(min(round(self.pixels * factor), max(1, side // 8) if self.pixels else 0))


@dataclass(frozen=True)
class Scale(Geometric):
    """Enlarge or shrink about the middle; the picture keeps its size.

    Parameters
    ----------
    low, high : float
        Between which the factor is drawn, evenly in its logarithm: twice as large is as likely
        as half as large.
    among : tuple of float
        The factors to draw from instead.
    """

    low: float = 1.0
    high: float = 1.0
    among: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not (self.low > 0 and self.high >= self.low) or any(f <= 0 for f in self.among):
            raise InvalidOption("a scale is above zero, and its high end not below its low")

    def matrix(self, rng: np.random.Generator, moment: Moment) -> Array:
        """See `Geometric.matrix`."""
        if self.among:
            factor = rng.choice(self.among)
        else:
            factor = np.exp(rng.uniform(np.log(self.low), np.log(self.high)))
        return _linear(1 / factor, 0, 0, 1 / factor)


@dataclass(frozen=True)
class Rotate(Geometric):
    """Turn about the middle.

    Parameters
    ----------
    degrees : float
        The angle is drawn evenly from minus to plus this.
    among : tuple of float
        The angles to draw from instead, in degrees.
    """

    degrees: float = 0.0
    among: tuple[float, ...] = ()

    def matrix(self, rng: np.random.Generator, moment: Moment) -> Array:
        """See `Geometric.matrix`."""
        angle = rng.choice(self.among) if self.among else rng.uniform(-self.degrees, self.degrees)
        cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
        return _linear(cos, -sin, sin, cos)


@dataclass(frozen=True)
class Flip(Geometric):
    """Swap left and right half of the time."""

    def matrix(self, rng: np.random.Generator, moment: Moment) -> Array:
        """See `Geometric.matrix`."""
        return _linear(1, 0, 0, 1 if rng.uniform() < 0.5 else -1)


@dataclass(frozen=True)
class RandomCrop(Geometric):
    """Show a box of the picture at the size that the network takes [1]_.

    Parameters
    ----------
    begin, end : float
        Side of the box as a share of the picture, at the first and at the last step.
    spread : float
        The share is drawn from a normal distribution of this deviation about it.

    References
    ----------
    .. [1] Fel et al., "Unlocking Feature Visualization for Deeper Networks with MAgnitude
       Constrained Optimization", NeurIPS 2023, arXiv:2306.06805.
    """

    begin: float = 0.5
    end: float = 0.05
    spread: float = 0.05

    def __post_init__(self) -> None:
        if not (0 < self.begin <= 1 and 0 < self.end <= 1 and self.spread >= 0):
            raise InvalidOption("the box of a random crop is a share of the picture, in (0, 1]")

    def matrix(self, rng: np.random.Generator, moment: Moment) -> Array:
        """See `Geometric.matrix`."""
        middle = self.begin + (self.end - self.begin) * moment.done
        share = float(np.clip(rng.normal(middle, self.spread), 0.05, 1.0))
        out = self.resized(moment.size, moment.wanted)
        room = [(1 - share) * side / 2 for side in moment.size]
        factors = [share * side / o for side, o in zip(moment.size, out, strict=True)]
        place = _shift(rng.uniform(-room[0], room[0]), rng.uniform(-room[1], room[1]))
        return np.asarray(place @ _linear(factors[0], 0, 0, factors[1]))

    def resized(self, size: Size, wanted: Size) -> Size:
        """See `Transform.resized`."""
        return wanted


def distill() -> tuple[Transform, ...]:
    """Give the transforms of "Feature Visualization" (Distill, 2017), footnote 9."""
    return (
        Pad(16),
        Jitter(16),
        Scale(among=(1.0, 0.975, 1.025, 0.95, 1.05)),
        Rotate(among=(-5.0, -4.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0)),
        Jitter(8),
        Crop(16),
    )
