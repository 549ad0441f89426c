"""Where maps are taken by default if what is explained lies inside the network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnviz.adapter import Adapter, Layer, Ops
from cnnviz.errors import InvalidOption
from cnnviz.grids import extent_in_words
from cnnviz.stages import _NOT_SHOWN, _holds, _is, stage_ends

__all__ = ["last_before", "stage_ends_before"]

# Layers whose slope is asked for at once.
_AT_ONCE = 12


@dataclass(frozen=True)
class _Energy:
    """The squared length of what a layer gives."""

    ops: Ops[Any]
    tap: str

    def __call__(self, activations: Mapping[str, Any]) -> Any:
        x = activations[self.tap]
        return self.ops.sum(x * x, axis=tuple(range(1, len(x.shape))))


def last_before(net: Adapter[Any], explained: Layer, sides: tuple[int, ...]) -> Layer:
    """Find the last layer with space that lies on the way to another, and not within it.

    Of a sequence of blocks, such as a stage, it is looked for before the last of them.
    Whether the one depends on the other is asked of noise.

    Raises
    ------
    InvalidOption
        There is none.
    """
    table = list(net.layers())
    end = next(i for i, layer in enumerate(table) if layer.name == explained.name)
    # A block finishes after its parts, so what ends a sequence stands right before it.
    while "sequential" in table[end].kind.lower() and _is_block_of(table[end - 1], table[end]):
        end -= 1
    before = [one for one in reversed(table[:end]) if one.spatial and not _is(one, _NOT_SHOWN)]
    outside = [layer for layer in before if not _holds(table[end], layer)] or before
    shape = (1, *sides, net.input_shape[-1])
    noise = net.ops.asarray(np.random.default_rng(0).uniform(0, 1, shape))
    for start in range(0, len(outside), _AT_ONCE):
        some = [layer.name for layer in outside[start : start + _AT_ONCE]]
        score = _Energy(net.ops, explained.name)
        found = net.gradient(score, noise, taps=[explained.name], wrt=some).gradients
        for layer in outside[start : start + _AT_ONCE]:
            if net.ops.to_numpy(found[layer.name]).any():
                return layer
    raise InvalidOption(
        f"no layer with {extent_in_words(net)} leads to {explained.name!r}, which is what is"
        " explained; name a layer, or take a method at the picture, such as 'saliency'"
    )


def stage_ends_before(net: Adapter[Any], last: Layer) -> list[Layer]:
    """Find the last layers of the stages before a layer, which is the last of them."""
    order = [layer.name for layer in net.layers()]
    ends = [end for end in stage_ends(net) if order.index(end.name) < order.index(last.name)]
    return [*(end for end in ends if end.spatial != last.spatial), last]


def _is_block_of(part: Layer, block: Layer) -> bool:
    return not part.leaf and _holds(block, part) and part.output_shape == block.output_shape
