"""A network run in several threads: each has modules of its own, around the same tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["alike", "alone", "shared_out"]


def shared_out(most: int) -> tuple[int, int]:
    """Say into how many threads those of an operation are shared out, and what each is left."""
    threads = torch.get_num_threads()
    # Others set their threads once for all, and warn of it.
    if "backend: OpenMP" not in torch.__config__.parallel_info():
        return 1, threads
    count = max(1, min(most, threads))
    return count, threads // count


def alone(module: nn.Module) -> bool:
    """Say whether a network is to be run in one thread, that of the caller.

    So it is where something is set for that thread, where hooks of the user's would be called
    from several, and where parts cannot be copied.
    """
    if torch.is_autocast_enabled("cpu") or torch._C._len_torch_function_stack():
        return True
    if torch._C._len_torch_dispatch_stack():
        return True
    if nn.modules.module._has_any_global_hook():  # type: ignore[no-untyped-call]
        return True
    return any(
        isinstance(part, torch.jit.ScriptModule)
        or hasattr(part, "_orig_mod")
        or part._compiled_call_impl is not None
        or part._forward_hooks
        or part._forward_pre_hooks
        for part in module.modules()
    )


def alike(module: nn.Module, runs: Sequence[Callable[[], Mapping[str, Tensor]]]) -> bool:
    """Say whether runs give the same, and leave random numbers and all tensors as they were."""
    before = _state(module)
    first, *others = (run() for run in runs)
    same = all(
        found.keys() == first.keys()
        and all(torch.allclose(found[tap], first[tap], equal_nan=True) for tap in first)
        for found in others
    )
    after = _state(module)
    return same and all(map(_equal, before, after))


def _state(module: nn.Module) -> list[Any]:
    """Give what a run may change: random numbers, versions of tensors, and what buffers hold."""
    buffers = list(module.buffers())
    versions = [t._version for t in (*module.parameters(), *buffers)]
    return [torch.get_rng_state(), versions, *(t.clone() for t in buffers)]


def _equal(before: Any, after: Any) -> bool:
    if isinstance(before, Tensor):
        return torch.equal(before, after)
    return bool(before == after)
