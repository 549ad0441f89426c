"""Gradient ascent on the oracle: objectives rise, recipes do what their sources say."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

import cnnviz
from cnnviz import canvas, objectives, optimizers, transforms
from cnnviz.ascent.canvas import FourierCanvas, PixelCanvas, lines
from cnnviz.errors import (
    ChannelOutOfRange,
    CnnvizError,
    InvalidImage,
    InvalidOption,
    UnknownLayer,
)
from cnnviz.testing import NumpyOps, OracleAdapter, small_weights

QUICK = {"size": 8, "octaves": 1, "steps": 5, "jitter": 0, "blur": 0, "transforms": ()}


@pytest.fixture(scope="module")
def net():
    return OracleAdapter()


@pytest.mark.parametrize(
    "objective",
    [
        objectives.channel("conv2", 1),
        -objectives.channel("conv1", 0),
        objectives.class_logit(3),
        objectives.channel("bn1", 2) + 0.5 * objectives.class_logit(1),
        2 * objectives.channel("conv1", 1) - objectives.channel("conv1", 2),
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "options",
    [
        {"canvas": PixelCanvas(), "optimizer": optimizers.NormalisedGradient(2.0)},
        {"canvas": FourierCanvas(), "optimizer": optimizers.Adam(0.1)},
    ],
    ids=["pixels", "fourier"],
)
def test_every_objective_rises(net, objective, options):
    made = cnnviz.ascend(net, objective, **(QUICK | options))
    assert made.trace[-1, 0] > made.trace[0, 0]
    assert made.images.shape == (1, 8, 8, 3)
    assert 0 <= made.images.min() <= made.images.max() <= 1


def test_value_of_an_objective_is_what_it_says(net):
    """The first entry of the trace is the weighted sum at the picture that was begun with."""
    objective = objectives.channel("conv2", 1) - 0.5 * objectives.class_logit(2)
    made = cnnviz.ascend(net, objective, **(QUICK | {"steps": 1, "keep": ()}), seed=3)
    rng = np.random.default_rng([3, zlib.crc32(b"[(1, 1.0), (2, -0.5)]")])
    values = cnnviz.RECIPES["default"].canvas.first(rng, (8, 8), 3)[None]
    picture = cnnviz.RECIPES["default"].canvas.to_picture(net.ops, values, (8, 8, 3))
    acts = net.forward(picture, taps=["conv2", "fc"])
    wanted = acts["conv2"][..., 1].mean() - 0.5 * acts["fc"][0, 2]
    assert made.trace[0, 0] == pytest.approx(wanted)


def test_arithmetic_changes_no_operand():
    a, b = objectives.channel("conv1", 0), objectives.class_logit(2)
    total = 2 * a - b * 0.5
    assert str(a) == "conv1:0"
    assert str(b) == "class:2"
    assert [t.weight for t in total.terms] == [2, -0.5]
    assert objectives.parse("conv1:0") == a
    assert objectives.parse("class:2") == b
    assert objectives.parse("backbone/conv:3") == objectives.channel("backbone/conv", 3)
    assert objectives.parse("relu:1:4") == objectives.channel("relu:1", 4)
    assert objectives.parse("class:tiger cat") == objectives.class_logit("tiger cat")


def test_a_picture_does_not_depend_on_those_beside_it(net):
    options = QUICK | {"jitter": 2}
    both = cnnviz.ascend(net, ["conv2:1", "class:3"], **options)
    alone = cnnviz.ascend(net, "class:3", **options)
    turned = cnnviz.ascend(net, ["class:3", "conv2:1"], **options)
    # Central differences round by what is beside them in a batch.
    np.testing.assert_allclose(both.images[1], alone.images[0], atol=1e-5)
    np.testing.assert_allclose(both.images[::-1], turned.images, atol=1e-5)
    # The same number at another layer is another objective.
    same_index = cnnviz.ascend(net, ["conv2:3", "class:3"], **options)
    np.testing.assert_allclose(same_index.images[1], alone.images[0], atol=1e-5)
    twice = cnnviz.ascend(net, ["class:3", "class:3"], **options)
    np.testing.assert_allclose(twice.images[0], alone.images[0], atol=1e-5)
    assert np.abs(twice.images[1] - twice.images[0]).max() > 1e-3
    other = cnnviz.ascend(net, "class:3", **options, seed=1)
    assert np.abs(other.images - alone.images).max() > 1e-3


def test_cs231n_by_hand(net):
    """Jitter and back, step along the L2-normalised slope of score - l2 |x|^2, clamp, blur."""
    made = cnnviz.ascend(net, "class:1", "cs231n", size=10, steps=10, jitter=2, keep=(1, 10))
    rng = np.random.default_rng([0, zlib.crc32(b"[(1, 1.0)]")])
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    x = rng.normal(0, 1, (10, 10, 3))
    for step in range(1, 11):
        dy, dx = rng.integers(-2, 3, 2)
        shifted = np.roll(np.roll(x, dy, 0), dx, 1) * std + mean
        found = net.gradient(lambda acts: acts["fc"][:, 1], shifted[None], taps=["fc"])
        slope = np.roll(np.roll(found.gradients["<input>"][0] * std, -dy, 0), -dx, 1)
        slope = slope - 2 * 1e-3 * x
        x = x + 25 * slope / np.sqrt((slope**2).sum())
        x = np.clip(x, (0 - mean) / std, (1 - mean) / std)
        if step == 1:
            np.testing.assert_allclose(made.intermediates[0][1][0], x * std + mean, atol=1e-6)
    kernel = np.exp(-0.5 * (np.arange(-2, 3) / 0.5) ** 2)
    kernel /= kernel.sum()
    for axis in (0, 1):
        pad = [(2, 2) if a == axis else (0, 0) for a in range(3)]
        padded = np.pad(x, pad, mode="symmetric")
        x = sum(w * np.take(padded, np.arange(10) + i, axis) for i, w in enumerate(kernel))
    np.testing.assert_allclose(made.images[0], np.clip(x * std + mean, 0, 1), atol=1e-5)
    assert [step for step, _ in made.intermediates] == [1, 10]


def test_octaves_has_the_sides_of_its_source():
    recipe = cnnviz.RECIPES["octaves"]
    wanted = [56, 67, 80, 96, 115, 138, 165, 198, 237, 284, 340, 408, 489, 586]
    assert recipe.sides(56) == wanted
    assert (recipe.steps, recipe.octave_blur, recipe.optimizer.rate) == (25, 3, 0.1)
    assert recipe.optimizer.weight_decay == 1e-6


def test_octaves_reports_each(net):
    made = cnnviz.ascend(net, "conv2:1", "octaves", size=8, octaves=3, steps=3)
    assert made.octaves.shape == (3, 1)
    assert made.trace.shape == (9, 1)
    np.testing.assert_array_equal(made.octaves[:, 0], made.trace[2::3, 0])
    # 8, 9, 10, and enlarged once more at the end.
    assert made.images.shape == (1, 12, 12, 3)
    assert [picture.shape[1] for _, picture in made.intermediates] == [8, 9, 10]


def test_the_last_octave_is_what_the_network_takes(net):
    made = cnnviz.ascend(net, "conv2:1", steps=1, octaves=3, octave_scale=1.1)
    assert made.images.shape == (1, 10, 10, 3)
    assert [p.shape[1] for _, p in made.intermediates] == [8, 9, 10]


@pytest.mark.parametrize(
    "kind", [PixelCanvas(), PixelCanvas("pixel"), FourierCanvas(decay=1.3)], ids=repr
)
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_canvas_and_picture_are_inverse(kind, channels):
    picture = np.random.default_rng(0).uniform(0.1, 0.9, (2, 7, 10, channels))
    values = kind.from_picture(picture)
    shown = kind.to_picture(NumpyOps(), values, (7, 10, channels))
    np.testing.assert_allclose(shown, picture, atol=1e-10)


def test_fourier_matrix_is_orthonormal_and_sorted():
    for size in (1, 2, 7, 10):
        matrix = lines.fourier_lines(size)
        np.testing.assert_allclose(matrix.T @ matrix, np.eye(size), atol=1e-12)
        power = np.abs(np.fft.rfft(matrix, axis=0)).argmax(0) / size
        np.testing.assert_allclose(power, lines.frequencies(size))


def test_blur_keeps_a_flat_picture_and_weakens_a_wave():
    ops = NumpyOps()
    flat = np.full((1, 8, 9, 3), 0.3)
    pixels = PixelCanvas()
    np.testing.assert_allclose(pixels.blur(ops, flat, 0.7), flat)
    values = np.ones((1, 8, 8, 3))
    blurred = FourierCanvas().blur(ops, values, 0.5)[0, :, :, 0]
    wanted = np.exp(-2 * (np.pi * 0.5 * 0.25) ** 2)
    assert blurred[0, 0] == 1
    assert blurred[0, 3] == pytest.approx(wanted)


def test_adam_by_hand():
    """Two steps of torch's own arithmetic, with weight decay, uphill."""
    ops, x, adam = NumpyOps(), np.array([[[[1.0, -2.0]]]]), optimizers.Adam(0.1, weight_decay=0.01)
    state = adam.first(x)
    m = v = 0
    wanted = x
    for count, slope in ((1, np.array([0.5, 1.0])), (2, np.array([-0.2, 3.0]))):
        g = -slope + 0.01 * wanted
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        wanted = wanted - 0.1 * (m / (1 - 0.9**count)) / (np.sqrt(v / (1 - 0.999**count)) + 1e-8)
        rates = np.array(adam.rates(count))
        x, state = adam.step(ops, x, slope.reshape(x.shape), state, rates)
    np.testing.assert_allclose(x, wanted)


