"""Settings, what goes into layers, and copies in float64, in Keras."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras.src.backend.common import dtypes
from nets.keras_small import DTYPE, Subclassed, called, functional, settle, snapshot

import cnnviz
from cnnviz.adapter import INPUT, LOGITS
from cnnviz.comparison.settings import FAMILIES
from cnnviz.errors import InvalidImage, InvalidOption, UnknownLayer, UnsupportedModel
from cnnviz.testing import SMALL_PREPROCESSING, OracleAdapter, small_pictures

L = keras.layers
ENGINE = keras.backend.backend()
ROOT = Path(__file__).parents[2]


def pictures(count=2, sides=(8, 8)):
    return np.random.default_rng(0).uniform(0, 1, (count, *sides, 3))


def assert_close(actual, wanted):
    assert actual.shape == wanted.shape
    assert np.abs(actual - wanted).max() <= 1e-12 * np.abs(wanted).max()


def convolution(strides=(1, 1), dilation=(1, 1), groups=1, padding=((0, 0), (0, 0)), act="linear"):
    return {
        "family": "convolution",
        "strides": strides,
        "dilation": dilation,
        "groups": groups,
        "padding": padding,
        "mode": "zeros",
        "activation": (act,),
        "dtype": DTYPE,
    }


def pool(family, window, strides, padding=((0, 0), (0, 0)), **more):
    told = {"window": window, "strides": strides, "padding": padding, "ceil": False}
    return {"family": family, **told, **more}


def weighted(family, **told):
    return {"family": family, **told, "dtype": DTYPE}


def activation(*told):
    return {"family": "activation", "activation": told}


class Own(L.Conv2D):
    """Of the user's, and still a convolution."""


class Doubled(L.Layer):
    """Of no family."""

    def call(self, x):
        return x * 2


