"""Keras 3 models behind the contract: functional, Sequential, nested and subclassed."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

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
from cnnviz_keras.ops import KerasOps
from cnnviz_keras.recording import (
    Call,
    Mark,
    Recording,
    Stop,
    final_activation,
    intercepting,
    is_graph,
)
from cnnviz_keras.specs import find_preprocessing, first_line
from cnnviz_keras.structure import (
    built_shape,
    channels_first,
    conv_kernels,
    flatten,
    own_variables,
    parameters,
    picture_dtype,
    primary_tensor,
    same_place,
    structured,
)
from cnnviz_keras.tensors import neutral_kernel

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
    input_shape : (int, int, int), optional
        Height, width and channels; by default the model's own, or the preprocessing's.
    device : str, optional
        Must be where the model is: Keras places a model when it is built.

    Raises
    ------
    UnsupportedModel
        The model has no weights yet, or Keras runs on what gives no gradients.
    """

    def __init__(
        self,
        model: keras.Model,
        *,
        preprocessing: Preprocessing | None = None,
        input_shape: tuple[int, int, int] | None = None,
        device: str | None = None,
    ) -> None:
        if not model.built:
            raise UnsupportedModel(
                f"{model.name} has no weights yet; call it once on a batch of pictures first"
            )
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
        self._table: tuple[Layer, ...] | None = None
        self._objects: dict[str, keras.layers.Layer] = {}
        self._logits_call: tuple[str, int] | None = None
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
    def input_shape(self) -> tuple[int | None, int | None, int]:
        """Height, width and channels that the model was built for, whatever its data format."""
        if self._given_shape is not None:
            return self._given_shape
        shape = built_shape(self.model)
        if shape is None or len(shape) != 4:
            channels = next((k.shape[-2] for k in conv_kernels(self.model)), 3)
            shape = (None, None, None, channels)
        elif self._channels_first:
            shape = (shape[0], shape[2], shape[3], shape[1])
        size = self._preprocessing.size if self._preprocessing else None
        height, width = size or (None, None)
        return (shape[1] or height, shape[2] or width, int(shape[3] or 3))

    @property
    def device(self) -> str:
        """Where the first of the weights lies."""
        weights = self.model.weights
        return self._engine.device(weights[0]) if weights else "cpu"

    def layers(self) -> Sequence[Layer]:
        """List every call of every layer; traces the model the first time."""
        with self._lock:
            if self._table is None:
                height, width, channels = self.input_shape
                if height is None or width is None:
                    raise InvalidOption(
                        f"nothing tells what size of picture {self.name} takes; give it:"
                        f" cnnviz.adapt(model, input_shape=(224, 224, {channels}))"
                        " (--size on the command line)"
                    )
                self._probe(height, width, channels)
        assert self._table is not None
        return self._table

    def weights(self, layer: str | None = None) -> Mapping[str, NDArray[Any]]:
        """See `cnnviz.adapter.Adapter.weights`."""
        if layer is None:
            owner = self.model
        else:
            name = self.layer(layer).name
            owner = self._objects[name]
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
    ) -> Evaluation[Tensor]:
        """See `cnnviz.adapter.Adapter.gradient`."""
        taps, wrt = tuple(dict.fromkeys(taps)), tuple(wrt)
        if prepare is None:
            self._resolve((*taps, *wrt), x)

        def body(mark: Mark, x: Tensor, score_args: Any, prepare_args: Any) -> Any:
            if INPUT in wrt:
                x = mark(INPUT, x)
            picture = prepare(x, *prepare_args) if prepare is not None else x
            inner = tuple(tap for tap in wrt if tap != INPUT)
            recorded = self._record(picture, (*taps, *inner), mark, inner)
            activations = {tap: recorded[tap] for tap in taps}
            return score(activations, *score_args), activations

        # By shape too: TensorFlow warns of a function that is traced for many.
        key = ("gradient", score, prepare, taps, wrt, tuple(x.shape))
        run = self._function(key, lambda: self._engine.gradient(body, wrt))
        value, activations, gradients = run(x, tuple(score_args), tuple(prepare_args))
        return Evaluation(
            value,
            activations,
            {
                tap: slope if tap == INPUT else self._channels_last(slope)
                for tap, slope in gradients.items()
            },
        )

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
    ) -> dict[str, Tensor]:
        """Run the model on a picture until every tap was seen, and give their tensors."""
        found = {INPUT: picture} if INPUT in taps else {}
        if all(tap == INPUT for tap in taps):
            return found
        calls = self._resolve(taps, picture)
        recording = Recording(
            self.model,
            calls,
            # LOGITS are the output where nothing follows them.
            to_end=OUTPUT in taps or (LOGITS in taps and LOGITS not in calls),
            mark=mark,
            marked=marked,
        )
        output = self._run(self._normalised(picture), recording)
        recording.check_finished()
        for tap in taps:
            if tap in recording.seen:
                found[tap] = self._channels_last(recording.seen[tap])
            elif tap != INPUT:
                found[tap] = self._channels_last(primary_tensor(output))
        return found

    def _run(self, native: Tensor, recording: Recording) -> Any:
        model = self.model
        with intercepting(recording):
            try:
                if is_graph(model):
                    return model.call(structured(model, native), training=False)
                return model(native, training=False)
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
        native = (picture - shift) * factor
        return keras.ops.transpose(native, (0, 3, 1, 2)) if self._channels_first else native

    def _channels_last(self, x: Tensor) -> Tensor:
        if self._channels_first and len(x.shape) == 4:
            return keras.ops.transpose(x, (0, 2, 3, 1))
        return x

    def settle(self, *size: int) -> None:
        """See `cnnviz.adapter.Adapter.settle`."""
        with self._lock:
            if self._table is None and None in self.input_shape:
                self._probe(*size, self.input_shape[2])

    def _resolve(self, taps: Iterable[str], picture: Tensor) -> dict[str, tuple[str, int]]:
        """Turn each tap at a layer into its address and the number of the call."""
        names = [tap for tap in taps if tap not in (INPUT, OUTPUT)]
        if names:
            self.settle(*picture.shape[1:-1])
        calls = {}
        for tap in names:
            if tap != LOGITS:
                layer = self.layer(tap)
                calls[tap] = (layer.address, layer.call)
            else:
                self.layers()
                if self._logits_call is not None:
                    calls[tap] = self._logits_call
        return calls

    def _probe(self, height: int, width: int, channels: int) -> None:
        """List the layers by tracing the model on one blank picture."""
        calls: list[Call] = []
        outputs: list[Any] = []

        def function(native: Tensor) -> None:
            calls.clear()
            recording = Recording(self.model, {}, note=calls.append)
            outputs.append(self._run(native, recording))

        shape = (
            (1, channels, height, width) if self._channels_first else (1, height, width, channels)
        )
        self._engine.trace(function, shape, self._dtype)
        addresses = [call.address for call in calls]
        table = []
        for call in calls:
            repeated = addresses.count(call.address) > 1
            name = f"{call.address}:{call.number}" if repeated else call.address
            table.append(
                Layer(
                    name,
                    type(call.layer).__name__,
                    self._neutral_shape(call.output),
                    sum(math.prod(v.shape) for v in parameters(call.layer)),
                    leaf=sum(1 for _ in flatten(call.layer)) == 1,
                )
            )
            self._objects[name] = call.layer
        output = primary_tensor(outputs[-1])
        shape_of_output = self._neutral_shape(output)
        self.classes = shape_of_output[-1] if shape_of_output else None
        leaves = [call for call, layer in zip(calls, table, strict=True) if layer.leaf]
        if leaves and output is leaves[-1].output:
            self.final_activation = final_activation(leaves[-1].layer)
            if self.final_activation is not None:
                self._logits_call = (leaves[-1].address, leaves[-1].number)
        self._table = tuple(table)

    def _neutral_shape(self, output: Any) -> tuple[int | None, ...] | None:
        if not hasattr(output, "shape"):
            return None
        sides = tuple(output.shape)[1:]
        if self._channels_first and len(sides) == 3:
            sides = (*sides[1:], sides[0])
        return (None, *sides)
