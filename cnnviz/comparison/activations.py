"""Activations told by what they do to numbers, where no layer holds them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.comparison.flattening import channels_first_order
from cnnviz.comparison.probes import Probe, same_numbers
from cnnviz.comparison.reference import ACTIVATIONS, activate
from cnnviz.comparison.settings import in_words
from cnnviz.comparison.tallies import relative_difference
from cnnviz.comparison.weight_faults import Fault

__all__ = ["FORMS", "forms", "forms_within", "unseen_activation"]

Array = NDArray[Any]

_NUMBERS = {"leaky relu": (0.01, 0.1, 0.2, 0.3), "elu": (1.0,)}
# A softmax over the last axis is told by the output of the network.
_OTHERS = {"relu to", "softmax", "log softmax"}
FORMS: tuple[tuple[Any, ...], ...] = tuple(
    (name, *number)
    for name in ACTIVATIONS
    if name not in _OTHERS
    for number in ([(n,) for n in _NUMBERS[name]] if name in _NUMBERS else [()])
)
"""Activations that are looked for, the linear first."""

_SAMPLE = 512


def forms(given: Array, ours: Array, theirs: Array, name: str, tolerance: float) -> Fault | None:
    """Say which activations give one thing and another of the same numbers, after a layer.

    None unless both are found, and differ.
    """
    first, second = (_form_of(given, made, tolerance) for made in (ours, theirs))
    if first is None or second is None or first == second:
        return None
    return _other_form(first, second, name)


def forms_within(
    given: Array, ours: Array, theirs: Array, name: str, tolerance: float
) -> tuple[Fault, float] | None:
    """Say which activations explain how two sums differ that hold them, as ``(fault, left)``.

    Such as a shortcut to which ``relu(given)`` is added in one network and ``given`` in the
    other.
    """
    if not given.shape == ours.shape == theirs.shape:
        return None
    some = slice(None, None, max(1, given.size // _SAMPLE))
    seen, gap = given.ravel()[some], (np.float64(ours) - theirs).ravel()[some]
    reach = np.abs(ours).max()
    made = {form: activate(seen, form) for form in FORMS}
    fitting = [
        (a, b)
        for a in FORMS
        for b in FORMS
        if a != b and np.abs(made[a] - made[b] - gap).max() <= tolerance * reach
    ]
    for a, b in fitting:
        left = relative_difference(ours, theirs + activate(given, a) - activate(given, b))
        if left <= tolerance:
            fault = _other_form(a, b, name)
            if len(fitting) > 1:
                told = f"{fault.what} (or others that are as far apart)"
                fault = Fault("activation", told, "give both the same activation")
            return fault, left
    return None


def unseen_activation(probe: Probe, name: str, expected: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """Say which function a network applies to the output of a layer before another takes it.

    Parameters
    ----------
    probe : Probe
    name : str
        A layer that no layer with an activation follows.
    expected : tuple
        What its counterpart has within, which is taken for granted where nothing takes the
        output as it is and nothing tells what was done to it.

    Returns
    -------
    tuple or None
        None if something takes the output as it is.
    """
    raw = probe.outputs[name]
    order = list(probe.outputs)
    after = [probe.inputs[one] for one in order[order.index(name) + 1 :] if one in probe.inputs]
    after = [y for y in (*after, probe.output) if y.size == raw.size]
    if any(_is_taken(raw, y) for y in after):
        return None
    known = expected[0] in ACTIVATIONS
    for form in ([expected] if known else []) + list(FORMS[1:]):
        made = np.asarray(activate(raw, form), raw.dtype)
        if any(_is_taken(made, y) for y in after):
            return form
    return expected if known else None


def _is_taken(value: Array, into: Array) -> bool:
    if value.shape == into.shape:
        return same_numbers(value, into)
    if value.ndim != 4 or into.ndim != 2 or len(value) != len(into):
        return False
    row = value.reshape(into.shape)
    height, width, channels = value.shape[1:]
    turned = np.argsort(channels_first_order((height, width, channels)))
    return same_numbers(row, into) or same_numbers(row[:, turned], into)


def _form_of(given: Array, made: Array, tolerance: float) -> tuple[Any, ...] | None:
    some = slice(None, None, max(1, given.size // _SAMPLE))
    seen, wanted, reach = given.ravel()[some], made.ravel()[some], np.abs(made).max()
    for form in FORMS:
        # Most are told apart by some of their numbers.
        if np.abs(activate(seen, form) - wanted).max() <= tolerance * reach and (
            relative_difference(made, activate(given, form)) <= tolerance
        ):
            return form
    return None


def _other_form(a: tuple[Any, ...], b: tuple[Any, ...], name: str) -> Fault:
    where = f"after {name!r} " if name else ""
    if b[0] == "linear":
        told = f"{where}it has no activation, where the other has {in_words(a)}"
        return Fault("missing activation", told, f"add a {in_words(a)}")
    if a[0] == "linear":
        told = f"{where}it has {in_words(b)}, where the other has no activation"
        return Fault("an activation too many", told, "take it out")
    gelus = a[0].startswith("gelu") and b[0].startswith("gelu")
    cause = f"{a[0]} slope" if a[0] == b[0] else "gelu form" if gelus else "activation"
    return Fault(
        cause,
        f"{where}it has {in_words(b)}, where the other has {in_words(a)}",
        f"make it {in_words(a)}",
    )
