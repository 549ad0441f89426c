"""Another derivative for ReLU, for as long as a ``with`` lasts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from cnnviz.adapter import ReluRule

__all__ = ["RuledReLU"]


def _redirected(x: Tensor, slope: Tensor, high: float) -> Tensor:
    """Never zero for the whole of a picture."""
    inside = (x > 0) & (x < high)
    plain = torch.where(inside, slope, 0)
    # Up from below, or down from above: what brings a unit back to where it answers.
    towards = inside | ((x <= 0) & (slope > 0)) | ((x >= high) & (slope < 0))
    silent = (plain == 0).flatten(1).all(1).reshape(-1, *(1,) * (x.ndim - 1))
    return torch.where(silent, torch.where(towards, slope, 0), plain)


def _guided(x: Tensor, slope: Tensor, high: float) -> Tensor:
    return torch.where((x > 0) & (x < high) & (slope > 0), slope, 0)


def _deconvnet(x: Tensor, slope: Tensor, high: float) -> Tensor:
    return slope.clamp(min=0)


_RULES: dict[ReluRule, Callable[[Tensor, Tensor, float], Tensor]] = {
    "redirected": _redirected,
    "guided": _guided,
    "deconvnet": _deconvnet,
}


class _Ruled(torch.autograd.Function):
    """ReLU up to a limit whose derivative is told by a rule."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, high: float, rule: ReluRule) -> Tensor:
        ctx.save_for_backward(x)
        ctx.high, ctx.rule = high, rule
        return torch.clamp(x, 0, high)

    @staticmethod
    def backward(ctx: Any, *slopes: Any) -> Any:
        (x,), (slope,) = ctx.saved_tensors, slopes
        return _RULES[ctx.rule](x, slope, ctx.high), None, None


_RELU = {"relu", "relu_"}


class RuledReLU(TorchFunctionMode):
    """Change the derivative of every ReLU and ReLU6 that runs within the ``with``.

    Parameters
    ----------
    rule : {"redirected", "guided", "deconvnet"}
        As in `cnnviz.adapter.Adapter.gradient`.
    """

    def __init__(self, rule: ReluRule) -> None:
        super().__init__()
        self._rule = rule

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run a function as it is, but for ReLUs."""
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "").partition(".")[0]
        high = _limit(name, args, kwargs)
        x = args[0] if args else kwargs.get("input")
        if high is None or not isinstance(x, Tensor) or not x.requires_grad:
            return func(*args, **kwargs)
        if self._rule == "redirected" and x.ndim < 2:
            return func(*args, **kwargs)
        in_place = (
            name.endswith("_")
            or kwargs.get("inplace")
            or (name in ("relu", "relu6") and len(args) > 1 and args[1])
        )
        if in_place:
            return x.copy_(_Ruled.apply(x.clone(), high, self._rule))
        return _Ruled.apply(x, high, self._rule)


def _limit(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> float | None:
    """Give the upper end of a ReLU; None if the function is none."""
    if name in _RELU:
        return float("inf")
    if name == "relu6":
        return 6.0
    if name in ("hardtanh", "hardtanh_"):
        low = kwargs.get("min_val", args[1] if len(args) > 1 else -1.0)
        high = kwargs.get("max_val", args[2] if len(args) > 2 else 1.0)
        return float(high) if low == 0 else None
    return None
