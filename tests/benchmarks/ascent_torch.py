"""The networks and the loop by hand in PyTorch, for `benchmarks.ascent`."""

from __future__ import annotations

from typing import Any

import torch
import torchvision
from torch import nn

import cnnviz
from benchmarks.leanest import Variant
from benchmarks.leanest_torch import VARIANTS, Loop, cut

__all__ = [
    "BEST",
    "LAYERS",
    "VARIANTS",
    "Loop",
    "adapted",
    "cut",
    "model",
    "use_threads",
    "versions",
]

use_threads = torch.set_num_threads
LAYERS = {
    "resnet50": ("layer1", "layer2", "layer4"),
    "vgg16": ("features.7", "features.14", "features.28"),
}
BEST = Variant("fft", "grid_sample")


def model(name: str) -> nn.Module:
    """Build a network with random weights."""
    torch.manual_seed(0)
    found: nn.Module = torchvision.models.get_model(name, weights=None)
    return found.eval()


def adapted(net: nn.Module) -> Any:
    """Give the network to cnnviz."""
    return cnnviz.adapt(net, "imagenet", input_shape=(224, 224, 3))


def versions() -> str:
    """Say what is timed."""
    return f"torch {torch.__version__}, {torch.get_num_threads()} threads"
