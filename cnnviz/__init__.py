"""See what a convolutional network has learned, the same way in PyTorch and in Keras."""

from __future__ import annotations

from cnnviz.adapter import INPUT, LOGITS, OUTPUT, Adapter, Evaluation, Layer
from cnnviz.discovery import adapt, load
from cnnviz.preprocessing import Preprocessing

__version__ = "0.1.0"

__all__ = [
    "INPUT",
    "LOGITS",
    "OUTPUT",
    "Adapter",
    "Evaluation",
    "Layer",
    "Preprocessing",
    "adapt",
    "load",
]
