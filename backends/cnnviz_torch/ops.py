"""`cnnviz.adapter.Ops` on torch tensors."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
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
        return torch.tensor(x, dtype=dtype, device=self.device)

    def constant(self, x: NDArray[Any]) -> Tensor:
        """See `cnnviz.adapter.Ops.constant`."""
        held = self._constants.get(id(x))
        if held is None or held[0] is not x:
            held = self._constants[id(x)] = (x, self.asarray(x))
            while len(self._constants) > _CONSTANTS_KEPT:
                self._constants.popitem(last=False)
        return held[1]

    def to_numpy(self, x: Tensor) -> NDArray[Any]:
        """See `cnnviz.adapter.Ops.to_numpy`."""
        x = x.detach().cpu()
        if x.dtype in (torch.float16, torch.bfloat16):
            x = x.float()
        return np.array(x.numpy())

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
