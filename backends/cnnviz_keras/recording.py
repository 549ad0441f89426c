"""Calls of layers intercepted while a model runs, to record what they compute.

A functional model could be cut into sub-models, but not at a layer of a nested one, nor a
subclassed model anywhere. Every one of them calls ``Layer.__call__``; it is replaced while a
recording is open, and only the thread that opened one is recorded.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import keras
from keras.src.models.functional import Functional

from cnnviz.adapter import LOGITS
from cnnviz.errors import TapNotReached

__all__ = ["Call", "Recording", "Stop", "final_activation", "intercepting", "is_graph"]

Tensor = Any
Mark = Callable[[str, Tensor], Tensor]
"""Called with a tap at which a gradient is wanted; gives what the network goes on with."""

_FINAL = {"softmax": "softmax", "log_softmax": "softmax", "sigmoid": "sigmoid"}


class Stop(BaseException):
    """Ends a forward whose taps were all seen; no handler of the model's own stops it."""


class Call:
    """One call of one layer that has finished."""

    def __init__(self, address: str, number: int, layer: keras.layers.Layer, output: Any) -> None:
        self.address = address
        self.number = number
        self.layer = layer
        self.output = output


_current: ContextVar[Recording | None] = ContextVar("recording", default=None)
_lock = threading.Lock()
_open = 0
_original = keras.layers.Layer.__call__


@contextmanager
def intercepting(recording: Recording) -> Iterator[None]:
    """Let a recording see every call of a layer in this thread."""
    global _open, _original
    with _lock:
        if _open == 0:
            _original = keras.layers.Layer.__call__
            keras.layers.Layer.__call__ = _intercepted
        _open += 1
    token = _current.set(recording)
    try:
        yield
    finally:
        _current.reset(token)
        with _lock:
            _open -= 1
            if _open == 0:
                keras.layers.Layer.__call__ = _original


def _intercepted(layer: keras.layers.Layer, *args: Any, **kwargs: Any) -> Any:
    recording = _current.get()
    if recording is None:
        return _original(layer, *args, **kwargs)
    return recording.call(layer, args, kwargs)


class Recording:
    """Record the tensors at taps while a model runs, and end the run at the last of them.

    Parameters
    ----------
    model : keras.Model
    calls : mapping of str to (str, int)
        For each tap the address of its layer and the number of the call.
    to_end : bool
        Whether the model's output is wanted too.
    mark : callable, optional
        For taps in `marked`.
    marked : collection of str
    note : callable, optional
        Called with each `Call` that finishes.
    """

    def __init__(
        self,
        model: keras.Model,
        calls: Mapping[str, tuple[str, int]],
        *,
        to_end: bool = True,
        mark: Mark | None = None,
        marked: tuple[str, ...] = (),
        note: Callable[[Call], None] | None = None,
    ) -> None:
        self.seen: dict[str, Tensor] = {}
        self._model = model
        self._taps: dict[tuple[str, int], list[str]] = {}
        for tap, call in calls.items():
            self._taps.setdefault(call, []).append(tap)
        self._waiting = set(calls)
        self._to_end = to_end
        self._mark = mark
        self._marked = marked
        self._note = note
        self._path: list[str] = []
        self._numbers: dict[str, int] = {}

    def call(self, layer: keras.layers.Layer, args: tuple[Any, ...], kwargs: Any) -> Any:
        """Run one layer in place of ``Layer.__call__``."""
        if layer is self._model:
            return _original(layer, *args, **kwargs)
        self._path.append(layer.name)
        address = "/".join(self._path)
        number = self._numbers[address] = self._numbers.get(address, -1) + 1
        taps = self._taps.get((address, number), [])
        try:
            if LOGITS in taps:
                output = self._through_logits(layer, args, kwargs)
            elif is_graph(layer):
                # Not through __call__, which holds pictures to the size of the Input.
                output = layer.call(*args, **kwargs)
            else:
                output = _original(layer, *args, **kwargs)
        finally:
            self._path.pop()
        for tap in taps:
            if tap != LOGITS:
                output = self._capture(tap, output)
        if self._note is not None:
            self._note(Call(address, number, layer, output))
        self._waiting.difference_update(taps)
        if taps and not self._waiting and not self._to_end:
            raise Stop
        return output

    def check_finished(self) -> None:
        """Raise TapNotReached if the run ended without coming through a tap."""
        if self._waiting:
            missing = ", ".join(sorted(map(repr, self._waiting)))
            raise TapNotReached(f"the network ran without passing through {missing}")

    def _capture(self, tap: str, output: Any) -> Any:
        if not hasattr(output, "shape"):
            raise TapNotReached(
                f"{tap!r} gives a {type(output).__name__}, not one tensor; tap a layer within it"
            )
        if tap in self._marked and self._mark is not None:
            output = self._mark(tap, output)
        self.seen[tap] = output
        return output

    def _through_logits(self, layer: keras.layers.Layer, args: tuple[Any, ...], kwargs: Any) -> Any:
        """Record the scores before a final softmax, which may be fused into a dense layer."""
        if isinstance(layer, (keras.layers.Activation, keras.layers.Softmax)):
            self.seen[LOGITS] = args[0]
            return _original(layer, *args, **kwargs)
        # A shadow shares the weights and has no activation; the layer itself stays as it is.
        shadow = object.__new__(type(layer))
        shadow.__dict__.update(layer.__dict__)
        shadow.__dict__["activation"] = keras.activations.linear
        logits = _original(shadow, *args, **kwargs)
        self.seen[LOGITS] = logits
        return layer.activation(logits)


def is_graph(layer: keras.layers.Layer) -> bool:
    """Say whether a layer is a functional or Sequential model that does nothing else."""
    return type(layer).call in (Functional.call, keras.Sequential.call)


def final_activation(layer: keras.layers.Layer) -> str | None:
    """Say whether a layer ends in a softmax or a sigmoid: ``"softmax"``, ``"sigmoid"`` or None."""
    if isinstance(layer, keras.layers.Softmax):
        return "softmax"
    name = getattr(getattr(layer, "activation", None), "__name__", None)
    return _FINAL.get(str(name))
