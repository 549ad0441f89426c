"""A network run in several threads: each has modules of its own, around the same tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from cnnviz.errors import CnnvizError

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
    """Say whether runs give the same, and leave random numbers and all tensors as they were.

    What they changed is put back. What the first raises comes through.
    """
    drawn, buffers = torch.get_rng_state(), list(module.buffers())
    held = [t.clone() for t in buffers]
    versions = [t._version for t in (*module.parameters(), *buffers)]
    try:
        first = runs[0]()
        same = all(_gives(run, first) for run in runs[1:])
    finally:
        quiet = torch.equal(drawn, torch.get_rng_state())
        torch.set_rng_state(drawn)
        # A change by way of `.data` has no version.
        for buffer, before in zip(buffers, held, strict=True):
            if not torch.equal(buffer, before):
                quiet = False
                buffer.data.copy_(before)
    return same and quiet and versions == [t._version for t in (*module.parameters(), *buffers)]


def _gives(run: Callable[[], Mapping[str, Tensor]], wanted: Mapping[str, Tensor]) -> bool:
    try:
        found = run()
    except CnnvizError:
        # As where a tap is not reached.
        return False
    return all(torch.allclose(found[tap], wanted[tap], equal_nan=True) for tap in wanted)
