"""What may be wrong with one layer, each guess with the layer as it would be without."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.comparison.alignment import pads_between
from cnnviz.comparison.flattening import turned_rows
from cnnviz.comparison.pairs import Pair
from cnnviz.comparison.probes import Probe, weights_by_role
from cnnviz.comparison.reference import ACTIVATIONS, computed, padded_by
from cnnviz.comparison.settings import differences, in_words
from cnnviz.comparison.tallies import relative_difference
from cnnviz.comparison.weight_faults import Fault, weight_fault

__all__ = ["Repair", "expected_weights", "repairs"]

Array = NDArray[Any]

# Up to which a layer in float32 is what it is taken for.
_SAME_LAYER = 1e-4
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
    ours = _settings(one, pair.layers, pair.main, pair.activation)
    theirs = _settings(two, pair.others, pair.other_main, pair.other_activation)
    ours, theirs = (
        _with_padding(probe, main, told, other)
        for probe, main, told, other in (
            (one, pair.main, ours, theirs),
            (two, pair.other_main, theirs, ours),
        )
    )
    wanted = expected_weights(one, two, pair)
    there = {role: value for role, (_, value) in weights_by_role(two.net, pair.other_main).items()}
    # As it is: what is computed is not what the layer says of itself.
    yield Repair(_against_itself(pair), theirs, there)
    changed = differences(ours, theirs)
    pads = _pad_fault(one, two, pair, (ours, theirs))
    if pads is not None:
        yield Repair(pads, {**theirs, "padding": ours["padding"]}, there, True)
    kinds = ours.get("family"), theirs.get("family")
    if set(kinds) == {"max pool", "average pool"}:
        right, wrong_kind = (f"{'an' if k[0] == 'a' else 'a'} {k}" for k in map(str, kinds))
        told = f"it is {wrong_kind}, where the other is {right}"
        pooled = Fault("pool kind", told, f"make it {right}")
        yield Repair(pooled, {**ours, **theirs, "family": kinds[0]}, there)
        yield Repair(pooled, ours, there, True)
    for key in changed:
        fault = _setting_fault(key, pair, *changed[key])
        if key == "statistics":
            yield Repair(fault, {**theirs, key: ours[key]}, {**there, **_statistics(wanted)})
        elif key == "dtype" and "padding" in ours:
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
        several = Fault("several", f"{', '.join(names)} differ", "make them the same")
        yield Repair(several, everything, wanted, pads is not None)


def _settings(
    probe: Probe, layers: Sequence[str], main: str, activation: tuple[Any, ...] | None
) -> Mapping[str, Any]:
    """Give the settings of a layer with the activation that follows it, if that can be computed."""
    told = probe.settings(main)
    if activation is None and layers[-1] != main:
        activation = probe.settings(layers[-1]).get("activation")
    if activation is None or activation[0] not in ACTIVATIONS or "activation" not in told:
        return told
    return {**told, "activation": activation}


def _with_padding(
    probe: Probe, main: str, told: Mapping[str, Any], other: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Find by trial the padding of a layer that does not tell it."""
    if "padding" in told or "strides" not in told or main not in probe.inputs:
        return told
    weights = {role: value for role, (_, value) in weights_by_role(probe.net, main).items()}
    own = probe.settings(main)
    for padding in ("same", ((0, 0),) * len(told["strides"]), other.get("padding")):
        if padding is None:
            continue
        try:
            made = computed({**own, "padding": padding}, weights, probe.inputs[main])
        except (KeyError, ValueError):
            # It is no layer that is known here, or does not fit so.
            continue
        if made.shape == probe.outputs[main].shape and _close(probe.outputs[main], made):
            return {**told, "padding": padding}
    return told


def _close(a: Array, b: Array) -> bool:
    return relative_difference(a, b) <= _SAME_LAYER


def _statistics(weights: Mapping[str, Array]) -> dict[str, Array]:
    return {role: value for role, value in weights.items() if role.startswith("running")}


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
        if "linear" in (ours[0], theirs[0]):
            missing = theirs[0] == "linear"
            cause = "missing activation" if missing else "an activation too many"
    if key == "statistics" and ours == "running":
        return Fault(
            cause,
            "it takes the statistics of the pictures, where the other has its own",
            "give it running statistics: track_running_stats=True, and load them",
        )
    if pair.family in ("max pool", "average pool") and key in ("strides", "family"):
        cause = f"pool {key}"
    return Fault(
        cause,
        f"its {key.replace('_', ' ')} is {in_words(theirs)}, where the other has {in_words(ours)}",
        f"set it to {in_words(ours)}",
    )


def _pad_fault(
    one: Probe, two: Probe, pair: Pair, told: tuple[Mapping[str, Any], Mapping[str, Any]]
) -> Fault | None:
    """Say how what is added around a map differs, pads before the layer included."""
    sides = []
    around = pads_between(one, two, pair)
    for (probe, layers, main), extra, settings in zip(
        (
            (one, pair.layers, pair.main),
            (two, pair.others, pair.other_main),
        ),
        around,
        told,
        strict=True,
    ):
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
