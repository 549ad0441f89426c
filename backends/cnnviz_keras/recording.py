"""Calls of layers intercepted while a model runs, to record what they compute.

A functional model could be cut into sub-models, but not at a layer of a nested one, nor a
subclassed model anywhere. Every one of them calls ``Layer.__call__``; it is replaced while a
recording is open, and only the thread that opened one is recorded. A final softmax may be no
layer at all, but whatever its form Keras computes it by one function of its backend.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal

import keras
from keras.src.backend import nn as functions
from keras.src.models.functional import Functional
from keras.src.ops.operation import Operation

from cnnviz import structures
from cnnviz.errors import TapNotReached

__all__ = ["ACTIVATIONS", "Call", "Place", "Recording", "Stop", "intercepting", "is_graph"]

Tensor = Any
Mark = Callable[[str, Tensor], Tensor]
"""Called with a tap at which a gradient is wanted; gives what the network goes on with."""

ACTIVATIONS = {"softmax": "softmax", "log_softmax": "softmax", "sigmoid": "sigmoid"}
"""What may end a network, by its name in Keras's backend."""


RECTIFIERS = {"relu": float("inf"), "relu6": 6.0}
"""Functions whose derivative may follow another rule, and where they end."""

Rectifier = Callable[[Tensor, float], Tensor]
"""A ReLU up to a limit, with a derivative of its own."""

_ENCLOSING = ("hard_sigmoid",)
"""Functions that one engine, and no other, computes by a ReLU."""

_WATCHED = (*ACTIVATIONS, *RECTIFIERS, *_ENCLOSING)


class Stop(BaseException):
    """Ends a forward whose taps were all seen; no handler of the model's own stops it."""


@dataclass(frozen=True)
class Place:
    """Where a tensor is met in a run.

    Attributes
    ----------
    source : str
        What gives it: a call of a layer, the model itself, or, for what goes into a softmax
        or its like, a call of that function.
    address : str
        Of the layer, or the name of the function.
    call : int
        Which call of it.
    part : str
        The keys that lead to it in what is given.
    first : bool
        Whether its channels come before its places.
    """

    source: Literal["layer", "output", "activation"]
    address: str = ""
    call: int = 0
    part: str = ""
    first: bool = False

    @property
    def key(self) -> tuple[str, str, int]:
        """The call that gives it."""
        return self.source, self.address, self.call


@dataclass(frozen=True)
class Call:
    """One call of one layer, operation or function that has finished.

    Attributes
    ----------
    inner : int
        How many calls had finished before it began; those since are within it.
    """

    source: str
    address: str
    number: int
    layer: Any
    args: Any
    output: Any
    inner: int


def is_tensor(value: Any) -> bool:
    """Say whether a value is one tensor of the engine."""
    return hasattr(value, "shape") and hasattr(value, "dtype")


_current: ContextVar[Recording | None] = ContextVar("recording", default=None)
_lock = threading.RLock()
_open: set[int] = set()
_layer_call = keras.layers.Layer.__call__
_operation_call = Operation.__call__
_plain = {name: getattr(functions, name) for name in _WATCHED}


@contextmanager
def intercepting(recording: Recording) -> Iterator[None]:
    """Let a recording see every call of a layer in this thread."""
    before = _current.get()
    # Twice, since an interrupt may come within the first leaving; to leave again is harmless.
    try:
        try:
            _enter(recording)
            yield
        finally:
            _leave(recording, before)
    finally:
        _leave(recording, before)


def _enter(recording: Recording) -> None:
    global _layer_call, _operation_call
    try:
        _lock.acquire()
        if not _open:
            _layer_call = keras.layers.Layer.__call__
            _operation_call = Operation.__call__
            _plain.update((name, getattr(functions, name)) for name in _WATCHED)
        _open.add(id(recording))
        keras.layers.Layer.__call__ = _intercepted
        Operation.__call__ = _intercepted_operation
        for name in _WATCHED:
            setattr(functions, name, _INTERCEPTED[name])
    finally:
        _free()
    _current.set(recording)


def _leave(recording: Recording, before: Recording | None) -> None:
    _current.set(before)
    try:
        _lock.acquire()
        _open.discard(id(recording))
        if not _open:
            keras.layers.Layer.__call__ = _layer_call
            Operation.__call__ = _operation_call
            for name, function in _plain.items():
                setattr(functions, name, function)
    finally:
        _free()


def _free() -> None:
    # Not `with _lock`, which an interrupt can leave without letting go of the lock.
    while _lock._is_owned():  # type: ignore[attr-defined]
        _lock.release()


def _intercepted(layer: keras.layers.Layer, *args: Any, **kwargs: Any) -> Any:
    recording = _current.get()
    if recording is None:
        return _layer_call(layer, *args, **kwargs)
    return recording.call(layer, args, kwargs)


def _intercepted_operation(operation: Any, *args: Any, **kwargs: Any) -> Any:
    recording = _current.get()
    # A layer comes here too, from its own __call__.
    if recording is None or isinstance(operation, keras.layers.Layer):
        return _operation_call(operation, *args, **kwargs)
    return recording.operation(operation, args, kwargs)


