"""Settings, what goes into layers, and copies in float64, in PyTorch."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest
import torch
from nets.torch_small import Small, settle, snapshot
from torch import nn
from torch.nn import functional as F
from torchvision.ops import FrozenBatchNorm2d

import cnnviz
from cnnviz.adapter import INPUT, LOGITS, OUTPUT
from cnnviz.comparison.settings import FAMILIES
from cnnviz.errors import InvalidImage, InvalidOption, UnknownLayer, UnsupportedModel
from cnnviz.testing import SMALL_PREPROCESSING, OracleAdapter, small_pictures

SIZE = 12


def opened(model, size=SIZE, channels=3):
    return cnnviz.adapt(model.double().eval(), "identity", input_shape=(size, size, channels))


def pictures(net, count=2, size=SIZE, channels=3):
    rng = np.random.default_rng(0)
    return net.ops.asarray(rng.uniform(0, 1, (count, size, size, channels)))


def assert_close(actual, wanted):
    assert actual.shape == wanted.shape
    assert (actual - wanted).abs().max() <= 1e-12 * wanted.abs().max()


class Own(nn.Conv2d):
    """Of the user's, and still a convolution."""


class SameConv(nn.Conv2d):
    """Pads by the size of the map, whatever its settings say."""

    def forward(self, x):
        return super().forward(F.pad(x, (0, 1, 0, 1)))


class StandardConv(nn.Conv2d):
    """Changes what torch's own forward calls."""

    def _conv_forward(self, x, weight, bias):
        return super()._conv_forward(x, weight - weight.mean(), bias)


class Ceiling(nn.MaxPool2d):
    def forward(self, x):
        return super().forward(F.pad(x, (0, 1, 0, 1)))


class Pool(nn.MaxPool2d):
    """A name that ends in no number."""


class Means(nn.AvgPool2d):
    pass


class Unheard(nn.Module):
    def forward(self, x):
        return x * 2


def without_padding(told):
    return {key: value for key, value in told.items() if key != "padding"}


def convolution(strides=(1, 1), dilation=(1, 1), groups=1, padding=((0, 0), (0, 0)), mode="zeros"):
    return {
        "family": "convolution",
        "strides": strides,
        "dilation": dilation,
        "groups": groups,
        "padding": padding,
        "mode": mode,
        "activation": ("linear",),
        "dtype": "float64",
    }


def pool(family, window, strides=None, padding=((0, 0), (0, 0)), ceil=False, **more):
    strides = strides or window
    told = {"window": window, "strides": strides, "padding": padding, "ceil": ceil}
    return {"family": family, **told, **more}


def norm(family, **told):
    return {"family": family, **told, "dtype": "float64"}


def activation(*told):
    return {"family": "activation", "activation": told}


