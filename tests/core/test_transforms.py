"""Transforms: one warp for a chain, exact where it can be, each picture its own draw."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from cnnviz.ascent.transforms import (
    Blur,
    Chain,
    Colour,
    Crop,
    Flip,
    Geometric,
    Jitter,
    Moment,
    Noise,
    Pad,
    RandomCrop,
    Roll,
    Rotate,
    Scale,
    distill,
    warped,
)
from cnnviz.errors import InvalidOption
from cnnviz.testing import NumpyOps

OPS = NumpyOps()
WHOLE = (10, 10)


def pictures(size=(9, 12), count=2, seed=0):
    return np.random.default_rng(seed).uniform(0, 1, (count, *size, 3))


def changed(transforms, x, seed=0, done=0.0, wanted=WHOLE):
    """Put pictures through a chain, each with its own draw, as an ascent does."""
    chain = Chain(tuple(transforms), x.shape[1:3], wanted)
    each = [
        chain.draw(np.random.default_rng([seed, row]), done, x.shape[-1]) for row in range(len(x))
    ]
    return chain.apply(OPS, x, [np.stack(one) for one in zip(*each, strict=True)])


class Fixed(Geometric):
    """A geometric change whose matrix is given."""

    def __init__(self, matrix):
        self._matrix = np.array(matrix, dtype=float)

    def matrix(self, rng, moment):
        return self._matrix


def shift(y, x):
    return Fixed([[1, 0, y], [0, 1, x], [0, 0, 1]])


EXACT = {
    "pad": ([Pad(2, 0.25)], lambda x: np.pad(x, PAD, constant_values=0.25)),
    "crop": ([Crop(2)], lambda x: x[:, 2:-2, 2:-2]),
    "pad-crop": ([Pad(3), Crop(3)], lambda x: x),
    "pad-crop-less": ([Pad(3), Crop(1)], lambda x: np.pad(x, PAD, constant_values=0.5)),
    "shift": ([shift(2, -1)], lambda x: shifted(x, 2, -1)),
    "shifts": ([shift(2, -1), shift(-1, 3)], lambda x: shifted(x, 1, 2)),
    "pad-shift-crop": ([Pad(2), shift(1, -2), Crop(2)], lambda x: shifted(x, 1, -2)),
    "flip": ([Fixed(np.diag([1, -1, 1]))], lambda x: x[:, :, ::-1]),
    "upside-down": ([Rotate(among=(180.0,))], lambda x: x[:, ::-1, ::-1]),
    "nothing": ([Rotate(0.0), Scale(1, 1), Jitter(0), Colour(0, 0), Noise(0)], lambda x: x),
}
PAD = ((0, 0), (2, 2), (2, 2), (0, 0))


def shifted(x, y, to, fill=0.5):
    """Read pixels further down and to the right, and a grey beyond the border."""
    wide = np.pad(x, ((0, 0), (9, 9), (9, 9), (0, 0)), constant_values=fill)
    return wide[:, 9 + y : 9 + y + x.shape[1], 9 + to : 9 + to + x.shape[2]]


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("size", [(9, 12), (8, 8), (7, 11)], ids=str)
def test_what_moves_whole_pixels_is_exact(name, size):
    transforms, wanted = EXACT[name]
    x = pictures(size)
    assert_allclose(changed(transforms, x), wanted(x), atol=1e-12)


@pytest.mark.parametrize("side", [8, 9])
@pytest.mark.parametrize(("degrees", "turns"), [(90.0, 1), (-90.0, -1), (270.0, 3)])
def test_a_quarter_turn_is_exact(side, degrees, turns):
    x = pictures((side, side))
    found = changed([Rotate(among=(degrees,))], x)
    # Positive angles turn one way throughout; which one no recipe cares about.
    either = [np.rot90(x, sign * turns, (1, 2)) for sign in (1, -1)]
    assert min(np.abs(found - one).max() for one in either) < 1e-12


def test_turns_add_up():
    x = pictures((9, 9))
    a = changed([Rotate(among=(30.0,)), Rotate(among=(60.0,))], x)
    assert_allclose(a, changed([Rotate(among=(90.0,))], x), atol=1e-12)


@pytest.mark.parametrize("factor", [2.0, 0.5, 1.25])
def test_scaling_a_slope_is_exact(factor):
    """About the middle: a straight slope becomes one that is less or more steep."""
    rows, columns = (np.arange(n) - (n - 1) / 2 for n in (9, 12))
    x = np.broadcast_to(
        (0.03 * rows[:, None] + 0.02 * columns + 0.5)[None, ..., None], (1, 9, 12, 3)
    )
    found = changed([Scale(among=(factor,))], x)
    # What is shrunk has a border that shows what lay outside.
    inside = (slice(None), slice(3, -3), slice(4, -4)) if factor < 1 else slice(None)
    assert_allclose(found[inside], ((x - 0.5) / factor + 0.5)[inside], atol=1e-12)


def test_a_chain_is_its_transforms_one_by_one():
    """Up to the blur of reading between pixels several times, which a smooth picture shows not."""
    y, x = np.mgrid[:48, :40] / 40
    smooth = np.stack([np.sin(3 * y + x), np.cos(2 * x - y), y * x], -1)[None] * 0.2 + 0.5
    chain = Chain(
        (Pad(6), Jitter(6), Scale(0.9, 1.1), Rotate(8.0), Jitter(4), Crop(6)), (48, 40), WHOLE
    )
    (matrix,) = chain.draw(np.random.default_rng(3), 0.0, 3)
    together = chain.apply(OPS, smooth, [matrix[None]])
    rng, one_by_one = np.random.default_rng(3), smooth
    for transform in chain.transforms:
        size = one_by_one.shape[1:3]
        each = transform.matrix(rng, Moment(size, 0.0, WHOLE))[None, :2]
        one_by_one = warped(OPS, one_by_one, each, transform.resized(size, WHOLE), 0.5)
    assert together.shape == smooth.shape
    inside = np.abs(together - one_by_one)[:, 10:-10, 10:-10]
    assert inside.max() < 5e-4
    # And it is not what there was.
    assert np.abs(together - smooth)[:, 10:-10, 10:-10].max() > 1e-2


def test_the_draws_of_a_chain_are_those_of_its_transforms():
    given = distill()
    chain = Chain(given, (224, 224), (224, 224))
    (matrix,) = chain.draw(np.random.default_rng(5), 0.0, 3)
    rng, product = np.random.default_rng(5), np.eye(3)
    for transform in given:
        product = product @ transform.matrix(rng, Moment((224, 224), 0.0, (224, 224)))
    assert_allclose(matrix, product[:2])
    assert chain.out == (224, 224)


@pytest.mark.parametrize(
    "transforms",
    [
        distill(),
        (RandomCrop(), Noise(0.1)),
        (Flip(), Roll(3), Colour(), Blur(1.0), Scale(0.8, 1.2)),
        (Pad(3), Noise(0.1), Rotate(20.0), Blur(0.7), Crop(2)),
    ],
    ids=["distill", "maco", "mixed", "interrupted"],
)
def test_the_size_is_the_same_at_each_step(transforms):
    x = pictures((24, 20))
    chain = Chain(tuple(t.scaled(0.2, 20) for t in transforms), (24, 20), WHOLE)
    shapes = set()
    for step in range(6):
        rng = np.random.default_rng(step)
        drawn = chain.draw(rng, step / 5, 3)
        shapes.add(tuple(one.shape for one in drawn))
        made = chain.apply(OPS, x[:1], [one[None] for one in drawn])
        assert made.shape == (1, *chain.out, 3)
    assert len(shapes) == 1


RANDOM = {
    "jitter": Jitter(3),
    "scale": Scale(0.5, 2.0),
    "scale-among": Scale(among=(0.5, 1.5, 2.0, 3.0)),
    "rotate": Rotate(30.0),
    "flip": Flip(),
    "crop": RandomCrop(0.5, 0.2),
    "roll": Roll(2),
    "noise": Noise(0.1),
    "colour": Colour(0.2, 0.2),
}


@pytest.mark.parametrize("name", RANDOM)
def test_each_picture_has_its_own_draw(name):
    one = pictures(count=1)
    same = np.repeat(one, 6, 0)
    made = changed([RANDOM[name]], same)
    assert len({row.tobytes() for row in made}) > 1
    # And the draw of a picture is the same whatever stands beside it.
    for row in range(6):
        chain = Chain((RANDOM[name],), one.shape[1:3], WHOLE)
        drawn = chain.draw(np.random.default_rng([0, row]), 0.0, 3)
        alone = chain.apply(OPS, one, [each[None] for each in drawn])
        assert_array_equal(made[row], alone[0])
    assert_array_equal(changed([RANDOM[name]], same), made)
    assert np.abs(changed([RANDOM[name]], same, seed=1) - made).max() > 0


def drawn_matrices(transform, count=400, done=0.0, size=(16, 16)):
    moment = Moment(size, done, WHOLE)
    return np.stack([transform.matrix(np.random.default_rng(i), moment) for i in range(count)])


@pytest.mark.parametrize(("pixels", "low", "high"), [(4, -2, 2), (3, -1, 2), (0, 0, 0)])
def test_jitter_draws_whole_pixels_of_its_range(pixels, low, high):
    shifts = drawn_matrices(Jitter(pixels))[:, :2, 2]
    assert set(shifts.ravel()) == set(range(low, high + 1))


def test_ranges_of_scale_and_turn():
    factors = 1 / drawn_matrices(Scale(0.5, 2.0))[:, 0, 0]
    assert 0.5 <= factors.min() < 0.55
    assert 1.9 < factors.max() <= 2.0
    angles = np.degrees(np.arcsin(drawn_matrices(Rotate(30.0))[:, 1, 0]))
    assert -30 <= angles.min() < -28
    assert 28 < angles.max() <= 30
    among = np.degrees(np.arcsin(drawn_matrices(Rotate(among=(-5.0, 0.0, 5.0)))[:, 1, 0]))
    assert set(among.round(9)) == {-5, 0, 5}
    assert 0.4 < np.mean(drawn_matrices(Flip())[:, 1, 1] == 1) < 0.6


@pytest.mark.parametrize("done", [0.0, 0.5, 1.0])
def test_the_box_of_a_random_crop_shrinks_and_stays_inside(done):
    matrices = drawn_matrices(RandomCrop(0.6, 0.2, 0.03), done=done, size=(40, 30))
    shares = matrices[:, 0, 0] * WHOLE[0] / 40
    assert shares.mean() == pytest.approx(0.6 - 0.4 * done, abs=0.01)
    assert_allclose(matrices[:, 1, 1] * WHOLE[1] / 30, shares)
    corners = np.array([[-5, -5, 1], [5, 5, 1]]).T
    reached = matrices[:, :2] @ corners
    assert (np.abs(reached) <= np.array([20, 15])[:, None] + 1e-9).all()


def test_a_random_crop_shows_the_whole_where_it_may():
    x = pictures(WHOLE)
    assert_allclose(changed([RandomCrop(1.0, 1.0, 0.0)], x), x, atol=1e-12)


def test_a_roll_goes_round_the_border():
    x = pictures((9, 12))
    chain = Chain((Roll(2),), (9, 12), WHOLE)
    drawn = np.array([[2, -1], [-2, 0]])
    made = chain.apply(OPS, x, [drawn])
    for row, (down, across) in enumerate(drawn):
        assert_array_equal(made[row], np.roll(x[row], (down, across), (0, 1)))
    amounts = np.stack(
        [
            Roll(9).draw(np.random.default_rng(i), Moment((8, 20), 0, WHOLE), 3)[0]
            for i in range(200)
        ]
    )
    assert set(amounts.ravel()) == {-2, -1, 0, 1, 2}


def test_colour_and_noise_are_what_they_say():
    x = pictures()
    factor, by = np.array([1.1, 0.9]).reshape(2, 1, 1, 1), np.array([0.1, 0, -0.1])
    assert_allclose(Colour().apply(OPS, x, [factor, by]), x * factor + by)
    moment = Moment((64, 64), 0.0, WHOLE)
    (noise,) = Noise(0.08).draw(np.random.default_rng(0), moment, 3)
    assert noise.std() == pytest.approx(0.08, rel=0.02)
    assert abs(noise.mean()) < 0.003
    contrast, shifts = Colour(0.2, 0.1).draw(np.random.default_rng(0), moment, 5)
    assert 0.8 <= contrast.item() <= 1.2
    assert shifts.shape == (1, 1, 5)
    assert np.abs(shifts).max() <= 0.1


def test_amounts_in_pixels_go_with_the_size():
    assert [t.scaled(0.25, 56) for t in (Pad(16, 0.3), Crop(16), Jitter(16), Jitter(0))] == [
        Pad(4, 0.3),
        Crop(4),
        Jitter(4),
        Jitter(0),
    ]
    # At most an eighth of a small picture.
    assert Jitter(224).scaled(32 / 224, 32) == Jitter(4)
    assert Rotate(5.0).scaled(0.25, 56) == Rotate(5.0)


def test_reading_between_pixels_by_hand():
    x = pictures((4, 5), 1)
    rows, columns = np.array([[[1.25, -0.5, 3.75, 9.0]]]), np.array([[[2.5, 0.0, 4.0, 1.0]]])
    found = OPS.sample(x, rows, columns)[0, 0]
    between = 0.75 * (x[0, 1, 2] + x[0, 1, 3]) / 2 + 0.25 * (x[0, 2, 2] + x[0, 2, 3]) / 2
    assert_allclose(found[0], between)
    assert_allclose(found[1], 0.5 * x[0, 0, 0])
    assert_allclose(found[2], 0.25 * x[0, 3, 4])
    assert not found[3].any()


def test_the_judge_reads_by_a_matrix():
    """Reading is linear in the picture, so its matrix can be written out, and transposed."""
    rng = np.random.default_rng(0)
    rows, columns = rng.uniform(-1.5, 5.5, (1, 3, 4)), rng.uniform(-1.5, 6.5, (1, 3, 4))
    pixels = np.eye(5 * 6).reshape(30, 5, 6, 1)
    matrix = np.stack([OPS.sample(p[None], rows, columns).ravel() for p in pixels], 1)
    x, y = rng.normal(0, 1, (1, 5, 6, 1)), rng.normal(0, 1, (1, 3, 4, 1))
    assert_allclose(OPS.sample(x, rows, columns).ravel(), matrix @ x.ravel(), atol=1e-12)
    back = (matrix.T @ y.ravel()).reshape(x.shape)
    assert np.sum(OPS.sample(x, rows, columns) * y) == pytest.approx(np.sum(x * back), abs=1e-10)
    step = np.stack(
        [
            np.sum((OPS.sample(x + p[None], rows, columns) - OPS.sample(x, rows, columns)) * y)
            for p in pixels
        ]
    )
    assert_allclose(step, back.ravel(), atol=1e-10)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Pad(-1),
        lambda: Crop(-1),
        lambda: Jitter(-1),
        lambda: Jitter(1.5),
        lambda: Roll(-1),
        lambda: Roll(0.5),
        lambda: Scale(0.0, 1.0),
        lambda: Scale(2.0, 1.0),
        lambda: Scale(among=(1.0, -1.0)),
        lambda: Scale(np.nan, 1.0),
        lambda: RandomCrop(0.0),
        lambda: RandomCrop(0.5, 1.5),
        lambda: RandomCrop(spread=-1),
        lambda: Blur(0.0),
        lambda: Noise(-0.1),
        lambda: Noise(np.nan),
        lambda: Colour(-1),
    ],
)
def test_amounts_that_cannot_be_meant(make):
    with pytest.raises(InvalidOption) as caught:
        make()
    assert "\n" not in str(caught.value)
