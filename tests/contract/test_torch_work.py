"""What can be counted in PyTorch: operations, what the graph keeps, who else may run."""

from __future__ import annotations

import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
import torchvision
from nets.torch_small import Small, settle, snapshot
from torch.utils.flop_counter import FlopCounterMode

import cnnviz
from cnnviz.adapter import INPUT, LOGITS
from cnnviz.testing import SMALL_PREPROCESSING, small_pictures


@pytest.fixture(scope="module")
def resnet():
    torch.manual_seed(0)
    net = cnnviz.adapt(torchvision.models.resnet50(weights=None).eval())
    cnnviz.layers(net)
    return net


def flops(run):
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


# Forward alone, and what the backward down to the layer adds, in units of the forward.
@pytest.mark.parametrize(
    ("layer", "most"), [("layer4", 1.02), ("layer3", 1.02 * 9.8 / 8.18), ("layer1", 1.02 * 1.81)]
)
def test_grad_cam_is_one_forward_and_a_backward_that_ends_at_the_layer(resnet, layer, most):
    picture = np.random.default_rng(0).uniform(0, 1, (1, 224, 224, 3)).astype(np.float32)
    x = resnet.ops.asarray(picture).permute(0, 3, 1, 2)
    with torch.no_grad():
        forward = flops(lambda: resnet.model(x))
    assert forward == pytest.approx(8.18e9, rel=0.01)
    found = flops(lambda: cnnviz.grad_cam(resnet, picture, layer=layer))
    assert forward <= found <= most * forward


def saved_bytes(run):
    kept = 0

    def pack(tensor):
        nonlocal kept
        kept += tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        run()
    return kept


def test_nothing_is_recorded_before_the_layer(resnet):
    picture = np.random.default_rng(0).uniform(0, 1, (1, 224, 224, 3)).astype(np.float32)
    late = saved_bytes(lambda: cnnviz.grad_cam(resnet, picture, layer="layer4"))
    early = saved_bytes(lambda: cnnviz.grad_cam(resnet, picture, layer="layer1"))
    # At layer4 only the dense layer's own weights are needed for the way back.
    weights = 2048 * 1000 * 4
    assert late - weights < 1e6
    assert early > 2e7


def test_parameters_need_no_gradient():
    """What only the gradient of a weight would need, as the input of a product, is not kept."""

    def kept(model):
        net = cnnviz.adapt(model, SMALL_PREPROCESSING)
        net.layers()
        x = net.ops.asarray(small_pictures())
        return saved_bytes(lambda: net.gradient(lambda acts: acts["fc"].sum(1), x, taps=["fc"]))

    learning, frozen = settle(Small()), settle(Small()).requires_grad_(False)
    assert kept(learning) == kept(frozen) > 0
    assert all(p.requires_grad for p in learning.parameters())


def test_two_threads_do_not_meet():
    model = settle(Small()).train()
    before = snapshot(model)
    net = cnnviz.adapt(model, SMALL_PREPROCESSING)
    net.layers()
    pictures = [small_pictures(2, seed=s) for s in range(4)]

    def evaluate(x):
        found = net.gradient(
            lambda acts: acts[LOGITS][:, 0], net.ops.asarray(x), taps=[LOGITS], wrt=[INPUT, "conv2"]
        )
        return [net.ops.to_numpy(found.gradients[tap]) for tap in (INPUT, "conv2")]

    alone = [evaluate(x) for x in pictures]
    wrong = []

    def work(index):
        for _ in range(25):
            for a, b in zip(evaluate(pictures[index]), alone[index], strict=True):
                if not np.array_equal(a, b):
                    wrong.append(index)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert snapshot(model) == before


def test_interrupt_leaves_the_model_untouched():
    model = settle(Small()).train()
    before = snapshot(model)
    net = cnnviz.adapt(model, SMALL_PREPROCESSING)

    def interrupted(acts):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        net.gradient(interrupted, net.ops.asarray(small_pictures()), taps=["fc"])
    assert snapshot(model) == before


def test_a_users_own_hook_stays_and_runs():
    model = settle(Small())
    seen = []
    model.conv2.register_forward_hook(lambda m, args, out: seen.append(out.shape))
    net = cnnviz.adapt(model, SMALL_PREPROCESSING)
    net.layers()
    seen.clear()
    net.forward(net.ops.asarray(small_pictures()), taps=["fc"])
    assert len(seen) == 1
    assert len(model.conv2._forward_hooks) == 1


