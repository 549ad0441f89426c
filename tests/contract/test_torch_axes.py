"""Axes and receptive fields, as PyTorch's own numbers tell them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision
from nets.torch_structures import Bare, Tokens, Windows
from torch import nn

import cnnviz
from cnnviz import INPUT
from cnnviz.grids import on_grid


def listed(model, shape):
    torch.manual_seed(0)
    net = cnnviz.adapt(model.double().eval(), "identity", input_shape=shape)
    return net, {layer.name: layer for layer in net.layers()}


@pytest.mark.parametrize(("before", "after"), [(0, 0), (1, 0), (1, 2), (2, 3)])
def test_tokens_are_told_from_channels_and_from_each_other(before, after):
    net, layers = listed(Tokens(before, after, mean=True), (12, 20, 3))
    count = before + 15 + after
    for name in ("norm1", "attention[0]", "norm2", "mlp.0", "mlp.1", "mlp.2", "norm"):
        layer = layers[name]
        channels = 16 if name in ("mlp.0", "mlp.1") else 8
        assert layer.output_shape == (None, count, channels)
        assert (layer.spatial, layer.class_tokens, layer.tokens) == ((3, 5), before, True)
    assert layers["patch"].output_shape == (None, 3, 5, 8)
    # A token is the place whose patch it was made of.
    x = net.ops.asarray(np.random.default_rng(0).uniform(0, 1, (1, 12, 20, 3)))
    found = net.forward(x, taps=["norm1"])["norm1"]
    maps = on_grid(net, layers["norm1"], found, (12, 20))
    with torch.no_grad():
        patches = net.model.patch(x.movedim(-1, 1)).movedim(1, -1)
        np.testing.assert_allclose(maps, net.model.norm1(patches), rtol=1e-12)


def test_as_many_tokens_as_channels():
    _, layers = listed(Tokens(0, 0), (8, 16, 3))
    assert layers["norm1"].output_shape == (None, 8, 8)
    assert layers["norm1"].spatial == (2, 4)


def test_channels_that_are_last_stay_last():
    net, layers = listed(Windows(), (8, 16, 3))
    assert layers["patch"].output_shape == layers["norm"].output_shape == (None, 4, 8, 6)
    assert layers["inside"].output_shape == (None, 4, 6)
    assert layers["inside"].rows == 8
    assert layers["inside"].spatial == ()
    assert layers["merge"].output_shape == (None, 2, 4, 10)
    assert layers["merge"].spatial == (2, 4)
    x = torch.rand(1, 8, 16, 3).double()
    with torch.no_grad():
        wanted = net.model.norm(net.model.patch(x.movedim(-1, 1)).permute(0, 2, 3, 1))
    np.testing.assert_allclose(net.forward(x, taps=["norm"])["norm"], wanted, rtol=1e-12)


CHANNELS = {
    "vit_b_32": {"encoder.layers.encoder_layer_3.ln_1": ((7, 7), 1, 768)},
    "swin_t": {"features.1.0": ((16, 16), 0, 96), "features.7.1.norm2": ((2, 2), 0, 768)},
    "swin_v2_t": {"features.3.1.mlp": ((8, 8), 0, 192), "norm": ((2, 2), 0, 768)},
    "convnext_tiny": {"features.1.0.block.2": ((16, 16), 0, 96), "features.7": ((2, 2), 0, 768)},
}


@pytest.mark.parametrize("name", CHANNELS)
def test_transformers_of_torchvision(name):
    side = 224 if name == "vit_b_32" else 64
    torch.manual_seed(0)
    net = cnnviz.adapt(
        torchvision.models.get_model(name, weights=None), input_shape=(side, side, 3)
    )
    for address, (grid, before, channels) in CHANNELS[name].items():
        layer = net.layer(address)
        assert (layer.spatial, layer.class_tokens, layer.channels) == (grid, before, channels)
        assert layer.leads_to_score


def chain(*layers):
    return nn.Sequential(*layers)


FIELDS = {
    "dilated": chain(nn.Conv2d(3, 4, 3, dilation=3), nn.Conv2d(4, 4, (1, 5), stride=(1, 2))),
    "strided": chain(nn.Conv2d(3, 4, 3, stride=2), nn.AvgPool2d(2), nn.Conv2d(4, 4, 3)),
    "upsampled": chain(nn.Conv2d(3, 4, 3, stride=2), nn.Upsample(scale_factor=2)),
    "average": chain(nn.Conv2d(3, 4, 3), nn.AvgPool2d(3, 1), nn.LeakyReLU(), nn.Conv2d(4, 2, 2)),
    "transposed": chain(nn.Conv2d(3, 4, 3, stride=2), nn.ConvTranspose2d(4, 4, 4, stride=2)),
    "smooth": chain(nn.Conv2d(3, 4, 3, stride=2), nn.Upsample(scale_factor=2, mode="bilinear")),
    "patches": chain(nn.Conv2d(3, 4, 4, stride=4), nn.Conv2d(4, 4, 3, padding=1)),
}


@pytest.mark.parametrize("name", FIELDS)
def test_receptive_fields_are_what_the_gradient_reaches(name):
    """The extent of the input on which a place in the middle depends, for positive weights."""
    model = FIELDS[name].double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.abs() + 0.01)
    net, layers = listed(model, (36, 36, 3))
    x = torch.rand(1, 36, 36, 3).double()
    compared = 0
    for layer in layers.values():
        if layer.receptive_field in ("all", None) or not layer.spatial:
            continue
        height, width = layer.spatial
        widest = [0, 0]
        # Where the phase of a stride differs, so does the extent: the widest counts.
        for i, j in [(height // 2 + a, width // 2 + b) for a in (0, 1) for b in (0, 1)]:
            found = net.gradient(
                lambda acts, tap=layer.name, i=i, j=j: acts[tap][:, i, j].sum(1),
                x,
                taps=[layer.name],
            )
            seen = found.gradients[INPUT][0].abs().sum(-1)
            for axis in (0, 1):
                places = torch.nonzero(seen.sum(1 - axis)).ravel()
                widest[axis] = max(widest[axis], int(places[-1] - places[0]) + 1)
        compared += 1
        assert widest == [min(n, 36) for n in layer.receptive_field], layer
    assert compared == len(layers)


def test_receptive_field_of_a_known_network():
    torch.manual_seed(0)
    net = cnnviz.adapt(torchvision.models.resnet50(weights=None), input_shape=(64, 64, 3))
    # 7, a pooling of 3, and a 3 x 3 in each of 3 + 4 + 6 + 3 blocks, whose first one strides.
    blocks = [(4, 3), (8, 3), (16, 5), (32, 2)]
    side = 7 + 2 * 2 + sum(2 * step * count for step, count in blocks) + 2 * (4 + 8 + 16)
    assert net.layer("layer4").receptive_field == (side, side)
    assert net.layer("conv1").receptive_field == (7, 7)
    assert net.layer("avgpool").receptive_field == "all"


def test_a_branch_that_leads_nowhere_is_told():
    class Branched(Bare):
        def __init__(self) -> None:
            super().__init__()
            self.side = nn.Conv2d(6, 3, 1)

        def forward(self, x):
            x = torch.relu(self.conv2(torch.relu(self.conv1(x))))
            self.side(x)
            return self.fc(x.mean((2, 3)))

    _, layers = listed(Branched(), (8, 8, 3))
    assert layers["conv2"].leads_to_score
    assert not layers["side"].leads_to_score


def test_patches_that_are_cut_by_a_view():
    class Cut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Linear(48, 8)
            self.norm = nn.LayerNorm(8)
            self.mix = nn.Sequential(nn.Linear(15, 11), nn.Linear(11, 15))
            self.head = nn.Linear(8, 5)

        def forward(self, x):
            n, c, h, w = x.shape
            x = x.reshape(n, c, h // 4, 4, w // 4, 4).permute(0, 2, 4, 3, 5, 1)
            x = self.norm(self.embed(x.reshape(n, h * w // 16, 48)))
            x = x + self.mix(x.transpose(1, 2)).transpose(1, 2)
            return self.head(x.mean(1))

    net, layers = listed(Cut(), (12, 20, 3))
    assert layers["embed"].spatial == layers["norm"].spatial == (3, 5)
    assert layers["norm"].receptive_field == (4, 4)
    # Tokens that are mixed are neither places nor channels.
    assert layers["mix.0"].output_shape == (None, 11, 8)
    assert layers["mix"].output_shape == (None, 15, 8)
    assert (layers["mix"].spatial, layers["mix"].receptive_field) == ((), "all")
    assert cnnviz.layers(net)[-1].receptive_field == "all"
