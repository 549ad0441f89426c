"""`cnnviz.adapter.Ops` on whatever tensors Keras computes with, by `keras.ops`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import wraps
from typing import Any, TypeVar, cast

import keras
import numpy as np
from numpy.typing import NDArray

from cnnviz_keras.precision import float64_kept
from cnnviz_keras.sampling import sample

__all__ = ["KerasOps"]

Tensor = Any
"""A tensor of TensorFlow, JAX or torch, as `keras.backend.backend()` says."""

Axes = tuple[int, ...] | None


Method = TypeVar("Method", bound=Callable[..., Any])


def _kept(method: Method) -> Method:
    """Compute in the model's own dtype, also where Keras would rather not."""

    @wraps(method)
    def keeping(self: KerasOps, *args: Any, **kwargs: Any) -> Any:
        with float64_kept() if self.dtype == "float64" else nullcontext():
            return method(self, *args, **kwargs)

    return cast(Method, keeping)


class KerasOps:
    """What the algorithms do with tensors, in the dtype of one model."""

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype

    def asarray(self, x: NDArray[Any]) -> Tensor:
        """See `cnnviz.adapter.Ops.asarray`."""
        x = np.ascontiguousarray(x) if np.ndim(x) else np.asarray(x)
        dtype = self.dtype if x.dtype.kind == "f" else None
        return keras.ops.convert_to_tensor(x, dtype=dtype)

    def constant(self, x: NDArray[Any]) -> Tensor:
        """See `cnnviz.adapter.Ops.constant`; a trace keeps its own, so nothing is kept here."""
        return self.asarray(x)

    def to_numpy(self, x: Tensor, copy: bool = True) -> NDArray[Any]:
        """See `cnnviz.adapter.Ops.to_numpy`."""
        if keras.backend.standardize_dtype(x.dtype) in ("float16", "bfloat16"):
            x = keras.ops.cast(x, "float32")
        # Not keras.ops.convert_to_numpy: on torch it warns under numpy 2.
        if hasattr(x, "detach"):
            x = x.detach().cpu().numpy()
        if not copy:
            # TensorFlow's own numpy() copies.
            return np.asarray(x)
        return np.array(x.numpy() if hasattr(x, "numpy") else x)

    def reshape(self, x: Tensor, shape: tuple[int, ...]) -> Tensor:
        """See `cnnviz.adapter.Ops.reshape`."""
        return keras.ops.reshape(x, shape)

    def permute_dims(self, x: Tensor, axes: tuple[int, ...]) -> Tensor:
        """See `cnnviz.adapter.Ops.permute_dims`."""
        return keras.ops.transpose(x, axes)

    @_kept
    def concat(self, xs: Sequence[Tensor], axis: int) -> Tensor:
        """See `cnnviz.adapter.Ops.concat`."""
        return keras.ops.concatenate(list(xs), axis=axis)

    @_kept
    def sum(self, x: Tensor, axis: Axes = None, keepdims: bool = False) -> Tensor:
        """See `cnnviz.adapter.Ops.sum`."""
        return keras.ops.sum(x, axis=axis, keepdims=keepdims)

    @_kept
    def mean(self, x: Tensor, axis: Axes = None, keepdims: bool = False) -> Tensor:
        """See `cnnviz.adapter.Ops.mean`."""
        return keras.ops.mean(x, axis=axis, keepdims=keepdims)

    @_kept
    def max(self, x: Tensor, axis: Axes = None, keepdims: bool = False) -> Tensor:
        """See `cnnviz.adapter.Ops.max`."""
        return keras.ops.max(x, axis=axis, keepdims=keepdims)

    @_kept
    def sqrt(self, x: Tensor) -> Tensor:
        """See `cnnviz.adapter.Ops.sqrt`."""
        return keras.ops.sqrt(x)

    @_kept
    def abs(self, x: Tensor) -> Tensor:
        """See `cnnviz.adapter.Ops.abs`."""
        return keras.ops.abs(x)

    @_kept
    def tanh(self, x: Tensor) -> Tensor:
        """See `cnnviz.adapter.Ops.tanh`."""
        return keras.ops.tanh(x)

    @_kept
    def exp(self, x: Tensor) -> Tensor:
        """See `cnnviz.adapter.Ops.exp`."""
        return keras.ops.exp(x)

    @_kept
    def log(self, x: Tensor) -> Tensor:
        """See `cnnviz.adapter.Ops.log`."""
        return keras.ops.log(x)

    @_kept
    def sin(self, x: Tensor) -> Tensor:
        """See `cnnviz.adapter.Ops.sin`."""
        return keras.ops.sin(x)

    @_kept
    def cos(self, x: Tensor) -> Tensor:
        """See `cnnviz.adapter.Ops.cos`."""
        return keras.ops.cos(x)

    @_kept
    def atan(self, x: Tensor) -> Tensor:
        """See `cnnviz.adapter.Ops.atan`."""
        return keras.ops.arctan(x)

    @_kept
    def clip(self, x: Tensor, low: Tensor | float, high: Tensor | float) -> Tensor:
        """See `cnnviz.adapter.Ops.clip`."""
        return keras.ops.minimum(keras.ops.maximum(x, low), high)

    @_kept
    def maximum(self, x: Tensor, y: Tensor | float) -> Tensor:
        """See `cnnviz.adapter.Ops.maximum`."""
        return keras.ops.maximum(x, y)

    @_kept
    def matmul(self, x: Tensor, y: Tensor) -> Tensor:
        """See `cnnviz.adapter.Ops.matmul`."""
        return keras.ops.matmul(x, y)

    def roll(self, x: Tensor, shift: Tensor, axis: int) -> Tensor:
        """See `cnnviz.adapter.Ops.roll`."""
        # torch takes no tensor here; TensorFlow and JAX must, or each shift is a new trace.
        return keras.ops.roll(x, int(shift) if hasattr(shift, "detach") else shift, axis)

    @_kept
    def sample(self, x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """See `cnnviz.adapter.Ops.sample`."""
        return sample(x, rows, columns)
