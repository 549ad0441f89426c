"""The layer at which two networks part, and why: each guess is tried before it is told."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cnnviz.comparison.links import between, first_input, forms
from cnnviz.comparison.matching import Matching, Pair
from cnnviz.comparison.probes import Probe, leaves
from cnnviz.comparison.reference import computed
from cnnviz.comparison.repairs import Repair, fitted_input, repairs
from cnnviz.comparison.resizing import resized_input
from cnnviz.comparison.tallies import relative_difference
from cnnviz.comparison.weight_faults import Fault
from cnnviz.errors import InvalidOption

__all__ = ["Diagnosis", "diagnose"]

Array = NDArray[Any]
Sure = Literal["proved", "likely", "unknown"]

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
        Proved: the layer gives what it should, once it is repaired so.
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
        if self.sure == "likely":
            return f"{line}; {self.advice} (likely; it could not be tried)"
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
    before: list[str] = []
    for pair in matching.pairs:
        x = fitted_input(one, two, pair)
        ours = one.outputs[pair.name]
        if x is None:
            if whole and pair.layers[0] in one.inputs and pair.others[0] in two.inputs:
                yield _unlike(one, two, pair)
                whole = False
            continue
        try:
            apart = _apart(ours, two.apply(pair.others, x))
        except InvalidOption:
            apart = math.inf
        if not apart <= tolerance:
            whole = False
            yield _at_layer(one, two, pair, matching, x, apart, tolerance)
        elif whole:
            theirs = two.inputs[pair.others[0]]
            gap = relative_difference(x, theirs)
            if gap > tolerance:
                whole = False
                gone = (matching.only, matching.only_other)
                yield silent or _before_layer(one, two, pair, x, theirs, before, gone, tolerance)
        before.insert(0, pair.name)
    if whole and silent is not None:
        yield silent


def _at_layer(
    one: Probe,
    two: Probe,
    pair: Pair,
    matching: Matching,
    x: Array,
    apart: float,
    tolerance: float,
) -> Diagnosis:
    ours = one.outputs[pair.name]
    if pair.family == "activation" and x.shape == ours.shape:
        # By what it does, not by its name.
        fault = forms(x, ours, two.apply(pair.others, x), "", tolerance)
        if fault is not None:
            return _told(pair, fault, "proved", apart, 0.0)
    guesses: list[Repair] = []
    for repair in repairs(one, two, pair, matching.pairs):
        guesses.append(repair)
        try:
            left = _apart(ours, _repaired(one, two, pair, repair, x))
        except (KeyError, InvalidOption, ValueError):
            # It is no layer that is known here, or does not fit so.
            continue
        if left <= min(tolerance, apart / _GAIN):
            return _told(pair, repair.fault, "proved", apart, left)
    # The first is that the layer says one thing of itself and does another: no guess.
    if len(guesses) > 1:
        return _told(pair, guesses[1].fault, "likely", apart)
    return _told(pair, _UNKNOWN, "unknown", apart)


def _repaired(one: Probe, two: Probe, pair: Pair, repair: Repair, x: Array) -> Array:
    at, other_at = pair.layers.index(pair.main), pair.others.index(pair.other_main)
    if repair.padding:
        given = one.apply(pair.layers[:at], one.inputs[pair.layers[0]])
    else:
        given = two.apply(pair.others[:other_at], x)
    made = computed(repair.settings, repair.weights, given)
    after = pair.others[other_at + 1 :]
    return two.apply(after, made) if after else made


def _before_layer(
    one: Probe,
    two: Probe,
    pair: Pair,
    x: Array,
    theirs: Array,
    before: list[str],
    lonely: tuple[tuple[str, ...], tuple[str, ...]],
    tolerance: float,
) -> Diagnosis:
    apart = relative_difference(x, theirs)
    if not before:
        found = first_input(x, theirs, tolerance) or resized_input(one, two, x, theirs, tolerance)
    else:
        found = between(one, two, x, theirs, before[:8], lonely, tolerance)
    if found is None:
        told = "what goes into it differs, though all layers before agree"
        fault = Fault("unknown", told, "look at what is done before it")
        return _told(pair, fault, "unknown", apart)
    return _told(pair, found[0], "proved", apart, found[1])


def _unlike(one: Probe, two: Probe, pair: Pair) -> Diagnosis:
    shapes = (one.inputs[pair.layers[0]].shape[1:], two.inputs[pair.others[0]].shape[1:])
    ours, theirs = (" x ".join(map(str, shape)) for shape in shapes)
    told = f"it gets {theirs} numbers, where the other gets {ours}"
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
