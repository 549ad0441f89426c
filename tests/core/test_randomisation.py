"""Maps under redrawn weights, and how alike maps are."""

from __future__ import annotations

import numpy as np
import pytest

import cnnviz
from cnnviz.adapter import Layer
from cnnviz.attribution import quality
from cnnviz.errors import CnnvizError, InvalidOption
from cnnviz.testing import OracleAdapter, small_pictures


def centre(net, pictures):
    return quality.centre_box(len(pictures), pictures.shape[1:3])


def test_spearman_by_pairs():
    """From the definition: the correlation of how many numbers are below, ties by half."""
    rng = np.random.default_rng(0)
    for a, b in (rng.normal(size=(2, 6, 7)), rng.integers(0, 4, (2, 6, 7))):
        below = [
            (x.ravel()[:, None] > x.ravel()).sum(1) + (x.ravel()[:, None] == x.ravel()).sum(1) / 2
            for x in (a, b)
        ]
        assert quality.spearman(a, b) == pytest.approx(np.corrcoef(below)[0, 1])
    a = rng.normal(size=(6, 7))
    assert quality.spearman(a, np.exp(a)) == pytest.approx(1)
    assert quality.spearman(a, -(a**3)) == pytest.approx(-1)
    flat = np.ones((6, 7))
    assert quality.spearman(flat, flat * 2) == 1
    assert quality.spearman(flat, a) == 0
    with pytest.raises(InvalidOption):
        quality.spearman(a, a[:3])


def test_ssim_by_the_formula():
    """Place by place, with the window laid out by hand."""
    rng = np.random.default_rng(1)
    a, b = rng.uniform(0, 1, (2, 14, 12))
    away = np.arange(-5, 6)
    window = np.exp(-(away[:, None] ** 2 + away**2) / (2 * 1.5**2))
    window /= window.sum()
    wide = [np.pad(x, 5, mode="symmetric") for x in (a, b)]
    found = []
    for row in range(14):
        for column in range(12):
            p, q = (x[row : row + 11, column : column + 11] for x in wide)
            mp, mq = (window * p).sum(), (window * q).sum()
            vp, vq = (window * (p - mp) ** 2).sum(), (window * (q - mq) ** 2).sum()
            both = (window * (p - mp) * (q - mq)).sum()
            upper = (2 * mp * mq + 1e-4) * (2 * both + 9e-4)
            found.append(upper / ((mp**2 + mq**2 + 1e-4) * (vp + vq + 9e-4)))
    assert quality.ssim(a, b) == pytest.approx(np.mean(found))
    assert quality.ssim(a, a) == pytest.approx(1)
    # Volumes have it as well.
    assert quality.ssim(a.reshape(2, 7, 12), a.reshape(2, 7, 12)) == pytest.approx(1)


def test_groups_are_in_the_order_in_which_layers_run():
    groups = quality.weight_groups(OracleAdapter())
    assert [owner for owner, _ in groups] == ["conv1", "bn1", "conv2", "fc"]
    assert groups[0][1] == ("conv1.kernel", "conv1.bias")

    class Shuffled(OracleAdapter):
        def layers(self):
            names = ("stem", "block/conv", "block", "head:0", "head:1")
            return [Layer(name, "Conv", (None, 4, 4, 2), 1) for name in names]

        def weights(self, layer=None):
            names = (
                "token", "head/kernel", "block/conv/kernel", "block/conv/inner/kernel",
                "extra/kernel", "stem/kernel", "block/scale",
            )  # fmt: skip
            return {name: np.ones(1) for name in names}

    assert quality.weight_groups(Shuffled()) == [
        ("token", ("token",)),
        ("stem", ("stem/kernel",)),
        ("block/conv", ("block/conv/kernel", "block/conv/inner/kernel")),
        ("extra", ("extra/kernel",)),
        ("block", ("block/scale",)),
        ("head", ("head/kernel",)),
    ]


