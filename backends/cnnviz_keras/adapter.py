"""Keras 3 models behind the contract: functional, Sequential, nested and subclassed."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, Literal

import keras
from numpy.typing import NDArray

from cnnviz.adapter import INPUT, LOGITS, OUTPUT, Adapter, Evaluation, Layer
from cnnviz.errors import (
    CnnvizError,
    InvalidImage,
    InvalidOption,
    UnsupportedModel,
)
from cnnviz.preprocessing import Preprocessing
from cnnviz_keras.gradients import make_engine
from cnnviz_keras.inputs import Inputs, refuse_wrapped
from cnnviz_keras.listing import Listing, list_layers, with_tokens
from cnnviz_keras.ops import KerasOps
from cnnviz_keras.recording import (
    Call,
    Mark,
    Place,
    Recording,
    Rectifier,
    Stop,
    intercepting,
    is_graph,
)
from cnnviz_keras.specs import find_preprocessing, first_line
from cnnviz_keras.structure import (
    channels_first,
    conv_kernels,
    flatten,
    own_variables,
    picture_dtype,
    same_place,
)
from cnnviz_keras.tensors import neutral_kernel
from cnnviz_keras.tokens import candidates, corners, spread

__all__ = ["KerasAdapter"]

Tensor = Any

_TRACES_KEPT = 32
# What each kind of float holds without loss.
_NARROWER = {
    "float32": ("float16", "bfloat16"),
    "float64": ("float16", "bfloat16", "float32"),
}


class KerasAdapter(Adapter[Tensor]):
    """One `keras.Model`, called with ``training=False`` and traced once for each kind of call.

    Addresses are names of layers, joined by ``/`` where models nest: ``backbone/block1_conv``.

    Parameters
    ----------
    model : keras.Model
        Built; a subclassed one has been called.
    preprocessing : Preprocessing, optional
        That of keras.applications where the model is of there and it is not given.
    input_shape : tuple of int, optional
        Height, width and channels, or as many sides as the model's convolutions have and
        channels; by default the model's own, or the preprocessing's.
    output : str or int, optional
        Which output holds the class scores: its key, its place or its name in a functional
        model, or the address of a layer.
    other_inputs : mapping of str to array, optional
        What the model takes besides the picture: one example each, without the batch axis.
    device : str, optional
        Must be where the model is: Keras places a model when it is built.

    Raises
    ------
    UnsupportedModel
        The model has no weights yet, is quantised or carries LoRA, or Keras runs on what
        gives no gradients.
    InvalidOption
        An input of the model is missing from `other_inputs`, or is not one.
    """

    def __init__(
        self,
        model: keras.Model,
        *,
        preprocessing: Preprocessing | None = None,
        input_shape: tuple[int, ...] | None = None,
        output: str | int | None = None,
        other_inputs: Mapping[str, Any] | None = None,
        device: str | None = None,
    ) -> None:
        if not model.built:
            raise UnsupportedModel(
                f"{model.name} has no weights yet; call it once on a batch of pictures first"
            )
        refuse_wrapped(model)
        self.model = model
        self.name = model.name
        self.framework = f"keras-{keras.backend.backend()}"
        self._engine = make_engine(model)
        self.compiled = self._engine.compiled
        self._dtype = picture_dtype(model)
        self.ops = KerasOps(self._dtype)
        self._channels_first = channels_first(model)
        self._preprocessing = preprocessing or find_preprocessing(model)
        self._given_shape = input_shape
        self._inputs = Inputs(model, other_inputs, len(input_shape) + 1 if input_shape else None)
        self._wanted = output
        self._listing: Listing | None = None
        self._functions: OrderedDict[Hashable, Callable[..., Any]] = OrderedDict()
        self._lock = threading.RLock()
        if device is not None and not same_place(device, self.device):
            raise InvalidOption(
                f"{self.name} is on {self.device}; Keras places a model when it is built, so if"
                f" there is a {device!r}, build or load it within `with keras.device({device!r}):`"
            )

    @classmethod
    def accepts(cls, model: object) -> bool:
        """Take every `keras.Model`."""
        return isinstance(model, keras.Model)

    @property
    def input_shape(self) -> tuple[*tuple[int | None, ...], int]:
        """Height, width and channels that the model was built for, whatever its data format."""
        if self._given_shape is not None:
            *given, last = self._given_shape
            return (*given, last)
        rank, shape = self._inputs.rank, self._inputs.shape
        if shape is None or len(shape) != rank:
            channels = next((k.shape[-2] for k in conv_kernels(self.model, rank)), 3)
            shape = (*(None,) * (rank - 1), channels)
        elif self._channels_first:
            shape = (shape[0], *shape[2:], shape[1])
        size = self._preprocessing.size if self._preprocessing and rank == 4 else None
        told = size or (None,) * (rank - 2)
        sides = (side or known for side, known in zip(shape[1:-1], told, strict=True))
        return (*sides, int(shape[-1] or 3))

    @property
    def device(self) -> str:
        """Where the first of the weights lies."""
        weights = self.model.weights
        return self._engine.device(weights[0]) if weights else "cpu"

    def layers(self) -> Sequence[Layer]:
        """List every call of every layer; traces the model the first time."""
        return self._listed().layers

    def weights(self, layer: str | None = None) -> Mapping[str, NDArray[Any]]:
        """See `cnnviz.adapter.Adapter.weights`."""
        if layer is None:
            owner = self.model
        else:
            name = self.layer(layer).name
            owner = self._listed().objects[name]
        parts = list(flatten(owner))
        leaf = len(parts) == 1
        found: dict[str, NDArray[Any]] = {}
        seen: set[int] = set()
        for part in parts:
            for variable in own_variables(part):
                if id(variable) not in seen:
                    seen.add(id(variable))
                    name = variable.name if leaf and layer is not None else variable.path
                    while name in found:
                        name += "'"
                    value = self.ops.to_numpy(variable.value)
                    found[name] = neutral_kernel(part, variable.name, value)
        return found

    def forward(self, x: Tensor, *, taps: Iterable[str]) -> Mapping[str, Tensor]:
        """See `cnnviz.adapter.Adapter.forward`."""
        taps = tuple(dict.fromkeys(taps))
        self._resolve(taps, x)

        def function(picture: Tensor) -> Mapping[str, Tensor]:
            return self._record(picture, taps)

        key = ("forward", taps, tuple(x.shape))
        run = self._function(key, lambda: self._engine.forward(function))
        return dict(run(x))

    def gradient(
        self,
        score: Callable[..., Tensor],
        x: Tensor,
        *,
        taps: Iterable[str],
        wrt: Sequence[str] = (INPUT,),
        prepare: Callable[..., Tensor] | None = None,
        score_args: Sequence[Tensor] = (),
        prepare_args: Sequence[Tensor] = (),
        relu: Literal["plain", "redirected"] = "plain",
    ) -> Evaluation[Tensor]:
        """See `cnnviz.adapter.Adapter.gradient`."""
        taps, wrt = tuple(dict.fromkeys(taps)), tuple(wrt)
        if prepare is None:
            self._resolve((*taps, *wrt), x)

        def body(mark: Mark, x: Tensor, score_args: Any, prepare_args: Any) -> Any:
            if INPUT in wrt:
                x = mark(INPUT, x)
            picture = prepare(x, *prepare_args) if prepare is not None else x
            beside: Mapping[str, Tensor] = {}
            if isinstance(picture, tuple):
                picture, beside = picture
            inner = tuple(tap for tap in wrt if tap != INPUT)
            rectifier = self._engine.redirected if relu == "redirected" else None
            recorded = self._record(picture, (*taps, *inner), mark, inner, rectifier)
            activations = {tap: recorded[tap] for tap in taps}
            return score({**beside, **activations}, *score_args), activations

        # By shape too: TensorFlow warns of a function that is traced for many.
        key = ("gradient", score, prepare, taps, wrt, relu, tuple(x.shape))
        run = self._function(key, lambda: self._engine.gradient(body, wrt))
        value, activations, gradients = run(x, tuple(score_args), tuple(prepare_args))
        places = self._resolve((*taps, *wrt), None)
        count = next((int(a.shape[0]) for a in (x, *activations.values()) if len(a.shape)), 1)
        return Evaluation(
            value,
            activations,
            {
                tap: self._presented(tap, places[tap], slope, count) if tap in places else slope
                for tap, slope in gradients.items()
            },
        )

    def traced(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """See `cnnviz.adapter.Adapter.traced`."""

        def run(*args: Any) -> Any:
            shapes = tuple(tuple(a.shape) for a in keras.tree.flatten(args) if hasattr(a, "shape"))
            make = lambda: self._engine.function(function)  # noqa: E731
            return self._function(("function", function, shapes), make)(*args)

        return run

    def decoder(self, model: Any) -> Callable[[Tensor], Tensor]:
        """See `cnnviz.adapter.Adapter.decoder`."""
        if not self.accepts(model):
            raise UnsupportedModel(
                f"a generator for {self.name} is a keras.Model, not a {type(model).__name__}"
            )
        first = channels_first(model)

        def paint(code: Tensor) -> Tensor:
            try:
                painted = model(code, training=False)
            except Exception as error:
                raise InvalidOption(
                    f"the generator does not take codes {tuple(code.shape)}: {first_line(error)}"
                ) from error
            if first and len(painted.shape) == 4:
                painted = keras.ops.transpose(painted, (0, 2, 3, 1))
            return painted

        return paint

    def _function(self, key: Hashable, make: Callable[[], Callable[..., Any]]) -> Any:
        """Give the traced function for a kind of call; the least used is forgotten."""
        with self._lock:
            if key not in self._functions:
                self._functions[key] = make()
            self._functions.move_to_end(key)
            while len(self._functions) > _TRACES_KEPT:
                self._functions.popitem(last=False)
            return self._functions[key]

    def _record(
        self,
        picture: Tensor,
        taps: Sequence[str],
        mark: Mark | None = None,
        marked: tuple[str, ...] = (),
        rectifier: Rectifier | None = None,
    ) -> dict[str, Tensor]:
        """Run the model on a picture until every tap was seen, and give their tensors."""
        found = {INPUT: picture} if INPUT in taps else {}
        places = self._resolve(taps, picture)
        if not places:
            return found
        recording = Recording(self.model, places, mark=mark, marked=marked, rectifier=rectifier)
        self._run(self._normalised(picture), recording)
        count = int(picture.shape[0])
        for tap, place in places.items():
            found[tap] = self._presented(tap, place, recording.seen[tap], count)
        return found

    def _run(self, native: Tensor, recording: Recording) -> Any:
        model = self.model
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
                raise InvalidImage(
                    f"{self.name} does not take pictures of {shape}: {first_line(error)}"
                ) from error

    def _normalised(self, picture: Tensor) -> Tensor:
        preprocessing = self.require_preprocessing()
        shift, factor = (self.ops.asarray(v) for v in preprocessing.affine())
        if preprocessing.order == "bgr":
            picture = keras.ops.flip(picture, axis=-1)
        return self._native((picture - shift) * factor)

    def _native(self, picture: Tensor) -> Tensor:
        """Move the channels to where the model takes them."""
        if not self._channels_first:
            return picture
        rank = len(picture.shape)
        return keras.ops.transpose(picture, (0, rank - 1, *range(1, rank - 1)))

    def _presented(self, tap: str, place: Place, x: Tensor, count: int) -> Tensor:
        """Give a tensor as the contract has it; class scores with an axis for each picture."""
        rank = len(x.shape)
        kind = keras.backend.standardize_dtype(x.dtype)
        if kind != self._dtype and kind in _NARROWER.get(self._dtype, ()):
            # Layers of mixed precision give less than the picture has, and do not mix with it.
            x = keras.ops.cast(x, self._dtype)
        if place.first:
            x = keras.ops.transpose(x, (0, *range(2, rank), 1))
        if tap == LOGITS and rank <= 1:
            return keras.ops.reshape(x, (count, -1))
        if tap == LOGITS and x.shape[0] not in (count, None) and x.shape[0] % count == 0:
            return keras.ops.reshape(x, (count, x.shape[0] // count, *x.shape[1:]))
        return x

    def settle(self, *size: int) -> None:
        """See `cnnviz.adapter.Adapter.settle`."""
        with self._lock:
            if self._listing is None and None in self.input_shape[:-1]:
                self._probe(size)

    def _resolve(self, taps: Iterable[str], picture: Tensor | None) -> dict[str, Place]:
        """Find where the tensor of each tap is met; that of the picture is known."""
        names = [tap for tap in taps if tap != INPUT]
        if names and picture is not None:
            self.settle(*picture.shape[1:-1])
        return {tap: self._place(tap) for tap in names}

    def _place(self, tap: str) -> Place:
        listing = self._listed()
        if tap in (OUTPUT, LOGITS):
            place = listing.output if tap == OUTPUT else listing.logits
            if place is None:
                raise UnsupportedModel(
                    f"what {self.name} returns holds no tensor of class scores; name the layer that"
                    " gives them: cnnviz.adapt(model, output='address')"
                )
            return place
        if tap in listing.places:
            place = listing.places[tap]
        else:
            place = listing.places[self.layer(tap).name]
        return place

    def _listed(self) -> Listing:
        with self._lock:
            if self._listing is None:
                *sides, channels = self.input_shape
                if None in sides:
                    wanted = {1: "3000, ", 2: "224, 224, ", 3: "32, 64, 64, "}[len(sides)]
                    raise InvalidOption(
                        f"nothing tells what size of picture {self.name} takes; give it:"
                        f" cnnviz.adapt(model, input_shape=({wanted}{channels}))"
                        + (" (--size on the command line)" if len(sides) == 2 else "")
                    )
                self._probe(tuple(side or 1 for side in sides))
            assert self._listing is not None
            return self._listing

    def _probe(self, sides: tuple[int, ...]) -> None:
        """List the layers by tracing the model on one blank picture."""
        channels = self.input_shape[-1]
        listings: list[Listing] = []

        def function(native: Tensor) -> None:
            calls: list[Call] = []
            output = self._run(native, Recording(self.model, {}, note=calls.append))
            # Within the trace: tensors of a graph are told apart only while it is made.
            listings.append(
                list_layers(
                    self.model,
                    calls,
                    output,
                    native,
                    wanted=self._wanted,
                    first=self._channels_first,
                )
            )

        shape = (1, channels, *sides) if self._channels_first else (1, *sides, channels)
        self._engine.trace(function, shape, self._dtype)
        listing = listings[-1]
        if len(sides) == 2:
            listing = self._with_tokens(listing, sides, channels)
        self.classes, self.dense = listing.classes, listing.dense
        self.final_activation = listing.final_activation
        self.listed_size = sides
        self._listing = listing

    def _with_tokens(self, listing: Listing, sides: tuple[int, ...], channels: int) -> Listing:
        """Find where the tokens of a transformer lie; other networks cost nothing here."""
        names = [
            name for group in candidates(listing.layers, listing.turned).values() for name in group
        ]
        if not names:
            return listing
        places = {name: listing.places[name] for name in names}

        def function(picture: Tensor) -> Mapping[str, Tensor]:
            recording = Recording(self.model, places)
            self._run(self._native(picture), recording)
            return recording.seen

        seen = self._engine.once(function, self.ops.asarray(corners(sides[0], sides[1], channels)))
        values = {name: self.ops.to_numpy(x) for name, x in seen.items()}
        return with_tokens(listing, spread(listing.layers, listing.turned, values.__getitem__))
