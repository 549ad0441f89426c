"""An interrupt at any line of the backend, and several threads at once."""

from __future__ import annotations

import dis
import sys
import threading
from inspect import CO_GENERATOR
from pathlib import Path

import cnnviz_torch
import numpy as np
import pytest
import torch
from nets.torch_small import Small, settle, snapshot
from nets.torch_structures import Forked

import cnnviz
from cnnviz import INPUT, LOGITS
from cnnviz.testing import SMALL_PREPROCESSING, small_pictures

HOME = str(Path(cnnviz_torch.__file__).parent)


class Interrupter:
    """Raise KeyboardInterrupt at the n-th line of the backend that runs."""

    def __init__(self, line: int) -> None:
        self.left = line

    def trace(self, frame, event, arg):
        code = frame.f_code
        # What a generator raises while it is thrown away is lost, and only warned of.
        if not code.co_filename.startswith(HOME) or code.co_flags & CO_GENERATOR:
            return None
        # Entering a function counts too: its first line may be a clean-up. Python itself never
        # looks for an interrupt where it does nothing, and no handler covers such a place.
        idle = code.co_code[frame.f_lasti] == dis.opmap["NOP"]
        if event in ("line", "call") and not idle:
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt
        return self.trace


def interrupted(line, run):
    """Say whether the run came to that line."""
    tracing = sys.gettrace()
    sys.settrace(Interrupter(line).trace)
    try:
        run()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(tracing)
    return False


def nets():
    small = cnnviz.adapt(settle(Small(softmax=True)).train(), SMALL_PREPROCESSING)
    small.settle(12, 10)
    forked = cnnviz.adapt(Forked().train(), "identity", input_shape=(12, 10, 3))
    forked.layers()
    return {"small": (small, "conv2"), "forked": (forked, "fork[0]")}


@pytest.mark.parametrize("name", ["small", "forked"])
def test_an_interrupt_at_any_line_leaves_the_model_as_it_was(name):
    net, tap = nets()[name]
    x = net.ops.asarray(small_pictures())
    before = snapshot(net.model)

    def run():
        net.gradient(lambda acts: acts[LOGITS][:, 0], x, taps=[LOGITS, tap], wrt=[tap, INPUT])

    run()
    line = 0
    while True:
        line += 1
        came = interrupted(line, run)
        assert snapshot(net.model) == before, f"interrupted at line {line}"
        assert torch.overrides._get_current_function_mode() is None
        if not came:
            break
    assert line > 100
    # And it still works, with the very same numbers as a fresh adapter.
    fresh, _ = nets()["small"]
    if name == "small":
        found = [n.ops.to_numpy(n.forward(x, taps=[LOGITS])[LOGITS]) for n in (net, fresh)]
        np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("stride", [61, 97, 131])
def test_an_interrupt_while_layers_are_listed_leaves_the_model_as_it_was(stride):
    model = settle(Small()).train()
    before = snapshot(model)
    line = 0
    while True:
        # Every line of the listing would take minutes; steps of a prime reach all of its parts.
        line += stride
        net = cnnviz.adapt(model, SMALL_PREPROCESSING, input_shape=(12, 10, 3))
        came = interrupted(line, net.layers)
        assert snapshot(model) == before, f"interrupted at line {line}"
        assert torch.overrides._get_current_function_mode() is None
        assert torch.utils._python_dispatch._get_current_dispatch_mode() is None
        if not came:
            break
    assert line > 20 * stride


def test_two_threads_get_what_one_gets():
    model = settle(Small(softmax=True)).train()
    before = snapshot(model)
    net = cnnviz.adapt(model, SMALL_PREPROCESSING)
    batches = [net.ops.asarray(small_pictures(2, seed=seed)) for seed in range(2)]
    taps = ["conv1", "relu:1", LOGITS]

    def run(x):
        found = net.gradient(lambda acts: acts[LOGITS][:, 0], x, taps=taps, wrt=[INPUT, "conv2"])
        every = {**found.activations, **{f"d {k}": v for k, v in found.gradients.items()}}
        return {k: net.ops.to_numpy(v) for k, v in every.items()}

    alone = [run(x) for x in batches]
    ready, wrong = threading.Barrier(2), []

    def work(i):
        ready.wait()
        for _ in range(40):
            found = run(batches[i])
            wrong.extend(k for k in found if not np.array_equal(found[k], alone[i][k]))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert snapshot(model) == before
