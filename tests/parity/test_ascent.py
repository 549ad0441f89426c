"""Each part of an ascent says the same in PyTorch and in Keras, to the ninth digit."""

from __future__ import annotations

import numpy as np
import pytest
from nets import keras_small, torch_small

import cnnviz
from cnnviz import objectives as on
from cnnviz.adapter import INPUT
from cnnviz.ascent import optimizers, penalties, projections, transforms
from cnnviz.ascent.canvas import (
    CPPNCanvas,
    FourierCanvas,
    LaplacianCanvas,
    MacoCanvas,
    PixelCanvas,
    Prior,
    SharedCanvas,
    TransparentCanvas,
    masked,
)
from cnnviz.testing import SMALL_PREPROCESSING, small_weights

TOLERANCE = 1e-9
RNG = np.random.default_rng(0)
PHOTO = RNG.uniform(0, 1, (12, 11, 3))
VECTOR = RNG.normal(0, 1, 4)
PATTERN = RNG.normal(0, 1, (5, 6, 4))
FREQUENCIES = np.geomspace(1 / 64, 0.5, 8)
PRIOR = Prior(
    tuple(FREQUENCIES),
    tuple((1 / f, 0.5 / f, 0.2 / f**1.2) for f in FREQUENCIES),
    ((0.6, 0.3, 0.1), (0.6, 0.0, -0.2), (0.5, -0.4, 0.1)),
)
BARE = cnnviz.Recipe(size=(12, 11), steps=32, canvas=FourierCanvas())


def nets(weights=None):
    models = (
        torch_small.settle(torch_small.Small(), weights),
        keras_small.settle(keras_small.functional(), weights),
    )
    return tuple(cnnviz.adapt(model, SMALL_PREPROCESSING) for model in models)


@pytest.fixture(scope="module")
def pair():
    return nets()


def assert_same(a, b, what):
    assert a.dtype == b.dtype == np.float64
    assert a.shape == b.shape
    assert np.abs(a - b).max() <= TOLERANCE * np.abs(a).max() > 0, what


def assert_ascents(pair, objective, **options):
    """Climb in both, and give what torch made."""
    a, b = (cnnviz.ascend(net, objective, BARE, **options) for net in pair)
    assert len(a.trace) == len(b.trace) > 8
    assert_same(a.trace, b.trace, "objectives")
    assert_same(a.images, b.images, "pictures")
    assert_same(a.clean, b.clean, "objectives without transforms")
    assert a.notes == b.notes
    # What nothing changes is the same as well, and proves nothing.
    assert np.ptp(a.trace, axis=0).min() > 1e-3
    return a


CANVASES = {
    "pixel": PixelCanvas(),
    "pixel-uniform": PixelCanvas("pixel", "uniform"),
    "fourier": FourierCanvas(),
    "fourier-prior": FourierCanvas(PRIOR),
    "maco": MacoCanvas(),
    "maco-prior": MacoCanvas(PRIOR),
    "laplacian": LaplacianCanvas(levels=3),
    "shared": SharedCanvas(own=FourierCanvas(), factor=4),
    "transparent": TransparentCanvas(),
    "masked": masked(PHOTO, RNG.uniform(0, 1, (12, 11)), FourierCanvas()),
}


@pytest.mark.parametrize("name", CANVASES)
def test_canvases(pair, name):
    assert_ascents(pair, ["conv2:1", "fc:2"], canvas=CANVASES[name])


def test_a_canvas_that_begins_flat(pair):
    """A flat picture ties in every pool, so the layers before it are asked."""
    assert_ascents(pair, ["conv1:1", "layer:bn1"], canvas=CPPNCanvas(3, 6))


def test_a_start_and_octaves(pair):
    options = {"octaves": 3, "octave_scale": 1.2, "steps": 8, "enlarge_last": True}
    assert_ascents(pair, ["conv2:1", "fc:2"], start=PHOTO, **options)


