"""How a picture takes a step, as state that is passed on and never kept.

Every picture of a batch steps by its own numbers, so none depends on those beside it. What
changes from step to step by the count alone comes as tensors, so that one trace serves all.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Literal

from cnnviz.adapter import Ops
from cnnviz.errors import InvalidOption

__all__ = ["Adam", "AdamW", "GradientAscent", "NAdam", "NormalisedGradient", "Optimizer", "RMSprop"]

State = tuple[Any, ...]


class Optimizer(ABC):
    """One rule for going uphill."""

    def first(self, values: Any) -> State:
        """Give the state before the first step."""
        return ()

    @abstractmethod
    def rates(self, count: int) -> tuple[float, ...]:
        """Give what step `count`, from 1, multiplies by; the first is the length of the step."""

    @abstractmethod
    def step(
        self, ops: Ops[Any], x: Any, slope: Any, state: State, rates: Any
    ) -> tuple[Any, State]:
        """Give the next ``x`` and state; `rates` is a tensor of what `rates` gave."""


def _checked(rate: float, *decays: float) -> None:
    if not rate > 0:
        raise InvalidOption(f"the rate of an optimizer is above zero, not {rate}")
    if not all(0 <= decay < 1 for decay in decays):
        raise InvalidOption(f"the averages of an optimizer decay by [0, 1), not {decays}")


@dataclass(frozen=True)
class GradientAscent(Optimizer):
    """A step along the gradient as it is.

    Parameters
    ----------
    rate : float
        What the gradient is multiplied by.
    """

    rate: float = 1.0

    def __post_init__(self) -> None:
        _checked(self.rate)

    def rates(self, count: int) -> tuple[float, ...]:
        """See `Optimizer.rates`."""
        return (self.rate,)

    def step(
        self, ops: Ops[Any], x: Any, slope: Any, state: State, rates: Any
    ) -> tuple[Any, State]:
        """See `Optimizer.step`."""
        return x + slope * rates[0], ()


@dataclass(frozen=True)
class Adam(Optimizer):
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

    def __post_init__(self) -> None:
        _checked(self.rate, self.beta1, self.beta2)

    def first(self, values: Any) -> State:
        """See `Optimizer.first`."""
        return values * 0.0, values * 0.0

    def rates(self, count: int) -> tuple[float, ...]:
        """See `Optimizer.rates`."""
        return self.rate / (1 - self.beta1**count), 1 / (1 - self.beta2**count)

    def step(
        self, ops: Ops[Any], x: Any, slope: Any, state: State, rates: Any
    ) -> tuple[Any, State]:
        """See `Optimizer.step`."""
        if self.weight_decay:
            slope = slope - self.weight_decay * x
        mean, root, state = self._moments(ops, slope, state, rates[1])
        return x + mean * rates[0] / (root + self.epsilon), state

    def _moments(
        self, ops: Ops[Any], slope: Any, state: State, correction: Any
    ) -> tuple[Any, Any, State]:
        mean, square = state
        mean = mean * self.beta1 + slope * (1 - self.beta1)
        square = square * self.beta2 + slope * slope * (1 - self.beta2)
        return mean, ops.sqrt(square * correction), (mean, square)


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam whose pull towards zero is no part of the gradient [1]_.

    Parameters
    ----------
    rate : float
        Length of a step, in units of the canvas.
    weight_decay : float
        Each step takes this times the rate off the canvas.

    References
    ----------
    .. [1] Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019.
    """

    weight_decay: float = 0.01

    def rates(self, count: int) -> tuple[float, ...]:
        """See `Optimizer.rates`."""
        return (*super().rates(count), self.weight_decay * (1 - self.beta1**count))

    def step(
        self, ops: Ops[Any], x: Any, slope: Any, state: State, rates: Any
    ) -> tuple[Any, State]:
        """See `Optimizer.step`."""
        # The first rate is corrected; what decays is not, but follows the same schedule.
        x = x - x * (rates[0] * rates[2])
        mean, root, state = self._moments(ops, slope, state, rates[1])
        return x + mean * rates[0] / (root + self.epsilon), state


@dataclass(frozen=True)
class NAdam(Adam):
    """Adam with Nesterov's look ahead [1]_, uphill, in PyTorch's form.

    Parameters
    ----------
    rate : float
        Length of a step, in units of the canvas.
    weight_decay : float
        Pull towards zero, added to the gradient.

    References
    ----------
    .. [1] Dozat, "Incorporating Nesterov Momentum into Adam", 2016.
    """

    momentum_decay: float = 4e-3

    def rates(self, count: int) -> tuple[float, ...]:
        """See `Optimizer.rates`."""
        product = 1.0
        for step in range(1, count + 1):
            product *= self._momentum(step)
        now, later = self._momentum(count), self._momentum(count + 1)
        return (
            self.rate,
            1 / (1 - self.beta2**count),
            (1 - now) / (1 - product),
            later / (1 - product * later),
        )

    def step(
        self, ops: Ops[Any], x: Any, slope: Any, state: State, rates: Any
    ) -> tuple[Any, State]:
        """See `Optimizer.step`."""
        if self.weight_decay:
            slope = slope - self.weight_decay * x
        mean, root, state = self._moments(ops, slope, state, rates[1])
        ahead = slope * rates[2] + mean * rates[3]
        return x + ahead * rates[0] / (root + self.epsilon), state

    def _momentum(self, step: int) -> float:
        return float(self.beta1 * (1 - 0.5 * 0.96 ** (step * self.momentum_decay)))


@dataclass(frozen=True)
class RMSprop(Optimizer):
    """A step along the gradient over the root of its running mean square [1]_, uphill.

    Parameters
    ----------
    rate : float
        Length of a step, in units of the canvas.
    decay : float
        Of the running mean.

    References
    ----------
    .. [1] Tieleman and Hinton, "Lecture 6.5 - rmsprop", 2012.
    """

    rate: float = 0.01
    decay: float = 0.99
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        _checked(self.rate, self.decay)

    def first(self, values: Any) -> State:
        """See `Optimizer.first`."""
        return (values * 0.0,)

    def rates(self, count: int) -> tuple[float, ...]:
        """See `Optimizer.rates`."""
        return (self.rate,)

    def step(
        self, ops: Ops[Any], x: Any, slope: Any, state: State, rates: Any
    ) -> tuple[Any, State]:
        """See `Optimizer.step`."""
        square = state[0] * self.decay + slope * slope * (1 - self.decay)
        return x + slope * rates[0] / (ops.sqrt(square) + self.epsilon), (square,)


@dataclass(frozen=True)
class NormalisedGradient(Optimizer):
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
        _checked(self.size)
        if self.norm not in ("l2", "rms", "std"):
            raise InvalidOption(f"norm must be 'l2', 'rms' or 'std', not {self.norm!r}")

    def rates(self, count: int) -> tuple[float, ...]:
        """See `Optimizer.rates`."""
        return (self.size,)

    def step(
        self, ops: Ops[Any], x: Any, slope: Any, state: State, rates: Any
    ) -> tuple[Any, State]:
        """See `Optimizer.step`."""
        axes = tuple(range(1, len(slope.shape)))
        centred = slope
        if self.norm == "std":
            centred = slope - ops.mean(slope, axis=axes, keepdims=True)
        reduce = ops.sum if self.norm == "l2" else ops.mean
        length = ops.sqrt(reduce(centred * centred, axis=axes, keepdims=True))
        return x + slope * rates[0] / (length + self.epsilon), ()
