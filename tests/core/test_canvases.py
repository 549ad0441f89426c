"""Every canvas: shapes, ranges, closed forms, and what cannot be combined."""

from __future__ import annotations

import numpy as np
import pytest

import cnnviz
from cnnviz import canvas as canvases
from cnnviz.ascent.canvas import (
    CPPNCanvas,
    FourierCanvas,
    GeneratorCanvas,
    LaplacianCanvas,
    MacoCanvas,
    PixelCanvas,
    SharedCanvas,
    TransparentCanvas,
    masked,
)
from cnnviz.ascent.canvas.base import unsquashed
from cnnviz.ascent.canvas.prior import COLOURS, Prior, default_prior
from cnnviz.testing import NumpyOps

OPS = NumpyOps()
PRIOR = Prior(
    tuple(np.geomspace(1 / 64, 0.5, 8)),
    tuple((1 / f, 0.5 / f, 0.2 / f**1.2) for f in np.geomspace(1 / 64, 0.5, 8)),
    ((0.6, 0.3, 0.1), (0.6, 0.0, -0.2), (0.5, -0.4, 0.1)),
)


def drawn(canvas, size, channels, count=2, scale=1.0):
    """Give first values of some pictures, as an ascent stacks them."""
    rngs = [np.random.default_rng(seed) for seed in range(count)]
    return scale * np.stack([canvas.first(rng, size, channels) for rng in rngs])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def repeated(code):
    """Paint each number of a code ``(N, 3, 3, C)`` as a square of four pixels."""
    return sigmoid(np.repeat(np.repeat(code, 2, 1), 2, 2))


CANVASES = {
    "pixel": lambda channels: PixelCanvas(start="uniform"),
    "fourier": lambda channels: FourierCanvas(),
    "fourier-prior": lambda channels: FourierCanvas(PRIOR),
    "maco": lambda channels: MacoCanvas(),
    "maco-prior": lambda channels: MacoCanvas(PRIOR),
    "laplacian": lambda channels: LaplacianCanvas(levels=3),
    "laplacian-prior": lambda channels: LaplacianCanvas(PRIOR),
    "shared": lambda channels: SharedCanvas(own=FourierCanvas()),
    "shared-laplacian": lambda channels: SharedCanvas(own=LaplacianCanvas(levels=2), factor=3),
    "cppn": lambda channels: CPPNCanvas(),
    "generator": lambda channels: GeneratorCanvas(repeated, (3, 3, channels)),
    "masked": lambda channels: masked(np.full((6, 7, channels), 0.25), np.eye(6, 7)),
    "transparent": lambda channels: TransparentCanvas(),
}


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("size", [(8, 8), (7, 7), (9, 12), (6, 5)], ids=str)
@pytest.mark.parametrize("name", CANVASES)
def test_pictures_are_finite_and_in_range(name, size, channels):
    canvas = CANVASES[name](channels)
    for scale in (1.0, 30.0) if name != "pixel" else (1.0,):
        values = drawn(canvas, size, channels, scale=scale)
        made = canvas.to_picture(OPS, values, (*size, channels))
        assert made.shape == (2, *size, channels + canvas.alpha)
        assert 0 <= made.min() <= made.max() <= 1
        shown = canvas.display(made)
        assert shown.shape == made.shape
        assert 0 <= shown.min() <= shown.max() <= 1
    # Each picture is its own, but a CPPN begins with weights that show nothing of it.
    assert (np.abs(made[0] - made[1]).max() > 0) == (name != "cppn")


@pytest.mark.parametrize("name", CANVASES)
def test_equal_settings_are_equal_and_hash_alike(name):
    a, b = CANVASES[name](3), CANVASES[name](3)
    assert a == b
    assert hash(a) == hash(b)
    assert a != PixelCanvas(unit="pixel", deviation=0.123)


@pytest.mark.parametrize("name", CANVASES)
def test_pictures_follow_the_values(name):
    canvas, size = CANVASES[name](3), (6, 5)
    values = drawn(canvas, size, 3, count=1)
    # The last weights of a CPPN are zero and hide all others.
    values = values + np.random.default_rng(9).normal(0, 0.05, values.shape)
    base = canvas.to_picture(OPS, values, (*size, 3))
    still = 0
    for place in range(values.size):
        changed = values.copy()
        changed.reshape(-1)[place] += 0.1
        still += np.array_equal(canvas.to_picture(OPS, changed, (*size, 3)), base)
    # A wave that stands for itself has no phase, and the mean of a MaCo picture is given.
    assert still <= {"maco": 3, "maco-prior": 3}.get(name, 0)


