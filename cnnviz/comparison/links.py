"""What may be wrong between two layers: in the picture, an activation, an order, a skip."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.comparison.probes import Probe
from cnnviz.comparison.reference import ACTIVATIONS, activate
from cnnviz.comparison.settings import in_words
from cnnviz.comparison.tallies import relative_difference
from cnnviz.comparison.weight_faults import Fault

__all__ = ["between", "first_input", "forms"]

Array = NDArray[Any]

_SLOPES = (0.01, 0.1, 0.2, 0.3)


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


def between(
    one: Probe,
    two: Probe,
    ours: Array,
    theirs: Array,
    before: Sequence[str],
    lonely: tuple[Sequence[str], Sequence[str]],
    tolerance: float,
) -> tuple[Fault, float] | None:
    """Say what happens between two layers in one network and not in the other.

    Parameters
    ----------
    one, two : Probe
    ours, theirs : array
        What goes into the same layer of both.
    before : sequence of str
        Layers of the first network that came before it, the last first; they agree.
    lonely : (sequence of str, sequence of str)
        Layers of each network without a counterpart.
    tolerance : float
    """
    found = _dropped(ours, theirs)
    if found is not None:
        return found, 0.0
    if ours.shape == theirs.shape:
        if ours.ndim == 4 and ours.shape[1] == ours.shape[2]:
            apart = relative_difference(ours, np.swapaxes(theirs, 1, 2))
            if apart <= tolerance:
                told = "height and width are exchanged before it"
                return Fault("axes", told, "transpose the map back"), apart
        for name in before:
            given = one.outputs[name]
            if given.shape == ours.shape:
                found = forms(given, ours, theirs, name, tolerance)
                if found is not None:
                    return found, 0.0
        for probe, names, sign in ((one, lonely[0], 1), (two, lonely[1], -1)):
            for name in names:
                change = _change(probe, name, ours.shape)
                if change is None:
                    continue
                apart = relative_difference(ours, theirs + sign * change)
                if apart <= tolerance:
                    return _lonely_fault(probe, name, sign), apart
        for name in before:
            given = one.outputs[name]
            if given.shape != ours.shape:
                continue
            for sign, told in ((-1, "is not added"), (1, "is added")):
                apart = relative_difference(ours, theirs - sign * given)
                if apart <= tolerance:
                    what = f"the output of {name!r} {told} before it"
                    return Fault("skip connection", what, "make the sum the same"), apart
    if ours.size == theirs.size and np.allclose(
        np.sort(ours, axis=None), np.sort(theirs, axis=None), rtol=1e-3, atol=1e-6
    ):
        told = "the same numbers come in another order"
        return Fault("flatten order", told, "flatten in the order of the other network"), 0.0
    return None


def _change(probe: Probe, name: str, shape: tuple[int, ...]) -> Array | None:
    """Give what an activation adds to what goes into it."""
    if probe.family(name) != "activation" or name not in probe.inputs:
        return None
    change = probe.outputs[name] - probe.inputs[name]
    return change if change.shape == shape else None


def _lonely_fault(probe: Probe, name: str, sign: int) -> Fault:
    told = in_words(probe.settings(name).get("activation", ("activation",)))
    if sign > 0:
        what = f"the {told} that is {name!r} in the other is missing"
        return Fault("missing activation", what, f"add a {told}")
    what = f"its {told} {name!r} is not in the other"
    return Fault("an activation too many", what, "take it out")


def forms(given: Array, ours: Array, theirs: Array, name: str, tolerance: float) -> Fault | None:
    """Say which activations give one thing and another of the same numbers, after a layer.

    None unless both are found, and differ.
    """
    first = [a for a in _forms() if relative_difference(ours, activate(given, a)) <= tolerance]
    second = [a for a in _forms() if relative_difference(theirs, activate(given, a)) <= tolerance]
    if not first or not second or first[0] == second[0]:
        return None
    a, b = first[0], second[0]
    gelus = a[0].startswith("gelu") and b[0].startswith("gelu")
    cause = f"{a[0]} slope" if a[0] == b[0] else "gelu form" if gelus else "activation"
    if "linear" in (a[0], b[0]):
        cause = "missing activation" if b[0] == "linear" else "an activation too many"
    where = f"after {name!r} " if name else ""
    return Fault(
        cause,
        f"{where}it has {in_words(b)}, where the other has {in_words(a)}",
        f"make it {in_words(a)}",
    )


def _forms() -> Iterator[tuple[Any, ...]]:
    for name in ACTIVATIONS:
        if name == "leaky relu":
            yield from (("leaky relu", slope) for slope in _SLOPES)
        elif name == "elu":
            yield ("elu", 1.0)
        elif name not in ("relu to", "softmax", "log softmax"):
            yield (name,)


def _dropped(ours: Array, theirs: Array) -> Fault | None:
    """See whether numbers were dropped at random and the others scaled up."""
    if ours.shape != theirs.shape:
        return None
    lost = (theirs == 0) & (ours != 0)
    kept = (theirs != 0) & (ours != 0)
    if not lost.mean() > 0.02 or not kept.any():
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
