"""Where torch puts axes, and where cnnviz does."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cnnviz.errors import TapNotReached

__all__ = [
    "as_scores",
    "channels_last",
    "channels_native",
    "families",
    "kind",
    "neutral_kernel",
]

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
    classes = families(module)
    if classes & _TRANSPOSED:
        return tensor.permute(*range(2, tensor.ndim), 0, 1)
    if classes & _CONVOLUTIONS:
        return tensor.permute(*range(2, tensor.ndim), 1, 0)
    if "Linear" in classes:
        return tensor.T
    return tensor


def families(module: nn.Module) -> set[str]:
    """Name the class of a module, and those of torch that it is made of."""
    bases = type(module).__mro__
    return {base.__name__ for base in bases if base.__module__.startswith("torch.")} | {
        kind(module)
    }


def kind(module: nn.Module) -> str:
    """Name the class of a module; TorchScript and exports keep that of the original in words."""
    if isinstance(module, torch.jit.ScriptModule):
        return str(module.original_name)
    told = getattr(module, "type_name", None)
    if type(module).__module__.startswith("torch.export.") and callable(told):
        return str(told() or type(module).__name__).rpartition(".")[2]
    return type(module).__name__


def as_scores(x: Tensor, count: int, name: str) -> Tensor:
    """Give scores ``(N, ..., C)`` of ``count`` pictures, whatever the model's own rows are."""
    if x.ndim < 2:
        x = x.reshape(-1, 1)
    if len(x) == count:
        return x
    if len(x) % count:
        raise TapNotReached(
            f"{name} gave {len(x)} rows of scores for {count} pictures; give one picture at a time"
        )
    return x.reshape(count, len(x) // count, *x.shape[1:])
