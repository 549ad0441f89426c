"""Hooks that record what layers compute, for one run, and end it early."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Protocol

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from cnnviz import structures
from cnnviz.errors import TapNotReached
from cnnviz_torch.tensors import channels_last, channels_native

__all__ = ["ACTIVATIONS", "FunctionCalls", "Lender", "Place", "Recording", "Stop", "is_tensor"]

ACTIVATIONS = {"softmax": "softmax", "log_softmax": "softmax", "sigmoid": "sigmoid"}
"""Functions that may end a network, and what cnnviz calls them."""


class Stop(BaseException):
    """Ends a forward whose taps were all seen; no handler of the model's own stops it."""


@dataclass(frozen=True)
class Place:
    """Where a tensor is to be had while a model runs.

    Attributes
    ----------
    source : {"layer", "argument", "function", "output"}
        What a layer gives, its first argument, the first argument of a function such as
        softmax that is called after the layer, or what the model returns.
    address : str
        Of the layer; empty for a function before all layers.
    call : int
        Which call of the layer, from 0.
    part : str
        Which tensor of several, as in `cnnviz.structures`.
    axis : int or None
        Where its channels are; None if they are last.
    function : str
        The name of the function.
    number : int
        Which call of the function since the layer, from 0.
    """

    source: Literal["layer", "argument", "function", "output"]
    address: str = ""
    call: int = 0
    part: str = ""
    axis: int | None = None
    function: str = ""
    number: int = 0


class Lender(Protocol):
    """What gives a tensor, or a copy of it, to be kept; see `cnnviz_torch.loans.Loans`."""

    def take(self, place: Place, value: Tensor) -> Tensor:
        """Give what is kept of a tensor at a place."""


