"""What goes into a layer of one network as that of another takes it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.comparison.flattening import channels_first_order, flattened_map, turned_rows
from cnnviz.comparison.pairs import Pair
from cnnviz.comparison.probes import Probe

__all__ = ["fitted_input", "pads_between", "turned_inputs"]

Array = NDArray[Any]

# What may add places around a map; another layer gives more of what it gets more of.
_PADDING = {"convolution", "transposed convolution", "max pool", "average pool"}
# Of two maps of other sides, how much more one may hold, and how far they may be apart within.
_WIDEST = 16
_ALIKE = 1e-3


def fitted_input(one: Probe, two: Probe, pair: Pair) -> Array | None:
    """Give what goes into a layer of the first network as the second's takes it.

    That is in its order where a map was flattened, and without or with the zeros around a map
    that one network adds before the layer and the other within it. None if neither fits.
    """
    x, y = one.inputs.get(pair.layers[0]), two.inputs.get(pair.others[0])
    if x is None or y is None:
        return None
    if pair.family == "dense":
        index = turned_rows(one, two, pair.main, pair.other_main)
        if index is not None:
            x = x[:, index]
    if x.shape == y.shape:
        return x
    squeezed = [tuple(n for n in a.shape[1:] if n != 1) for a in (x, y)]
    if squeezed[0] == squeezed[1]:
        return x.reshape(y.shape)
    if pair.family in _PADDING and x.ndim == y.ndim == 4 and x.shape[-1] == y.shape[-1]:
        return _shifted(x, y)
    return None


def pads_between(one: Probe, two: Probe, pair: Pair) -> tuple[Any, Any]:
    """Give what no layer, but a function before it, adds around the map in each network.

    A pair (before, after) for each axis, of the first network and of the second.
    """
    none = ((0, 0), (0, 0))
    x, y = one.inputs.get(pair.layers[0]), two.inputs.get(pair.others[0])
    if x is None or y is None or x.ndim != 4 or y.ndim != 4 or x.shape == y.shape:
        return none, none
    found = _offset(x, y)
    if found is None:
        return none, none
    grown, first = found
    ours = tuple((f, -n - f) if n < 0 else (0, 0) for n, f in zip(grown, first, strict=True))
    theirs = tuple((f, n - f) if n > 0 else (0, 0) for n, f in zip(grown, first, strict=True))
    return ours, theirs


def turned_inputs(one: Probe, two: Probe, pair: Pair, x: Array) -> Iterator[Array]:
    """Give a row in the orders in which a map may have been flattened that no layer gives.

    Parameters
    ----------
    one, two : Probe
    pair : Pair
    x : array
        What `fitted_input` gives.
    """
    if pair.family != "dense" or x.ndim != 2:
        return
    for probe, name in ((one, pair.main), (two, pair.other_main)):
        found = flattened_map(probe, name)
        if found is not None:
            index = channels_first_order(found[0])
            yield x[:, index]
            yield x[:, np.argsort(index)]


def _shifted(x: Array, y: Array) -> Array | None:
    """Cut or pad a map to the size of another, where it fits that best."""
    found = _offset(x, y)
    return None if found is None else _moved(x, y, *found)


def _offset(x: Array, y: Array) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Say by how much a map is smaller than another, and where in that it lies.

    None if neither what both hold is the same, nor what one holds beyond is zeros.
    """
    grown = y.shape[1] - x.shape[1], y.shape[2] - x.shape[2]
    if x.shape[-1] != y.shape[-1] or max(map(abs, grown)) > _WIDEST:
        return None
    places = [(i, j) for i in range(abs(grown[0]) + 1) for j in range(abs(grown[1]) + 1)]
    inner = {at: _shared(x, y, grown, at) for at in places}
    gaps = {at: float(np.abs(a - b).max(initial=0)) for at, (a, b) in inner.items()}
    best = min(places, key=lambda at: gaps[at])
    if gaps[best] <= _ALIKE * float(np.abs(inner[best][0]).max(initial=0)):
        return grown, best
    # After a fault they hold other numbers, but zeros around a map are seen nonetheless.
    framed = [at for at in places if _framed(x, y, grown, at)]
    return (grown, min(framed, key=lambda at: gaps[at])) if framed else None


def _shared(
    x: Array, y: Array, grown: tuple[int, int], first: tuple[int, int]
) -> tuple[Array, Array]:
    """Cut from each of two maps what both hold."""
    sides = []
    for value, sign in ((x, -1), (y, 1)):
        for axis, (n, before) in enumerate(zip(grown, first, strict=True), 1):
            if sign * n > 0:
                kept = value.shape[axis] - abs(n)
                value = np.take(value, range(before, before + kept), axis)
        sides.append(value)
    return sides[0], sides[1]


def _framed(x: Array, y: Array, grown: tuple[int, int], first: tuple[int, int]) -> bool:
    """Say whether the larger of two maps is zero wherever the smaller does not reach."""
    for axis, (n, before) in enumerate(zip(grown, first, strict=True), 1):
        larger = np.moveaxis(y if n > 0 else x, axis, 0)
        after = len(larger) - (abs(n) - before)
        if larger[:before].any() or larger[after:].any():
            return False
    return True


def _moved(x: Array, y: Array, grown: tuple[int, int], first: tuple[int, int]) -> Array:
    for axis, (n, before) in enumerate(zip(grown, first, strict=True), 1):
        if n >= 0:
            pads = [(0, 0)] * 4
            pads[axis] = (before, n - before)
            x = np.pad(x, pads)
        else:
            x = np.take(x, range(before, before + y.shape[axis]), axis)
    return x
