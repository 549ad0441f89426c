"""Whether two networks, or what reads photos for them, resize pictures otherwise."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.comparison.probes import Probe, leaves
from cnnviz.comparison.tallies import relative_difference
from cnnviz.comparison.weight_faults import Fault
from cnnviz.images.resampling import resize
from cnnviz.preprocessing import Interpolation

__all__ = ["interpolation", "resized_input"]

Array = NDArray[Any]

_KERNELS: tuple[Interpolation, ...] = ("nearest", "bilinear", "bicubic")


def interpolation(
    given: Array, ours: Array, theirs: Array, name: str, tolerance: float
) -> tuple[Fault, float] | None:
    """Say how a map is resized to one thing and to another, as ``(fault, what is left)``.

    Parameters
    ----------
    given, ours, theirs : array
        ``(1, H, W, C)``: a map, and what becomes of it in each network.
    name : str
        The layer that gave it, or none.
    tolerance : float
    """
    if not (given.ndim == ours.ndim == 4 and ours.shape == theirs.shape):
        return None
    sides = ours.shape[1:3]
    if sides == given.shape[1:3] or given.shape[-1] != ours.shape[-1]:
        return None
    given = np.asarray(given, np.float64)
    made = {kernel: resize(given, sides, kernel, antialias=False) for kernel in _KERNELS}
    left = [{k: relative_difference(y, made[k]) for k in _KERNELS} for y in (ours, theirs)]
    fitting = [[k for k in _KERNELS if gaps[k] <= tolerance] for gaps in left]
    if not fitting[0] or not fitting[1] or fitting[0] == fitting[1]:
        return None
    first, second = fitting[0][0], fitting[1][0]
    where = f"after {name!r} " if name else ""
    told = f"{where}it interpolates by {second}, where the other does by {first}"
    return Fault("interpolation", told, f"set it to {first}"), left[0][first]


def resized_input(
    one: Probe, two: Probe, ours: Array, theirs: Array, tolerance: float
) -> tuple[Fault, float] | None:
    """See whether a layer that resizes, in one of the networks, explains what enters them.

    Parameters
    ----------
    one, two : Probe
    ours, theirs : array
        What goes into the first layer with weights of each.
    tolerance : float
    """
    for probe, wanted in ((two, ours), (one, theirs)):
        for layer in leaves(probe.net):
            told = probe.settings(layer.name)
            given = probe.inputs.get(layer.name)
            if told.get("family") != "resize" or given is None or given.ndim != 4:
                continue
            where = f"{layer.name!r} of {probe.net.name}"
            for antialias in (True, False):
                made = resize(given, wanted.shape[1:3], antialias=antialias)
                # What follows the resizing may scale it.
                left = _left(made, wanted)
                if left <= max(tolerance, 5e-3):
                    return (
                        Fault(
                            "antialias",
                            f"{where} resizes {'without' if antialias else 'with'} antialias",
                            f"set antialias={antialias} there",
                        ),
                        left,
                    )
    return None


def _left(x: Array, y: Array) -> float:
    if x.shape != y.shape:
        return np.inf
    flat, wanted = np.float64(x).ravel(), np.float64(y).ravel()
    spread = np.var(flat)
    if spread == 0:
        return np.inf
    factor = np.cov(flat, wanted, bias=True)[0, 1] / spread
    return relative_difference(wanted, factor * (flat - flat.mean()) + wanted.mean())
