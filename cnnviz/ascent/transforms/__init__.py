"""What happens to a picture before the network sees it, drawn anew at each step."""

from __future__ import annotations

from cnnviz.ascent.transforms.base import Geometric, Moment, Photometric, Transform
from cnnviz.ascent.transforms.chain import Chain, warped
from cnnviz.ascent.transforms.geometric import (
    Crop,
    Flip,
    Jitter,
    Pad,
    RandomCrop,
    Rotate,
    Scale,
    distill,
)
from cnnviz.ascent.transforms.photometric import Blur, Colour, Noise, Roll

__all__ = [
    "Blur",
    "Chain",
    "Colour",
    "Crop",
    "Flip",
    "Geometric",
    "Jitter",
    "Moment",
    "Noise",
    "Pad",
    "Photometric",
    "RandomCrop",
    "Roll",
    "Rotate",
    "Scale",
    "Transform",
    "distill",
    "warped",
]
