"""Where a network of Keras is run by several threads, and where it is not."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import keras
import numpy as np
import pytest

import cnnviz

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="other engines have one thread"
)


@keras.saving.register_keras_serializable("streams")
class Noise(keras.layers.Layer):
    """Draws numbers whether it is trained or not."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seed = keras.random.SeedGenerator(1)

    def call(self, x: Any) -> Any:
        return x + keras.random.normal(keras.ops.shape(x), dtype=x.dtype, seed=self.seed)


def adapted(*layers: Any) -> Any:
    model = keras.Sequential([keras.Input((8, 8, 3)), *layers])
    return cnnviz.adapt(model, "identity")


def streams(net: Any) -> int:
    x = net.ops.asarray(np.zeros((4, 8, 8, 3), np.float32))
    openers = net.streams(x, taps=[net.layers()[0].name], most=4)
    return len(openers)


def test_a_network_that_draws_numbers_stays_in_one_thread(two_threads):
    assert streams(adapted(keras.layers.Conv2D(4, 3))) == 2
    assert streams(adapted(Noise(), keras.layers.Conv2D(4, 3))) == 1


def test_what_writes_or_draws_stays_in_one_thread(two_threads):
    tf = import_module("tensorflow")
    variable = tf.Variable([0.0, 0.0])
    generator = tf.random.Generator.from_seed(1)

    def looped(x: Any) -> Any:
        def body(i: Any, y: Any) -> Any:
            return i + 1, y + tf.random.truncated_normal(())

        return tf.while_loop(lambda i, _: i < 3, body, (0, x))[1]

    def written(x: Any) -> Any:
        variable.scatter_nd_add([[0]], [1.0])
        return x + variable[0]

    def calm(x: Any) -> Any:
        return tf.while_loop(lambda i, _: i < 3, lambda i, y: (i + 1, y * 2), (0, x))[1]

    wanted = {
        looped: 1,
        written: 1,
        lambda x: x + generator.truncated_normal(()): 1,
        lambda x: x + tf.random.stateless_normal((), (1, 2)): 2,
        calm: 2,
    }
    for function, count in wanted.items():
        assert streams(adapted(keras.layers.Lambda(function))) == count


def test_eager_calls_stay_in_one_thread(two_threads):
    tf = import_module("tensorflow")
    net = adapted(keras.layers.Conv2D(4, 3))
    tf.config.run_functions_eagerly(True)
    try:
        assert streams(net) == 1
    finally:
        tf.config.run_functions_eagerly(False)


def test_threads_are_those_that_tensorflow_was_told(monkeypatch):
    tf = import_module("tensorflow")
    threading = tf.config.threading
    net = adapted(keras.layers.Conv2D(4, 3))
    for within, between, wanted in ((4, 2, 2), (1, 2, 1), (3, 8, 3)):
        monkeypatch.setattr(threading, "get_intra_op_parallelism_threads", lambda n=within: n)
        monkeypatch.setattr(threading, "get_inter_op_parallelism_threads", lambda n=between: n)
        assert streams(net) == wanted
    for kind in ("intra", "inter"):
        monkeypatch.setattr(threading, f"get_{kind}_op_parallelism_threads", lambda: 0)
        monkeypatch.setenv(f"TF_NUM_{kind.upper()}OP_THREADS", "2")
    assert streams(net) == 2
    monkeypatch.setenv("TF_NUM_INTEROP_THREADS", "1")
    assert streams(net) == 1


def test_a_network_is_traced_once_for_all_threads(two_threads):
    net = adapted(keras.layers.Conv2D(4, 3), keras.layers.ReLU())
    cnnviz.find_exemplars(net, np.zeros((30, 8, 8, 3), np.float32) + 0.5, batch=4, size=None)
    (run,) = (f for key, f in net._functions.items() if key[0] == "forward")
    assert run.experimental_get_tracing_count() == 1
