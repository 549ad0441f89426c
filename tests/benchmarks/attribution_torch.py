"""The loops by hand in PyTorch, for `benchmarks.attribution`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.ascent_torch import adapted, model, use_threads, versions

__all__ = ["LAYER", "Loops", "adapted", "model", "use_threads", "versions"]

Array = NDArray[Any]
LAYER = "layer4"


class Loops:
    """Forward only as far as needed, backward only as far as needed, channels last."""

    def __init__(self, net: nn.Module) -> None:
        self.net = net.requires_grad_(False)
        parts = list(net.children())
        self.trunk = nn.Sequential(*parts[:-2])
        self.head = nn.Sequential(parts[-2], nn.Flatten(), parts[-1])
        self.mean = torch.tensor([0.485, 0.456, 0.406])
        self.std = torch.tensor([0.229, 0.224, 0.225])

    def native(self, x: Tensor) -> Tensor:
        """Normalise and move the channels, as a view that is laid out channels last."""
        return ((x - self.mean) / self.std).movedim(-1, 1)

    def grad_cam(self, x: Array, target: int, chunk: int) -> Array:
        """Enlarged and scaled maps."""
        found = []
        for i in range(0, len(x), chunk):
            with torch.no_grad():
                a = self.trunk(self.native(torch.from_numpy(x[i : i + chunk])))
            a.requires_grad_()
            (g,) = torch.autograd.grad(self.head(a)[:, target].sum(), a)
            raw = (a.detach() * g.mean((2, 3), keepdim=True)).sum(1, keepdim=True).relu()
            maps = nn.functional.interpolate(raw, x.shape[1:3], mode="bilinear")[:, 0]
            found.append((maps / maps.amax((1, 2), keepdim=True).clamp_min(1e-30)).numpy())
        return np.concatenate(found)

    def slopes(self, x: Tensor, target: int) -> Tensor:
        """Give the derivative at pictures."""
        x.requires_grad_()
        (g,) = torch.autograd.grad(self.net(self.native(x))[:, target].sum(), x)
        return g

    def integrated(self, x: Array, target: int, nodes: Array, weights: Array, chunk: int) -> Array:
        """Integrated gradients from black."""
        picture = torch.from_numpy(x)
        at = torch.from_numpy(nodes.astype(np.float32)).reshape(-1, 1, 1, 1)
        share = torch.from_numpy(weights.astype(np.float32)).reshape(-1, 1, 1, 1)
        total = torch.zeros_like(picture[0])
        for i in range(0, len(at), chunk):
            g = self.slopes(picture * at[i : i + chunk], target)
            total += (g * share[i : i + chunk]).sum(0)
        return (total * picture[0]).numpy()

    def smoothed(self, x: Array, target: int, noise: Array, chunk: int) -> Array:
        """Mean slope over noise that is drawn here as well."""
        picture, total = torch.from_numpy(x), torch.zeros(x.shape[1:])
        for i in range(0, len(noise), chunk):
            drawn = torch.randn(len(noise[i : i + chunk]), *x.shape[1:]) * 0.15
            total += self.slopes(picture + drawn, target).sum(0)
        return (total / len(noise)).numpy()

    def rise(self, x: Array, target: int, count: int, chunk: int) -> Array:
        """Random masks weighted by the probability behind them."""
        picture, height = torch.from_numpy(x), x.shape[1]
        cell = -(-height // 7)
        total = torch.zeros(x.shape[1:3])
        with torch.no_grad():
            for i in range(0, count, chunk):
                n = min(chunk, count - i)
                grid = (torch.rand(n, 1, 7, 7) < 0.5).float()
                large = nn.functional.interpolate(grid, (8 * cell, 8 * cell), mode="bilinear")
                shift = torch.randint(0, cell, (n, 2)).tolist()
                masks = torch.stack(
                    [
                        m[0, a : a + height, b : b + height]
                        for m, (a, b) in zip(large, shift, strict=True)
                    ]
                )
                score = self.net(self.native(picture * masks[..., None])).softmax(1)[:, target]
                total += (masks * score[:, None, None]).sum(0)
        return (total / count / 0.5).numpy()
