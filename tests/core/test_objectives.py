"""Objectives rise, add up, tell themselves apart, and are refused where they mean nothing."""

from __future__ import annotations

import numpy as np
import pytest

import cnnviz
from cnnviz import objectives as on
from cnnviz.adapter import OUTPUT
from cnnviz.ascent.canvas import GeneratorCanvas
from cnnviz.ascent.objectives import BatchScore, seed_of
from cnnviz.errors import ChannelOutOfRange, InvalidOption, UnknownLayer
from cnnviz.testing import OracleAdapter, small_pictures, small_weights

RNG = np.random.default_rng(0)
VECTOR = RNG.normal(0, 1, 4)
PATTERN = RNG.normal(0, 1, (4, 5, 4))
PHOTO = RNG.uniform(0, 1, (12, 9, 3))


def coarse(code):
    """Paint few numbers as squares, so that central differences of them are quick."""
    side = 12 // code.shape[1]
    return 1 / (1 + np.exp(-np.repeat(np.repeat(code, side, 1), side, 2)))


QUICK = {
    "recipe": cnnviz.Recipe(),
    "size": 12,
    "steps": 10,
    "canvas": GeneratorCanvas(coarse, (2, 2, 3)),
}


@pytest.fixture(scope="module")
def net():
    return OracleAdapter()


@pytest.fixture(scope="module")
def other():
    return OracleAdapter(small_weights(seed=5))


def values(net, objectives, x):
    """Give what objectives are for pictures, one each."""
    score, args = BatchScore.of(net, objectives, x.shape[1:3])
    return score(net.forward(x, taps=score.taps), *args)


RISING = {
    "channel": "conv2:1",
    "neuron": "conv1:2@3,5",
    "direction": on.direction("conv1", VECTOR),
    "direction^1": on.direction("conv1", VECTOR, 1),
    "direction^2": on.direction("conv1", VECTOR, 2),
    "spatial": on.spatial("bn1", PATTERN, 1),
    "layer": "layer:conv1",
    "class": "class:3",
    "inversion": on.inversion("conv1", PHOTO),
    "caricature": on.caricature("conv2", PHOTO),
    "sum": on.channel("conv1", 0) + 0.5 * on.class_logit(2),
    "difference": on.channel("conv1", 0) - on.channel("conv1", 1),
    "quotient": -on.channel("bn1", 0) / 3,
    "several-layers": on.layer("conv1") + on.layer("conv2") + on.channel("gap", 1),
    "diversity": [on.channel("conv1", 1) + on.diversity("bn1")] * 2,
    "alignment": [on.channel("conv1", 1) + on.alignment("conv1")] * 2,
    "interpolated": on.interpolate(on.channel("conv1", 0), on.channel("conv2", 1), 3),
}


@pytest.mark.parametrize("name", RISING)
def test_every_objective_rises_within_ten_steps(net, name):
    made = cnnviz.ascend(net, RISING[name], **QUICK)
    assert made.trace.shape[0] == 10
    assert (made.trace[-1] > made.trace[0]).all()
    assert not made.notes


def test_several_networks_are_added(net, other):
    x = small_pictures(2)
    found = values(net, [on.class_logit(1) + 2 * on.class_logit(1).on(other)] * 2, x)
    # The score of one network holds its own terms; the ascent adds those of others.
    assert found == pytest.approx(net.forward(x, taps=["fc"])["fc"][:, 1])
    score, args = BatchScore.of(other, [2 * on.class_logit(1).on(other)] * 2, own=False)
    theirs = other.forward(x, taps=score.taps)
    assert score(theirs, *args) == pytest.approx(2 * theirs["<logits>"][:, 1])
    made = cnnviz.ascend(net, on.class_logit(1) + 2 * on.class_logit(1).on(other), **QUICK)
    # As the network takes it: 10 x 10.
    picture = np.clip(cnnviz.images.resize(made.images, (10, 10), "bicubic"), 0, 1)
    shown = [one.forward(picture, taps=["fc"])["fc"][0, 1] for one in (net, other)]
    assert made.clean == pytest.approx([shown[0] + 2 * shown[1]])
    assert made.trace[-1, 0] > made.trace[0, 0]