# Closed forms.


def waves(size):
    """Give the real waves of a line as a textbook has them, each of length one."""
    n = np.arange(size)
    found = [np.ones(size)]
    for k in range(1, size // 2 + 1):
        found.append(np.cos(2 * np.pi * k * n / size))
        if 2 * k != size:
            found.append(np.sin(2 * np.pi * k * n / size))
    return [wave / np.sqrt(wave @ wave) for wave in found]


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("size", [(6, 6), (5, 8), (7, 3)], ids=str)
def test_a_fourier_picture_is_a_sum_of_waves(size, channels):
    canvas = FourierCanvas(decay=1.2)
    values = drawn(canvas, size, channels, scale=40.0)
    height, width = size
    radius = np.hypot(*np.meshgrid(*((np.arange(n) + 1) // 2 / n for n in size), indexing="ij"))
    lowest = np.maximum(radius, 1 / max(size))
    scale = lowest**-1.2 * np.sqrt(np.mean(lowest**-2.0 / 8) / np.mean(lowest**-2.4))
    wanted = np.zeros((2, height, width, channels))
    for i, down in enumerate(waves(height)):
        for j, across in enumerate(waves(width)):
            wave = np.outer(down, across)[..., None]
            wanted += values[:, i, j][:, None, None] * scale[i, j] * wave
    if channels == 3:
        wanted = wanted @ COLOURS.T
    made = canvas.to_picture(OPS, values, (*size, channels))
    np.testing.assert_allclose(made, sigmoid(wanted), atol=1e-12)


@pytest.mark.parametrize("decay", [1.0, 1.35, 1.5])
@pytest.mark.parametrize("side", [64, 128, 224, 512])
def test_the_first_contrast_of_a_fourier_picture(side, decay):
    """As in the field, before colours and sigmoid: .017 to .022, whatever the size and decay."""
    canvas = FourierCanvas(decay=decay)
    values = drawn(canvas, (side, side), 3)
    # The few longest waves make a single picture of a steep decay a matter of luck.
    contrast = np.sqrt(np.mean(canvas.raw(OPS, values, (side, side, 3)) ** 2))
    assert 0.85 * 0.017 < contrast < 1.15 * 0.0221


def test_a_fourier_picture_falls_as_its_decay_says():
    side, canvas = 64, FourierCanvas(decay=1.5)
    raw = canvas.raw(OPS, drawn(canvas, (side, side), 3, count=8), (side, side, 3))
    power = (np.abs(np.fft.fft2(raw, axes=(1, 2))) ** 2).mean((0, 3))
    radius = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side)[None])
    inside = (radius > 0.05) & (radius < 0.45)
    slope = np.polyfit(np.log(radius[inside]), np.log(power[inside]), 1)[0]
    assert slope == pytest.approx(-3.0, abs=0.1)


def test_frequencies_of_a_fourier_canvas_are_those_of_its_waves():
    canvas, shape = FourierCanvas(), (8, 6, 1)
    known = canvas.frequencies(shape)
    radius = np.hypot(np.fft.fftfreq(8)[:, None], np.fft.fftfreq(6)[None])
    for place in np.ndindex(8, 6):
        values = np.zeros((1, 8, 6, 1))
        values[0, *place, 0] = 1
        power = np.abs(np.fft.fft2(canvas.raw(OPS, values, shape)[0, :, :, 0])) ** 2
        # Products of cosines are two waves of one radius.
        assert radius[power > 1e-9 * power.max()] == pytest.approx(known[*place, 0])


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("size", [(6, 6), (5, 8), (8, 7)], ids=str)
def test_a_maco_picture_is_an_inverse_fourier_transform(size, channels):
    canvas = MacoCanvas(PRIOR)
    phases = drawn(canvas, size, channels)
    half = size[1] // 2 + 1
    frequency = np.hypot(np.fft.fftfreq(size[0])[:, None], np.fft.rfftfreq(size[1])[None])
    magnitude = PRIOR.at(np.maximum(frequency, 1 / max(size)), channels)
    magnitude[0, 0] = 0
    assert phases.shape == (2, size[0], half, channels)
    x = np.fft.irfft2(magnitude * np.exp(1j * phases), s=size, axes=(1, 2))
    x = (x - x.mean((1, 2, 3), keepdims=True)) / x.std((1, 2, 3), keepdims=True)
    if channels == 3:
        x = x @ PRIOR.matrix.T
    made = canvas.to_picture(OPS, phases, (*size, channels))
    np.testing.assert_allclose(made, sigmoid(x), atol=1e-12)


def test_the_magnitude_of_a_maco_picture_is_given_whatever_its_phases():
    size, canvas = (16, 20), MacoCanvas()
    made = canvas.to_picture(OPS, drawn(canvas, size, 3), (*size, 3))
    spectrum = np.abs(np.fft.rfft2(unsquashed(made, COLOURS), axes=(1, 2)))[:, :, 1:-1]
    frequency = np.hypot(np.fft.fftfreq(16)[:, None], np.fft.rfftfreq(20)[None])[:, 1:-1]
    ratio = spectrum / default_prior().at(np.maximum(frequency, 1 / 20), 3)
    # One factor for a whole picture, its colours included.
    np.testing.assert_allclose(ratio, np.broadcast_to(ratio[:, :1, :1, :1], ratio.shape), rtol=1e-6)


def test_a_maco_picture_is_stretched_between_its_percentiles():
    picture = np.linspace(0.4, 0.6, 300).reshape(1, 10, 10, 3)
    shown = MacoCanvas(low=10, high=90).display(picture)
    assert np.mean(shown == 0) == pytest.approx(0.1, abs=0.01)
    assert np.mean(shown == 1) == pytest.approx(0.1, abs=0.01)
    assert shown.ravel()[150] == pytest.approx(0.5, abs=0.01)


def test_a_pyramid_of_one_level_is_pixels():
    values = np.random.default_rng(0).normal(0, 1, (2, 5 * 7 * 3))
    made = LaplacianCanvas(levels=1).to_picture(OPS, values, (5, 7, 3))
    np.testing.assert_allclose(made, sigmoid(values.reshape(2, 5, 7, 3) @ COLOURS.T), atol=1e-12)


def test_a_pyramid_adds_its_levels():
    """Flat levels add up; a slope in a coarse level is a slope of half its steepness."""
    canvas, shape = LaplacianCanvas(levels=3), (8, 12, 1)
    sizes = [(8, 12), (4, 6), (2, 3)]
    flat = np.concatenate([np.full(h * w, 2.0**k) for k, (h, w) in enumerate(sizes)])
    np.testing.assert_allclose(canvas.raw(OPS, flat[None], shape), 7.0)
    ramp = np.concatenate([np.zeros(96), np.tile(np.arange(6.0), 4), np.zeros(6)])
    found = canvas.raw(OPS, ramp[None], shape)[0, 3, :, 0]
    np.testing.assert_allclose(np.diff(found)[1:-1], 0.5)
    assert len(canvas.first(np.random.default_rng(0), (3, 3), 1)) == 9 + 4


def test_shared_pictures_share_what_is_coarse():
    canvas, shape = SharedCanvas(own=FourierCanvas(), factor=4), (8, 10, 3)
    values = drawn(canvas, shape[:2], 3)
    own = 8 * 10 * 3
    alone = FourierCanvas().raw(OPS, values[:, :own].reshape(2, *shape), shape)
    np.testing.assert_allclose(canvas.raw(OPS, values, shape), alone)
    # What either holds of the shared part counts by half for both.
    values[0, own:] += 2.0
    np.testing.assert_allclose(canvas.raw(OPS, values, shape), alone + 1.0)
    assert values.shape[1] - own == 2 * 3 * 3


def test_a_cppn_by_hand():
    canvas, shape = CPPNCanvas(layers=2, width=3), (4, 5, 3)
    values = np.random.default_rng(0).normal(0, 0.5, (2, 2 * 3 + 3 + 6 * 3 + 3 + 6 * 3 + 3))
    assert drawn(canvas, shape[:2], 3).shape == values.shape
    made = canvas.to_picture(OPS, values, shape)
    for row, one in enumerate(values):
        k1, b1, k2, b2, k3, b3 = np.split(one, np.cumsum([6, 3, 18, 3, 18]))
        for i, y in enumerate(np.linspace(-np.sqrt(3), np.sqrt(3), 4)):
            for j, x in enumerate(np.linspace(-np.sqrt(3), np.sqrt(3), 5)):
                hidden = np.array([y, x])
                for kernel, bias in ((k1.reshape(2, 3), b1), (k2.reshape(6, 3), b2)):
                    bent = np.arctan(hidden @ kernel + bias)
                    hidden = np.concatenate([bent / 0.67, bent**2 / 0.6])
                wanted = sigmoid(hidden @ k3.reshape(6, 3) + b3)
                np.testing.assert_allclose(made[row, i, j], wanted, atol=1e-12)


def test_a_cppn_begins_grey_and_paints_at_any_size():
    canvas = CPPNCanvas()
    values = drawn(canvas, (6, 6), 3)
    np.testing.assert_array_equal(canvas.to_picture(OPS, values, (6, 6, 3)), 0.5)
    values = values + 0.2
    small, large = (canvas.to_picture(OPS, values, (side, side, 3)) for side in (5, 9))
    np.testing.assert_allclose(large[:, ::2, ::2], small, atol=1e-12)


def test_a_see_through_picture_is_two():
    canvas, shape = TransparentCanvas(FourierCanvas(PRIOR), LaplacianCanvas()), (6, 7, 3)
    values = drawn(canvas, (6, 7), 3)
    made = canvas.to_picture(OPS, values, shape)
    colours = values[:, :126].reshape(2, 6, 7, 3)
    np.testing.assert_array_equal(made[..., :3], canvas.colour.to_picture(OPS, colours, shape))
    cover = canvas.cover.to_picture(OPS, values[:, 126:], (6, 7, 1))
    np.testing.assert_array_equal(made[..., 3:], cover)


@pytest.mark.parametrize("inner", [FourierCanvas(), PixelCanvas(), MacoCanvas()], ids=repr)
def test_a_mask_frees_what_it_says(inner):
    rng = np.random.default_rng(0)
    picture, mask = rng.uniform(0, 1, (8, 6, 3)), np.zeros((8, 6))
    mask[2:5, 1:4] = 1
    mask[6, 5] = 0.25
    canvas = masked(picture, mask, inner)
    values = drawn(canvas, (8, 6), 3)
    made, free = (c.to_picture(OPS, values, (8, 6, 3)) for c in (canvas, inner))
    np.testing.assert_allclose(made[:, mask == 0], np.stack([picture[mask == 0]] * 2))
    np.testing.assert_allclose(made[:, mask == 1], free[:, mask == 1])
    np.testing.assert_allclose(made[:, 6, 5], 0.25 * free[:, 6, 5] + 0.75 * picture[6, 5])
    # At another size both come along: what is wholly given is what resizing gives.
    large = canvas.to_picture(OPS, drawn(canvas, (16, 12), 3), (16, 12, 3))
    wanted = cnnviz.images.resize(picture, (16, 12), "bilinear")
    np.testing.assert_allclose(large[:, :2], np.stack([wanted[:2]] * 2), atol=1e-12)


def test_a_generator_paints_in_its_own_range_and_size():
    def decoder(code):
        return np.tanh(code)[:, None, None, :] * np.ones((1, 4, 2, 1))

    canvas = GeneratorCanvas(decoder, (3,), low=-1, high=1, limit=0.5)
    code = np.array([[0.2, -0.3, 2.0]])
    made = canvas.to_picture(OPS, code, (6, 5, 3))
    np.testing.assert_allclose(made, np.broadcast_to((np.tanh(code) + 1) / 2, made.shape))
    np.testing.assert_array_equal(canvas.clamp(OPS, code), [[0.2, -0.3, 0.5]])
    assert canvas.first(np.random.default_rng(0), (6, 5), 3).shape == (3,)


@pytest.mark.parametrize(
    "canvas",
    [
        PixelCanvas(),
        PixelCanvas("pixel"),
        FourierCanvas(),
        FourierCanvas(PRIOR),
        FourierCanvas(decay=1.5),
        masked(np.full((7, 10, 3), 0.5), np.ones((7, 10)), FourierCanvas(PRIOR)),
    ],
    ids=["normalised", "pixel", "fourier", "prior", "steep", "masked"],
)
def test_a_picture_that_is_begun_with_is_shown(canvas):
    picture = np.random.default_rng(0).uniform(0.01, 0.99, (2, 7, 10, 3))
    shown = canvas.to_picture(OPS, canvas.from_picture(picture), (7, 10, 3))
    np.testing.assert_allclose(shown, picture, atol=1e-10)


def test_the_namespace_names_every_canvas():
    assert {name for name in dir(canvases) if name.endswith("Canvas")} <= set(canvases.__all__)
