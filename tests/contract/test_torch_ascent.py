"""Gradient ascent in PyTorch: its optimizers, every way to write a ReLU, generators, outputs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from nets.torch_small import Small, settle, snapshot
from torch import nn

import cnnviz
from cnnviz import objectives, optimizers
from cnnviz.adapter import INPUT, OUTPUT
from cnnviz.ascent.canvas import GeneratorCanvas
from cnnviz.errors import ChannelOutOfRange, CnnvizError, InvalidOption, UnsupportedModel
from cnnviz.testing import SMALL_PREPROCESSING, small_pictures

QUICK = {"recipe": cnnviz.Recipe(), "steps": 6, "size": 10}

OPTIMIZERS = {
    "sgd": (optimizers.GradientAscent(0.3), lambda x: torch.optim.SGD(x, 0.3)),
    "adam": (optimizers.Adam(0.05), lambda x: torch.optim.Adam(x, 0.05)),
    "adam-decay": (
        optimizers.Adam(0.05, weight_decay=0.1),
        lambda x: torch.optim.Adam(x, 0.05, weight_decay=0.1),
    ),
    "adam-betas": (
        optimizers.Adam(0.05, beta1=0.7, beta2=0.9, epsilon=1e-3),
        lambda x: torch.optim.Adam(x, 0.05, betas=(0.7, 0.9), eps=1e-3),
    ),
    "adamw": (optimizers.AdamW(0.05), lambda x: torch.optim.AdamW(x, 0.05)),
    "adamw-decay": (
        optimizers.AdamW(0.05, weight_decay=0.3),
        lambda x: torch.optim.AdamW(x, 0.05, weight_decay=0.3),
    ),
    "nadam": (optimizers.NAdam(0.05), lambda x: torch.optim.NAdam(x, 0.05)),
    "nadam-decay": (
        optimizers.NAdam(0.05, weight_decay=0.1, momentum_decay=0.01),
        lambda x: torch.optim.NAdam(x, 0.05, weight_decay=0.1, momentum_decay=0.01),
    ),
    "rmsprop": (optimizers.RMSprop(0.05), lambda x: torch.optim.RMSprop(x, 0.05)),
    "rmsprop-decay": (
        optimizers.RMSprop(0.05, decay=0.9, epsilon=1e-4),
        lambda x: torch.optim.RMSprop(x, 0.05, alpha=0.9, eps=1e-4),
    ),
}


@pytest.fixture
def float64_state():
    """NAdam keeps a product in the default dtype, whatever the dtype of what it moves."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("float64_state")
