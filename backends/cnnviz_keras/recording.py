"""Calls of layers intercepted while a model runs, to record what they compute.

A functional model could be cut into sub-models, but not at a layer of a nested one, nor a
subclassed model anywhere. Every one of them calls ``Layer.__call__``; it is replaced while a
recording is open, and only the thread that opened one is recorded. A final softmax may be no
layer at all, but whatever its form Keras computes it by one function of its backend.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

import keras
from keras.src.backend import nn as functions
from keras.src.ops.operation import Operation

from cnnviz import structures
from cnnviz.errors import TapNotReached
from cnnviz_keras.calls import Answer, Call, Key, Place, is_graph, is_tensor

__all__ = ["ACTIVATIONS", "Mark", "Recording", "Rectifier", "Stop", "intercepting"]

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

_OUTPUT: Key = ("output", "", 0)


class Stop(BaseException):
    """Ends a forward whose taps were all seen; no handler of the model's own stops it."""


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
    answers : mapping of Key to Answer, optional
        What calls give without being run; for a softmax or its like, what goes into it.
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
        answers: Mapping[Key, Answer] | None = None,
    ) -> None:
        self.rectifier = rectifier
        self.seen: dict[str, Tensor] = {}
        self._model = model
        self._answers = answers or {}
        self._taps: dict[Key, list[tuple[str, Place]]] = {}
        for tap, place in places.items():
            self._taps.setdefault(place.key, []).append((tap, place))
        self._waiting = set(places)
        self._mark = mark
        self._marked = marked
        self._note = note
        self._finished = 0
        self._path: list[str] = []
        self._counts: Counter[tuple[str, str]] = Counter()

    def call(self, layer: keras.layers.Layer, args: tuple[Any, ...], kwargs: Any) -> Any:
        """Run one layer in place of ``Layer.__call__``."""
        if layer is self._model:
            return _layer_call(layer, *args, **kwargs)
        self._path.append(layer.name)
        key = self._counted("layer", "/".join(self._path))
        begun = self._finished
        answer = self._answers.get(key)
        try:
            if answer is not None:
                output = self._given(answer)
            elif is_graph(layer):
                # Not through __call__, which holds pictures to the size of the Input.
                output = layer.call(*args, **kwargs)
            else:
                output = _layer_call(layer, *args, **kwargs)
        finally:
            self._path.pop()
        # Noted first: nothing comes after the last tap.
        self._finish(key, layer, (args, kwargs), output, begun)
        return self._captured(key, output)

    def operation(self, operation: Any, args: tuple[Any, ...], kwargs: Any) -> Any:
        """Run an operation of a functional graph that is no layer."""
        key = self._counted("operation", "/".join((*self._path, operation.name)))
        begun = self._finished
        answer = self._answers.get(key)
        if answer is not None:
            output = self._given(answer)
        else:
            output = _operation_call(operation, *args, **kwargs)
        self._finish(key, operation, (args, kwargs), output, begun)
        return output

    def activation(self, name: str, x: Tensor, args: tuple[Any, ...], kwargs: Any) -> Any:
        """Run a softmax or its like in place of the backend's own."""
        key = self._counted("activation", name)
        begun = self._finished
        answer = self._answers.get(key)
        x = self._captured(key, x if answer is None else answer.output)
        output = _plain[name](x, *args, **kwargs)
        self._finish(key, None, x, output, begun)
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
        answer = self._answers.get(_OUTPUT)
        with suppress(Stop):
            output = self._captured(_OUTPUT, output if answer is None else answer.output)
        if self._waiting:
            missing = ", ".join(sorted(map(repr, self._waiting)))
            raise TapNotReached(f"the network ran without passing through {missing}")
        return output

    def _counted(self, source: str, address: str) -> Key:
        """Count a call that begins."""
        number = self._counts[source, address]
        self._counts[source, address] += 1
        return source, address, number

    def _given(self, answer: Answer) -> Any:
        """Answer a call, and count those that it would have made."""
        self._counts.update((source, address) for source, address, _ in answer.within)
        return answer.output

    def _finish(self, key: Key, *told: Any) -> None:
        if self._note is not None:
            self._note(Call(*key, *told))
            self._finished += 1

    def _captured(self, key: Key, output: Any) -> Any:
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
