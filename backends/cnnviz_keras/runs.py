"""Runs of one model: on pictures, on a blank one that lists its layers, and on from a layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import keras

from cnnviz import structures
from cnnviz.errors import CnnvizError, InvalidImage, InvalidOption
from cnnviz.preprocessing import Preprocessing
from cnnviz_keras import axes
from cnnviz_keras.calls import Call, Place, is_graph, is_tensor
from cnnviz_keras.gradients import Engine
from cnnviz_keras.inputs import Inputs
from cnnviz_keras.listing import Listing, list_layers, with_tokens
from cnnviz_keras.ops import KerasOps
from cnnviz_keras.recording import Mark, Recording, Rectifier, Stop, intercepting
from cnnviz_keras.replay import Cut, cut, repeated
from cnnviz_keras.specs import first_line
from cnnviz_keras.tokens import candidates, corners, spread

__all__ = ["Runs"]

Tensor = Any


class Runs:
    """How one model is run and its tensors are taken.

    Parameters
    ----------
    model : keras.Model
    engine : Engine
    inputs : Inputs
    ops : KerasOps
        In the dtype of pictures.
    first : bool
        Whether the channels of pictures come before their places.
    preprocessing : callable
        Gives that of pictures, or raises.
    """

    def __init__(
        self,
        model: keras.Model,
        engine: Engine,
        inputs: Inputs,
        ops: KerasOps,
        *,
        first: bool,
        preprocessing: Callable[[], Preprocessing],
    ) -> None:
        self._model = model
        self._engine = engine
        self._inputs = inputs
        self._ops = ops
        self._first = first
        self._preprocessing = preprocessing

    def presented(self, tap: str, place: Place, x: Tensor, count: int, lead: int = 0) -> Tensor:
        """See `cnnviz_keras.axes.presented`."""
        return axes.presented(tap, place, x, count=count, dtype=self._ops.dtype, lead=lead)

    def record(
        self,
        picture: Tensor,
        places: Mapping[str, Place],
        mark: Mark | None = None,
        marked: tuple[str, ...] = (),
        rectifier: Rectifier | None = None,
    ) -> dict[str, Tensor]:
        """Run the model on pictures until every tap was seen, and give their tensors."""
        if not places:
            return {}
        recording = Recording(self._model, places, mark=mark, marked=marked, rectifier=rectifier)
        self._run(self._normalised(picture), recording)
        return self._seen(recording, places, int(picture.shape[0]))

    def up_to(self, at: str, place: Place) -> Callable[[Tensor], tuple[Cut, Any]]:
        """Make a function that runs the model on one picture up to a tap.

        It gives what is known of the run, and the tensors that go with it: what went into the
        model, and what calls gave.
        """
        told: list[Cut] = []

        def function(picture: Tensor) -> Any:
            calls: list[Call] = []
            native = self._normalised(picture)
            recording = Recording(self._model, {at: place}, note=calls.append)
            output = self._run(native, recording)
            known, tensors = cut(calls, place, recording.seen[at], output)
            told[:] = [known]
            return native, tensors

        run = self._engine.forward(function)

        def opened(picture: Tensor) -> tuple[Cut, Any]:
            tensors = run(picture)
            return told[-1], tensors

        return opened

    def onward(
        self, at: str, known: Cut, places: Mapping[str, Place]
    ) -> Callable[[Tensor, Any], dict[str, Tensor]]:
        """Make a function of activations at a tap, and of what `up_to` gave, to those at taps."""

        def function(activation: Tensor, kept: Any) -> dict[str, Tensor]:
            picture, tensors = kept
            given, count = axes.native(
                at, known.place, activation, one=known.shape, dtype=known.dtype
            )
            recording = Recording(self._model, places, answers=known.answers(tensors, count, given))
            failing = (
                f"{self._model.name} does not go on from {count} activations at {at!r} with what"
                " one picture has elsewhere"
            )
            self._run(repeated(picture, count), recording, failing)
            return self._seen(recording, places, count)

        return self._engine.forward(function)

    def entering(self, places: Mapping[str, Place]) -> Callable[[Tensor], dict[str, Tensor]]:
        """Make a function of pictures that gives what goes into layers, each a single tensor."""

        def function(picture: Tensor) -> dict[str, Tensor]:
            calls: list[Call] = []
            recording = Recording(self._model, places, note=calls.append)
            self._run(self._normalised(picture), recording)
            by_key = {call.key: call for call in calls}
            found = {}
            for name, place in places.items():
                args, kwargs = by_key[place.key].args
                given = (*args, *kwargs.values())
                # By keyword, it may come after numbers.
                tensors = [x for x in given if is_tensor(x)]
                if tensors and len(list(structures.parts(given, is_tensor))) == 1:
                    found[name] = self._present_entering(name, place, tensors[0])
            return found

        return self._engine.forward(function)

    def alone(
        self, name: str, layer: keras.layers.Layer, place: Place
    ) -> Callable[[Tensor], Tensor]:
        """Make a function that runs one layer on what `entering` gives."""

        def function(x: Tensor) -> Tensor:
            if self._enters_first(place, x):
                x = axes.channels_first(x)
            told = {"training": False} if layer._call_has_training_arg else {}
            try:
                # As in a run; through __call__ Keras holds a graph to the size of its Input.
                output = layer.call(x, **told) if is_graph(layer) else layer(x, **told)
            except Exception as error:
                shape = " x ".join(map(str, x.shape))
                raise InvalidOption(
                    f"{name!r} does not take a tensor of {shape}: {first_line(error)}"
                ) from error
            found = structures.part_of(output, place.part)
            return self.presented(name, place, found, int(x.shape[0]))

        return self._engine.forward(function)

    def _present_entering(self, name: str, place: Place, x: Tensor) -> Tensor:
        shown = replace(place, first=self._enters_first(place, x))
        return self.presented(name, shown, x, int(x.shape[0]))

    def _enters_first(self, place: Place, x: Tensor) -> bool:
        """Say whether the channels of what goes into a layer come before its places."""
        rank = len(x.shape)
        # A layer that flattens has no place for channels, but what goes into it has.
        return (place.first and rank > 2) or (self._first and rank > 3)

    def listing(self, sides: tuple[int, ...], channels: int, wanted: str | int | None) -> Listing:
        """List the layers by tracing the model on one blank picture.

        Parameters
        ----------
        sides : tuple of int
            Height and width of the picture.
        channels : int
        wanted : str, int or None
            Which output, or which layer, holds the class scores.
        """
        listings: list[Listing] = []

        def function(native: Tensor) -> None:
            calls: list[Call] = []
            output = self._run(native, Recording(self._model, {}, note=calls.append))
            # Within the trace: tensors of a graph are told apart only while it is made.
            listings.append(
                list_layers(self._model, calls, output, native, wanted=wanted, first=self._first)
            )

        shape = (1, channels, *sides) if self._first else (1, *sides, channels)
        self._engine.trace(function, shape, self._ops.dtype)
        listing = listings[-1]
        return self._with_tokens(listing, sides, channels) if len(sides) == 2 else listing

    def _with_tokens(self, listing: Listing, sides: tuple[int, ...], channels: int) -> Listing:
        """Find where the tokens of a transformer lie; other networks cost nothing here."""
        names = [
            name for group in candidates(listing.layers, listing.turned).values() for name in group
        ]
        if not names:
            return listing
        places = {name: listing.places[name] for name in names}

        def function(picture: Tensor) -> Mapping[str, Tensor]:
            recording = Recording(self._model, places)
            self._run(axes.native_picture(picture, self._first), recording)
            return recording.seen

        picture = self._ops.asarray(corners(sides[0], sides[1], channels))
        seen = self._engine.once(function, picture)
        values = {name: self._ops.to_numpy(x) for name, x in seen.items()}
        return with_tokens(listing, spread(listing.layers, listing.turned, values.__getitem__))

    def _run(self, native: Tensor, recording: Recording, failing: str | None = None) -> Any:
        model = self._model
        args, kwargs = self._inputs.arguments(native)
        with intercepting(recording):
            try:
                if is_graph(model):
                    output = model.call(*args, training=False)
                else:
                    output = model(*args, **kwargs, training=False)
                return recording.finish(output)
            except Stop:
                return None
            except CnnvizError:
                raise
            except Exception as error:
                shape = " x ".join(map(str, native.shape[1:]))
                failing = failing or f"{model.name} does not take pictures of {shape}"
                raise InvalidImage(f"{failing}: {first_line(error)}") from error

    def _seen(
        self, recording: Recording, places: Mapping[str, Place], count: int
    ) -> dict[str, Tensor]:
        return {
            tap: self.presented(tap, place, recording.seen[tap], count)
            for tap, place in places.items()
        }

    def _normalised(self, picture: Tensor) -> Tensor:
        preprocessing = self._preprocessing()
        shift, factor = (self._ops.asarray(v) for v in preprocessing.affine())
        if preprocessing.order == "bgr":
            picture = keras.ops.flip(picture, axis=-1)
        return axes.native_picture((picture - shift) * factor, self._first)