SETTINGS = {
    "conv": (lambda: L.Conv2D(4, 3), convolution()),
    "strided": (
        lambda: L.Conv2D(4, 3, (2, 1), padding="same", activation="relu"),
        convolution((2, 1), padding="same", act="relu"),
    ),
    "grouped": (lambda: L.Conv2D(4, 3, groups=2), convolution(groups=2)),
    "dilated": (lambda: L.Conv2D(4, 3, dilation_rate=(2, 1)), convolution(dilation=(2, 1))),
    "depthwise": (
        lambda: L.DepthwiseConv2D(3, depth_multiplier=2, padding="same"),
        convolution(groups=4, padding="same"),
    ),
    "subclass": (lambda: Own(4, 3), convolution()),
    "transposed": (
        lambda: L.Conv2DTranspose(4, 3, 2, padding="same"),
        {**convolution((2, 2), padding="same"), "family": "transposed convolution"},
    ),
    "dense": (
        lambda: L.Dense(4, activation="relu"),
        weighted("dense", activation=("relu",)),
    ),
    "dense by a name of old": (
        lambda: L.Dense(4, activation="swish"),
        weighted("dense", activation=("silu",)),
    ),
    "bn": (
        lambda: L.BatchNormalization(epsilon=2e-3, momentum=0.97),
        weighted("batch norm", eps=2e-3, momentum=0.03, statistics="running"),
    ),
    "ln": (lambda: L.LayerNormalization(epsilon=1e-6), weighted("layer norm", eps=1e-6)),
    "gn": (
        lambda: L.GroupNormalization(2, epsilon=1e-4),
        weighted("group norm", eps=1e-4, groups=2),
    ),
    "instance norm": (
        lambda: L.GroupNormalization(-1),
        weighted("group norm", eps=1e-3, groups=4),
    ),
    "max pool": (
        lambda: L.MaxPooling2D((3, 2), 2, padding="same"),
        pool("max pool", (3, 2), (2, 2), "same", dilation=(1, 1)),
    ),
    "mean pool": (
        lambda: L.AveragePooling2D(2),
        pool("average pool", (2, 2), (2, 2), count_padding=False),
    ),
    "global": (lambda: L.GlobalAveragePooling2D(), {"family": "global average pool"}),
    "relu": (lambda: L.ReLU(), activation("relu")),
    "relu6": (lambda: L.ReLU(max_value=6), activation("relu6")),
    "relu by a limit": (lambda: L.ReLU(max_value=1.5), activation("relu to", 1.5)),
    "relu from": (lambda: L.ReLU(threshold=0.5), activation("relu from", 0.5)),
    "relu that leaks up to a limit": (
        lambda: L.ReLU(max_value=6, negative_slope=0.1),
        activation("relu of slope, top and threshold", 0.1, 6.0, 0.0),
    ),
    "relu that leaks below a threshold": (
        lambda: L.ReLU(negative_slope=0.1, threshold=0.5),
        activation("relu of slope, top and threshold", 0.1, float("inf"), 0.5),
    ),
    "relu that leaks": (lambda: L.ReLU(negative_slope=0.1), activation("leaky relu", 0.1)),
    "leaky": (lambda: L.LeakyReLU(negative_slope=0.25), activation("leaky relu", 0.25)),
    "leaky by name": (lambda: L.Activation("leaky_relu"), activation("leaky relu", 0.2)),
    "elu": (lambda: L.ELU(alpha=0.5), activation("elu", 0.5)),
    "elu by name": (lambda: L.Activation("elu"), activation("elu", 1.0)),
    "gelu": (lambda: L.Activation("gelu"), activation("gelu")),
    "relu6 by name": (lambda: L.Activation("relu6"), activation("relu6")),
    "hard silu": (lambda: L.Activation("hard_swish"), activation("hard silu")),
    "hard sigmoid": (lambda: L.Activation("hard_sigmoid"), activation("hard sigmoid")),
    "prelu": (lambda: L.PReLU(), {**activation("prelu"), "dtype": DTYPE}),
    "softmax": (lambda: L.Softmax(), activation("softmax")),
    "softmax by name": (lambda: L.Activation("softmax"), activation("softmax")),
    "dropout": (lambda: L.Dropout(0.3), {"family": "dropout", "rate": 0.3}),
    "dropout of maps": (lambda: L.SpatialDropout2D(0.2), {"family": "dropout", "rate": 0.2}),
    "flatten": (lambda: L.Flatten(), {"family": "flatten"}),
    "identity": (lambda: L.Identity(), {"family": "identity"}),
    "padding": (
        lambda: L.ZeroPadding2D(((0, 1), (2, 3))),
        {"family": "padding", "padding": ((0, 1), (2, 3)), "mode": "zeros"},
    ),
    "upsampling": (
        lambda: L.UpSampling2D(2, interpolation="bilinear"),
        {"family": "resize", "interpolation": "bilinear", "antialias": False},
    ),
    "resizing": (
        lambda: L.Resizing(6, 6, interpolation="bicubic", antialias=True),
        {"family": "resize", "interpolation": "bicubic", "antialias": True},
    ),
    "unheard": (lambda: Doubled(), {}),
}


def named(make, name):
    """Make a layer in float64 under a name."""
    config = make().get_config()
    layer = type(make()).from_config({**config, "name": name, "dtype": DTYPE})
    assert layer.compute_dtype == DTYPE
    return layer


def test_settings_of_every_family():
    x = keras.Input((8, 8, 4), dtype=DTYPE)
    parts = [named(make, f"part{i}") for i, (make, _) in enumerate(SETTINGS.values())]
    outputs = [part(x) for part in parts]
    y = L.Add(name="sum", dtype=DTYPE)([x, outputs[list(SETTINGS).index("relu")]])
    outputs += [y, L.Concatenate(name="joined", dtype=DTYPE)([x, y])]
    net = cnnviz.adapt(keras.Model(x, outputs), "identity", output=0)
    for i, (name, (_, wanted)) in enumerate(SETTINGS.items()):
        found = dict(net.settings(f"part{i}"))
        assert found == wanted, name
        assert all(type(found[k]) is type(wanted[k]) for k in wanted), name
        assert found.get("family", "flatten") in FAMILIES
    assert net.settings("sum") == {"family": "add"}
    assert net.settings("joined") == {"family": "concatenate"}


