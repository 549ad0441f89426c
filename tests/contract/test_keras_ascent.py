"""Gradient ascent in Keras: every way to write a ReLU, generators, outputs."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from nets.keras_small import DTYPE, functional, numbers, settle, snapshot

import cnnviz
from cnnviz import objectives
from cnnviz.adapter import INPUT, OUTPUT
from cnnviz.ascent.canvas import GeneratorCanvas
from cnnviz.errors import ChannelOutOfRange, CnnvizError, UnsupportedModel
from cnnviz.testing import SMALL_PREPROCESSING, small_pictures

L = keras.layers
QUICK = {"recipe": cnnviz.Recipe(), "steps": 6, "size": 10}


class Applied(L.Layer):
    """A function as a layer, called in plain Python."""

    def __init__(self, function):
        super().__init__(name="act", dtype=DTYPE)
        self.function = function

    def call(self, x):
        return self.function(x)


class Acting(keras.Model):
    """A convolution, whatever stands for a ReLU, and a mean."""

    def __init__(self, act):
        super().__init__(name="acting", dtype=DTYPE)
        self.conv = L.Conv2D(4, 3, name="conv", dtype=DTYPE)
        self.act = act
        self.gap = L.GlobalAveragePooling2D(name="gap", dtype=DTYPE)

    def call(self, x):
        return self.gap(self.act(self.conv(x)))


def graph(act):
    x = keras.Input((10, 10, 3), dtype=DTYPE)
    y = act(L.Conv2D(4, 3, name="conv", dtype=DTYPE)(x))
    return keras.Model(x, L.GlobalAveragePooling2D(name="gap", dtype=DTYPE)(y), name="acting")


RELUS = {
    "ReLU": lambda: graph(L.ReLU(name="act", dtype=DTYPE)),
    "ReLU-6": lambda: graph(L.ReLU(max_value=6, name="act", dtype=DTYPE)),
    "Activation": lambda: graph(L.Activation("relu", name="act", dtype=DTYPE)),
    "Activation-6": lambda: graph(L.Activation("relu6", name="act", dtype=DTYPE)),
    "ops": lambda: graph(keras.ops.relu),
    "ops-6": lambda: graph(keras.ops.relu6),
    "activations": lambda: Acting(Applied(keras.activations.relu)),
    "activations-6": lambda: Acting(Applied(keras.activations.relu6)),
    "subclassed-ops": lambda: Acting(Applied(keras.ops.relu)),
    "subclassed-layer": lambda: Acting(L.ReLU(max_value=6.0, name="act", dtype=DTYPE)),
}


def adapted(model, bias):
    model(np.zeros((1, 10, 10, 3)))
    kernel, shift = (v for v in model.weights if v.path.split("/")[-2] == "conv")
    # Several places depend on each pixel with one sign, so that nothing cancels.
    kernel.assign(np.abs(np.random.default_rng(0).normal(0, 0.3, kernel.shape)))
    shift.assign(np.full(4, bias))
    return cnnviz.adapt(model, SMALL_PREPROCESSING)


def slopes(model, bias, sign=1.0, conv="conv"):
    """Give the gradient of a unit, plain and redirected, and that of its convolution."""
    net = adapted(model, bias)
    net.layers()
    before, found = snapshot(model), []
    x = net.ops.asarray(small_pictures(1))
    for rule in ("plain", "redirected"):
        seen = net.gradient(lambda acts: sign * acts[OUTPUT][:, 1], x, taps=[OUTPUT], relu=rule)
        found.append([net.ops.to_numpy(one) for one in (seen.gradients[INPUT], seen.value)])
    assert snapshot(model) == before
    np.testing.assert_array_equal(found[0][1], found[1][1])

    def linear(acts):
        return sign * net.ops.mean(acts[conv], axis=(1, 2))[:, 1]

    slope = net.gradient(linear, x, taps=[conv]).gradients[INPUT]
    return found[0][0], found[1][0], net.ops.to_numpy(slope)


@pytest.mark.parametrize("name", RELUS)
def test_every_relu_is_redirected(name):
    plain, other, conv = slopes(RELUS[name](), -50.0)
    assert not plain.any()
    np.testing.assert_allclose(other, conv, rtol=1e-12)
    # What would sink further is left alone.
    assert not slopes(RELUS[name](), -50.0, -1.0)[1].any()
    plain, other, conv = slopes(RELUS[name](), 50.0, -1.0)
    if "6" in name or name == "subclassed-layer":
        assert not plain.any()
        np.testing.assert_allclose(other, conv, rtol=1e-12)
    else:
        np.testing.assert_allclose(plain, conv, rtol=1e-12)
        np.testing.assert_array_equal(other, plain)


def test_a_relu_within_a_convolution_is_redirected():
    x = keras.Input((10, 10, 3), dtype=DTYPE)
    y = L.Conv2D(4, 3, activation="relu", name="conv", dtype=DTYPE)(x)
    model = keras.Model(x, L.GlobalAveragePooling2D(name="gap", dtype=DTYPE)(y), name="acting")
    plain, other, _ = slopes(model, -50.0)
    assert not plain.any()
    _, _, conv = slopes(graph(L.ReLU(name="act", dtype=DTYPE)), -50.0)
    np.testing.assert_allclose(other, conv, rtol=1e-12)


@pytest.mark.parametrize(
    "make",
    [
        lambda: graph(L.LeakyReLU(name="act", dtype=DTYPE)),
        lambda: graph(L.Activation("elu", name="act", dtype=DTYPE)),
        lambda: graph(L.Activation("hard_sigmoid", name="act", dtype=DTYPE)),
    ],
    ids=["leaky", "elu", "hard-sigmoid"],
)
def test_what_is_no_relu_is_left_alone(make):
    plain, other, _ = slopes(make(), -50.0)
    np.testing.assert_array_equal(other, plain)


def painter():
    """Make a generator with what training would change: dropout and running statistics."""
    keras.utils.set_random_seed(1)
    code = keras.Input((6,), dtype=DTYPE)
    x = L.Dense(5 * 5 * 8, dtype=DTYPE)(code)
    x = L.Reshape((5, 5, 8), dtype=DTYPE)(x)
    x = L.Dropout(0.5, dtype=DTYPE)(L.BatchNormalization(dtype=DTYPE)(x))
    x = L.UpSampling2D(2, dtype=DTYPE)(x)
    x = L.Conv2D(3, 3, padding="same", activation="tanh", dtype=DTYPE)(x)
    return keras.Model(code, x, name="painter")


def test_a_generator_paints_and_is_left_as_it_was():
    net, model = cnnviz.adapt(settle(functional()), SMALL_PREPROCESSING), painter()
    before = snapshot(model)
    canvas = GeneratorCanvas(model, (6,), low=-1.0, high=1.0)
    made = cnnviz.ascend(net, ["fc:1", "conv2:2"], canvas=canvas, **QUICK)
    again = cnnviz.ascend(net, ["fc:1", "conv2:2"], canvas=canvas, **QUICK)
    assert (made.trace[-1] > made.trace[0]).all()
    assert made.images.shape == (2, 10, 10, 3)
    np.testing.assert_array_equal(again.images, made.images)
    assert snapshot(model) == before
    # As the generator itself paints in evaluation.
    bound, code = canvas.bound(net), np.random.default_rng(0).normal(0, 1, (2, 6))
    native = net.ops.asarray(code)
    picture = net.ops.to_numpy(bound.to_picture(net.ops, native, (10, 10, 3)))
    wanted = net.ops.to_numpy(model(native, training=False)) / 2 + 0.5
    np.testing.assert_allclose(picture, wanted, rtol=1e-12)
    with pytest.raises(UnsupportedModel, match=r"keras\.Model, not a builtin"):
        cnnviz.ascend(net, "fc:1", canvas=GeneratorCanvas(repr, (6,)), **QUICK)


class Faces(keras.Model):
    """What it returns is a dictionary or a list."""

    def __init__(self, kind):
        super().__init__(name="faces", dtype=DTYPE)
        keras.utils.set_random_seed(2)
        self.kind = kind
        self.conv = L.Conv2D(6, 3, activation="tanh", name="conv", dtype=DTYPE)
        self.gap = L.GlobalAveragePooling2D(name="gap", dtype=DTYPE)
        self.smile = L.Dense(2, activation="sigmoid", name="smile", dtype=DTYPE)
        self.age = L.Dense(3, name="age", dtype=DTYPE)

    def call(self, x):
        x = self.gap(self.conv(x))
        smile, age = self.smile(x), self.age(x)
        if self.kind == "dict":
            return {"smile": smile, "age": age}
        return [smile, age] if self.kind == "list" else {"both": [smile, {"age": age}]}


def functional_faces(kind):
    keras.utils.set_random_seed(2)
    x = keras.Input((10, 10, 3), dtype=DTYPE)
    y = L.Conv2D(6, 3, activation="tanh", name="conv", dtype=DTYPE)(x)
    y = L.GlobalAveragePooling2D(name="gap", dtype=DTYPE)(y)
    smile = L.Dense(2, activation="sigmoid", name="smile", dtype=DTYPE)(y)
    age = L.Dense(3, name="age", dtype=DTYPE)(y)
    outputs = {"smile": smile, "age": age} if kind == "dict" else [smile, age]
    return keras.Model(x, outputs, name="faces")


@pytest.mark.parametrize("make", [Faces, functional_faces], ids=["subclassed", "functional"])
@pytest.mark.parametrize(
    ("kind", "smile", "age"),
    [("dict", "smile", "age"), ("list", 0, 1), ("nested", "both][0", "both][1][age")],
)
def test_any_output_can_be_asked_for(make, kind, smile, age):
    if kind == "nested":
        make = Faces
    model = make(kind)
    model(np.zeros((1, 10, 10, 3)))
    net = cnnviz.adapt(model, SMALL_PREPROCESSING)
    asked = [objectives.attribute(smile, 1), objectives.attribute(age, 2)]
    made = cnnviz.ascend(net, asked, **QUICK)
    assert (made.trace[-1] > made.trace[0]).all()
    gap = net.ops.to_numpy(net.forward(net.ops.asarray(made.images), taps=["gap"])["gap"])
    heads = {v.path.split("/")[-2] + "/" + v.name: numbers(v) for v in model.weights}
    smiles = gap @ heads["smile/kernel"] + heads["smile/bias"]
    ages = gap @ heads["age/kernel"] + heads["age/bias"]
    wanted = (1 / (1 + np.exp(-smiles[0, 1])), ages[1, 2])
    np.testing.assert_allclose(made.clean, wanted, rtol=1e-9)
    with pytest.raises(ChannelOutOfRange, match=r"0\.\.2"):
        cnnviz.ascend(net, objectives.attribute(age, 3), **QUICK)
    with pytest.raises(CnnvizError) as caught:
        cnnviz.ascend(net, objectives.attribute("hair", 0), **QUICK)
    assert "\n" not in str(caught.value)
