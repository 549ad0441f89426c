"""Pictures in and out: read, resize, blur, overlay, grid.

A picture is RGB, float in [0, 1], ``(H, W, C)``; a batch of them is ``(N, H, W, C)``.
"""

from __future__ import annotations

from cnnviz.images.drawing import colormap, grid, normalise, overlay
from cnnviz.images.filters import bilateral, box_blur, gaussian_blur
from cnnviz.images.reading import ImageLike, ImagesLike, read, read_batch
from cnnviz.images.resampling import enlarge, resize
from cnnviz.images.writing import png_bytes, save, to_uint8

__all__ = [
    "ImageLike",
    "ImagesLike",
    "bilateral",
    "box_blur",
    "colormap",
    "enlarge",
    "gaussian_blur",
    "grid",
    "normalise",
    "overlay",
    "png_bytes",
    "read",
    "read_batch",
    "resize",
    "save",
    "to_uint8",
]
