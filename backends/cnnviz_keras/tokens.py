"""Where tokens lie in the picture, found by changing its corners and seeing which tokens move."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.adapter import Layer

__all__ = ["TokenGrid", "candidates", "corners", "grid_of", "spread"]

_SIDES = (1, 4, 16, 64)
"""Sides of what is changed: the last rows of a picture may be cut off by its patches."""
_TRIED = 4
"""Layers that are looked at for each number of tokens; some hold only their places."""


@dataclass(frozen=True)
class TokenGrid:
    """Rows and columns of tokens, and how many come before them."""

    grid: tuple[int, ...]
    before: int


def candidates(layers: Sequence[Layer], turned: Collection[str]) -> dict[int, list[str]]:
    """Give the first layers of each number of tokens, without those that were turned around."""
    found: dict[int, list[str]] = {}
    for layer in layers:
        shape = layer.output_shape or ()
        if layer.name not in turned and len(shape) == 3 and layer.rows == 1 and (shape[1] or 0) > 1:
            names = found.setdefault(int(shape[1] or 0), [])
            if len(names) < _TRIED:
                names.append(layer.name)
    return found


def corners(height: int, width: int, channels: int) -> NDArray[Any]:
    """Give a picture of noise, and copies whose corners differ from it by more and more."""
    plain = np.random.default_rng(0).uniform(-1, 1, (height, width, channels))
    made = [plain]
    for side in _SIDES:
        a, b = min(side, max(height // 4, 1)), min(side, max(width // 4, 1))
        for rows in (slice(0, a), slice(height - a, height)):
            for columns in (slice(0, b), slice(width - b, width)):
                changed = plain.copy()
                changed[rows, columns] += 1.0
                made.append(changed)
    return np.stack(made)


def grid_of(values: NDArray[Any]) -> TokenGrid | None:
    """Read the grid off what tokens ``(pictures, T, C)`` were for the pictures of `corners`.

    None if they do not lie along the rows of the picture: if they hold channels, or have
    already been mixed.
    """
    change = np.abs(values[1:] - values[:1]).max(axis=-1)
    most = change.max(axis=1, keepdims=True)
    # Sums of floats differ in their last digits from picture to picture.
    moved = (change > 1e-4 * most) & (most > 1e-5 * np.abs(values).max())
    found = [
        next((np.flatnonzero(row) for row in moved[place::4] if row.any()), None)
        for place in range(4)
    ]
    if any(row is None for row in found):
        return None
    count = values.shape[1]
    top_left, top_right, bottom_left, bottom_right = (row for row in found if row is not None)
    # Each corner moves a block of rows; where it moves everything, nothing can be told.
    if len(top_left) == count or len(bottom_right) == count:
        return None
    before, last = int(top_left[0]), int(bottom_right[-1])
    gaps = np.flatnonzero(np.diff(top_right) > 1)
    end = int(top_right[gaps[0]] if len(gaps) else top_right[-1])
    width = end - before + 1
    places = last - before + 1
    if width < 1 or places % width or places < 2:
        return None
    height = places // width
    rows = bottom_left - before
    # What the lower left corner moves begins a row, and reaches the last one.
    if (rows[0] % width) or rows[-1] // width != height - 1 or (height > 1 and rows[0] == 0):
        return None
    if width > 1 and (top_right[0] - before == 0):
        return None
    return TokenGrid((height, width), before)


def spread(
    layers: Sequence[Layer], turned: Collection[str], read: Callable[[str], NDArray[Any]]
) -> dict[str, TokenGrid]:
    """Give the grids of all layers of tokens, by their names.

    Once the tokens of a number are placed, those of later layers with as many lie alike.

    Parameters
    ----------
    layers : sequence of Layer
    turned : collection of str
        Layers whose tokens are on the last axis.
    read : callable
        What a layer gave for the pictures of `corners`.
    """
    wanted = candidates(layers, turned)
    known: dict[int, TokenGrid] = {}
    found: dict[str, TokenGrid] = {}
    for layer in layers:
        shape = layer.output_shape or ()
        if layer.rows != 1:
            continue
        if len(shape) == 4 and known:
            # Four axes of which one counts tokens are heads of attention or its scores.
            sides = shape[1:3]
            if any(n in known for n in sides) and all(g.grid != sides for g in known.values()):
                found[layer.name] = TokenGrid((), 0)
        if len(shape) != 3 or layer.name in turned:
            continue
        count = int(shape[1] or 0)
        if count not in known and layer.name in wanted.get(count, ()):
            grid = grid_of(read(layer.name))
            if grid is not None:
                known[count] = grid
        if count in known:
            found[layer.name] = known[count]
    return found
