"""Where torch puts axes, and where cnnviz does."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["channels_last", "channels_native", "kind", "neutral_kernel"]

_TRANSPOSED = {"ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"}
_CONVOLUTIONS = {"Conv1d", "Conv2d", "Conv3d"}


def channels_last(x: Tensor, axis: int | None) -> Tensor:
    """View a tensor with the axis of its channels moved to the end; None leaves it."""
    return x if axis is None else x.movedim(axis, -1)


def channels_native(x: Tensor, axis: int | None) -> Tensor:
    """Undo `channels_last`."""
    return x if axis is None else x.movedim(-1, axis)


def neutral_kernel(module: nn.Module, name: str, tensor: Tensor) -> Tensor:
    """View a kernel as ``(kh, kw, in, out)``, a dense one as ``(in, out)``; others stay."""
    if name != "weight":
        return tensor
    classes = {
        base.__name__ for base in type(module).__mro__ if base.__module__.startswith("torch.")
    }
    classes.add(kind(module))
    if classes & _TRANSPOSED:
        return tensor.permute(*range(2, tensor.ndim), 0, 1)
    if classes & _CONVOLUTIONS:
        return tensor.permute(*range(2, tensor.ndim), 1, 0)
    if "Linear" in classes:
        return tensor.T
    return tensor


def kind(module: nn.Module) -> str:
    """Name the class of a module; TorchScript and exports keep that of the original in words."""
    if isinstance(module, torch.jit.ScriptModule):
        return str(module.original_name)
    told = getattr(module, "type_name", None)
    if type(module).__module__.startswith("torch.export.") and callable(told):
        return str(told() or type(module).__name__).rpartition(".")[2]
    return type(module).__name__