ONE, DIL = ((1, 1), (1, 1)), (1, 1)
SETTINGS = {
    "conv": (nn.Conv2d(8, 4, 3), convolution()),
    "strided": (nn.Conv2d(8, 4, 3, (2, 1), 1), convolution((2, 1), padding=ONE)),
    "grouped": (nn.Conv2d(8, 4, 3, groups=4), convolution(groups=4)),
    "depthwise": (nn.Conv2d(8, 16, 3, groups=8), convolution(groups=8)),
    "dilated": (
        nn.Conv2d(8, 4, 3, padding=(2, 1), dilation=(2, 3)),
        convolution(dilation=(2, 3), padding=((2, 2), (1, 1))),
    ),
    "same": (nn.Conv2d(8, 4, 3, padding="same"), convolution(padding="same")),
    "valid": (nn.Conv2d(8, 4, 3, padding="valid"), convolution()),
    "reflecting": (
        nn.Conv2d(8, 4, 3, padding=1, padding_mode="reflect"),
        convolution(padding=ONE, mode="reflect"),
    ),
    "subclass": (Own(8, 4, 3, padding=1), convolution(padding=ONE)),
    "transposed": (
        nn.ConvTranspose2d(8, 4, 3, 2, padding=1, output_padding=1),
        {
            **convolution((2, 2), padding=((1, 0), (1, 0))),
            "family": "transposed convolution",
        },
    ),
    "dense": (nn.Linear(8, 4), norm("dense", activation=("linear",))),
    "bn": (
        nn.BatchNorm2d(8, eps=2e-3, momentum=0.03),
        norm("batch norm", eps=2e-3, momentum=0.03, statistics="running"),
    ),
    "bn of all batches": (
        nn.BatchNorm2d(8, momentum=None),
        norm("batch norm", eps=1e-5, statistics="running"),
    ),
    "bn of the batch": (
        nn.BatchNorm2d(8, track_running_stats=False),
        norm("batch norm", eps=1e-5, momentum=0.1, statistics="batch"),
    ),
    "frozen bn": (
        FrozenBatchNorm2d(8, eps=2e-3),
        norm("batch norm", eps=2e-3, statistics="running"),
    ),
    "ln": (nn.LayerNorm(8, eps=1e-6), norm("layer norm", eps=1e-6)),
    "gn": (nn.GroupNorm(4, 8, eps=1e-4), norm("group norm", eps=1e-4, groups=4)),
    "max pool": (
        nn.MaxPool2d(3, 2, 1, ceil_mode=True),
        pool("max pool", (3, 3), (2, 2), ONE, True, dilation=DIL),
    ),
    "dilated max pool": (
        nn.MaxPool2d((2, 3), dilation=(1, 2)),
        pool("max pool", (2, 3), dilation=(1, 2)),
    ),
    "padding of its own": (SameConv(8, 8, 3), without_padding(convolution())),
    "convolution of its own": (StandardConv(8, 8, 3), without_padding(convolution())),
    "pool with padding of its own": (
        Ceiling(2),
        without_padding(pool("max pool", (2, 2), dilation=DIL)),
    ),
    "own max pool": (Pool(2), pool("max pool", (2, 2), dilation=DIL)),
    "mean pool": (
        nn.AvgPool2d(3, 1, (1, 0), count_include_pad=False),
        pool("average pool", (3, 3), (1, 1), ((1, 1), (0, 0)), count_padding=False),
    ),
    "own mean pool": (Means(2), pool("average pool", (2, 2), count_padding=True)),
    "global": (nn.AdaptiveAvgPool2d(1), {"family": "global average pool"}),
    "global list": (nn.AdaptiveAvgPool2d([1, 1]), {"family": "global average pool"}),
    "not global": (nn.AdaptiveAvgPool2d((1, 2)), {}),
    "relu": (nn.ReLU(), activation("relu")),
    "relu6": (nn.ReLU6(), activation("relu6")),
    "leaky": (nn.LeakyReLU(0.2), activation("leaky relu", 0.2)),
    "leaky by default": (nn.LeakyReLU(), activation("leaky relu", 0.01)),
    "elu": (nn.ELU(0.5), activation("elu", 0.5)),
    "gelu": (nn.GELU(), activation("gelu")),
    "gelu by tanh": (nn.GELU("tanh"), activation("gelu by tanh")),
    "silu": (nn.SiLU(), activation("silu")),
    "hard silu": (nn.Hardswish(), activation("hard silu")),
    "hard sigmoid": (nn.Hardsigmoid(), activation("hard sigmoid")),
    "prelu": (nn.PReLU(8), {**activation("prelu"), "dtype": "float64"}),
    "softplus": (nn.Softplus(), activation("softplus")),
    "a steeper softplus": (nn.Softplus(2.0), {}),
    "softsign": (nn.Softsign(), activation("softsign")),
    "softmax": (nn.Softmax(-1), activation("softmax")),
    "dropout": (nn.Dropout(0.3), {"family": "dropout", "rate": 0.3}),
    "dropout of maps": (nn.Dropout2d(0.2), {"family": "dropout", "rate": 0.2}),
    "flatten": (nn.Flatten(), {"family": "flatten"}),
    "identity": (nn.Identity(), {"family": "identity"}),
    "pad": (
        nn.ZeroPad2d((1, 2, 3, 4)),
        {"family": "padding", "padding": ((3, 4), (1, 2)), "mode": "zeros"},
    ),
    "resize": (
        nn.Upsample(scale_factor=2, mode="bilinear"),
        {"family": "resize", "interpolation": "bilinear", "antialias": False},
    ),
    "resize between corners": (
        nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
        {"family": "resize", "interpolation": "bilinear between corners", "antialias": False},
    ),
    "unheard": (Unheard(), {}),
}


