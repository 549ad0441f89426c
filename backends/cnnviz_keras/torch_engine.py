"""Running and differentiating on torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import torch

from cnnviz_keras.gradients import Body, Function
from cnnviz_keras.recording import Rectifier
from cnnviz_keras.rectifiers import Rule

__all__ = ["TorchEngine"]

Tensor = torch.Tensor


class TorchEngine:
    """Eager; the graph begins at the first tap."""

    compiled = False
    any_thread = False

    def __init__(self, model: keras.Model) -> None:
        pass

    def at_once(self, run: Function, x: Tensor) -> int:
        """See `cnnviz_keras.gradients.Engine.at_once`."""
        return 1

    def forward(self, function: Function) -> Function:
        """See `cnnviz_keras.gradients.Engine.forward`."""

        def run(*args: Any) -> Any:
            with torch.no_grad():
                return function(*args)

        return run

    def gradient(
        self, body: Body, wrt: Sequence[str], *, jacobian: bool = False, curvature: bool = False
    ) -> Function:
        """See `cnnviz_keras.gradients.Engine.gradient`."""

        def run(x: Tensor, score_args: Any, prepare_args: Any) -> Any:
            leaves: dict[str, Tensor] = {}

            def mark(tap: str, tensor: Tensor) -> Tensor:
                torch.set_grad_enabled(True)
                if not tensor.requires_grad:
                    tensor = tensor.detach().requires_grad_(True)
                leaves[tap] = tensor
                return tensor

            bends: list[Tensor] = []
            # Leaving this restores the mode that mark() changes.
            with torch.no_grad():
                value, activations = body(mark, x, score_args, prepare_args)
                points = [leaves[tap] for tap in wrt]
                if jacobian:
                    columns = [_slopes(column.sum(), points, keep=True) for column in value.T]
                    slopes = [torch.stack(each) for each in zip(*columns, strict=True)]
                else:
                    slopes = _slopes(value.sum(), points, bent=curvature)
                if curvature:
                    bends = _bends(slopes, points)
            return (
                value.detach(),
                {k: v.detach() for k, v in activations.items()},
                {tap: slope.detach() for tap, slope in zip(wrt, slopes, strict=True)},
                {tap: bend.detach() for tap, bend in zip(wrt, bends, strict=True)} if bends else {},
            )

        return run

    def function(self, function: Function) -> Function:
        """See `cnnviz_keras.gradients.Engine.function`."""
        return self.forward(function)

    def ruled(self, rule: Rule) -> Rectifier:
        """See `cnnviz_keras.gradients.Engine.ruled`."""

        def rectifier(x: Tensor, high: float) -> Tensor:
            class ReLU(torch.autograd.Function):
                @staticmethod
                def forward(ctx: Any, x: Tensor) -> Tensor:
                    ctx.save_for_backward(x)
                    return torch.clamp(x, 0, high)

                @staticmethod
                def backward(ctx: Any, *slopes: Tensor) -> Tensor:
                    found: Tensor = rule(ctx.saved_tensors[0], slopes[0], high)
                    return found

            found: Tensor = ReLU.apply(x)
            return found

        return rectifier

    def trace(self, function: Function, shape: tuple[int, ...], dtype: str) -> None:
        """See `cnnviz_keras.gradients.Engine.trace`."""
        with torch.no_grad():
            function(keras.ops.zeros(shape, dtype))

    def once(self, function: Function, x: Tensor) -> Any:
        """See `cnnviz_keras.gradients.Engine.once`."""
        return self.forward(function)(x)

    def device(self, variable: Any) -> str:
        """See `cnnviz_keras.gradients.Engine.device`."""
        return str(variable.value.device)


def _slopes(
    total: Tensor, points: Sequence[Tensor], *, keep: bool = False, bent: bool = False
) -> list[Tensor]:
    """Differentiate a total; zeros where it does not depend on a point."""
    if not total.requires_grad:
        return [torch.zeros_like(point) for point in points]
    slopes = torch.autograd.grad(
        total, list(points), retain_graph=keep or bent, create_graph=bent, allow_unused=True
    )
    return [
        torch.zeros_like(point) if slope is None else slope
        for slope, point in zip(slopes, points, strict=True)
    ]


def _bends(slopes: Sequence[Tensor], points: Sequence[Tensor]) -> list[Tensor]:
    """Differentiate each slope along what is at its point, which is held."""
    with torch.enable_grad():
        alongs = [
            (slope * point.detach()).sum() for slope, point in zip(slopes, points, strict=True)
        ]
    return [
        _slopes(along, [point], keep=True)[0] for along, point in zip(alongs, points, strict=True)
    ]
