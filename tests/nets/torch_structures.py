"""Networks of PyTorch whose layers give, take or return more than one tensor."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Bare(nn.Module):
    """Functions without modules between the layers; ``end`` is applied to the scores."""

    def __init__(self, end=None, channels: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 6, 3, padding=1)
        self.fc = nn.Linear(6, 4)
        self.end = end

    def scores(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        return self.fc(F.relu(self.conv2(x)).mean((2, 3)))

    def forward(self, x: Tensor) -> Tensor:
        x = self.scores(x)
        return x if self.end is None else self.end(x)


class TwoInputs(Bare):
    def forward(self, x: Tensor, meta: Tensor, scale: float = 1.0) -> Tensor:
        return self.scores(x) * scale + meta.sum(1, keepdim=True)


class ManyOutputs(Bare):
    def forward(self, x: Tensor) -> dict[str, object]:
        y = self.scores(x)
        return {"plain": y, "rest": [y * 2, (y * 3).softmax(1)]}


class Fork(nn.Module):
    """One layer that gives two maps."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.conv(x), x * 2


class Single(nn.Module):
    """One layer that gives one tensor beside nothing."""

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        return x + 1, None


class Forked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3)
        self.fork = Fork()
        self.single = Single()
        self.fc = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.fork(self.conv1(x))
        c, _ = self.single(a * b)
        return self.fc(c.mean((2, 3)))


class Signal(nn.Module):
    """Convolutions along one axis, or over three."""

    def __init__(self, axes: int) -> None:
        super().__init__()
        conv = {1: nn.Conv1d, 3: nn.Conv3d}[axes]
        self.conv1 = conv(2, 5, 3, padding=1)
        self.conv2 = conv(5, 4, 3, padding=1, stride=2)
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.conv2(F.gelu(self.conv1(x))))
        return self.fc(x.flatten(2).mean(2))


class Tokens(nn.Module):
    """A small transformer on a picture that is not square, with class tokens and registers."""

    def __init__(self, before: int = 1, after: int = 2, mean: bool = False) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 4, stride=4)
        self.before = nn.Parameter(torch.randn(1, before, 8))
        self.after = nn.Parameter(torch.randn(1, after, 8))
        self.norm1 = nn.LayerNorm(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm2 = nn.LayerNorm(8)
        self.mlp = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 5)
        self.mean = mean

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        n = len(x)
        x = torch.cat([self.before.expand(n, -1, -1), x, self.after.expand(n, -1, -1)], 1)
        y = self.norm1(x)
        x = x + self.attention(y, y, y)[0]
        x = self.norm(x + self.mlp(self.norm2(x)))
        return self.head(x.mean(1) if self.mean else x[:, 0])


class Windows(nn.Module):
    """Maps with channels last, looked at in windows of 2 x 2, as Swin does."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 6, 2, stride=2)
        self.norm = nn.LayerNorm(6)
        self.inside = nn.Linear(6, 6)
        self.merge = nn.Linear(24, 10)
        self.head = nn.Linear(10, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.patch(x).permute(0, 2, 3, 1))
        n, h, w, c = x.shape
        y = x.view(n, h // 2, 2, w // 2, 2, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 4, c)
        y = self.inside(y).view(n, h // 2, w // 2, 2, 2, c).permute(0, 1, 3, 2, 4, 5)
        x = x + y.reshape(n, h, w, c)
        x = torch.cat([x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)], -1)
        return self.head(self.merge(x).mean((1, 2)))
