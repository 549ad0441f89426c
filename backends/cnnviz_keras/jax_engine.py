"""Running and differentiating on JAX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import keras
from keras.src.backend.common.global_state import get_global_attribute, set_global_attribute

from cnnviz_keras.gradients import Body, Function
from cnnviz_keras.recording import Rectifier
from cnnviz_keras.rectifiers import Rule

__all__ = ["JaxEngine"]

Tensor = Any

# Where Keras keeps the scope that a trace is in.
_SCOPE = "stateless_scope"


class JaxEngine:
    """One `jax.jit` for each kind of call; JAX has no hook, so a zero is added at each tap."""

    compiled = True
    # What is set for a thread, such as the precision of products, is part of a call.
    any_thread = False

    def __init__(self, model: keras.Model) -> None:
        self._variables = list(model.variables)

    def at_once(self, run: Function, x: Tensor) -> int:
        """See `cnnviz_keras.gradients.Engine.at_once`."""
        return 1

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
            scope = get_global_attribute(_SCOPE)
            try:
                return function([v.value for v in self._variables], *args)
            finally:
                # An interrupt may come at the very end of a scope, which then stays.
                set_global_attribute(_SCOPE, scope)

        return supplied

    def forward(self, function: Function) -> Function:
        """See `cnnviz_keras.gradients.Engine.forward`."""
        return self._supplied(jax.jit(self._stateless(function)))

    def gradient(
        self, body: Body, wrt: Sequence[str], *, jacobian: bool = False, curvature: bool = False
    ) -> Function:
        """See `cnnviz_keras.gradients.Engine.gradient`."""

        def traced(x: Tensor, score_args: Any, prepare_args: Any) -> Any:
            def scored(nudges: Mapping[str, Tensor] | None) -> Any:
                points: dict[str, Tensor] = {}

                def mark(tap: str, tensor: Tensor) -> Tensor:
                    points[tap] = tensor
                    return tensor if nudges is None else tensor + nudges[tap]

                value, activations = body(mark, x, score_args, prepare_args)
                return value, (activations, points)

            def slopes_at(nudges: Mapping[str, Tensor]) -> Any:
                return jax.grad(lambda moved: scored(moved)[0].sum())(nudges)

            shapes = jax.eval_shape(lambda: scored(None)[1][1])
            nudges = {tap: jax.numpy.zeros(s.shape, s.dtype) for tap, s in shapes.items()}
            value, pull, (activations, points) = jax.vjp(scored, nudges, has_aux=True)
            if jacobian:
                # One backward in the trace for all of the columns.
                seeds = jax.numpy.eye(value.shape[1], dtype=value.dtype)
                slopes = jax.lax.map(
                    lambda seed: pull(jax.numpy.broadcast_to(seed, value.shape))[0], seeds
                )
            else:
                (slopes,) = pull(jax.numpy.ones_like(value))
            bends = {}
            for tap in wrt if curvature else ():
                still = {other: jax.numpy.zeros_like(nudge) for other, nudge in nudges.items()}
                way = {**still, tap: points[tap]}
                bends[tap] = jax.jvp(slopes_at, (nudges,), (way,))[1][tap]
            return value, activations, {tap: slopes[tap] for tap in wrt}, bends

        return self.forward(traced)

    def function(self, function: Function) -> Function:
        """See `cnnviz_keras.gradients.Engine.function`."""
        return jax.jit(function)  # type: ignore[no-any-return]

    def ruled(self, rule: Rule) -> Rectifier:
        """See `cnnviz_keras.gradients.Engine.ruled`."""

        def rectifier(x: Tensor, high: float) -> Tensor:
            @jax.custom_vjp  # type: ignore[untyped-decorator]
            def relu(x: Tensor) -> Tensor:
                return jax.numpy.clip(x, 0, high)

            def forward(x: Tensor) -> tuple[Tensor, Tensor]:
                return relu(x), x

            def back(x: Tensor, slope: Tensor) -> tuple[Tensor]:
                return (rule(x, slope, high),)

            relu.defvjp(forward, back)
            return relu(x)

        return rectifier

    def trace(self, function: Function, shape: tuple[int, ...], dtype: str) -> None:
        """See `cnnviz_keras.gradients.Engine.trace`."""

        def discarding(x: Tensor) -> None:
            function(x)

        struct = jax.ShapeDtypeStruct(shape, dtype)
        self._supplied(lambda values, x: jax.eval_shape(self._stateless(discarding), values, x))(
            struct
        )

    def once(self, function: Function, x: Tensor) -> Any:
        """See `cnnviz_keras.gradients.Engine.once`."""
        return self.forward(function)(x)

    def device(self, variable: Any) -> str:
        """See `cnnviz_keras.gradients.Engine.device`."""
        return ", ".join(sorted(str(d) for d in variable.value.devices())).lower()
