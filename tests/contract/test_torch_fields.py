"""What gradients reach in PyTorch networks is where their layers say that they look."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from nets.torch_small import Small
from nets.torch_structures import Bare, Forked, Tokens, Windows
from torch import nn

import cnnviz
from cnnviz.errors import UnknownField
from cnnviz.fields import Window
from cnnviz.testing import assert_fields

chain = nn.Sequential


class Branches(nn.Module):
    """Two ways of different starts, joined."""

    def __init__(self, join) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, stride=2)
        self.a = chain(nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 2, stride=2))
        self.b = nn.Conv2d(4, 4, 5, stride=2, padding=1)
        self.join = join
        self.last = nn.LazyConv2d(3, 3)

    def forward(self, x):
        x = self.stem(x)
        a, b = self.a(x), self.b(x)
        h, w = min(a.shape[2], b.shape[2]), min(a.shape[3], b.shape[3])
        return self.last(self.join([a[:, :, :h, :w], b[:, :, :h, :w]]))


class Unet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.deep = nn.Conv2d(4, 4, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(4, 4, 2, stride=2)
        self.out = nn.Conv2d(8, 4, 3, padding=1)
        self.full = nn.Upsample(scale_factor=2, mode="nearest")
        self.last = nn.Conv2d(4, 2, 3)

    def forward(self, x):
        y = self.down(x)
        z = self.up(self.deep(y))[:, :, : y.shape[2], : y.shape[3]]
        return self.last(self.full(self.out(torch.cat([y, z], 1))))


class Called(nn.Module):
    """A function, then a convolution, so that what the function made is looked at."""

    def __init__(self, function, channels=4) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, stride=2)
        self.function = function
        self.last = nn.Conv2d(channels, 2, 3)

    def forward(self, x):
        return self.last(self.function(self.first(x)))


class Focus(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(12, 4, 3)

    def forward(self, x):
        return self.conv(torch.cat([x[..., i::2, j::2] for i in (0, 1) for j in (0, 1)], 1))


def resized(**options):
    return lambda x: F.interpolate(x, **options)


LINEAR = {
    "valid": lambda: chain(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 4, stride=3)),
    "padded": lambda: chain(nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, 2, 1)),
    "even": lambda: chain(nn.Conv2d(3, 4, 4, 2, 1), nn.Conv2d(4, 4, 2, padding=1)),
    "same": lambda: chain(nn.Conv2d(3, 4, 4, padding="same"), nn.Conv2d(4, 4, 3, 2)),
    "dilated": lambda: chain(nn.Conv2d(3, 4, 3, dilation=2, padding=2), nn.Conv2d(4, 4, (1, 3))),
    "depthwise": lambda: chain(nn.Conv2d(3, 6, 5, 2, 2, groups=3), nn.Conv2d(6, 6, 3, groups=6)),
    "average": lambda: chain(nn.Conv2d(3, 4, 3), nn.AvgPool2d(3, 2, ceil_mode=True)),
    "zeros": lambda: chain(nn.ZeroPad2d((1, 2, 3, 0)), nn.Conv2d(3, 4, 4, 2)),
    "cropped": lambda: chain(
        nn.Conv2d(3, 4, 3), nn.ZeroPad2d((-2, -1, -1, -3)), nn.Conv2d(4, 4, 2)
    ),
    "reflected": lambda: chain(nn.ReflectionPad2d(3), nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 2)),
    "replicated": lambda: chain(nn.Conv2d(3, 4, 3), nn.ReplicationPad2d(2), nn.Conv2d(4, 4, 4)),
    "transposed": lambda: chain(nn.Conv2d(3, 4, 3, 2), nn.ConvTranspose2d(4, 4, 4, 2, 1)),
    "transposed-odd": lambda: chain(
        nn.Conv2d(3, 4, 3, 2), nn.ConvTranspose2d(4, 4, 3, 2, 1, 1), nn.Conv2d(4, 2, 3)
    ),
    "nearest": lambda: Called(resized(scale_factor=3)),
    "linear": lambda: Called(resized(scale_factor=2, mode="bilinear")),
    "corners": lambda: Called(resized(size=(16, 21), mode="bilinear", align_corners=True)),
    "odd-ratio": lambda: Called(resized(size=(16, 13), mode="nearest-exact")),
    "adaptive": lambda: Called(lambda x: F.adaptive_avg_pool2d(x, (5, 7))),
    "shuffled": lambda: Called(lambda x: F.pixel_shuffle(x, 2), 1),
    "unshuffled": lambda: Called(lambda x: F.pixel_unshuffle(x[..., :8, :8], 2), 16),
    "sum": lambda: Branches(lambda xs: xs[0] + xs[1]),
    "cat": lambda: Branches(lambda xs: torch.cat(xs, 1)),
    "stack": lambda: Branches(lambda xs: torch.stack(xs, -1).sum(-1)),
    "unet": Unet,
    "focus": Focus,
    "normed": lambda: chain(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3)),
}


def adapted(model, size=(24, 28), positive=True):
    model = model.double().eval()
    with torch.no_grad():
        model(torch.zeros(1, 3, *size).double())
        for parameter in model.parameters():
            if positive:
                parameter.copy_(parameter.abs() + 0.01)
    return cnnviz.adapt(model, "identity", input_shape=(*size, 3))


# Torch's own word on even kernels that keep the size.
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@pytest.mark.parametrize("size", [(24, 28), (23, 27)], ids=["even", "odd"])
@pytest.mark.parametrize("name", LINEAR)
def test_linear_networks_see_all_of_their_fields_and_nothing_else(name, size):
    if name == "focus" and size[0] % 2:
        size = (22, 26)
    net = adapted(LINEAR[name](), size)
    held = assert_fields(net, size, pictures=1)
    assert held == len(net.layers()), "a layer does not tell where it looks"


@pytest.mark.parametrize(
    "make",
    [Small, Bare, Forked, lambda: Tokens(1, 2), Windows,
     lambda: chain(nn.Conv2d(3, 4, 3), nn.MaxPool2d(3, 2, 1, dilation=1, ceil_mode=True),
                   nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1)),
     lambda: chain(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2, 1, dilation=2), nn.Conv2d(4, 2, 1))],
    ids=["small", "bare", "forked", "tokens", "windows", "pooled", "pooled-dilated"],
)  # fmt: skip
def test_networks_with_maxima_look_nowhere_else(make):
    net = adapted(make(), (24, 32), positive=False)
    assert assert_fields(net, (24, 32), exact=lambda layer: False) >= 2


@pytest.mark.parametrize(
    "function",
    [lambda x: x.roll(1, 3), lambda x: x.flip(2), lambda x: torch.cat([x, x], 2)],
    ids=["rolled", "flipped", "laid end to end"],
)
def test_places_that_were_moved_are_not_told(function):
    layer = adapted(Called(function)).layer("last")
    assert layer.receptive_field == (7, 7)
    with pytest.raises(UnknownField, match="measured_window"):
        layer.patch((0, 0), (24, 28))


@pytest.mark.parametrize("norm", [nn.GroupNorm(2, 4), nn.InstanceNorm2d(4), nn.Softmax(2)])
def test_statistics_of_the_whole_picture_see_all_of_it(norm):
    layer = adapted(chain(nn.Conv2d(3, 4, 3), norm, nn.Conv2d(4, 4, 3))).layer("2")
    assert layer.field == "all"
    assert layer.patch((1, 1), (24, 28)) == (0, 0, 24, 28)


@pytest.mark.parametrize("name", ["padded", "transposed", "dilated"])
def test_what_is_measured_is_what_is_told(name):
    net = adapted(LINEAR[name](), (40, 44))
    last = net.layers()[-2]
    assert cnnviz.measured_window(net, last.name, pictures=1) == last.field


def test_what_is_rolled_can_be_measured():
    net = adapted(Called(lambda x: x.roll(1, 3)), (40, 44))
    found = cnnviz.measured_window(net, "last")
    assert isinstance(found, Window)
    assert (found.start, found.extent, found.step) == ((0, -2), (7, 7), (2, 2))
    assert cnnviz.measured_window(net, "last", (8, 8)) is None