def test_a_layer_norm_by_the_variance_alone_is_none():
    x = keras.Input((8, 8, 4), dtype=DTYPE)
    # It warns where it is made and where it is built again.
    with pytest.warns(UserWarning, match="rms_scaling=True"):
        told = settings_of_norm(x)
    assert told == {}


def settings_of_norm(x):
    layer = L.LayerNormalization(rms_scaling=True, name="norm", dtype=DTYPE)
    return cnnviz.adapt(keras.Model(x, layer(x)), "identity").settings("norm")


def test_settings_of_signals():
    x = keras.Input((20, 4), dtype=DTYPE)
    y = L.Conv1D(5, 3, padding="causal", dilation_rate=2, name="causal", dtype=DTYPE)(x)
    y = L.ZeroPadding1D((1, 2), name="pad", dtype=DTYPE)(y)
    y = L.MaxPooling1D(2, name="pool", dtype=DTYPE)(y)
    net = cnnviz.adapt(keras.Model(x, y), "identity")
    assert net.settings("causal")["padding"] == ((4, 0),)
    assert net.settings("causal")["dilation"] == (2,)
    assert net.settings("pad")["padding"] == ((1, 2),)
    assert net.settings("pool")["window"] == (2,)


class Scaled(L.Layer):
    def call(self, x, factor=1.0):
        return x * factor


class Both(L.Layer):
    def call(self, x, y):
        return x + y


@pytest.mark.parametrize("form", ["functional", "subclassed"])
def test_what_goes_into_layers(form):
    options = {"dtype": DTYPE}
    conv = L.Conv2D(4, 3, name="conv", **options)
    act = L.ReLU(name="act", **options)
    scaled = Scaled(name="scaled", **options)
    both = Both(name="both", **options)
    add = L.Add(name="add", **options)
    flatten, fc = L.Flatten(name="flatten", **options), L.Dense(5, name="fc", **options)

    def call(x):
        x = keras.ops.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=0.5)
        x = conv(x)
        y = act(x)
        z = scaled(factor=2.0, x=y) if form == "subclassed" else scaled(y, factor=2.0)
        y = add([both(y, z), x])
        return fc(flatten(y * 2))

    if form == "functional":
        x = keras.Input((8, 8, 3), **options)
        model = keras.Model(x, call(x))
    else:

        class Free(keras.Model):
            def __init__(self):
                super().__init__(**options)
                self.parts = [conv, act, scaled, both, add, flatten, fc]

            def call(self, x):
                return call(x)

        model = Free()
        model(np.zeros((1, 8, 8, 3)))
    net = cnnviz.adapt(model, "identity")
    x = net.ops.asarray(pictures())
    before = snapshot(model)
    names = ["conv", "act", "scaled", "both", "add", "flatten", "fc"]
    found = {k: net.ops.to_numpy(v) for k, v in net.entering(x, layers=names).items()}
    # What several tensors go into is left out.
    assert set(found) == {"conv", "act", "scaled", "flatten", "fc"}
    taps = ["conv", "act", "scaled", "add", "flatten"]
    whole = {k: net.ops.to_numpy(v) for k, v in net.forward(x, taps=taps).items()}
    padded = np.pad(pictures(), ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=0.5)
    assert_close(found["conv"], padded)
    assert_close(found["act"], whole["conv"])
    assert_close(found["scaled"], whole["act"])
    assert_close(found["flatten"], whole["add"] * 2)
    assert_close(found["fc"], whole["flatten"])
    for name in names:
        alone = net.entering(x, layers=[name])
        assert set(alone) == {name} & set(found)
    for name in ("conv", "act", "flatten"):
        assert_close(net.ops.to_numpy(net.apply(name, net.ops.asarray(found[name]))), whole[name])
    for layer in ("both", "add"):
        with pytest.raises(InvalidOption, match=f"'{layer}' does not take a tensor of 2 x") as told:
            net.apply(layer, net.ops.asarray(found["act"]))
        assert "\n" not in str(told.value)
    assert snapshot(model) == before