class Recording:
    """Record the tensors at taps while a model runs; the hooks live within the ``with``.

    Parameters
    ----------
    module : torch.nn.Module
    places : mapping of str to Place
        For each tap.
    leaves : collection of str
        Taps at which the graph of gradients may begin.
    counted : collection of str
        Addresses of further layers whose calls are counted.
    lender : Lender, optional
        Says what is kept of tensors that the run goes on with; a copy by default.

    Attributes
    ----------
    numbers : Counter or None
        How many calls of each layer have ended; None while what runs is not to be recorded.
    """

    def __init__(
        self,
        module: nn.Module,
        places: Mapping[str, Place],
        leaves: Collection[str],
        counted: Collection[str] = (),
        lender: Lender | None = None,
    ) -> None:
        self._module = module
        self._lender = lender
        self._places = places
        self.numbers: Counter[str] | None = Counter()
        self._taps: dict[str, dict[int, list[str]]] = {address: {} for address in counted}
        for tap, place in places.items():
            if place.source != "output" and place.address:
                calls = self._taps.setdefault(place.address, {})
                calls.setdefault(place.call, []).append(tap)
        # Only the class scores are ever before a function.
        self._function = next(
            ((tap, place) for tap, place in places.items() if place.source == "function"), None
        )
        self._at_end = [tap for tap, place in places.items() if place.source == "output"]
        self._leaves = leaves
        self._waiting = set(places) - set(self._at_end)
        self._seen: dict[str, Tensor] = {}
        self._hooks: list[tuple[nn.Module, Callable[..., Any]]] = []
        self._mode = None
        if self._function is not None:
            self._mode = FunctionCalls(self._called)
            if not self._function[1].address:
                self._mode.restart()
        self._thread = threading.get_ident()

    def __enter__(self) -> Recording:
        try:
            for address in self._taps:
                self._watch(address)
            if self._mode is not None:
                self._mode.__enter__()  # type: ignore[no-untyped-call]
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._mode is not None:
            self._mode.__exit__(kind, error, traceback)  # type: ignore[no-untyped-call]
        self.remove()

    def run(self, model: Callable[[], Any]) -> dict[str, Tensor]:
        """Run a model until every tap was seen, and give what `finished` gives."""
        try:
            with self:
                try:
                    output = model()
                except Stop:
                    output = None
        finally:
            # Again, since an interrupt may come in the clean-up itself.
            self.remove()
        return self.finished(output)

    def finished(self, output: Any) -> dict[str, Tensor]:
        """Give the tensor at each tap, channels last; `output` is what the model returned.

        Raises
        ------
        TapNotReached
            The run ended without coming through a tap.
        """
        for tap in self._at_end:
            self._capture(tap, output, ())
        if self._waiting:
            missing = ", ".join(sorted(map(repr, self._waiting)))
            raise TapNotReached(f"the network ran without passing through {missing}")
        return self._seen

    def remove(self) -> None:
        """Take the hooks away; doing so again changes nothing."""
        for module, hook in self._hooks:
            ours = [key for key, value in module._forward_hooks.items() if value is hook]
            for key in ours:
                del module._forward_hooks[key]
        # A hook knows its recording: what was recorded would stay until the next collection.
        self._hooks.clear()

    def _watch(self, address: str) -> None:
        calls = self._taps[address]

        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
            # Another thread may run the same model meanwhile.
            if threading.get_ident() != self._thread or self.numbers is None:
                return None
            taps = calls.get(self.numbers[address], ())
            self.numbers[address] += 1
            for tap in taps:
                source = self._places[tap].source
                if source == "function":
                    assert self._mode is not None
                    self._mode.restart()
                    continue
                if source == "argument":
                    self._capture(tap, args[0], ())
                else:
                    output = self._capture(tap, output, args)
                self._waiting.discard(tap)
            self._check_end()
            return output if taps else None

        self._attach(address, hook)

    def _attach(self, address: str, hook: Callable[..., Any]) -> None:
        module = self._module.get_submodule(address)
        # Before it is there: an interrupt may come between the two.
        self._hooks.append((module, hook))
        module.register_forward_hook(hook)

    def _called(self, name: str, number: int, argument: Any, given: Any) -> None:
        assert self._function is not None
        tap, place = self._function
        if (name, number) == (place.function, place.number) and tap in self._waiting:
            self._capture(tap, argument, ())
            self._waiting.discard(tap)
            self._check_end()

    def _check_end(self) -> None:
        if not self._waiting and not self._at_end:
            raise Stop

    def _capture(self, tap: str, output: Any, args: tuple[Any, ...]) -> Any:
        """Keep a tensor and give what the rest of the network shall go on with."""
        place = self._places[tap]
        try:
            value = structures.part_of(output, place.part)
        except KeyError:
            value = None
        if not isinstance(value, Tensor):
            raise TapNotReached(
                f"{tap!r} gives a {type(output).__name__}"
                + (f" without {place.part}" if place.part else ", not one tensor")
                + "; tap a layer within it"
            )
        ends_here = self._waiting <= {tap} and not self._at_end
        if tap not in self._leaves:
            kept = value
            if not ends_here and place.source != "output":
                # What follows may work in place.
                kept = value.clone() if self._lender is None else self._lender.take(place, value)
            self._seen[tap] = channels_last(kept, place.axis)
            return output
        leaf = value
        if not value.requires_grad:
            # A layer that hands on its input shares that tensor with a skip connection.
            shared = any(isinstance(a, Tensor) and a.data_ptr() == value.data_ptr() for a in args)
            leaf = (value.clone() if shared else value).detach()
        seen = channels_last(leaf, place.axis)
        if not value.requires_grad:
            seen.requires_grad_(True)
        self._seen[tap] = seen
        native = channels_native(seen, place.axis)
        if not ends_here:
            native = native.clone()
        return structures.with_part(output, place.part, native)


class FunctionCalls(TorchFunctionMode):
    """Count the calls of softmax and its like, with or without a module around them.

    Parameters
    ----------
    note : callable
        ``note(name, number, argument, given)``, after each call since `restart`.
    """

    def __init__(self, note: Callable[[str, int, Any, Any], None]) -> None:
        super().__init__()
        self._note = note
        self._numbers: dict[str, int] | None = None

    def restart(self) -> None:
        """Count from here on."""
        self._numbers = {}

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run a function as it is, then note it if it is one of them."""
        kwargs = kwargs or {}
        # One of torch.ops has its overload behind a dot, one that works in place ends in _.
        spelled = getattr(func, "__name__", "").partition(".")[0]
        name = spelled.rstrip("_")
        if name not in ACTIVATIONS or self._numbers is None:
            return func(*args, **kwargs)
        argument = args[0] if args else kwargs.get("input")
        if spelled != name:
            argument = argument.clone()
        given = func(*args, **kwargs)
        number = self._numbers.get(name, 0)
        self._numbers[name] = number + 1
        self._note(name, number, argument, given)
        return given


def is_tensor(value: Any) -> bool:
    """Say whether a value is a tensor of torch."""
    return isinstance(value, Tensor)
