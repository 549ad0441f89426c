"""What a proof by numbers may have missed: settings that differ, and layers that never answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.comparison.matching import Pair
from cnnviz.comparison.probes import Probe, weights_by_role
from cnnviz.comparison.reference import padded_by
from cnnviz.comparison.settings import differences, in_words

__all__ = ["constant_layers", "constants_in_words", "setting_cautions"]

Array = NDArray[Any]
Pads = tuple[tuple[int, int], ...]

_RECTIFIERS = {"relu", "relu6", "relu to", "sigmoid", "softmax", "hard sigmoid"}
_PADDED = {"convolution", "max pool", "average pool"}
_ROUNDING = 1e-12


def setting_cautions(one: Probe, two: Probe, pairs: Sequence[Pair]) -> list[str]:
    """Say which settings of matched layers differ, where numbers alone did not tell them apart.

    Parameters
    ----------
    one, two : Probe
    pairs : sequence of Pair

    Returns
    -------
    list of str
        One for each way in which they differ, with the first layer that does.
    """
    found: dict[tuple[str, str, str], list[Pair]] = {}
    for pair in pairs:
        for key, ours, theirs in _differing(one, two, pair, pair is pairs[-1]):
            found.setdefault((key, in_words(ours), in_words(theirs)), []).append(pair)
    return [
        f"{key} of {same[0].main!r} is {ours}, that of {same[0].other_main!r} {theirs}"
        f"{f' (and of {len(same) - 1} more)' if len(same) > 1 else ''}"
        for (key, ours, theirs), same in found.items()
    ]


def _differing(one: Probe, two: Probe, pair: Pair, last: bool) -> Iterable[tuple[str, Any, Any]]:
    ours, theirs = one.settings(pair.main), two.settings(pair.other_main)
    if ours.get("family") and theirs.get("family") and ours["family"] != theirs["family"]:
        yield "family", ours["family"], theirs["family"]
        return
    acts = (
        _activation_of(one, pair.layers, pair.main),
        _activation_of(two, pair.others, pair.other_main),
    )
    # One that is a function between the layers is proved by the layers that follow.
    if None not in acts and acts[0] != acts[1] and (last or ("linear",) not in acts):
        yield "activation", *acts
    for key, (a, b) in differences(ours, theirs).items():
        if key not in ("activation", "padding", "count_padding", "ceil"):
            yield key, a, b
    if pair.family in _PADDED:
        yield from _padding(one, two, pair)


def _activation_of(probe: Probe, layers: Sequence[str], main: str) -> tuple[Any, ...] | None:
    """Give the activation that layers end in; None if nothing tells."""
    last = layers[-1] if probe.family(layers[-1]) == "activation" else main
    found: tuple[Any, ...] | None = probe.settings(last).get("activation")
    return found


def _padding(one: Probe, two: Probe, pair: Pair) -> Iterable[tuple[str, Any, Any]]:
    ours, theirs = one.settings(pair.main), two.settings(pair.other_main)
    pads = _pads(one, pair.layers, pair.main), _pads(two, pair.others, pair.other_main)
    if None in pads:
        return
    # What depends on the size is told where both networks take any.
    free = all(None in probe.net.input_shape for probe in (one, two))
    at_a_step = max(*ours["strides"], *theirs["strides"]) > 1
    same = [settings["padding"] == "same" for settings in (ours, theirs)]
    if pads[0] != pads[1]:
        yield "padding", *pads
    elif free and at_a_step and same[0] != same[1]:
        yield "padding at other sizes", ours["padding"], theirs["padding"]
    if free and ours.get("ceil", False) != theirs.get("ceil", False):
        yield "rounding of the size at other sizes", _rounded(ours), _rounded(theirs)
    padded = any(map(any, pads[0] or ()))
    counts = [settings.get("count_padding") for settings in (ours, theirs)]
    if padded and counts[0] != counts[1]:
        yield "count padding", counts[0], counts[1]
    zeros = len(pair.layers) > 1, len(pair.others) > 1
    if pair.family == "max pool" and zeros[0] != zeros[1] and not _rectified(one, pair.layers[0]):
        told = ["zero" if padded else "minus infinity" for padded in zeros]
        yield "what is around the map", told[0], told[1]


def _pads(probe: Probe, layers: Sequence[str], main: str) -> Pads | None:
    """Give what is added around a map by all layers of a pair, at the size of the picture."""
    settings, x = probe.settings(main), probe.inputs.get(main)
    if x is None or "padding" not in settings:
        return None
    window = settings.get("window")
    if window is None:
        kernel = next((v for role, (_, v) in _weights(probe, main) if role == "kernel"), None)
        window = None if kernel is None else kernel.shape[:-2]
    if window is None or x.ndim != len(window) + 2:
        return None
    found = padded_by(settings, window, x.shape[1:-1])
    for name in layers[: layers.index(main)]:
        before, after = probe.inputs[name].shape[1:-1], probe.outputs[name].shape[1:-1]
        told = probe.settings(name).get("padding") or tuple(
            ((b - a) // 2, b - a - (b - a) // 2) for a, b in zip(before, after, strict=True)
        )
        found = tuple((a + c, b + d) for (a, b), (c, d) in zip(found, told, strict=True))
    return found


def _weights(probe: Probe, name: str) -> Iterable[tuple[str, tuple[str, Array]]]:
    return weights_by_role(probe.net, name).items()


def _rectified(probe: Probe, name: str) -> bool:
    """Say whether what goes into a layer cannot be below zero."""
    for giver in probe.fed_by(name):
        activation = probe.settings(giver).get("activation")
        if activation is not None and activation[0] in _RECTIFIERS:
            return True
    x = probe.inputs.get(name)
    # A ReLU that is no layer leaves many zeros.
    return x is not None and bool(x.min() == 0) and bool((x == 0).mean() > 0.01)


def _rounded(settings: Mapping[str, Any]) -> str:
    return "up" if settings.get("ceil") else "down"


def constant_layers(outputs: Mapping[str, Array], pairs: Sequence[Pair]) -> list[str]:
    """Name the layers of the first network that give the same whatever they are given.

    Parameters
    ----------
    outputs : mapping of str to array
        Of at least one picture; a channel is looked at over all places and pictures.
    pairs : sequence of Pair
    """
    return [pair.name for pair in pairs if _constant(outputs[pair.name])]


def _constant(value: Array) -> bool:
    flat = value.reshape(-1, value.shape[-1]) if value.ndim > 1 else value.reshape(-1, 1)
    # Of one row a channel tells nothing; that all are zero does.
    if len(flat) == 1:
        return not flat.any()
    return bool((np.ptp(flat, axis=0) <= _ROUNDING * np.abs(flat).max()).all())


def constants_in_words(names: Sequence[str], still: Sequence[str], title: str) -> list[str]:
    """Say that layers prove little, if there are any.

    Parameters
    ----------
    names : sequence of str
        Those that are constant.
    still : sequence of str
        Those that are on a picture of strong contrast too.
    title : str
        Of the network.
    """
    dead = [name for name in names if name in still]
    asleep = [name for name in names if name not in still]
    found = []
    if dead:
        found.append(f"{_listed(dead, title)} the same whatever the picture, which proves nothing")
    if asleep:
        found.append(
            f"{_listed(asleep, title)} the same for both pictures, and answered to a picture of a"
            " thousand times the contrast alone"
        )
    return found


def _listed(names: Sequence[str], title: str) -> str:
    more = f" and {len(names) - 1} more layers" if len(names) > 1 else ""
    return f"{names[0]!r}{more} of {title} gave"
