"""Optimizers in closed form; tests/contract holds them to PyTorch's own."""

from __future__ import annotations

import numpy as np
import pytest

from cnnviz.ascent.optimizers import (
    Adam,
    AdamW,
    GradientAscent,
    NAdam,
    NormalisedGradient,
    RMSprop,
)
from cnnviz.errors import InvalidOption
from cnnviz.testing import NumpyOps

OPS = NumpyOps()
ALL = [
    GradientAscent(0.1),
    Adam(0.1),
    Adam(0.1, weight_decay=0.1),
    AdamW(0.1),
    NAdam(0.1),
    NAdam(0.1, weight_decay=0.1),
    RMSprop(0.1),
    NormalisedGradient(0.1, "l2"),
    NormalisedGradient(0.1, "rms"),
    NormalisedGradient(0.1, "std"),
]


def climbed(optimizer, x, slope_of, steps):
    state = optimizer.first(x)
    for count in range(1, steps + 1):
        rates = np.array(optimizer.rates(count))
        x, state = optimizer.step(OPS, x, slope_of(x), state, rates)
    return x


def start(shape=(2, 3, 4, 3)):
    return np.random.default_rng(0).normal(0, 1, shape)


@pytest.mark.parametrize("optimizer", ALL, ids=repr)
def test_it_climbs_a_hill(optimizer):
    x, top = start(), 0.3
    found = climbed(optimizer, x, lambda x: top - x, 300)
    assert np.abs(found - top).max() < 0.5 * np.abs(x - top).max()


@pytest.mark.parametrize("optimizer", ALL, ids=repr)
def test_a_picture_does_not_depend_on_those_beside_it(optimizer):
    x = start()
    slope_of = lambda x: np.sin(3 * x) + 0.1  # noqa: E731
    together = climbed(optimizer, x, slope_of, 7)
    for row in range(2):
        alone = climbed(optimizer, x[row : row + 1], slope_of, 7)
        np.testing.assert_allclose(together[row], alone[0], rtol=1e-12)


def test_a_step_along_the_gradient():
    np.testing.assert_allclose(
        climbed(GradientAscent(0.2), start(), np.cos, 1), start() + 0.2 * np.cos(start())
    )


@pytest.mark.parametrize("norm", ["l2", "rms", "std"])
def test_a_step_of_fixed_size(norm):
    x, slope = start(), np.random.default_rng(1).normal(0.3, 2, (2, 3, 4, 3))
    moved = climbed(NormalisedGradient(0.5, norm), x, lambda x: slope, 1) - x
    measure = {
        "l2": lambda d: np.sqrt(np.sum(d**2)),
        "rms": lambda d: np.sqrt(np.mean(d**2)),
        "std": np.std,
    }[norm]
    for row in range(2):
        assert measure(moved[row]) == pytest.approx(0.5)
        ratio = moved[row] / slope[row]
        np.testing.assert_allclose(ratio, ratio[0, 0, 0])


@pytest.mark.parametrize("optimizer", [Adam(0.05), AdamW(0.05, weight_decay=0.0)], ids=repr)
def test_the_first_step_of_adam_is_its_rate(optimizer):
    x = start()
    moved = climbed(optimizer, x, np.cos, 1) - x
    np.testing.assert_allclose(moved, 0.05 * np.sign(np.cos(x)), rtol=1e-6)


def test_the_first_step_of_rmsprop_is_ten_times_its_rate():
    """Its mean begins at zero: the root of a hundredth of the square."""
    x = start()
    moved = climbed(RMSprop(0.05), x, np.cos, 1) - x
    np.testing.assert_allclose(moved, 0.5 * np.sign(np.cos(x)), rtol=1e-4)


def test_decay_apart_from_the_gradient():
    """Without a slope AdamW shrinks by its rate times its decay at each step, and Adam by more."""
    x = start()
    found = climbed(AdamW(0.1, weight_decay=0.5), x, np.zeros_like, 10)
    np.testing.assert_allclose(found, x * (1 - 0.1 * 0.5) ** 10, rtol=1e-12)
    pulled = climbed(Adam(0.1, weight_decay=0.5), x, np.zeros_like, 1)
    np.testing.assert_allclose(pulled, x - 0.1 * np.sign(x), atol=1e-5)


@pytest.mark.parametrize("optimizer", ALL, ids=repr)
def test_a_flat_place_is_stayed_at(optimizer):
    """Also where the length of the gradient is zero, which nothing may be divided by."""
    x = start() * 0
    np.testing.assert_array_equal(climbed(optimizer, x, np.zeros_like, 3), x)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Adam(0.0),
        lambda: Adam(-1.0),
        lambda: Adam(np.nan),
        lambda: Adam(0.1, beta1=1.0),
        lambda: NAdam(0.1, beta2=-0.1),
        lambda: RMSprop(0.0),
        lambda: RMSprop(0.1, decay=1.0),
        lambda: GradientAscent(0.0),
        lambda: NormalisedGradient(0.0),
        lambda: NormalisedGradient(1.0, "max"),
    ],
)
def test_rates_that_cannot_be_meant(make):
    with pytest.raises(InvalidOption) as caught:
        make()
    assert "\n" not in str(caught.value)
