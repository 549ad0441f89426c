"""Linear CKA against a direct reference in float64, and layers of the oracle over a stream."""

from __future__ import annotations

import gc
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cnnviz.adapter import INPUT, OUTPUT
from cnnviz.comparison.kernels import gram
from cnnviz.comparison.similarity import Similarity, linear_cka, similarity
from cnnviz.errors import InvalidImage, InvalidOption, UnknownLayer
from cnnviz.features import feature_maps
from cnnviz.testing import SMALL_PREPROCESSING, OracleAdapter, small_pictures, small_weights

LAYERS = ["conv1", "bn1", "relu:0", "pool", "conv2", "relu:1", "gap", "fc"]


def hsic(x: NDArray[Any], y: NDArray[Any], unbiased: bool) -> float:
    """The criterion as the papers write it: with the matrix H, and with sums of K~ and L~."""
    x, y = (v.reshape(len(v), -1).astype(np.float64) for v in (x, y))
    n = len(x)
    k, m = x @ x.T, y @ y.T
    if not unbiased:
        h = np.eye(n) - np.full((n, n), 1 / n)
        return float(np.trace(k @ h @ m @ h)) / (n - 1) ** 2
    k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
    one = np.ones(n)
    total = np.trace(k @ m) + (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))
    return float(total - 2 / (n - 2) * (one @ k @ m @ one)) / (n * (n - 3))


def reference(xs: list[NDArray[Any]], ys: list[NDArray[Any]], unbiased: bool) -> float:
    """The mean of HSIC over minibatches, then the ratio."""
    pairs = [(hsic(x, y, unbiased), hsic(x, x, unbiased), hsic(y, y, unbiased))
             for x, y in zip(xs, ys, strict=True)]  # fmt: skip
    xy, xx, yy = np.mean(pairs, axis=0)
    return float(xy / np.sqrt(xx * yy))


def other_net() -> OracleAdapter:
    return OracleAdapter(small_weights(7))


