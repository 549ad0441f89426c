"""Running and differentiating on TensorFlow, JAX or torch: the only place that branches.

An engine turns a ``body(mark, x, score_args, prepare_args)`` into a function of tensors. The
body calls ``mark(tap, tensor)`` where a derivative is wanted and goes on with what it gives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import keras

from cnnviz.errors import UnsupportedModel

__all__ = ["Engine", "make_engine"]

Tensor = Any
Body = Callable[..., tuple[Tensor, Mapping[str, Tensor]]]
"""``body(mark, x, score_args, prepare_args)`` to the score and the activations by tap."""
Function = Callable[..., Any]


class Engine(Protocol):
    """What differs from one framework under Keras to the next."""

    compiled: bool

    def forward(self, function: Function) -> Function:
        """Make a function of one tensor fast; no gradient is recorded."""

    def gradient(self, body: Body, wrt: Sequence[str]) -> Function:
        """Make ``f(x, score_args, prepare_args)`` to (value, activations, gradients)."""

    def function(self, function: Function) -> Function:
        """Make a function of tensors, and of tuples of them, fast; no gradient is recorded."""

    def redirected(self, x: Tensor, high: float) -> Tensor:
        """Compute ReLU up to a limit, with a derivative that is redirected.

        See `cnnviz.adapter.Adapter.gradient`.
        """

    def trace(self, function: Function, shape: tuple[int, ...], dtype: str) -> None:
        """Run a function of one tensor once, without computing where that can be had."""

    def once(self, function: Function, x: Tensor) -> Any:
        """Run a function of one tensor that will not be run again."""

    def device(self, variable: Any) -> str:
        """Say where a variable lies."""


def make_engine(model: keras.Model) -> Engine:
    """Give the engine for the framework that Keras runs on."""
    backend = keras.backend.backend()
    engines: dict[str, Callable[[keras.Model], Engine]] = {
        "tensorflow": TensorFlowEngine,
        "jax": JaxEngine,
        "torch": TorchEngine,
    }
    if backend not in engines:
        raise UnsupportedModel(
            f"Keras runs on {backend!r}, which gives no gradients; set KERAS_BACKEND to"
            " tensorflow, jax or torch before importing keras"
        )
    return engines[backend](model)


class TensorFlowEngine:
    """One `tf.function` for each kind of call, and a tape that begins at the first tap."""

    compiled = True

    def __init__(self, model: keras.Model) -> None:
        import tensorflow

        self._tf = tensorflow

    def forward(self, function: Function) -> Function:
        """See `Engine.forward`."""
        return self._compiled(function)

    def gradient(self, body: Body, wrt: Sequence[str]) -> Function:
        """See `Engine.gradient`."""
        tf = self._tf

        def traced(x: Tensor, score_args: Any, prepare_args: Any) -> Any:
            watched: dict[str, Tensor] = {}
            with tf.GradientTape(watch_accessed_variables=False) as tape:

                def mark(tap: str, tensor: Tensor) -> Tensor:
                    watched[tap] = tensor = tf.identity(tensor)
                    tape.watch(tensor)
                    return tensor

                value, activations = body(mark, x, score_args, prepare_args)
                total = tf.reduce_sum(value)
            slopes = tape.gradient(
                total, [watched[tap] for tap in wrt], unconnected_gradients="zero"
            )
            return value, activations, dict(zip(wrt, slopes, strict=True))

        return self._compiled(traced)

    def _compiled(self, function: Function) -> Function:
        # TensorFlow counts traces by the code of a function, of which there is one for all taps,
        # and warns of many; a partial has none.
        return self._tf.function(partial(function), autograph=False)  # type: ignore[no-any-return]

    def function(self, function: Function) -> Function:
        """See `Engine.function`."""
        return self.forward(function)

    def redirected(self, x: Tensor, high: float) -> Tensor:
        """See `Engine.redirected`."""
        tf = self._tf

        @tf.custom_gradient  # type: ignore[untyped-decorator]
        def relu(x: Tensor) -> Any:
            def back(slope: Tensor) -> Tensor:
                return _redirected(x, slope, high)

            return tf.clip_by_value(x, 0, tf.cast(high, x.dtype)), back

        return relu(x)

    def trace(self, function: Function, shape: tuple[int, ...], dtype: str) -> None:
        """See `Engine.trace`."""
        graph = self._tf.function(function, autograph=False)
        graph.get_concrete_function(self._tf.TensorSpec(shape, dtype))

    def once(self, function: Function, x: Tensor) -> Any:
        """See `Engine.once`."""
        return function(x)

    def device(self, variable: Any) -> str:
        """See `Engine.device`."""
        return str(variable.value.device).rpartition("device:")[2].lower() or "cpu:0"


class JaxEngine:
    """One `jax.jit` for each kind of call; JAX has no hook, so a zero is added at each tap."""

    compiled = True

    def __init__(self, model: keras.Model) -> None:
        import jax

        self._jax = jax
        self._variables = list(model.variables)

    def _stateless(self, function: Function) -> Function:
        """Take the weights as an argument, so that none is baked into the trace."""

        def with_values(values: Sequence[Tensor], *args: Any) -> Any:
            with keras.StatelessScope(
                state_mapping=list(zip(self._variables, values, strict=True))
            ):
                return function(*args)

        return with_values

    def _supplied(self, function: Function) -> Function:
        def supplied(*args: Any) -> Any:
            return function([v.value for v in self._variables], *args)

        return supplied

    def forward(self, function: Function) -> Function:
        """See `Engine.forward`."""
        return self._supplied(self._jax.jit(self._stateless(function)))

    def gradient(self, body: Body, wrt: Sequence[str]) -> Function:
        """See `Engine.gradient`."""
        jax = self._jax

        def traced(x: Tensor, score_args: Any, prepare_args: Any) -> Any:
            def seen() -> dict[str, Tensor]:
                found: dict[str, Tensor] = {}

                def mark(tap: str, tensor: Tensor) -> Tensor:
                    found[tap] = tensor
                    return tensor

                body(mark, x, score_args, prepare_args)
                return found

            def scored(nudges: Mapping[str, Tensor]) -> Any:
                def mark(tap: str, tensor: Tensor) -> Tensor:
                    return tensor + nudges[tap]

                value, activations = body(mark, x, score_args, prepare_args)
                return value.sum(), (value, activations)

            shapes = jax.eval_shape(seen)
            nudges = {tap: jax.numpy.zeros(s.shape, s.dtype) for tap, s in shapes.items()}
            slopes, (value, activations) = jax.grad(scored, has_aux=True)(nudges)
            return value, activations, {tap: slopes[tap] for tap in wrt}

        return self._supplied(jax.jit(self._stateless(traced)))

    def function(self, function: Function) -> Function:
        """See `Engine.function`."""
        return self._jax.jit(function)  # type: ignore[no-any-return]

    def redirected(self, x: Tensor, high: float) -> Tensor:
        """See `Engine.redirected`."""
        jax = self._jax

        @jax.custom_vjp  # type: ignore[untyped-decorator]
        def relu(x: Tensor) -> Tensor:
            return jax.numpy.clip(x, 0, high)

        def forward(x: Tensor) -> tuple[Tensor, Tensor]:
            return relu(x), x

        def back(x: Tensor, slope: Tensor) -> tuple[Tensor]:
            return (_redirected(x, slope, high),)

        relu.defvjp(forward, back)
        return relu(x)

    def trace(self, function: Function, shape: tuple[int, ...], dtype: str) -> None:
        """See `Engine.trace`."""

        def discarding(x: Tensor) -> None:
            function(x)

        struct = self._jax.ShapeDtypeStruct(shape, dtype)
        self._supplied(
            lambda values, x: self._jax.eval_shape(self._stateless(discarding), values, x)
        )(struct)

    def once(self, function: Function, x: Tensor) -> Any:
        """See `Engine.once`."""
        return self.forward(function)(x)

    def device(self, variable: Any) -> str:
        """See `Engine.device`."""
        return ", ".join(sorted(str(d) for d in variable.value.devices())).lower()


class TorchEngine:
    """Eager; the graph begins at the first tap."""

    compiled = False

    def __init__(self, model: keras.Model) -> None:
        import torch

        self._torch = torch

    def forward(self, function: Function) -> Function:
        """See `Engine.forward`."""

        def run(x: Tensor) -> Any:
            with self._torch.no_grad():
                return function(x)

        return run

    def gradient(self, body: Body, wrt: Sequence[str]) -> Function:
        """See `Engine.gradient`."""
        torch = self._torch

        def run(x: Tensor, score_args: Any, prepare_args: Any) -> Any:
            leaves: dict[str, Tensor] = {}

            def mark(tap: str, tensor: Tensor) -> Tensor:
                torch.set_grad_enabled(True)
                if not tensor.requires_grad:
                    tensor = tensor.detach().requires_grad_(True)
                leaves[tap] = tensor
                return tensor

            # Leaving this restores the mode that mark() changes.
            with torch.no_grad():
                value, activations = body(mark, x, score_args, prepare_args)
                points = [leaves[tap] for tap in wrt]
                slopes = (
                    torch.autograd.grad(value.sum(), points, allow_unused=True)
                    if value.requires_grad
                    else [None] * len(points)
                )
            gradients = {
                tap: torch.zeros_like(point) if slope is None else slope
                for tap, point, slope in zip(wrt, points, slopes, strict=True)
            }
            return value.detach(), {k: v.detach() for k, v in activations.items()}, gradients

        return run

    def function(self, function: Function) -> Function:
        """See `Engine.function`."""

        def run(*args: Any) -> Any:
            with self._torch.no_grad():
                return function(*args)

        return run

    def redirected(self, x: Tensor, high: float) -> Tensor:
        """See `Engine.redirected`."""
        torch = self._torch

        class ReLU(torch.autograd.Function):  # type: ignore[misc, name-defined]
            @staticmethod
            def forward(ctx: Any, x: Tensor) -> Tensor:
                ctx.save_for_backward(x)
                return torch.clamp(x, 0, high)

            @staticmethod
            def backward(ctx: Any, *slopes: Tensor) -> Tensor:
                return _redirected(ctx.saved_tensors[0], slopes[0], high)

        return ReLU.apply(x)

    def trace(self, function: Function, shape: tuple[int, ...], dtype: str) -> None:
        """See `Engine.trace`."""
        with self._torch.no_grad():
            function(keras.ops.zeros(shape, dtype))

    def once(self, function: Function, x: Tensor) -> Any:
        """See `Engine.once`."""
        return self.forward(function)(x)

    def device(self, variable: Any) -> str:
        """See `Engine.device`."""
        return str(variable.value.device)


def _redirected(x: Tensor, slope: Tensor, high: float) -> Tensor:
    """Pass a derivative through ReLU, redirected where all of a picture's would be zero."""
    ops, zero = keras.ops, slope * 0
    inside = (x > 0) & (x < high)
    plain = ops.where(inside, slope, zero)
    # Up from below, or down from above: what brings a unit back to where it answers.
    towards = inside | ((x <= 0) & (slope > 0)) | ((x >= high) & (slope < 0))
    axes = tuple(range(1, len(x.shape)))
    silent = ops.all(ops.equal(plain, zero), axis=axes, keepdims=True)
    return ops.where(silent, ops.where(towards, slope, zero), plain)
