"""Runs that go on with other activations, other derivatives and other weights, in Keras."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras.src.ops.operation import Operation
from nets import keras_structures
from nets.keras_small import DTYPE, functional, numbers, settle, snapshot

import cnnviz
from cnnviz.adapter import INPUT, LOGITS, OUTPUT
from cnnviz.errors import InvalidImage, InvalidOption, TapNotReached
from cnnviz.testing import SMALL_PREPROCESSING, OracleAdapter, small_pictures

L = keras.layers
ENGINE = keras.backend.backend()
IDENTITY = "identity"


def conv(filters, name, size=3, **options):
    return L.Conv2D(filters, size, padding="same", name=name, **{"dtype": DTYPE, **options})


def graph(data_format="channels_last", shape=(10, 8, 3)):
    """Skip connections of every kind: added, joined, gated, and by operations that are no layer."""
    first = data_format == "channels_first"
    options = {"data_format": data_format}
    x = keras.Input((shape[-1], *shape[:-1]) if first else shape, dtype=DTYPE)
    axis = 1 if first else -1
    a = conv(4, "a", **options)(x)
    b = conv(4, "b", activation="tanh", **options)(a)
    c = L.Add(name="add", dtype=DTYPE)([a, b])
    d = conv(3, "d", **options)(c)
    e = L.Concatenate(axis=axis, name="joined", dtype=DTYPE)([c, d])
    f = keras.ops.concatenate([a * 0.5, e], axis=axis)
    shared = conv(11, "shared", activation="tanh", **options)
    f = shared(shared(f))
    gate = L.GlobalAveragePooling2D(keepdims=True, name="mean", dtype=DTYPE, **options)(f)
    gate = conv(11, "gate", 1, activation="sigmoid", **options)(gate)
    g = L.Multiply(name="gated", dtype=DTYPE)([f, gate])
    g = L.GlobalAveragePooling2D(name="gap", dtype=DTYPE, **options)(g)
    return keras.Model(x, L.Dense(5, name="fc", dtype=DTYPE, activation="softmax")(g), name="graph")


def siamese():
    """A model within a model that is called twice, the second time on what the first gave."""
    inner = keras.Input((10, 8, 3), dtype=DTYPE)
    y = conv(3, "one", activation="tanh")(inner)
    y = conv(3, "two")(y)
    block = keras.Model(inner, L.Add(name="sum", dtype=DTYPE)([inner, y]), name="block")
    x = keras.Input((10, 8, 3), dtype=DTYPE)
    y = block(block(x))
    y = L.Concatenate(name="joined", dtype=DTYPE)([x, y])
    y = L.GlobalAveragePooling2D(name="gap", dtype=DTYPE)(y)
    return keras.Model(x, L.Dense(5, name="fc", dtype=DTYPE)(y), name="siamese")


class Free(keras.Model):
    """Subclassed; much of it is in no layer, and looks at the size of its batch."""

    def __init__(self):
        super().__init__(name="free", dtype=DTYPE)
        self.a = conv(4, "a")
        self.halves = keras_structures.Halves(name="halves")
        self.b = conv(4, "b")
        self.gap = L.GlobalAveragePooling2D(name="gap", dtype=DTYPE)
        self.fc = L.Dense(5, name="fc", dtype=DTYPE)

    def call(self, x):
        count = keras.ops.shape(x)[0]
        low, high = self.halves(self.a(x) + 0.1)
        y = keras.ops.tanh(self.b(low * keras.ops.sigmoid(high)))
        y = keras.ops.concatenate([y, keras.ops.relu(x), high], -1)
        scores = self.fc(self.gap(y))
        return keras.ops.softmax(keras.ops.reshape(scores, (count, -1)))


def free():
    model = Free()
    model(np.zeros((1, 10, 8, 3)))
    return model


NETS = {"graph": graph, "siamese": siamese, "free": free}
if ENGINE != "tensorflow":
    # TensorFlow has no such convolution on a processor.
    NETS["channels-first"] = lambda: graph("channels_first")


def drawn(make):
    keras.utils.set_random_seed(3)
    return make()


def pictures(count=1, sides=(10, 8), seed=0):
    return np.random.default_rng(seed).uniform(0, 1, (count, *sides, 3))


def found_by(model, address):
    for name in address.split("/"):
        parts = model._flatten_layers(include_self=False, recursive=False)
        model = next(part for part in parts if part.name == name)
    return model


def judged(model, layer, x, given):
    """Run Keras itself on copies of a picture, with what one call of a layer gives replaced."""
    owner, calls = found_by(model, layer.address), []
    own = owner.call
    turned = getattr(model.layers[1], "data_format", None) == "channels_first"

    def call(*args, **kwargs):
        calls.append(layer.address)
        value = own(*args, **kwargs)
        if len(calls) - 1 != layer.call:
            return value
        new = np.moveaxis(given, -1, 1) if turned and given.ndim == 4 else given
        new = keras.ops.convert_to_tensor(new, dtype=DTYPE)
        if layer.part:
            return tuple(new if f"[{i}]" == layer.part else v for i, v in enumerate(value))
        return new

    fed = np.repeat(x, len(given), axis=0)
    object.__setattr__(owner, "call", call)
    try:
        return numbers(Held(model(np.moveaxis(fed, -1, 1) if turned else fed)))
    finally:
        object.__delattr__(owner, "call")


class Held:
    """A tensor where a variable is looked for."""

    def __init__(self, value):
        self.value = value


@pytest.mark.parametrize("name", NETS)
def test_a_run_goes_on_from_every_layer(name):
    model = drawn(NETS[name])
    net = cnnviz.adapt(model, IDENTITY)
    x = pictures()
    before = snapshot(model)
    rng = np.random.default_rng(1)
    plain = net.ops.to_numpy(net.forward(net.ops.asarray(x), taps=[OUTPUT])[OUTPUT])
    layers = [layer for layer in net.layers() if layer.output_shape and layer.kind != "InputLayer"]
    assert len(layers) > 6
    if ENGINE == "jax":
        # Every layer is two traces.
        layers = layers[::2]
    changed = 0
    for layer in layers:
        own = net.ops.to_numpy(net.forward(net.ops.asarray(x), taps=[layer.name])[layer.name])
        go_on = net.resume(net.ops.asarray(x), at=layer.name, taps=[OUTPUT, layer.name])
        given = own * rng.normal(1, 0.4, (3, *own.shape[1:]))
        found = go_on(net.ops.asarray(given))
        np.testing.assert_array_equal(net.ops.to_numpy(found[layer.name]), given)
        output = net.ops.to_numpy(found[OUTPUT])
        wanted = judged(model, layer, x, given)
        np.testing.assert_allclose(output, wanted, rtol=1e-11, err_msg=layer.name)
        changed += np.abs(output - plain).max() > 1e-6
        same = net.ops.to_numpy(go_on(net.ops.asarray(own))[OUTPUT])
        np.testing.assert_allclose(same, plain, rtol=1e-12, err_msg=layer.name)
    assert changed > 0.8 * len(layers)
    assert snapshot(model) == before


@pytest.mark.parametrize("at", [LOGITS, OUTPUT, INPUT])
def test_a_run_goes_on_from_where_no_layer_is(at):
    for make in (graph, free):
        net = cnnviz.adapt(drawn(make), IDENTITY)
        x = net.ops.asarray(pictures())
        own = net.ops.to_numpy(net.forward(x, taps=[at])[at])
        given = own * np.random.default_rng(0).uniform(0.5, 1, (3, *own.shape[1:]))
        output = net.resume(x, at=at, taps=[OUTPUT])(net.ops.asarray(given))[OUTPUT]
        if at == LOGITS:
            wanted = np.exp(given) / np.exp(given).sum(1, keepdims=True)
        elif at == OUTPUT:
            wanted = given
        else:
            wanted = net.ops.to_numpy(net.forward(net.ops.asarray(given), taps=[OUTPUT])[OUTPUT])
        np.testing.assert_allclose(net.ops.to_numpy(output), wanted, rtol=1e-12)


def counted(model):
    ran = []
    for layer in model.layers:
        original = layer.call

        def call(*args, original=original, name=layer.name, **kwargs):
            ran.append(name)
            return original(*args, **kwargs)

        object.__setattr__(layer, "call", call)
    return ran


def test_nothing_before_is_run_again_and_one_trace_serves_all_pictures():
    model = drawn(graph)
    net = cnnviz.adapt(model, IDENTITY)
    net.layers()
    ran = counted(model)
    rest = ["joined", "shared", "shared", "mean", "gate", "gated", "gap", "fc"]
    own, outputs = [], []
    for i in range(3):
        x = net.ops.asarray(pictures(seed=i))
        plain = net.forward(x, taps=["d", OUTPUT])
        own.append(net.ops.to_numpy(plain["d"]))
        ran.clear()
        go_on = net.resume(x, at="d", taps=[OUTPUT])
        assert ran == (["a", "b", "add", "d"] if not i or not net.compiled else [])
        for k in range(2):
            ran.clear()
            given = np.concatenate([own[-1], own[0]])
            found = net.ops.to_numpy(go_on(net.ops.asarray(given))[OUTPUT])
            assert ran == (rest if not (i or k) or not net.compiled else [])
        np.testing.assert_allclose(found[:1], net.ops.to_numpy(plain[OUTPUT]), rtol=1e-12)
        outputs.append(found[1])
    assert np.abs(outputs[0] - outputs[1]).max() > 1e-6
    ran.clear()
    go_on = net.resume(x, at="d", taps=["gated"])
    go_on(net.ops.asarray(own[0]))
    assert "gap" not in ran


def test_activations_and_taps_that_do_not_fit():
    net = cnnviz.adapt(drawn(graph), IDENTITY)
    x = net.ops.asarray(pictures())
    go_on = net.resume(x, at="d", taps=[OUTPUT])
    for shape in ((2, 10, 8, 4), (2, 8, 10, 3), (2, 240), ()):
        with pytest.raises(InvalidOption, match="'d' gives 1 x 10 x 8 x 3 for one picture"):
            go_on(net.ops.asarray(np.zeros(shape)))
    for tap in ("a", "add", INPUT):
        with pytest.raises(TapNotReached, match="comes before 'd'"):
            net.resume(x, at="d", taps=[OUTPUT, tap])


class One(L.Layer):
    """Takes one picture and no more."""

    def call(self, x):
        if x.shape[0] not in (None, 1):
            raise ValueError("one at a time")
        return x * 2.0

    def compute_output_spec(self, x):
        return keras.KerasTensor(x.shape, x.dtype)


def test_an_error_in_the_middle_leaves_no_trace():
    x = keras.Input((10, 8, 3), dtype=DTYPE)
    y = One(name="one", dtype=DTYPE)(conv(4, "a")(x))
    y = L.GlobalAveragePooling2D(name="gap", dtype=DTYPE)(y)
    model = keras.Model(x, L.Dense(2, name="fc", dtype=DTYPE)(y), name="picky")
    net = cnnviz.adapt(model, IDENTITY)
    given = net.ops.asarray(pictures())
    go_on = net.resume(given, at="a", taps=[LOGITS])
    before, around = snapshot(model), (L.Layer.__call__, Operation.__call__)
    own = net.ops.to_numpy(net.forward(given, taps=["a"])["a"])
    with pytest.raises(InvalidImage, match=r"picky does not go on from 3 activations at 'a'.*one"):
        go_on(net.ops.asarray(np.repeat(own, 3, axis=0)))
    assert snapshot(model) == before
    assert (L.Layer.__call__, Operation.__call__) == around
    plain = net.ops.to_numpy(net.forward(given, taps=[LOGITS])[LOGITS])
    again = net.ops.to_numpy(go_on(net.ops.asarray(own))[LOGITS])
    np.testing.assert_allclose(again, plain, rtol=1e-12)


def test_other_inputs_are_repeated():
    model = drawn(keras_structures.two_inputs)
    net = cnnviz.adapt(model, IDENTITY, other_inputs={"facts": np.arange(4.0)})
    x = pictures(sides=(8, 8))
    own = net.ops.to_numpy(net.forward(net.ops.asarray(x), taps=["conv"])["conv"])
    given = own * np.array([1.0, 2.0, 3.0]).reshape(3, 1, 1, 1)
    found = net.resume(net.ops.asarray(x), at="conv", taps=[OUTPUT])(net.ops.asarray(given))
    mean = given.mean((1, 2))
    layer = model.get_layer("fc")
    facts = np.repeat(np.arange(4.0)[None], 3, axis=0)
    wanted = np.concatenate([mean, facts], 1) @ numbers(layer.kernel) + numbers(layer.bias)
    np.testing.assert_allclose(net.ops.to_numpy(found[OUTPUT]), wanted, rtol=1e-11)


def test_tokens_go_on():
    net = cnnviz.adapt(drawn(keras_structures.transformer), IDENTITY)
    x = net.ops.asarray(pictures(sides=(24, 40)))
    plain = net.ops.to_numpy(net.forward(x, taps=[LOGITS])[LOGITS])
    for at in ("class_token", "norm", "attention", "mlp"):
        own = net.ops.to_numpy(net.forward(x, taps=[at])[at])
        given = np.concatenate([own, own * 1.5])
        found = net.ops.to_numpy(
            net.resume(x, at=at, taps=[LOGITS])(net.ops.asarray(given))[LOGITS]
        )
        np.testing.assert_allclose(found[:1], plain, rtol=1e-10)
        assert np.abs(found[1] - plain[0]).max() > 1e-4


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
def test_short_floats_go_on(dtype):
    x = keras.Input((16, 16, 3))
    y = L.Conv2D(4, 3, name="conv", dtype=dtype)(x)
    y = L.GlobalAveragePooling2D(dtype=dtype)(y)
    net = cnnviz.adapt(keras.Model(x, L.Dense(3, name="fc", dtype=dtype)(y)), IDENTITY)
    x = net.ops.asarray(pictures(sides=(16, 16)))
    plain = net.forward(x, taps=["conv", LOGITS])
    found = net.resume(x, at="conv", taps=[LOGITS, "conv"])(plain["conv"])
    for tap, value in found.items():
        np.testing.assert_array_equal(net.ops.to_numpy(value), net.ops.to_numpy(plain[tap]))


@pytest.mark.parametrize(
    ("name", "at"),
    [
        ("ResNet50", "conv3_block2_1_relu"),
        ("DenseNet121", "conv3_block4_1_conv"),
        ("MobileNetV2", "block_5_depthwise"),
    ],
)
def test_real_networks_go_on(name, at, monkeypatch):
    rng = np.random.default_rng(0)

    def draw(self, shape, dtype=None):
        # Keras draws by the engine, which takes JAX minutes.
        fan = max(np.prod(shape[:-1]), 1)
        value = rng.normal(0, (2 / fan) ** 0.5, shape).astype(dtype)
        return keras.ops.convert_to_tensor(value)

    monkeypatch.setattr(keras.initializers.VarianceScaling, "__call__", draw)
    model = getattr(keras.applications, name)(
        weights=None, input_shape=(64, 64, 3), classes=10, classifier_activation=None
    )
    net = cnnviz.adapt(model)
    x = pictures(sides=(64, 64)).astype(np.float32)
    native = net.ops.asarray(x)
    plain = net.forward(native, taps=[at, LOGITS])
    own, logits = (net.ops.to_numpy(plain[tap]) for tap in (at, LOGITS))
    given = np.concatenate([own, own * rng.uniform(0, 1, own.shape).astype(np.float32), own])
    found = net.ops.to_numpy(
        net.resume(native, at=at, taps=[LOGITS])(net.ops.asarray(given))[LOGITS]
    )
    scale = np.abs(logits).max()
    assert np.abs(found[[0, 2]] - logits).max() < 1e-4 * scale
    assert np.abs(found[1] - logits[0]).max() > 1e-3 * scale
    fed = net.preprocessing.apply(x).astype(np.float32)
    wanted = judged(model, net.layer(at), fed, given) if ENGINE != "jax" else found
    assert np.abs(found - wanted).max() < 1e-4 * scale


def test_a_jacobian_has_one_forward_and_the_axes_of_the_contract():
    make = NETS.get("channels-first", graph)
    model = drawn(make)
    net = cnnviz.adapt(model, IDENTITY)
    net.layers()
    x = net.ops.asarray(pictures(2))
    wrt = ["a", "shared:1", LOGITS, INPUT]
    ran = counted(model)
    found = net.gradient(lambda acts: acts[OUTPUT], x, taps=[OUTPUT], wrt=wrt, jacobian=True)
    # JAX looks at the shapes before it differentiates.
    assert ran.count("a") == (2 if ENGINE == "jax" else 1)
    for k in (0, 4):
        alone = net.gradient(lambda acts, k=k: acts[OUTPUT][:, k], x, taps=[OUTPUT], wrt=wrt)
        for tap in wrt:
            column = net.ops.to_numpy(found.gradients[tap])[k]
            wanted = net.ops.to_numpy(alone.gradients[tap])
            assert column.shape == wanted.shape
            np.testing.assert_allclose(column, wanted, rtol=1e-9, atol=1e-14, err_msg=tap)
    assert tuple(found.gradients["a"].shape) == (5, 2, 10, 8, 4)
    assert tuple(found.value.shape) == (2, 5)
    none = net.gradient(
        lambda acts: acts[OUTPUT] * 0 + 1.0, x, taps=[OUTPUT], wrt=["a"], jacobian=True
    )
    assert not net.ops.to_numpy(none.gradients["a"]).any()
    with pytest.raises(InvalidOption, match="jacobian is of scores"):
        net.gradient(lambda acts: acts[OUTPUT][:, 0], x, taps=[OUTPUT], jacobian=True)


def test_a_curvature_is_how_the_gradient_changes():
    make = NETS.get("channels-first", graph)
    net = cnnviz.adapt(drawn(make), IDENTITY)
    x = pictures(2)

    def score(acts):
        return net.ops.log(acts[OUTPUT])[:, 1]

    def slope(x):
        found = net.gradient(score, net.ops.asarray(x), taps=[OUTPUT], wrt=[INPUT])
        return net.ops.to_numpy(found.gradients[INPUT])

    wrt = ["a", INPUT, "shared:1"]
    found = net.gradient(score, net.ops.asarray(x), taps=[OUTPUT], wrt=wrt, curvature=True)
    wanted = (slope(x * (1 + 1e-5)) - slope(x * (1 - 1e-5))) / 2e-5
    bend = net.ops.to_numpy(found.curvatures[INPUT])
    np.testing.assert_allclose(bend, wanted, atol=1e-6 * np.abs(wanted).max())
    np.testing.assert_array_equal(net.ops.to_numpy(found.gradients[INPUT]), slope(x))
    # At each tap by itself: asking for others changes nothing.
    for tap in ("a", "shared:1"):
        alone = net.gradient(score, net.ops.asarray(x), taps=[OUTPUT], wrt=[tap], curvature=True)
        one = net.ops.to_numpy(alone.curvatures[tap])
        assert np.abs(one).max() > 0
        assert one.shape[1:3] == (10, 8)
        np.testing.assert_allclose(
            net.ops.to_numpy(found.curvatures[tap]), one, atol=1e-12 * np.abs(one).max()
        )
    for options in ({"jacobian": True}, {"relu": "guided"}):
        with pytest.raises(InvalidOption, match="goes with no"):
            net.gradient(score, net.ops.asarray(x), taps=[OUTPUT], curvature=True, **options)


@pytest.mark.parametrize("high", [None, 6.0])
@pytest.mark.parametrize("rule", ["guided", "deconvnet"])
def test_rules_of_relu_within_and_outside_of_layers(rule, high):
    """A ReLU that is a layer, and one that is the activation of a convolution."""
    act = "relu" if high is None else "relu6"
    found = []
    for fused in (True, False):
        x = keras.Input((10, 10, 3), dtype=DTYPE)
        y = L.Conv2D(4, 3, name="conv", activation=act if fused else None, dtype=DTYPE)(x)
        y = y if fused else L.Activation(act, name="act", dtype=DTYPE)(y)
        y = L.GlobalAveragePooling2D(name="gap", dtype=DTYPE)(y)
        model = keras.Model(x, L.Dense(2, name="fc", dtype=DTYPE)(y), name="acting")
        rng = np.random.default_rng(0)
        for variable in model.weights:
            variable.assign(rng.normal(0, 2, variable.shape))
        net = cnnviz.adapt(model, SMALL_PREPROCESSING)
        x = net.ops.asarray(small_pictures())
        wrt = [INPUT] if fused else [INPUT, "conv", "act"]
        made = net.gradient(lambda a: a[LOGITS][:, 1], x, taps=[LOGITS], wrt=wrt, relu=rule)
        found.append(net.ops.to_numpy(made.gradients[INPUT]))
    np.testing.assert_allclose(*found, atol=1e-12)
    assert np.abs(found[0]).max() > 0
    at = net.ops.to_numpy(net.forward(x, taps=["conv"])["conv"])
    slope = net.ops.to_numpy(made.gradients["act"])
    active = (at > 0) & (at < (high or np.inf)) if rule == "guided" else True
    assert (at < 0).any()
    assert (slope < 0).any()
    np.testing.assert_array_equal(
        net.ops.to_numpy(made.gradients["conv"]), np.where(active & (slope > 0), slope, 0)
    )


@pytest.mark.parametrize("rule", ["guided", "deconvnet"])
def test_rules_of_relu_after_what_pools(rule):
    """As the oracle has it; where a window of zeros is pooled, it halves what is passed."""
    net, oracle = cnnviz.adapt(settle(functional()), SMALL_PREPROCESSING), OracleAdapter()
    found = [
        one.ops.to_numpy(
            one.gradient(
                lambda acts: acts["fc"][:, 1],
                one.ops.asarray(small_pictures()),
                taps=["fc"],
                wrt=["pool"],
                relu=rule,
            ).gradients["pool"]
        )
        for one in (net, oracle)
    ]
    np.testing.assert_allclose(*found, atol=1e-8)


def kernels(dtype=DTYPE):
    """A network with every kind of kernel."""
    x = keras.Input((8, 8, 3), dtype=dtype if dtype == DTYPE else "float32")
    options = {"padding": "same", "dtype": dtype}
    y = L.DepthwiseConv2D(3, depth_multiplier=2, name="depthwise", **options)(x)
    y = L.SeparableConv2D(4, 3, depth_multiplier=2, name="separable", **options)(y)
    y = L.Conv2DTranspose(5, 3, name="transposed", **options)(y)
    y = L.BatchNormalization(scale=False, name="no_scale", dtype=dtype)(y)
    y = L.BatchNormalization(center=False, name="no_center", dtype=dtype)(y)
    y = L.Conv2D(4, 3, groups=1, name="fused", activation="relu", **options)(y)
    y = L.Conv2D(4, 3, use_bias=False, name="unbiased", **options)(y)
    shared = L.Conv2D(4, 3, name="shared", **options)
    y = shared(shared(y))
    y = L.Reshape((8, 32), name="rows", dtype=dtype)(y)
    y = L.Conv1DTranspose(4, 3, name="signal", **options)(y)
    y = L.EinsumDense("abc,cd->abd", (None, 6), bias_axes="d", name="einsum", dtype=dtype)(y)
    y = L.GlobalAveragePooling1D(name="gap", dtype=dtype)(y)
    return keras.Model(x, L.Dense(2, name="fc", dtype=dtype)(y), name="kernels")


def redrawn(make, *args):
    model = make(*args)
    rng = np.random.default_rng(2)
    for variable in model.weights:
        variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    return model


@pytest.mark.parametrize("dtype", [DTYPE, "float32", "float16", "bfloat16", "mixed_bfloat16"])
def test_every_kernel_is_written_back_bit_by_bit(dtype):
    model = redrawn(kernels, dtype)
    model.get_layer("fused").trainable = False
    net = cnnviz.adapt(model, IDENTITY)
    before, trained = snapshot_of(model), [v.trainable for v in model.variables]
    assert len(set(trained)) == 2
    weights = net.weights()
    net.assign({name: value * 0 for name, value in weights.items()})
    assert not any(numbers_of(v).any() for v in model.weights)
    net.assign(weights)
    assert snapshot_of(model) == before
    assert [v.trainable for v in model.variables] == trained
    if dtype in ("float16", "bfloat16"):
        name = next(iter(weights))
        large = {**weights, name: np.full(weights[name].shape, 3.4e38)}
        with pytest.raises(InvalidOption, match=f"too large for {dtype}"):
            net.assign(large)
        assert snapshot_of(model) == before


def numbers_of(variable):
    # Not every engine gives short floats to numpy.
    value = keras.ops.cast(variable.value, "float32" if variable.dtype != DTYPE else DTYPE)
    return numbers(Held(value))


def snapshot_of(model):
    return [numbers_of(v).tobytes() for v in model.weights]


def test_weights_are_written_at_once_or_not_at_all(monkeypatch):
    model = redrawn(kernels)
    net = cnnviz.adapt(model, IDENTITY)
    before = snapshot(model)
    kind, calls = type(model.weights[0]), []
    assign = kind.assign

    def failing(self, value):
        calls.append(self)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return assign(self, value)

    monkeypatch.setattr(kind, "assign", failing)
    with pytest.raises(KeyboardInterrupt):
        net.assign({name: value * 2 for name, value in net.weights().items()})
    monkeypatch.undo()
    assert len(calls) > 5
    assert snapshot(model) == before


def test_traces_see_what_is_written():
    model = settle(functional())
    net = cnnviz.adapt(model, SMALL_PREPROCESSING)
    x = net.ops.asarray(small_pictures(1))
    net.layers()
    go_on = net.resume(x, at="pool", taps=["fc"])
    own = net.forward(x, taps=["pool"])["pool"]
    weights = net.weights()
    names = [name for name in weights if "fc/" in name]
    first_logits = net.ops.to_numpy(go_on(own)["fc"])
    ran = counted(model)
    net.assign({name: weights[name] * 2 for name in names})
    second = net.ops.to_numpy(go_on(own)["fc"])
    np.testing.assert_allclose(second, first_logits * 2, rtol=1e-12)
    assert ran == ([] if net.compiled else ["conv2", "relu", "gap", "fc"])


def test_offsets_are_what_a_layer_gives_for_zeros():
    model = redrawn(kernels)
    net = cnnviz.adapt(model, IDENTITY)
    found = net.offsets()
    assert set(found) == {
        *("depthwise", "separable", "transposed", "no_scale", "no_center"),
        *("shared:0", "shared:1", "signal", "einsum", "fc"),
    }
    for name, value in found.items():
        layer = model.get_layer(net.layer(name).address)
        zeros = np.zeros((1, *layer._inbound_nodes[0].input_tensors[0].shape[1:]))
        given = numbers(Held(layer(zeros)))
        assert value.dtype == np.float64
        assert value.shape == given.shape[-1:]
        np.testing.assert_allclose(given, np.broadcast_to(value, given.shape), rtol=1e-12)
