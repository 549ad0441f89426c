"""In which order a map was flattened before a dense layer."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import takewhile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.comparison.pairs import Pair
from cnnviz.comparison.probes import Probe, same_numbers

__all__ = ["IN_PLACE", "channels_first_order", "flattened_map", "turned_pairs", "turned_rows"]

Array = NDArray[Any]

IN_PLACE = frozenset({"batch norm", "activation", "dropout", "identity"})
"""Families of layers that leave each number of a row where it is."""


def flattened_map(probe: Probe, name: str) -> tuple[tuple[int, int, int], str] | None:
    """Say which map goes into a layer as one row, and in which order.

    Parameters
    ----------
    probe : Probe
    name : str
        A dense layer.

    Returns
    -------
    ((int, int, int), str) or None
        Height, width and channels, and ``"channels last"`` or ``"channels first"``; None if
        what goes in is no flattened map.
    """
    row = probe.inputs.get(name)
    if row is None or row.ndim != 2:
        return None
    before = _before(probe, name)
    for value in before.values():
        if value.ndim != 4 or value[0].size != row.shape[1] or value[0, ..., 0].size == 1:
            continue
        # An activation between the two may be no layer.
        for given in (value, np.maximum(value, 0)):
            rows = {
                order: flat.reshape(1, -1)
                for order, flat in (("channels last", given), ("channels first", _turned(given)))
            }
            fitting = [order for order, flat in rows.items() if same_numbers(flat, row)]
            if fitting:
                # A map that is the same everywhere does not tell.
                return _shape(value), fitting[0] if len(fitting) == 1 else _usual(probe)
    for giver in reversed(before):
        value = before[giver]
        if value.shape != row.shape or probe.family(giver) not in IN_PLACE:
            continue
        if any(same_numbers(given, row) for given in (value, np.maximum(value, 0))):
            return flattened_map(probe, giver)
    return None


def turned_rows(one: Probe, two: Probe, name: str, other: str) -> NDArray[np.intp] | None:
    """Give where each number of a map, as a second network flattens it, is in the first's row.

    None if what goes into the two layers is no flattened map, or both flatten it alike. Where
    the map of a network is no output of a layer, it is taken to be as large as the other's, and
    flattened as its framework does.
    """
    row, its = one.inputs.get(name), two.inputs.get(other)
    if row is None or its is None or row.ndim != 2 or row.shape != its.shape:
        return None
    ours, theirs = flattened_map(one, name), flattened_map(two, other)
    if ours is None and theirs is None:
        sizes = _guessed(one, name), _guessed(two, other)
        if sizes[0] is None or sizes[0] != sizes[1]:
            return None
        ours = sizes[0], _usual(one)
    if ours is None and theirs is not None:
        ours = theirs[0], _usual(one)
    if theirs is None and ours is not None:
        theirs = ours[0], _usual(two)
    if ours is None or theirs is None or ours[0] != theirs[0] or ours[1] == theirs[1]:
        return None
    index = channels_first_order(ours[0])
    return index if ours[1] == "channels first" else np.argsort(index)


def turned_pairs(one: Probe, two: Probe, pairs: Iterable[Pair]) -> dict[str, NDArray[np.intp]]:
    """Give `turned_rows` of each pair that has them, by its name."""
    found = {}
    for pair in pairs:
        if pair.family == "dense" or pair.family in IN_PLACE:
            rows = turned_rows(one, two, pair.main, pair.other_main)
            if rows is not None:
                found[pair.name] = rows
    return found


def _guessed(probe: Probe, name: str) -> tuple[int, int, int] | None:
    """Give the map of which a row is, if it came out of no layer: the last map, but smaller."""
    row, before = probe.inputs[name], _before(probe, name)
    last = [value for value in before.values() if value.ndim == 4]
    keeping = IN_PLACE | {"flatten"}
    made = [x for x, y in before.items() if y.shape == row.shape and probe.family(x) not in keeping]
    # What a dense layer gives is no map.
    if not last or made:
        return None
    height, width, channels = _shape(last[-1])
    places, left = divmod(row.shape[1], channels)
    high = round((places * height / width) ** 0.5)
    if left or places < 2 or not high or places % high:
        return None
    return high, places // high, channels


def _before(probe: Probe, name: str) -> dict[str, Array]:
    return dict(takewhile(lambda item: item[0] != name, probe.outputs.items()))


def channels_first_order(shape: tuple[int, int, int]) -> NDArray[np.intp]:
    """Give where each number of a row in channels-last order is in channels-first order."""
    height, width, channels = shape
    index = np.arange(height * width * channels).reshape(channels, height, width)
    return np.asarray(np.moveaxis(index, 0, -1).reshape(-1), np.intp)


def _turned(value: Array) -> Array:
    return np.moveaxis(value, -1, 1)


def _shape(value: Array) -> tuple[int, int, int]:
    height, width, channels = value.shape[1:]
    return height, width, channels


def _usual(probe: Probe) -> str:
    return "channels first" if probe.net.framework == "torch" else "channels last"