def graph(data_format="channels_last", dtype=DTYPE, policy=None):
    """Nested: a stem whose weights run twice, with a branch around it."""
    first = data_format == "channels_first"
    options = {"data_format": data_format, "dtype": policy or dtype}
    inner = keras.Input((4, 8, 8) if first else (8, 8, 4), dtype=dtype)
    y = L.Conv2D(4, 3, padding="same", name="conv", activation="tanh", **options)(inner)
    y = L.BatchNormalization(axis=1 if first else -1, name="bn", dtype=policy or dtype)(y)
    stem = keras.Model(inner, y, name="stem")
    x = keras.Input((3, 8, 8) if first else (8, 8, 3), dtype=dtype)
    y = L.Conv2D(4, 1, name="first", **options)(x)
    y = stem(stem(y) * 2)
    scores = L.Flatten(name="flatten", **options)(y)
    mean = L.GlobalAveragePooling2D(name="gap", **options)(y)
    a = L.Dense(5, name="a", dtype=policy or dtype)(scores)
    b = L.Dense(7, name="b", dtype=policy or dtype)(mean)
    return keras.Model(x, [a, b], name="graph")


FORMATS = ["channels_last"] + ["channels_first"] * (ENGINE != "tensorflow")


@pytest.mark.parametrize("data_format", FORMATS)
def test_what_goes_into_nested_layers_has_its_channels_last(data_format):
    model = graph(data_format)
    net = cnnviz.adapt(model, "identity", output="b")
    x = net.ops.asarray(pictures())
    before = snapshot(model)
    names = ["first", "stem/conv:0", "stem/conv:1", "stem/bn:1", "stem:1", "flatten", "gap", "b"]
    found = {k: net.ops.to_numpy(v) for k, v in net.entering(x, layers=names).items()}
    assert set(found) == set(names)
    taps = ["first", "stem:0", "stem:1", "stem/conv:0", "stem/conv:1", "stem/bn:1", "gap", "b"]
    whole = {k: net.ops.to_numpy(v) for k, v in net.forward(x, taps=taps).items()}
    assert whole["first"].shape == (2, 8, 8, 4)
    assert_close(found["first"], pictures())
    assert_close(found["stem/conv:0"], whole["first"])
    assert_close(found["stem/conv:1"], whole["stem:0"] * 2)
    assert_close(found["stem:1"], whole["stem:0"] * 2)
    assert_close(found["stem/bn:1"], whole["stem/conv:1"])
    assert_close(found["flatten"], whole["stem:1"])
    assert_close(found["gap"], whole["stem:1"])
    for name in ("first", "stem/conv:1", "stem/bn:1", "stem:1", "gap", "b"):
        given = net.ops.asarray(found[name])
        assert_close(net.ops.to_numpy(net.apply(name, given)), whole[name])
    # Also at another size than that of the Input.
    large = np.random.default_rng(1).normal(0, 1, (1, 12, 10, 4))
    conv = net.ops.to_numpy(net.apply("stem/conv:0", net.ops.asarray(large)))
    both = net.ops.to_numpy(net.apply("stem:0", net.ops.asarray(large)))
    assert_close(both, net.ops.to_numpy(net.apply("stem/bn:0", net.ops.asarray(conv))))
    assert snapshot(model) == before


def test_names_that_are_no_layer_have_no_settings_and_no_weights():
    net = cnnviz.adapt(settle(functional()), SMALL_PREPROCESSING)
    x = net.ops.asarray(small_pictures())
    for ask in (net.settings, net.weight_names, lambda name: net.apply(name, x)):
        for name in (INPUT, LOGITS, "nothing"):
            with pytest.raises(UnknownLayer):
                ask(name)


def test_an_error_in_the_network_leaves_nothing_behind():
    net = cnnviz.adapt(settle(functional()), SMALL_PREPROCESSING)
    net.layers()
    before, call = snapshot(net.model), L.Layer.__call__
    with pytest.raises(InvalidImage):
        net.entering(net.ops.asarray(pictures(sides=(2, 2))), layers=["conv1", "fc"])
    assert snapshot(net.model) == before
    assert L.Layer.__call__ is call
    x = net.ops.asarray(small_pictures())
    found = net.entering(x, layers=["fc"])["fc"]
    assert_close(
        net.ops.to_numpy(found), OracleAdapter().entering(small_pictures(), layers=["fc"])["fc"]
    )


