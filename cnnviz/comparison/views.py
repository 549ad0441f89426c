"""The output of matched layers as both networks have it: in one order, with one activation."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.comparison.flattening import IN_PLACE, turned_rows
from cnnviz.comparison.matching import Pair
from cnnviz.comparison.probes import Probe
from cnnviz.comparison.reference import ACTIVATIONS, activate

__all__ = ["View", "activation_of", "apply_views", "views_of"]

Array = NDArray[Any]
Activation = tuple[Any, ...]

_LINEAR = ("linear",)


@dataclass(frozen=True, eq=False)
class View:
    """What has to be done to the outputs of a pair before they can be compared.

    Attributes
    ----------
    first, second : tuple, optional
        The activation that is a function between the layers of one network, and within the
        layer in the other.
    rows : array of int, optional
        Where each number of the second's row is in that of the first, if a map was flattened
        in another order before.
    """

    first: Activation | None = None
    second: Activation | None = None
    rows: NDArray[np.intp] | None = None


def views_of(one: Probe, two: Probe, pairs: Sequence[Pair]) -> dict[str, View]:
    """Give the view of each pair that needs one, by its name.

    What is put in here is proved by the layers that follow: they get what the network really
    hands on.
    """
    found = {}
    for pair in pairs:
        ours = activation_of(one, pair.layers, pair.main)
        theirs = activation_of(two, pair.others, pair.other_main)
        # What the matching has found already is applied by the pair itself.
        first = theirs if pair.as_tapped and ours == _LINEAR and _known(theirs) else None
        second = ours if pair.as_tapped and theirs == _LINEAR and _known(ours) else None
        rows = None
        if pair.family in IN_PLACE:
            rows = turned_rows(one, two, pair.main, pair.other_main)
        if first or second or rows is not None:
            found[pair.name] = View(first, second, rows)
    return found


def apply_views(
    views: Mapping[str, View],
    pairs: Sequence[Pair],
    first: MutableMapping[str, Array],
    second: MutableMapping[str, Array],
) -> None:
    """Replace the outputs of both networks by what can be compared.

    Parameters
    ----------
    views : mapping of str to View
    pairs : sequence of Pair
    first, second : mapping of str to array
        As `cnnviz.comparison.differences.outputs_of` gives them.
    """
    for pair in pairs:
        view = views.get(pair.name)
        if view is None:
            continue
        if view.first is not None:
            first[pair.name] = activate(first[pair.name], view.first)
        if view.second is not None:
            second[pair.other] = activate(second[pair.other], view.second)
        if view.rows is not None:
            first[pair.name] = first[pair.name][:, view.rows]


def activation_of(probe: Probe, layers: Sequence[str], main: str) -> Activation | None:
    """Give the activation that layers end in; None if nothing tells."""
    last = layers[-1] if probe.family(layers[-1]) == "activation" else main
    found: Activation | None = probe.settings(last).get("activation")
    return found


def _known(activation: Activation | None) -> bool:
    return activation is not None and activation != _LINEAR and activation[0] in ACTIVATIONS
