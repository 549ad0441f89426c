"""Networks of module objects of their own that hold the tensors of another."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from functools import partial
from types import MethodType
from typing import Any

import torch
from torch import nn

__all__ = ["around", "replica"]

# Parameters, parts, hooks: what a change to one object would otherwise change in the other.
_TABLES = {key for key, value in vars(nn.Module()).items() if isinstance(value, (dict, set))}

Forward = Callable[..., Any]


def replica(root: nn.Module) -> nn.Module:
    """Copy the modules of a network, but none of its tensors.

    Hooks and attributes of the copy are its own, so what is done to it never meets the network,
    nor another thread that runs it. TorchScript is shared.
    """
    parts = [m for m in root.modules() if not isinstance(m, torch.jit.ScriptModule)]
    twins: dict[nn.Module, nn.Module] = {part: object.__new__(type(part)) for part in parts}
    for part, twin in twins.items():
        for key, value in vars(part).items():
            twin.__dict__[key] = copy(value) if key in _TABLES else _swapped(value, twins)
        for name, child in part._modules.items():
            if child is not None:
                twin._modules[name] = twins.get(child, child)
        # It would run the original.
        twin.__dict__.pop("_compiled_call_impl", None)
    return twins.get(root, root)


def around(root: nn.Module, wrap: Callable[[str, Forward], Forward]) -> Callable[[], None]:
    """Put a function around the ``forward`` of every module, and give what takes it away.

    Parameters
    ----------
    root : torch.nn.Module
        A replica: nothing here is meant for a network that others see.
    wrap : callable
        ``wrap(address, forward)`` to what is called instead.
    """
    own: list[tuple[nn.Module, Forward | None]] = []
    for address, part in root.named_modules():
        if not isinstance(part, torch.jit.ScriptModule):
            own.append((part, vars(part).get("forward")))
            part.__dict__["forward"] = wrap(address, part.forward)

    def undo() -> None:
        for part, forward in own:
            del part.__dict__["forward"]
            if forward is not None:
                part.__dict__["forward"] = forward

    return undo


def _swapped(value: Any, twins: dict[nn.Module, nn.Module]) -> Any:
    """Give what a twin has where the original has a value that leads to modules."""
    if isinstance(value, nn.Module):
        return twins.get(value, value)
    if isinstance(value, MethodType):
        return MethodType(value.__func__, _swapped(value.__self__, twins))
    if isinstance(value, partial):
        args = (_swapped(arg, twins) for arg in value.args)
        named = {key: _swapped(arg, twins) for key, arg in value.keywords.items()}
        return partial(_swapped(value.func, twins), *args, **named)
    if type(value) in (list, tuple):
        return type(value)(_swapped(inner, twins) for inner in value)
    if type(value) is dict:
        return {key: _swapped(inner, twins) for key, inner in value.items()}
    return value
