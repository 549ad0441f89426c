"""A network run in several threads: each has a copy of its own, tried before it is trusted."""

from __future__ import annotations

import operator
import random
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from copy import deepcopy
from enum import Enum
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cnnviz_torch.dispatching import Operations

__all__ = [
    "agreeing",
    "alone",
    "copies",
    "independent",
    "made_of",
    "same_things",
    "shared_out",
    "take_threads",
]

Run = Callable[[Tensor], Mapping[str, Tensor]]

# Seconds after which a network that waits for something else is left alone.
_PATIENCE = 3.0
# How far last digits may part, as another number of threads makes them.
_NEAR = 1e-4
_NOISE = 6172839
# Bytes that all copies may take together.
_ROOM = 2**30

_SIMPLE = (
    type(None), bool, int, float, complex, str, bytes, type, slice, range, Enum,
    torch.dtype, torch.device, torch.layout, torch.memory_format, np.generic, np.ndarray,
    BuiltinFunctionType,
)  # fmt: skip


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


def take_threads(count: int, default: int) -> None:
    """Let the operations of this thread have so many threads, and those of new ones as before."""
    # A thread takes what is set for all the first time that it asks, and then no more.
    torch.get_num_threads()
    torch.set_num_threads(count)
    # What is set last is what a thread that is new to torch begins with, for all its life.
    other = threading.Thread(target=torch.set_num_threads, args=(default,))
    other.start()
    other.join()


def alone(module: nn.Module) -> bool:
    """Say whether a network is to be run in one thread, that of the caller.

    So it is where something is set for that thread, and where hooks of the user's would be
    called from several.
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


class _Unfit(Exception):
    """A network is not to be run in several threads."""


def made_of(module: nn.Module) -> list[Any] | None:
    """Give the modules of a network and all that they hold, in order.

    None where something is held that leads elsewhere: a function with variables of its own, a
    weak reference, a lock, whatever is no plain object.
    """
    try:
        return list(_reached(module, set()))
    except _Unfit:
        return None


def copies(module: nn.Module, count: int) -> list[nn.Module]:
    """Copy a network with all that it holds; none if that is too large.

    Raises
    ------
    Exception
        It holds what cannot be copied.
    """
    size = sum(t.nbytes for t in (*module.parameters(), *module.buffers()))
    return [deepcopy(module) for _ in range(count)] if size * count <= _ROOM else []


def independent(original: Run, parts: Sequence[nn.Module], runs: Sequence[Run], x: Tensor) -> bool:
    """Say whether copies of a network give what it gives while others of them are run.

    Two are run by turns, an operation each time, so that what they still share would show. A
    network that draws numbers, or keeps anything of a run, is not. Generators are not set back,
    as others may draw from them meanwhile.

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

    Raises
    ------
    Exception
        A run fails, waits for another, or draws numbers.
    """
    drawn = _drawn()
    # Unlike the picture, though that be noise as well.
    noise = np.random.default_rng(_NOISE).random(tuple(x.shape))
    other = torch.from_numpy(noise).to(x)
    before = [_held(part) for part in parts[:2]]
    wanted = runs[1](other)
    first, second = _by_turns(runs, (x, other))
    after = [_held(part) for part in parts[:2]]
    if not _same(second, wanted) or not all(map(_unchanged, before, after)):
        return False
    return _equal(drawn, _drawn()) and _same(first, original(x))


def agreeing(original: Run, run: Run, x: Tensor) -> bool:
    """Say whether a copy that was found `independent` gives in a thread what is given here.

    Something may have been set for this thread.
    """
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(copy_context().run, run, x)
        wanted = original(x)
        return _same(found.result(), wanted)


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


class _Stepped(Operations):  # type: ignore[no-untyped-call]
    """Lets the other go on before each operation; none may draw numbers."""

    def __init__(self, turns: _Turns, own: int) -> None:
        super().__init__()
        self._turns, self._own = turns, own

    def operation(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        # Though it might have set the generator itself, and back afterwards.
        if torch.Tag.nondeterministic_seeded in func.tags:
            raise _Unfit
        self._turns.give(self._own)
        return func(*args, **kwargs)


def _by_turns(runs: Sequence[Run], pictures: Sequence[Tensor]) -> list[Mapping[str, Tensor]]:
    """Run two networks in a thread each, which change places before each operation."""
    turns = _Turns()

    def work(own: int) -> Mapping[str, Tensor]:
        try:
            turns.take(own)
            with _Stepped(turns, own):
                return runs[own](pictures[own])
        finally:
            turns.leave()

    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(copy_context().run, work, own) for own in (0, 1)]
        return [future.result() for future in running]


def _reached(value: Any, seen: set[int]) -> Iterator[Any]:
    """Give what is to be had from a value, itself first, each once."""
    if id(value) in seen:
        return
    seen.add(id(value))
    yield value
    if isinstance(value, _SIMPLE):
        return
    inner: Any
    if isinstance(value, nn.Module):
        # Hooks on what is saved and loaded are not called in a run.
        inner = [x for key, x in vars(value).items() if not key.endswith("_hooks")]
    elif isinstance(value, Tensor):
        inner = ()
    elif isinstance(value, FunctionType):
        if value.__closure__ is not None:
            raise _Unfit
        inner = ()
    elif isinstance(value, MethodType):
        inner = (value.__func__, value.__self__)
    elif isinstance(value, partial):
        inner = (value.func, value.args, value.keywords)
    elif isinstance(value, dict):
        inner = value.values()
    elif isinstance(value, (list, tuple, set, frozenset, deque)):
        inner = value
    elif hasattr(value, "__dict__") and not hasattr(type(value), "__slots__"):
        inner = vars(value).values()
    else:
        raise _Unfit
    for one in inner:
        yield from _reached(one, seen)


def _drawn() -> tuple[Tensor, Any, Any]:
    return torch.get_rng_state(), random.getstate(), np.random.get_state()  # noqa: NPY002


def _equal(before: tuple[Tensor, Any, Any], after: tuple[Tensor, Any, Any]) -> bool:
    same = torch.equal(before[0], after[0]) and before[1] == after[1]
    return same and all(np.array_equal(a, b) for a, b in zip(before[2], after[2], strict=True))


def same_things(some: Sequence[Any], others: Sequence[Any]) -> bool:
    """Say whether two lists hold the same objects."""
    return len(some) == len(others) and all(map(operator.is_, some, others))


def _held(module: nn.Module) -> list[tuple[Any, Any]]:
    """Give all that a network holds, with what is in tensors, or where the parameters' lies."""
    found: list[tuple[Any, Any]] = []
    for one in _reached(module, set()):
        content: Any = None
        if isinstance(one, nn.Parameter):
            content = one.data_ptr(), None if one.is_inference() else one._version
        elif isinstance(one, Tensor):
            content = one.clone()
        found.append((one, content))
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
