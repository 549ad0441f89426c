"""Where torch puts axes, and where cnnviz does."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["channels_last", "neutral_kernel"]


def channels_last(x: Tensor) -> Tensor:
    """View ``(N, C, H, W)`` as ``(N, H, W, C)``; other ranks stay as they are."""
    return x.permute(0, 2, 3, 1) if x.ndim == 4 else x


def neutral_kernel(module: nn.Module, name: str, tensor: Tensor) -> Tensor:
    """View a kernel as ``(kh, kw, in, out)``, a dense one as ``(in, out)``; others stay."""
    if name != "weight":
        return tensor
    if isinstance(module, (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)):
        return tensor.permute(*range(2, tensor.ndim), 0, 1)
    if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        return tensor.permute(*range(2, tensor.ndim), 1, 0)
    if isinstance(module, nn.Linear):
        return tensor.T
    return tensor
