"""How a climb goes: starts, seeds, schedules, waves revealed, units woken, and when it ends."""

from __future__ import annotations

import numpy as np
import pytest

import cnnviz
from cnnviz import objectives as on
from cnnviz.ascent.canvas import FourierCanvas, GeneratorCanvas, PixelCanvas
from cnnviz.ascent.objectives import seed_of
from cnnviz.ascent.optimizers import Adam, GradientAscent
from cnnviz.ascent.transforms import Noise
from cnnviz.errors import InvalidOption
from cnnviz.testing import OracleAdapter, small_weights


def coarse(code):
    """Paint few numbers as squares, so that central differences of them are quick."""
    side = 12 // code.shape[1]
    return 1 / (1 + np.exp(-np.repeat(np.repeat(code, side, 1), side, 2)))


QUICK = {
    "recipe": cnnviz.Recipe(),
    "size": 12,
    "steps": 6,
    "canvas": GeneratorCanvas(coarse, (2, 2, 3)),
}
WAVES = {"recipe": cnnviz.Recipe(), "size": (8, 9), "steps": 4, "clamp": False}


@pytest.fixture(scope="module")
def net():
    return OracleAdapter()


def drowsy(by):
    """Give a network in which one unit answers to nothing but what is far from noise."""
    weights = small_weights()
    weights["conv2.bias"] = weights["conv2.bias"] - [0, by, 0, 0, 0, 0]
    return OracleAdapter(weights)


# Units without a gradient.


@pytest.mark.parametrize("asked", ["relu:1:1", on.neuron("relu:1", 1, 0, 0)], ids=str)
def test_a_unit_that_is_asleep_is_woken(asked):
    net, options = drowsy(2.0), QUICK | {"steps": 12, "optimizer": Adam(0.6)}
    made = cnnviz.ascend(net, asked, **options)
    assert made.trace[0, 0] == 0
    assert made.trace[-1, 0] > 0.1
    assert not made.notes
    left = cnnviz.ascend(net, asked, **options, redirect=0)
    assert not left.trace.any()
    assert len(left.notes) == 1
    assert "dead" in left.notes[0]


def test_a_unit_that_cannot_be_woken_is_told(net):
    made = cnnviz.ascend(drowsy(50.0), ["relu:1:1", "conv2:1", "relu:1:1"], **QUICK)
    assert len(made.notes) == 1
    assert made.notes[0].startswith("relu:1:1 is dead: it never answered")
    assert "6 steps" in made.notes[0]
    assert made.trace[-1, 1] > made.trace[0, 1]


def test_waking_one_picture_leaves_those_beside_it(net):
    both = cnnviz.ascend(drowsy(2.0), ["relu:1:1", "conv2:2"], **QUICK)
    alone = cnnviz.ascend(drowsy(2.0), "conv2:2", **QUICK, redirect=0)
    np.testing.assert_allclose(both.images[1], alone.images[0], atol=1e-9)


# Where it begins, and with which seed.


def test_it_begins_with_a_picture(net):
    photo = np.random.default_rng(0).uniform(0.2, 0.8, (8, 9, 3))
    still = WAVES | {"steps": 1, "optimizer": GradientAscent(1e-30)}
    for canvas in (PixelCanvas(), FourierCanvas()):
        made = cnnviz.ascend(net, ["conv2:1", "conv1:2"], start=photo, **still, canvas=canvas)
        np.testing.assert_allclose(made.images, [photo, photo], atol=1e-6)
    several = np.stack([photo, photo[::-1]])
    made = cnnviz.ascend(net, ["conv2:1", "conv1:2"], start=several, **still)
    np.testing.assert_allclose(made.images, several, atol=1e-6)
    with pytest.raises(InvalidOption, match="2 pictures to begin with for 3 objectives"):
        cnnviz.ascend(net, ["conv2:1"] * 3, start=several, **still)


