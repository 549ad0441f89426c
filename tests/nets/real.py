"""What every real network is put through."""

from __future__ import annotations

import numpy as np

import cnnviz
from cnnviz import photos


def go_through(net, cam_layer, channel):
    """Put a network through every function; gives its table of layers."""
    layers = cnnviz.layers(net)
    assert len(set(layers.names)) == len(layers)
    known = net.layer(channel)

    maps = cnnviz.feature_maps(net, photos.path("chelsea"), [channel, cam_layer])
    assert maps.maps[channel].shape == (1, *known.output_shape[1:])
    assert maps.maps[channel].std() > 0
    assert maps.profile(channel).values.shape == (known.channels,)

    stats = cnnviz.weight_stats(net)
    assert len(stats.table) == len(net.weights())
    kernel = max(stats.table, key=lambda row: row.count)
    raw = net.weights()[kernel.name].astype(np.float64)
    np.testing.assert_allclose(
        (kernel.mean, kernel.std, kernel.min, kernel.max),
        (raw.mean(), raw.std(ddof=1), raw.min(), raw.max()),
        rtol=1e-9,
        atol=1e-12,
    )
    assert stats.kernels().shape[-1] == 3

    found = cnnviz.grad_cam(net, photos.path("chelsea"))
    assert found.layer == cam_layer
    assert found.map.shape == (1, 224, 224)
    assert found.raw.std() > 0

    made = cnnviz.ascend(
        net, f"{channel}:3", size=64, steps=8, octaves=1, jitter=0, blur=0, transforms=()
    )
    assert made.images.shape == (1, 64, 64, 3)
    assert made.trace[-1, 0] > made.trace[0, 0]
    made = cnnviz.ascend(net, "class:7", steps=10, octaves=1, jitter=0, blur=0, transforms=())
    assert made.images.shape == (1, 224, 224, 3)
    assert made.trace[-1, 0] > made.trace[0, 0]
    return layers