def _activation(name: str) -> Callable[..., Any]:
    def intercepted(x: Tensor, *args: Any, **kwargs: Any) -> Any:
        recording = _current.get()
        if recording is None:
            return _plain[name](x, *args, **kwargs)
        if name in RECTIFIERS or name in _ENCLOSING:
            return recording.rectify(name, x, args, kwargs)
        return recording.activation(name, x, args, kwargs)

    return intercepted


_INTERCEPTED = {name: _activation(name) for name in _WATCHED}


class Recording:
    """Record the tensors at taps while a model runs, and end the run at the last of them.

    Parameters
    ----------
    model : keras.Model
    places : mapping of str to Place
        Where the tensor of each tap is met.
    mark : callable, optional
        For taps in `marked`.
    marked : collection of str
    note : callable, optional
        Called with each `Call` that finishes.
    rectifier : callable, optional
        In place of every ReLU.
    """

    def __init__(
        self,
        model: keras.Model,
        places: Mapping[str, Place],
        *,
        mark: Mark | None = None,
        marked: tuple[str, ...] = (),
        note: Callable[[Call], None] | None = None,
        rectifier: Rectifier | None = None,
    ) -> None:
        self.rectifier = rectifier
        self.seen: dict[str, Tensor] = {}
        self._model = model
        self._taps: dict[tuple[str, str, int], list[tuple[str, Place]]] = {}
        for tap, place in places.items():
            self._taps.setdefault(place.key, []).append((tap, place))
        self._waiting = set(places)
        self._mark = mark
        self._marked = marked
        self._note = note
        self._finished = 0
        self._path: list[str] = []
        self._numbers: dict[str, int] = {}
        self._functions: dict[str, int] = {}

    def call(self, layer: keras.layers.Layer, args: tuple[Any, ...], kwargs: Any) -> Any:
        """Run one layer in place of ``Layer.__call__``."""
        if layer is self._model:
            return _layer_call(layer, *args, **kwargs)
        self._path.append(layer.name)
        address = "/".join(self._path)
        number = self._numbers[address] = self._numbers.get(address, -1) + 1
        begun = self._finished
        try:
            if is_graph(layer):
                # Not through __call__, which holds pictures to the size of the Input.
                output = layer.call(*args, **kwargs)
            else:
                output = _layer_call(layer, *args, **kwargs)
        finally:
            self._path.pop()
        output = self._captured(("layer", address, number), output)
        self._finish("layer", address, number, layer, (args, kwargs), output, begun)
        return output

    def operation(self, operation: Any, args: tuple[Any, ...], kwargs: Any) -> Any:
        """Run an operation of a functional graph that is no layer."""
        begun = self._finished
        output = _operation_call(operation, *args, **kwargs)
        self._finish("operation", "", 0, operation, (args, kwargs), output, begun)
        return output

    def activation(self, name: str, x: Tensor, args: tuple[Any, ...], kwargs: Any) -> Any:
        """Run a softmax or its like in place of the backend's own."""
        number = self._functions[name] = self._functions.get(name, -1) + 1
        begun = self._finished
        x = self._captured(("activation", name, number), x)
        output = _plain[name](x, *args, **kwargs)
        self._finish("activation", name, number, None, x, output, begun)
        return output

    def rectify(self, name: str, x: Tensor, args: tuple[Any, ...], kwargs: Any) -> Any:
        """Run a ReLU by the rule that is asked for, and what is no ReLU without."""
        rule = self.rectifier
        if rule is not None and name in RECTIFIERS:
            return rule(x, RECTIFIERS[name])
        self.rectifier = None
        try:
            return _plain[name](x, *args, **kwargs)
        finally:
            self.rectifier = rule

    def finish(self, output: Any) -> Any:
        """Record what the model returned.

        Raises
        ------
        TapNotReached
            The run ended without coming through a tap.
        """
        with suppress(Stop):
            output = self._captured(("output", "", 0), output)
        if self._waiting:
            missing = ", ".join(sorted(map(repr, self._waiting)))
            raise TapNotReached(f"the network ran without passing through {missing}")
        return output

    def _finish(self, *told: Any) -> None:
        if self._note is not None:
            self._note(Call(*told))
            self._finished += 1

    def _captured(self, key: tuple[str, str, int], output: Any) -> Any:
        """Take what taps want of what a call gave; give what the network goes on with."""
        taps = self._taps.get(key)
        if not taps:
            return output
        for tap, place in taps:
            if tap in self._marked and self._mark is not None:
                marked = self._mark(tap, self._part(tap, place, output))
                output = structures.with_part(output, place.part, marked)
        for tap, place in taps:
            self.seen[tap] = self._part(tap, place, output)
            self._waiting.discard(tap)
        if not self._waiting:
            raise Stop
        return output

    def _part(self, tap: str, place: Place, output: Any) -> Tensor:
        try:
            value = structures.part_of(output, place.part)
        except KeyError:
            value = None
        if not is_tensor(value):
            raise TapNotReached(f"{tap!r} gives no tensor this time, but a {type(output).__name__}")
        return value


def is_graph(layer: keras.layers.Layer) -> bool:
    """Say whether a layer is a functional or Sequential model that does nothing else."""
    return type(layer).call in (Functional.call, keras.Sequential.call)
