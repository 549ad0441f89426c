"""What a prior learns from photos: how strong their waves are, and their colours."""

from __future__ import annotations

import numpy as np
import pytest

from cnnviz.ascent.canvas import FourierCanvas, MacoCanvas
from cnnviz.ascent.canvas.base import unsquashed
from cnnviz.ascent.canvas.prior import COLOURS, Prior, default_prior, fit_prior
from cnnviz.errors import InvalidImage
from cnnviz.testing import NumpyOps

PRIOR = Prior(
    tuple(np.geomspace(1 / 64, 0.5, 8)),
    tuple((1 / f, 0.5 / f, 0.2 / f**1.2) for f in np.geomspace(1 / 64, 0.5, 8)),
    ((0.6, 0.3, 0.1), (0.6, 0.0, -0.2), (0.5, -0.4, 0.1)),
)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def natural(rng, side=128, decay=1.0):
    """Draw a picture whose waves fall by a power, in correlated colours."""
    radius = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    spectrum = np.fft.rfft2(rng.normal(0, 1, (side, side, 3)), axes=(0, 1))
    x = np.fft.irfft2(spectrum * np.maximum(radius, 1 / side)[..., None] ** -decay, axes=(0, 1))
    return sigmoid(0.3 * (x / x.std()) @ COLOURS.T)


@pytest.mark.parametrize("decay", [0.0, 1.0, 1.5])
def test_a_prior_falls_as_its_photos_do(decay):
    rng = np.random.default_rng(0)
    prior = fit_prior([natural(rng, decay=decay) for _ in range(4)])
    frequency, magnitude = np.log(prior.frequency), np.log(prior.magnitude)
    inside = np.array(prior.frequency) > 0.03
    slopes = np.polyfit(frequency[inside], magnitude[inside], 1)[0]
    np.testing.assert_allclose(slopes, -decay, atol=0.1)


def test_colours_of_a_prior_decorrelate():
    photos = [natural(np.random.default_rng(seed)) for seed in range(4)]
    prior = fit_prior(photos)
    raw = [unsquashed(photo, prior.matrix) for photo in photos]
    pixels = np.concatenate([(x - x.mean((0, 1))).reshape(-1, 3) for x in raw])
    covariance = pixels.T @ pixels
    spread = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose(covariance / np.outer(spread, spread), np.eye(3), atol=1e-10)
    # Whitened too: what decorrelates is a square root of the covariance.
    np.testing.assert_allclose(spread / spread[0], 1, rtol=1e-10)
    assert np.linalg.norm(prior.matrix, axis=0).max() == pytest.approx(1)


def test_a_prior_is_not_what_one_picture_is_alone():
    """White noise is flat and grey photos have one colour; both still make pictures."""
    grey = np.repeat(natural(np.random.default_rng(0))[..., :1], 3, -1)
    prior = fit_prior(grey)
    lengths = np.linalg.norm(prior.matrix, axis=0)
    np.testing.assert_allclose(lengths, [1, 0.01, 0.01], rtol=1e-6)
    for canvas in (FourierCanvas(prior), MacoCanvas(prior)):
        made = canvas.to_picture(
            NumpyOps(), canvas.first(np.random.default_rng(0), (8, 8), 3)[None], (8, 8, 3)
        )
        assert np.isfinite(made).all()


def test_the_prior_of_the_package_is_that_of_photos():
    prior = default_prior()
    slope = np.polyfit(np.log(prior.frequency), np.log(prior.magnitude)[:, 0], 1)[0]
    assert -1.6 < slope < -0.9
    # Brightness is first and much the strongest; the ends of a line of ones are of one sign.
    assert (prior.matrix[:, 0] > 0).all()
    assert prior is default_prior()


def test_a_prior_goes_on_beyond_what_it_knows():
    for channels in (1, 3, 5):
        found = PRIOR.at(np.array([[0.001, 0.1, 0.7]]), channels)
        assert found.shape == (1, 3, channels)
        assert found[0, 0, 0] == pytest.approx(64)
        assert found[0, 1, 0] == pytest.approx(10)
        assert found[0, 2, 0] == pytest.approx(1 / 0.7)
    np.testing.assert_allclose(PRIOR.at(np.array([0.7]), 3)[0, 2], 0.2 / 0.7**1.2)


@pytest.mark.parametrize(
    ("photos", "text"),
    [([], "no photo"), (np.zeros((40, 20, 3)), "too small"), (np.full((40, 40, 3), 0.5), "flat")],
    ids=["none", "small", "flat"],
)
def test_photos_that_teach_nothing(photos, text):
    with pytest.raises(InvalidImage, match=text):
        fit_prior(photos)
