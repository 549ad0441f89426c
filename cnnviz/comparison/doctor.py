"""The layer at which two networks part, and why: each guess is tried before it is told."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cnnviz.comparison.activations import forms
from cnnviz.comparison.alignment import fitted_input, turned_inputs
from cnnviz.comparison.links import Before, between, first_input, lonely_layer, scale_between
from cnnviz.comparison.pairs import Matching, Pair
from cnnviz.comparison.probes import Probe, leaves
from cnnviz.comparison.reference import computed
from cnnviz.comparison.repairs import Repair, repairs
from cnnviz.comparison.resizing import interpolation, resized_input
from cnnviz.comparison.tallies import relative_difference
from cnnviz.comparison.weight_faults import Fault
from cnnviz.errors import InvalidOption

__all__ = ["Diagnosis", "diagnose"]

Array = NDArray[Any]
Sure = Literal["proved", "likely", "unknown"]

# How many layers back is looked for what is added or not.
_BACK = 8
_LINEAR = ("linear",)
# A repair takes away this much of the difference, or it is none.
_GAIN = 10.0
_UNKNOWN = Fault("unknown", "what goes in is the same, what comes out is not", "look at its code")


@dataclass(frozen=True)
class Diagnosis:
    """One fault, by where it is in the second network.

    Attributes
    ----------
    layer, other : str
        The layer in the first and in the second network; where something is wrong before it,
        the first layer that gets it.
    cause : str
        Such as ``"batch norm eps"`` or ``"flatten order"``; ``"unknown"`` if none was found.
    what, advice : str
        What is as it should not be, and what to change.
    sure : {"proved", "likely", "unknown"}
        Proved: the layer gives what it should, once it is repaired so. Likely: it could not be
        tried, or the repair takes away most of the difference and not all.
    apart, repaired : float
        max|difference| / max|reference| of what the layer gives for the same input, as it is
        and repaired.
    """

    layer: str
    other: str
    cause: str
    what: str
    advice: str
    sure: Sure
    apart: float
    repaired: float = math.nan

    def to_json(self) -> dict[str, Any]:
        """Give it as numbers and words."""
        return asdict(self)

    def __str__(self) -> str:
        line = f"{self.other}: {self.cause}: {self.what}"
        if self.sure == "proved":
            return (
                f"{line}; {self.advice} (proved: with it the layer is {self.repaired:.1e} apart,"
                f" without {self.apart:.1e})"
            )
        if self.sure == "likely" and math.isnan(self.repaired):
            return f"{line}; {self.advice} (likely; it could not be tried)"
        if self.sure == "likely":
            return (
                f"{line}; {self.advice} (likely, but not all: it was tried, and the layer is"
                f" {self.repaired:.1e} apart, without {self.apart:.1e})"
            )
        return f"{line} (apart by {self.apart:.1e})"


def diagnose(one: Probe, two: Probe, matching: Matching, tolerance: float) -> list[Diagnosis]:
    """Find the layers of the second network that differ from the first's, and say why.

    Each layer of the second is fed what goes into its counterpart. Where it gives something
    else, settings and weights of the first are tried in it, one by one. Where all layers before
    agree and what goes in differs, what lies between is looked at.

    Parameters
    ----------
    one, two : Probe
        The same picture in each.
    matching : Matching
    tolerance : float
        Up to which max|difference| / max|reference| is rounding.

    Returns
    -------
    list of Diagnosis
        In the order of the first network; empty if no layer differs by itself.
    """
    return list(_found(one, two, matching, tolerance))


def _found(one: Probe, two: Probe, matching: Matching, tolerance: float) -> Iterator[Diagnosis]:
    whole = True
    silent = _active_dropouts(one, two, tolerance)
    before: list[Before] = []
    for pair in matching.pairs:
        x = fitted_input(one, two, pair)
        ours = pair.ours(one.outputs)
        if x is None:
            if whole and pair.layers[0] in one.inputs and pair.others[0] in two.inputs:
                yield _unlike(one, two, pair, matching, tolerance)
                whole = False
            continue
        theirs = _applied(two, pair, x)
        apart = math.inf if theirs is None else _apart(ours, theirs)
        if not apart <= tolerance:
            for turned in turned_inputs(one, two, pair, x):
                made = _applied(two, pair, turned)
                if made is not None and _apart(ours, made) <= tolerance:
                    x, theirs, apart = turned, made, _apart(ours, made)
                    break
        if not apart <= tolerance:
            whole = False
            yield _at_layer(one, two, pair, matching, x, theirs, apart, tolerance)
        elif whole and relative_difference(x, two.inputs[pair.others[0]]) > tolerance:
            whole = False
            yield silent or _before_layer(one, two, pair, x, before, matching, tolerance)
        # Where a function follows in the second network alone, its layers give the raw numbers.
        raw = two.outputs[pair.other] if pair.other_activation else one.outputs[pair.name]
        before.insert(0, Before(pair.name, ours, raw))
    if whole and silent is not None:
        yield silent


def _applied(two: Probe, pair: Pair, x: Array) -> Array | None:
    """Run the layers of the second network; None if they do not take it."""
    try:
        return pair.finished(two.apply(pair.others, x))
    except InvalidOption:
        return None


def _at_layer(
    one: Probe,
    two: Probe,
    pair: Pair,
    matching: Matching,
    x: Array,
    theirs: Array | None,
    apart: float,
    tolerance: float,
) -> Diagnosis:
    ours = pair.ours(one.outputs)
    if theirs is not None:
        found = _by_what_it_does(pair, x, ours, theirs, tolerance)
        if found is not None:
            return _told(pair, found[0], "proved", apart, found[1])
    factor = None if theirs is None else scale_between(ours, theirs, tolerance)
    untried: list[Fault] = []
    tried: list[tuple[float, Fault]] = []
    for place, repair in enumerate(repairs(one, two, pair, matching.pairs)):
        # The first is that the layer says one thing of itself and does another.
        if place == 0 and factor is not None:
            repair = replace(repair, fault=_factor_fault(factor))
        try:
            left = _apart(ours, _repaired(one, two, pair, repair, x))
        except (KeyError, InvalidOption, ValueError):
            # It is no layer that is known here, or does not fit so.
            if place:
                untried.append(repair.fault)
            continue
        if left <= min(tolerance, apart / _GAIN):
            return _told(pair, repair.fault, "proved", apart, left)
        if place:
            tried.append((left, repair.fault))
    if factor is not None and theirs is not None:
        left = _apart(ours, theirs / factor)
        return _told(pair, _factor_fault(factor), "proved", apart, left)
    best = min(tried, key=lambda one: one[0], default=(math.inf, _UNKNOWN))
    if best[0] < apart / 2:
        return _told(pair, best[1], "likely", apart, best[0])
    if untried:
        return _told(pair, untried[0], "likely", apart)
    return _told(pair, _unexplained([fault for _, fault in tried]), "unknown", apart)


def _by_what_it_does(
    pair: Pair, x: Array, ours: Array, theirs: Array, tolerance: float
) -> tuple[Fault, float] | None:
    """Tell activations, interpolations and means over all places by their numbers."""
    if pair.family == "activation" and x.shape == ours.shape:
        fault = forms(x, ours, theirs, "", tolerance)
        return None if fault is None else (fault, 0.0)
    if pair.family in ("resize", ""):
        found = interpolation(x, ours, theirs, "", tolerance)
        if found is not None:
            return found
    if x.ndim > 2 and ours.size == theirs.size == len(x) * x.shape[-1]:
        axes = tuple(range(1, x.ndim - 1))
        kinds = {"mean": x.mean(axes), "maximum": x.max(axes)}
        shown = [
            [k for k, v in kinds.items() if _apart(y.reshape(v.shape), v) <= tolerance]
            for y in (ours, theirs)
        ]
        if shown[0] and shown[1] and shown[0] != shown[1]:
            told = f"it takes the {shown[1][0]} over all places, where the other the {shown[0][0]}"
            return Fault("pool kind", told, f"take the {shown[0][0]}"), 0.0
    return None


def _factor_fault(factor: float) -> Fault:
    told = f"what it gives is {factor:.4g} times that of the other"
    return Fault("scale", told, f"multiply it by {1 / factor:.4g}")


def _unexplained(tried: list[Fault]) -> Fault:
    if not tried:
        return _UNKNOWN
    names = ", ".join(dict.fromkeys(fault.cause for fault in tried))
    return replace(_UNKNOWN, what=f"{_UNKNOWN.what} ({names} tried, in vain)")


def _repaired(one: Probe, two: Probe, pair: Pair, repair: Repair, x: Array) -> Array:
    at, other_at = pair.layers.index(pair.main), pair.others.index(pair.other_main)
    if repair.padding:
        given = one.apply(pair.layers[:at], one.inputs[pair.layers[0]])
    else:
        given = two.apply(pair.others[:other_at], x)
    batch = repair.settings.get("statistics") == "batch"
    made = computed(repair.settings, repair.weights, given, batch=batch)
    after = pair.others[other_at + 1 :]
    # An activation that can be computed is among the settings.
    within = repair.settings.get("activation", _LINEAR) != _LINEAR
    if within or not (after or pair.other_activation):
        return made
    return pair.finished(two.apply(after, made) if after else made)


def _before_layer(
    one: Probe,
    two: Probe,
    pair: Pair,
    x: Array,
    before: list[Before],
    matching: Matching,
    tolerance: float,
) -> Diagnosis:
    theirs = two.inputs[pair.others[0]]
    apart = relative_difference(x, theirs)
    if not before:
        first = first_input(x, theirs, tolerance) or resized_input(one, two, x, theirs, tolerance)
        if first is not None:
            return _told(pair, first[0], "proved", apart, first[1])
    lonely = matching.only, matching.only_other
    found = between(one, two, x, theirs, before[:_BACK], lonely, tolerance)
    if found is not None:
        fault, left, proved = found
        return _told(pair, fault, "proved" if proved else "likely", apart, left)
    alone = _weighted_before(one, two, pair, matching)
    if alone:
        told = f"what goes into it differs, and before it {alone} without a counterpart"
        fault = Fault("unmatched layer", told, "give both networks the same layers")
        return _told(pair, fault, "likely", apart)
    told = "what goes into it differs, though all layers before it agree"
    return _told(pair, Fault("unknown", told, "look at what is done before it"), "unknown", apart)


def _weighted_before(one: Probe, two: Probe, pair: Pair, matching: Matching) -> str:
    """Name the layers with weights that come before a pair in one network alone."""
    found = []
    for probe, names, at in (
        (one, matching.only, pair.layers[0]),
        (two, matching.only_other, pair.others[0]),
    ):
        earlier = list(probe.outputs)
        earlier = earlier[: earlier.index(at)]
        alone = [name for name in names if name in earlier and probe.net.weights(name)]
        if alone:
            more = f" and {len(alone) - 1} more" if len(alone) > 1 else ""
            found.append(f"{alone[-1]!r}{more} of {probe.net.name} is")
    return " and ".join(found)


def _unlike(one: Probe, two: Probe, pair: Pair, matching: Matching, tolerance: float) -> Diagnosis:
    given = one.inputs[pair.layers[0]], two.inputs[pair.others[0]]
    lonely = matching.only, matching.only_other
    found = lonely_layer(one, two, *given, lonely, tolerance)
    if found is not None:
        return _told(pair, found[0], "proved", math.inf, found[1])
    ours, theirs = (" x ".join(map(str, value.shape[1:])) for value in given)
    told = f"it gets {theirs} numbers, where the other gets {ours}"
    alone = _weighted_before(one, two, pair, matching)
    if alone:
        told = f"{told}, and before it {alone} without a counterpart"
    fault = Fault("shape", told, "make what comes before it the same")
    return _told(pair, fault, "unknown", math.inf)


def _active_dropouts(one: Probe, two: Probe, tolerance: float) -> Diagnosis | None:
    """See whether what should do nothing outside of training does something."""
    for probe in (two, one):
        for layer in leaves(probe.net):
            name = layer.name
            if probe.family(name) == "dropout" and name in probe.inputs:
                apart = _apart(probe.inputs[name], probe.outputs[name])
                if apart > tolerance:
                    told = "it drops numbers, as in training"
                    advice = "run it as in evaluation: model.eval(), training=False"
                    where = name if probe is two else f"{name} (of the first network)"
                    return Diagnosis(name, where, "train/eval", told, advice, "proved", apart, 0.0)
    return None


def _told(
    pair: Pair, fault: Fault, sure: Sure, apart: float, repaired: float = math.nan
) -> Diagnosis:
    return Diagnosis(
        pair.main, pair.other_main, fault.cause, fault.what, fault.advice, sure, apart, repaired
    )


def _apart(ours: Array, theirs: Array) -> float:
    if ours.shape != theirs.shape:
        if ours.size != theirs.size or len(ours) != len(theirs):
            return math.inf
        sides = [tuple(n for n in a.shape[1:] if n != 1) for a in (ours, theirs)]
        if sides[0] != sides[1]:
            return math.inf
    found = relative_difference(ours.ravel(), np.asarray(theirs).ravel())
    return math.inf if math.isnan(found) else found
