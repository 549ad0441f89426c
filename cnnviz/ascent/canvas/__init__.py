"""What is optimised in place of a picture, and how a picture is read off it."""

from __future__ import annotations

from cnnviz.ascent.canvas.base import Canvas
from cnnviz.ascent.canvas.fourier import FourierCanvas, MacoCanvas
from cnnviz.ascent.canvas.layered import CPPNCanvas, LaplacianCanvas, SharedCanvas
from cnnviz.ascent.canvas.pixel import PixelCanvas
from cnnviz.ascent.canvas.prior import Prior, default_prior, fit_prior
from cnnviz.ascent.canvas.wrapped import (
    GeneratorCanvas,
    MaskedCanvas,
    TransparentCanvas,
    masked,
)

__all__ = [
    "CPPNCanvas",
    "Canvas",
    "FourierCanvas",
    "GeneratorCanvas",
    "LaplacianCanvas",
    "MacoCanvas",
    "MaskedCanvas",
    "PixelCanvas",
    "Prior",
    "SharedCanvas",
    "TransparentCanvas",
    "default_prior",
    "fit_prior",
    "masked",
]
