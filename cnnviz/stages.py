"""The last stage of a network that still has space: what pictures are made of by default."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from cnnviz.adapter import INPUT, LOGITS, Adapter, Layer
from cnnviz.discovery import adapt
from cnnviz.errors import CnnvizError
from cnnviz.grids import extent_in_words, on_grid
from cnnviz.scores import ClassScore

__all__ = ["last_spatial", "stage_ends", "why_last"]

# Kinds whose maps are only those of another layer, moved, thinned out or copied.
_NOT_SHOWN = (
    "pool",
    "dropout",
    "flatten",
    "identity",
    "pad",
    "crop",
    "permute",
    "reshape",
    "upsampling",
)
# Kinds that do nothing at inference; a block may end in one and still end in what is before it.
_INERT = ("dropout", "identity", "droppath", "stochasticdepth")
# Layers whose gradient is asked for at once.
_AT_ONCE = 12

_lock = Lock()
_found: WeakKeyDictionary[Adapter[Any], tuple[tuple[int, ...] | None, Layer]] = WeakKeyDictionary()


def last_spatial(net: Any) -> Layer:
    """Find the layer that CAM and feature pictures take by default: the last stage of maps.

    That is the last layer that still has height and width, lies on the way to the class scores
    and is no pooling, dropout, padding or reshaping, widened to the outermost block that ends
    in it with maps of the same height and width: ``layer4`` of a ResNet, but ``features.42`` of
    a VGG16 with batch norm, whose ``features`` end in a pooling. Among tokens it is the last
    normalisation or block whose tokens in the grid the scores depend on, which the gradient
    tells: behind the last attention a class token has left the others behind. Where a network
    scores every place, as for segmentation, it is the last of the stages with most channels.

    Raises
    ------
    CnnvizError
        No layer has maps.
    """
    net = adapt(net)
    table: list[Layer] = list(net.layers())
    with _lock:
        known = _found.get(net)
    if known is not None and known[0] == net.listed_size:
        return known[1]
    layer, sure = _search(net, table)
    if sure:
        # A head that starts at zero, as in some transformers, tells nothing until it is trained.
        with _lock:
            _found[net] = net.listed_size, layer
    return layer


def stage_ends(net: Any) -> list[Layer]:
    """Find the last layer of each stage: of each height and width on the way to the scores.

    Poolings and the like are passed over, and a layer is widened to the block that ends in it,
    as in `last_spatial`, which is the last of them.

    Raises
    ------
    CnnvizError
        No layer has maps.
    """
    net = adapt(net)
    last = last_spatial(net)
    table = list(net.layers())
    ends: dict[tuple[int, ...], Layer] = {}
    for layer in table:
        fine = layer.spatial and layer.leaf and layer.leads_to_score is not False
        if fine and not _is(layer, _NOT_SHOWN) and layer.tokens == last.tokens:
            ends[layer.spatial] = layer
    found = [_widened(table, layer) for layer in ends.values()]
    kept = [layer for layer in found if layer.spatial != last.spatial]
    return [*(layer for layer in kept if table.index(layer) < table.index(last)), last]


def why_last(layer: Layer) -> str:
    """Say in words why a layer is taken by default."""
    if layer.tokens and layer.class_tokens:
        return "the last whose tokens lead to the score"
    return "the last with space"


def _search(net: Adapter[Any], table: list[Layer]) -> tuple[Layer, bool]:
    """Give the layer, and whether the scores are known to depend on it."""
    shown = [
        layer
        for layer in reversed(table)
        if layer.spatial
        and layer.leads_to_score is not False
        and not _is(layer, _NOT_SHOWN)
        and layer.leaf
    ]
    if not shown:
        raise CnnvizError(
            f"{net.name} has no layer with {extent_in_words(net)}; cnnviz.layers lists what it has"
        )
    if net.dense:
        # What comes last is the map of scores itself, or one level of a pyramid.
        widest = max(layer.channels or 0 for layer in shown)
        shown = [layer for layer in shown if layer.channels == widest]
        found = _first_that_counts(net, shown)
        return _widened(table, found or shown[0]), found is not None
    if shown[0].tokens:
        found = _last_of_tokens(net, table, shown)
        return found or shown[0], found is not None
    found = shown[0] if shown[0].leads_to_score else _first_that_counts(net, shown)
    return _widened(table, found or shown[0]), found is not None


def _last_of_tokens(net: Adapter[Any], table: list[Layer], leaves: list[Layer]) -> Layer | None:
    # The inside of a block has queries, hidden units and the like for channels.
    stream = [
        layer
        for layer in reversed(table)
        if layer.spatial and (not layer.leaf or "norm" in layer.kind.lower())
    ]
    return _first_that_counts(net, stream) or _first_that_counts(net, leaves)


def _first_that_counts(net: Adapter[Any], layers: Sequence[Layer]) -> Layer | None:
    """Give the first layer with a gradient within its grid; None if that cannot be computed."""
    size = net.listed_size
    if net.preprocessing is None or size is None or not layers:
        return None
    shape = (1, *size, net.input_shape[-1])
    noise = net.ops.asarray(np.random.default_rng(0).uniform(0, 1, shape))
    for start in range(0, len(layers), _AT_ONCE):
        some = layers[start : start + _AT_ONCE]
        wrt = [INPUT, *(layer.name for layer in some)]
        found = net.gradient(ClassScore(net.ops), noise, taps=[LOGITS], wrt=wrt)
        if not net.ops.to_numpy(found.gradients[INPUT]).any():
            # Nothing counts: a classifier that is not trained yet often starts at zero.
            return None
        for layer in some:
            slope = on_grid(net, layer, found.gradients[layer.name], size)
            if net.ops.to_numpy(slope).any():
                return layer
    return None


def _widened(table: list[Layer], leaf: Layer) -> Layer:
    """Give the outermost block that ends in a layer, with maps of the same size."""
    found = table.index(leaf)
    widest = leaf
    for i in range(found + 1, len(table)):
        block = table[i]
        if block.leaf or not _holds(block, leaf) or block.spatial != leaf.spatial:
            continue
        if block.leads_to_score is False:
            continue
        # A block finishes after its parts, so what else it holds after the leaf stands between.
        between: Iterable[Layer] = (
            part
            for part in table[found + 1 : i]
            if part.leaf
            and _holds(block, part)
            and (part.address, part.call) != (leaf.address, leaf.call)
        )
        if all(_is(part, _INERT) for part in between):
            widest = block
    return widest


def _is(layer: Layer, kinds: Sequence[str]) -> bool:
    return any(kind in layer.kind.lower() for kind in kinds)


def _holds(block: Layer, part: Layer) -> bool:
    return part.address.startswith((f"{block.address}.", f"{block.address}/"))
