"""What is particular to Keras: interception, fused activations, formats, fixed inputs."""

from __future__ import annotations

import logging
import threading

import keras
import numpy as np
import pytest
from nets import keras_small
from nets.keras_small import DTYPE, functional, settle, snapshot

import cnnviz
from cnnviz.adapter import INPUT, LOGITS, OUTPUT
from cnnviz.errors import InvalidImage, UnsupportedModel
from cnnviz.testing import SMALL_PREPROCESSING, OracleAdapter, small_pictures


def test_logits_of_a_fused_softmax():
    model = settle(functional("fused"))
    before = snapshot(model)
    net = cnnviz.adapt(model, SMALL_PREPROCESSING)
    oracle = OracleAdapter(softmax=True)
    found = net.forward(net.ops.asarray(small_pictures()), taps=[LOGITS, OUTPUT])
    wanted = oracle.forward(small_pictures(), taps=[LOGITS, OUTPUT])
    for tap in (LOGITS, OUTPUT):
        np.testing.assert_allclose(net.ops.to_numpy(found[tap]), wanted[tap], rtol=1e-12)
    assert net.final_activation == "softmax"
    maps = cnnviz.grad_cam(net, small_pictures(), target=3)
    np.testing.assert_allclose(
        maps.raw, cnnviz.grad_cam(oracle, small_pictures(), target=3).raw, atol=1e-8
    )
    assert any("softmax" in note for note in maps.notes)
    assert snapshot(model) == before


def test_weights_are_arguments_of_the_trace_not_part_of_it():
    model = settle(functional())
    net = cnnviz.adapt(model, SMALL_PREPROCESSING)
    x = net.ops.asarray(small_pictures())

    def score(acts):
        return acts["fc"][:, 0]

    first = net.ops.to_numpy(net.gradient(score, x, taps=["fc"]).gradients[INPUT])
    kernel = model.get_layer("fc").kernel
    kernel.assign(kernel * 2)
    second = net.ops.to_numpy(net.gradient(score, x, taps=["fc"]).gradients[INPUT])
    np.testing.assert_allclose(second, first * 2, rtol=1e-12)


def test_other_threads_are_not_recorded():
    """A model that another thread runs while a recording is open is nobody's business."""
    model, other = settle(functional()), settle(keras_small.sequential())
    net = cnnviz.adapt(model, SMALL_PREPROCESSING)
    x = net.ops.asarray(small_pictures())
    wanted = net.ops.to_numpy(net.forward(x, taps=["conv2"])["conv2"])
    stop = threading.Event()
    errors = []

    def busy():
        while not stop.is_set():
            try:
                other(small_pictures())
            except Exception as error:  # noqa: BLE001 - whatever it is, the test is told
                errors.append(error)
                return

    thread = threading.Thread(target=busy)
    thread.start()
    try:
        for seed in range(10):
            fresh = cnnviz.adapt(model, SMALL_PREPROCESSING)
            found = fresh.forward(x, taps=["conv2"])["conv2"]
            np.testing.assert_array_equal(net.ops.to_numpy(found), wanted, str(seed))
    finally:
        stop.set()
        thread.join()
    assert not errors
    assert keras.layers.Layer.__call__.__qualname__ == "Layer.__call__"


def test_a_fixed_input_still_takes_other_sizes_up_to_the_flattening():
    x = keras.Input((10, 10, 3), dtype=DTYPE)
    y = keras.layers.Conv2D(4, 3, name="conv", dtype=DTYPE)(x)
    y = keras.layers.Flatten(name="flat", dtype=DTYPE)(y)
    net = cnnviz.adapt(
        keras.Model(x, keras.layers.Dense(2, name="fc", dtype=DTYPE)(y)), SMALL_PREPROCESSING
    )
    large = net.ops.asarray(small_pictures(side=16))
    assert net.forward(large, taps=["conv"])["conv"].shape == (2, 14, 14, 4)
    with pytest.raises(InvalidImage, match="does not take pictures of 16 x 16 x 3"):
        net.forward(large, taps=["fc"])
    made = cnnviz.ascend(net, "class:1", steps=2, octaves=3)
    assert made.images.shape == (1, 10, 10, 3)
    assert any("no octaves" in note for note in made.notes)


def test_a_model_without_weights_is_refused_in_words():
    with pytest.raises(UnsupportedModel, match="call it once"):
        cnnviz.adapt(keras_small.Subclassed(), SMALL_PREPROCESSING)


def test_sizes_that_the_model_tells():
    net = cnnviz.adapt(settle(functional()), "identity")
    assert net.input_shape == (10, 10, 3)
    made = keras_small.called(keras_small.Subclassed())
    assert cnnviz.adapt(made, "identity").input_shape == (10, 10, 3)


def test_depthwise_kernels_lie_as_grouped_ones_do():
    x = keras.Input((6, 6, 3), dtype=DTYPE)
    layer = keras.layers.DepthwiseConv2D(3, depth_multiplier=2, name="dw", dtype=DTYPE)
    net = cnnviz.adapt(keras.Model(x, layer(x)), "identity")
    kernel = net.weights("dw")["kernel"]
    assert kernel.shape == (3, 3, 1, 6)
    raw = keras_small.numbers(layer.kernel)
    np.testing.assert_array_equal(kernel[:, :, 0, 3], raw[:, :, 1, 1])


def test_applications_are_recognised(monkeypatch):
    """The map is measured on preprocess_input, so it is what Keras itself does."""
    # No weight is looked at, and drawing them takes JAX minutes.
    monkeypatch.setattr(
        keras.initializers.VarianceScaling,
        "__call__",
        lambda self, shape, dtype=None: keras.ops.convert_to_tensor(np.zeros(shape, dtype)),
    )
    rng = np.random.default_rng(0)
    pictures = rng.uniform(0, 1, (1, 4, 4, 3))
    for name in ("VGG16", "MobileNetV2", "DenseNet121", "EfficientNetB0", "ResNet50V2"):
        model = getattr(keras.applications, name)(
            weights=None, include_top=False, input_shape=(64, 64, 3)
        )
        found = cnnviz.adapt(model).preprocessing
        assert found is not None, name
        module = {
            "VGG16": "vgg16",
            "MobileNetV2": "mobilenet_v2",
            "DenseNet121": "densenet",
            "EfficientNetB0": "efficientnet",
            "ResNet50V2": "resnet_v2",
        }[name]
        preprocess = getattr(keras.applications, module).preprocess_input
        wanted = preprocess(pictures * 255, data_format="channels_last")
        np.testing.assert_allclose(found.apply(pictures), wanted, atol=1e-4, err_msg=name)
        assert found.size == (64, 64)


def test_many_taps_raise_no_warning_of_tracing():
    net = cnnviz.adapt(settle(functional()), SMALL_PREPROCESSING)
    x = net.ops.asarray(small_pictures())
    said = []
    handler = logging.Handler()
    handler.emit = said.append
    logger = logging.getLogger("tensorflow")
    logger.addHandler(handler)
    try:
        for tap in [layer.name for layer in net.layers()] * 2:
            net.forward(x, taps=[tap])
            net.forward(x[:1], taps=[tap])
            net.gradient(lambda acts, tap=tap: net.ops.sum(acts[tap]), x, taps=[tap])
    finally:
        logger.removeHandler(handler)
    assert [record.getMessage() for record in said] == []
