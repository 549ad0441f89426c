"""Class activation maps against closed forms, on the oracle alone."""

from __future__ import annotations

import numpy as np
import pytest

import cnnviz
from cnnviz.adapter import LOGITS
from cnnviz.classes import class_index
from cnnviz.errors import ChannelOutOfRange, InvalidOption, UnknownLayer
from cnnviz.testing import OracleAdapter, small_pictures, small_weights


@pytest.fixture(scope="module")
def net():
    return OracleAdapter()


@pytest.fixture(scope="module")
def maps(net):
    return net.forward(small_pictures(), taps=["relu:1", "pool", LOGITS])


@pytest.mark.parametrize("target", [0, 3])
def test_grad_cam_after_gap_is_cam_over_the_area(net, maps, target):
    """With a mean and a dense layer behind it: sum_k w_k A_k / Z (facts of both papers)."""
    wanted = maps["relu:1"] @ net.model["fc.kernel"][:, target]
    plain = cnnviz.cam(net, small_pictures(), target)
    np.testing.assert_allclose(plain.raw, wanted, rtol=1e-12)
    grad = cnnviz.grad_cam(net, small_pictures(), target, "relu:1")
    np.testing.assert_allclose(grad.raw * 4, wanted, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(plain.score, maps[LOGITS][:, target])
    bias = net.model["fc.bias"][target]
    np.testing.assert_allclose(plain.raw.mean((1, 2)) + bias, plain.score)


def test_grad_cam_by_the_formula(net, maps):
    """In the middle of the network, with the slopes taken by central differences here."""
    picture, step = small_pictures(1), 1e-6
    pool = maps["pool"][:1]
    slope = np.zeros_like(pool)

    def rest(a):
        steps = [f for name, _, f in net._graph if name in ("conv2", "relu:1", "gap", "fc")]
        for f in steps:
            a = f(a)
        return a[0, 2]

    for index in np.ndindex(pool.shape):
        up, down = pool.copy(), pool.copy()
        up[index] += step
        down[index] -= step
        slope[index] = (rest(up) - rest(down)) / (2 * step)
    wanted = (pool * slope.mean((1, 2), keepdims=True)).sum(-1)
    found = cnnviz.grad_cam(net, picture, 2, "pool")
    np.testing.assert_allclose(found.raw, wanted, atol=1e-8)


def test_map_is_the_positive_part_enlarged_over_its_maximum(net):
    found = cnnviz.cam(net, small_pictures(), 0)
    assert found.map.shape == (2, 10, 10)
    assert found.map.min() >= 0
    for raw, scaled in zip(found.raw, found.map, strict=True):
        if raw.max() > 0:
            assert scaled.max() == pytest.approx(1)
            # The corner of an enlarged map is the corner of the raw one.
            enlarged = cnnviz.images.resize(np.maximum(raw, 0)[..., None], (10, 10))
            np.testing.assert_allclose(scaled, enlarged[..., 0] / enlarged.max(), atol=1e-12)


def test_predicted_class_by_default(net, maps):
    found = cnnviz.grad_cam(net, small_pictures())
    assert found.target == tuple(maps[LOGITS].argmax(1))
    again = cnnviz.grad_cam(net, small_pictures(), list(found.target))
    np.testing.assert_allclose(found.raw, again.raw, atol=1e-9)
    assert found.layer == "relu:1"
    assert any("relu:1" in note for note in found.notes)


def test_softmax_is_stepped_over():
    logits = cnnviz.grad_cam(OracleAdapter(), small_pictures(), 1)
    softmax = cnnviz.grad_cam(OracleAdapter(softmax=True), small_pictures(), 1)
    np.testing.assert_array_equal(logits.raw, softmax.raw)
    assert not any("softmax" in note for note in logits.notes)
    assert any("softmax" in note for note in softmax.notes)


def test_batches_do_not_matter(net):
    pictures = small_pictures(3)
    whole = cnnviz.grad_cam(net, pictures, [0, 1, 2], "pool")
    for batch in (1, 2):
        parts = cnnviz.grad_cam(net, pictures, [0, 1, 2], "pool", batch=batch)
        np.testing.assert_allclose(parts.raw, whole.raw, atol=1e-9)


def test_an_empty_map_says_why():
    weights = small_weights()
    weights["fc.kernel"] = -np.abs(weights["fc.kernel"])
    found = cnnviz.grad_cam(OracleAdapter(weights), small_pictures(), 0)
    assert not found.map.any()
    assert (found.raw <= 0).all()
    assert sum("nowhere positive" in note for note in found.notes) == 2
    weights["fc.kernel"] = weights["fc.kernel"] * 0
    found = cnnviz.grad_cam(OracleAdapter(weights), small_pictures(), 0)
    assert sum("gradient is zero" in note for note in found.notes) == 2


def test_class_by_name(net):
    named = OracleAdapter()
    named.labels = ["cat", "dog", "crane", "crane", "cup"]
    assert cnnviz.cam(named, small_pictures(), "Dog").target == (1, 1)
    assert cnnviz.cam(named, small_pictures(), "dog").names == ("dog", "dog")
    with pytest.raises(InvalidOption, match=r"several classes are called 'crane'.* 2, 3"):
        cnnviz.cam(named, small_pictures(), "crane")
    with pytest.raises(InvalidOption, match=r"did you mean cat \(0\)"):
        cnnviz.cam(named, small_pictures(), "ca")
    with pytest.raises(InvalidOption, match="knows no names"):
        cnnviz.cam(net, small_pictures(), "dog")
    named.labels = ["Tiger cat", "tabby", "fire_truck", "fire truck", "7"]
    for text, index in (("tiger_cat", 0), (" TIGER  cat", 0), ("fire_truck", 2), ("fire truck", 3),
                        ("1", 1), ("7", 4)):  # fmt: skip
        assert class_index(named, text) == index, text
    assert class_index(net, "3") == 3
    for text, words in (
        ("tigr cat", r"did you mean Tiger cat \(0\)"),
        ("tiger_cats", r"did you mean Tiger cat \(0\)"),
        ("Fire-truck", r"fire_truck \(2\), fire truck \(3\)"),
        ("zebra", "give the index"),
        ("", "is empty"),
        (" ", "is empty"),
    ):
        with pytest.raises(InvalidOption, match=words):
            class_index(named, text)
    with pytest.raises(ChannelOutOfRange):
        class_index(named, "-1")


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"target": 5}, ChannelOutOfRange, r"0\.\.4"),
        ({"target": -1}, ChannelOutOfRange, r"0\.\.4"),
        ({"target": True}, InvalidOption, "not a bool"),
        ({"target": [0]}, InvalidOption, "1 target for 2 pictures"),
        ({"target": [0, None]}, InvalidOption, "every picture"),
        ({"layer": "conv3"}, UnknownLayer, "closest"),
        ({"layer": "fc"}, InvalidOption, "no height and width"),
        ({"layer": -1}, InvalidOption, "a layer is a name, .*, not -1"),
        ({"layer": ["pool", -1]}, InvalidOption, "a layer is a name, .*, not -1"),
        ({"batch": 0}, InvalidOption, "at least 1"),
    ],
)
def test_what_cannot_be_meant(net, options, error, text):
    with pytest.raises(error, match=text):
        cnnviz.grad_cam(net, small_pictures(), **options)


