"""What happens to a picture before the network sees it, drawn anew at each step.

Geometric transforms that follow each other are one warp: their matrices are multiplied, and the
picture is read once, between its pixels. Every picture has its own draw, and the size that the
network sees is the same at each step.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.adapter import Ops
from cnnviz.ascent.canvas.lines import constant, gaussian_lines, on_lines
from cnnviz.errors import InvalidOption

__all__ = [
    "Blur",
    "Chain",
    "Colour",
    "Crop",
    "Flip",
    "Geometric",
    "Jitter",
    "Noise",
    "Pad",
    "RandomCrop",
    "Roll",
    "Rotate",
    "Scale",
    "Transform",
    "distill",
]

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


def _linear(yy: float, yx: float, xy: float, xx: float) -> Array:
    return np.array([[yy, yx, 0.0], [xy, xx, 0.0], [0.0, 0.0, 1.0]])


def _shift(y: float, x: float) -> Array:
    return np.array([[1.0, 0.0, y], [0.0, 1.0, x], [0.0, 0.0, 1.0]])


def _amount(value: float, name: str) -> None:
    if not value >= 0:
        raise InvalidOption(f"{name} must not be below zero, not {value}")


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
        _amount(self.pixels, "pad")

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
        _amount(self.pixels, "crop")

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
        _amount(self.pixels, "jitter")

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
        Between which the factor is drawn, evenly.
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
        factor = rng.choice(self.among) if self.among else rng.uniform(self.low, self.high)
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
        _amount(self.deviation, "noise")

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
        _amount(self.contrast, "contrast")
        _amount(self.shift, "shift")

    def draw(self, rng: np.random.Generator, moment: Moment, channels: int) -> tuple[Array, ...]:
        """See `Photometric.draw`."""
        factor = 1 + rng.uniform(-self.contrast, self.contrast, (1, 1, 1))
        return factor, rng.uniform(-self.shift, self.shift, (1, 1, channels))

    def apply(self, ops: Ops[Any], x: Any, drawn: Sequence[Any]) -> Any:
        """See `Photometric.apply`."""
        return x * drawn[0] + drawn[1]


@dataclass(frozen=True)
class Chain:
    """Transforms one after another, with geometric neighbours fused into one warp.

    Parameters
    ----------
    transforms : tuple of Transform
    size : (int, int)
        Of the picture.
    wanted : (int, int)
        What the network takes.
    """

    transforms: tuple[Transform, ...]
    size: Size
    wanted: Size

    def draw(self, rng: np.random.Generator, done: float, channels: int) -> list[Array]:
        """Draw what `apply` takes, for one picture."""
        found: list[Array] = []
        for group, sizes in self._groups():
            if isinstance(group[0], Geometric):
                product = np.eye(3)
                for transform, size in zip(group, sizes, strict=False):
                    assert isinstance(transform, Geometric)
                    product = product @ transform.matrix(rng, Moment(size, done, self.wanted))
                found.append(product[:2])
            else:
                assert isinstance(group[0], Photometric)
                found.extend(group[0].draw(rng, Moment(sizes[0], done, self.wanted), channels))
        return found

    def apply(self, ops: Ops[Any], x: Any, drawn: Sequence[Any]) -> Any:
        """Change pictures ``(N, H, W, C)``."""
        left = list(drawn)
        for group, sizes in self._groups():
            if isinstance(group[0], Geometric):
                fill = next((t.fill for t in group if isinstance(t, Pad)), 0.5)
                x = warped(ops, x, left.pop(0), sizes[-1], fill)
            else:
                assert isinstance(group[0], Photometric)
                x = group[0].apply(ops, x, [left.pop(0) for _ in range(group[0].draws)])
        return x

    @property
    def out(self) -> Size:
        """Size of what comes out."""
        size = self.size
        for transform in self.transforms:
            size = transform.resized(size, self.wanted)
        return size

    def _groups(self) -> list[tuple[list[Transform], list[Size]]]:
        """Give runs of geometric transforms, and single others, with the sizes before and after."""
        found: list[tuple[list[Transform], list[Size]]] = []
        size = self.size
        for transform in self.transforms:
            after = transform.resized(size, self.wanted)
            joins = found and isinstance(transform, Geometric)
            if joins and isinstance(found[-1][0][-1], Geometric):
                found[-1][0].append(transform)
                found[-1][1].append(after)
            else:
                found.append(([transform], [size, after]))
            size = after
        return found


def warped(ops: Ops[Any], x: Any, matrices: Any, size: Size, fill: float) -> Any:
    """Read pictures ``(N, H, W, C)`` at places that affine maps ``(N, 2, 3)`` give.

    Parameters
    ----------
    matrices : tensor
        From a pixel of the new picture, ``(y, x, 1)`` counted from its middle, to a place in
        the old one.
    size : (int, int)
        Of the new pictures.
    fill : float
        What lies outside the old ones.
    """
    count, height, width = (int(side) for side in x.shape[:3])
    read = ops.matmul(matrices, ops.constant(_places(size)))
    down = ops.reshape(read[:, 0], (count, *size)) + (height - 1) / 2
    across = ops.reshape(read[:, 1], (count, *size)) + (width - 1) / 2
    return ops.sample(x - fill, down, across) + fill


@lru_cache(maxsize=16)
def _places(size: Size) -> Array:
    """Give ``(y, x, 1)`` of each pixel from the middle, ``(3, H * W)``."""
    rows, columns = (np.arange(side) - (side - 1) / 2 for side in size)
    ones = np.ones(size[0] * size[1])
    return constant(np.stack([np.repeat(rows, size[1]), np.tile(columns, size[0]), ones]))


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
