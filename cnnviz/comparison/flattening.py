"""In which order a map was flattened before a dense layer."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.comparison.probes import Probe, same_numbers

__all__ = ["channels_first_order", "flattened_map", "turned_rows"]

Array = NDArray[Any]


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
    for before, value in probe.outputs.items():
        if before == name:
            break
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
    return None


def turned_rows(one: Probe, two: Probe, name: str, other: str) -> NDArray[np.intp] | None:
    """Give where each number of a map, as a second network flattens it, is in the first's row.

    None if what goes into the two layers is no flattened map, or both flatten it alike.
    """
    ours, theirs = flattened_map(one, name), flattened_map(two, other)
    if ours is None or theirs is None or ours[0] != theirs[0] or ours[1] == theirs[1]:
        return None
    index = channels_first_order(ours[0])
    return index if ours[1] == "channels first" else np.argsort(index)


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