@pytest.mark.parametrize("scheduled", [False, True], ids=["constant", "linear"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_is_that_of_torch(name, scheduled):
    ours, make = OPTIMIZERS[name]
    ops = cnnviz.adapt(settle(Small()), SMALL_PREPROCESSING).ops
    begun = torch.from_numpy(np.random.default_rng(0).normal(0, 1, (2, 3, 4, 3)))

    def height(x):
        return (torch.sin(2 * x) + 0.3 * x).sum()

    theirs = begun.clone().requires_grad_(True)
    optimizer = make([theirs])
    x, state = begun.clone(), ours.first(begun)
    for count in range(1, 21):
        share = 1 - (count - 1) / 20 if scheduled else 1.0
        for group in optimizer.param_groups:
            group["lr"] = group.setdefault("begun", group["lr"]) * share
        optimizer.zero_grad()
        (-height(theirs)).backward()
        optimizer.step()
        slope = torch.autograd.grad(height(at := x.clone().requires_grad_(True)), at)[0]
        rates = np.array(ours.rates(count))
        rates[0] *= share
        x, state = ours.step(ops, x, slope, state, ops.asarray(rates))
    np.testing.assert_allclose(x.numpy(), theirs.detach().numpy(), rtol=1e-12, atol=1e-12)
    assert (x - begun).abs().max() > 0.1


class Acting(nn.Module):
    """A convolution, whatever stands for a ReLU, and a mean."""

    def __init__(self, act, bias):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3)
        self.act = act
        nn.init.constant_(self.conv.bias, bias)
        # Several places depend on each pixel with one sign, so that nothing cancels.
        self.conv.weight.data.abs_()

    def forward(self, x):
        return self.act(self.conv(x)).mean((2, 3))


RELUS = {
    "nn.ReLU": nn.ReLU(),
    "nn.ReLU-inplace": nn.ReLU(inplace=True),
    "F.relu": F.relu,
    "F.relu-inplace": lambda x: F.relu(x, inplace=True),
    "F.relu-positional": lambda x: F.relu(x, True),
    "F.relu_": F.relu_,
    "torch.relu": torch.relu,
    "torch.relu_": torch.relu_,
    "x.relu": lambda x: x.relu(),
    "x.relu_": lambda x: x.relu_(),
    "input=": lambda x: F.relu(input=x),
    "nn.ReLU6": nn.ReLU6(),
    "nn.ReLU6-inplace": nn.ReLU6(inplace=True),
    "F.relu6": F.relu6,
    "F.relu6-inplace": lambda x: F.relu6(x, inplace=True),
    "nn.Hardtanh": nn.Hardtanh(0.0, 6.0),
    "F.hardtanh": lambda x: F.hardtanh(x, 0.0, 6.0),
    "F.hardtanh-inplace": lambda x: F.hardtanh(x, min_val=0.0, max_val=6.0, inplace=True),
    "F.hardtanh_": lambda x: F.hardtanh_(x, 0.0, 6.0),
}
UPPER = [name for name in RELUS if "6" in name or "anh" in name]


def slopes(act, bias, sign=1.0):
    """Give the gradient of a unit, plain and redirected, and that of its convolution."""
    model = Acting(act, bias).double().eval()
    net = cnnviz.adapt(model, SMALL_PREPROCESSING)
    net.layers()
    before, found = snapshot(model), {}
    x = net.ops.asarray(small_pictures(1))
    for rule in ("plain", "redirected"):
        seen = net.gradient(
            lambda acts: sign * acts[OUTPUT][:, 1], x, taps=[OUTPUT, "conv"], relu=rule
        )
        found[rule] = seen.gradients[INPUT].numpy()
        found[rule, "conv"] = seen.activations["conv"].numpy()
        found[rule, OUTPUT] = seen.activations[OUTPUT].numpy()
    assert snapshot(model) == before
    found["conv"] = (
        net.gradient(lambda acts: sign * acts["conv"][..., 1].mean((1, 2)), x, taps=["conv"])
        .gradients[INPUT]
        .numpy()
    )
    for tap in ("conv", OUTPUT):
        np.testing.assert_array_equal(found["plain", tap], found["redirected", tap])
    assert np.abs(found["plain", "conv"]).min() > 1, "what is seen is before the ReLU"
    return found["plain"], found["redirected"], found["conv"]


@pytest.mark.parametrize("name", RELUS)
def test_every_relu_is_redirected(name):
    plain, other, conv = slopes(RELUS[name], -50.0)
    assert not plain.any()
    np.testing.assert_allclose(other, conv, rtol=1e-12)
    # What would sink further is left alone.
    assert not slopes(RELUS[name], -50.0, -1.0)[1].any()
    plain, other, conv = slopes(RELUS[name], 50.0, -1.0)
    if name in UPPER:
        assert not plain.any()
        np.testing.assert_allclose(other, conv, rtol=1e-12)
        assert not slopes(RELUS[name], 50.0)[1].any()
    else:
        np.testing.assert_allclose(plain, conv, rtol=1e-12)
        np.testing.assert_array_equal(other, plain)


@pytest.mark.parametrize(
    "act", [nn.Hardtanh(), nn.Threshold(0.1, 0.0), nn.Hardsigmoid()], ids=lambda act: repr(act)
)
def test_what_is_no_relu_is_left_alone(act):
    plain, other, _ = slopes(act, -50.0)
    assert not plain.any()
    assert not other.any()


@pytest.mark.parametrize("name", ["nn.ReLU", "nn.ReLU-inplace", "x.relu_"])
def test_a_batch_is_redirected_picture_by_picture(name):
    model = Acting(RELUS[name], 0.0).double().eval()
    net = cnnviz.adapt(model, SMALL_PREPROCESSING)
    pictures = np.concatenate([np.zeros((1, 10, 10, 3)), np.ones((1, 10, 10, 3))])
    both = net.ops.asarray(pictures)
    score = lambda acts: acts[OUTPUT][:, 1]  # noqa: E731
    plain, other = (
        net.gradient(score, both, taps=[OUTPUT], relu=rule).gradients[INPUT].numpy()
        for rule in ("plain", "redirected")
    )
    assert not plain[0].any()
    assert other[0].any()
    assert plain[1].any()
    np.testing.assert_array_equal(other[1], plain[1])


class Painter(nn.Module):
    """A generator with what training would change: dropout and running statistics."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.grow = nn.Linear(6, 8 * 5 * 5)
        self.norm = nn.BatchNorm2d(8)
        self.drop = nn.Dropout(0.5)
        self.paint = nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, code):
        x = self.drop(self.norm(self.grow(code).reshape(-1, 8, 5, 5)))
        return torch.tanh(self.paint(F.interpolate(x, scale_factor=2)))


def test_a_generator_paints_and_is_left_as_it_was():
    net, painter = cnnviz.adapt(settle(Small()), SMALL_PREPROCESSING), Painter().double().train()
    before = snapshot(painter)
    canvas = GeneratorCanvas(painter, (6,), low=-1.0, high=1.0)
    made = cnnviz.ascend(net, ["fc:1", "conv2:2"], canvas=canvas, **QUICK)
    again = cnnviz.ascend(net, ["fc:1", "conv2:2"], canvas=canvas, **QUICK)
    assert (made.trace[-1] > made.trace[0]).all()
    assert made.images.shape == (2, 10, 10, 3)
    np.testing.assert_array_equal(again.images, made.images)
    assert snapshot(painter) == before
    # As the generator itself paints in evaluation.
    bound, code = canvas.bound(net), np.random.default_rng(0).normal(0, 1, (2, 6))
    picture = bound.to_picture(net.ops, net.ops.asarray(code), (10, 10, 3))
    with torch.no_grad():
        wanted = painter.eval()(torch.from_numpy(code)).numpy().transpose(0, 2, 3, 1) / 2 + 0.5
    np.testing.assert_allclose(net.ops.to_numpy(picture), wanted, rtol=1e-12)
    with pytest.raises(UnsupportedModel, match=r"torch\.nn\.Module, not a builtin"):
        cnnviz.ascend(net, "fc:1", canvas=GeneratorCanvas(repr, (6,)), **QUICK)


class Faces(nn.Module):
    """What it returns is a dictionary or a tuple."""

    def __init__(self, kind):
        super().__init__()
        torch.manual_seed(2)
        self.kind, self.conv = kind, nn.Conv2d(3, 6, 3)
        self.smile, self.age = nn.Linear(6, 2), nn.Linear(6, 3)

    def forward(self, x):
        x = torch.tanh(self.conv(x)).mean((2, 3))
        smile, age = torch.sigmoid(self.smile(x)), self.age(x)
        if self.kind == "dict":
            return {"smile": smile, "age": age}
        return (smile, age) if self.kind == "tuple" else {"both": [smile, {"age": age}]}


@pytest.mark.parametrize(
    ("kind", "smile", "age"),
    [("dict", "smile", "age"), ("tuple", 0, 1), ("nested", "both][0", "both][1][age")],
)
def test_any_output_can_be_asked_for(kind, smile, age):
    net = cnnviz.adapt(Faces(kind).double().eval(), SMALL_PREPROCESSING)
    asked = [objectives.attribute(smile, 1), objectives.attribute(age, 2)]
    made = cnnviz.ascend(net, asked, **QUICK)
    assert (made.trace[-1] > made.trace[0]).all()
    with torch.no_grad():
        x = net.model.conv(net._normalised(net.ops.asarray(made.images)))
        mean = torch.tanh(x).mean((2, 3))
        wanted = (torch.sigmoid(net.model.smile(mean))[0, 1], net.model.age(mean)[1, 2])
    np.testing.assert_allclose(made.clean, wanted, rtol=1e-9)
    with pytest.raises(ChannelOutOfRange, match=r"0\.\.2"):
        cnnviz.ascend(net, objectives.attribute(age, 3), **QUICK)
    with pytest.raises(CnnvizError) as caught:
        cnnviz.ascend(net, objectives.attribute("hair", 0), **QUICK)
    assert "\n" not in str(caught.value)


def test_within_inference_mode_and_after_it():
    net = cnnviz.adapt(settle(Small()), SMALL_PREPROCESSING)
    options = {"size": 10, "steps": 4, "reveal": 0.5, "seed": 2}
    wanted = cnnviz.ascend(net, "class:1", **options)
    with torch.inference_mode():
        again = cnnviz.adapt(net.model, SMALL_PREPROCESSING)
        within = cnnviz.ascend(again, "class:1", **options)
        heat = cnnviz.grad_cam(again, small_pictures(), 1, "conv2").raw
    after = cnnviz.ascend(again, "class:1", **options)
    np.testing.assert_array_equal(within.images, wanted.images)
    np.testing.assert_array_equal(after.images, wanted.images)
    np.testing.assert_array_equal(heat, cnnviz.grad_cam(net, small_pictures(), 1, "conv2").raw)
    assert not net.forward(net.ops.asarray(small_pictures()), taps=["fc"])["fc"].requires_grad


def test_float16_is_refused_in_words():
    net = cnnviz.adapt(Small().half(), SMALL_PREPROCESSING)
    with pytest.raises(InvalidOption, match="bfloat16"):
        cnnviz.ascend(net, "class:1", size=10, steps=1)
