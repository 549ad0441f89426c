"""How many pictures run well at once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.adapter import LOGITS, OUTPUT, Adapter, Layer
from cnnviz.errors import UnsupportedModel

__all__ = ["at_most", "chunk_for", "evenly", "layers_until", "numbers", "spans"]

# What one activation of a chunk may take on a processor: larger ones go back to the system and
# come page by page again; what is compiled keeps its memory.
_LARGEST = {"eager": 32 * 2**20, "compiled": 64 * 2**20}
# Thousands of small pictures: up to here more at once cost less each.
_SMALL = {"eager": 8 * 2**20, "compiled": 16 * 2**20}
# What all of them may take elsewhere.
_TOTAL = 2 * 2**30
_SIZES = (64, 32, 16, 8, 4, 2, 1)
# What begins in the middle of a network is small, and the call costs more than its work.
_FURTHER_SIZES = (512, 256, 128, *_SIZES)


def layers_until(net: Adapter[Any], taps: Iterable[str]) -> list[Layer]:
    """Give the layers that hold no others, up to the deepest of some taps.

    A network that hides its layers, as TorchScript does, has none here.
    """
    try:
        layers: Sequence[Layer] = net.layers()
    except UnsupportedModel:
        return []
    names = {layer.name for layer in layers}
    waiting = set(taps)
    found = []
    for layer in layers:
        if layer.leaf and layer.output_shape:
            found.append(layer)
        waiting.discard(layer.name)
        if not waiting & names and not waiting & {LOGITS, OUTPUT}:
            break
    return found


def numbers(layer: Layer) -> int:
    """Count the numbers that a layer gives for one picture."""
    return math.prod(side or 1 for side in layer.output_shape or ()) * layer.rows


def chunk_for(
    net: Adapter[Any],
    taps: Iterable[str],
    size: Sequence[int],
    begins: Layer | None = None,
    many: bool = False,
) -> int:
    """Say how many pictures of a height and width are run at once, from their activations.

    Parameters
    ----------
    net : Adapter
    taps : iterable of str
        Up to where.
    size : (int, int)
    begins : Layer, optional
        What is run begins at this layer.
    many : bool
        Whether thousands are to come, of which small ones run in larger chunks.
    """
    layers: Sequence[Layer] = layers_until(net, taps)
    sizes: Sequence[int] = _SIZES
    if begins is not None:
        order = {layer.name: i for i, layer in enumerate(net.layers())}
        late = [layer for layer in layers if order[layer.name] > order[begins.name]]
        layers, sizes = [begins, *late], _FURTHER_SIZES
    counts = [numbers(layer) for layer in layers]
    if not counts:
        return 8
    # In float32 or wider.
    each = 4 * math.prod(size) / max(1, math.prod(net.listed_size or size))
    if net.device.startswith("cpu"):
        kind, most = "compiled" if net.compiled else "eager", each * max(counts)
        chunk = at_most(_LARGEST[kind] / most, sizes)
        return max(chunk, at_most(_SMALL[kind] / most, _FURTHER_SIZES)) if many else chunk
    return at_most(_TOTAL / (each * sum(counts)), sizes)


def at_most(limit: float, sizes: Sequence[int]) -> int:
    """Give the largest of some sizes that a limit allows, or the smallest of all."""
    return next((size for size in sizes if size <= limit), sizes[-1])


def evenly(count: int, most: int) -> int:
    """Say how many go at once so that chunks of at most so many are as even as can be."""
    return math.ceil(count / math.ceil(count / most))


def spans(total: int, batch: int, full: bool) -> Iterator[tuple[NDArray[np.intp], int]]:
    """Count to a total in chunks.

    Parameters
    ----------
    total, batch : int
    full : bool
        Whether the last chunk is filled up, where another size would be traced anew.

    Yields
    ------
    array of int, int
        Some of the numbers from 0 on, the last perhaps again and again; how many are meant.
    """
    for start in range(0, total, batch):
        some = np.arange(start, min(start + batch, total))
        count = len(some)
        if full:
            some = np.pad(some, (0, batch - count), "edge")
        yield some, count
