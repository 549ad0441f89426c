"""The leanest loop of gradient ascent that can be written by hand in PyTorch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.leanest import COLOURS, SIZE, Variant, affine, half_spectrum, lines, spectrum

__all__ = ["VARIANTS", "Loop", "cut"]

VARIANTS = tuple(
    Variant(waves, warp) for waves in ("fft", "matrices") for warp in ("grid_sample", "none")
)

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def cut(model: nn.Module, layer: str) -> nn.Module:
    """Give the part of a network that leads to a layer, ready to run, in the fastest layout."""
    if layer.startswith("features."):
        features = list(model.get_submodule("features").children())
        found = nn.Sequential(*features[: int(layer.partition(".")[2]) + 1])
    else:
        parts = list(model.named_children())
        last = [name for name, _ in parts].index(layer)
        found = nn.Sequential(*(part for _, part in parts[: last + 1]))
    return found.eval().requires_grad_(False).to(memory_format=torch.channels_last)


class Loop:
    """Pictures of some channels at the end of a network; call it for a step."""

    def __init__(self, net: nn.Module, channels: Sequence[int], variant: Variant) -> None:
        self.net, self.variant = net, variant
        count = len(channels)
        if variant.waves == "fft":
            start = torch.randn(count, 3, SIZE, SIZE // 2 + 1, 2)
            self.scale = torch.tensor(half_spectrum(SIZE)[..., None], dtype=torch.float32)
        else:
            start = torch.randn(count, 3, SIZE, SIZE)
            self.scale = torch.tensor(spectrum(SIZE), dtype=torch.float32)
        self.values = (start * 0.01).requires_grad_(True)
        self.optimizer = torch.optim.Adam([self.values], lr=0.05, fused=True, maximize=True)
        self.lines = torch.tensor(lines(SIZE), dtype=torch.float32)
        self.colours = torch.tensor(COLOURS, dtype=torch.float32)
        mean, std = (torch.tensor(x).reshape(1, 3, 1, 1) for x in (_MEAN, _STD))
        # Of a picture counted from grey.
        self.shift, self.factor = (0.5 - mean) / std, 1 / std
        self.rows, self.channels = torch.arange(count), torch.tensor(list(channels))
        self.rng = np.random.default_rng(0)

    def __call__(self) -> None:
        """Take a step."""
        picture = self.picture()
        if self.variant.warp != "none":
            maps = affine(self.rng, len(picture))
            maps[:, :, 2] *= 2 / SIZE
            grid = F.affine_grid(
                torch.from_numpy(maps).float(), list(picture.shape), align_corners=False
            )
            picture = F.grid_sample(picture, grid, align_corners=False)
        seen = torch.addcmul(self.shift, picture, self.factor)
        found = self.net(seen.contiguous(memory_format=torch.channels_last))
        score = found.select(1, int(self.channels[0])) if len(self.rows) == 1 else None
        if score is None:
            score = found[self.rows, self.channels]
        value = score.mean((1, 2)).sum()
        (self.values.grad,) = torch.autograd.grad(value, self.values)
        self.optimizer.step()

    def picture(self) -> Tensor:
        """Give the picture, counted from grey."""
        if self.variant.waves == "fft":
            waves = torch.view_as_complex(self.values * self.scale)
            raw = torch.fft.irfft2(waves, (SIZE, SIZE), norm="ortho")
        else:
            raw = self.lines @ (self.values * self.scale) @ self.lines.T
        coloured = (self.colours @ raw.flatten(2)).reshape(raw.shape)
        return torch.tanh(coloured * 0.5) * 0.5
