"""What may be wrong with one layer, each guess with the layer as it would be without."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.comparison.flattening import turned_rows
from cnnviz.comparison.matching import Pair
from cnnviz.comparison.probes import Probe, weights_by_role
from cnnviz.comparison.reference import padded_by
from cnnviz.comparison.settings import differences, in_words
from cnnviz.comparison.weight_faults import Fault, weight_fault

__all__ = ["Repair", "expected_weights", "fitted_input", "repairs"]

Array = NDArray[Any]

_SETTING_CAUSES = {
    "eps": "eps",
    "strides": "strides",
    "dilation": "dilation",
    "groups": "groups",
    "mode": "padding mode",
    "window": "pool window",
    "ceil": "pool rounds up",
    "count_padding": "pool counts its padding",
    "statistics": "train/eval",
    "dtype": "dtype",
}


@dataclass(frozen=True)
class Repair:
    """A guess at what is wrong with a layer of the second network.

    Attributes
    ----------
    fault : Fault
    settings : mapping
        Of the layer, repaired.
    weights : mapping of str to array
        By role, repaired.
    padding : bool
        Whether what pads before it is that of the first network.
    """

    fault: Fault
    settings: Mapping[str, Any]
    weights: Mapping[str, Array]
    padding: bool = False


def expected_weights(one: Probe, two: Probe, pair: Pair) -> dict[str, Array]:
    """Give the first network's weights as the second should have them."""
    ours = {role: value for role, (_, value) in weights_by_role(one.net, pair.main).items()}
    if pair.family == "dense" and "kernel" in ours:
        index = turned_rows(one, two, pair.main, pair.other_main)
        if index is not None:
            ours["kernel"] = ours["kernel"][index]
    return ours


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
    if x.ndim == y.ndim == 4 and x.shape[-1] == y.shape[-1]:
        return _shifted(x, y)
    return None


def repairs(one: Probe, two: Probe, pair: Pair, layers: Sequence[Pair]) -> Iterator[Repair]:
    """Yield guesses: each setting, each weight, then several at once.

    Parameters
    ----------
    one, two : Probe
    pair : Pair
        The layer that differs.
    layers : sequence of Pair
        All, to see whether weights are those of another.
    """
    ours, theirs = one.settings(pair.main), two.settings(pair.other_main)
    wanted = expected_weights(one, two, pair)
    there = {role: value for role, (_, value) in weights_by_role(two.net, pair.other_main).items()}
    # As it is: what is computed is not what the layer says of itself.
    yield Repair(_against_itself(pair), theirs, there)
    changed = differences(ours, theirs)
    pads = _pad_fault(one, two, pair)
    if pads is not None:
        yield Repair(pads, {**theirs, "padding": ours["padding"]}, there, True)
    for key in changed:
        fault = _setting_fault(key, pair, *changed[key])
        if key == "dtype" and "padding" in ours:
            # What the second pads is rounded before it comes to the layer.
            whole = {**theirs, key: ours[key], "padding": ours["padding"]}
            yield Repair(fault, whole, there, True)
        elif key != "padding":
            yield Repair(fault, {**theirs, key: ours[key]}, there)
    wrong = [
        role
        for role in {**wanted, **there}
        if role not in there or role not in wanted or not _equal(wanted[role], there[role])
    ]
    for role in wrong:
        if role in wanted:
            fault = weight_fault(one, two, pair, [role], wanted, there, layers)
            yield Repair(fault, theirs, {**there, role: wanted[role]})
        else:
            fault = Fault(
                f"a {role} too many", f"it has a {role} and the other none", "leave it out"
            )
            yield Repair(fault, theirs, {r: v for r, v in there.items() if r != role})
    if len(wrong) > 1:
        fault = weight_fault(one, two, pair, wrong, wanted, there, layers)
        yield Repair(fault, theirs, wanted)
    everything = {**theirs, **{key: ours[key] for key in changed}}
    if (changed and wrong) or len(changed) > 1:
        names = [*changed, *wrong]
        told = Fault("several", f"{', '.join(names)} differ", "make them the same")
        yield Repair(told, everything, wanted, pads is not None)


def _equal(a: Array, b: Array) -> bool:
    return a.shape == b.shape and bool(np.allclose(a, b, rtol=1e-6, atol=1e-12, equal_nan=True))


def _against_itself(pair: Pair) -> Fault:
    if pair.family == "batch norm":
        return Fault(
            "train/eval",
            "it takes the statistics of the pictures and not its own",
            "run it as in evaluation: model.eval(), training=False",
        )
    return Fault(
        "its code",
        "it computes otherwise than its settings say",
        "look at the code of the layer, and at the precision in which it computes",
    )


