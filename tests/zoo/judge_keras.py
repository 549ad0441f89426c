"""What Keras itself computes, by calls of its layers that are watched in one eager run."""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from keras.src.backend import nn as functions
from keras.src.ops.operation import Operation
from numpy.typing import NDArray
from zoo.entries import Entry, TrueCall, Truth, tensors


class Keras:
    """Keras on TensorFlow or torch, for the judge."""

    def built(self, entry: Entry) -> keras.Model:
        keras.utils.set_random_seed(0)
        model: keras.Model = entry.build()
        if entry.refused is None:
            _stir(model)
        return model

    def truth(self, model: keras.Model, entry: Entry, native: NDArray[Any], told: Any) -> Truth:
        whole = _Run(model, entry, native, told)
        with _linear_end(model, entry) as last:
            scored = _Run(model, entry, native, told) if last is not None else whole
            return scored.truth(whole, last)

    def snapshot(self, model: keras.Model) -> dict[str, Any]:
        """Every number and flag of a model, and what of Keras a run may replace."""
        found: dict[str, Any] = {}
        for i, v in enumerate(model.variables):
            numbers = np.ascontiguousarray(_array(v.value))
            digest = hashlib.blake2b(numbers.tobytes(), digest_size=12).hexdigest()
            found[f"numbers of {i} {v.path}"] = digest, v.trainable
        for i, layer in enumerate(model._flatten_layers()):
            found[f"layer {i} {layer.name}"] = (
                sorted(vars(layer)),
                layer.trainable,
                len(layer._inbound_nodes),
                getattr(layer, "activation", None),
            )
        found["Keras"] = (
            id(keras.layers.Layer.__call__),
            id(Operation.__call__),
            [id(getattr(functions, name)) for name in ("softmax", "log_softmax", "sigmoid")],
            keras.config.floatx(),
            keras.config.image_data_format(),
        )
        return found

    def alive(self) -> int:
        kinds = ("EagerTensor", "Tensor")
        return sum(type(x).__name__ in kinds for x in gc.get_objects())

    def clear(self) -> None:
        keras.backend.clear_session()


def _stir(model: keras.Model) -> None:
    """Give every number some noise: what starts at zero or one would be judged on nothing."""
    rng = np.random.default_rng(0)
    for v in model.variables:
        if keras.backend.is_float_dtype(v.dtype):
            value = np.asarray(_array(v.value), np.float64)
            noise = rng.normal(0, 0.05, value.shape)
            # Variances stay above zero.
            v.assign(np.abs(value + noise) if "variance" in v.name else value + noise)