def test_an_accentuation_begins_with_its_picture(net):
    photo = PHOTO[:9]
    objective = on.accentuation(on.channel("conv1", 1), photo, "conv1", 0.5)
    options = QUICK | {"size": 9, "canvas": cnnviz.canvas.PixelCanvas("pixel"), "steps": 3}
    options["optimizer"] = cnnviz.optimizers.GradientAscent(0.5)
    made = cnnviz.ascend(net, objective, **options)
    begun = net.forward(photo[None], taps=["conv1"])["conv1"][..., 1].mean()
    assert made.trace[0, 0] == pytest.approx(begun, rel=1e-6)
    assert made.trace[-1, 0] > made.trace[0, 0]
    assert np.abs(made.images[0] - photo).max() < 0.3


def test_copies_of_a_coupled_objective_begin_apart(net):
    made = cnnviz.ascend(net, [on.channel("conv1", 1) + on.diversity("bn1")] * 3, **QUICK)
    assert len({row.tobytes() for row in made.images}) == 3
    # And the first is the one that there is alone of its seed.
    plain = cnnviz.ascend(net, ["conv1:1"] * 2, **QUICK)
    alone = cnnviz.ascend(net, "conv1:1", **QUICK)
    np.testing.assert_allclose(plain.images[:1], alone.images, atol=1e-12)
    assert np.abs(plain.images[0] - plain.images[1]).max() > 0.01


def test_arithmetic_changes_no_operand():
    a, b = on.channel("conv1", 0), on.direction("bn1", VECTOR, 1)
    before = (str(a), str(b), hash(a), hash(b))
    results = [
        a + b,
        a - b,
        -a,
        2 * a,
        a * 2,
        a / 2,
        on.interpolate(a, b, 3),
        a.on(OracleAdapter()),
    ]
    assert (str(a), str(b), hash(a), hash(b)) == before
    assert str(results[1]).startswith("conv1:0 + -1 * bn1:(array 4")
    assert results[3] == results[4]
    held = VECTOR.copy()
    kept = on.direction("bn1", held)
    held[:] = 0
    assert kept == on.direction("bn1", VECTOR)
    for wrong in (lambda: a + 1, lambda: a * b, lambda: a / b, lambda: a - "conv1:1"):
        with pytest.raises(TypeError):
            wrong()


def test_a_seed_is_of_what_is_asked_for_alone(net):
    """The framework's own names of layers are no part of it, so that both give one picture."""
    assert seed_of(net, on.channel("conv1", 1)) == seed_of(net, on.channel("bn1", 1))
    different = {
        seed_of(net, one)
        for one in (
            on.channel("conv1", 1),
            on.channel("conv1", 2),
            2 * on.channel("conv1", 1),
            on.layer("conv1"),
            on.neuron("conv1", 1),
            on.neuron("conv1", 1, 0, 0),
            on.direction("conv1", VECTOR),
            on.direction("conv1", VECTOR, 1),
            on.spatial("bn1", PATTERN),
            on.inversion("conv1", PHOTO),
            on.caricature("conv1", PHOTO),
            on.channel("conv1", 1) + on.layer("conv1"),
        )
    }
    assert len(different) == 12
    a, b = on.channel("conv1", 1), on.layer("conv1")
    assert seed_of(net, a + b) == seed_of(net, b + a)


