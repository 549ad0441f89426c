"""An interrupt at any moment, two threads at once, and fifty calls."""

from __future__ import annotations

import gc
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import cnnviz_keras
import keras
import numpy as np
from keras.src.backend import nn as functions
from keras.src.ops.operation import Operation
from nets.keras_small import functional, nested, settle, snapshot

import cnnviz
from cnnviz.adapter import INPUT, LOGITS
from cnnviz.testing import SMALL_PREPROCESSING, small_pictures

HOME = str(Path(cnnviz_keras.__file__).parent)


def outside():
    """Everything of Keras that is replaced while a model runs."""
    found = [keras.layers.Layer.__call__, Operation.__call__]
    return found + [getattr(functions, name) for name in ("softmax", "log_softmax", "sigmoid")]


def _score(acts):
    return acts[LOGITS][:, 2]


def work(net):
    x = net.ops.asarray(small_pictures())
    net.forward(x, taps=["conv2", LOGITS])
    found = net.gradient(_score, x, taps=[LOGITS, "pool"], wrt=["conv1", INPUT])
    return net.ops.to_numpy(found.gradients[INPUT])


@contextmanager
def interrupted_at(step):
    """Raise KeyboardInterrupt at the n-th line that the adapter runs; note the lines."""
    lines = []
    before = sys.gettrace()

    def trace(frame, event, arg):
        if not frame.f_code.co_filename.startswith(HOME):
            return None
        if event == "line":
            lines.append((frame.f_code.co_filename, frame.f_lineno))
            if len(lines) == step:
                raise KeyboardInterrupt
        return trace

    sys.settrace(trace)
    try:
        yield lines
    finally:
        sys.settrace(before)


def test_an_interrupt_at_any_line_leaves_everything_as_it_was():
    model = settle(functional("fused"))
    wanted = work(cnnviz.adapt(model, SMALL_PREPROCESSING))
    before, around = snapshot(model), outside()
    net = cnnviz.adapt(model, SMALL_PREPROCESSING)
    with interrupted_at(-1) as lines:
        work(net)
    # Each line where it is run for the last time: all of those that change what is not the
    # adapter's own, some of the others. TensorFlow and JAX trace anew for each, so fewer there.
    found = {line: step for step, line in enumerate(lines, 1)}
    last = sorted(found.values())
    names = ("recording.py", "_engine.py", "precision.py")
    inner = {step for (path, _), step in found.items() if path.endswith(names)}
    steps = sorted(inner | set(last[::8]))
    steps = steps[::4] if keras.backend.backend() == "torch" else steps[::6]
    assert len(last) > 200
    stopped = 0
    for i, step in enumerate(steps):
        net = cnnviz.adapt(model, SMALL_PREPROCESSING)
        try:
            with interrupted_at(step):
                work(net)
        except KeyboardInterrupt:
            stopped += 1
        assert outside() == around, lines[step - 1]
        if i % 40 == 0:
            assert snapshot(model) == before, lines[step - 1]
            np.testing.assert_allclose(work(net), wanted, rtol=1e-12, atol=1e-16)
    assert stopped > 0.9 * len(steps)
    assert snapshot(model) == before
    np.testing.assert_array_equal(work(cnnviz.adapt(model, SMALL_PREPROCESSING)), wanted)


def test_two_threads_give_what_one_gives():
    model = settle(functional("layer"))
    wanted = work(cnnviz.adapt(model, SMALL_PREPROCESSING))
    shared = cnnviz.adapt(model, SMALL_PREPROCESSING)
    found, errors = [], []

    def run(net):
        try:
            found.extend(work(net) for _ in range(5))
        except Exception as error:  # noqa: BLE001 - whatever it is, the test is told
            errors.append(error)

    nets = [shared, shared, cnnviz.adapt(model, SMALL_PREPROCESSING)]
    threads = [threading.Thread(target=run, args=(net,)) for net in nets]
    around = outside()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(found) == 15
    for value in found:
        np.testing.assert_allclose(value, wanted, rtol=1e-13, atol=1e-16)
    assert outside() == around


def test_fifty_calls_leave_nothing():
    model = settle(nested())
    net = cnnviz.adapt(model, SMALL_PREPROCESSING)
    x = net.ops.asarray(small_pictures())
    before = snapshot(model)

    def step():
        net.forward(x, taps=["head/conv2"])
        net.gradient(_score, x, taps=[LOGITS], wrt=[INPUT, "head/conv2"])

    def count():
        gc.collect()
        return len(gc.get_objects())

    for _ in range(5):
        step()
    first = count()
    for _ in range(50):
        step()
    assert count() - first < 25
    assert snapshot(model) == before
