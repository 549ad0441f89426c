"""Canvases around another: see-through, partly fixed, or painted by a generator."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np

from cnnviz import images
from cnnviz.adapter import Adapter, Ops
from cnnviz.ascent.canvas.base import Array, Canvas, Shape
from cnnviz.ascent.canvas.fourier import FourierCanvas
from cnnviz.ascent.canvas.lines import bilinear_lines, constant, on_lines
from cnnviz.ascent.held import Held
from cnnviz.errors import InvalidOption
from cnnviz.images import ImageLike

__all__ = ["GeneratorCanvas", "MaskedCanvas", "TransparentCanvas", "masked"]


@dataclass(frozen=True)
class TransparentCanvas(Canvas):
    """A picture that is free to be see-through where nothing matters [1]_.

    It is shown to the network over noise that changes at each step, and what covers little
    counts more: the objective is multiplied by one minus the mean of alpha.

    Parameters
    ----------
    colour, cover : Canvas
        For the colours and for alpha.
    background : float
        Contrast of the noise: its standard deviation before the sigmoid.

    References
    ----------
    .. [1] Mordvintsev, Pezzotti, Schubert and Olah, "Differentiable Image
       Parameterizations", Distill, 2018.
    """

    colour: Canvas = field(default_factory=FourierCanvas)
    cover: Canvas = field(default_factory=FourierCanvas)
    background: float = 0.5
    alpha = True

    def __post_init__(self) -> None:
        if self.colour.alpha or self.cover.alpha or self.colour.coupled or self.cover.coupled:
            raise InvalidOption("a see-through canvas is made of two plain ones")
        for part in (self.colour, self.cover):
            free = type(part).clamp is not Canvas.clamp
            if free and not (isinstance(part, GeneratorCanvas) and part.limit is None):
                raise InvalidOption(
                    f"a {type(part).__name__} leaves [0, 1], where nothing can be seen through;"
                    " choose FourierCanvas or LaplacianCanvas"
                )

    def first(self, rng: np.random.Generator, size: tuple[int, int], channels: int) -> Array:
        """Draw the first values of the colours and of alpha, ``(P,)``."""
        colour = self.colour.first(rng, size, channels)
        return np.concatenate([colour.ravel(), self.cover.first(rng, size, 1).ravel()])

    def to_picture(self, ops: Ops[Any], values: Any, shape: Shape) -> Any:
        """Give colours and alpha, ``(N, H, W, C + 1)``."""
        like = self.colour.first(np.random.default_rng(0), shape[:2], shape[2]).shape
        over = self.cover.first(np.random.default_rng(0), shape[:2], 1).shape
        count, size = int(values.shape[0]), math.prod(like)
        colour = ops.reshape(values[:, :size], (count, *like))
        cover = ops.reshape(values[:, size:], (count, *over))
        single = (shape[0], shape[1], 1)
        return ops.concat(
            [self.colour.to_picture(ops, colour, shape), self.cover.to_picture(ops, cover, single)],
            3,
        )

    def bound(self, net: Adapter[Any]) -> Canvas:
        """See `Canvas.bound`."""
        return replace(self, colour=self.colour.bound(net), cover=self.cover.bound(net))


@dataclass(frozen=True)
class MaskedCanvas(Canvas):
    """Only part of a picture is free; the rest is given. Made by `masked`.

    Parameters
    ----------
    inner : Canvas
    mask : Held
        ``(H, W)`` in [0, 1]: how free each pixel is.
    picture : Held
        ``(H, W, C)`` in [0, 1].
    """

    inner: Canvas
    mask: Held
    picture: Held

    def __post_init__(self) -> None:
        if self.inner.coupled or self.inner.alpha:
            raise InvalidOption(
                f"a {type(self.inner).__name__} cannot be free in part only; choose FourierCanvas"
                " or PixelCanvas"
            )

    def first(self, rng: np.random.Generator, size: tuple[int, int], channels: int) -> Array:
        """Draw the first values of the inner canvas."""
        return self.inner.first(rng, size, channels)

    def from_picture(self, picture: Array) -> Array:
        """Turn a picture into values of the inner canvas."""
        return self.inner.from_picture(picture)

    def to_picture(self, ops: Ops[Any], values: Any, shape: Shape) -> Any:
        """Lay what is free over what is given."""
        channels = self.picture.array.shape[-1]
        if channels != shape[-1]:
            raise InvalidOption(
                f"the picture that is given has {channels} channels, the network takes {shape[-1]}"
            )
        free, given = _fitted(self.mask, self.picture, (shape[0], shape[1]))
        painted = self.inner.to_picture(ops, values, shape)
        return painted * ops.constant(free) + ops.constant(given)

    def bound(self, net: Adapter[Any]) -> Canvas:
        """See `Canvas.bound`."""
        return replace(self, inner=self.inner.bound(net))

    def clamp(self, ops: Ops[Any], values: Any) -> Any:
        """See `Canvas.clamp`."""
        return self.inner.clamp(ops, values)

    def blur(self, ops: Ops[Any], values: Any, sigma: float) -> Any:
        """See `Canvas.blur`."""
        return self.inner.blur(ops, values, sigma)

    def frequencies(self, shape: Shape) -> Array | None:
        """See `Canvas.frequencies`."""
        return self.inner.frequencies(shape)


@lru_cache(maxsize=16)
def _fitted(mask: Held, picture: Held, size: tuple[int, int]) -> tuple[Array, Array]:
    """Give how free each pixel is at that size, and what is given of it."""
    free = images.resize(mask.array[..., None], size, "bilinear")
    given = images.resize(picture.array, size, "bilinear")
    return constant(free), constant(given * (1 - free))


def masked(picture: ImageLike, mask: Any, inner: Canvas | None = None) -> MaskedCanvas:
    """Leave a picture as it is but for where a mask lets it change.

    Parameters
    ----------
    picture : path, Pillow image or array
    mask : array
        ``(H, W)``, bool or in [0, 1]; 1 is free. Of the picture's own size.
    inner : Canvas, optional
        How the free part is painted.

    Raises
    ------
    InvalidOption
        The mask does not fit the picture, or frees nothing.
    """
    channels = picture.shape[-1] if isinstance(picture, np.ndarray) and picture.ndim == 3 else 3
    given = images.read(picture, channels)
    free = np.asarray(mask, dtype=np.float64)
    if free.shape != given.shape[:2]:
        raise InvalidOption(
            f"the mask is {free.shape}, the picture {given.shape[:2]}; make them alike"
        )
    if not (free.min() >= 0 and free.max() <= 1):
        raise InvalidOption("a mask lies in [0, 1]")
    if not free.any():
        raise InvalidOption("the mask leaves nothing free; set it to 1 where pixels may change")
    return MaskedCanvas(inner or FourierCanvas(), Held(free), Held(given))


@dataclass(frozen=True)
class GeneratorCanvas(Canvas):
    """What is optimised is the code of a picture, which a trained decoder paints [1]_.

    Parameters
    ----------
    decoder : model
        From codes ``(N, *code)`` to pictures, of the network's own framework.
    code : tuple of int
        Shape of one code.
    low, high : float
        What the decoder gives for black and for white: -1 and 1 for one that ends in tanh.
    deviation : float
        Standard deviation of the first codes.
    limit : float, optional
        Codes are kept within plus and minus this.

    References
    ----------
    .. [1] Nguyen et al., "Synthesizing the preferred inputs for neurons in neural networks
       via deep generator networks", NeurIPS 2016, arXiv:1605.09304.
    """

    decoder: Any
    code: tuple[int, ...]
    low: float = 0.0
    high: float = 1.0
    deviation: float = 1.0
    limit: float | None = None

    def __post_init__(self) -> None:
        if self.high <= self.low:
            raise InvalidOption(f"white must be above black, not {self.high} and {self.low}")

    def bound(self, net: Adapter[Any]) -> Canvas:
        """See `Canvas.bound`."""
        return replace(self, decoder=net.decoder(self.decoder))

    def first(self, rng: np.random.Generator, size: tuple[int, int], channels: int) -> Array:
        """Draw the first code."""
        return rng.normal(0, self.deviation, self.code)

    def to_picture(self, ops: Ops[Any], values: Any, shape: Shape) -> Any:
        """Paint; pictures of another size than `shape` are enlarged or shrunk to it."""
        painted = self.decoder(values)
        found = tuple(int(side) for side in painted.shape)
        if len(found) != 4 or found[-1] != shape[-1]:
            raise InvalidOption(
                f"the decoder gives {found}; pictures (N, H, W, {shape[-1]}) are wanted"
            )
        if found[1:3] != shape[:2]:
            down = bilinear_lines(found[1], shape[0])
            painted = on_lines(ops, painted, down, bilinear_lines(found[2], shape[1]))
        # The network sees what is shown; a decoder without a last squashing goes beyond.
        return ops.clip((painted - self.low) * (1 / (self.high - self.low)), 0.0, 1.0)

    def clamp(self, ops: Ops[Any], values: Any) -> Any:
        """Keep codes within the limit."""
        return values if self.limit is None else ops.clip(values, -self.limit, self.limit)
