"""How a picture takes a step, as state that is passed on and never kept.

Every picture of a batch steps by its own numbers, so none depends on those beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

from cnnviz.adapter import Ops
from cnnviz.errors import InvalidOption

__all__ = ["Adam", "NormalisedGradient", "Optimizer"]

State = tuple[Any, ...]


class Optimizer(Protocol):
    """One rule for going uphill."""

    def step(self, ops: Ops[Any], x: Any, slope: Any, state: State) -> tuple[Any, State]:
        """Give the next ``x`` and state; the first state is ``()``."""


@dataclass(frozen=True)
class Adam:
    """Adam [1]_, uphill.

    Parameters
    ----------
    rate : float
        Length of a step, in units of the canvas.
    weight_decay : float
        Pull towards zero, added to the gradient as PyTorch's Adam does.

    References
    ----------
    .. [1] Kingma and Ba, "Adam: A Method for Stochastic Optimization", 2015.
    """

    rate: float = 0.05
    weight_decay: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    def step(self, ops: Ops[Any], x: Any, slope: Any, state: State) -> tuple[Any, State]:
        """See `Optimizer.step`."""
        count, mean, square = state or (0, x * 0.0, x * 0.0)
        count += 1
        if self.weight_decay:
            slope = slope - self.weight_decay * x
        mean = mean * self.beta1 + slope * (1 - self.beta1)
        square = square * self.beta2 + slope * slope * (1 - self.beta2)
        rate = self.rate / (1 - self.beta1**count)
        root = ops.sqrt(square * (1 / (1 - self.beta2**count)))
        return x + mean * rate / (root + self.epsilon), (count, mean, square)


@dataclass(frozen=True)
class NormalisedGradient:
    """A step of fixed size along the gradient divided by its norm, picture by picture.

    Parameters
    ----------
    size : float
        In units of the canvas.
    norm : {"l2", "rms", "std"}
        What the gradient is divided by.
    """

    size: float = 1.0
    norm: Literal["l2", "rms", "std"] = "l2"
    epsilon: float = 1e-12

    def __post_init__(self) -> None:
        if self.norm not in ("l2", "rms", "std"):
            raise InvalidOption(f"norm must be 'l2', 'rms' or 'std', not {self.norm!r}")

    def step(self, ops: Ops[Any], x: Any, slope: Any, state: State) -> tuple[Any, State]:
        """See `Optimizer.step`."""
        axes = (1, 2, 3)
        centred = slope
        if self.norm == "std":
            centred = slope - ops.mean(slope, axis=axes, keepdims=True)
        reduce = ops.sum if self.norm == "l2" else ops.mean
        length = ops.sqrt(reduce(centred * centred, axis=axes, keepdims=True))
        return x + slope * self.size / (length + self.epsilon), ()
