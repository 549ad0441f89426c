"""What differs between TensorFlow, JAX and torch: running, and differentiating.

An engine turns a ``body(mark, x, score_args, prepare_args)`` into a function of tensors. The
body calls ``mark(tap, tensor)`` where a derivative is wanted and goes on with what it gives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, Protocol

import keras

from cnnviz.errors import UnsupportedModel
from cnnviz_keras.recording import Rectifier
from cnnviz_keras.rectifiers import Rule

__all__ = ["Body", "Engine", "Function", "make_engine"]

Tensor = Any
Body = Callable[..., tuple[Tensor, Mapping[str, Tensor]]]
"""``body(mark, x, score_args, prepare_args)`` to the score and the activations by tap."""
Function = Callable[..., Any]


class Engine(Protocol):
    """What differs from one framework under Keras to the next."""

    compiled: bool

    @property
    def any_thread(self) -> bool:
        """See `cnnviz.adapter.Adapter`."""

    def at_once(self, run: Function, x: Tensor) -> int:
        """Say in how many threads what `forward` made runs well, on pictures like `x`."""

    def forward(self, function: Function) -> Function:
        """Make a function of tensors, and of tuples of them, that runs the model fast.

        No gradient is recorded.
        """

    def gradient(
        self, body: Body, wrt: Sequence[str], *, jacobian: bool = False, curvature: bool = False
    ) -> Function:
        """Make ``f(x, score_args, prepare_args)`` to what `cnnviz.adapter.Evaluation` holds.

        The value, activations, gradients and curvatures, in this order.
        """

    def function(self, function: Function) -> Function:
        """Make a function that does not run the model fast; no gradient is recorded."""

    def ruled(self, rule: Rule) -> Rectifier:
        """Make a ReLU up to a limit whose derivative follows a rule."""

    def trace(self, function: Function, shape: tuple[int, ...], dtype: str) -> None:
        """Run a function of one tensor once, without computing where that can be had."""

    def once(self, function: Function, x: Tensor) -> Any:
        """Run a function of one tensor that will not be run again."""

    def device(self, variable: Any) -> str:
        """Say where a variable lies."""


_ENGINES = {
    "tensorflow": "TensorFlowEngine",
    "jax": "JaxEngine",
    "torch": "TorchEngine",
}


def make_engine(model: keras.Model) -> Engine:
    """Give the engine for the framework that Keras runs on."""
    backend = keras.backend.backend()
    if backend not in _ENGINES:
        raise UnsupportedModel(
            f"Keras runs on {backend!r}, which gives no gradients; set KERAS_BACKEND to"
            " tensorflow, jax or torch before importing keras"
        )
    module = import_module(f"cnnviz_keras.{backend}_engine")
    engine: Engine = getattr(module, _ENGINES[backend])(model)
    return engine