def test_weights_of_shared_and_nested_layers_have_one_name():
    net = cnnviz.adapt(graph(), "identity", output="b")
    names = net.weight_names("stem/conv:1")
    assert set(names) == {"kernel", "bias"}
    assert names == net.weight_names("stem/conv:0")
    whole = net.weights()
    for name, full in names.items():
        assert np.array_equal(whole[full], net.weights("stem/conv:1")[name])
    assert len(net.weight_names("stem:0")) == 6
    assert net.weight_names("flatten") == {}


# Copies -------------------------------------------------------------------------------------


class Gain(L.Layer):
    """Of the user's, and registered nowhere."""

    def __init__(self, start=1.0, **options):
        super().__init__(**options)
        self.start = start

    def build(self, shape):
        self.gain = self.add_weight(shape=(shape[-1],), initializer="ones", name="gain")

    def call(self, x):
        return x * self.gain * self.start

    def get_config(self):
        return {**super().get_config(), "start": self.start}


class Unnamed(keras.Model):
    """Its layers have no dtype, and no names but those that Keras counts up."""

    def __init__(self, width=4, **options):
        super().__init__(**options)
        self.width = width
        inner = keras.Input((8, 8, 3))
        self.stem = keras.Model(inner, L.Conv2D(width, 3)(inner))
        self.norm = L.BatchNormalization()
        self.gap = L.GlobalAveragePooling2D()
        self.fc = L.Dense(5)

    def call(self, x, training=None):
        return self.fc(self.gap(self.norm(self.stem(x), training=training)))

    def get_config(self):
        return {**super().get_config(), "width": self.width}


class Closed(keras.Model):
    """Nobody can make it again: it takes what no configuration has."""

    def __init__(self, body):
        super().__init__()
        self.body = body

    def call(self, x):
        return self.body(x)


def single(dtype="float32"):
    x = keras.Input((8, 8, 3), dtype=dtype)
    y = L.Conv2D(4, 3, activation="relu", name="conv", dtype=dtype)(x)
    y = Gain(1.3, name="gain", dtype=dtype)(y)
    y = L.GlobalAveragePooling2D(name="gap", dtype=dtype)(y)
    return keras.Model(x, L.Dense(5, name="fc", dtype=dtype)(y), name="single")


def in_a_row():
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            L.Rescaling(2.0, offset=-1.0),
            L.Conv2D(4, 3, activation="gelu"),
            L.BatchNormalization(),
            L.Dropout(0.5),
            L.Flatten(),
            L.Dense(5),
        ]
    )


def deferred():
    """A Sequential that learnt its shape from the first pictures."""
    model = keras.Sequential([L.Conv2D(4, 3), L.Flatten(), L.Dense(5)])
    model(np.zeros((1, 8, 8, 3), "float32"))
    return model


def mixed_precision():
    return graph(dtype="float32", policy="mixed_float16")


def unnamed():
    model = Unnamed(3)
    model(np.zeros((1, 8, 8, 3), "float32"))
    return model


COPIED = {
    "functional with a layer of the user's": single,
    "sequential": in_a_row,
    "deferred": deferred,
    "nested, with several outputs": lambda: graph(dtype="float32"),
    "mixed precision": mixed_precision,
    "subclassed": unnamed,
}


