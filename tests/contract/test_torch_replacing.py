"""Rules, activations and weights in PyTorch: what the common checks cannot see."""

from __future__ import annotations

import functools
import threading

import numpy as np
import pytest
import torch
import torchvision
from nets.torch_small import Small, settle, snapshot
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

import cnnviz
from cnnviz import structures
from cnnviz.adapter import INPUT, LOGITS
from cnnviz.errors import InvalidImage, InvalidOption, TapNotReached
from cnnviz.testing import SMALL_PREPROCESSING, small_pictures
from contract.test_torch_interrupts import interrupted

SIZE = 32


def opened(model, size=SIZE):
    """Open a network in float64, with statistics and weights that are not all zeros or ones."""
    for part in model.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.running_mean is not None:
            part.running_mean.normal_(0, 0.3)
            part.running_var.uniform_(0.5, 1.5)
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, 0, 0.1)
    return cnnviz.adapt(model.double().eval(), "identity", input_shape=(size, size, 3))


def picture(net, count=1, size=SIZE):
    rng = np.random.default_rng(0)
    return net.ops.asarray(rng.uniform(0, 1, (count, size, size, 3)))


def replaced(net, x, at, new, taps):
    """Run the whole model for each activation, with a hook of the test's own."""
    place = net._place_of(at, x)
    module = net.model.get_submodule(place.address)
    found = []
    for one in new.split(len(new) // 3):
        calls = []
        native = one if place.axis is None else one.movedim(-1, place.axis)

        def hook(module, args, output, calls=calls, native=native):
            calls.append(None)
            if len(calls) == place.call + 1:
                return structures.with_part(output, place.part, native.contiguous())
            return None

        handle = module.register_forward_hook(hook)
        found.append(net.forward(x, taps=taps))
        handle.remove()
    return {tap: torch.cat([one[tap] for one in found]) for tap in taps}


def assert_close(actual, wanted, what=""):
    assert actual.shape == wanted.shape, what
    worst = float((actual - wanted).abs().max() / wanted.abs().max())
    assert worst < 1e-12, f"{what}: off by {worst}"


def check_resumes(net, at, taps=(LOGITS,), size=SIZE):
    x = picture(net, size=size)
    taps = [*taps, at]
    before = snapshot(net.model)
    whole = net.forward(x, taps=taps)
    go_on = net.resume(x, at=at, taps=taps)
    for _ in range(2):
        for tap, found in go_on(whole[at]).items():
            assert_close(found, whole[tap], f"{at}, its own, at {tap}")
    new = torch.cat([whole[at] * (1 + 0.3 * torch.randn_like(whole[at])) for _ in range(3)])
    given = new.clone()
    found, wanted = go_on(new), replaced(net, x, at, new, taps)
    for tap in taps:
        assert_close(found[tap], wanted[tap], f"{at}, another, at {tap}")
    assert torch.equal(new, given), "what was given was changed"
    own = torch.cat([whole[LOGITS]] * 3)
    assert (wanted[LOGITS] - own).abs().max() > 1e-9 * own.abs().max(), "this proves nothing"
    assert snapshot(net.model) == before


@pytest.mark.parametrize(
    ("name", "size", "layers"),
    [
        ("resnet18", 64, ["conv1", "bn1", "relu", "layer2.1.bn1", "layer2.1.relu:0", "layer3"]),
        ("densenet121", 32, ["features.denseblock2.denselayer3.conv2", "features.transition2"]),
        ("googlenet", 64, ["maxpool2", "inception4b.branch3.1.bn", "inception5a"]),
        ("mobilenet_v3_small", 32, ["features.4.block.2.fc1", "features.5.block.1.2"]),
        ("shufflenet_v2_x0_5", 32, ["stage2.0.branch2.3", "stage3.1"]),
    ],
)
def test_resuming_is_replacing(name, size, layers):
    options = {"init_weights": False, "transform_input": True} if name == "googlenet" else {}
    net = opened(getattr(torchvision.models, name)(weights=None, **options), size)
    for at in layers:
        check_resumes(net, at, size=size)


def test_resuming_a_transformer():
    vit = torchvision.models.VisionTransformer(32, 8, 3, 2, 24, 48, num_classes=7)
    net = opened(vit)
    for at in ("conv_proj", "encoder.layers.encoder_layer_1.ln_1", "encoder.layers"):
        check_resumes(net, at)
    at = "encoder.layers.encoder_layer_1.self_attention[0]"
    if at in {layer.name for layer in net.layers()}:
        check_resumes(net, at)


class Around(nn.Module):
    """Ways around that lead through tensors which modules change, hand on or share."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.same = nn.Identity()
        self.act = nn.ReLU(inplace=True)
        self.block1 = Preactivated(self.act)
        self.block2 = Preactivated(self.act)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.fork = Fork()
        self.fc = nn.Linear(4, 5)

    def forward(self, x):
        x = self.conv1(x)
        y = self.same(x)
        # Seen through x as well.
        y += 0.1
        x = self.act(x) + y
        x = self.block2(self.block1(self.block1(x)))
        kept = {"x": x}
        left, right = self.fork(kept)
        right *= 2
        z = self.act(self.conv2(left + right))
        z = z + kept["more"] + x
        return self.fc(z.mean((2, 3)))


class Preactivated(nn.Module):
    """The in-place ReLU changes what goes around, too."""

    def __init__(self, act):
        super().__init__()
        self.act = act
        self.bn = nn.BatchNorm2d(4)
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x):
        return x + self.conv(self.bn(self.act(x)))


class Fork(nn.Module):
    """Gives two tensors, and puts another into what it was given."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 1)

    def forward(self, kept):
        kept["more"] = self.conv(kept["x"])
        return kept["more"] + 1, kept["x"] - 1


def test_ways_around_a_layer_are_the_pictures_own():
    net = opened(Around())
    calls = [layer.name for layer in net.layers()]
    assert {"act:0", "act:4", "block1.conv:1", "fork[0]", "fork[1]"} <= set(calls)
    # What goes on from "same" is no longer one tensor with its input, as it is by itself.
    for at in calls[: calls.index("act:4")]:
        if at != "same":
            # Calls of the same ReLU before the layer are counted, though they are not made.
            check_resumes(net, at, taps=[LOGITS, "fc", "act:4"])
    check_resumes(net, "act:4")


@pytest.mark.parametrize("way", ["bound", "partial", "list", "hook", "parametrised", "closure"])
def test_modules_that_lead_to_one_another_in_other_ways(way):
    model = Around()
    if way == "bound":
        model.conv2.forward = model.conv2._conv_forward_all = functools.partial(
            lambda conv, x: F.conv2d(x, conv.weight, conv.bias, padding=1), model.conv2
        )
        model.block2.forward = model.block2.forward
    elif way == "partial":
        model.block2.forward = functools.partial(Preactivated.forward, model.block2)
    elif way == "list":
        model.all = [model.block1, model.block2]
        model.block2.run = lambda x: x
    elif way == "hook":
        model.block1.register_forward_hook(lambda module, args, output: output * 2)
    elif way == "parametrised":
        nn.utils.parametrizations.weight_norm(model.block1.conv)
    else:
        block = model.block2
        # Nothing can be spared here, but the result is the same.
        model.block2.forward = lambda x: Preactivated.forward(block, x)
    net = opened(model)
    for at in ("block1:1", "block2.conv", "conv2"):
        check_resumes(net, at)


def test_what_batches_do_not_allow_is_run_again_or_refused():
    class Squared(nn.Module):
        def __init__(self, hard):
            super().__init__()
            self.conv, self.head, self.hard = nn.Conv2d(3, 4, 3), nn.Linear(4, 5), hard

        def forward(self, x):
            count = len(x)
            x = self.conv(x)
            if self.hard and len(x) > 1:
                raise ValueError("one at a time")
            return self.head(x.view(count, 4, -1).mean(2))

    check_resumes(opened(Squared(False)), "conv")
    net = opened(Squared(True))
    x = picture(net)
    go_on, own = net.resume(x, at="conv", taps=[LOGITS]), net.forward(x, taps=["conv"])["conv"]
    with pytest.raises(InvalidImage, match="one at a time"):
        go_on(own.repeat(2, 1, 1, 1))
    assert_close(go_on(own)[LOGITS], net.forward(x, taps=[LOGITS])[LOGITS])


def test_what_cannot_be_resumed_is_said_in_words():
    net = opened(Around())
    x = picture(net)
    own = net.forward(x, taps=["conv2"])["conv2"]
    go_on = net.resume(x, at="conv2", taps=[LOGITS])
    for wrong in (own[:, 1:], own[:0]):
        with pytest.raises(InvalidImage, match=r"'conv2' of Around has activations \(N, 32, 32, 4"):
            go_on(wrong)
    with pytest.raises(TapNotReached, match="conv1"):
        net.resume(x, at="conv2", taps=["conv1"])(own)
    with pytest.raises(TapNotReached, match="before"):
        net.resume(x, at="conv2", taps=[INPUT])
    with pytest.raises(InvalidImage):
        net.resume(picture(net)[..., :2], at="conv2", taps=[LOGITS])
    assert_close(net.resume(x, at=INPUT, taps=[LOGITS])(x)[LOGITS], go_on(own)[LOGITS])


def test_an_interrupt_while_a_run_goes_on_leaves_the_model_as_it_was():
    net = cnnviz.adapt(settle(Small(softmax=True)).train(), SMALL_PREPROCESSING)
    net.settle(12, 10)
    x = net.ops.asarray(small_pictures(1))
    own = net.forward(x, taps=["conv2"])["conv2"]
    before = snapshot(net.model)

    def run():
        net.resume(x, at="conv2", taps=["relu:1", LOGITS])(torch.cat([own, own]))

    run()
    line, came = 0, True
    while came:
        line += 3
        came = interrupted(line, run)
        assert snapshot(net.model) == before, f"interrupted at line {line}"
        assert torch.overrides._get_current_function_mode() is None
    assert line > 300


def test_two_threads_go_on_from_one_layer():
    net = opened(Around())
    x = picture(net)
    own = net.forward(x, taps=["block2.bn"])["block2.bn"]
    go_on = net.resume(x, at="block2.bn", taps=[LOGITS])
    given = [own * k for k in (0.5, 1, 2)]
    alone = [go_on(a)[LOGITS] for a in given]
    wrong = []

    def work(i):
        for _ in range(15):
            if not torch.equal(go_on(given[i])[LOGITS], alone[i]):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_what_came_before_is_not_computed_again():
    net = cnnviz.adapt(torchvision.models.resnet50(weights=None).eval())
    net.layers()
    x = picture(net, size=224).float()
    with FlopCounterMode(display=False) as first:
        go_on = net.resume(x, at="layer4", taps=[LOGITS])
    assert first.get_total_flops() < 8.18e9 * 1.01
    own = net.forward(x, taps=["layer4"])["layer4"]
    with FlopCounterMode(display=False) as later:
        go_on(own.repeat(64, 1, 1, 1))
    assert 0 < later.get_total_flops() < 64 * 0.02e9
    # Within a block, what comes before in the same block is spared, too: one convolution is left.
    inner = net.resume(x, at="layer4.2.bn2", taps=["layer4"])
    own = net.forward(x, taps=["layer4.2.bn2"])["layer4.2.bn2"]
    with FlopCounterMode(display=False) as later:
        inner(own.repeat(4, 1, 1, 1))
    assert later.get_total_flops() == 4 * 2 * 512 * 2048 * 49


RULES = {
    "guided": lambda x, slope, high: slope * ((x > 0) & (x < high) & (slope > 0)),
    "deconvnet": lambda x, slope, high: slope.clamp(min=0),
}


@pytest.mark.parametrize("rule", ["guided", "deconvnet"])
@pytest.mark.parametrize("in_place", [False, True])
def test_rules_hold_for_every_spelling_of_relu(rule, in_place):
    def spelled(x):
        if in_place:
            x = F.relu_(x * 1.5 - 0.1)
            x = F.relu6(x * 9 - 1, inplace=True)
            x = F.hardtanh_(x - 0.5, 0.0, 4.0)
            return torch.relu_(x - 0.3)
        x = F.relu(x * 1.5 - 0.1)
        x = F.relu6(x * 9 - 1)
        x = F.hardtanh(x - 0.5, 0.0, 4.0)
        return (x - 0.3).relu()

    class Spelled(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, x):
            return spelled(self.conv(x)).mean((2, 3))

    net = opened(Spelled(), 6)
    x = picture(net, 2, 6)
    weights = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
    found = net.gradient(
        lambda acts: (acts[LOGITS] * weights).sum(1), x, taps=[LOGITS], wrt=["conv"], relu=rule
    )
    a = net.forward(x, taps=["conv"])["conv"]
    seen, high = [], [float("inf"), 6.0, 4.0, float("inf")]
    for factor, shift, top in zip((1.5, 9, 1, 1), (0.1, 1, 0.5, 0.3), high, strict=True):
        a = a * factor - shift
        seen.append(a)
        a = a.clamp(0, top)
    slope = (weights / 36).expand_as(a)
    for x, top, factor in zip(seen[::-1], high[::-1], (1, 1, 9, 1.5), strict=True):
        slope = RULES[rule](x, slope, top) * factor
    assert slope.abs().max() > 0
    assert_close(found.gradients["conv"], slope)


def test_curvatures_of_layers_that_depend_on_one_another():
    """Of attention, pools and norms, against the Hessian itself."""

    class Bent(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 2, 2)
            self.bn = nn.BatchNorm2d(8)
            self.pool = nn.MaxPool2d(2)
            self.heads = nn.MultiheadAttention(8, 2, batch_first=True)
            self.norm = nn.LayerNorm(8)
            self.fc = nn.Linear(8, 3)

        def early(self, x):
            return F.gelu(self.bn(x))

        def late(self, x):
            x = x.flatten(2).transpose(1, 2)
            x = self.norm(x + self.heads(x, x, x, need_weights=False)[0])
            return self.fc(x.mean(1))

        def forward(self, x):
            return self.late(self.pool(F.relu(self.early(self.conv(x)), inplace=True)))

    net = opened(Bent(), 8)
    x = picture(net, 1, 8)
    wrt = ["conv", "pool", INPUT]
    found = net.gradient(
        lambda acts: acts[LOGITS].tanh()[:, 1], x, taps=[LOGITS], wrt=wrt, curvature=True
    )
    acts = net.forward(x, taps=wrt)
    model = net.model

    def after(tap):
        if tap == "pool":
            return lambda a: model.late(a.movedim(-1, 1)).tanh()[:, 1].sum()
        if tap == "conv":
            return lambda a: (
                model.late(model.pool(F.relu(model.early(a.movedim(-1, 1))))).tanh()[:, 1].sum()
            )
        return lambda a: model(a.movedim(-1, 1)).tanh()[:, 1].sum()

    from torch.nn.attention import SDPBackend, sdpa_kernel

    for tap in wrt:
        a = acts[tap].detach()
        with sdpa_kernel(SDPBackend.MATH):
            _, wanted = torch.autograd.functional.hvp(after(tap), a, a)
        assert_close(found.curvatures[tap], wanted, tap)
    assert not found.curvatures["conv"].requires_grad
    assert torch.backends.cuda.flash_sdp_enabled()
    for options in ({"jacobian": True}, {"relu": "guided"}):
        with pytest.raises(InvalidOption):
            net.gradient(
                lambda acts: acts[LOGITS], x, taps=[LOGITS], wrt=wrt, curvature=True, **options
            )


def test_a_jacobian_is_one_forward():
    net = opened(torchvision.models.resnet18(weights=None))
    x = picture(net, 2)
    with torch.no_grad(), FlopCounterMode(display=False) as forward:
        net.forward(x, taps=[LOGITS])
    with FlopCounterMode(display=False) as counter:
        found = net.gradient(
            lambda acts: acts[LOGITS][:, :5], x, taps=[LOGITS], wrt=["layer4"], jacobian=True
        )
    assert found.gradients["layer4"].shape == (5, 2, 1, 1, 512)
    assert counter.get_total_flops() < 1.1 * forward.get_total_flops()
    assert not any(p.grad is not None for p in net.model.parameters())


class Many(nn.Module):
    """Every kind of layer with weights that torch lays in its own way."""

    def __init__(self):
        super().__init__()
        self.grouped = nn.Conv2d(3, 6, (3, 2), groups=3)
        self.up = nn.ConvTranspose2d(6, 8, (2, 3), stride=2, groups=2)
        self.bare = nn.BatchNorm2d(8, affine=False)
        self.batch = nn.BatchNorm2d(8, track_running_stats=False)
        self.frozen = torchvision.ops.FrozenBatchNorm2d(8)
        self.unbiased = nn.Conv2d(8, 4, 1, bias=False)
        self.fc = nn.Linear(4, 5)
        self.again = nn.Linear(5, 5)
        self.again.weight = nn.Parameter(torch.randn(5, 5))
        self.tied = nn.Linear(5, 5, bias=False)
        self.tied.weight = self.again.weight

    def forward(self, x):
        x = self.frozen(self.batch(self.bare(self.up(self.grouped(x)))))
        x = self.again(self.again(self.fc(self.unbiased(x).mean((2, 3)))))
        return self.tied(x)


def many():
    model = Many()
    model.frozen.weight.normal_()
    model.frozen.bias.normal_()
    model.frozen.running_mean.normal_()
    model.frozen.running_var.uniform_(0.5, 2)
    return model


def test_offsets_are_what_a_layer_gives_for_zeros():
    net = opened(many())
    found = net.offsets()
    assert list(found) == ["grouped", "up", "bare", "frozen", "fc", "again:0", "again:1"]
    for name, value in found.items():
        layer = net.model.get_submodule(net.layer(name).address)
        zeros = torch.zeros(1, 4) if name == "fc" else torch.zeros(1, 5)
        if name[0] != "f" and name[:5] != "again":
            zeros = torch.zeros(1, {"grouped": 3, "up": 6}.get(name, 8), 9, 9)
        elif name == "frozen":
            zeros = torch.zeros(1, 8, 9, 9)
        given = layer(zeros.double())
        given = given if given.ndim == 2 else given[:, :, 4, 4]
        np.testing.assert_allclose(value, given[0].detach().numpy(), rtol=1e-13, atol=1e-15)
        assert value.dtype == np.float64
    half = cnnviz.adapt(many().bfloat16().eval(), "identity", input_shape=(SIZE, SIZE, 3))
    assert all(value.dtype == np.float32 for value in half.offsets().values())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_weights_are_written_back_bit_by_bit(dtype):
    model = many().to(dtype).train()
    model.up.requires_grad_(False)
    model.fc.weight.grad = torch.ones_like(model.fc.weight)
    model.grouped.to(memory_format=torch.channels_last)
    net = cnnviz.adapt(model, "identity", input_shape=(SIZE, SIZE, 3))

    def state():
        return (
            {k: v.double().numpy().tobytes() for k, v in model.state_dict().items()},
            {
                k: (p.requires_grad, p.grad is None, p.data_ptr(), p.stride())
                for k, p in model.named_parameters()
            },
            [m.training for m in model.modules()],
        )

    first, before = state(), net.weights()
    others = {k: (v * 1.5).astype(np.float64) for k, v in before.items()}
    assert "tied.weight" not in others
    net.assign(others)
    assert model.tied.weight is model.again.weight
    torch.testing.assert_close(
        model.tied.weight.double(), torch.from_numpy(others["again.weight"].T), rtol=1e-2, atol=0
    )
    assert state()[1:] == first[1:]
    net.assign(before)
    assert state() == first
    if dtype != torch.float64:
        large = np.full(5, 1e39 if dtype == torch.float32 else 3.4e38)
        with pytest.raises(InvalidOption, match="too large"):
            net.assign({**others, "fc.bias": large})
        assert state() == first


def test_weights_made_in_inference_mode_can_be_written():
    with torch.inference_mode():
        model = many().eval()
    net = cnnviz.adapt(model, "identity", input_shape=(SIZE, SIZE, 3))
    net.assign({"fc.bias": np.arange(5.0)})
    np.testing.assert_array_equal(net.weights()["fc.bias"], np.arange(5))


def test_a_copy_elsewhere_is_written_with_the_users_model():
    copied = many().eval()
    net = cnnviz.adapt(many().eval(), "identity", input_shape=(SIZE, SIZE, 3))
    # As with device="cuda".
    net._module = copied
    net.assign({"fc.bias": np.arange(5.0)})
    for model in (net.model, copied):
        assert model.fc.bias.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.filterwarnings("ignore")
def test_an_export_tells_and_resumes_the_same():
    model = settle(Small())
    x = torch.from_numpy(small_pictures(1)).movedim(-1, 1)
    program = torch.export.export(model, (x,))
    net = cnnviz.adapt(torch.export.unflatten(program), SMALL_PREPROCESSING)
    plain = cnnviz.adapt(model, SMALL_PREPROCESSING)
    found, wanted = net.offsets(), plain.offsets()
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-12)
    x = net.ops.asarray(small_pictures(1))
    own = net.forward(x, taps=["pool"])["pool"]
    results = [n.resume(x, at="pool", taps=[LOGITS])(own * 2)[LOGITS] for n in (net, plain)]
    assert_close(*results)
