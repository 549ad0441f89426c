"""Networks of torchvision as they are, with random weights, through every function."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision
from nets.real import go_through
from nets.torch_small import snapshot

import cnnviz


@pytest.mark.parametrize(
    ("name", "cam_layer", "channel", "convolutions"),
    [("resnet50", "layer4", "layer2.0.conv3", 53), ("vgg16_bn", "features.42", "features.42", 13)],
)
def test_torchvision(name, cam_layer, channel, convolutions):
    torch.manual_seed(0)
    model = torchvision.models.get_model(name, weights=None)
    before = snapshot(model)
    net = cnnviz.adapt(model)
    assert net.preprocessing.mean == (0.485, 0.456, 0.406)
    assert net.preprocessing.size == (224, 224)
    layers = go_through(net, cam_layer, channel)
    assert sum(layer.kind == "Conv2d" for layer in layers) == convolutions
    assert layers.total == sum(p.numel() for p in model.parameters())
    assert snapshot(model) == before
    # A tap is what the module gives, told by torch alone.
    x = np.random.default_rng(0).uniform(0, 1, (1, 224, 224, 3)).astype(np.float32)
    seen = []
    model.get_submodule(channel).register_forward_hook(lambda m, a, out: seen.append(out.clone()))
    mean, std = np.float32((0.485, 0.456, 0.406)), np.float32((0.229, 0.224, 0.225))
    with torch.no_grad():
        model.eval()(torch.from_numpy(((x - mean) / std).transpose(0, 3, 1, 2).copy()))
    wanted = seen[0].permute(0, 2, 3, 1).numpy()
    found = cnnviz.feature_maps(net, x, channel).maps[channel]
    assert np.abs(found - wanted).max() <= 1e-4 * np.abs(wanted).max()
