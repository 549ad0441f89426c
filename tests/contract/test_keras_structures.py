"""Several tensors of a layer, several inputs and outputs, signals and volumes."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from nets import keras_structures as nets
from nets.keras_small import DTYPE, functional, numbers, settle, snapshot

import cnnviz
from cnnviz.adapter import INPUT, LOGITS, OUTPUT
from cnnviz.errors import InvalidOption, TapNotReached

L = keras.layers


def built(model, *args):
    keras.utils.set_random_seed(1)
    model(*args)
    return model


def pictures(*sides, count=2):
    return np.random.default_rng(0).uniform(0, 1, (count, *sides))


def told(x):
    """What Keras itself gave, as numpy."""
    x = x.detach() if hasattr(x, "detach") else x
    return np.asarray(x.numpy() if hasattr(x, "numpy") else x)


def weighted(net, tap):
    def score(activations):
        value = activations[tap]
        axes = tuple(range(1, len(value.shape)))
        return net.ops.sum(value * value * 0.5 + value, axis=axes)

    return score


def check_slope(net, scored, x):
    """The gradient at the input is what a small step makes of the score."""
    found = net.gradient(weighted(net, scored), net.ops.asarray(x), taps=[scored], wrt=[INPUT])
    slope = net.ops.to_numpy(found.gradients[INPUT])
    step = np.random.default_rng(5).normal(size=x.shape) * 1e-7
    values = [
        net.ops.to_numpy(
            net.gradient(weighted(net, scored), net.ops.asarray(moved), taps=[scored]).value
        )
        for moved in (x + step, x - step)
    ]
    wanted = (values[0] - values[1]).sum() / 2
    # A step that crosses the corner of a ReLU is off by a little.
    assert abs((slope * step).sum() - wanted) <= 1e-5 * np.abs(slope * step).sum()
    assert np.abs(slope).max() > 0


@pytest.mark.parametrize("kind", ["tuple", "dict", "twice", "single"])
def test_each_tensor_of_a_layer_has_a_row(kind):
    x = pictures(8, 8, 3)
    model = built(nets.Split(kind), x)
    before = snapshot(model)
    net = cnnviz.adapt(model, "identity")
    parts = {"dict": ["halves[low]", "halves[high]"], "single": ["halves"]}.get(
        kind, ["halves[0]", "halves[1]"]
    )
    rows = {layer.name: layer for layer in net.layers()}
    assert [name for name in rows if name.startswith("halves") and "/" not in name] == parts
    assert all(rows[name].output_shape == (None, 8, 8, 4) for name in parts)
    given = model.halves(x)
    wanted = list(given.values()) if kind == "dict" else list(given)
    found = net.forward(net.ops.asarray(x), taps=parts)
    for name, value in zip(parts, wanted, strict=True):
        np.testing.assert_allclose(net.ops.to_numpy(found[name]), told(value), rtol=1e-12)
    # The product of the two halves: the derivative at one is the other's, for each part alone.
    result = net.gradient(
        lambda acts: acts[LOGITS][:, 1], net.ops.asarray(x), taps=[LOGITS], wrt=parts
    )
    kernel = numbers(model.fc.kernel)[:, 1] / 64
    values = [told(v) for v in wanted]
    if kind == "single":
        slopes = [np.broadcast_to(kernel, values[0].shape)]
    else:
        slopes = [values[1] * kernel, values[0] * kernel]
    for name, slope in zip(parts, slopes, strict=True):
        actual = net.ops.to_numpy(result.gradients[name])
        np.testing.assert_allclose(actual, slope, rtol=1e-9, err_msg=name)
    if kind != "single":
        with pytest.raises(KeyError, match=r"halves\["):
            net.forward(net.ops.asarray(x), taps=["halves"])
    assert snapshot(model) == before


@pytest.mark.parametrize("kind", ["dict", "list", "tensor"])
@pytest.mark.parametrize("activation", ["softmax", "log_softmax", "sigmoid"])
def test_a_final_activation_that_is_no_layer(kind, activation):
    x = pictures(8, 8, 3)
    model = built(nets.Outputs(kind, activation), x)
    net = cnnviz.adapt(model, "identity")
    found = net.forward(net.ops.asarray(x), taps=[LOGITS, OUTPUT, "fc"])
    assert net.final_activation == ("sigmoid" if activation == "sigmoid" else "softmax")
    assert net.classes == 3
    logits, output, fc = (net.ops.to_numpy(found[k]) for k in (LOGITS, OUTPUT, "fc"))
    np.testing.assert_array_equal(logits, fc)
    given = model(x)
    wanted = {"dict": lambda g: g["logits"], "list": lambda g: g[0], "tensor": lambda g: g}
    np.testing.assert_allclose(output, told(wanted[kind](given)), rtol=1e-12)
    assert np.abs(output - logits).max() > 1e-3


@pytest.mark.parametrize(("kind", "choice"), [("dict", "aux"), ("list", 1), ("list", "1")])
def test_another_output_is_chosen(kind, choice):
    x = pictures(8, 8, 3)
    model = built(nets.Outputs(kind), x)
    net = cnnviz.adapt(model, "identity", output=choice)
    found = net.forward(net.ops.asarray(x), taps=[OUTPUT, LOGITS])
    given = model(x)
    wanted = told(given["aux"] if kind == "dict" else given[1])
    output, logits = (net.ops.to_numpy(found[k]) for k in (OUTPUT, LOGITS))
    np.testing.assert_allclose(output, wanted, rtol=1e-12)
    np.testing.assert_allclose(1 / (1 + np.exp(-logits)), wanted, rtol=1e-9)
    assert (net.classes, net.final_activation) == (2, "sigmoid")
    other = "<output>[logits]" if kind == "dict" else "<output>[0]"
    assert net.ops.to_numpy(net.forward(net.ops.asarray(x), taps=[other])[other]).shape == (2, 3)
    check_slope(net, LOGITS, x)


def test_an_output_by_name_and_by_address():
    x = keras.Input((8, 8, 3), dtype=DTYPE)
    y = L.Conv2D(4, 3, name="conv", dtype=DTYPE)(x)
    y = L.GlobalAveragePooling2D(name="gap", dtype=DTYPE)(y)
    heads = [
        L.Dense(n, name=name, activation="softmax", dtype=DTYPE)(y)
        for n, name in ((3, "species"), (2, "colour"))
    ]
    model = keras.Model(x, heads)
    for choice, classes in ((None, 3), ("species", 3), ("colour", 2), ("gap", 4)):
        net = cnnviz.adapt(model, "identity", output=choice)
        net.layers()
        assert net.classes == classes, choice
        assert net.final_activation == (None if choice == "gap" else "softmax")
    net = cnnviz.adapt(model, "identity", output="colour")
    way = {layer.name: layer.leads_to_score for layer in net.layers()}
    assert (way["conv"], way["colour"], way["species"]) == (True, True, False)
    with pytest.raises(InvalidOption, match=r"no output 'form'; there are .*colour"):
        cnnviz.adapt(model, "identity", output="form").layers()


def test_an_operation_ends_a_functional_model():
    x = keras.Input((8, 8, 3), dtype=DTYPE)
    y = L.GlobalAveragePooling2D(name="gap", dtype=DTYPE)(L.Conv2D(4, 3, dtype=DTYPE)(x))
    y = L.Dense(3, name="fc", dtype=DTYPE)(y)
    net = cnnviz.adapt(keras.Model(x, keras.ops.softmax(y)), "identity")
    found = net.forward(net.ops.asarray(pictures(8, 8, 3)), taps=[LOGITS, "fc"])
    assert net.final_activation == "softmax"
    np.testing.assert_array_equal(*(net.ops.to_numpy(v) for v in found.values()))


def test_a_softmax_within_is_not_the_last():
    """Attention over places ends in a softmax too, and a gate in a sigmoid."""
    x = keras.Input((8, 8, 3), dtype=DTYPE)
    y = L.Conv2D(4, 3, name="conv", dtype=DTYPE)(x)
    gate = L.Dense(4, activation="sigmoid", name="gate", dtype=DTYPE)(
        L.GlobalAveragePooling2D(keepdims=True, name="gap", dtype=DTYPE)(y)
    )
    y = L.Flatten(name="flat", dtype=DTYPE)(L.Multiply(name="gated", dtype=DTYPE)([y, gate]))
    net = cnnviz.adapt(keras.Model(x, L.Dense(2, name="fc", dtype=DTYPE)(y)), "identity")
    rows = {layer.name: layer for layer in net.layers()}
    assert net.final_activation is None
    assert rows["conv"].receptive_field == (3, 3)
    assert rows["gated"].receptive_field == "all"


def test_one_score_a_picture():
    x = keras.Input((8, 8, 3), dtype=DTYPE)
    y = L.GlobalAveragePooling2D(dtype=DTYPE)(L.Conv2D(1, 3, dtype=DTYPE)(x))
    model = keras.Model(x, L.Reshape((), name="flat", dtype=DTYPE)(y))
    net = cnnviz.adapt(model, "identity")
    found = net.forward(net.ops.asarray(pictures(8, 8, 3)), taps=[LOGITS, OUTPUT])
    assert (net.ops.to_numpy(found[LOGITS]).shape, net.classes) == ((2, 1), 1)
    check_slope(net, LOGITS, pictures(8, 8, 3))


@pytest.mark.parametrize("kind", ["list", "dict", "nested", "arguments", "dictionary"])
def test_other_inputs(kind):
    x, facts = pictures(8, 8, 3), np.arange(4.0)
    both = np.stack([facts, facts])
    if kind == "arguments":
        model = built(nets.TwoArguments(), x, both)
        wanted = model(x, both)
    elif kind == "dictionary":
        model = built(nets.OneDictionary(), {"picture": x, "facts": both})
        wanted = model({"picture": x, "facts": both})
    else:
        model = nets.two_inputs(kind)
        fed = {
            "list": [both, x],
            "dict": {"facts": both, "picture": x},
            "nested": [x, [both]],
        }
        wanted = model(fed[kind])
    net = cnnviz.adapt(model, "identity", other_inputs={"facts": facts})
    assert net.input_shape == (8, 8, 3)
    found = net.forward(net.ops.asarray(x), taps=[OUTPUT, "conv"])
    np.testing.assert_allclose(net.ops.to_numpy(found[OUTPUT]), told(wanted), rtol=1e-10)
    check_slope(net, OUTPUT, x)
    with pytest.raises(InvalidOption, match=r"picture: 'facts'.*other_inputs=\{'facts'"):
        cnnviz.adapt(model, "identity")
    with pytest.raises(InvalidOption, match=r"takes no input 'fact'.*facts"):
        cnnviz.adapt(model, "identity", other_inputs={"fact": facts})


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_signals_pictures_and_volumes(rank, data_format):
    if data_format == "channels_first" and keras.backend.backend() == "tensorflow":
        # TensorFlow has no such convolution on a processor; listing runs none.
        net = cnnviz.adapt(nets.of_rank(rank, data_format), "identity")
        assert net.layer("conv1").output_shape == (None, *range(12, 12 + rank), 4)
        return
    model = nets.of_rank(rank, data_format)
    sides = tuple(range(12, 12 + rank))
    net = cnnviz.adapt(model, cnnviz.Preprocessing((0.25, 0.5), (0.5, 0.25)))
    assert net.input_shape == (*sides, 2)
    rows = {layer.name: layer for layer in net.layers()}
    assert rows["conv1"].output_shape == (None, *sides, 4)
    assert rows["conv1"].spatial == sides
    assert rows["pool"].spatial == tuple(n // 2 for n in sides)
    assert rows["fc"].spatial == ()
    assert rows["conv1"].receptive_field == (3,) * rank
    assert rows["conv2"].receptive_field == (8,) * rank
    assert rows["fc"].receptive_field == "all"
    x = pictures(*sides, 2)
    fed = (x - [0.25, 0.5]) / [0.5, 0.25]
    if data_format == "channels_first":
        fed = np.moveaxis(fed, -1, 1)
    for name in ("relu", "conv2", "gap"):
        wanted = told(keras.Model(model.inputs, model.get_layer(name).output)([fed]))
        if data_format == "channels_first" and name != "gap":
            wanted = np.moveaxis(wanted, 1, -1)
        actual = net.ops.to_numpy(net.forward(net.ops.asarray(x), taps=[name])[name])
        np.testing.assert_allclose(actual, wanted, rtol=1e-9, err_msg=name)
    check_slope(net, LOGITS, x)
    slope = net.gradient(
        lambda acts: acts[LOGITS][:, 0], net.ops.asarray(x), taps=[LOGITS], wrt=["conv2"]
    ).gradients["conv2"]
    assert tuple(slope.shape) == (2, *(n // 2 - 2 for n in sides), 5)


def test_channels_that_are_moved_on_the_way():
    """A format is that of the layer, and a permutation moves the channels."""
    x = keras.Input((9, 7, 2), dtype=DTYPE)
    y = L.Conv2D(4, 3, name="last", dtype=DTYPE)(x)
    y = L.Permute((3, 1, 2), name="moved", dtype=DTYPE)(y)
    y = L.ReLU(name="relu", dtype=DTYPE)(y)
    y = L.MaxPooling2D(2, data_format="channels_first", name="pool", dtype=DTYPE)(y)
    y = L.Flatten(name="flat", dtype=DTYPE)(y)
    net = cnnviz.adapt(keras.Model(x, L.Dense(2, name="fc", dtype=DTYPE)(y)), "identity")
    shapes = {layer.name: layer.output_shape for layer in net.layers()}
    assert shapes["last"] == shapes["moved"] == shapes["relu"] == (None, 7, 5, 4)
    assert shapes["pool"] == (None, 3, 2, 4)


@pytest.mark.parametrize("side", [3, 64])
@pytest.mark.parametrize("channels", [1, 5])
def test_grey_and_many_channels(side, channels):
    x = keras.Input((side, side, channels), dtype=DTYPE)
    y = L.Conv2D(4, 3, padding="same", name="conv", dtype=DTYPE)(x)
    y = L.GlobalAveragePooling2D(dtype=DTYPE)(y)
    model = keras.Model(x, L.Dense(2, name="fc", dtype=DTYPE)(y))
    net = cnnviz.adapt(model, "identity")
    assert net.input_shape == (side, side, channels)
    given = pictures(side, side, channels)
    found = net.forward(net.ops.asarray(given), taps=[OUTPUT])[OUTPUT]
    np.testing.assert_allclose(net.ops.to_numpy(found), told(model(given)), rtol=1e-9)


def test_receptive_fields_of_strides_holes_and_enlarging():
    x = keras.Input((32, 32, 3), dtype=DTYPE)
    options = {"padding": "same", "dtype": DTYPE}
    y = L.Conv2D(2, 3, strides=2, name="a", **options)(x)
    y = L.Conv2D(2, 3, dilation_rate=2, name="b", **options)(y)
    z = L.DepthwiseConv2D(5, name="c", **options)(y)
    y = L.Add(name="d", dtype=DTYPE)([y, z])
    y = L.UpSampling2D(2, name="e", dtype=DTYPE)(y)
    y = L.Conv2D(2, 3, name="f", **options)(y)
    y = keras.ops.mean(y, axis=(1, 2))
    net = cnnviz.adapt(keras.Model(x, y), "identity")
    found = {layer.name: layer.receptive_field for layer in net.layers()}
    # By hand: 3; 3 + 4*2; 11 + 4*2; the larger; nothing; 2 more at a distance of one pixel.
    wanted = {"a": 3, "b": 11, "c": 19, "d": 19, "e": 19, "f": 21}
    assert {k: v for k, v in found.items() if k in wanted} == {k: (v, v) for k, v in wanted.items()}
    assert all(layer.leads_to_score for layer in net.layers())


def test_results_do_not_depend_on_the_order_of_calls():
    x = pictures(10, 10, 3)
    wanted = {}
    for order in (["conv1", LOGITS, "gap"], ["gap", "conv1", LOGITS], [LOGITS, "gap", "conv1"]):
        net = cnnviz.adapt(settle(functional("fused")), "identity")
        for tap in order:
            found = net.gradient(weighted(net, tap), net.ops.asarray(x), taps=[tap], wrt=[INPUT])
            value = net.ops.to_numpy(found.gradients[INPUT])
            np.testing.assert_array_equal(value, wanted.setdefault(tap, value), tap)


def test_a_layer_that_gives_nothing_is_no_tap():
    class Nothing(L.Layer):
        def call(self, x):
            return None

    class Model(keras.Model):
        def __init__(self):
            super().__init__(name="model", dtype=DTYPE)
            self.nothing = Nothing(name="nothing", dtype=DTYPE)
            self.fc = L.Dense(2, name="fc", dtype=DTYPE)

        def call(self, x):
            self.nothing(x)
            return self.fc(keras.ops.mean(x, (1, 2)))

    x = pictures(4, 4, 3)
    net = cnnviz.adapt(built(Model(), x), "identity")
    assert net.layer("nothing").output_shape is None
    with pytest.raises(TapNotReached, match="'nothing' gives no tensor"):
        net.forward(net.ops.asarray(x), taps=["nothing"])


class Aside(keras.Model):
    """A branch that leads nowhere, before a step that is no layer."""

    def __init__(self):
        super().__init__(name="aside", dtype="float64")
        self.conv = keras.layers.Conv2D(8, 3, name="conv", dtype="float64")
        self.side = keras.layers.Conv2D(9, 1, name="side", dtype="float64")
        self.fc = keras.layers.Dense(3, name="fc", dtype="float64")

    def call(self, x):
        y = self.conv(x)
        self.side(y)
        return self.fc(keras.ops.mean(y * 2, (1, 2))) + 1.0


def test_a_branch_that_leads_nowhere_is_not_taken_by_default():
    model = Aside()
    model(pictures(8, 8, 3))
    net = cnnviz.adapt(model, "identity")
    assert not net.layer("side").leads_to_score
    found = cnnviz.grad_cam(net, pictures(8, 8, 3))
    assert found.layer == "conv"
    assert found.raw.std() > 0
