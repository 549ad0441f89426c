"""Where a network of PyTorch is run by several threads, and where it is not."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import cnnviz
from cnnviz import passes
from cnnviz.errors import TapNotReached


class Counting(nn.Module):
    """Counts its calls in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Any) -> Any:
        self.calls += 1
        return self.conv(x).mean((2, 3)) + self.calls


class Noisy(nn.Module):
    """Drops at random, in eval mode as well."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Any) -> Any:
        return nn.functional.dropout(self.conv(x), training=True).mean((2, 3))


class Closed(nn.Module):
    """Calls a layer by a function that holds the network itself."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.step = lambda x: self.norm(self.conv(x))

    def forward(self, x: Any) -> Any:
        return self.step(x).mean((2, 3))


def plain() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    ).eval()


def adapted(model: nn.Module) -> Any:
    return cnnviz.adapt(model, "identity", input_shape=(8, 8, 3))


def pictures(count: int = 24) -> Any:
    return np.random.default_rng(0).random((count, 8, 8, 3)).astype(np.float32)


def streams(net: Any, tap: str) -> int:
    with net.streams(net.ops.asarray(pictures(4)), taps=[tap], most=2) as openers:
        return len(openers)


def test_threads_of_operations_are_shared_out_and_given_back(two_threads):
    net = adapted(plain())
    seen: list[int] = []

    def run(opener: Any) -> None:
        opener()
        seen.append(torch.get_num_threads())

    with net.streams(net.ops.asarray(pictures(4)), taps=["0"], most=2) as openers:
        for opener in openers:
            thread = threading.Thread(target=run, args=(opener,))
            thread.start()
            thread.join()
        assert torch.get_num_threads() == 2
    later: list[int] = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert (seen, later) == ([1, 1], [2])


def test_one_thread_of_operations_is_one_stream():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert streams(adapted(plain()), "0") == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("make", [Counting, Noisy])
def test_what_changes_as_it_runs_stays_in_one_thread(make, two_threads):
    model = make().eval()
    net = adapted(model)
    net.layers()
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    drawn = torch.get_rng_state()
    assert streams(net, cnnviz.LOGITS) == 1
    assert torch.equal(torch.get_rng_state(), drawn)
    for name, value in model.named_buffers():
        assert torch.equal(value, buffers[name])


def test_what_a_replica_does_not_reach_stays_in_one_thread(two_threads):
    model = Closed().train()
    net = adapted(model)
    net.layers()
    mean = model.norm.running_mean.clone()
    with pytest.raises(TapNotReached):
        # The hooks of a replica are not on what its function calls.
        net._twin().borrow(net.ops.asarray(pictures(1)), taps=["conv"])
    model.norm.running_mean.copy_(mean)
    cnnviz.find_exemplars(net, pictures(), ["conv"], batch=4)
    assert torch.equal(model.norm.running_mean, mean)
    assert model.training
    assert model.norm.training


def test_hooks_of_the_user_are_called_in_the_thread_that_asked(two_threads):
    model = plain()
    callers: set[int] = set()
    model[1].register_forward_hook(lambda *_: callers.add(threading.get_ident()))
    cnnviz.find_exemplars(adapted(model), pictures(), ["0"], batch=4)
    assert callers == {threading.get_ident()}


def test_what_is_set_for_a_thread_holds(two_threads):
    net = adapted(plain())
    assert streams(net, "0") == 2
    with torch.autocast("cpu", torch.bfloat16):
        assert streams(net, "0") == 1
    with FlopCounterMode(display=False):
        assert streams(net, "0") == 1
    with torch.device("cpu"):
        assert streams(net, "0") == 1


def test_few_images_begin_no_threads(two_threads, monkeypatch):
    asked: list[int] = []
    own = type(adapted(plain())).streams

    def noted(self: Any, x: Any, *, taps: Any, most: int) -> Any:
        asked.append(most)
        return own(self, x, taps=taps, most=most)

    net = adapted(plain())
    monkeypatch.setattr(type(net), "streams", noted)
    for count in (12, 16):
        cnnviz.find_exemplars(net, pictures(count), ["0"], batch=4)
    assert asked == [1, 4]


def test_large_activations_take_fewer_threads(monkeypatch):
    net = adapted(plain())
    source = cnnviz.sources.as_source(pictures(), None)
    run = passes.Pass(source, ("0",), 4, None)
    # Of a batch: 4 images of 6 x 6 x 4 numbers of four bytes.
    monkeypatch.setattr(passes, "_HELD", 4 * 6 * 6 * 4 * 4)
    assert run._most(net) == 2
    monkeypatch.setattr(passes, "_HELD", 3 * 4 * 6 * 6 * 4 * 4 // 2)
    assert run._most(net) == 3