@pytest.mark.parametrize(
    ("text", "objective"),
    [
        ("conv1:2", on.channel("conv1", 2)),
        ("relu:0:2", on.channel("relu:0", 2)),
        ("conv1:2@3,5", on.neuron("conv1", 2, 3, 5)),
        ("layer:relu:0", on.layer("relu:0")),
        ("class:2", on.class_logit(2)),
        ("class:tiger cat", on.class_logit("tiger cat")),
    ],
)
def test_an_objective_as_text(text, objective):
    assert on.parse(text) == objective
    assert on.parse(str(objective)) == objective


REFUSED = {
    "layer": (lambda: on.channel("conv9", 1), UnknownLayer, "closest"),
    "channel": (lambda: on.channel("conv1", 4), ChannelOutOfRange, r"0\.\.3"),
    "below": (lambda: on.channel("conv1", -1), ChannelOutOfRange, r"0\.\.3"),
    "class": (lambda: on.class_logit(5), ChannelOutOfRange, r"0\.\.4"),
    "neuron": (lambda: on.neuron("conv1", 4), ChannelOutOfRange, r"0\.\.3"),
    "row": (lambda: on.neuron("conv1", 1, 8, 0), ChannelOutOfRange, r"row.*0\.\.7"),
    "column": (lambda: on.neuron("conv1", 1, 0, 9), ChannelOutOfRange, r"column.*0\.\.7"),
    "row-of-vector": (lambda: on.neuron("fc", 1, 1, 0), ChannelOutOfRange, r"row.*0\.\.0"),
    "vector": (lambda: on.direction("conv1", [1, 2, 3]), InvalidOption, "has 4 numbers"),
    "vector-of-none": (lambda: on.direction("conv1", []), InvalidOption, "1-dimensional"),
    "vector-of-zeros": (lambda: on.direction("conv1", [0, 0, 0, 0]), InvalidOption, "all zero"),
    "vector-nan": (lambda: on.direction("conv1", [1, np.nan, 0, 0]), InvalidOption, "finite"),
    "matrix": (lambda: on.direction("conv1", np.eye(4)), InvalidOption, "1-dimensional"),
    "power": (lambda: on.direction("conv1", VECTOR, -1), InvalidOption, "power"),
    "power-nan": (lambda: on.spatial("conv1", PATTERN, np.nan), InvalidOption, "power"),
    "pattern": (lambda: on.spatial("conv2", PATTERN), InvalidOption, "has 6 channels"),
    "pattern-flat": (lambda: on.spatial("conv1", VECTOR), InvalidOption, "3-dimensional"),
    "decay": (lambda: on.alignment("conv1", 0.5), InvalidOption, "at least 1"),
    "row-of-one": (
        lambda: on.interpolate(on.layer("conv1"), on.layer("bn1"), 1),
        InvalidOption,
        "2",
    ),
    "text": (lambda: "conv1:two", InvalidOption, "LAYER:CHANNEL@ROW,COLUMN"),
    "nothing": (list, InvalidOption, "no objective"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_means_nothing_is_one_clear_line(net, name):
    make, error, text = REFUSED[name]
    with pytest.raises(error, match=text) as caught:
        cnnviz.ascend(net, make(), **QUICK)
    assert "\n" not in str(caught.value)


def test_views_of_pictures_that_are_compared(net):
    with pytest.raises(InvalidOption, match="views=1"):
        cnnviz.ascend(net, [on.diversity("bn1")] * 2, **QUICK, views=2)


@pytest.mark.parametrize("asked", ["conv1:1", on.layer("conv1"), on.class_logit(0)], ids=str)
def test_what_does_not_depend_on_the_picture(asked):
    weights = small_weights()
    weights["conv1.kernel"] = weights["conv1.kernel"] * 0
    with pytest.raises(InvalidOption, match="does not depend on the picture"):
        cnnviz.ascend(OracleAdapter(weights), asked, **QUICK)


def test_an_output_by_its_place_is_named(net):
    assert str(on.attribute("age", 0)) == "output[age]:0"
    assert on.attribute(1, 2).terms[0].tap == f"{OUTPUT}[1]"