def judge_copy(model, net):
    """Hold a copy to the names and numbers of the model, in float64, and to leave it alone."""
    rng = np.random.default_rng(0)
    for variable in model.weights:
        # Statistics and gains that are not all zeros or ones.
        shape = tuple(variable.shape)
        variable.assign(rng.uniform(0.5, 1.5, shape).astype("float32") * 0.3)
    floats, policy = keras.config.floatx(), keras.config.dtype_policy().name
    rule = dict(dtypes.BIT64_TO_BIT32_DTYPE)
    before, own = snapshot(model), net.weights()
    first = net.ops.to_numpy(net.forward(net.ops.asarray(pictures()), taps=[LOGITS])[LOGITS])
    with net.in_float64() as copied:
        assert keras.config.floatx() == floats
        assert keras.config.dtype_policy().name == policy
        assert [x.name for x in copied.layers()] == [x.name for x in net.layers()]
        x = copied.ops.asarray(pictures())
        assert keras.backend.standardize_dtype(x.dtype) == "float64"
        names = [layer.name for layer in net.layers()]
        found = copied.forward(x, taps=[*names, LOGITS])
        for tap, value in found.items():
            assert keras.backend.standardize_dtype(value.dtype) == "float64", tap
        for name, value in copied.weights().items():
            assert value.dtype == np.float64
            assert np.array_equal(value, np.float64(own[name])), name
        assert set(copied.weights()) == set(own)
        second = copied.ops.to_numpy(found[LOGITS])
        assert second.shape == first.shape
        worst = np.abs(second - first).max() / np.abs(second).max()
        half = any("float16" in layer.compute_dtype for layer in model._flatten_layers())
        assert worst < (2e-2 if half else 1e-5), "another network"
        assert worst > 1e-12, "the copy computes in no more digits than the model"
        for layer in names:
            if net.settings(layer).get("dtype"):
                assert copied.settings(layer)["dtype"] == "float64"
        copied.assign({name: value * 0 for name, value in copied.weights().items()})
        assert snapshot(model) == before, "the copy shares its weights"
    assert keras.config.floatx() == floats
    assert keras.config.dtype_policy().name == policy
    assert rule == dtypes.BIT64_TO_BIT32_DTYPE
    assert snapshot(model) == before
    again = net.ops.to_numpy(net.forward(net.ops.asarray(pictures()), taps=[LOGITS])[LOGITS])
    assert (again == first).all()
    return second


@pytest.mark.parametrize("make", COPIED.values(), ids=COPIED)
def test_copies_in_float64(make):
    model = make()
    output = "b" if model.name == "graph" else None
    judge_copy(model, cnnviz.adapt(model, "identity", output=output))


def test_a_copy_computes_what_numpy_does():
    model = single()
    net = cnnviz.adapt(model, "identity")
    found = judge_copy(model, net)
    w = {v.path: np.float64(net.weights()[v.path]) for v in model.weights}
    windows = np.lib.stride_tricks.sliding_window_view(pictures(), (3, 3), axis=(1, 2))
    y = np.einsum("nhwckl,klco->nhwo", windows, w["conv/kernel"]) + w["conv/bias"]
    y = np.maximum(y, 0) * w["gain/gain"] * 1.3
    assert_close(found, y.mean((1, 2)) @ w["fc/kernel"] + w["fc/bias"])


def test_a_copy_of_a_network_that_normalises_by_what_it_has_seen():
    x = keras.Input((8, 8, 3))
    norm = L.Normalization(name="norm")
    y = L.GlobalAveragePooling2D(name="gap")(norm(x))
    model = keras.Model(x, L.Dense(5, name="fc")(y))
    norm.adapt(np.float32(pictures(4) * 3 + 1))
    net = cnnviz.adapt(model, "identity")
    given = pictures()
    with net.in_float64() as copied:
        found = copied.ops.to_numpy(
            copied.forward(copied.ops.asarray(given), taps=["norm"])["norm"]
        )
        w = copied.weights("norm")
        assert_close(found, (given - w["mean"]) / np.sqrt(w["variance"]))
        assert w["mean"].min() > 1


def test_a_copy_of_the_small_networks_own_class():
    model = settle(called(Subclassed()))
    net = cnnviz.adapt(model, SMALL_PREPROCESSING)
    before = snapshot(model)
    taps = ["bn1", "relu:1", LOGITS]
    wanted = OracleAdapter().forward(small_pictures(), taps=taps)
    with net.in_float64() as copied:
        found = copied.forward(copied.ops.asarray(small_pictures()), taps=taps)
        for tap in taps:
            assert_close(copied.ops.to_numpy(found[tap]), wanted[tap])
    assert snapshot(model) == before


