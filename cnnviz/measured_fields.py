"""Receptive fields measured by gradients, where the way through a network cannot be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.adapter import INPUT, Adapter, Layer
from cnnviz.discovery import adapt
from cnnviz.errors import InvalidOption
from cnnviz.fields import ALL, Field, Places, Window
from cnnviz.pictures import picture_size

__all__ = ["measured_window", "seen_boxes"]

# Rounding is no sight: some convolutions leave traces of it where their kernel does not reach.
_NOISE = 1e-9
# So many neighbours tell a layer whose fields recur at every place, or at every second one.
_NEIGHBOURS = 5


def measured_window(
    net: Any,
    layer: str,
    size: Sequence[int] | None = None,
    *,
    pictures: int = 4,
    seed: int = 0,
) -> Field:
    """Measure which pixels the places of a layer depend on, by gradients on random pictures.

    What is seen is what passes on a gradient: the field is smaller than it could be where
    ReLUs are silent or a maximum is always taken elsewhere on all of the pictures, or where
    outer weights are zero. More pictures see more.

    Parameters
    ----------
    net : model or Adapter
        The network.
    layer : str
        With a grid.
    size : (int, int), optional
        Height and width of the pictures; by default those that the network takes. They must be
        larger than the field.
    pictures : int
        Random pictures, each of them differentiated at a few neighbouring places in the middle.
    seed : int
        Of the pictures.

    Returns
    -------
    Window, "all" or None
        As `Layer.field`. ``"all"`` if each of the places sees the picture from edge to edge.
        None if it cannot be told: a field reaches an edge, where it may be cut off, the layer
        has a single place, or what neighbours see is not the same, moved on.

    Raises
    ------
    UnknownLayer
    InvalidOption
        Nothing tells a size, or fewer than one picture is asked for.
    """
    net = adapt(net)
    if pictures < 1:
        raise InvalidOption(f"pictures must be above zero, not {pictures}")
    sides = tuple(size) if size is not None else net.listed_size or picture_size(net)
    if sides is None:
        raise InvalidOption(f"nothing tells what size of picture {net.name} takes; give size=")
    known = net.layer(layer)
    known = next((one for one in net.layers_at(*sides) if one.name == known.name), known)
    grid = known.spatial
    count = min((_NEIGHBOURS, *grid))
    if len(grid) != len(sides) or count < 2:
        return None
    corner = [(n - count) // 2 for n in grid]
    places = [tuple(c + i for c in corner) for i in range(count)]
    boxes = seen_boxes(net, known, places, sides, pictures=pictures, seed=seed)
    if None in boxes:
        return None
    axes = len(sides)
    spans = [[(box[k], box[axes + k]) for box in boxes if box] for k in range(axes)]
    if all(span == (0, n) for axis, n in zip(spans, sides, strict=True) for span in axis):
        return ALL
    if any(s == 0 or e == n for axis, n in zip(spans, sides, strict=True) for s, e in axis):
        return None
    found = [_recurring(axis, c) for axis, c in zip(spans, corner, strict=True)]
    whole = [axis for axis in found if axis is not None]
    return Window.of(whole) if len(whole) == axes else None


def seen_boxes(
    net: Adapter[Any],
    layer: Layer,
    places: Sequence[Sequence[int]],
    size: Sequence[int],
    *,
    pictures: int = 4,
    seed: int = 0,
) -> list[tuple[int, ...] | None]:
    """Give the box of pixels on which each place of a layer was seen to depend.

    Parameters
    ----------
    net : Adapter
    layer : Layer
        As it is listed at this size, with a grid.
    places : sequence of (int, int)
    size : (int, int)
        Of the pictures, whose pixels are drawn evenly from [0, 1].
    pictures : int
        How many; what is seen in any of them counts.
    seed : int

    Returns
    -------
    list of tuple of int or None
        First pixels, then those after the last, as `Layer.patch`. None where nothing is seen.
    """
    rng = np.random.default_rng(seed)
    shape = tuple(n or 1 for n in (layer.output_shape or ())[1:])
    found: list[tuple[int, ...] | None] = []
    batch = net.ops.asarray(rng.uniform(0, 1, (pictures, *size, net.input_shape[-1])))
    score = _Weighted(net, layer.name)
    grid = layer.grid if layer.grid is not None else shape[:-1]
    for place in places:
        weights = np.zeros((1, *shape))
        at: tuple[int, ...] = tuple(place)
        if len(shape) != len(grid) + 1:
            at = (layer.class_tokens + int(np.ravel_multi_index(at, grid)),)
        # Equal weights would cancel what a normalisation over channels has left.
        weights[(0, *at)] = rng.uniform(0.5, 1.5, shape[-1])
        given = net.gradient(
            score, batch, taps=[layer.name], score_args=(net.ops.asarray(weights),)
        ).gradients[INPUT]
        found.append(_box(net.ops.to_numpy(given)))
    return found


class _Weighted:
    """A weighted sum of all of a tap; the same at every place, so that it is traced once."""

    def __init__(self, net: Adapter[Any], tap: str) -> None:
        self._net, self._tap = net, tap

    def __call__(self, activations: Mapping[str, Any], weights: Any) -> Any:
        value = activations[self._tap]
        return self._net.ops.sum(value * weights, axis=tuple(range(1, len(value.shape))))


def _box(slope: NDArray[Any]) -> tuple[int, ...] | None:
    strength = np.abs(slope).max(axis=(0, -1))
    seen = np.argwhere(strength > _NOISE * strength.max())
    if not len(seen):
        return None
    return (*(int(n) for n in seen.min(0)), *(int(n) + 1 for n in seen.max(0)))


def _recurring(spans: Sequence[tuple[int, int]], start: int) -> Places | None:
    """Find how the fields of neighbours, the first of them place `start`, go on."""
    for period in range(1, len(spans) // 2 + 1):
        advance = spans[period][0] - spans[0][0]
        later = zip(spans, spans[period:], strict=False)
        if all((b[0] - a[0], b[1] - a[1]) == (advance, advance) for a, b in later):
            laid = Places(tuple(spans[:period]), advance)
            return Places(tuple(laid[place - start] for place in range(period)), advance)
    return None