def test_the_best_seed_is_kept(net):
    each = [cnnviz.ascend(net, "conv2:1", seed=seed, **QUICK) for seed in (3, 4, 5, 6)]
    best = int(np.argmax([one.clean[0] for one in each]))
    made = cnnviz.ascend(net, ["conv1:0", "conv2:1"], seed=3, best_of=4, **QUICK)
    assert made.images.shape[0] == len(made.seeds) == 2
    assert made.seeds[1] == 3 + best
    np.testing.assert_allclose(made.images[1], each[best].images[0], atol=1e-9)
    np.testing.assert_allclose(made.trace[:, 1], each[best].trace[:, 0], atol=1e-9)
    assert made.clean[1] == pytest.approx(max(one.clean[0] for one in each))
    assert len({one.clean[0] for one in each}) == 4


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_batches_change_nothing(net, batch):
    asked = ["conv1:0", "conv2:1", "class:3", "conv2:1"]
    whole = cnnviz.ascend(net, asked, **QUICK, batch=4)
    made = cnnviz.ascend(net, asked, **QUICK, batch=batch)
    np.testing.assert_allclose(made.images, whole.images, atol=1e-9)
    np.testing.assert_allclose(made.trace, whole.trace, atol=1e-9)
    np.testing.assert_allclose(made.clean, whole.clean, atol=1e-9)


def test_the_clean_value_has_no_transforms_and_no_penalties(net):
    noisy = WAVES | {"steps": 1, "transforms": (Noise(0.3),)}
    made = cnnviz.ascend(net, "conv1:1", **noisy, penalties=(cnnviz.penalties.L2(3.0),))
    shown = net.forward(made.images, taps=["conv1"])["conv1"][..., 1].mean()
    assert made.clean == pytest.approx([shown])


@pytest.mark.parametrize("option", ["best_of", "batch"])
@pytest.mark.parametrize("value", [0, -1, 1.5])
def test_counts_that_cannot_be_meant(net, option, value):
    with pytest.raises(InvalidOption, match=f"{option} is a whole number"):
        cnnviz.ascend(net, "conv1:1", **QUICK, **{option: value})


# How it goes on.


@pytest.mark.parametrize(
    ("schedule", "shares"),
    [
        ("constant", [1, 1, 1, 1]),
        ("linear", [1, 0.75, 0.5, 0.25]),
        ("cosine", [1, (1 + np.sqrt(0.5)) / 2, 0.5, (1 - np.sqrt(0.5)) / 2]),
    ],
)
def test_steps_shrink_as_the_schedule_says(net, schedule, shares):
    """Adam's steps are as long as its rate while the slope keeps its sign: those of a line."""
    flat = GeneratorCanvas(
        lambda code: 0.5 + 0.01 * np.repeat(np.repeat(code, 12, 1), 12, 2), (1, 1, 3), deviation=0.0
    )
    options = QUICK | {"canvas": flat, "steps": 4, "keep": (1, 2, 3, 4)}
    made = cnnviz.ascend(net, "conv1:1", **options, optimizer=Adam(0.1), schedule=schedule)
    values = np.stack([(picture[0, 0, 0] - 0.5) / 0.01 for _, picture in made.intermediates])
    steps = np.abs(np.diff(values, axis=0, prepend=np.zeros((1, 3))))
    np.testing.assert_allclose(steps, 0.1 * np.array(shares)[:, None] * np.ones(3), rtol=1e-3)


def test_waves_are_revealed_from_the_longest_on(net):
    canvas = FourierCanvas()
    made = cnnviz.ascend(net, "conv1:1", **WAVES, canvas=canvas, reveal=0.75, keep=(1, 2, 3, 4))
    waves = canvas.frequencies((8, 9, 3))[..., 0]
    top, free = waves.max(), []
    for step, picture in made.intermediates:
        values = np.abs(canvas.from_picture(picture)[0]).max(-1)
        limit = top * 2.0 ** (-4 * (1 - min(1, step / 3)))
        # What is not free yet is zero, up to rounding.
        assert values[waves > limit * (1 + 1e-9)].max(initial=0) < 1e-9
        free.append(int((values > 1e-6).sum()))
    assert free == sorted(free)
    assert free[0] < free[2] == free[3] == waves.size


