"""What may be wrong between two layers: in the picture, an activation, an order, a skip."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.comparison.activations import forms, forms_within
from cnnviz.comparison.probes import Probe
from cnnviz.comparison.resizing import interpolation
from cnnviz.comparison.settings import in_words
from cnnviz.comparison.tallies import relative_difference
from cnnviz.comparison.weight_faults import Fault

__all__ = ["Before", "between", "first_input", "lonely_layer", "scale_between"]

Array = NDArray[Any]


def first_input(ours: Array, theirs: Array, tolerance: float) -> tuple[Fault, float] | None:
    """Say how the numbers that enter two networks differ, as ``(fault, what is left)``.

    Parameters
    ----------
    ours, theirs : array
        ``(1, H, W, C)``, what goes into the first layer of each.
    tolerance : float
        Up to which a repair has succeeded.
    """
    if ours.shape != theirs.shape:
        return None
    turned = theirs[..., ::-1]
    for order, given in (("", theirs), ("BGR", turned)):
        if order and ours.shape[-1] != 3:
            continue
        apart = relative_difference(ours, given)
        if order and apart <= tolerance:
            told = "it takes blue, green, red where the other takes red, green, blue"
            return Fault(
                "BGR", told, "turn the channels, or set order= of its preprocessing"
            ), apart
        factor, shift, left = _fit(given, ours)
        if left <= tolerance:
            return _affine_fault(order, factor, shift), left
    return None


@dataclass(frozen=True)
class Before:
    """A pair of layers that agree, as something that later ones take.

    Attributes
    ----------
    name : str
        In the first network.
    value : array
        What it gives.
    raw : array
        The same without what a function does to it.
    """

    name: str
    value: Array
    raw: Array


def between(
    one: Probe,
    two: Probe,
    ours: Array,
    theirs: Array,
    before: Sequence[Before],
    lonely: tuple[Sequence[str], Sequence[str]],
    tolerance: float,
) -> tuple[Fault, float, bool] | None:
    """Say what happens between two layers in one network and not in the other.

    Parameters
    ----------
    one, two : Probe
    ours, theirs : array
        What goes into the same layer of both.
    before : sequence of Before
        What came before it, the last first.
    lonely : (sequence of str, sequence of str)
        Layers of each network without a counterpart.
    tolerance : float

    Returns
    -------
    (Fault, float, bool) or None
        The last says whether it is proved.
    """
    for found in _explained(one, two, ours, theirs, before, lonely, tolerance):
        if found is not None:
            return (*found, True)
    if ours.size == theirs.size and np.allclose(
        np.sort(ours, axis=None), np.sort(theirs, axis=None), rtol=1e-3, atol=1e-6
    ):
        told = "the same numbers come in another order, which is that of no flattened map"
        return Fault("order", told, "look at what is turned or shuffled before it"), math.nan, False
    return None


def _explained(
    one: Probe,
    two: Probe,
    ours: Array,
    theirs: Array,
    before: Sequence[Before],
    lonely: tuple[Sequence[str], Sequence[str]],
    tolerance: float,
) -> Iterator[tuple[Fault, float] | None]:
    yield lonely_layer(one, two, ours, theirs, lonely, tolerance)
    if ours.shape != theirs.shape:
        return
    if ours.ndim == 4 and ours.shape[1] == ours.shape[2]:
        told = "height and width are exchanged before it"
        fault = Fault("axes", told, "transpose the map back")
        yield _if_same(fault, ours, np.swapaxes(theirs, 1, 2), tolerance)
    for past in before:
        for given in (past.value, past.raw):
            if given.shape == ours.shape:
                yield _exactly(forms(given, ours, theirs, past.name, tolerance))
    yield from _activation_changes(one, two, ours, theirs, lonely, tolerance)
    for past in before:
        yield forms_within(past.raw, ours, theirs, past.name, tolerance)
    for given in (theirs, ours):
        # What follows may be a pooling by maximum, which lets most activations through.
        yield _exactly(forms(given, ours, theirs, "", tolerance))
    yield _scaled(ours, theirs, tolerance)
    for past in before:
        if past.value.shape == ours.shape:
            for sign, told in ((-1, "is not added"), (1, "is added")):
                what = f"the output of {past.name!r} {told} before it"
                fault = Fault("skip connection", what, "make the sum the same")
                yield _if_same(fault, ours, theirs - sign * past.value, tolerance)
    yield _exactly(_dropped(ours, theirs))
    for past in before:
        yield interpolation(past.value, ours, theirs, past.name, tolerance)
    yield _flattened(ours, theirs, (one, two), tolerance)


def _exactly(fault: Fault | None) -> tuple[Fault, float] | None:
    return None if fault is None else (fault, 0.0)


def _if_same(
    fault: Fault, ours: Array, repaired: Array, tolerance: float
) -> tuple[Fault, float] | None:
    apart = relative_difference(ours, repaired)
    return (fault, apart) if apart <= tolerance else None


def lonely_layer(
    one: Probe,
    two: Probe,
    ours: Array,
    theirs: Array,
    lonely: tuple[Sequence[str], Sequence[str]],
    tolerance: float,
) -> tuple[Fault, float] | None:
    """See whether a layer of one network alone makes the whole difference.

    Parameters
    ----------
    one, two : Probe
    ours, theirs : array
        What goes into the same layer of both.
    lonely : (sequence of str, sequence of str)
        Layers of each network without a counterpart.
    tolerance : float
    """
    for probe, names in ((one, lonely[0]), (two, lonely[1])):
        for name in names:
            if name not in probe.inputs:
                continue
            ends = probe.outputs[name], probe.inputs[name]
            # With the layer, and without.
            first, second = ends if probe is one else ends[::-1]
            if first.shape != ours.shape or second.shape != theirs.shape:
                continue
            apart = max(relative_difference(ours, first), relative_difference(theirs, second))
            if apart <= tolerance:
                return _lonely_fault(probe, name, probe is one), apart
    return None


def _activation_changes(
    one: Probe,
    two: Probe,
    ours: Array,
    theirs: Array,
    lonely: tuple[Sequence[str], Sequence[str]],
    tolerance: float,
) -> Iterator[tuple[Fault, float] | None]:
    """See whether an activation of one network alone changes a part of a sum."""
    for probe, names, sign in ((one, lonely[0], 1), (two, lonely[1], -1)):
        for name in names:
            if probe.family(name) != "activation" or name not in probe.inputs:
                continue
            change = probe.outputs[name] - probe.inputs[name]
            if change.shape == ours.shape:
                fault = _lonely_fault(probe, name, sign > 0)
                yield _if_same(fault, ours, theirs + sign * change, tolerance)


def _lonely_fault(probe: Probe, name: str, missing: bool) -> Fault:
    told = probe.settings(name)
    family = str(told.get("family", ""))
    if family == "activation":
        words = in_words(told.get("activation", (family,)))
        if missing:
            what = f"the {words} that is {name!r} in the other is missing"
            return Fault("missing activation", what, f"add a {words}")
        return Fault(
            "an activation too many", f"its {words} {name!r} is not in the other", "take it out"
        )
    words = f"{name!r} ({family})" if family else repr(name)
    if missing:
        return Fault("missing layer", f"the other has {words} before it", "add such a layer")
    return Fault("a layer too many", f"its {words} is not in the other", "take it out")


def _scaled(ours: Array, theirs: Array, tolerance: float) -> tuple[Fault, float] | None:
    factor = scale_between(ours, theirs, tolerance)
    if factor is None:
        return None
    told = f"what goes into it is {factor:.4g} times that of the other"
    left = relative_difference(ours, theirs / factor)
    return Fault("scale", told, f"multiply by {1 / factor:.4g} before it"), left


def scale_between(ours: Array, theirs: Array, tolerance: float) -> float | None:
    """Give the factor by which all numbers of one array are those of another, if there is one."""
    one, two = np.float64(ours).ravel(), np.float64(theirs).ravel()
    square = float(one @ one)
    if one.size != two.size or one.size < 2 or not np.isfinite(square) or not square:
        return None
    factor = float(one @ two) / square
    if not np.isfinite(factor) or abs(factor) < 1e-6 or abs(factor - 1) <= tolerance:
        return None
    return factor if relative_difference(one, two / factor) <= tolerance else None


def _flattened(
    ours: Array, theirs: Array, probes: Sequence[Probe], tolerance: float
) -> tuple[Fault, float] | None:
    """See whether a map was flattened by its axes in another order."""
    if ours.ndim != 2 or ours.shape != theirs.shape:
        return None
    shapes = {
        value.shape[1:]
        for probe in probes
        for value in probe.outputs.values()
        if value.ndim == 4 and value[0].size == ours.shape[1]
    }
    fault = Fault(
        "flatten order",
        "the map is flattened by its axes in another order",
        "flatten in the order of the other network",
    )
    for shape in sorted(shapes):
        orders = [(0, *axes) for axes in permutations((1, 2, 3))]
        for made, wanted in product(orders, orders):
            turned = theirs.reshape(-1, *(shape[axis - 1] for axis in made[1:]))
            row = turned.transpose(np.argsort(made)).transpose(wanted).reshape(ours.shape)
            found = _if_same(fault, ours, row, tolerance)
            if found is not None:
                return found
    return None


def _dropped(ours: Array, theirs: Array) -> Fault | None:
    """See whether numbers were dropped at random and the others scaled up."""
    if ours.shape != theirs.shape:
        return None
    lost = (theirs == 0) & (ours != 0)
    kept = (theirs != 0) & (ours != 0)
    if not lost.mean() > 0.02 or not kept.any() or np.array_equal(lost, ours < 0):
        return None
    ratio = theirs[kept] / ours[kept]
    if np.ptp(ratio) > 1e-3 * abs(ratio.mean()) or ratio.mean() < 1.02:
        return None
    return Fault(
        "train/eval",
        f"a dropout is active before it: {lost.mean():.0%} are zero and the rest times"
        f" {ratio.mean():.3g}",
        "run it as in evaluation: model.eval(), training=False",
    )


def _fit(x: Array, y: Array) -> tuple[Array, Array, float]:
    """Fit ``y = factor * x + shift`` a channel; give what is left too."""
    flat = np.float64(x).reshape(-1, x.shape[-1])
    wanted = np.float64(y).reshape(-1, y.shape[-1])
    centre, aim = flat.mean(0), wanted.mean(0)
    spread = ((flat - centre) ** 2).sum(0)
    # Of a channel that is the same everywhere only the shift can be told.
    products = ((flat - centre) * (wanted - aim)).sum(0)
    factor = np.divide(products, spread, out=np.ones_like(spread), where=spread > 0)
    shift = aim - factor * centre
    return factor, shift, relative_difference(wanted, flat * factor + shift)


def _affine_fault(order: str, factor: Array, shift: Array) -> Fault:
    turned = " and takes blue, green, red" if order else ""
    plain = np.ptp(factor) <= 1e-3 * np.abs(factor).max() and np.abs(shift).max() <= 1e-3
    if plain:
        told = f"it gets pictures {1 / factor.mean():.4g} times as bright{turned}"
        advice = f"multiply its pictures by {factor.mean():.4g} (scale= of the preprocessing)"
        return Fault("BGR and scale" if order else "scale", told, advice)
    factors, shifts = (", ".join(f"{v:.4g}" for v in values) for values in (factor, shift))
    told = f"its pictures are normalised otherwise{turned}"
    advice = f"multiply its input by ({factors}) and add ({shifts})"
    return Fault("BGR and normalisation" if order else "normalisation", told, advice)
