"""What a model takes: pictures, and what else there is."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cnnviz.errors import InvalidImage, InvalidOption, UnsupportedModel
from cnnviz.preprocessing import Preprocessing
from cnnviz_torch.specs import exported_shape, fixed_size

__all__ = ["OtherInputs", "input_shape", "refusal"]


class OtherInputs:
    """The arguments of a model's forward besides the picture, one example each.

    Parameters
    ----------
    module : torch.nn.Module
    examples : mapping of str to array, or None
        By the name of the argument, without the axis of the batch.
    name : str
        What to call the model in an error.

    Raises
    ------
    InvalidOption
        An argument is missing or there is no such argument.
    """

    def __init__(self, module: nn.Module, examples: Mapping[str, Any] | None, name: str) -> None:
        self._examples = {key: np.asarray(value) for key, value in (examples or {}).items()}
        self._picture: str | None = None
        self._by_name = False
        if isinstance(module, (torch.jit.ScriptModule, torch.export.UnflattenedModule)):
            wanted: list[inspect.Parameter] = []
        else:
            wanted = list(inspect.signature(module.forward).parameters.values())
        named = [p for p in wanted if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        free = any(p.kind == p.VAR_KEYWORD for p in wanted)
        unknown = [k for k in self._examples if k not in {p.name for p in named} and not free]
        if unknown:
            raise InvalidOption(
                f"{name} takes no input {unknown[0]!r}; it takes {', '.join(p.name for p in named)}"
            )
        pictures = [p for p in named if p.name not in self._examples]
        if pictures and not any(p.kind == p.VAR_POSITIONAL for p in wanted):
            self._picture = pictures[0].name
            self._by_name = (
                bool(self._examples) or pictures[0].kind == inspect.Parameter.KEYWORD_ONLY
            )
        missing = [p.name for p in pictures[1:] if p.default is p.empty]
        if missing:
            example = f"{{{missing[0]!r}: array}}"
            raise InvalidOption(
                f"{name} takes more than a picture: {', '.join(missing)}; give an example of each"
                f" without the batch axis: cnnviz.adapt(model, other_inputs={example})"
            )

    def call(self, module: nn.Module, picture: Tensor) -> Any:
        """Run a model on pictures, with each example repeated for every one."""
        if not self._by_name or self._picture is None:
            return module(picture)
        others = {
            key: torch.as_tensor(
                np.repeat(value[None], len(picture), axis=0), device=picture.device
            )
            for key, value in self._examples.items()
        }
        others = {k: x.to(picture.dtype) if x.is_floating_point() else x for k, x in others.items()}
        return module(**{self._picture: picture}, **others)


def input_shape(
    module: nn.Module, preprocessing: Preprocessing | None
) -> tuple[*tuple[int | None, ...], int]:
    """Give the sides of the pictures, where known, and the channels of the first convolution."""
    exported = exported_shape(module)
    if exported is not None:
        return exported
    convs = (m for m in module.modules() if isinstance(m, nn.modules.conv._ConvNd))
    first = next(convs, None)
    sides = len(first.kernel_size) if first is not None else 2
    size: tuple[int | None, ...] | None = fixed_size(module)
    if size is None and preprocessing is not None:
        size = preprocessing.size
    if size is None or len(size) != sides:
        size = (None,) * sides
    return (*size, first.in_channels if first is not None else 3)


def refusal(
    name: str, picture: Tensor, error: Exception, module: nn.Module
) -> InvalidImage | UnsupportedModel:
    """Say in words why a model did not run on pictures ``(N, H, W, C)``."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    address = _failing_hook(module, error)
    if address is not None:
        where = f"of its layer {address!r}" if address else "of its own"
        return UnsupportedModel(f"a forward hook {where} failed as {name} ran: {reason}")
    *sides, channels = picture.shape[1:]
    size = " x ".join(map(str, sides))
    return InvalidImage(
        f"{name} does not take pictures of {size} with {channels} channels: {reason}"
    )


def _failing_hook(module: nn.Module, error: Exception) -> str | None:
    """Give the address of the layer in whose forward hook an error was raised, if it was."""
    running = {frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__)}
    for address, layer in module.named_modules():
        for hook in (*layer._forward_pre_hooks.values(), *layer._forward_hooks.values()):
            function = inspect.unwrap(getattr(hook, "func", hook))
            called = function if inspect.isroutine(function) else type(function).__call__
            if getattr(called, "__code__", None) in running:
                return str(address)
    return None