def test_cam_is_refused_where_it_is_not_defined(net):
    with pytest.raises(InvalidOption, match="use grad_cam"):
        cnnviz.cam(net, small_pictures(), 0, "pool")
    with pytest.raises(InvalidOption, match="use grad_cam"):
        cnnviz.cam(net, small_pictures(), 0, "conv2")


def test_attribute_by_name(net):
    found = cnnviz.attribute(net, small_pictures(), "cam", 1)
    np.testing.assert_array_equal(found.raw, cnnviz.cam(net, small_pictures(), 1).raw)
    with pytest.raises(InvalidOption, match="'grad_cam'"):
        cnnviz.attribute(net, small_pictures(), "gradcam")


def test_weights_that_are_not_finite_are_told():
    weights = small_weights()
    weights["conv2.bias"] = weights["conv2.bias"] * np.nan
    with pytest.raises(InvalidOption, match="not finite"):
        cnnviz.grad_cam(OracleAdapter(weights), small_pictures(), 0)


def test_overlay_and_files(net, tmp_path):
    found = cnnviz.cam(net, small_pictures(), 0)
    assert found.overlay().shape == (2, 10, 10, 3)
    photo = np.zeros((40, 30, 3))
    assert found.overlay(photo).shape == (2, 40, 30, 3)
    # A black photo under no heat is the coldest colour at its share, and never brightened.
    assert found.overlay(photo, alpha=0.0).max() == 0
    assert found.save(tmp_path / "maps.png").stat().st_size > 100
    found.save(tmp_path / "maps.npz")
    with np.load(tmp_path / "maps.npz") as kept:
        np.testing.assert_array_equal(kept["raw"], found.raw)
    assert found._repr_png_()[:4] == b"\x89PNG"
