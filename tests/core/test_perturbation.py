"""Methods that mask the picture or channels, and what all methods cost, on the oracle alone."""

from __future__ import annotations

import sys

import cv2
import numpy as np
import pytest

import cnnviz
from cnnviz.adapter import LOGITS, Evaluation
from cnnviz.attribution import METHODS, Method
from cnnviz.attribution.ablation import ablation_cam
from cnnviz.attribution.costs import _COUNTS, Cost, cost
from cnnviz.attribution.integrated import baseline_of
from cnnviz.attribution.masking import is_cam, score_cam, ss_cam
from cnnviz.attribution.perturbation import occlusion, rise, superpixels, windows
from cnnviz.attribution.task import Task
from cnnviz.errors import CnnvizError, InvalidOption, MissingDependency
from cnnviz.testing import OracleAdapter, small_pictures, small_weights

IDENTITY = cnnviz.Preprocessing((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), size=(10, 10))
AT_LAYERS = {"score_cam": score_cam, "ss_cam": ss_cam, "is_cam": is_cam,
             "ablation_cam": ablation_cam}  # fmt: skip
AT_PICTURE = {"occlusion": occlusion, "rise": rise, "superpixels": superpixels}
FAST = {
    "ss_cam": {"samples": 2},
    "is_cam": {"samples": 2},
    "rise": {"masks": 40},
    "superpixels": {"samples": 40, "segments": 6},
    "smooth_grad_cam_pp": {"samples": 2},
    "smoothgrad": {"samples": 2},
    "smoothgrad_squared": {"samples": 2},
    "vargrad": {"samples": 2},
    "integrated_gradients": {"steps": 2},
}


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    for name, run in AT_LAYERS.items():
        if name not in METHODS:
            monkeypatch.setitem(METHODS, name, Method(run, "", ""))
    for name, run in AT_PICTURE.items():
        if name not in METHODS:
            monkeypatch.setitem(METHODS, name, Method(run, "", "", "picture", "probability"))


class Linear(OracleAdapter):
    """Scores that are linear in the pixels, and an offset for each class."""

    def __init__(self, seed=0, sides=(10, 10), channels=3):
        super().__init__(preprocessing=IDENTITY)
        if channels != 3:
            self._preprocessing = cnnviz.Preprocessing((0.0,) * channels, (1.0,) * channels)
        rng = np.random.default_rng(seed)
        self.kernel = rng.normal(0, 1, (*sides, channels, 5))
        self.bias = rng.normal(0, 1, 5)
        flat = self.kernel.reshape(-1, 5)
        self._graph = [("score", "Dense", lambda x: x.reshape(len(x), -1) @ flat + self.bias)]
        self.sides, self.channels = sides, channels

    @property
    def input_shape(self):
        return (*self.sides, self.channels)

    def layers(self):
        return [cnnviz.adapter.Layer("score", "Dense", (None, 5), 1500)]


class Compiled(OracleAdapter):
    """Keeps what size each batch had, as one that is traced anew for each would."""

    compiled = True

    def __init__(self):
        super().__init__()
        self.sizes = []

    def _activations(self, places, start, x):
        self.sizes.append(len(x))
        return super()._activations(places, start, x)


class Cheap(OracleAdapter):
    """Gives ones for derivatives, which no count depends on."""

    def gradient(self, score, x, *, taps, wrt=("<input>",), score_args=(), jacobian=False, **more):
        found = self.forward(x, taps=[*taps, *wrt])
        value = score(found, *score_args)
        lead = (value.shape[1],) if jacobian else ()
        slopes = {tap: np.ones((*lead, *found[tap].shape)) for tap in wrt}
        return Evaluation(value, found, slopes, slopes)


@pytest.fixture(scope="module")
def net():
    return OracleAdapter()


@pytest.fixture(scope="module")
def maps(net):
    return net.forward(small_pictures(), taps=["relu:1", "pool", "conv2", LOGITS])