def test_redrawn_weights_have_the_same_spread():
    rng = np.random.default_rng(0)
    kernel = rng.normal(0.3, 0.1, (3, 3, 16, 32)).astype(np.float32)
    other = quality.redrawn("conv.weight", kernel, rng)
    assert other.dtype == np.float32
    assert other.mean() == pytest.approx(0.3, abs=0.01)
    assert other.std() == pytest.approx(0.1, abs=0.01)
    assert abs(np.corrcoef(kernel.ravel(), other.ravel())[0, 1]) < 0.05
    variance = rng.uniform(0, 1, 20)
    for name in ("bn.running_var", "bn/moving_variance", "bn1.variance"):
        moved = quality.redrawn(name, variance, rng)
        np.testing.assert_array_equal(np.sort(moved), np.sort(variance))
        assert (moved != variance).any()
    np.testing.assert_array_equal(quality.redrawn("bn.weight", np.ones(5), rng), 1)


def test_weights_come_back_and_what_does_not_see_them_fails():
    net = OracleAdapter()
    before = {name: value.copy() for name, value in net.weights().items()}
    found = quality.randomisation(net, small_pictures(), ["cam", "grad_cam", centre], stages=3)
    for name, value in net.weights().items():
        assert value.tobytes() == before[name].tobytes()
    assert found.methods == ("cam", "grad_cam", "centre")
    assert found.layers == ("conv2", "bn1", "conv1")
    assert found.spearman.shape == found.absolute.shape == found.ssim.shape == (3, 3)
    np.testing.assert_allclose(found.spearman[2], 1)
    np.testing.assert_allclose(found.absolute[2], 1)
    np.testing.assert_allclose(found.ssim[2], 1)
    assert not found.passed["centre"]
    assert "centre" in str(found)
    assert "fails" in str(found)
    np.testing.assert_allclose(found.spearman[0], found.spearman[1], atol=1e-6)


def test_stages_go_from_the_last_layer_to_the_first():
    net = OracleAdapter()
    before = {name: value.copy() for name, value in net.weights().items()}
    seen = []

    def watching(adapter, pictures):
        changed = {n.split(".")[0] for n, v in adapter.weights().items() if (v != before[n]).any()}
        seen.append(changed)
        return np.zeros((len(pictures), 2, 2))

    found = quality.randomisation(net, small_pictures(1), [watching], stages=4)
    assert seen == [
        set(),
        {"fc"},
        {"fc", "conv2"},
        {"fc", "conv2", "bn1"},
        {"fc", "conv2", "bn1", "conv1"},
    ]
    assert found.layers == ("fc", "conv2", "bn1", "conv1")
    np.testing.assert_allclose(found.shares, [0.25, 0.5, 0.75, 1])


def test_the_class_is_held():
    net, pictures = OracleAdapter(), small_pictures()
    classes = cnnviz.cam(net, pictures).target
    free = quality.randomisation(net, pictures, ["cam"], stages=2)
    held = quality.randomisation(net, pictures, ["cam"], list(classes), stages=2)
    np.testing.assert_array_equal(free.spearman, held.spearman)
    assert free.spearman[0, -1] < 1


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_weights_come_back_when_a_method_raises(error):
    net = OracleAdapter()
    before = {name: value.copy() for name, value in net.weights().items()}
    calls = []

    def failing(adapter, pictures):
        calls.append(adapter.weights()["fc.kernel"].copy())
        if len(calls) == 3:
            raise error("in the middle")
        return np.zeros((len(pictures), 2, 2))

    with pytest.raises(error, match="in the middle"):
        quality.randomisation(net, small_pictures(1), [failing])
    assert (calls[-1] != before["fc.kernel"]).any()
    for name, value in net.weights().items():
        assert value.tobytes() == before[name].tobytes()


def test_weights_that_do_not_come_back_are_told():
    class Stubborn(OracleAdapter):
        def assign(self, weights):
            super().assign({k: v + 1 for k, v in weights.items()})

    with pytest.raises(CnnvizError, match="not written back"):
        quality.randomisation(Stubborn(), small_pictures(1), [centre], stages=1)


@pytest.mark.parametrize(
    "options",
    [{"stages": 0}, {"threshold": 0}, {"methods": []}, {"methods": "cam"}, {"methods": ["kam"]}],
)
def test_what_cannot_be_meant(options):
    with pytest.raises(InvalidOption):
        quality.randomisation(OracleAdapter(), small_pictures(1), **options)