class _Run:
    """One run of a model in which each call of a layer is noted, and where gradients are had."""

    def __init__(self, model: keras.Model, entry: Entry, picture: NDArray[Any], told: Any) -> None:
        self.entry = entry
        self.calls: list[TrueCall] = []
        self.native: list[dict[str, Any]] = []
        self.path: list[str] = []
        self.counts: dict[str, int] = {}
        self.kept: list[Any] = []
        dtype = next(
            (str(v.dtype) for v in model.variables if keras.backend.is_float_dtype(v.dtype)),
            keras.config.floatx(),
        )
        inputs = getattr(model, "inputs", None)
        if inputs and keras.backend.is_float_dtype(inputs[0].dtype):
            dtype = str(inputs[0].dtype)
        self.engine: Any = _Tape() if keras.backend.backend() == "tensorflow" else _Autograd()
        with self.engine, self._watched(model):
            self.x = self.engine.watch(keras.ops.convert_to_tensor(picture, dtype))
            seen = keras.ops.flip(self.x, -1) if told.order == "bgr" else self.x
            mean, std = (
                keras.ops.convert_to_tensor(np.asarray(v), dtype) for v in (told.mean, told.std)
            )
            native = (seen * told.scale - mean) / std
            if entry.class_axis == 1:
                native = keras.ops.moveaxis(native, -1, 1)
            others = {
                k: keras.ops.convert_to_tensor(np.asarray(v)[None])
                for k, v in (entry.other_inputs or {}).items()
            }
            call: Callable[..., Any] = entry.truth or _called
            self.output = call((model, native, others))
            self.score, self.scores, self.target = self._scored()

    def _scored(self) -> tuple[Any, Any, int]:
        entry = self.entry
        if entry.logits is not None:
            address, _, keys = entry.logits.partition("[")
            at = next(i for i, call in enumerate(self.calls) if call.address == address)
            found = self.native[at]
            scores = found[f"[{keys}"] if keys else next(iter(found.values()))
        else:
            outputs = tensors(self.output, _is_tensor)
            scores = (
                outputs[entry.part]
                if len(outputs) > 1 or entry.part
                else next(iter(outputs.values()))
            )
        if len(scores.shape) == 1:
            scores = scores[:, None]
        target = min(1, scores.shape[-1] - 1)
        return keras.ops.mean(scores[..., target]), scores, target

    def truth(self, whole: _Run, last: str | None) -> Truth:
        """Join what each call gave with the gradients of this run."""
        places = [
            (i, keys, x)
            for i, (call, found) in enumerate(zip(self.calls, self.native, strict=True))
            for keys, x in found.items()
            if call.leaf
            and len(found) == 1
            and call.address != last
            and keras.backend.is_float_dtype(keras.backend.standardize_dtype(x.dtype))
        ]
        slope, *slopes = self.engine.gradients(self.score, [self.x, *(x for _, _, x in places)])
        for (i, keys, _), found in zip(places, slopes, strict=True):
            if found is not None and np.any(_array(found)):
                whole.calls[i].gradients[keys] = _array(found)
        given = np.zeros(self.x.shape) if slope is None else _array(slope)
        return Truth(whole.calls, _array(self.scores), given, self.target)

    @contextmanager
    def _watched(self, model: keras.Model) -> Iterator[None]:
        plain = keras.layers.Layer.__call__

        def watched(layer: Any, *args: Any, **kwargs: Any) -> Any:
            if layer is model:
                return plain(layer, *args, **kwargs)
            self.path.append(layer.name)
            address = "/".join(self.path)
            number = self.counts.get(address, 0)
            self.counts[address] = number + 1
            try:
                output = plain(layer, *args, **kwargs)
            finally:
                self.path.pop()
            leaf = not list(layer._flatten_layers(include_self=False))
            if _is_tensor(output) and leaf:
                # A layer that hands on its input shares that tensor with what goes round it.
                output = self.engine.watch(output)
            found = tensors(output, _is_tensor)
            self.native.append(found)
            self.kept.append(output)
            first = self.entry.class_axis == 1
            axes = {keys: _axis(layer, x, first) for keys, x in found.items()}
            known = {keys: axis for keys, axis in axes.items() if axis is not None}
            parts = {keys: _array(x) for keys, x in found.items()}
            self.calls.append(TrueCall(address, number, parts, leaf, axes=known))
            return output

        keras.layers.Layer.__call__ = watched
        try:
            yield
        finally:
            keras.layers.Layer.__call__ = plain


class _Tape:
    """TensorFlow's tape."""

    def __enter__(self) -> None:
        import tensorflow

        self.tf = tensorflow
        self.tape = tensorflow.GradientTape(watch_accessed_variables=False)
        self.tape.__enter__()

    def __exit__(self, *error: Any) -> None:
        self.tape.__exit__(*error)

    def watch(self, x: Any) -> Any:
        x = self.tf.identity(x)
        if x.dtype.is_floating:
            self.tape.watch(x)
        return x

    def gradients(self, score: Any, places: list[Any]) -> list[Any]:
        found: list[Any] = self.tape.gradient(score, places)
        return found


class _Autograd:
    """Autograd of torch."""

    def __enter__(self) -> None:
        import torch

        self.torch = torch

    def __exit__(self, *error: Any) -> None:
        pass

    def watch(self, x: Any) -> Any:
        if x.requires_grad:
            return x.clone()
        return x.detach().clone().requires_grad_(x.is_floating_point())

    def gradients(self, score: Any, places: list[Any]) -> list[Any]:
        return list(self.torch.autograd.grad(score, places, allow_unused=True))


@contextmanager
def _linear_end(model: keras.Model, entry: Entry) -> Iterator[str | None]:
    """Take the softmax off the last layer meanwhile; give that layer's address."""
    last = None
    if entry.final is not None and entry.logits is None:
        found = [x for x in model._flatten_layers() if hasattr(x, "activation")]
        last = found[-1]
        activation, last.activation = last.activation, keras.activations.linear
    try:
        yield None if last is None else last.name
    finally:
        if last is not None:
            last.activation = activation


def _called(given: tuple[keras.Model, Any, dict[str, Any]]) -> Any:
    model, native, _ = given
    return model(native, training=False)


def _axis(layer: Any, x: Any, first: bool) -> int | None:
    """The axis of the channels, by the data format of the layer; last where it has none."""
    rank = len(x.shape)
    if rank < 3:
        return rank - 1 if rank else None
    told = getattr(layer, "data_format", None)
    if told == "channels_first":
        return 1
    # Inside of a model with its channels first, what has no format may be either.
    return None if first and told is None else rank - 1


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype")


def _array(x: Any) -> NDArray[Any]:
    if hasattr(x, "detach"):
        x = x.detach().cpu()
        return np.array((x.double() if x.is_floating_point() else x).numpy())
    x = np.asarray(x)
    return x.astype(np.float64) if x.dtype.kind not in "iub" else x