def test_in_place_on_the_gradient_layer_is_exact():
    """A tap for gradients right before an in-place ReLU: the value and slope before it."""
    net = cnnviz.adapt(settle(Small()), SMALL_PREPROCESSING)
    plain = Small()
    plain.relu = torch.nn.ReLU()
    reference = cnnviz.adapt(settle(plain), SMALL_PREPROCESSING)
    results = []
    for one in (net, reference):
        found = one.gradient(
            lambda acts: acts["fc"][:, 2],
            one.ops.asarray(small_pictures()),
            taps=["fc", "bn1", "conv2"],
            wrt=["bn1", "conv2"],
        )
        results.append([*found.activations.values(), *found.gradients.values()])
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)


def test_compiled_wrapper_is_looked_through():
    model = settle(Small())
    wrapped = torch.compile(model)
    net = cnnviz.adapt(wrapped, SMALL_PREPROCESSING)
    assert next(layer.name for layer in cnnviz.layers(net)) == "conv1"


def test_half_precision_goes_through():
    model = settle(Small()).to(torch.bfloat16)
    net = cnnviz.adapt(model, SMALL_PREPROCESSING)
    found = cnnviz.grad_cam(net, small_pictures())
    assert found.raw.dtype == np.float32
    exact = cnnviz.grad_cam(cnnviz.adapt(settle(Small()), SMALL_PREPROCESSING), small_pictures())
    np.testing.assert_allclose(found.raw, exact.raw, atol=0.05 * np.abs(exact.raw).max())


def test_several_classes_are_one_forward(resnet):
    picture = np.random.default_rng(0).uniform(0, 1, (1, 224, 224, 3)).astype(np.float32)
    one = flops(lambda: cnnviz.grad_cam(resnet, picture, [(3,)], "layer4"))
    many = flops(lambda: cnnviz.grad_cam(resnet, picture, [tuple(range(10))], "layer4"))
    assert many <= 1.02 * one


def test_ablating_every_channel_costs_less_than_five_forwards(resnet):
    picture = np.random.default_rng(0).uniform(0, 1, (1, 224, 224, 3)).astype(np.float32)
    found = flops(lambda: cnnviz.attribute(resnet, picture, "ablation_cam", 3, "layer4"))
    assert found < 5 * 8.18e9


def test_score_cam_holds_no_more_than_its_chunk(resnet, monkeypatch):
    """However many masks there are, no more than a chunk of them is there at once."""
    seen = []
    forward = type(resnet).forward

    def watched(self, x, **options):
        seen.append(len(x))
        return forward(self, x, **options)

    monkeypatch.setattr(type(resnet), "forward", watched)
    picture = np.random.default_rng(0).uniform(0, 1, (1, 64, 64, 3)).astype(np.float32)
    cnnviz.attribute(resnet, picture, "score_cam", 3, "layer4", size=64, batch=16, channels=64)
    assert max(seen) <= 16
    assert sum(seen) >= 64


HEAVY = """
import sys
import numpy as np
import torch
import cnnviz

def heavy():
    return {name for name in ("torch._dynamo", "torch._inductor", "sympy") if name in sys.modules}

before = heavy()
model = torch.nn.Sequential(
    torch.nn.ZeroPad2d(1), torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Conv2d(4, 4, 3)
)
net = cnnviz.adapt(model.eval(), "identity", input_shape=(16, 16, 3))
pictures = np.random.default_rng(0).random((20, 16, 16, 3)).astype(np.float32)
assert len(net.layers()) == 4
cnnviz.grad_cam(net, pictures[:1], layer="1", target=0)
cnnviz.ascend(net, "1:0", steps=2, size=16)
cnnviz.find_exemplars(net, pictures, "1", batch=1)
print(sorted(heavy() - before))
"""


def test_the_compiler_of_torch_is_not_imported():
    """It takes seconds, and nothing here is compiled."""
    run = subprocess.run([sys.executable, "-c", HEAVY], capture_output=True, text=True, check=False)
    assert run.stdout.strip() == "[]", run.stderr
