"""Networks of keras.applications as they are, with random weights, through every function."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from nets.keras_small import numbers, snapshot
from nets.real import go_through

import cnnviz


@pytest.mark.parametrize(
    ("name", "cam_layer", "channel", "convolutions"),
    [
        ("VGG16", "block5_conv3", "block3_conv1", 13),
        ("ResNet50", "conv5_block3_out", "conv3_block1_3_conv", 53),
    ],
)
def test_applications(name, cam_layer, channel, convolutions):
    keras.utils.set_random_seed(0)
    model = getattr(keras.applications, name)(weights=None)
    before = snapshot(model)
    net = cnnviz.adapt(model)
    assert net.preprocessing.order == "bgr"
    assert net.preprocessing.scale == 255
    np.testing.assert_allclose(net.preprocessing.mean, (103.939, 116.779, 123.68))
    layers = go_through(net, cam_layer, channel)
    assert sum(layer.kind == "Conv2D" for layer in layers) == convolutions
    trained = [v for v in model.weights if not v.name.startswith("moving")]
    assert layers.total == sum(int(np.prod(v.shape)) for v in trained)
    assert net.final_activation == "softmax"
    assert snapshot(model) == before
    # A tap is what a sub-model gives, told by Keras alone.
    x = np.random.default_rng(0).uniform(0, 1, (1, 224, 224, 3)).astype(np.float32)
    family = {"VGG16": "vgg16", "ResNet50": "resnet50"}[name]
    fed = getattr(keras.applications, family).preprocess_input(x * 255)
    part = keras.Model(model.inputs[0], model.get_layer(channel).output)
    wanted = part(fed, training=False)
    wanted = wanted.detach().numpy() if hasattr(wanted, "detach") else np.asarray(wanted)
    found = cnnviz.feature_maps(net, x, channel).maps[channel]
    assert np.abs(found - wanted).max() <= 1e-4 * np.abs(wanted).max()


def test_numbers_reads_a_variable():
    variable = keras.Variable(np.arange(3.0), dtype="float32")
    np.testing.assert_array_equal(numbers(variable), [0, 1, 2])