TRANSFORMS = {
    "pad": transforms.Pad(40, 0.3),
    "crop": transforms.Crop(19),
    "jitter": transforms.Jitter(60),
    "scale": transforms.Scale(0.8, 1.3),
    "rotate": transforms.Rotate(20.0),
    "flip": transforms.Flip(),
    "random-crop": transforms.RandomCrop(0.8, 0.4),
    "roll": transforms.Roll(3),
    "blur": transforms.Blur(0.7),
    "noise": transforms.Noise(0.1),
    "colour": transforms.Colour(0.2, 0.1),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms(pair, name):
    assert_ascents(pair, ["conv2:1", "fc:2"], transforms=(TRANSFORMS[name],))


def test_chains(pair):
    chain = (*transforms.distill(), *(TRANSFORMS[n] for n in ("roll", "noise", "colour", "blur")))
    assert_ascents(pair, ["conv2:1", "fc:2"], transforms=chain, jitter=2)


def test_views(pair):
    chain = (transforms.RandomCrop(0.8, 0.4), transforms.Flip(), transforms.Noise(0.08))
    assert_ascents(pair, ["conv2:1", "fc:2"], transforms=chain, views=2)


OBJECTIVES = {
    "channel": "conv2:1",
    "neuron": "conv1:2@3,5",
    "direction": on.direction("conv1", VECTOR),
    "direction^1": on.direction("conv1", VECTOR, 1),
    "direction^2": on.direction("conv1", VECTOR, 2, row=2),
    "spatial": on.spatial("bn1", PATTERN),
    "spatial^2": on.spatial("bn1", PATTERN, 2),
    "layer": "layer:relu:0",
    "class": "class:3",
    "odds": "odds:3",
    "inversion": on.inversion("conv2", PHOTO),
    "caricature": on.caricature("conv2", PHOTO, 1.5),
    "accentuation": on.accentuation(on.channel("conv2", 1), PHOTO, "conv1", 0.5),
    "sum": on.channel("conv1", 0) - 0.5 * on.class_logit(2) + on.layer("conv2") / 3,
    "diversity": [on.channel("conv1", 1) + on.diversity("bn1")] * 3,
    "alignment": [on.channel("conv1", 1) + on.alignment("conv1")] * 4,
    "interpolated": on.interpolate(on.channel("conv1", 0), on.channel("conv2", 1), 3),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_objectives(pair, name):
    assert_ascents(pair, OBJECTIVES[name])


@pytest.mark.parametrize("swapped", [False, True], ids=["torch-first", "keras-first"])
def test_several_networks(pair, swapped):
    """One objective asks the networks of both frameworks at once."""
    first, second = pair[::-1] if swapped else pair
    both = on.channel("conv2", 1) + 2 * on.channel("fc", 2).on(second)
    alone = on.channel("conv2", 1) + 2 * on.channel("fc", 2)
    a = cnnviz.ascend(first, both, BARE)
    b = cnnviz.ascend(first, alone, BARE)
    assert_same(a.trace, b.trace, "objectives")
    assert_same(a.images, b.images, "pictures")


OPTIMIZERS = {
    "gradient": optimizers.GradientAscent(0.5),
    "adam": optimizers.Adam(0.05, weight_decay=1e-3),
    "adamw": optimizers.AdamW(0.05, weight_decay=0.1),
    "nadam": optimizers.NAdam(0.05),
    "rmsprop": optimizers.RMSprop(0.01),
    "l2": optimizers.NormalisedGradient(0.5, "l2"),
    "rms": optimizers.NormalisedGradient(0.05, "rms"),
    "std": optimizers.NormalisedGradient(0.05, "std"),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers(pair, name):
    options = {"schedule": "cosine", "l2": 1e-3}
    assert_ascents(pair, ["conv2:1", "fc:2"], optimizer=OPTIMIZERS[name], **options)


PENALTIES = {
    "l1": penalties.L1(0.02),
    "l2": penalties.L2(0.05),
    "tv": penalties.TotalVariation(0.01),
    "blur": penalties.BlurDifference(0.2, 0.8),
    "boundary": penalties.Boundary(0.1, 0.2),
}


@pytest.mark.parametrize("name", PENALTIES)
def test_penalties(pair, name):
    # Not clamped: neighbours at one limit tie, and XLA's rounding of their difference has a sign.
    options = {"canvas": PixelCanvas(), "clamp": False}
    assert_ascents(pair, ["conv2:1", "fc:2"], **options, penalties=(PENALTIES[name],))


PROJECTIONS = {
    "gaussian": (projections.GaussianBlur(2, 0.5), FourierCanvas()),
    "gaussian-pixels": (projections.GaussianBlur(2, 0.5), PixelCanvas()),
    "box": (projections.BoxBlur(4), PixelCanvas()),
    "bilateral": (projections.BilateralBlur(2), PixelCanvas()),
}


@pytest.mark.parametrize("name", PROJECTIONS)
def test_projections(pair, name):
    projection, canvas = PROJECTIONS[name]
    assert_ascents(pair, ["conv2:1", "fc:2"], canvas=canvas, projections=(projection,))


def test_waves_revealed(pair):
    """From a photo, or of layers before the pool, in which what is flat along one side ties."""
    assert_ascents(pair, ["conv1:1", "layer:bn1"], reveal=0.7)
    assert_ascents(pair, ["conv2:1", "fc:2"], reveal=0.7, start=PHOTO)


def test_ends_at_a_plateau(pair):
    options = {"plateau": 4, "tolerance": 0.05, "optimizer": optimizers.Adam(0.3)}
    made = assert_ascents(pair, ["class:2", "conv1:1"], canvas=PixelCanvas(), **options)
    assert len(made.trace) < 32


@pytest.fixture(scope="module")
def drowsy():
    """Two networks in which a unit answers to nothing but what is far from noise."""
    weights = small_weights()
    weights["conv2.bias"] = weights["conv2.bias"] - [0, 3.0, 0, 0, 0, 0]
    return nets(weights)


@pytest.mark.parametrize("objective", ["relu:1:1", "relu:1:1@0,0"])
def test_units_that_are_woken(drowsy, objective):
    made = assert_ascents(drowsy, [objective, "conv2:2"], optimizer=optimizers.Adam(0.2))
    assert made.trace[0, 0] == 0 < made.trace[-1, 0]


def test_gradients_that_are_redirected(drowsy):
    found = []
    for net in drowsy:

        def score(acts, net=net):
            return net.ops.sum(acts["relu:1"][..., 1], axis=(1, 2))

        x = net.ops.asarray(np.stack([PHOTO * 0.1, PHOTO]))
        slope = net.gradient(score, x, taps=["relu:1"], relu="redirected").gradients[INPUT]
        found.append(net.ops.to_numpy(slope))
    assert_same(*found, "gradients")
