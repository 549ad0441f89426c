"""A network run in several threads: each has a copy of its own, around the same parameters."""

from __future__ import annotations

import contextvars
import operator
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from functools import partial
from types import FunctionType, MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cnnviz_torch.replicas import Forward, around

__all__ = ["agreeing", "alone", "copies", "independent", "make_up", "same_things", "shared_out"]

Run = Callable[[Tensor], Mapping[str, Tensor]]

# Seconds after which a network that waits for something else is left alone.
_PATIENCE = 20.0
# How far last digits may part, as another number of threads makes them.
_NEAR = 1e-4
_NOISE = 6172839


def shared_out(threads: int, most: int) -> tuple[int, int]:
    """Say into how many threads those of an operation are shared out, and what each is left."""
    # Others set their threads once for all, and warn of it.
    if "backend: OpenMP" not in torch.__config__.parallel_info() or min(threads, most) < 2:
        return 1, threads
    # All have as many, as last bits may hang on it.
    return max(
        ((n, threads // n) for n in range(2, min(threads, most) + 1)),
        key=lambda shares: (shares[0] * shares[1], shares[0]),
    )


def alone(module: nn.Module) -> bool:
    """Say whether a network is to be run in one thread, that of the caller.

    So it is where something is set for that thread, where hooks of the user's would be called
    from several, and where a copy might lead back to what it is a copy of.
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
        or _closes(vars(part), set())
        for part in module.modules()
    )


def copies(module: nn.Module, count: int) -> list[nn.Module]:
    """Copy a network with all that it holds but its parameters.

    Raises
    ------
    Exception
        It holds what cannot be copied.
    """
    shared: dict[int, Any] = {id(parameter): parameter for parameter in module.parameters()}
    return [deepcopy(module, dict(shared)) for _ in range(count)]


def independent(original: Run, parts: Sequence[nn.Module], runs: Sequence[Run], x: Tensor) -> bool:
    """Say whether copies of a network give what it gives while others of them are run.

    Two are run by turns, a module each time, so that what they still share would show. A network
    that draws numbers, or keeps anything of a run, is not. Generators are not set back, as
    others may draw from them meanwhile.

    Parameters
    ----------
    original : callable
        Run only once all else is well: it is left as it was, though it might count its calls.
    parts : sequence of torch.nn.Module
        The copies.
    runs : sequence of callable
        Run each of them.
    x : Tensor
        One picture, ``(1, ..., C)``.
    """
    drawn = _drawn()
    # Unlike the picture, though that be noise as well.
    noise = np.random.default_rng(_NOISE).random(tuple(x.shape))
    other = torch.from_numpy(noise).to(x)
    try:
        before = [_held(part) for part in parts[:2]]
        wanted = runs[1](other)
        first, second = _by_turns(parts, runs, (x, other))
        after = [_held(part) for part in parts[:2]]
        if not _same(second, wanted) or not all(map(_unchanged, before, after)):
            return False
        return _equal(drawn, _drawn()) and _same(first, original(x))
    except Exception:  # noqa: BLE001
        # Whatever it is, it will be told where the network is run as it was meant to be.
        return False


def agreeing(original: Run, run: Run, x: Tensor) -> bool:
    """Say whether a copy that was found `independent` gives in a thread what is given here.

    Something may have been set for this thread.
    """
    found: list[Mapping[str, Tensor]] = []
    context = contextvars.copy_context()

    def work() -> None:
        try:
            found.append(context.run(run, x))
        except Exception:  # noqa: BLE001
            # That there is no result says enough.
            return

    thread = threading.Thread(target=work)
    thread.start()
    try:
        wanted = original(x)
    except Exception:  # noqa: BLE001
        # It will be told where the network is run as it was meant to be.
        return False
    finally:
        thread.join()
    return bool(found) and _same(found[0], wanted)


class _Turns:
    """Lets two threads go on by turns."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._turn = 0
        self._gone = False

    def give(self, own: int) -> None:
        """Let the other go on, and wait until it gives the turn back or is gone."""
        with self._changed:
            self._turn = 1 - own
            self._changed.notify_all()
            self._wait(own)

    def take(self, own: int) -> None:
        """Wait for the first turn."""
        with self._changed:
            self._wait(own)

    def leave(self) -> None:
        """Let the other go on alone."""
        with self._changed:
            self._gone = True
            self._changed.notify_all()

    def _wait(self, own: int) -> None:
        if not self._changed.wait_for(lambda: self._gone or self._turn == own, _PATIENCE):
            raise TimeoutError


def _by_turns(
    parts: Sequence[nn.Module], runs: Sequence[Run], pictures: Sequence[Tensor]
) -> list[Mapping[str, Tensor]]:
    """Run two networks in a thread each, which change places before and after each module."""
    turns = _Turns()
    found: dict[int, Mapping[str, Tensor]] = {}

    def stepped(own: int, address: str, forward: Forward) -> Forward:
        def run(*args: Any, **kwargs: Any) -> Any:
            turns.give(own)
            given = forward(*args, **kwargs)
            turns.give(own)
            return given

        return run

    def work(own: int) -> None:
        try:
            turns.take(own)
            found[own] = runs[own](pictures[own])
        except Exception:  # noqa: BLE001
            # That there is no result says enough.
            return
        finally:
            turns.leave()

    undo = [around(part, partial(stepped, own)) for own, part in enumerate(parts[:2])]
    try:
        threads = [
            threading.Thread(target=contextvars.copy_context().run, args=(work, own))
            for own in (0, 1)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        for put_back in undo:
            put_back()
    return [found[0], found[1]]


def _closes(value: Any, seen: set[int]) -> bool:
    """Say whether there is a function with variables of its own in what a module holds."""
    if id(value) in seen:
        return False
    seen.add(id(value))
    if isinstance(value, MethodType):
        value = value.__func__
    if isinstance(value, FunctionType):
        return value.__closure__ is not None
    if isinstance(value, partial):
        return any(_closes(one, seen) for one in (value.func, value.args, value.keywords))
    inner = value.values() if isinstance(value, dict) else value
    return isinstance(value, (dict, list, tuple, set)) and any(_closes(one, seen) for one in inner)


def _drawn() -> tuple[Tensor, Any, Any]:
    return torch.get_rng_state(), random.getstate(), np.random.get_state()  # noqa: NPY002


def _equal(before: tuple[Tensor, Any, Any], after: tuple[Tensor, Any, Any]) -> bool:
    same = torch.equal(before[0], after[0]) and before[1] == after[1]
    return same and all(np.array_equal(a, b) for a, b in zip(before[2], after[2], strict=True))


def make_up(module: nn.Module) -> list[Any]:
    """Give the modules of a network and all that they hold, in order."""
    found: list[Any] = []
    for part in module.modules():
        found.append(part)
        for value in vars(part).values():
            found += (value, *(value.values() if isinstance(value, dict) else ()))
    return found


def same_things(some: Sequence[Any], others: Sequence[Any]) -> bool:
    """Say whether two lists hold the same objects."""
    return len(some) == len(others) and all(map(operator.is_, some, others))


def _held(module: nn.Module) -> list[tuple[Any, Any]]:
    """Give all that a network holds, and what is in its tensors; not its parameters'."""
    found: list[tuple[Any, Any]] = []
    for one in make_up(module):
        plain = isinstance(one, Tensor) and not isinstance(one, nn.Parameter)
        found.append((one, one.clone() if plain else None))
    found += [(p, None if p.is_inference() else p._version) for p in module.parameters()]
    return found


def _unchanged(before: list[tuple[Any, Any]], after: list[tuple[Any, Any]]) -> bool:
    if not same_things([one for one, _ in before], [one for one, _ in after]):
        return False
    for (_, content), (_, now) in zip(before, after, strict=True):
        if not _near(content, now, 0) if isinstance(content, Tensor) else content != now:
            return False
    return True


def _same(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> bool:
    return found.keys() == wanted.keys() and all(
        found[tap].dtype == wanted[tap].dtype and _near(found[tap], wanted[tap], _NEAR)
        for tap in wanted
    )


def _near(found: Tensor, wanted: Tensor, share: float) -> bool:
    """Say whether tensors are as near as a share of the largest number; what is NaN is to be."""
    if found.shape != wanted.shape:
        return False
    largest = float(wanted.nan_to_num().abs().max()) if share and wanted.numel() else 0.0
    return torch.allclose(found, wanted, rtol=share, atol=share * largest, equal_nan=True)
