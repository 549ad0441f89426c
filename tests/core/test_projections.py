"""What is done to the canvas after a step: the blurs of OpenCV, and one of waves."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.testing import assert_allclose

from cnnviz.ascent.canvas import FourierCanvas, PixelCanvas
from cnnviz.ascent.projections import BilateralBlur, BoxBlur, GaussianBlur
from cnnviz.ascent.transforms import Blur
from cnnviz.errors import InvalidOption
from cnnviz.testing import NumpyOps

OPS = NumpyOps()


def pictures(size=(9, 12), count=2, seed=0):
    return np.random.default_rng(seed).uniform(0, 1, (count, *size, 3))


@pytest.mark.parametrize("sigma", [0.5, 1.0, 1.7])
@pytest.mark.parametrize("size", [(9, 12), (16, 16)], ids=str)
def test_a_blur_is_that_of_opencv(size, sigma):
    x = pictures(size)
    radius = max(1, int(4 * sigma + 0.5))
    side = 2 * radius + 1
    wanted = [
        cv2.GaussianBlur(one, (side, side), sigma, borderType=cv2.BORDER_REFLECT) for one in x
    ]
    assert_allclose(Blur(sigma).apply(OPS, x, ()), wanted, atol=1e-12)
    assert_allclose(GaussianBlur(sigma=sigma)(OPS, PixelCanvas(), x), wanted, atol=1e-12)


@pytest.mark.parametrize("side", [1, 3, 5])
def test_a_box_blur_is_that_of_opencv(side):
    x = pictures()
    wanted = [cv2.blur(one, (side, side), borderType=cv2.BORDER_REFLECT) for one in x]
    assert_allclose(BoxBlur(side=side)(OPS, PixelCanvas(), x), wanted, atol=1e-12)


@pytest.mark.parametrize("unit", ["pixel", "normalised"])
@pytest.mark.parametrize("diameter", [3, 5, 7])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_bilateral_blur_is_that_of_opencv(unit, diameter, channels):
    canvas = PixelCanvas(unit)
    x = pictures((13, 16))[..., :channels].astype(np.float32)
    blur = BilateralBlur(diameter=diameter)
    wanted = np.stack(
        [
            cv2.bilateralFilter(one, diameter, 25 / 255, 25.0, borderType=cv2.BORDER_REFLECT_101)
            for one in x
        ]
    ).reshape(x.shape)
    found = blur(OPS, canvas, canvas.from_picture(x.astype(float)))
    shown = canvas.to_picture(OPS, found, (13, 16, channels))
    assert_allclose(shown, wanted, atol=2e-5)
    assert np.abs(shown - x).max() > 1e-3


def test_a_bilateral_blur_keeps_edges():
    x = np.zeros((1, 8, 8, 3))
    x[:, :, 4:] = 1.0
    assert_allclose(BilateralBlur()(OPS, PixelCanvas("pixel"), x), x, atol=1e-12)


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (2, 2)], ids=str)
def test_a_bilateral_blur_of_next_to_nothing(shape):
    x = pictures(shape)
    found = BilateralBlur(diameter=5)(OPS, PixelCanvas("pixel"), x)
    assert found.shape == x.shape
    assert np.isfinite(found).all()


def test_a_blur_of_waves_is_one_that_goes_round():
    canvas, shape = FourierCanvas(), (8, 9, 3)
    values = np.stack([canvas.first(np.random.default_rng(0), (8, 9), 3)])
    blurred = canvas.raw(OPS, GaussianBlur(sigma=0.8)(OPS, canvas, values), shape)
    spectrum = np.fft.fft2(canvas.raw(OPS, values, shape), axes=(1, 2))
    squared = np.fft.fftfreq(8)[:, None] ** 2 + np.fft.fftfreq(9) ** 2
    kept = np.exp(-2 * (np.pi * 0.8) ** 2 * squared)[None, ..., None]
    assert_allclose(blurred, np.fft.ifft2(spectrum * kept, axes=(1, 2)).real, atol=1e-12)


@pytest.mark.parametrize(
    "make",
    [
        lambda: GaussianBlur(sigma=0),
        lambda: GaussianBlur(every=0),
        lambda: GaussianBlur(every=1.5),
        lambda: BoxBlur(side=2),
        lambda: BilateralBlur(diameter=4),
        lambda: BilateralBlur(sigma_space=0),
    ],
)
def test_amounts_that_cannot_be_meant(make):
    with pytest.raises(InvalidOption) as caught:
        make()
    assert "\n" not in str(caught.value)
