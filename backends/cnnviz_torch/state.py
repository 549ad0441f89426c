"""A model's mode and flags, set for evaluation and put back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from weakref import WeakKeyDictionary

from torch import Tensor, nn

__all__ = ["undisturbed"]


class _Held:
    """What was changed in a model, and how many calls still need it so."""

    def __init__(self, model: nn.Module) -> None:
        self.users = 0
        self.training: list[nn.Module] = [m for m in model.modules() if m.training]
        self.learning: list[Tensor] = [p for p in model.parameters() if p.requires_grad]


_lock = Lock()
_held: WeakKeyDictionary[nn.Module, _Held] = WeakKeyDictionary()


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Evaluate as in eval mode with parameters that need no gradient; restore both at the end.

    Calls may nest and may come from several threads: the first changes, the last restores.
    """
    with _lock:
        held = _held.get(model)
        if held is None:
            held = _held[model] = _Held(model)
            # Not model.eval(): a subclass may do more there.
            for module in held.training:
                module.training = False
            for parameter in held.learning:
                parameter.requires_grad_(False)
        held.users += 1
    try:
        yield
    finally:
        with _lock:
            held.users -= 1
            if held.users == 0:
                del _held[model]
                for module in held.training:
                    module.training = True
                for parameter in held.learning:
                    parameter.requires_grad_(True)