def draw(*shape: int, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(0.3, 1, shape)


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize(
    ("one", "other"),
    [((30, 5), (30, 7)), ((12, 50), (12, 3)), ((9, 4, 5, 3), (9, 2, 2, 8)), ((4, 3), (4, 3))],
)
def test_it_is_the_ratio_of_the_criteria(
    one: tuple[int, ...], other: tuple[int, ...], unbiased: bool
) -> None:
    x, y = draw(*one), draw(*other, seed=1)
    y.reshape(len(y), -1)[:, :3] += x.reshape(len(x), -1)[:, :3]
    expected = reference([x], [y], unbiased)
    assert linear_cka(x, y, unbiased=unbiased) == pytest.approx(expected, rel=1e-8, abs=1e-10)
    assert linear_cka(y, x, unbiased=unbiased) == pytest.approx(expected, rel=1e-8, abs=1e-10)
    assert linear_cka(x, x, unbiased=unbiased) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("width", [6, 40])
def test_a_rotation_a_scale_and_a_shift_change_nothing(width: int, unbiased: bool) -> None:
    x, y = draw(20, width), draw(20, 5, seed=1)
    turn = np.linalg.qr(draw(width, width, seed=2))[0]
    turned = 1e-3 * x @ turn + draw(width, seed=3)
    assert linear_cka(x, turned, unbiased=unbiased) == pytest.approx(1, abs=1e-10)
    expected = linear_cka(x, y, unbiased=unbiased)
    assert linear_cka(turned, y, unbiased=unbiased) == pytest.approx(expected, abs=1e-10)
    # Another scale for each feature does.
    uneven = x * np.geomspace(1, 100, width)
    assert linear_cka(x, uneven, unbiased=unbiased) < 0.95


def test_the_unbiased_estimate_of_independent_features_is_about_zero() -> None:
    found = [linear_cka(draw(16, 200, seed=i), draw(16, 200, seed=99 + i)) for i in range(20)]
    assert np.mean(found) > 0.9
    pairs = [(draw(16, 200, seed=i), draw(16, 200, seed=99 + i)) for i in range(20)]
    unbiased = [linear_cka(x, y, unbiased=True) for x, y in pairs]
    assert abs(np.mean(unbiased)) < 0.05
    assert min(unbiased) < 0


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("width", [3, 60])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_constant_features_are_like_none(width: int, unbiased: bool, dtype: type) -> None:
    fixed = np.repeat(draw(1, width, seed=4).astype(dtype), 20, axis=0)
    x = draw(20, width)
    for features in (fixed, np.zeros_like(fixed), fixed * dtype(1 + np.finfo(dtype).eps)):
        assert linear_cka(x, features, unbiased=unbiased) == 0.0
        assert linear_cka(features, features, unbiased=unbiased) == 0.0
    # The last number moved alone, by less than rounding can.
    near = fixed.copy()
    near[::2] = near[::2] * dtype(1 + 2 * np.finfo(dtype).eps)
    assert linear_cka(near, x, unbiased=unbiased) == 0.0


def test_examples_all_equally_far_apart_have_no_unbiased_likeness() -> None:
    # HSIC_1 of the unit matrix is zero, which rounding makes a little negative.
    for features in (np.eye(7), np.eye(11) * 3 + 0.1, np.eye(7)[:, :6]):
        value = linear_cka(features, np.eye(len(features)), unbiased=True)
        assert value == pytest.approx(0, abs=1e-12)
        assert linear_cka(features, draw(len(features), 3), unbiased=True) == pytest.approx(
            linear_cka(draw(len(features), 3), features, unbiased=True), abs=1e-12
        )
    assert linear_cka(np.eye(7), np.eye(7)) == pytest.approx(1)


def test_numbers_of_any_size_are_compared() -> None:
    x, y = draw(10, 3), draw(10, 30, seed=1)
    for scale in (1e-130, 1e120):
        assert linear_cka(x * scale, y) == pytest.approx(linear_cka(x, y), rel=1e-9)
    # A little that moves on much that does not.
    assert linear_cka(x + 1e6, y) == pytest.approx(linear_cka(x, y), rel=1e-6)
    assert linear_cka((x > 0), (y > 0).astype(np.uint8)) > 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("row", [0, 5])
def test_features_that_are_not_finite_are_refused_in_one_line(bad: float, row: int) -> None:
    x = draw(6, 4)
    x[row, 2] = bad
    for call in (lambda: linear_cka(draw(6, 2), x), lambda: gram([x[:4], x[4:]], "y")):
        with pytest.raises(InvalidOption, match=r"^y: features are not finite[^\n]*$"):
            call()


@pytest.mark.parametrize(
    ("x", "y", "unbiased", "match"),
    [
        (draw(3, 2), draw(3, 2), True, "unbiased CKA takes at least 4 examples, not 3"),
        (draw(1, 2), draw(1, 2), False, "biased CKA takes at least 2 examples, not 1"),
        (draw(5, 2), draw(6, 2), False, "x holds 5 examples and y 6"),
        (np.array(3.0), draw(6, 2), False, "x is an array"),
        (draw(6, 2), np.array(["a"] * 6), False, "y is an array"),
    ],
)
def test_features_that_cannot_be_compared(x: Any, y: Any, unbiased: bool, match: str) -> None:
    with pytest.raises(InvalidOption, match=match):
        linear_cka(x, y, unbiased=unbiased)


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("mode", ["flat", "mean"])
@pytest.mark.parametrize("batch", [6, 8, 24])
def test_the_stream_is_the_mean_over_minibatches(batch: int, mode: Any, unbiased: bool) -> None:
    nets = OracleAdapter(), other_net()
    x = small_pictures(24)
    found = similarity(*nets, iter(x), features=mode, unbiased=unbiased, batch=batch)
    assert found.layers == found.other_layers == tuple(LAYERS)
    assert (found.images, found.left_out, found.matrix.dtype) == (24, 0, np.float64)
    maps = [feature_maps(net, x, LAYERS).maps for net in nets]
    if mode == "mean":
        maps = [{k: v.mean(tuple(range(1, v.ndim - 1))) for k, v in m.items()} for m in maps]
    parts = [{k: np.split(v, 24 // batch) for k, v in m.items()} for m in maps]
    expected = [[reference(parts[0][i], parts[1][j], unbiased) for j in LAYERS] for i in LAYERS]
    np.testing.assert_allclose(found.matrix, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("unbiased", [False, True])
def test_a_last_minibatch_counts_by_its_images(unbiased: bool) -> None:
    nets, x = (OracleAdapter(), other_net()), small_pictures(13)
    found = similarity(*nets, x, layers="conv2", other_layers="fc", batch=8, unbiased=unbiased)
    one, other = (
        feature_maps(net, x, at)[at] for net, at in zip(nets, ("conv2", "fc"), strict=True)
    )
    spans = [slice(0, 8), slice(8, 13)]
    sums = [
        sum(n * hsic(p[s], q[s], unbiased) for s, n in zip(spans, (8, 5), strict=True))
        for p, q in ((one, other), (one, one), (other, other))
    ]
    assert found.matrix.shape == (1, 1)
    assert found.matrix[0, 0] == pytest.approx(sums[0] / np.sqrt(sums[1] * sums[2]), rel=1e-10)


def test_a_last_minibatch_that_is_too_small_is_left_out_and_counted() -> None:
    nets, x = (OracleAdapter(), other_net()), small_pictures(11)
    found = similarity(*nets, x, batch=8)
    assert (found.images, found.left_out) == (8, 3)
    np.testing.assert_array_equal(found.matrix, similarity(*nets, x[:8], batch=8).matrix)
    assert similarity(*nets, x, batch=8, unbiased=False).left_out == 0
    assert "3 left out" in str(found)


@pytest.mark.parametrize("unbiased", [False, True])
def test_a_network_is_like_itself_and_less_like_another(unbiased: bool) -> None:
    x = small_pictures(16)
    net, twin = OracleAdapter(), OracleAdapter()
    itself = similarity(net, net, x, unbiased=unbiased)
    np.testing.assert_allclose(np.diag(itself.matrix), 1, atol=1e-12)
    np.testing.assert_allclose(itself.matrix, itself.matrix.T, atol=1e-12)
    np.testing.assert_allclose(
        similarity(net, twin, x, unbiased=unbiased).matrix, itself.matrix, atol=1e-12
    )
    different = similarity(net, other_net(), x, unbiased=unbiased).matrix
    # Without a common part the later layers go their own ways.
    assert np.all(np.diag(different)[-2:] < 0.95)
    turned = similarity(other_net(), net, x, unbiased=unbiased).matrix
    np.testing.assert_allclose(turned, different.T, atol=1e-12)


def test_one_network_runs_once_for_both_sides() -> None:
    net = OracleAdapter()
    similarity(net, net, small_pictures(8), layers="conv1", other_layers="conv1")
    assert net.evaluations == ["conv1"]


def test_channels_that_are_permuted_are_the_same_layer() -> None:
    weights = small_weights()
    order = [2, 0, 3, 1]
    for key in ("scale", "offset", "mean", "variance"):
        weights[f"bn1.{key}"] = weights[f"bn1.{key}"][order]
    weights["conv1.kernel"] = weights["conv1.kernel"][..., order]
    weights["conv1.bias"] = weights["conv1.bias"][order]
    weights["conv2.kernel"] = weights["conv2.kernel"][:, :, order]
    found = similarity(OracleAdapter(), OracleAdapter(weights), small_pictures(10))
    np.testing.assert_allclose(np.diag(found.matrix), 1, atol=1e-10)
    assert found.best() == {
        name: (name, pytest.approx(1)) if name != "conv1" else (found.best()["conv1"])
        for name in LAYERS
    }


def constant_net() -> OracleAdapter:
    """Nothing passes its second convolution but the bias."""
    weights = small_weights()
    weights["conv2.kernel"][:] = 0
    weights["conv2.bias"][:] = 0.1
    return OracleAdapter(weights)


@pytest.mark.parametrize("unbiased", [False, True])
def test_constant_layers_are_named_and_have_zero(unbiased: bool) -> None:
    found = similarity(OracleAdapter(), constant_net(), small_pictures(12), unbiased=unbiased)
    assert found.constant == ((), ("conv2", "relu:1", "gap", "fc"))
    np.testing.assert_array_equal(found.matrix[:, 4:], 0)
    assert np.isfinite(found.matrix).all()
    assert {name for name, _ in found.best().values()} <= set(LAYERS[:4])
    turned = similarity(constant_net(), OracleAdapter(), small_pictures(12), unbiased=unbiased)
    assert list(turned.best()) == LAYERS[:4]
    assert [line.split()[-1] for line in str(turned).splitlines()[6:10]] == ["constant"] * 4
    assert "grey: constant" in turned.plot().axes[0].get_title(loc="left")


def test_a_layer_that_is_not_finite_is_named() -> None:
    weights = small_weights()
    weights["fc.bias"][0] = np.nan
    with pytest.raises(InvalidOption, match=r"^fc of .*: features are not finite[^\n]*$"):
        similarity(OracleAdapter(), OracleAdapter(weights), small_pictures(8))


def test_layers_are_those_asked_for_by_the_names_used() -> None:
    x = small_pictures(8)
    names = ["fc", "conv2:0", INPUT, "conv2:0"]
    found = similarity(OracleAdapter(), OracleAdapter(), x, layers=names, other_layers=[OUTPUT])
    assert (found.layers, found.other_layers) == (("fc", "conv2:0", INPUT), (OUTPUT,))
    assert found.matrix[0, 0] == pytest.approx(1)
    assert found.best()["fc"] == (OUTPUT, pytest.approx(1))


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"layers": "conv9"}, UnknownLayer, "conv9"),
        ({"other_layers": ["fc", "conv9"]}, UnknownLayer, "conv9"),
        ({"layers": []}, InvalidOption, "no layer is asked for"),
        ({"features": "max"}, InvalidOption, "'flat' or 'mean', not 'max'"),
        ({"batch": 3}, InvalidOption, "batch is an integer from 4 on, not 3"),
        ({"batch": 1, "unbiased": False}, InvalidOption, "from 2 on, not 1"),
        ({"size": 0}, InvalidOption, "size must be above zero"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    options: dict[str, Any], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        similarity(OracleAdapter(), other_net(), small_pictures(8), **options)


def test_too_few_images_are_refused() -> None:
    nets = OracleAdapter(), other_net()
    for images, count in (([], 0), (iter(small_pictures(3)), 3), (small_pictures(1)[0], 1)):
        with pytest.raises(
            InvalidOption, match=f"^unbiased CKA takes at least 4 images, not {count}$"
        ):
            similarity(*nets, images)
    with pytest.raises(InvalidImage, match="images are paths, Pillow images or arrays, not int"):
        similarity(*nets, 3)  # type: ignore[arg-type]


def test_a_broken_image_is_named(tmp_path: Path) -> None:
    nets, x = (OracleAdapter(), other_net()), small_pictures(8)
    with pytest.raises(InvalidImage, match=r"^there is no file .*nowhere\.png"):
        similarity(*nets, ["nowhere.png", *x])
    with pytest.raises(InvalidImage, match=r"^of the images from number 4 on: image 1 of the list"):
        similarity(*nets, [*x[:5], np.full((10, 10, 3), 7.0), *x[5:]], batch=4)


def test_images_may_be_paths_and_pillow_images_of_any_size(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    photos = [Image.fromarray(rng.integers(0, 256, (s, 12, 3), np.uint8)) for s in range(8, 16)]
    paths = []
    for i, photo in enumerate(photos):
        paths.append(tmp_path / f"{i}.png")
        photo.save(paths[i])
    nets = [OracleAdapter(preprocessing=SMALL_PREPROCESSING), OracleAdapter(small_weights(7))]
    found = [similarity(*nets, images, size=10).matrix for images in (photos, paths, iter(paths))]
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def test_memory_does_not_grow_with_the_stream() -> None:
    def stream(count: int) -> Iterator[NDArray[Any]]:
        rng = np.random.default_rng(0)
        for _ in range(count):
            yield rng.uniform(0, 1, (20, 20, 3))

    def peak(count: int) -> int:
        gc.collect()
        tracemalloc.start()
        similarity(OracleAdapter(), other_net(), stream(count), size=20, batch=20)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(40)
    few, many = peak(40), peak(400)
    assert many < 1.05 * few


def test_layers_that_do_not_fit_into_memory_are_read_in_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x = small_pictures(8)
    whole = similarity(OracleAdapter(), other_net(), x)
    monkeypatch.setattr("cnnviz.comparison.streams._HELD", 1)
    net = OracleAdapter()
    parts = similarity(net, other_net(), x)
    np.testing.assert_allclose(parts.matrix, whole.matrix, atol=1e-12)
    assert net.evaluations.count("conv1") == len(LAYERS)


def result(rows: int = 2, columns: int = 3) -> Similarity:
    matrix = np.linspace(-0.01, 1, rows * columns).reshape(rows, columns)
    layers = tuple(f"block/{i}" for i in range(rows))
    return Similarity(matrix, layers, tuple("abcdefghi"[:columns]), ("one", "other"), 64, 2)


def test_the_result_is_saved_as_numbers_and_as_a_picture(tmp_path: Path) -> None:
    found = result()
    assert found.best() == {
        "block/0": ("c", pytest.approx(0.394)),
        "block/1": ("c", pytest.approx(1)),
    }
    saved = json.loads(found.save(tmp_path / "s.json").read_text())
    assert saved == found.to_json()
    assert saved["matrix"] == found.matrix.tolist()
    with np.load(found.save(tmp_path / "s.npz")) as arrays:
        np.testing.assert_array_equal(arrays["matrix"], found.matrix)
        assert arrays["other_layers"].tolist() == ["a", "b", "c"]
    assert found.save(tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InvalidOption, match=r"\.json, \.npz or \.png, not '\.txt'"):
        found.save(tmp_path / "s.txt")


def test_the_result_shows_itself() -> None:
    found = result()
    assert str(found).splitlines()[0].split() == ["layer", "most", "alike", "CKA"]
    assert str(found).splitlines()[-1].startswith("one against other: unbiased linear CKA, 64 imag")
    assert repr(found) == "<Similarity one (2, 3) other>"
    assert found._repr_png_().startswith(b"\x89PNG")
    assert "data:image/png;base64," in found._repr_html_()
    axes, bar = found.plot().axes
    assert (axes.get_ylabel(), axes.get_xlabel(), bar.get_ylabel()) == (
        "one",
        "other",
        "linear CKA",
    )
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "b", "c"]
    assert axes.images[0].get_clim() == (0, 1)
    many = result(90)
    assert "24 of 90 layers are shown" in str(many)
    assert len(str(many).splitlines()) == 2 + 24 + 2
    assert len(many.plot().axes[0].get_yticklabels()) <= 36