def test_a_dead_channel_is_told():
    weights = small_weights()
    weights["conv2.bias"] = weights["conv2.bias"] - [0, 100, 0, 0, 0, 0]
    made = cnnviz.ascend(OracleAdapter(weights), ["relu:1:1", "conv2:1"], **QUICK)
    assert len(made.notes) == 1
    assert made.notes[0].startswith("relu:1:1 is dead")


@pytest.mark.parametrize(
    ("objective", "options", "error", "text"),
    [
        ("conv9:1", {}, UnknownLayer, "closest"),
        ("conv2:6", {}, ChannelOutOfRange, r"0\.\.5"),
        ("conv2:-1", {}, ChannelOutOfRange, r"0\.\.5"),
        ("class:5", {}, ChannelOutOfRange, r"0\.\.4"),
        ("conv2", {}, InvalidOption, "LAYER:CHANNEL"),
        ([], {}, InvalidOption, "no objective"),
        ([3], {}, InvalidOption, "not a int"),
        ("conv2:1", {"recipe": "lucid"}, InvalidOption, "'octaves'"),
        ("conv2:1", {"step": 3}, InvalidOption, "no setting 'step'"),
        ("conv2:1", {"steps": 0}, InvalidOption, "at least 1"),
        ("conv2:1", {"steps": "many"}, InvalidOption, "wrong kind"),
        ("conv2:1", {"jitter": -1}, InvalidOption, "below zero"),
        ("conv2:1", {"size": 0}, InvalidOption, "above zero"),
        ("conv2:1", {"octave_scale": 0.5}, InvalidOption, "at least 1"),
        ("conv2:1", {"size": 9.5}, InvalidOption, "number of pixels"),
        ("conv2:1", {"seed": -1}, InvalidOption, "from 0 on"),
        ("conv2:1", {"batch": 0}, InvalidOption, "batch is a whole number"),
        ("conv2:1", {"best_of": 0}, InvalidOption, "best_of is a whole number"),
        ("conv2:1", {"keep": "all"}, InvalidOption, "each how many"),
        ("conv2:1", {"canvas": "fourier"}, InvalidOption, "one Canvas"),
        (
            "conv2:1",
            {
                "canvas": canvas.masked(np.zeros((8, 8, 3)), np.ones((8, 8)), canvas.MacoCanvas()),
                "octaves": 2,
            },
            InvalidOption,
            "a MacoCanvas cannot begin",
        ),
        ("conv2:1", {"transforms": transforms.Jitter(3)}, InvalidOption, "a tuple of Transforms"),
        ("conv2:1", {"start": []}, InvalidImage, "empty"),
        ("conv2:1", {"start": np.zeros((2, 8, 8, 3))}, InvalidOption, "2 pictures to begin with"),
        (["conv2:1"] * 2, {"views": 2, "schedule": "steep"}, InvalidOption, "'cosine'"),
    ],
)
def test_what_cannot_be_meant(net, objective, options, error, text):
    with pytest.raises(error, match=text):
        cnnviz.ascend(net, objective, **options)


