"""Running and differentiating on TensorFlow."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from typing import Any

import keras
import tensorflow as tf
from tensorflow.python.framework import op_def_registry

from cnnviz.streams import cores
from cnnviz_keras.gradients import Body, Function
from cnnviz_keras.recording import Rectifier
from cnnviz_keras.rectifiers import Rule

__all__ = ["TensorFlowEngine"]

Tensor = Any

# What TensorFlow counts as stateful, and only reads or calls what is looked at by itself.
_HARMLESS = {
    "VarHandleOp",
    "ReadVariableOp",
    "VarIsInitializedOp",
    "StatefulPartitionedCall",
    "If",
    "While",
    "Case",
    "Assert",
}


class TensorFlowEngine:
    """One `tf.function` for each kind of call, and a tape that begins at the first tap."""

    compiled = True

    def __init__(self, model: keras.Model) -> None:
        pass

    @property
    def any_thread(self) -> bool:
        """See `cnnviz.adapter.Adapter`; eager calls ask what is set for their thread."""
        return not tf.config.functions_run_eagerly()

    def at_once(self, run: Function, x: Tensor) -> int:
        """See `cnnviz_keras.gradients.Engine.at_once`.

        Two runs share the threads within operations, but each needs one between them.
        """
        # What device is meant may be set for the caller's thread.
        if not self.any_thread or tf.config.list_logical_devices("GPU"):
            return 1
        graph = run.get_concrete_function(x).graph.as_graph_def()  # type: ignore[attr-defined]
        nodes = [*graph.node, *(n for f in graph.library.function for n in f.node_def)]
        # In what order several threads would write or draw is not fixed.
        if any(_disturbs(node.op) for node in nodes):
            return 1
        return min(_threads("intra"), _threads("inter"))

    def forward(self, function: Function) -> Function:
        """See `cnnviz_keras.gradients.Engine.forward`."""
        return self._compiled(function)

    def gradient(
        self, body: Body, wrt: Sequence[str], *, jacobian: bool = False, curvature: bool = False
    ) -> Function:
        """See `cnnviz_keras.gradients.Engine.gradient`."""

        def traced(x: Tensor, score_args: Any, prepare_args: Any) -> Any:
            watched: dict[str, Tensor] = {}
            tapes = [
                tf.GradientTape(persistent=jacobian or outer, watch_accessed_variables=False)
                for outer in ((True, False) if curvature else (False,))
            ]
            tape = tapes[-1]

            def mark(tap: str, tensor: Tensor) -> Tensor:
                watched[tap] = tensor = tf.identity(tensor)
                for one in tapes:
                    one.watch(tensor)
                return tensor

            def differentiated() -> Any:
                with tape:
                    value, activations = body(mark, x, score_args, prepare_args)
                    total = value if jacobian else tf.reduce_sum(value)
                points = [watched[tap] for tap in wrt]
                slopes = (_each if jacobian else _slopes)(tape, total, points)
                return value, activations, points, slopes

            bends: list[Tensor] = []
            if curvature:
                with tapes[0]:
                    value, activations, points, slopes = differentiated()
                    # The activation is held: it says which way, and does not change.
                    alongs = [
                        tf.reduce_sum(slope * tf.stop_gradient(point))
                        for slope, point in zip(slopes, points, strict=True)
                    ]
                bends = [
                    _slopes(tapes[0], along, [point])[0]
                    for along, point in zip(alongs, points, strict=True)
                ]
            else:
                value, activations, points, slopes = differentiated()
            return (
                value,
                activations,
                dict(zip(wrt, slopes, strict=True)),
                dict(zip(wrt, bends, strict=True)) if curvature else {},
            )

        return self._compiled(traced)

    def _compiled(self, function: Function) -> Function:
        # TensorFlow counts traces by the code of a function, of which there is one for all taps,
        # and warns of many; a partial has none.
        return tf.function(partial(function), autograph=False)  # type: ignore[no-any-return]

    def function(self, function: Function) -> Function:
        """See `cnnviz_keras.gradients.Engine.function`."""
        return self.forward(function)

    def ruled(self, rule: Rule) -> Rectifier:
        """See `cnnviz_keras.gradients.Engine.ruled`."""

        def rectifier(x: Tensor, high: float) -> Tensor:
            @tf.custom_gradient  # type: ignore[untyped-decorator]
            def relu(x: Tensor) -> Any:
                def back(slope: Tensor) -> Tensor:
                    return rule(x, slope, high)

                return tf.clip_by_value(x, 0, tf.cast(high, x.dtype)), back

            return relu(x)

        return rectifier

    def trace(self, function: Function, shape: tuple[int, ...], dtype: str) -> None:
        """See `cnnviz_keras.gradients.Engine.trace`."""
        graph = tf.function(function, autograph=False)
        graph.get_concrete_function(tf.TensorSpec(shape, dtype))

    def once(self, function: Function, x: Tensor) -> Any:
        """See `cnnviz_keras.gradients.Engine.once`."""
        return function(x)

    def device(self, variable: Any) -> str:
        """See `cnnviz_keras.gradients.Engine.device`."""
        return str(variable.value.device).rpartition("device:")[2].lower() or "cpu:0"


def _threads(kind: str) -> int:
    """Say how many threads there are within operations (``"intra"``) or between them."""
    told = getattr(tf.config.threading, f"get_{kind}_op_parallelism_threads")()
    set_before = os.environ.get(f"TF_NUM_{kind.upper()}OP_THREADS", "")
    return told or (int(set_before) if set_before.isdecimal() else 0) or cores()


def _disturbs(operation: str) -> bool:
    """Say whether an operation writes, draws numbers, or is not known."""
    known = op_def_registry.get(operation)
    return operation not in _HARMLESS and (known is None or known.is_stateful)


def _slopes(tape: Any, total: Tensor, points: Sequence[Tensor]) -> Any:
    return tape.gradient(total, list(points), unconnected_gradients="zero")


def _each(tape: Any, value: Tensor, points: Sequence[Tensor]) -> Any:
    """Differentiate each column of a score ``(N, K)``, with one backward in the trace for all."""
    count = value.shape[1]

    def column(k: Tensor) -> Any:
        seed = tf.broadcast_to(tf.one_hot(k, count, dtype=value.dtype), tf.shape(value))
        return tape.gradient(
            value, list(points), output_gradients=seed, unconnected_gradients="zero"
        )

    given = [tf.TensorSpec(point.shape, point.dtype) for point in points]
    return tf.map_fn(column, tf.range(count), fn_output_signature=given)
