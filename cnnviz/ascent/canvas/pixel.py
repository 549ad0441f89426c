"""A canvas whose every pixel is free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from cnnviz.adapter import Ops
from cnnviz.ascent.canvas.base import Array, Canvas, Shape
from cnnviz.ascent.canvas.lines import gaussian_lines, on_lines
from cnnviz.errors import InvalidOption
from cnnviz.preprocessing import PRESETS

__all__ = ["PixelCanvas"]


@dataclass(frozen=True)
class PixelCanvas(Canvas):
    """Every pixel is free.

    Parameters
    ----------
    unit : {"normalised", "pixel"}
        What one unit is: a standard deviation of ImageNet's pixels, about their mean (the
        scale that the recipes of the field are written in, whatever this network was trained
        on), or the full range from black to white.
    start : {"normal", "uniform"}
        Distribution of the first picture.
    low, high : float
        For uniform noise: its limits as parts of white.
    deviation : float
        For normal noise, about the middle: its standard deviation, in units.
    finish : {"clip", "standardise"}
        How the picture is brought to [0, 1] at the end: by cutting off what lies beyond, or
        by its own mean and standard deviation and then stretching.
    """

    unit: Literal["normalised", "pixel"] = "normalised"
    start: Literal["normal", "uniform"] = "normal"
    low: float = 0.0
    high: float = 1.0
    deviation: float = 1.0
    finish: Literal["clip", "standardise"] = "clip"

    def __post_init__(self) -> None:
        if self.unit not in ("normalised", "pixel") or self.start not in ("normal", "uniform"):
            raise InvalidOption("a pixel canvas is 'normalised' or 'pixel', 'normal' or 'uniform'")
        if self.finish not in ("clip", "standardise"):
            raise InvalidOption("a pixel canvas finishes by 'clip' or 'standardise'")

    def first(self, rng: np.random.Generator, size: tuple[int, int], channels: int) -> Array:
        """Draw the first values ``(H, W, C)``, in units."""
        if self.start == "uniform":
            return self.from_picture(rng.uniform(self.low, self.high, (*size, channels)))
        return rng.normal(0, self.deviation, (*size, channels))

    def from_picture(self, picture: Array) -> Array:
        """Turn a picture ``(..., H, W, C)`` in [0, 1] into values."""
        middle, spread = self.scale(picture.shape[-1])
        return np.asarray((picture - middle) / spread)

    def to_picture(self, ops: Ops[Any], values: Any, shape: Shape) -> Any:
        """Read the picture in [0, 1] off native values; beyond it where they are not clamped."""
        middle, spread = (ops.asarray(v) for v in self.scale(shape[-1]))
        return values * spread + middle

    def clamp(self, ops: Ops[Any], values: Any) -> Any:
        """Keep values within what a picture in [0, 1] can be."""
        middle, spread = self.scale(values.shape[-1])
        limits = ((0 - middle) / spread, (1 - middle) / spread)
        return ops.clip(values, *(ops.asarray(v) for v in limits))

    def blur(self, ops: Ops[Any], values: Any, sigma: float) -> Any:
        """Blur by two products with a banded matrix; the picture is reflected at its border."""
        height, width = (int(side) for side in values.shape[1:3])
        return on_lines(ops, values, gaussian_lines(height, sigma), gaussian_lines(width, sigma))

    def display(self, picture: Array) -> Array:
        """Bring pictures to [0, 1] as `finish` says."""
        if self.finish == "clip":
            return np.clip(picture, 0, 1)
        axes = (1, 2, 3)
        spread = picture.std(axes, keepdims=True)
        # Three standard deviations are what fits; the few pixels beyond are cut off.
        standard = (picture - picture.mean(axes, keepdims=True)) / (spread + 1e-12)
        return np.asarray(np.clip(standard / 6 + 0.5, 0, 1))

    def scale(self, channels: int) -> tuple[Array, Array]:
        """Give what zero and one stand for, ``(C,)`` each: a picture is ``values * one + zero``."""
        if self.unit == "pixel":
            return np.full(channels, 0.5), np.ones(channels)
        if channels == 3:
            return np.asarray(PRESETS["imagenet"].mean), np.asarray(PRESETS["imagenet"].std)
        return np.full(channels, 0.45), np.full(channels, 0.225)