def _setting_fault(key: str, pair: Pair, ours: Any, theirs: Any) -> Fault:
    cause = _SETTING_CAUSES.get(key, key)
    if key == "eps":
        cause = f"{pair.family} eps"
    if key == "activation":
        same = ours[0] == theirs[0]
        gelus = str(ours[0]).startswith("gelu") and str(theirs[0]).startswith("gelu")
        cause = f"{ours[0]} slope" if same else "gelu form" if gelus else "activation"
    if pair.family in ("max pool", "average pool") and key in ("strides", "family"):
        cause = f"pool {key}"
    return Fault(
        cause,
        f"its {key.replace('_', ' ')} is {in_words(theirs)}, where the other has {in_words(ours)}",
        f"set it to {in_words(ours)}",
    )


def _pad_fault(one: Probe, two: Probe, pair: Pair) -> Fault | None:
    """Say how what is added around a map differs, pads before the layer included."""
    sides = []
    around = _functional_pads(one, two, pair)
    for (probe, layers, main), extra in zip(
        (
            (one, pair.layers, pair.main),
            (two, pair.others, pair.other_main),
        ),
        around,
        strict=True,
    ):
        settings = probe.settings(main)
        if "padding" not in settings or main not in probe.inputs or probe.inputs[main].ndim != 4:
            return None
        window = settings.get("window") or weights_by_role(probe.net, main)["kernel"][1].shape[:2]
        inside = padded_by(settings, tuple(window), probe.inputs[main].shape[1:3])
        before = _pads_of(probe, layers[0]) if layers[0] != main else ((0, 0), (0, 0))
        total = tuple(
            (sum(first), sum(last))
            for first, last in (
                zip(*pads, strict=True) for pads in zip(before, inside, extra, strict=True)
            )
        )
        sides.append((settings, total, before, inside))
    (ours, wanted, _, inside), (theirs, there, _, other) = sides
    if wanted == there:
        if pair.family == "max pool" and inside != other:
            return Fault(
                "max pool pads with zeros",
                "one pads with zeros before the pooling, the other with minus infinity within",
                "pad with -inf, or within the pooling",
            )
        if pair.family == "average pool" and inside != other:
            return Fault(
                "pool counts its padding",
                "zeros that are added before the pooling count in its mean",
                "pad within the pooling, or the other way round",
            )
        return None
    one_sided = any(a != b for a, b in (*wanted, *there))
    strided = max(theirs["strides"]) > 1
    kinds = (ours["padding"], theirs["padding"])
    same = strided and one_sided
    return Fault(
        "same padding at stride 2" if same else "padding",
        f"it adds {in_words(there)} around a map, where the other adds {in_words(wanted)}"
        + (" ('same' adds to the right and bottom first)" if same and "same" in kinds else ""),
        f"pad by {in_words(wanted)} and convolve or pool without padding"
        if same
        else f"pad by {in_words(wanted)}",
    )


def _pads_of(probe: Probe, name: str) -> tuple[tuple[int, int], ...]:
    told = probe.settings(name).get("padding")
    if told is not None and told != "same":
        return tuple(told)
    before, after = probe.inputs[name].shape, probe.outputs[name].shape
    grown = [after[i] - before[i] for i in (1, 2)]
    return tuple((n // 2, n - n // 2) for n in grown)


def _functional_pads(one: Probe, two: Probe, pair: Pair) -> tuple[Any, Any]:
    """Give what no layer, but a function before it, adds around the map in each network."""
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


def _shifted(x: Array, y: Array) -> Array | None:
    """Cut or pad a map to the size of another, where it fits that best."""
    found = _offset(x, y)
    return None if found is None else _moved(x, y, *found)


def _offset(x: Array, y: Array) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Say by how much a map is smaller than another, and where in that it lies best."""
    grown = y.shape[1] - x.shape[1], y.shape[2] - x.shape[2]
    if x.shape[-1] != y.shape[-1] or max(map(abs, grown)) > 16:
        return None
    places = [(i, j) for i in range(abs(grown[0]) + 1) for j in range(abs(grown[1]) + 1)]
    return grown, min(places, key=lambda at: float(np.abs(_moved(x, y, grown, at) - y).max()))


def _moved(x: Array, y: Array, grown: tuple[int, int], first: tuple[int, int]) -> Array:
    for axis, (n, before) in enumerate(zip(grown, first, strict=True), 1):
        if n >= 0:
            pads = [(0, 0)] * 4
            pads[axis] = (before, n - before)
            x = np.pad(x, pads)
        else:
            x = np.take(x, range(before, before + y.shape[axis]), axis)
    return x
