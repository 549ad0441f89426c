"""Keras 3 models behind the contract: functional, Sequential, nested and subclassed."""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import keras
from numpy.typing import NDArray

from cnnviz.adapter import INPUT, LOGITS, OUTPUT, Adapter, Evaluation, Layer, ReluRule
from cnnviz.errors import InvalidImage, InvalidOption, TapNotReached, UnsupportedModel
from cnnviz.files import write_bytes
from cnnviz.preprocessing import Preprocessing
from cnnviz_keras import state
from cnnviz_keras.affine import offset_of
from cnnviz_keras.calls import Place
from cnnviz_keras.copies import in_float64
from cnnviz_keras.decoders import decoder
from cnnviz_keras.gradients import make_engine
from cnnviz_keras.inputs import Inputs, refuse_wrapped
from cnnviz_keras.listing import Listing
from cnnviz_keras.ops import KerasOps
from cnnviz_keras.recording import Mark
from cnnviz_keras.rectifiers import RULES
from cnnviz_keras.runs import Runs
from cnnviz_keras.settings import settings_of
from cnnviz_keras.specs import find_preprocessing
from cnnviz_keras.structure import channels_first, conv_kernels, picture_dtype, same_place

__all__ = ["KerasAdapter"]

Tensor = Any

_TRACES_KEPT = 32


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
        self._runs = Runs(
            model,
            self._engine,
            self._inputs,
            self.ops,
            first=self._channels_first,
            preprocessing=self.require_preprocessing,
        )
        self._wanted = output
        self._given_inputs = other_inputs
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
    def environment(self) -> Mapping[str, str]:
        """Keras's engine, which is fixed once Keras is imported, and whether JAX has 64 bits."""
        engine = str(keras.backend.backend())
        found = {"KERAS_BACKEND": engine}
        if engine == "jax":
            found["JAX_ENABLE_X64"] = str(int(sys.modules["jax"].config.jax_enable_x64))
        return found

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
    def any_thread(self) -> bool:
        """See `cnnviz.adapter.Adapter`."""
        return self._engine.any_thread

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
            return state.weights_of(self.model, self.ops.to_numpy, alone=False)
        owner = self._listed().objects[self.layer(layer).name]
        return state.weights_of(owner, self.ops.to_numpy, alone=True)

    def weight_shapes(self, layer: str) -> Mapping[str, tuple[int, ...]]:
        """See `cnnviz.adapter.Adapter.weight_shapes`; no number is fetched."""
        owner = self._listed().objects[self.layer(layer).name]
        variables = state.named_variables(owner, alone=True)
        return {name: x.shape for name, x in state.unfilled(variables).items()}

    def offsets(self) -> Mapping[str, NDArray[Any]]:
        """See `cnnviz.adapter.Adapter.offsets`.

        Layers with an activation of their own, such as ``Conv2D(activation="relu")``, are left
        out: what they give is not affine.
        """
        found = {}
        for name, layer in self._listed().objects.items():
            offset = offset_of(layer, self.ops.to_numpy)
            if offset is not None:
                found[name] = offset.astype(self._dtype)
        return found

    def assign(self, weights: Mapping[str, NDArray[Any]]) -> None:
        """See `cnnviz.adapter.Adapter.assign`."""
        state.assign(self.model, weights, self.ops.to_numpy)

    def weight_names(self, layer: str) -> Mapping[str, str]:
        """See `cnnviz.adapter.Adapter.weight_names`."""
        owner = self._listed().objects[self.layer(layer).name]
        return state.names_within(self.model, owner)

    def settings(self, layer: str) -> Mapping[str, Any]:
        """See `cnnviz.adapter.Adapter.settings`."""
        return settings_of(self._listed().objects[self.layer(layer).name])

    def entering(self, x: Tensor, *, layers: Iterable[str]) -> Mapping[str, Tensor]:
        """See `cnnviz.adapter.Adapter.entering`."""
        names = tuple(dict.fromkeys(layers))
        for name in names:
            self.settle(*x.shape[1:-1])
            # Not at the picture or the output, which are no layers.
            self.layer(name)
        places = self._resolve(names, x)
        if not places:
            return {}
        key = ("entering", names, tuple(x.shape))
        return dict(self._function(key, lambda: self._runs.entering(places))(x))

    def apply(self, layer: str, x: Tensor) -> Tensor:
        """See `cnnviz.adapter.Adapter.apply`."""
        name = self.layer(layer).name
        owner, place = self._listed().objects[name], self._place(name)
        key = ("apply", name, tuple(x.shape))
        return self._function(key, lambda: self._runs.alone(name, owner, place))(x)

    @contextmanager
    def in_float64(self) -> Iterator[Adapter[Tensor]]:
        """See `cnnviz.adapter.Adapter.in_float64`."""
        with in_float64(self.model) as copy:
            made = type(self)(
                copy,
                preprocessing=self._preprocessing,
                input_shape=self._given_shape,
                output=self._wanted,
                other_inputs=self._given_inputs,
            )
            made.labels = self.labels
            if self.listed_size is not None:
                made.settle(*self.listed_size)
            yield made

    def forward(self, x: Tensor, *, taps: Iterable[str]) -> Mapping[str, Tensor]:
        """See `cnnviz.adapter.Adapter.forward`."""
        return dict(self._forward(x, taps)(x))

    def streams(
        self, x: Tensor, *, taps: Iterable[str], most: int
    ) -> Sequence[Callable[[], Adapter[Tensor]]]:
        """See `cnnviz.adapter.Adapter.streams`; what was traced may be run by any thread."""
        count = 1
        if most > 1 and self.device.startswith("cpu"):
            count = min(most, self._engine.at_once(self._forward(x, taps), x))
        return [lambda: self] * count

    def _forward(self, x: Tensor, taps: Iterable[str]) -> Callable[[Tensor], Any]:
        taps = tuple(dict.fromkeys(taps))
        places = self._resolve(taps, x)

        def function(picture: Tensor) -> Mapping[str, Tensor]:
            found = {INPUT: picture} if INPUT in taps else {}
            return {**found, **self._runs.record(picture, places)}

        key = ("forward", taps, tuple(x.shape))
        found: Callable[[Tensor], Any]
        found = self._function(key, lambda: self._engine.forward(function))
        return found

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
        relu: ReluRule = "plain",
        jacobian: bool = False,
        curvature: bool = False,
    ) -> Evaluation[Tensor]:
        """See `cnnviz.adapter.Adapter.gradient`."""
        taps, wrt = tuple(dict.fromkeys(taps)), tuple(wrt)
        if curvature and (jacobian or relu != "plain"):
            raise InvalidOption("a curvature goes with no jacobian, and no rule for ReLU")
        rectifier = None if relu == "plain" else self._engine.ruled(RULES[relu])
        inner = tuple(tap for tap in wrt if tap != INPUT)
        if prepare is None:
            self._resolve((*taps, *wrt), x)

        def body(mark: Mark, x: Tensor, score_args: Any, prepare_args: Any) -> Any:
            if INPUT in wrt:
                x = mark(INPUT, x)
            picture = prepare(x, *prepare_args) if prepare is not None else x
            beside: Mapping[str, Tensor] = {}
            if isinstance(picture, tuple):
                picture, beside = picture
            places = self._resolve((*taps, *inner), picture)
            recorded = self._runs.record(picture, places, mark, inner, rectifier)
            recorded[INPUT] = picture
            activations = {tap: recorded[tap] for tap in taps}
            value = score({**beside, **activations}, *score_args)
            if jacobian and len(value.shape) != 2:
                raise InvalidOption(f"a jacobian is of scores (N, K), not {tuple(value.shape)}")
            return value, activations

        # By shape too: TensorFlow warns of a function that is traced for many.
        key = ("gradient", score, prepare, taps, wrt, relu, jacobian, curvature, tuple(x.shape))
        run = self._function(
            key,
            lambda: self._engine.gradient(body, wrt, jacobian=jacobian, curvature=curvature),
        )
        value, activations, slopes, bends = run(x, tuple(score_args), tuple(prepare_args))
        places = self._resolve(inner, None)
        count = next((int(a.shape[0]) for a in (x, *activations.values()) if len(a.shape)), 1)

        def presented(found: Mapping[str, Tensor], lead: int = 0) -> dict[str, Tensor]:
            return {
                tap: self._runs.presented(tap, places[tap], y, count, lead) if tap in places else y
                for tap, y in found.items()
            }

        return Evaluation(value, activations, presented(slopes, int(jacobian)), presented(bends))

    def resume(
        self, x: Tensor, *, at: str, taps: Iterable[str]
    ) -> Callable[[Tensor], Mapping[str, Tensor]]:
        """See `cnnviz.adapter.Adapter.resume`.

        What one picture has elsewhere is repeated for each activation.
        """
        taps = tuple(dict.fromkeys(taps))
        if int(x.shape[0]) != 1:
            raise InvalidImage(f"a run goes on from one picture, not from {int(x.shape[0])}")
        places = self._resolve((at, *taps), x)
        if at == INPUT:
            return lambda activation: self.forward(activation, taps=taps)
        key = ("up to", at, tuple(x.shape))
        known, kept = self._function(key, lambda: self._runs.up_to(at, places[at]))(x)
        for tap in taps:
            if tap == INPUT or places[tap].key in known.passed:
                raise TapNotReached(f"{tap!r} comes before {at!r}, from which the run goes on")
        wanted = {tap: places[tap] for tap in taps}

        def go_on(activation: Tensor) -> Mapping[str, Tensor]:
            key = ("resume", known, taps, tuple(activation.shape))
            run = self._function(key, lambda: self._runs.onward(at, known, wanted))
            return dict(run(activation, kept))

        return go_on

    def require_savable(self, path: Path) -> None:
        """See `cnnviz.adapter.Adapter.require_savable`."""
        if not path.name.lower().endswith((".keras", ".weights.h5")):
            raise InvalidOption(f"Keras writes .keras or .weights.h5 files, not {path.name!r}")

    def save(self, path: Path) -> None:
        """Write the model, or its weights alone; see `cnnviz.adapter.Adapter.save`."""
        self.require_savable(path)
        with TemporaryDirectory() as folder:
            draft = Path(folder) / path.name
            if path.suffix.lower() == ".keras":
                self.model.save(draft)
            else:
                self.model.save_weights(draft)
            write_bytes(path, draft.read_bytes())

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
        return decoder(model)

    def _function(self, key: Hashable, make: Callable[[], Callable[..., Any]]) -> Any:
        """Give the traced function for a kind of call; the least used is forgotten."""
        with self._lock:
            if key not in self._functions:
                self._functions[key] = make()
            self._functions.move_to_end(key)
            while len(self._functions) > _TRACES_KEPT:
                self._functions.popitem(last=False)
            return self._functions[key]

    def settle(self, *size: int) -> None:
        """See `cnnviz.adapter.Adapter.settle`."""
        with self._lock:
            if self._listing is None and None in self.input_shape[:-1]:
                self._probe(size)

    def layers_at(self, *size: int) -> Sequence[Layer]:
        """See `cnnviz.adapter.Adapter.layers_at`."""
        with self._lock:
            self.settle(*size)
            if self._listing is None or size != self.listed_size:
                return self._runs.listing(size, self.input_shape[-1], self._wanted).layers
            return self._listing.layers

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
        found = listing.places.get(tap)
        return listing.places[self.layer(tap).name] if found is None else found

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
        listing = self._runs.listing(sides, self.input_shape[-1], self._wanted)
        self.classes, self.dense = listing.classes, listing.dense
        self.final_activation = listing.final_activation
        self.listed_size = sides
        self._listing = listing