def test_what_cannot_be_made_again_is_said_in_a_line():
    model = Closed(single())
    model(np.zeros((1, 8, 8, 3), "float32"))
    net = cnnviz.adapt(model, "identity")
    before = snapshot(model)
    floats, policy = keras.config.floatx(), keras.config.dtype_policy().name
    with (
        pytest.raises(UnsupportedModel, match=r"cannot be copied to float64: \S") as told,
        net.in_float64(),
    ):
        pass
    assert "\n" not in str(told.value)
    assert snapshot(model) == before
    assert (keras.config.floatx(), keras.config.dtype_policy().name) == (floats, policy)


class InHalf(L.Layer):
    """Keeps its weights in float32 whatever it is told."""

    def build(self, shape):
        self.gain = self.add_weight(shape=(shape[-1],), dtype="float32", name="gain")

    def call(self, x):
        return x * keras.ops.cast(self.gain, x.dtype)


def test_a_copy_that_would_not_be_in_float64_is_refused():
    x = keras.Input((8, 8, 3))
    y = L.GlobalAveragePooling2D(name="gap")(InHalf(name="half")(x))
    net = cnnviz.adapt(keras.Model(x, y), "identity")
    with pytest.raises(UnsupportedModel, match=r"half/gain.*float32"), net.in_float64():
        pass


def test_a_copy_keeps_what_the_adapter_was_told():
    net = cnnviz.adapt(graph(dtype="float32"), "tf", output="b")
    net.labels = list("abcdefg")
    with net.in_float64() as copied:
        assert copied.labels == net.labels
        assert copied.preprocessing == net.preprocessing
        copied.layers()
        assert copied.classes == 7


ALONE = """
import numpy as np, keras, cnnviz, sys
from cnnviz.adapter import LOGITS
from keras.src.backend.common import dtypes
L = keras.layers
wide = lambda: sys.modules["jax"].config.jax_enable_x64 if "jax" in sys.modules else None
x = keras.Input((8, 8, 3))
y = L.BatchNormalization(name="bn")(L.Conv2D(4, 3, name="conv")(x))
model = keras.Model(x, L.Dense(5, name="fc")(L.GlobalAveragePooling2D(name="gap")(y)))
net = cnnviz.adapt(model, "identity")
given = np.random.default_rng(0).uniform(0, 1, (2, 8, 8, 3))
state = lambda: (wide(), dict(dtypes.BIT64_TO_BIT32_DTYPE), keras.config.floatx())
before = state()
assert not before[0]
with net.in_float64() as copied:
    found = copied.forward(copied.ops.asarray(given), taps=[LOGITS])[LOGITS]
    found = copied.ops.to_numpy(found)
    w = copied.weights()
assert state() == before
w = {k.rpartition("/")[0].rpartition("/")[2] + "." + k.rpartition("/")[2]: v for k, v in w.items()}
windows = np.lib.stride_tricks.sliding_window_view(given, (3, 3), axis=(1, 2))
y = np.einsum("nhwckl,klco->nhwo", windows, w["conv.kernel"]) + w["conv.bias"]
y = (y - w["bn.moving_mean"]) / np.sqrt(w["bn.moving_variance"] + 1e-3) * w["bn.gamma"]
wanted = (y + w["bn.beta"]).mean((1, 2)) @ w["fc.kernel"] + w["fc.bias"]
assert found.dtype == np.float64
assert np.abs(found - wanted).max() < 1e-12 * np.abs(wanted).max(), np.abs(found - wanted).max()
plain = net.ops.to_numpy(net.forward(net.ops.asarray(given), taps=[LOGITS])[LOGITS])
assert plain.dtype == np.float32
print("in float64")
"""


def test_a_copy_computes_in_float64_where_nothing_else_does():
    """In a process of its own: this one was told to keep float64 from the start."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "backends")])
    ran = subprocess.run(
        [sys.executable, "-c", ALONE],
        env={**os.environ, "PYTHONPATH": path, "KERAS_BACKEND": ENGINE},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert ran.stdout.splitlines()[-1] == "in float64"
