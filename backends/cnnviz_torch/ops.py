"""`cnnviz.adapter.Ops` on torch tensors."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["TorchOps"]

_CONSTANTS_KEPT = 64


class TorchOps:
    """What the algorithms do with tensors, in the dtype and on the device of one model."""

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self.dtype = dtype
        self.device = device
        # The array is kept with its tensor, so that its id stays its own.
        self._constants: OrderedDict[int, tuple[NDArray[Any], Tensor]] = OrderedDict()

    def asarray(self, x: NDArray[Any]) -> Tensor:
        """See `cnnviz.adapter.Ops.asarray`."""
        x = np.ascontiguousarray(x)
        dtype = self.dtype if x.dtype.kind == "f" else None
        # A tensor of inference mode could never be part of a derivative.
        with torch.inference_mode(False):
            return torch.tensor(x, dtype=dtype, device=self.device)

    def constant(self, x: NDArray[Any]) -> Tensor:
        """See `cnnviz.adapter.Ops.constant`."""
        held = self._constants.get(id(x))
        if held is None or held[0] is not x:
            held = self._constants[id(x)] = (x, self.asarray(x))
            while len(self._constants) > _CONSTANTS_KEPT:
                self._constants.popitem(last=False)
        return held[1]

    def to_numpy(self, x: Tensor, copy: bool = True) -> NDArray[Any]:
        """See `cnnviz.adapter.Ops.to_numpy`."""
        x = x.detach().cpu()
        if x.dtype in (torch.float16, torch.bfloat16):
            x = x.float()
        return np.array(x.numpy()) if copy else np.asarray(x.numpy())

    def reshape(self, x: Tensor, shape: tuple[int, ...]) -> Tensor:
        """See `cnnviz.adapter.Ops.reshape`."""
        return x.reshape(shape)

    def permute_dims(self, x: Tensor, axes: tuple[int, ...]) -> Tensor:
        """See `cnnviz.adapter.Ops.permute_dims`."""
        return x.permute(axes)

    def concat(self, xs: Sequence[Tensor], axis: int) -> Tensor:
        """See `cnnviz.adapter.Ops.concat`."""
        return torch.cat(list(xs), dim=axis)

    def sum(self, x: Tensor, axis: tuple[int, ...] | None = None, keepdims: bool = False) -> Tensor:
        """See `cnnviz.adapter.Ops.sum`."""
        return torch.sum(x, dim=axis, keepdim=keepdims)

    def mean(
        self, x: Tensor, axis: tuple[int, ...] | None = None, keepdims: bool = False
    ) -> Tensor:
        """See `cnnviz.adapter.Ops.mean`."""
        return torch.mean(x, dim=axis, keepdim=keepdims)

    def max(self, x: Tensor, axis: tuple[int, ...] | None = None, keepdims: bool = False) -> Tensor:
        """See `cnnviz.adapter.Ops.max`."""
        return torch.amax(x, dim=() if axis is None else axis, keepdim=keepdims)

    def sqrt(self, x: Tensor) -> Tensor:
        """See `cnnviz.adapter.Ops.sqrt`."""
        return torch.sqrt(x)

    def abs(self, x: Tensor) -> Tensor:
        """See `cnnviz.adapter.Ops.abs`."""
        return torch.abs(x)

    def tanh(self, x: Tensor) -> Tensor:
        """See `cnnviz.adapter.Ops.tanh`."""
        return torch.tanh(x)

    def exp(self, x: Tensor) -> Tensor:
        """See `cnnviz.adapter.Ops.exp`."""
        return torch.exp(x)

    def log(self, x: Tensor) -> Tensor:
        """See `cnnviz.adapter.Ops.log`."""
        return torch.log(x)

    def sin(self, x: Tensor) -> Tensor:
        """See `cnnviz.adapter.Ops.sin`."""
        return torch.sin(x)

    def cos(self, x: Tensor) -> Tensor:
        """See `cnnviz.adapter.Ops.cos`."""
        return torch.cos(x)

    def atan(self, x: Tensor) -> Tensor:
        """See `cnnviz.adapter.Ops.atan`."""
        return torch.atan(x)

    def clip(self, x: Tensor, low: Tensor | float, high: Tensor | float) -> Tensor:
        """See `cnnviz.adapter.Ops.clip`."""
        # torch.clip takes two numbers or two tensors, never one of each.
        low, high = (torch.as_tensor(v, dtype=x.dtype, device=x.device) for v in (low, high))
        return torch.clip(x, low, high)

    def maximum(self, x: Tensor, y: Tensor | float) -> Tensor:
        """See `cnnviz.adapter.Ops.maximum`."""
        return torch.maximum(x, torch.as_tensor(y, dtype=x.dtype, device=x.device))

    def matmul(self, x: Tensor, y: Tensor) -> Tensor:
        """See `cnnviz.adapter.Ops.matmul`."""
        return torch.matmul(x, y)

    def roll(self, x: Tensor, shift: Tensor, axis: int) -> Tensor:
        """See `cnnviz.adapter.Ops.roll`."""
        return torch.roll(x, int(shift), axis)

    def sample(self, x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """See `cnnviz.adapter.Ops.sample`."""
        height, width = x.shape[1:3]
        # From whole numbers at the centres of pixels to [-1, 1] at the outer edges.
        grid = torch.stack(((2 * columns + 1) / width - 1, (2 * rows + 1) / height - 1), -1)
        found = torch.nn.functional.grid_sample(
            x.movedim(-1, 1), grid, mode="bilinear", padding_mode="zeros", align_corners=False
        )
        return found.movedim(1, -1)

    def waves(self, x: Tensor) -> Tensor:
        """See `cnnviz.ops.WaveOps.waves`."""
        # Half types have no Fourier transform on a processor, nor the precision for one.
        half = x.dtype in (torch.float16, torch.bfloat16)
        across = self._waves_of_last((x.float() if half else x).permute(0, 3, 1, 2))
        found = self._waves_of_last(across.transpose(2, 3)).permute(0, 3, 2, 1)
        return found.to(x.dtype) if half else found

    def _waves_of_last(self, x: Tensor) -> Tensor:
        size = x.shape[-1]
        none = x.new_zeros((*x.shape[:-1], 1))
        # The constant, and the last of an even number, have no sine.
        halves = torch.tensor(_halves(size), dtype=x.dtype, device=x.device)
        parts = [x[..., :1], none, x[..., 1:] * halves]
        pairs = torch.cat(parts if size % 2 else [*parts, none], -1)
        spectrum = torch.view_as_complex(pairs.reshape(*pairs.shape[:-1], -1, 2))
        found: Tensor = torch.fft.irfft(spectrum, size, norm="ortho")
        return found


@lru_cache(maxsize=32)
def _halves(size: int) -> NDArray[np.float64]:
    """Give what each wave but the constant has in a half spectrum, whose others are implied."""
    found = np.full(size - 1, np.sqrt(0.5))
    found[1::2] *= -1
    if size % 2 == 0:
        found[-1] = 1
    return found
