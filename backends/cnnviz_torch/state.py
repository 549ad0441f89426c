"""A model's mode and flags, and the thread's gradient mode, set for a call and put back."""

from __future__ import annotations

from collections.abc import Callable
from threading import RLock
from typing import TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

__all__ = ["undisturbed", "unrecorded"]

T = TypeVar("T")


class _Held:
    """What is changed in a model, and the calls that still need it so."""

    def __init__(self, model: nn.Module) -> None:
        self.users: set[object] = set()
        self.training: list[nn.Module] = [m for m in model.modules() if m.training]
        self.learning: list[Tensor] = [p for p in model.parameters() if p.requires_grad]


# Reentrant, and freed by whoever owns it: an interrupt may come while `with` lets go of a lock.
_lock = RLock()
_held: WeakKeyDictionary[nn.Module, _Held] = WeakKeyDictionary()


def undisturbed(model: nn.Module, run: Callable[[], T]) -> T:
    """Run as in eval mode, with parameters that need no gradient and no graph being recorded.

    All is put back afterwards. Calls may nest and may come from several threads: the first
    changes the model, the last restores it.
    """
    user = object()
    recording = torch.is_grad_enabled()
    # Twice, since an interrupt may come at any line, those of the clean-up included.
    try:
        try:
            _take(model, user)
            # Within the caller's inference mode nothing could be differentiated.
            with torch.inference_mode(False):
                # After it, since it turns recording on.
                torch.set_grad_enabled(False)
                return run()
        finally:
            _release(model, user, recording)
    finally:
        _release(model, user, recording)


def unrecorded(run: Callable[[], T]) -> T:
    """Run what is in eval mode already, with no graph being recorded."""
    with torch.inference_mode(False), torch.no_grad():
        return run()


def _take(model: nn.Module, user: object) -> None:
    try:
        _lock.acquire()
        held = _held.get(model)
        if held is None:
            held = _held[model] = _Held(model)
        held.users.add(user)
        # Not model.eval(): a subclass may do more there.
        for module in held.training:
            module.training = False
        for parameter in held.learning:
            parameter.requires_grad_(False)
    finally:
        _free()


def _release(model: nn.Module, user: object, recording: bool) -> None:
    """Put back what no other call needs; doing so again changes nothing."""
    torch.set_grad_enabled(recording)
    try:
        _lock.acquire()
        held = _held.get(model)
        if held is not None and held.users <= {user}:
            for module in held.training:
                module.training = True
            for parameter in held.learning:
                parameter.requires_grad_(True)
            del _held[model]
        elif held is not None:
            held.users.discard(user)
    finally:
        _free()


def _free() -> None:
    while _lock._is_owned():  # type: ignore[attr-defined]
        _lock.release()