def blocks(count=2, side=10):
    """Pictures of four colours each, for what looks for segments."""
    rng = np.random.default_rng(3)
    large = rng.uniform(0.1, 0.9, (count, 2, 2, 3)).repeat(side // 2, 1).repeat(side // 2, 2)
    return large + rng.uniform(-0.02, 0.02, large.shape)


def explain(net, method, target=1, layer=None, pictures=None, **options):
    x = small_pictures() if pictures is None else pictures
    return cnnviz.attribute(net, x, method, target, layer, score="logit", **options)


def enlarged(a, side=10):
    """``(h, w)`` to a square, linearly between the centres of its cells, by numpy alone."""
    for axis in (0, 1):
        at = (np.arange(side) + 0.5) * a.shape[axis] / side - 0.5
        a = np.apply_along_axis(lambda v, at=at: np.interp(at, np.arange(len(v)), v), axis, a)
    return a


def mask_of(a):
    up = enlarged(a)
    return ((up - up.min()) / (up.max() - up.min()))[..., None]


def softmax(x):
    power = np.exp(x - x.max())
    return power / power.sum()


# Score-CAM and its kin


def test_score_cam_by_the_formula(net, maps):
    found = explain(net, "score_cam", 3, "pool")
    for i, x in enumerate(small_pictures()):
        a = maps["pool"][i]
        seen = [x * mask_of(a[..., k]) for k in range(4)]
        gained = net.forward(np.stack(seen), taps=[LOGITS])[LOGITS][:, 3]
        np.testing.assert_allclose(found.raw[i], a @ softmax(gained), rtol=1e-9)
    black = net.forward(np.zeros((1, 10, 10, 3)), taps=[LOGITS])[LOGITS][0, 3]
    np.testing.assert_allclose(found.facts["black"], black)


def test_score_cam_of_steps_and_of_noise(net, maps):
    x, a = small_pictures(1)[0], maps["pool"][0]
    steps = [[x * mask_of(a[..., k]) * s / 3 for k in range(4)] for s in (1, 2, 3)]
    gained = np.mean([net.forward(np.stack(s), taps=[LOGITS])[LOGITS][:, 2] for s in steps], 0)
    found = explain(net, "is_cam", 2, "pool", small_pictures(1), samples=3)
    np.testing.assert_allclose(found.raw[0], a @ softmax(gained), rtol=1e-9)
    plain = explain(net, "score_cam", 2, "pool").raw
    np.testing.assert_allclose(explain(net, "is_cam", 2, "pool", samples=1).raw, plain)
    still = explain(net, "ss_cam", 2, "pool", samples=2, noise=0.0).raw
    np.testing.assert_allclose(still, plain)
    noisy = explain(net, "ss_cam", 2, "pool", samples=2, noise=0.5).raw
    assert not np.allclose(noisy, plain)
    other = explain(net, "ss_cam", 2, "pool", samples=2, noise=0.5, seed=1).raw
    assert not np.allclose(noisy, other)


def test_noise_that_adds_up_to_nothing_in_a_linear_score():
    """Then y(x * M + e) is y(x * M) and a number that is the same for all channels."""

    class Straight(Linear):
        def __init__(self):
            super().__init__()
            self._graph = [
                ("first", "Conv", lambda x: x),
                ("score", "Dense", lambda x: x.reshape(len(x), -1) @ self.kernel.reshape(-1, 5)),
            ]

        def layers(self):
            layer = cnnviz.adapter.Layer("first", "Conv", (None, 10, 10, 3), 0)
            return [layer, *super().layers()]

    plain = explain(Straight(), "score_cam", 1, "first")
    noisy = explain(Straight(), "ss_cam", 1, "first", noise=0.4, samples=3)
    np.testing.assert_allclose(noisy.raw, plain.raw, rtol=1e-6)


@pytest.mark.parametrize("method", ["score_cam", "ss_cam", "is_cam"])
def test_identical_channels_have_equal_weights(method):
    """Of three that differ but in size, the mean; what is dead has no weight."""
    weights = small_weights()
    for k, factor in enumerate((1, 2, 3, 0, 0, 0)):
        weights["conv2.kernel"][..., k] = factor * small_weights()["conv2.kernel"][..., 0]
        weights["conv2.bias"][k] = factor * 0.3
    net = OracleAdapter(weights)
    found = explain(net, method, 1, "conv2")
    a = net.forward(small_pictures(), taps=["conv2"])["conv2"]
    np.testing.assert_allclose(found.raw, 2 * a[..., 0], rtol=1e-9)


def test_a_constant_score_weighs_all_channels_alike(maps):
    weights = small_weights()
    weights["fc.kernel"] = weights["fc.kernel"] * 0
    found = explain(OracleAdapter(weights), "score_cam", 1, "conv2")
    np.testing.assert_allclose(found.raw, maps["conv2"].mean(-1), rtol=1e-12)


@pytest.mark.parametrize("method", ["score_cam", "ss_cam", "is_cam", "occlusion"])
def test_a_constant_added_to_the_score_changes_nothing(net, method):
    weights = small_weights()
    weights["fc.bias"] = weights["fc.bias"] + 7
    layer = None if method == "occlusion" else "pool"
    moved = explain(OracleAdapter(weights), method, 1, layer)
    np.testing.assert_allclose(moved.raw, explain(net, method, 1, layer).raw, atol=1e-12)


def test_channels_without_shape_are_skipped(net, maps):
    weights = small_weights()
    weights["conv2.kernel"][..., 2] = 0
    weights["conv2.bias"][2] = 5
    dead = OracleAdapter(weights)
    found = explain(dead, "score_cam", 1, "conv2")
    assert found.forwards == 2 * (2 + 1 + 5)
    a = dead.forward(small_pictures(), taps=["conv2"])["conv2"]
    assert (a[..., 2] == 5).all()
    # The weight of five is at most that of the others, whose sum is one.
    assert found.raw.max() <= a[..., [0, 1, 3, 4, 5]].max()
    weights["conv2.kernel"] = weights["conv2.kernel"] * 0
    none = explain(OracleAdapter(weights), "score_cam", 1, "conv2")
    assert not none.raw.any()
    assert "no channel of the layer varies" in none.empty[0]


def test_the_channels_that_vary_most(net, maps):
    found = explain(net, "score_cam", 3, "pool", channels=2)
    for i, x in enumerate(small_pictures()):
        a = maps["pool"][i]
        best = np.argsort(-a.std((0, 1)))[:2]
        seen = np.stack([x * mask_of(a[..., k]) for k in best])
        gained = net.forward(seen, taps=[LOGITS])[LOGITS][:, 3]
        np.testing.assert_allclose(found.raw[i], a[..., best] @ softmax(gained), rtol=1e-9)


# Ablation-CAM


def test_ablation_after_gap_is_the_share_of_the_mean(net, maps):
    """w_k = w_k^c mean(A_k) / y."""
    a = maps["relu:1"]
    for target in (0, 3):
        y = maps[LOGITS][:, target]
        w = net.model["fc.kernel"][:, target] * a.mean((1, 2)) / y[:, None]
        found = explain(net, "ablation_cam", target, "relu:1")
        np.testing.assert_allclose(found.raw, np.einsum("nhwc,nc->nhw", a, w), atol=1e-12)
        below = [f"map {i} is below zero" for i in np.flatnonzero(y < 0)]
        assert sum("below zero" in note for note in found.notes) == len(below)
        assert all(any(text in note for note in found.notes) for text in below)


def test_ablation_in_the_middle(net, maps):
    a = maps["pool"]
    steps = [f for name, _, f in net._graph if name in ("conv2", "relu:1", "gap", "fc")]

    def rest(x):
        for f in steps:
            x = f(x)
        return x[:, 2]

    wanted = np.zeros(a.shape[:-1])
    for k in range(4):
        without = a.copy()
        without[..., k] = 0
        y = maps[LOGITS][:, 2]
        wanted += ((y - rest(without)) / y)[:, None, None] * a[..., k]
    net.evaluations.clear()
    found = explain(net, "ablation_cam", 2, "pool")
    np.testing.assert_allclose(found.raw, wanted, atol=1e-12)
    # For each picture: the score, the layer, the layer again, and then only what follows.
    assert net.evaluations.count("conv1") == 1 + 2 * 2
    best = explain(net, "ablation_cam", 2, "pool", channels=1)
    assert best.forwards == found.forwards - 2 * 3


def test_ablation_of_a_score_of_zero():
    weights = small_weights()
    weights["fc.kernel"] = weights["fc.kernel"] * 0
    weights["fc.bias"] = weights["fc.bias"] * 0
    found = explain(OracleAdapter(weights), "ablation_cam", 1, "relu:1")
    assert not found.raw.any()
    assert any("score of map 1 is zero" in note for note in found.notes)
    assert "without any channel" in found.empty[0]


def test_ablation_tells_a_network_that_mixes_its_batch():
    class Mixing(OracleAdapter):
        def resume(self, x, *, at, taps):
            go_on = super().resume(x, at=at, taps=taps)
            return lambda a: go_on(a - a.mean(0, keepdims=True))

    with pytest.raises(CnnvizError, match="across the batch"):
        explain(Mixing(), "ablation_cam", 1, "pool")


def test_ablation_of_what_is_read_before_the_layer(net):
    both = cnnviz.objectives.channel("pool", 1) + cnnviz.objectives.class_logit(1)
    with pytest.raises(InvalidOption, match="read at 'pool', before 'conv2'"):
        explain(net, "ablation_cam", both, "conv2")


# Occlusion


@pytest.mark.parametrize("fill", ["mean", "black", "blur", 0.25])
@pytest.mark.parametrize(("patch", "stride"), [(None, None), (3, 2), (4, 4), (10, 1)])
def test_occlusion_of_a_linear_score(fill, patch, stride):
    """A patch takes away the sum of weight times change under it."""
    sides = (12, 10)
    net, x = Linear(sides=sides), np.random.default_rng(4).uniform(0, 1, (2, 12, 10, 3))
    found = explain(net, "occlusion", 2, None, x, patch=patch, stride=stride, fill=fill, size=sides)
    change = (net.kernel[..., 2] * (x - baseline_of(Task(net, x, 2, sides), fill))).sum(-1)
    side = patch or 1
    step = stride or 1
    starts = [sorted({*range(0, n - side, step), n - side}) for n in sides]
    total, count = np.zeros(x.shape[:3]), np.zeros(sides)
    for r in starts[0]:
        for c in starts[1]:
            here = slice(r, r + side), slice(c, c + side)
            total[:, *here] += change[:, *here].sum((1, 2))[:, None, None]
            count[here] += 1
    assert count.min() > 0
    np.testing.assert_allclose(found.raw, total / count, atol=1e-9)


def test_windows_cover_the_picture():
    for sides in ((224, 224), (23, 50), (1, 1), (7,), (9, 8, 7)):
        count = np.zeros(sides)
        for place in windows(sides):
            count[place] += 1
        assert count.min() > 0
    assert windows((224, 224))[0] == (slice(0, 32), slice(0, 32))
    assert len(windows((224, 224))) == 13**2


# RISE


def test_rise_of_single_pixels_in_expectation():
    """E S_i = p y + (1 - p) w_i x_i, here with an offset b that adds to y alone."""
    net, x, p, count = Linear(), small_pictures(), 0.3, 40000
    found = explain(net, "rise", 2, masks=count, cells=None, keep=p, batch=1000)
    wx = (net.kernel[..., 2] * x).sum(-1)
    wanted = p * wx.sum((1, 2))[:, None, None] + (1 - p) * wx + net.bias[2]
    # The standard error of the mean of y(x * M) M_i / p, generously.
    spread = np.sqrt(p * (1 - p) * (wx**2).sum((1, 2)) + (wx.sum((1, 2)) * p + net.bias[2]) ** 2)
    error = spread / np.sqrt(p * count)
    assert (np.abs(found.raw - wanted).max((1, 2)) < 5 * error).all()
    # And it is no accident of what is wide: the part that differs by pixel is told apart.
    for raw, one in zip(found.raw, wx, strict=True):
        assert np.corrcoef(raw.ravel(), one.ravel())[0, 1] > 0.9


def test_rise_of_cells_in_expectation():
    """E S_i = E y + sum_j w_j x_j cov(M_i, M_j) / p, over cells and shifts, enlarged by OpenCV."""
    net, x, p, count, cells = Linear(), small_pictures(1), 0.5, 40000, 3
    found = explain(net, "rise", 2, None, x, masks=count, cells=cells, keep=p, batch=2000)
    wx = (net.kernel[..., 2] * x[0]).sum(-1).ravel()
    covariance, shifts = np.zeros((100, 100)), 0
    basis = np.eye(9).reshape(9, 3, 3)
    up = np.stack([cv2.resize(b, (16, 16), interpolation=cv2.INTER_LINEAR) for b in basis])
    for r in range(4):
        for c in range(4):
            seen = up[:, r : r + 10, c : c + 10].reshape(9, -1)
            covariance += p * (1 - p) * seen.T @ seen
            shifts += 1
    wanted = p * wx.sum() + net.bias[2] + covariance @ wx / shifts / p
    raw = found.raw[0].ravel()
    spread = np.sqrt(wx @ covariance @ wx / shifts + (p * wx.sum() + net.bias[2]) ** 2)
    assert np.abs(raw - wanted).max() < 5 * spread / np.sqrt(p * count)
    assert np.corrcoef(raw, covariance @ wx)[0, 1] > 0.99


def test_masks_of_rise_are_the_same_however_they_are_taken(net):
    for cells in (None, 4):
        whole = explain(net, "rise", masks=60, cells=cells)
        for batch in (1, 7, 64):
            parts = explain(net, "rise", masks=60, cells=cells, batch=batch)
            np.testing.assert_allclose(parts.raw, whole.raw, atol=1e-12)
        other = explain(net, "rise", masks=60, cells=cells, seed=1)
        assert not np.allclose(other.raw, whole.raw)


# Superpixels


def test_superpixels_of_a_linear_score():
    net, x = Linear(), blocks(1)
    found = explain(net, "superpixels", 2, None, x, samples=200, segments=5, penalty=0.0)
    change = (net.kernel[..., 2] * (x - baseline_of(Task(net, x, 2), "mean")))[0].sum(-1)
    raw = found.raw[0]
    values = np.unique(raw)
    assert len(values) == found.facts["segments"][0] > 2
    # The coefficient of a segment is the sum of weight times change over it.
    for value in values:
        assert value == pytest.approx(change[raw == value].sum(), abs=1e-8)
    assert found.facts["fit"][0] == pytest.approx(1)


def test_weighted_ridge_by_least_squares():
    """As rows of least squares, each times the root of its weight, and the penalty as more."""
    from cnnviz.attribution.perturbation import linear_model

    rng = np.random.default_rng(0)
    seen = (rng.random((30, 6)) < 0.5).astype(float)
    seen[0] = 1
    y = rng.normal(0, 1, (30, 2))
    cosine = seen @ np.ones(6) / (np.linalg.norm(seen, axis=1) * np.sqrt(6) + 1e-300)
    weight = np.sqrt(np.exp(-((1 - cosine) ** 2) / 0.25**2))
    rows = np.hstack([seen, np.ones((30, 1))]) * np.sqrt(weight)[:, None]
    rows = np.vstack([rows, np.hstack([np.sqrt(0.7) * np.eye(6), np.zeros((6, 1))])])
    right = np.vstack([y * np.sqrt(weight)[:, None], np.zeros((6, 2))])
    wanted = np.linalg.lstsq(rows, right, rcond=None)[0]
    found, fit = linear_model(seen, y, 0.25, 0.7)
    np.testing.assert_allclose(found, wanted[:6], atol=1e-10)
    off = y - seen @ wanted[:6] - wanted[6]
    mean = (weight[:, None] * y).sum(0) / weight.sum()
    total = (weight[:, None] * (y - mean) ** 2).sum(0)
    np.testing.assert_allclose(fit, 1 - (weight[:, None] * off**2).sum(0) / total)
    assert (linear_model(seen, np.ones((30, 1)), 0.25, 1.0)[1] == 1).all()


def test_a_picture_of_one_segment_is_told(net):
    noise = explain(net, "superpixels", 2, segments=5, samples=9)
    assert noise.facts["segments"][0] == 1
    assert any("picture 0 has but one segment" in note for note in noise.notes)
    assert np.ptp(noise.raw[0]) == 0


def test_superpixels_without_scikit_image(net, monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.segmentation", None)
    with pytest.raises(MissingDependency, match=r"pip install 'cnnviz\[superpixels\]'"):
        explain(net, "superpixels")


# All of them

NEW = [*AT_LAYERS, *AT_PICTURE]


@pytest.mark.parametrize("method", NEW)
def test_a_picture_does_not_depend_on_its_neighbours(net, method):
    layer = "pool" if method in AT_LAYERS else None
    options = FAST.get(method, {})
    x = blocks(3)
    both = explain(net, method, [0, 1, 2], layer, x, batch=2, **options)
    for i in range(3):
        one = explain(net, method, i, layer, x[i : i + 1], **options)
        np.testing.assert_allclose(both.raw[i], one.raw[0], atol=1e-9)
        assert both.score[i] == pytest.approx(one.score[0])


@pytest.mark.parametrize("method", NEW)
def test_several_classes_at_once_are_what_each_is_alone(net, method):
    layer = "pool" if method in AT_LAYERS else None
    options = FAST.get(method, {})
    found = explain(net, method, [(0, 2), (1, 0)], layer, blocks(), **options)
    for k, targets in enumerate(([0, 1], [2, 0])):
        alone = explain(net, method, targets, layer, blocks(), **options)
        np.testing.assert_allclose(found.raw[k::2], alone.raw, atol=1e-9)
        assert alone.forwards == found.forwards
        for key, fact in alone.facts.items():
            np.testing.assert_allclose(found.facts[key][k::2], fact)


@pytest.mark.parametrize("method", NEW)
def test_the_class_is_that_of_the_whole_picture(net, maps, method):
    layer = "pool" if method in AT_LAYERS else None
    options = FAST.get(method, {})
    classes = maps[LOGITS].argmax(1).tolist()
    found = explain(net, method, None, layer, **options)
    assert found.target == tuple(classes)
    np.testing.assert_array_equal(found.raw, explain(net, method, classes, layer, **options).raw)


@pytest.mark.parametrize("method", NEW)
def test_chunks_of_one_size_where_another_is_traced_anew(net, method):
    layer = "pool" if method in AT_LAYERS else None
    options = {**FAST.get(method, {}), "batch": 3}
    compiled = Compiled()
    found = explain(compiled, method, 1, layer, **options)
    assert set(compiled.sizes) <= {1, 2, 3}
    if method in AT_PICTURE:
        assert len(set(compiled.sizes)) <= 2
    np.testing.assert_allclose(found.raw, explain(net, method, 1, layer, **options).raw, atol=1e-9)


@pytest.mark.parametrize("method", ["occlusion", "rise"])
def test_signals_and_volumes(method):
    for sides in ((12,), (5, 6, 4)):
        net = Linear(sides=sides, channels=2)
        x = np.random.default_rng(0).normal(0, 1, (2, *sides, 2))
        options = {"patch": 1} if method == "occlusion" else FAST[method]
        found = explain(net, method, 1, None, x, **options)
        assert found.raw.shape == (2, *sides)
        if method == "occlusion":
            change = net.kernel[..., 1] * (x - baseline_of(Task(net, x, 1), "mean"))
            np.testing.assert_allclose(found.raw, change.sum(-1), atol=1e-9)
    with pytest.raises(InvalidOption, match="take occlusion or rise"):
        explain(net, "superpixels", 1, None, x)


@pytest.mark.parametrize(
    ("method", "options", "text"),
    [
        ("score_cam", {"channels": 0}, "channels is an integer from 1 on"),
        ("ss_cam", {"samples": 0}, "samples is an integer"),
        ("ss_cam", {"noise": -1}, "noise is a share"),
        ("is_cam", {"samples": 1.5}, "samples is an integer"),
        ("ablation_cam", {"channels": True}, "channels is an integer"),
        ("occlusion", {"patch": 0}, "patch is an integer from 1 on"),
        ("occlusion", {"patch": 11}, "a patch of 11 does not fit a picture of 10 x 10"),
        ("occlusion", {"patch": 2, "stride": 3}, "leave pixels out"),
        ("occlusion", {"fill": "grey"}, "a baseline is"),
        ("rise", {"masks": 0}, "masks is an integer"),
        ("rise", {"cells": 0}, "cells is an integer"),
        ("rise", {"keep": 1.0}, "keep is a probability"),
        ("rise", {"seed": -1}, "seed is an integer from 0 on"),
        ("superpixels", {"segments": 1}, "segments is an integer from 2 on"),
        ("superpixels", {"samples": 1}, "samples is an integer from 2 on"),
        ("superpixels", {"kernel": 0}, "kernel is a number above 0"),
        ("superpixels", {"penalty": -1}, "penalty is a number from 0"),
        ("superpixels", {"kernel": "wide"}, "kernel is a number, not 'wide'"),
    ],
)
def test_what_cannot_be_meant(net, method, options, text):
    with pytest.raises(InvalidOption, match=text) as told:
        explain(net, method, **options)
    assert "\n" not in str(told.value)


# What it costs


TARGETS = {
    "predicted": None,
    "given": 1,
    "several": [(0, 2)] * 3,
    "highest": cnnviz.top(2),
}


@pytest.mark.parametrize("method", sorted(_COUNTS))
@pytest.mark.parametrize("compiled", [False, True])
def test_costs_are_what_a_run_counts(method, compiled):
    net = Cheap()
    net.compiled = compiled
    layer = "bn1" if METHODS[method].at != "picture" and method != "cam" else None
    options = FAST.get(method, {})
    x = blocks(3, 8)
    for name, target in TARGETS.items():
        if method == "shapley_cam" and name in ("several", "highest"):
            continue
        for batch in (2, None):
            more = {"size": 8, "batch": batch, **options}
            told = cost(net, x, method, target, layer, **more)
            found = cnnviz.attribute(net, x, method, target, layer, **more)
            assert (told.forwards, told.backwards) == (found.forwards, found.backwards), name


def test_costs_that_are_a_limit(net):
    told = cost(net, small_pictures(1, 8), "integrated_gradients", 1, size=8)
    # Slopes that are wrong never add up.
    found = explain(Cheap(), "integrated_gradients", 1, None, small_pictures(1, 8), size=8)
    assert told.at_most
    assert (found.forwards, found.backwards) == (told.forwards, told.backwards)
    assert told.backwards == 640
    assert str(told).startswith("at most ")
    for method in AT_LAYERS:
        told = cost(net, small_pictures(), method, 1, "relu:1")
        assert told.at_most
        assert explain(net, method, 1, "relu:1").forwards <= told.forwards


def test_costs_run_nothing_and_know_every_method(net):
    assert set(_COUNTS) == set(METHODS)
    quiet = OracleAdapter()
    for method in METHODS:
        told = cost(quiet, small_pictures(), method, cnnviz.top(1))
        assert told.chunk >= 1
        assert told.bytes > 4 * 300
    assert not quiet.evaluations
    told = cost(net, small_pictures(), "rise", masks=500, batch=10)
    assert told == Cost(2 * (500 + 2), 0, told.bytes, 10)
    assert told.to_json()["chunk"] == 10
    assert str(told) == "1004 forwards and 0 backwards, 10 at a time, about 1 MiB"
    double = cost(net, small_pictures(), "rise", masks=500, batch=20)
    assert double.bytes == 2 * told.bytes


def test_costs_refuse_what_a_run_would(net):
    with pytest.raises(InvalidOption, match="no setting 'mask'"):
        cost(net, small_pictures(), "rise", mask=5)
    with pytest.raises(InvalidOption, match="samples is an integer"):
        cost(net, small_pictures(), "ss_cam", samples="many")
    with pytest.raises(InvalidOption, match="no method 'raise'"):
        cost(net, small_pictures(), "raise")
    with pytest.raises(InvalidOption, match="empty list"):
        cost(net, small_pictures(), "grad_cam", layer=[])
    unit = cnnviz.objectives.channel("fc", 1)
    for method, target, more, words in (
        ("shapley_cam", cnnviz.top(2), {}, "one class of each picture"),
        ("shapley_cam", [(0, 1)] * 2, {}, "one class of each picture"),
        ("cam", unit, {}, "logits of classes"),
        ("finer_cam", unit, {}, "logits of classes"),
        ("rise", 1, {"fuse": "max"}, "nothing to fuse"),
        ("grad_cam", 1, {"fuse": "sum"}, "'product'"),
        ("integrated_gradients", 1, {"steps": 2, "tolerance": 0.1}, "steps or tolerance"),
        ("integrated_gradients", 1, {"tolerance": 0}, "above zero"),
    ):
        for run in (cost, cnnviz.attribute):
            with pytest.raises(InvalidOption, match=words):
                run(net, small_pictures(), method, target, **more)
    assert cost(net, small_pictures(), "shapley_cam", cnnviz.top(1)).backwards == 2


def test_one_is_told_as_one(net):
    told = str(cost(net, small_pictures(1), "grad_cam", 1))
    assert told.startswith("1 forward and 1 backward, 1 at a time")


def test_the_picture_of_rise_begins_at_its_least_number(net):
    found = cnnviz.attribute(net, small_pictures(), "rise", 1, masks=40, cells=3)
    assert (found.raw > 0).all()
    low, high = (getattr(found.raw, name)((1, 2), keepdims=True) for name in ("min", "max"))
    wanted = (found.raw - low) / (high - low)
    np.testing.assert_allclose(found.map, wanted, atol=1e-12)
    assert found.heat().min((1, 2)).max() == 0
    np.testing.assert_allclose(found.base, low.ravel())
    plain = cnnviz.attribute(net, small_pictures(), "occlusion", 1, patch=4)
    assert not plain.base.any()
