"""Transforms one after another; geometric ones that follow each other are one warp.

Their matrices are multiplied, and the picture is read once, between its pixels. Every picture
has its own draw, and the size that the network sees is the same at each step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from cnnviz.adapter import Ops
from cnnviz.ascent.canvas.lines import constant
from cnnviz.ascent.transforms.base import Array, Geometric, Moment, Photometric, Size, Transform
from cnnviz.ascent.transforms.geometric import Pad

__all__ = ["Chain", "warped"]


@dataclass(frozen=True)
class Chain:
    """Transforms one after another, with geometric neighbours fused into one warp.

    Parameters
    ----------
    transforms : tuple of Transform
    size : (int, int)
        Of the picture.
    wanted : (int, int)
        What the network takes.
    """

    transforms: tuple[Transform, ...]
    size: Size
    wanted: Size

    def draw(self, rng: np.random.Generator, done: float, channels: int) -> list[Array]:
        """Draw what `apply` takes, for one picture."""
        found: list[Array] = []
        for group, sizes in self._groups():
            if isinstance(group[0], Geometric):
                product = np.eye(3)
                for transform, size in zip(group, sizes, strict=False):
                    assert isinstance(transform, Geometric)
                    product = product @ transform.matrix(rng, Moment(size, done, self.wanted))
                found.append(product[:2])
            else:
                assert isinstance(group[0], Photometric)
                found.extend(group[0].draw(rng, Moment(sizes[0], done, self.wanted), channels))
        return found

    def apply(self, ops: Ops[Any], x: Any, drawn: Sequence[Any]) -> Any:
        """Change pictures ``(N, H, W, C)``."""
        left = list(drawn)
        for group, sizes in self._groups():
            if isinstance(group[0], Geometric):
                fill = next((t.fill for t in group if isinstance(t, Pad)), 0.5)
                x = warped(ops, x, left.pop(0), sizes[-1], fill)
            else:
                assert isinstance(group[0], Photometric)
                x = group[0].apply(ops, x, [left.pop(0) for _ in range(group[0].draws)])
        return x

    @property
    def out(self) -> Size:
        """Size of what comes out."""
        size = self.size
        for transform in self.transforms:
            size = transform.resized(size, self.wanted)
        return size

    def _groups(self) -> list[tuple[list[Transform], list[Size]]]:
        """Give runs of geometric transforms, and single others, with the sizes before and after."""
        found: list[tuple[list[Transform], list[Size]]] = []
        size = self.size
        for transform in self.transforms:
            after = transform.resized(size, self.wanted)
            joins = found and isinstance(transform, Geometric)
            if joins and isinstance(found[-1][0][-1], Geometric):
                found[-1][0].append(transform)
                found[-1][1].append(after)
            else:
                found.append(([transform], [size, after]))
            size = after
        return found


def warped(ops: Ops[Any], x: Any, matrices: Any, size: Size, fill: float) -> Any:
    """Read pictures ``(N, H, W, C)`` at places that affine maps ``(N, 2, 3)`` give.

    Parameters
    ----------
    matrices : tensor
        From a pixel of the new picture, ``(y, x, 1)`` counted from its middle, to a place in
        the old one.
    size : (int, int)
        Of the new pictures.
    fill : float
        What lies outside the old ones.
    """
    count, height, width = (int(side) for side in x.shape[:3])
    read = ops.matmul(matrices, ops.constant(_places(size)))
    down = ops.reshape(read[:, 0], (count, *size)) + (height - 1) / 2
    across = ops.reshape(read[:, 1], (count, *size)) + (width - 1) / 2
    return ops.sample(x - fill, down, across) + fill


@lru_cache(maxsize=16)
def _places(size: Size) -> Array:
    """Give ``(y, x, 1)`` of each pixel from the middle, ``(3, H * W)``."""
    rows, columns = (np.arange(side) - (side - 1) / 2 for side in size)
    ones = np.ones(size[0] * size[1])
    return constant(np.stack([np.repeat(rows, size[1]), np.tile(columns, size[0]), ones]))
