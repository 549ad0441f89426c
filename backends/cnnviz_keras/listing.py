"""The layers of a model, found by running one blank picture through it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import keras

from cnnviz import structures
from cnnviz.adapter import Layer
from cnnviz_keras.calls import Call, Place, is_tensor
from cnnviz_keras.dataflow import Dataflow
from cnnviz_keras.recording import ACTIVATIONS
from cnnviz_keras.structure import flatten, parameters
from cnnviz_keras.tokens import TokenGrid

__all__ = ["Listing", "list_layers", "with_tokens"]


@dataclass(frozen=True)
class Listing:
    """What a run has told of a model.

    Attributes
    ----------
    layers : tuple of Layer
    places : dict of str to Place
        Of each layer, by its name, and of every output, by its tap.
    objects : dict of str to keras.layers.Layer
        The layer of each row.
    turned : frozenset of str
        Rows of tensors whose channels come before what may be tokens.
    output, logits : Place or None
        The output that holds the class scores, and where they are before a final softmax;
        None if the model returns no tensor.
    classes : int or None
    dense : bool
    final_activation : str or None
    """

    layers: tuple[Layer, ...] = ()
    places: dict[str, Place] = field(default_factory=dict)
    objects: dict[str, keras.layers.Layer] = field(default_factory=dict)
    turned: frozenset[str] = frozenset()
    output: Place | None = None
    logits: Place | None = None
    classes: int | None = None
    dense: bool = False
    final_activation: str | None = None


def list_layers(
    model: keras.Model,
    calls: Sequence[Call],
    output: Any,
    picture: Any,
    *,
    wanted: str | int | None,
    first: bool,
) -> Listing:
    """List what the layers gave in a run.

    Parameters
    ----------
    model : keras.Model
    calls : sequence of Call
        In the order in which they finished.
    output : object
        What the model returned.
    picture : tensor
        What went in, of one picture.
    wanted : str, int or None
        Which output, or which layer, holds the class scores.
    first : bool
        Whether the channels of the picture come before its places.

    Raises
    ------
    InvalidOption
        There is no such output.
    """
    flow = Dataflow(calls, picture, first)
    rank = len(picture.shape)
    layers = [call for call in calls if call.source == "layer"]
    repeats = Counter(call.address for call in layers)
    rows: list[tuple[Layer, Any]] = []
    found = Listing()
    for call in layers:
        name = call.address if repeats[call.address] == 1 else f"{call.address}:{call.number}"
        tensors = dict(structures.parts(call.output, is_tensor))
        count = sum(math.prod(v.shape) for v in parameters(call.layer))
        leaf = sum(1 for _ in flatten(call.layer)) == 1
        for keys, x in (tensors or {"": None}).items():
            row = name + (keys if len(tensors) > 1 else "")
            channels_first = x is not None and flow.channels_first(x)
            shape = None if x is None else _moved(x.shape, channels_first)
            layer = Layer(
                row,
                type(call.layer).__name__,
                None if shape is None else (None, *shape[1:]),
                count,
                leaf=leaf,
                grid=shape[1:-1] if shape is not None and len(shape) == rank else (),
                rows=shape[0] if shape else 1,
                field=None if x is None else flow.field(x),
            )
            rows.append((layer, x))
            found.places[row] = Place("layer", call.address, call.number, keys, channels_first)
            found.objects[row] = call.layer
    turned = frozenset(layer.name for layer, x in rows if x is not None and flow.turned(x))
    outputs = dict(structures.parts(output, is_tensor))
    for keys, x in outputs.items():
        place = Place("output", part=keys, first=flow.channels_first(x))
        found.places[f"<output>{keys}"] = place
    tap = structures.chosen_tap(
        output,
        is_tensor,
        wanted,
        layers=found.places,
        names=list(getattr(model, "output_names", None) or []),
        model=model.name,
    )
    if tap is None:
        return replace(found, layers=tuple(layer for layer, _ in rows), turned=turned)
    place = found.places[tap]
    score = outputs[place.part] if place.source == "output" else _tensor(layers, place)
    way = flow.way_to(score)
    listed = tuple(replace(layer, leads_to_score=way(x)) for layer, x in rows)
    shape = _moved(score.shape, place.first)
    logits, activation = place, None
    for call in calls:
        if call.source == "activation" and call.output is score and is_tensor(call.args):
            logits = Place("activation", call.address, call.number, "", place.first)
            activation = ACTIVATIONS[call.address]
    return replace(
        found,
        layers=listed,
        turned=turned,
        output=place,
        logits=logits,
        classes=shape[-1] if len(shape) > 1 else 1,
        dense=len(shape) > 2 or (len(shape) == 2 and shape[0] != 1),
        final_activation=activation,
    )


def with_tokens(listing: Listing, grids: dict[str, TokenGrid]) -> Listing:
    """Give the layers of tokens their grids."""
    return replace(
        listing,
        layers=tuple(
            replace(layer, grid=grids[layer.name].grid, class_tokens=grids[layer.name].before)
            if layer.name in grids
            else layer
            for layer in listing.layers
        ),
    )


def _tensor(layers: Sequence[Call], place: Place) -> Any:
    call = next(c for c in layers if (c.address, c.number) == (place.address, place.call))
    return structures.part_of(call.output, place.part)


def _moved(shape: Any, channels_first: bool) -> tuple[int, ...]:
    sides = tuple(shape)
    return (sides[0], *sides[2:], sides[1]) if channels_first else sides
