"""Which layer of one network is which of another."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cnnviz.adapter import Layer
from cnnviz.comparison.activations import unseen_activation
from cnnviz.comparison.pairs import Matching, Pair
from cnnviz.comparison.probes import Probe, leaves
from cnnviz.errors import InvalidOption

__all__ = ["Matching", "Pair", "match_layers"]

# Without effect where nothing is trained. A flattened map has its own order in each framework,
# which the dense layer behind it tells.
_SILENT = {"dropout", "identity", "flatten"}
_POOLS = {"max pool", "average pool"}
_KERNELS = {"convolution", "transposed convolution", "dense"}


@dataclass(eq=False)
class _Unit:
    """A layer with what only prepares its input or finishes its output."""

    layers: tuple[str, ...]
    main: Layer
    family: str
    kernel: tuple[int, ...]
    place: int

    @property
    def rank(self) -> tuple[Any, ...]:
        """What tells apart layers with kernels of one shape."""
        return self.main.receptive_field, self.main.output_shape


def match_layers(one: Probe, two: Probe, given: Mapping[str, str] | None = None) -> Matching:
    """Match the layers of two networks, by kind, weights, place in the network, and order.

    Parameters
    ----------
    one, two : Probe
        The same picture in each.
    given : mapping of str to str, optional
        From layers of the first to layers of the second; the rest is found.

    Raises
    ------
    UnknownLayer
        A layer that is given does not exist.
    InvalidOption
        A layer is given twice, or cannot be compared.
    """
    named = {one.net.layer(a).name: two.net.layer(b).name for a, b in (given or {}).items()}
    if len(named) < len(given or {}):
        raise InvalidOption("a layer of the first network is given twice")
    if len(set(named.values())) < len(named):
        raise InvalidOption("a layer of the second network is given for two of the first")
    ours, theirs = _units(one, set(named)), _units(two, set(named.values()))
    found: list[tuple[_Unit, _Unit]] = []
    places = [{unit.main.name: unit for unit in units} for units in (ours, theirs)]
    for pair in named.items():
        for name, place, probe in zip(pair, places, (one, two), strict=True):
            if name not in place:
                raise InvalidOption(
                    f"{name!r} of {probe.net.name} holds other layers, or does nothing that"
                    " could be compared; name another"
                )
        found.append((places[0][pair[0]], places[1][pair[1]]))
    fixed = {id(unit) for both in found for unit in both}
    rest = [[u for u in units if id(u) not in fixed] for units in (ours, theirs)]
    found += _weighted(*([u for u in units if u.kernel] for units in rest))
    anchors = {id(a): id(b) for a, b in found}
    # What is already matched stays as a landmark between the others.
    found += _plain(ours, theirs, anchors)
    found.sort(key=lambda pair: pair[0].place)
    pairs = tuple(
        Pair(a.layers, b.layers, a.main.name, b.main.name, a.family, a.main.name in named)
        for a, b in found
    )
    pairs = tuple(_trimmed(pair, one, two) for pair in pairs)
    return Matching(
        pairs,
        _left(one, [pair.layers for pair in pairs]),
        _left(two, [pair.others for pair in pairs]),
    )


def _left(probe: Probe, matched: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    taken = {name for layers in matched for name in layers}
    return tuple(
        layer.name
        for layer in leaves(probe.net)
        if layer.name not in taken and probe.family(layer.name) not in _SILENT
    )


def _units(probe: Probe, alone: set[str]) -> list[_Unit]:
    """Give the layers in order, those that pad before and activate after joined to their main."""
    layers = {layer.name: layer for layer in leaves(probe.net)}
    kernels = {name: _kernel(probe, name) for name in layers}
    joined: dict[str, list[str]] = {}
    taken: set[str] = set()
    # Without such a layer, nothing need be known of what goes into the others.
    padded = any(probe.family(name) in ("", "padding") for name in layers)
    for name in layers:
        if name in alone:
            continue
        family = probe.family(name)
        if not (family in _KERNELS or family in _POOLS):
            continue
        chain = [name]
        before = probe.fed_by(name)[-1:] if padded else []
        if before and _pads(probe, layers, before[0]) and before[0] not in alone | taken:
            chain.insert(0, before[0])
        joined[name] = chain
        taken |= set(chain)
    units = []
    for place, (name, layer) in enumerate(layers.items()):
        if name in joined:
            chain = joined[name]
        elif name in taken or probe.family(name) in _SILENT:
            continue
        else:
            chain = [name]
        units.append(_Unit(tuple(chain), layer, probe.family(name), kernels[name], place))
    return units


def _trimmed(pair: Pair, one: Probe, two: Probe) -> Pair:
    """Join an activation, be it a layer or a function, to a layer whose counterpart has it."""
    ours = one.settings(pair.main).get("activation")
    theirs = two.settings(pair.other_main).get("activation")
    if pair.family not in _KERNELS or ours == theirs or ours is None or theirs is None:
        return pair
    if ours == ("linear",):
        after = _activation_after(one, pair.name)
        if after is not None:
            return replace(pair, layers=(*pair.layers, after))
        return replace(pair, activation=unseen_activation(one, pair.name, theirs))
    if theirs == ("linear",):
        after = _activation_after(two, pair.other)
        if after is not None:
            return replace(pair, others=(*pair.others, after))
        return replace(pair, other_activation=unseen_activation(two, pair.other, ours))
    return pair


def _activation_after(probe: Probe, name: str) -> str | None:
    found = probe.followers.get(name, [])
    fits = [one for one in found if probe.family(one) == "activation"]
    return fits[0] if len(found) == 1 and fits else None


def _pads(probe: Probe, layers: Mapping[str, Layer], name: str) -> bool:
    """Say whether a layer does nothing but add places around a map."""
    if probe.family(name) == "padding":
        return True
    if probe.family(name) or name not in probe.inputs or probe.net.weights(name):
        return False
    before, after = probe.inputs[name], probe.outputs[name]
    if before.ndim != 4 or after.ndim != 4 or before.shape[-1] != after.shape[-1]:
        return False
    grown = [after.shape[i] - before.shape[i] for i in (1, 2)]
    if min(grown) < 0:
        return False
    top, left = grown[0] // 2, grown[1] // 2
    inner = after[:, top : top + before.shape[1], left : left + before.shape[2]]
    return bool(np.array_equal(inner, before))


def _kernel(probe: Probe, name: str) -> tuple[int, ...]:
    """Give the shape of the largest weight, which is empty where there is none."""
    shapes = probe.net.weight_shapes(name).values()
    if probe.family(name) == "activation" and shapes:
        # One slope for all, for each channel or for each place: they match whatever they share.
        return (1,)
    return max(shapes, key=lambda shape: (len(shape), shape), default=())


def _weighted(ours: Sequence[_Unit], theirs: Sequence[_Unit]) -> list[tuple[_Unit, _Unit]]:
    """Match layers with weights of one shape: by where they stand, by name, then in order."""
    found = _of_same_names(ours, theirs)
    taken = {id(unit) for pair in found for unit in pair}
    keys: tuple[Any, ...] = (
        lambda u: (u.family, u.kernel, u.rank),
        lambda u: (u.family, u.kernel, u.main.receptive_field),
        lambda u: (u.family, u.kernel, u.main.output_shape),
        lambda u: (u.family, u.kernel),
    )
    left, right = ([u for u in units if id(u) not in taken] for units in (ours, theirs))
    for key in keys:
        groups: dict[Any, tuple[list[_Unit], list[_Unit]]] = {}
        for side, units in enumerate((left, right)):
            for unit in units:
                groups.setdefault(key(unit), ([], []))[side].append(unit)
        for mine, other in groups.values():
            # Of unequal numbers, which of them is missing is for the coarser key to tell.
            if len(mine) == len(other):
                found += _same_names_first(mine, other)
        taken = {id(unit) for pair in found for unit in pair}
        left = [u for u in left if id(u) not in taken]
        right = [u for u in right if id(u) not in taken]
    # What is left differs in number: as many as can be, in order.
    found += _aligned(left, right, lambda a, b: float((a.family, a.kernel) == (b.family, b.kernel)))
    return found


def _of_same_names(ours: Sequence[_Unit], theirs: Sequence[_Unit]) -> list[tuple[_Unit, _Unit]]:
    """Match layers of one kernel whose names are all the same in both networks.

    Where they stand does not count then: a stride that is wrong moves them.
    """
    kinds = dict.fromkeys((u.family, u.kernel) for u in ours)
    found = []
    for kind in kinds:
        sides = [[u for u in units if (u.family, u.kernel) == kind] for units in (ours, theirs)]
        named = [{_canonical(u.main.name): u for u in units} for units in sides]
        if named[0].keys() == named[1].keys() and len(named[0]) == len(sides[0]) == len(sides[1]):
            found += [(unit, named[1][name]) for name, unit in named[0].items()]
    return found


def _same_names_first(mine: Sequence[_Unit], other: Sequence[_Unit]) -> list[tuple[_Unit, _Unit]]:
    names = {_canonical(unit.main.name): unit for unit in other}
    found = [
        (unit, names[_canonical(unit.main.name)])
        for unit in mine
        if _canonical(unit.main.name) in names
    ]
    if len(found) == len(mine) and len(names) == len(other):
        return found
    return list(zip(mine, other, strict=True))


def _plain(
    ours: Sequence[_Unit], theirs: Sequence[_Unit], anchors: Mapping[int, int]
) -> list[tuple[_Unit, _Unit]]:
    """Match layers without weights in order, between those that are matched."""
    known = set(anchors.values())
    mine = [u for u in ours if id(u) not in anchors and not u.kernel]
    other = [u for u in theirs if id(u) not in known and not u.kernel]
    before = {id(u): a for u, a in _landmarks(ours, set(anchors))}
    after = {id(u): b for u, b in _landmarks(theirs, known)}

    def likeness(a: _Unit, b: _Unit) -> float:
        # One pool in place of the other is a fault, not another layer.
        known = a.family and b.family and {a.family, b.family} != _POOLS
        if known and a.family != b.family:
            return 0.0
        same = a.main.output_shape == b.main.output_shape
        if not same and not (a.family and a.family == b.family):
            return 0.0
        near = anchors.get(before[id(a)]) == after[id(b)]
        named = _canonical(a.main.name) == _canonical(b.main.name)
        return 0.25 + same + near + 0.5 * named + (a.family == b.family)

    return _aligned(mine, other, likeness)


def _landmarks(units: Iterable[_Unit], known: set[int]) -> Iterable[tuple[_Unit, int]]:
    last = 0
    for unit in units:
        if id(unit) in known:
            last = id(unit)
        else:
            yield unit, last


def _aligned(ours: Sequence[_Unit], theirs: Sequence[_Unit], likeness: Any) -> list[Any]:
    """Pair two sequences in order such that the sum of likenesses is highest."""
    n, m = len(ours), len(theirs)
    if not n or not m:
        return []
    scores = np.array([[likeness(a, b) for b in theirs] for a in ours])
    best = np.zeros((n + 1, m + 1))
    for i in range(n - 1, -1, -1):
        for j in range(m - 1, -1, -1):
            paired = best[i + 1, j + 1] + scores[i, j] if scores[i, j] > 0 else -1.0
            best[i, j] = max(paired, best[i + 1, j], best[i, j + 1])
    found, i, j = [], 0, 0
    while i < n and j < m:
        if scores[i, j] > 0 and best[i, j] == best[i + 1, j + 1] + scores[i, j]:
            found.append((ours[i], theirs[j]))
            i, j = i + 1, j + 1
        elif best[i, j] == best[i + 1, j]:
            i += 1
        else:
            j += 1
    return found


def _canonical(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