def test_settings_of_every_family():
    class All(nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = nn.ModuleList(copy.deepcopy(part) for part, _ in SETTINGS.values())

        def forward(self, x):
            for (name, _), part in zip(SETTINGS.items(), self.parts, strict=True):
                last = isinstance(part, (nn.Linear, nn.LayerNorm))
                given = part(x.movedim(1, -1) if last else x)
                assert given is not None, name
            return x.mean((2, 3))

    net = opened(All(), channels=8)
    for i, (name, (_, wanted)) in enumerate(SETTINGS.items()):
        found = net.settings(f"parts.{i}")
        assert found == wanted, name
        assert all(type(found[k]) is type(wanted[k]) for k in wanted), name
        assert found.get("family", "flatten") in FAMILIES


def test_settings_say_what_the_layer_computes():
    """A pool and a padding are computed again from what is told of them."""
    part = nn.Sequential(
        nn.ZeroPad2d((1, 2, 3, 4)), nn.AvgPool2d((3, 2), (2, 1), 1, count_include_pad=False)
    )
    # A network without weights takes float32.
    net = opened(part.append(nn.Conv2d(3, 4, 1)))
    x = pictures(net)
    (above, below), (left, right) = net.settings("0")["padding"]
    padded = F.pad(x.movedim(-1, 1), (left, right, above, below))
    told = net.settings("1")
    (above, below), (left, right) = told["padding"]
    places = (left, right, above, below)
    sums, counts = (
        F.pad(y, places)
        .unfold(2, told["window"][0], told["strides"][0])
        .unfold(3, told["window"][1], told["strides"][1])
        .sum((-1, -2))
        for y in (padded, torch.ones_like(padded))
    )
    assert not told["count_padding"]
    assert_close(net.forward(x, taps=["1"])["1"], (sums / counts).movedim(1, -1))


@pytest.mark.parametrize(("kernel", "stride", "cut", "more"), [(3, 2, 1, 1), (4, 2, 1, 0)])
def test_settings_of_a_transposed_convolution_say_what_is_cut_off(kernel, stride, cut, more):
    part = nn.ConvTranspose2d(3, 4, kernel, stride, cut, more, bias=False)
    net = opened(nn.Sequential(part))
    x = pictures(net, size=5)
    whole = F.conv_transpose2d(x.movedim(-1, 1), part.weight, stride=stride)
    (above, below), (left, right) = net.settings("0")["padding"]
    # Past the end of the full product there are zeros.
    whole = F.pad(whole, (-left, -right, -above, -below))
    assert_close(net.apply("0", x), whole.movedim(1, -1))


class Branches(nn.Module):
    """Everything that can happen on the way into a layer."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.act = nn.ReLU(inplace=True)
        self.named = Named()
        self.add = Add()
        self.second = Scaled()
        self.gather = Gather()
        self.none = Table()
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(4 * SIZE * SIZE, 5)

    def forward(self, x):
        x = F.pad(x, (1, 1, 1, 1), value=0.5)
        x = self.conv(x)
        y = self.act(x)
        z = self.named(factor=2.0, x=y)
        y = self.add(y, z)
        y = self.gather([y, z])
        y = self.second(y, None) + self.none()
        return self.fc(self.flatten(y))


class Named(nn.Module):
    def forward(self, x, factor=1.0):
        x += 1
        return x * factor


class Add(nn.Module):
    def forward(self, x, y):
        return x + y


class Scaled(nn.Module):
    def forward(self, x, scale=None):
        return x * 2 if scale is None else x * scale


class Gather(nn.Module):
    def forward(self, xs):
        return sum(xs)


class Table(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.25))

    def forward(self):
        return self.weight


def test_what_goes_into_layers():
    model = Branches()
    net = opened(model)
    x = pictures(net)
    before = snapshot(model)
    names = ["conv", "act", "named", "add", "second", "gather", "none", "flatten", "fc"]
    found = net.entering(x, layers=names)
    # What several tensors go into, or none, or a list of them.
    assert set(found) == {"conv", "act", "named", "second", "flatten", "fc"}
    with torch.no_grad():
        padded = F.pad(x.movedim(-1, 1), (1, 1, 1, 1), value=0.5)
        # By hand, since the layers change what they are given.
        conv = model.conv(padded)
        act = conv.clamp(min=0)
        added = act + 1 + (act + 1) * 2
        gathered = added + (act + 1) * 2
        flat = gathered * 2 + 0.25
    assert (conv < 0).any()
    assert_close(found["conv"], padded.movedim(1, -1))
    assert_close(found["act"], conv.movedim(1, -1))
    assert_close(found["named"], act.movedim(1, -1))
    assert_close(found["second"], gathered.movedim(1, -1))
    # The channels of what is flattened come last, too.
    assert found["flatten"].shape == (2, SIZE, SIZE, 4)
    assert_close(found["flatten"], flat.movedim(1, -1))
    assert_close(found["fc"], flat.flatten(1))
    assert not found["conv"].requires_grad
    for name in names:
        alone = net.entering(x, layers=[name])
        assert set(alone) == {name} & set(found)
        assert all(torch.equal(alone[k], found[k]) for k in alone)
    assert snapshot(model) == before
    whole = net.forward(x, taps=names)
    for name in ("conv", "act", "second", "flatten", "fc"):
        assert_close(net.apply(name, found[name]), whole[name])
    assert snapshot(model) == before


def test_what_goes_into_a_layer_that_the_run_ends_before():
    """Neither the layer itself nor what follows is run."""

    class Counted(nn.Identity):
        runs = 0

        def forward(self, x):
            Counted.runs += 1
            return x

    net = opened(nn.Sequential(nn.Conv2d(3, 4, 3), Counted(), nn.Flatten()))
    x = pictures(net)
    net.layers()
    Counted.runs = 0
    net.entering(x, layers=["1"])
    assert Counted.runs == 0
    net.entering(x, layers=["2"])
    assert Counted.runs == 1


def test_calls_of_one_layer_have_inputs_of_their_own():
    model = nn.Module()
    model.conv = nn.Conv2d(3, 3, 1)
    model.forward = lambda x: model.conv(model.conv(x) * 0.5)
    net = opened(model)
    x = pictures(net)
    found = net.entering(x, layers=["conv:1", "conv:0"])
    assert_close(found["conv:0"], x)
    assert_close(found["conv:1"], net.forward(x, taps=["conv:0"])["conv:0"] * 0.5)
    assert_close(net.apply("conv:1", x), net.forward(x, taps=["conv:0"])["conv:0"])


@pytest.mark.parametrize("tap", [INPUT, OUTPUT, LOGITS, "nothing"])
def test_taps_that_are_no_layer_have_no_input(tap):
    net = opened(Branches())
    x = pictures(net)
    with pytest.raises(UnknownLayer):
        net.entering(x, layers=[tap])
    with pytest.raises(UnknownLayer):
        net.apply(tap, x)
    for ask in (net.settings, net.weight_names):
        with pytest.raises(UnknownLayer):
            ask(tap)


def test_no_hook_is_left_when_the_forward_raises():
    class Failing(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)
            self.fc = nn.Linear(4, 5)
            self.fails = False

        def forward(self, x):
            x = self.conv(x).mean((2, 3))
            if self.fails:
                raise ValueError("on purpose")
            return self.fc(x)

    net = opened(Failing())
    x = pictures(net)
    net.layers()
    net.model.fails = True
    before = snapshot(net.model)
    with pytest.raises(InvalidImage, match="on purpose"):
        net.entering(x, layers=["conv", "fc"])
    assert snapshot(net.model) == before
    with pytest.raises(InvalidImage, match="with 2 channels"):
        net.entering(x[..., :2], layers=["fc"])
    assert snapshot(net.model) == before
    net.model.fails = False
    assert net.entering(x, layers=["fc"])["fc"].shape == (2, 4)


def test_layers_that_take_a_view_are_applied_to_any_tensor():
    class View(nn.Module):
        def forward(self, x):
            return x.view(len(x), -1)

    net = opened(nn.Sequential(nn.Conv2d(3, 4, 3), View(), nn.Linear(400, 5)))
    x = pictures(net)
    entering = net.entering(x, layers=["1"])["1"]
    wanted = net.forward(x, taps=["1"])["1"]
    assert_close(net.apply("1", entering), wanted)
    # As a tensor that was made anew, whose channels are last in memory.
    assert_close(net.apply("1", net.ops.asarray(net.ops.to_numpy(entering))), wanted)


def test_dropout_and_batch_norm_are_applied_as_in_evaluation():
    net = opened(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5)))
    net.model.train()
    before = snapshot(net.model)
    x = torch.randn(5, 6, 6, 4, dtype=torch.float64)
    assert_close(net.apply("1", x), x / (1 + 1e-5) ** 0.5)
    assert_close(net.apply("2", x), x)
    assert snapshot(net.model) == before


def test_a_layer_that_takes_more_than_a_tensor_is_refused():
    net = opened(Branches())
    x = torch.zeros(1, 4, 4, 4, dtype=torch.float64)
    with pytest.raises(
        InvalidOption, match="'add' does not take a tensor of 1 x 4 x 4 x 4"
    ) as told:
        net.apply("add", x)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_copy_of_a_narrow_network_computes_in_float64(dtype):
    model = settle(Small()).to(dtype)
    net = cnnviz.adapt(model, SMALL_PREPROCESSING)
    before = snapshot_of(model)
    oracle = OracleAdapter(
        {
            ours: value.astype(np.float64)
            for ours, value in zip(
                OracleAdapter().weights(), map(np.asarray, net.weights().values()), strict=True
            )
        }
    )
    assert len(oracle.weights()) == 10
    with net.in_float64() as copied:
        x = copied.ops.asarray(small_pictures())
        assert x.dtype == torch.float64
        found = copied.forward(x, taps=["conv1", "relu:1", LOGITS])
        wanted = oracle.forward(small_pictures(), taps=list(found))
        for tap, value in found.items():
            np.testing.assert_allclose(value.numpy(), wanted[tap], rtol=0, atol=1e-12, err_msg=tap)
        assert copied.settings("conv1")["dtype"] == "float64"
    assert snapshot_of(model) == before
    assert net.settings("conv1")["dtype"] == str(dtype).removeprefix("torch.")


def snapshot_of(model):
    """As bits, since numpy has no bfloat16."""
    return {k: (v.dtype, v.double().numpy().tobytes()) for k, v in model.state_dict().items()}


def test_a_copy_of_what_was_made_in_inference_mode_has_gradients():
    with torch.inference_mode():
        model = settle(Small())
        net = cnnviz.adapt(model, SMALL_PREPROCESSING)
    assert model.bn1.running_mean.is_inference() or model.conv1.weight.is_inference()
    for mode in (True, False):
        with torch.inference_mode(mode), net.in_float64() as copied:
            x = copied.ops.asarray(small_pictures())
            found = copied.gradient(lambda a: a[LOGITS][:, 0], x, taps=[LOGITS], wrt=["conv1"])
            assert found.gradients["conv1"].abs().max() > 0
            copied.assign({"conv1.bias": np.zeros(4)})
    assert model.conv1.bias.detach().abs().max() > 0


def test_a_copy_that_is_opened_in_inference_mode_has_gradients():
    model = settle(Small())
    net = cnnviz.adapt(model, SMALL_PREPROCESSING)
    with torch.inference_mode(), net.in_float64() as copied:
        assert not any(t.is_inference() for t in copied.model.state_dict().values())
    x = copied.ops.asarray(small_pictures())
    found = copied.gradient(lambda a: a[LOGITS][:, 0], x, taps=[LOGITS], wrt=["conv1"])
    assert found.gradients["conv1"].abs().max() > 0


def test_shared_weights_have_one_name_and_stay_shared_in_a_copy():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.one = nn.Conv2d(3, 3, 1)
            self.two = nn.Conv2d(3, 3, 1, bias=False)
            self.two.weight = self.one.weight
            self.again = self.one

        def forward(self, x):
            return self.again(self.two(self.one(x))).mean((2, 3))

    net = opened(Shared())
    assert net.weight_names("one:0") == {"weight": "one.weight", "bias": "one.bias"}
    assert net.weight_names("two") == {"weight": "one.weight"}
    assert set(net.weights()) == {"one.weight", "one.bias"}
    with net.in_float64() as copied:
        assert set(copied.weights()) == {"one.weight", "one.bias"}
        copied.assign({"one.weight": np.zeros((1, 1, 3, 3))})
        assert not copied.weights("two")["weight"].any()
    assert net.weights("two")["weight"].all()


def test_weight_names_of_a_block_lead_to_the_whole():
    net = opened(nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), nn.ReLU()))
    names = net.weight_names("0")
    assert names["1.running_var"] == "0.1.running_var"
    assert set(names.values()) == set(net.weights())
    assert net.weight_names("1") == {}


def test_what_cannot_be_copied_is_said_in_a_line():
    model = Small()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        # Keeps a tensor with a history as an attribute.
        nn.utils.weight_norm(model.conv1)
    model.conv1(torch.zeros(1, 3, 8, 8))
    net = cnnviz.adapt(model, SMALL_PREPROCESSING)
    with (
        pytest.raises(UnsupportedModel, match="Small cannot be copied to float64: ") as told,
        net.in_float64(),
    ):
        pass
    assert "\n" not in str(told.value)


def test_a_copy_keeps_what_the_adapter_was_told():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.a, self.b = nn.Conv2d(3, 4, 3), nn.Linear(4, 5), nn.Linear(4, 7)

        def forward(self, x, scale):
            y = self.conv(x).mean((2, 3)) * scale[:, None]
            return {"a": self.a(y), "b": self.b(y)}

    net = cnnviz.adapt(
        Two().eval(), "tf", input_shape=(9, 9, 3), output="b", other_inputs={"scale": np.array(2.0)}
    )
    net.labels = list("abcdefg")
    x = np.random.default_rng(0).uniform(0, 1, (2, 9, 9, 3))
    first = net.forward(net.ops.asarray(x), taps=[LOGITS])[LOGITS]
    with net.in_float64() as copied:
        assert copied.labels == net.labels
        assert copied.input_shape == (9, 9, 3)
        found = copied.forward(copied.ops.asarray(x), taps=[LOGITS])[LOGITS]
        assert found.dtype == torch.float64
        assert found.shape == (2, 7)
        assert copied.classes == 7
        torch.testing.assert_close(found.float(), first, rtol=1e-4, atol=1e-5)


def test_a_copy_runs_at_the_size_at_which_the_layers_were_listed():
    net = cnnviz.adapt(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten()).eval(), "identity")
    net.settle(7, 9)
    with net.in_float64() as copied:
        assert copied.listed_size == (7, 9)
        assert [x.output_shape for x in copied.layers()] == [x.output_shape for x in net.layers()]


class FailingHook:
    def __call__(self, module, args, output):
        raise ValueError("the hook of the user")


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize("address", ["", "0"])
def test_an_error_in_a_hook_of_the_users_is_not_blamed_on_the_picture(listed, address):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    net = opened(model)
    if listed:
        net.layers()
    model.get_submodule(address).register_forward_hook(FailingHook())
    with pytest.raises(UnsupportedModel, match=r"^a forward hook of its .*the hook of the user"):
        net.forward(pictures(net), taps=[OUTPUT])


def test_an_error_of_the_network_is_not_blamed_on_a_hook():
    net = opened(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(5, 4, 3)))
    net.model[0].register_forward_hook(lambda module, args, output: None)
    with pytest.raises(InvalidImage, match="does not take pictures"):
        net.layers()
