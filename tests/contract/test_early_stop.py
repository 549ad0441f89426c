"""The forward ends at the deepest tap, and nothing before the first gradient is recorded."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

from cnnviz.adapter import INPUT, LOGITS, OUTPUT
from cnnviz.testing import SMALL_PREPROCESSING, small_pictures

ORDER = ("conv1", "bn1", "relu:0", "pool", "conv2", "relu:1", "gap", "fc")


@pytest.fixture
def counted(backend):
    """Give an adapter, and a list that fills with the layers that run."""
    return _counted_torch() if backend == "torch" else _counted_keras()


def _counted_torch():
    nets = importlib.import_module("nets.torch_small")
    model = nets.settle(nets.Small())
    ran = []
    for name, module in model.named_children():
        module.register_forward_pre_hook(lambda m, args, name=name: ran.append(name))
    adapter = importlib.import_module("cnnviz_torch").TorchAdapter
    return adapter(model, preprocessing=SMALL_PREPROCESSING), ran


def _counted_keras():
    nets = importlib.import_module("nets.keras_small")
    model = nets.settle(nets.functional())
    ran = []
    for layer in model.layers:
        original = layer.call

        def call(*args, original=original, name=layer.name, **kwargs):
            ran.append(name)
            return original(*args, **kwargs)

        object.__setattr__(layer, "call", call)
    adapter = importlib.import_module("cnnviz_keras").KerasAdapter
    return adapter(model, preprocessing=SMALL_PREPROCESSING), ran


def plain(names):
    return [name.partition(":")[0] for name in names]


@pytest.mark.parametrize("tap", ORDER)
def test_forward_ends_at_the_tap(counted, tap):
    net, ran = counted
    net.layers()
    ran.clear()
    net.forward(net.ops.asarray(small_pictures()), taps=[tap])
    assert ran == plain(ORDER[: ORDER.index(tap) + 1])


@pytest.mark.parametrize(
    ("taps", "deepest"), [(["pool", "conv1"], "pool"), (["relu:1", "relu:0"], "relu:1")]
)
def test_forward_ends_at_the_deepest_tap(counted, taps, deepest):
    net, ran = counted
    net.layers()
    ran.clear()
    net.forward(net.ops.asarray(small_pictures()), taps=taps)
    assert ran == plain(ORDER[: ORDER.index(deepest) + 1])


@pytest.mark.parametrize("tap", [OUTPUT, LOGITS])
def test_output_runs_all(counted, tap):
    net, ran = counted
    net.layers()
    ran.clear()
    net.forward(net.ops.asarray(small_pictures()), taps=[tap])
    assert ran == plain(ORDER)


def test_gradient_ends_at_the_score(counted):
    net, ran = counted
    net.layers()
    ran.clear()

    def score(acts):
        return net.ops.sum(acts["pool"], axis=(1, 2, 3))

    net.gradient(score, net.ops.asarray(small_pictures()), taps=["pool"])
    # JAX looks at the shapes before it differentiates, so its trace has the chain twice.
    chain = plain(ORDER[:4])
    assert ran in (chain, chain * 2)


def test_input_alone_runs_nothing(counted):
    net, ran = counted
    net.layers()
    ran.clear()
    x = small_pictures()
    found = net.forward(net.ops.asarray(x), taps=[INPUT])
    np.testing.assert_array_equal(net.ops.to_numpy(found[INPUT]), x)
    assert ran == []