def test_what_a_picture_begins_with_is_revealed_at_once(net):
    photo = np.random.default_rng(0).uniform(0.2, 0.8, (8, 9, 3))
    still = WAVES | {"steps": 1, "optimizer": GradientAscent(1e-30)}
    made = cnnviz.ascend(net, "conv1:1", start=photo, **still, canvas=FourierCanvas(), reveal=1.0)
    np.testing.assert_allclose(made.images[0], photo, atol=1e-6)


def test_a_picture_that_rises_no_more_is_done(net):
    """A code of limited size soon lies in its corner, and stays there."""
    canvas = GeneratorCanvas(coarse, (2, 2, 3), limit=1.0)
    options = QUICK | {"canvas": canvas, "steps": 60, "optimizer": Adam(0.5)}
    made = cnnviz.ascend(net, "conv1:1", **options, plateau=4, tolerance=1e-3)
    assert 8 <= len(made.trace) < 40
    whole = cnnviz.ascend(net, "conv1:1", **options)
    assert len(whole.trace) == 60
    np.testing.assert_allclose(made.images, whole.images, atol=1e-6)
    np.testing.assert_allclose(made.trace, whole.trace[: len(made.trace)])
    both = cnnviz.ascend(net, ["conv1:1", "layer:conv2"], **options, plateau=4, tolerance=1e-3)
    np.testing.assert_allclose(both.images[:1], made.images, atol=1e-6)


def test_batches_that_end_at_other_steps_are_put_together(net):
    canvas = GeneratorCanvas(coarse, (2, 2, 3), limit=1.0)
    options = QUICK | {"canvas": canvas, "steps": 40, "optimizer": Adam(0.5)}
    options |= {"plateau": 4, "tolerance": 1e-3}
    asked = ["conv1:1", "layer:conv2", "class:3"]
    made = cnnviz.ascend(net, asked, **options, batch=1)
    singles = [cnnviz.ascend(net, one, **options) for one in asked]
    assert len(made.trace) == max(len(one.trace) for one in singles)
    for row, one in enumerate(singles):
        np.testing.assert_allclose(made.trace[: len(one.trace), row], one.trace[:, 0])
        np.testing.assert_allclose(made.trace[len(one.trace) :, row], one.trace[-1, 0])
        assert made.octaves[0, row] == one.octaves[0, 0]


def test_views_are_a_mean_of_their_own_draws(net):
    """With noise that is drawn for each view, the score is the mean of the views' scores."""
    options = WAVES | {"steps": 1, "canvas": PixelCanvas("pixel", deviation=0.1)}
    made = cnnviz.ascend(net, "conv1:1", **options, transforms=(Noise(0.2),), views=3)
    rng = np.random.default_rng([0, seed_of(net, on.channel("conv1", 1))])
    picture = rng.normal(0, 0.1, (8, 9, 3)) + 0.5
    noise = [rng.standard_normal((8, 9, 3), np.float32) * np.float32(0.2) for _ in range(3)]
    seen = np.stack([picture + one for one in noise])
    wanted = net.forward(seen, taps=["conv1"])["conv1"][..., 1].mean()
    assert made.trace[0, 0] == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"views": 0}, "views must be at least 1"),
        ({"plateau": -1}, "plateau must not be below zero"),
        ({"tolerance": -1}, "tolerance must not be below zero"),
        ({"reveal": 1.5}, r"in \[0, 1\]"),
        ({"redirect": -1}, "redirect must not be below zero"),
        ({"schedule": "step"}, "'constant', 'linear' or 'cosine'"),
        ({"canvas": FourierCanvas}, "canvas takes one Canvas"),
        ({"optimizer": "adam"}, "optimizer takes one Optimizer"),
        ({"transforms": Noise(0.1)}, "takes a tuple of Transforms"),
        ({"transforms": (Adam(),)}, "takes a tuple of Transforms"),
    ],
)
def test_settings_that_cannot_be_meant(net, options, text):
    with pytest.raises(InvalidOption, match=text):
        cnnviz.ascend(net, "conv1:1", **QUICK | options)
