"""Hooks that record what layers compute, for one run, and end it early."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from cnnviz.adapter import LOGITS
from cnnviz.errors import TapNotReached
from cnnviz_torch.tensors import channels_last

__all__ = ["Recording", "Stop", "primary_tensor"]


class Stop(BaseException):
    """Ends a forward whose taps were all seen; no handler of the model's own stops it."""


class Recording:
    """Record the tensors at taps while a model runs; the hooks live within the ``with``.

    Parameters
    ----------
    module : torch.nn.Module
    calls : mapping of str to (str, int) or None
        For each tap the address of its module and the number of the call; None for the
        model's output.
    leaves : collection of str
        Taps at which the graph of gradients may begin.
    """

    def __init__(
        self,
        module: nn.Module,
        calls: Mapping[str, tuple[str, int] | None],
        leaves: Collection[str],
    ) -> None:
        self._module = module
        self._at_end = [tap for tap, call in calls.items() if call is None]
        self._taps: dict[str, dict[int, list[str]]] = {}
        for tap, call in calls.items():
            if call is not None:
                self._taps.setdefault(call[0], {}).setdefault(call[1], []).append(tap)
        self._leaves = leaves
        self._waiting = {tap for tap, call in calls.items() if call is not None}
        self._seen: dict[str, Tensor] = {}
        self._handles: list[RemovableHandle] = []
        self._thread = threading.get_ident()

    def __enter__(self) -> Recording:
        try:
            for address in self._taps:
                self._watch(address)
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._remove()

    def finished(self, output: Any) -> dict[str, Tensor]:
        """Give the tensor at each tap, channels last; `output` is what the model returned.

        Raises
        ------
        TapNotReached
            The run ended without coming through a tap.
        """
        for tap in self._at_end:
            self._seen[tap] = channels_last(primary_tensor(output))
        if self._waiting:
            missing = ", ".join(sorted(map(repr, self._waiting)))
            raise TapNotReached(f"the network ran without passing through {missing}")
        return self._seen

    def _remove(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _watch(self, address: str) -> None:
        calls = self._taps[address]
        number = -1

        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
            nonlocal number
            # Another thread may run the same model meanwhile.
            if threading.get_ident() != self._thread:
                return None
            number += 1
            taps = calls.get(number, ())
            for tap in taps:
                if tap == LOGITS:
                    self._seen[tap] = channels_last(args[0])
                else:
                    output = self._capture(tap, output, args)
                self._waiting.discard(tap)
            if not self._waiting and not self._at_end:
                raise Stop
            return output if taps else None

        module = self._module.get_submodule(address)
        self._handles.append(module.register_forward_hook(hook))

    def _capture(self, tap: str, output: Any, args: tuple[Any, ...]) -> Any:
        """Keep a layer's output and give what the rest of the network shall go on with."""
        if not isinstance(output, Tensor):
            raise TapNotReached(
                f"{tap!r} gives a {type(output).__name__}, not one tensor; tap a layer within it"
            )
        ends_here = self._waiting <= {tap} and not self._at_end
        if tap not in self._leaves:
            # What follows may work in place.
            self._seen[tap] = channels_last(output if ends_here else output.clone())
            return output
        torch.set_grad_enabled(True)
        leaf = output
        if not output.requires_grad:
            # A layer that hands on its input shares that tensor with a skip connection.
            shared = any(isinstance(a, Tensor) and a.data_ptr() == output.data_ptr() for a in args)
            leaf = (output.clone() if shared else output).detach()
        seen = channels_last(leaf)
        if not output.requires_grad:
            seen.requires_grad_(True)
        self._seen[tap] = seen
        native = seen.permute(0, 3, 1, 2) if seen.ndim == 4 else seen
        return native if ends_here else native.clone()


def primary_tensor(output: Any) -> Tensor:
    """Pick the tensor of scores out of what a model returns.

    Raises
    ------
    TapNotReached
        There is no tensor in it.
    """
    if isinstance(output, Tensor):
        return output
    for name in ("logits", "out"):
        found = output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)
        if isinstance(found, Tensor):
            return found
    parts = output.values() if isinstance(output, Mapping) else output
    if isinstance(parts, (tuple, list)) or isinstance(output, Mapping):
        for part in parts:
            if isinstance(part, Tensor):
                return part
    raise TapNotReached(f"the model's output, a {type(output).__name__}, holds no tensor")
