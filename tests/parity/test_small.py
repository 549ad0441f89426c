"""One small network in PyTorch and in Keras says the same in float64, to the ninth digit."""

from __future__ import annotations

import numpy as np
import pytest
from nets import keras_small, torch_small

import cnnviz
from cnnviz.adapter import INPUT, LOGITS, OUTPUT
from cnnviz.ascent.canvas import FourierCanvas, PixelCanvas
from cnnviz.ascent.optimizers import Adam, NormalisedGradient
from cnnviz.testing import SMALL_PREPROCESSING, small_pictures

LAYERS = ("conv1", "bn1", "relu:0", "pool", "conv2", "relu:1", "gap", "fc")
TOLERANCE = 1e-9


@pytest.fixture(scope="module", params=["functional", "fused", "subclassed", "mixed", "nested"])
def pair(request):
    """The two adapters, and what Keras calls a layer of torch's."""
    names = {}
    softmax = request.param == "fused"
    match request.param:
        case "functional" | "fused":
            model = keras_small.functional("fused" if softmax else None)
        case "subclassed":
            model = keras_small.called(keras_small.Subclassed())
        case "mixed":
            model, names = keras_small.called(keras_small.Mixed()), keras_small.MIXED_NAMES
        case "nested":
            model, names = keras_small.nested(), keras_small.NESTED_NAMES
    torch_net = cnnviz.adapt(
        torch_small.settle(torch_small.Small(softmax=softmax)), SMALL_PREPROCESSING
    )
    keras_net = cnnviz.adapt(keras_small.settle(model), SMALL_PREPROCESSING)
    return torch_net, keras_net, names


def assert_same(a, b, what):
    assert a.dtype == b.dtype == np.float64
    assert a.shape == b.shape
    assert np.abs(a - b).max() <= TOLERANCE * np.abs(a).max() > 0, what


def test_activations(pair):
    torch_net, keras_net, names = pair
    torch_net.layers()
    # A dense layer with its softmax fused gives what torch's two layers give.
    layers = LAYERS[:-1] if torch_net.final_activation else LAYERS
    taps = [*layers, LOGITS, OUTPUT]
    x = small_pictures()
    a = torch_net.forward(torch_net.ops.asarray(x), taps=taps)
    b = keras_net.forward(keras_net.ops.asarray(x), taps=[names.get(t, t) for t in taps])
    for tap in taps:
        found = keras_net.ops.to_numpy(b[names.get(tap, tap)])
        assert_same(torch_net.ops.to_numpy(a[tap]), found, tap)


@pytest.mark.parametrize("wrt", [INPUT, "conv1", "bn1", "pool", "conv2"])
def test_gradients(pair, wrt):
    torch_net, keras_net, names = pair
    slopes = []
    for net, known in ((torch_net, {}), (keras_net, names)):

        def score(acts, net=net):
            return net.ops.sum(acts[LOGITS] * acts[LOGITS], axis=(1,))

        tap = known.get(wrt, wrt)
        x = net.ops.asarray(small_pictures())
        slopes.append(
            net.ops.to_numpy(net.gradient(score, x, taps=[LOGITS], wrt=[tap]).gradients[tap])
        )
    assert_same(*slopes, wrt)


@pytest.mark.parametrize("layer", ["pool", "conv2"])
@pytest.mark.parametrize("target", [None, 3, [0, 4]])
def test_grad_cam(pair, layer, target):
    torch_net, keras_net, names = pair
    a = cnnviz.grad_cam(torch_net, small_pictures(), target, layer)
    b = cnnviz.grad_cam(keras_net, small_pictures(), target, names.get(layer, layer))
    assert a.target == b.target
    assert_same(a.raw, b.raw, "raw")
    assert_same(a.map + 1, b.map + 1, "map")
    assert_same(a.score, b.score, "score")


def test_cam(pair):
    torch_net, keras_net, names = pair
    a = cnnviz.cam(torch_net, small_pictures(), 1, "relu:1")
    b = cnnviz.cam(keras_net, small_pictures(), 1, names.get("relu:1", "relu:1"))
    assert_same(a.raw, b.raw, "raw")


RECIPES = {
    "pixels-l2": {
        "canvas": PixelCanvas(),
        "optimizer": NormalisedGradient(2.0, "l2"),
        "l2": 1e-3,
        "blur": 0.5,
        "blur_every": 5,
        "jitter": 2,
        "size": 12,
    },
    "pixels-rms": {
        "canvas": PixelCanvas(unit="pixel", start="uniform"),
        "optimizer": NormalisedGradient(0.02, "rms"),
        "size": (11, 13),
    },
    "pixels-std": {
        "canvas": PixelCanvas(),
        "optimizer": NormalisedGradient(0.02, "std"),
        "size": 10,
    },
    "fourier-adam": {
        "canvas": FourierCanvas(),
        "optimizer": Adam(0.05, weight_decay=1e-3),
        "jitter": 2,
        "size": (12, 11),
    },
    "octaves": {
        "canvas": PixelCanvas(start="uniform", low=0.6, high=0.7),
        "optimizer": Adam(0.1, weight_decay=1e-6),
        "clamp": False,
        "octaves": 4,
        "octave_blur": 3,
        "enlarge_last": True,
        "steps": 4,
        "size": 10,
    },
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_sixteen_steps_of_ascent(pair, recipe):
    torch_net, keras_net, names = pair
    options = {"steps": 16, "octaves": 1, "blur": 0.0, "transforms": (), "jitter": 0} | RECIPES[
        recipe
    ]
    tap = names.get("conv2", "conv2")
    a = cnnviz.ascend(torch_net, ["conv2:1", "class:2"], **options)
    # The seed depends on the channel and not on what the framework calls its layer.
    b = cnnviz.ascend(keras_net, [f"{tap}:1", "class:2"], **options)
    assert a.trace.shape == (16, 2)
    assert_same(a.images, b.images, "pictures")
    assert_same(a.trace, b.trace, "objectives")
    assert a.trace[-1, 1] > a.trace[0, 1]


def test_layers_and_weights(pair):
    torch_net, keras_net, names = pair
    for layer in ("conv1", "bn1", "conv2", "fc"):
        a, b = torch_net.layer(layer), keras_net.layer(names.get(layer, layer))
        assert (a.output_shape, a.parameters) == (b.output_shape, b.parameters)
        found = [
            sorted(
                ((r.role, r.mean, r.std, r.min, r.max) for r in rows),
            )
            for rows in (
                _rows(torch_net, f"{layer}."),
                _rows(keras_net, f"{layer}/"),
            )
        ]
        assert found[0] == found[1]
        assert found[0]


def _rows(net, prefix):
    return [row for row in cnnviz.weight_stats(net).table if prefix in row.name]
