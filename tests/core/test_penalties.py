"""Penalties in closed form, and what they do to the slope of an ascent."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

import cnnviz
from cnnviz.ascent.canvas import PixelCanvas
from cnnviz.ascent.penalties import L1, L2, BlurDifference, Boundary, TotalVariation
from cnnviz.errors import InvalidOption
from cnnviz.testing import NumpyOps, OracleAdapter

OPS = NumpyOps()
X = np.random.default_rng(0).uniform(0, 1, (2, 11, 13, 3))


def edged(x, depth, across, grey):
    inner = np.ones(x.shape[:2], bool)
    inner[depth:-depth, across:-across] = False
    return np.sum(((x - grey) ** 2)[inner])


def blurred(x, sigma):
    return cv2.GaussianBlur(x, (11, 11), sigma, borderType=cv2.BORDER_REFLECT)


CLOSED = {
    "l1": (L1(0.05), lambda x: 0.05 * np.abs(x - 0.5).sum()),
    "l1-black": (L1(2.0, grey=0.0), lambda x: 2 * x.sum()),
    "l2": (L2(0.3), lambda x: 0.3 * np.sum((x - 0.5) ** 2)),
    "tv": (
        TotalVariation(0.25),
        lambda x: 0.25 * sum(np.abs(np.diff(x, axis=a)).sum() for a in (0, 1)),
    ),
    "blur": (
        BlurDifference(1.0, sigma=1.2),
        lambda x: 0.5 * np.sum((x - blurred(x, 1.2)) ** 2),
    ),
    "boundary": (Boundary(0.7, width=0.2), lambda x: 0.7 * edged(x, 2, 3, 0.5)),
    "thin": (Boundary(0.7, width=0.01, grey=0.2), lambda x: 0.7 * edged(x, 1, 1, 0.2)),
}


@pytest.mark.parametrize("name", CLOSED)
def test_a_penalty_is_what_it_says(name):
    penalty, wanted = CLOSED[name]
    np.testing.assert_allclose(penalty(OPS, X), [wanted(x) for x in X], rtol=1e-12)


@pytest.mark.parametrize("name", CLOSED)
def test_a_grey_picture_costs_nothing(name):
    penalty = CLOSED[name][0]
    grey = np.full((1, 11, 13, 3), getattr(penalty, "grey", 0.5))
    np.testing.assert_allclose(penalty(OPS, grey), 0, atol=1e-12)


@pytest.mark.parametrize("name", CLOSED)
def test_a_penalty_is_taken_off_the_score_and_off_its_slope(name):
    """One step along the slope is one along the objective's own less the penalty's."""
    penalty = CLOSED[name][0]
    net = OracleAdapter()
    options = {
        "recipe": cnnviz.Recipe(),
        "size": (8, 9),
        "steps": 1,
        "clamp": False,
        "canvas": PixelCanvas("pixel", deviation=0.1),
        "optimizer": cnnviz.optimizers.GradientAscent(1e-2),
    }
    plain = cnnviz.ascend(net, "conv2:1", **options)
    made = cnnviz.ascend(net, "conv2:1", **options, penalties=(penalty,))
    twice = cnnviz.ascend(net, "conv2:1", **options, penalties=(penalty, penalty))
    begun = cnnviz.ascend(
        net, "conv2:1", **options | {"optimizer": cnnviz.optimizers.GradientAscent(1e-30)}
    )
    cost = penalty(OPS, begun.images)
    np.testing.assert_allclose(plain.trace[0] - made.trace[0], cost, rtol=1e-6)
    np.testing.assert_allclose(plain.trace[0] - twice.trace[0], 2 * cost, rtol=1e-6)
    # By central differences of the penalty alone, at three places.
    for place in ((0, 0, 0, 0), (0, 4, 4, 1), (0, 7, 8, 2)):
        ends = []
        for step in (1e-5, -1e-5):
            nudged = begun.images.copy()
            nudged[place] += step
            ends.append(penalty(OPS, nudged)[0])
        slope = (ends[0] - ends[1]) / 2e-5
        moved = (plain.images - made.images)[place]
        assert moved == pytest.approx(1e-2 * slope, rel=1e-3, abs=1e-7)


@pytest.mark.parametrize("weight", [np.nan, np.inf])
@pytest.mark.parametrize("kind", [L1, L2, TotalVariation, BlurDifference, Boundary])
def test_a_weight_that_is_no_number(kind, weight):
    with pytest.raises(InvalidOption, match="finite number"):
        kind(weight)


def test_something_else_for_a_penalty():
    with pytest.raises(InvalidOption, match="Penalty"):
        cnnviz.Recipe(penalties=(0.5,))
    with pytest.raises(InvalidOption, match="tuple"):
        cnnviz.Recipe(penalties=L1(0.5))