def test_weights_that_are_not_finite_are_told():
    weights = small_weights()
    weights["conv1.bias"] = weights["conv1.bias"] * np.inf
    with pytest.raises(CnnvizError, match="not finite"), np.errstate(invalid="ignore"):
        cnnviz.ascend(OracleAdapter(weights), "fc:1", **QUICK)


def test_nothing_is_copied_to_numpy_within_the_loop(net, monkeypatch):
    counted = OracleAdapter()
    calls = []
    original = NumpyOps.to_numpy
    monkeypatch.setattr(NumpyOps, "to_numpy", lambda self, x: calls.append(0) or original(self, x))
    few = len(calls)
    cnnviz.ascend(counted, "conv1:1", **(QUICK | {"steps": 2}))
    few = len(calls) - 2
    calls.clear()
    cnnviz.ascend(counted, "conv1:1", **(QUICK | {"steps": 7}))
    # One number a step is read after the loop; nothing else grows with the steps.
    assert len(calls) - 7 == few


def test_saved_with_how_it_was_made(net, tmp_path):
    from PIL import Image

    made = cnnviz.ascend(net, ["conv2:1", "class:0"], **QUICK)
    made.save(tmp_path / "made.png")
    with Image.open(tmp_path / "made.png") as picture:
        assert "conv2:1; class:0" in picture.text["cnnviz:objective"]
        assert "oracle" in picture.text["cnnviz:network"]
        assert picture.text["cnnviz:seed"] == "0; 0"
    assert made._repr_png_()[:4] == b"\x89PNG"


def test_softened_at_the_end_alone(net):
    options = QUICK | {"size": 12, "steps": 2, "keep": (2,)}
    sharp = cnnviz.ascend(net, "conv2:1", soften=0, **options)
    soft = cnnviz.ascend(net, "conv2:1", soften=0.8 * 224 / 12, **options)
    np.testing.assert_array_equal(soft.trace, sharp.trace)
    np.testing.assert_array_equal(soft.intermediates[0][1], sharp.images)
    wanted = cnnviz.images.gaussian_blur(sharp.images, 0.8)
    np.testing.assert_allclose(soft.images, wanted, atol=1e-12)
    assert soft.clean[0] != sharp.clean[0]
    # A small picture is softened less, as its pixels are as large as several of a large one.
    less = cnnviz.ascend(net, "conv2:1", soften=0.8, **options)
    assert np.abs(less.images - sharp.images).max() < 0.1 * np.abs(soft.images - sharp.images).max()
