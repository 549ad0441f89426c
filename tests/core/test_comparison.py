"""Two oracles side by side: tallies, layers matched, faults named, weights carried over, sheets."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from PIL import Image

import cnnviz
from cnnviz.comparison import porting, tallies
from cnnviz.comparison.certificates import Certificate
from cnnviz.comparison.differences import LayerDifference
from cnnviz.comparison.flattening import channels_first_order, flattened_map
from cnnviz.comparison.links import first_input
from cnnviz.comparison.loops import count_examples
from cnnviz.comparison.matching import Matching, match_layers
from cnnviz.comparison.predictions import Predictions, PredictionsSoFar
from cnnviz.comparison.probes import Probe, weights_by_role
from cnnviz.comparison.reference import computed
from cnnviz.comparison.result import Comparison
from cnnviz.comparison.tallies import Tally, relative_difference
from cnnviz.compiled import compiled
from cnnviz.errors import (
    CannotPort,
    ChannelOutOfRange,
    CnnvizError,
    InvalidImage,
    InvalidOption,
    UnknownLayer,
    UnknownPreprocessing,
)
from cnnviz.testing import SMALL_PREPROCESSING, OracleAdapter, small_pictures, small_weights

Array = NDArray[Any]

LAYERS = ["conv1", "bn1", "relu:0", "pool", "conv2", "relu:1", "gap", "fc"]
WEIGHTS = small_weights()
IDENTITY = cnnviz.Preprocessing(size=(10, 10))


def oracle(**changes: Array) -> OracleAdapter:
    """The small network with other weights: ``conv1_bias`` for ``conv1.bias``."""
    changed = {name.replace("_", "."): np.array(value) for name, value in changes.items()}
    assert set(changed) <= set(WEIGHTS)
    return OracleAdapter({**small_weights(), **changed})


class Flat(OracleAdapter):
    """A dense layer on the whole map, which is flattened in one order or the other."""

    def __init__(self, order: str, seed: int = 0, **options: Any) -> None:
        self.order = order
        kernel = np.random.default_rng(seed).normal(0, 0.6, (24, 5))
        super().__init__({**small_weights(seed), "fc.kernel": kernel}, **options)

    def _chain(self) -> Any:
        chain = super()._chain()
        axes = (0, 3, 1, 2) if self.order == "channels first" else (0, 1, 2, 3)
        chain[6] = ("flat", "Flatten", lambda x: x.transpose(axes).reshape(len(x), -1))
        return chain

    def settings(self, layer: str) -> Any:
        return {"family": "flatten"} if layer == "flat" else super().settings(layer)


class Adding(OracleAdapter):
    """A network whose second convolution adds something of its own."""

    def _chain(self) -> Any:
        chain = super()._chain()
        name, kind, function = chain[4]
        chain[4] = (name, kind, lambda x: function(x) + 0.25)
        return chain


class Idle(OracleAdapter):
    """A network with a layer that does nothing outside of training."""

    def _chain(self) -> Any:
        chain = super()._chain()
        return [*chain[:6], ("drop", "Dropout", lambda x: x), *chain[6:]]

    def settings(self, layer: str) -> Any:
        return {"family": "dropout", "rate": 0.5} if layer == "drop" else super().settings(layer)


def kept(net: OracleAdapter) -> dict[str, bytes]:
    return {name: value.tobytes() for name, value in net.weights().items()}


def matched(one: OracleAdapter, two: OracleAdapter, given: Any = None) -> Matching:
    x = small_pictures(1)
    return match_layers(Probe.of(one, x), Probe.of(two, x), given)


def named(found: Matching) -> list[tuple[str, str]]:
    return [(pair.main, pair.other_main) for pair in found.pairs]


# Tallies


def counted(a: Array, b: Array, pieces: int = 1) -> Tally:
    tally = Tally()
    for one, two in zip(np.array_split(a, pieces), np.array_split(b, pieces), strict=True):
        tally.add(one, two)
    return tally


# Larger than one block, and one of a few numbers.
@pytest.mark.parametrize("shape", [(7,), (5, 3, 2), (70001,), (3, 50, 50, 8)])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
# Far from zero, sums of squares in float32 would leave nothing of the spread.
@pytest.mark.parametrize("centre", [0.0, 1.0, 300.0])
def test_a_tally_is_what_numpy_says(shape: tuple[int, ...], dtype: type, centre: float) -> None:
    rng = np.random.default_rng(0)
    a = (rng.normal(0, 0.1, shape) + centre).astype(dtype)
    b = (a + rng.normal(0, 0.05, shape) - centre / 3).astype(dtype)
    tally = counted(a, b)
    one, two = (x.astype(np.float64).ravel() for x in (a, b))
    # The difference is one of the arrays' own dtype.
    gap = np.abs(b - a).astype(np.float64).ravel()
    assert tally.largest == gap.max()
    assert tally.reach == np.abs(one).max()
    assert tally.relative == relative_difference(a, b) == gap.max() / np.abs(one).max()
    assert_allclose(tally.mean, gap.mean(), rtol=1e-12)
    cosine = one @ two / np.linalg.norm(one) / np.linalg.norm(two)
    assert_allclose(tally.cosine, cosine, rtol=1e-12)
    assert_allclose(tally.correlation, np.corrcoef(one, two)[0, 1], rtol=1e-7)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
@pytest.mark.parametrize("pieces", [2, 13, 40])
def test_pieces_are_the_whole(pieces: int, dtype: type) -> None:
    a, b = np.random.default_rng(1).normal(0.2, 1, (2, 40, 2000)).astype(dtype)
    whole, parts = counted(a, b), counted(a, b, pieces)
    assert (whole.largest, whole.reach, whole.relative) == (
        parts.largest,
        parts.reach,
        parts.relative,
    )
    for name in ("mean", "cosine", "correlation"):
        assert_allclose(getattr(whole, name), getattr(parts, name), rtol=1e-11)


def test_closed_forms() -> None:
    a = np.array([3.0, -4.0, 0.0, 1.0])
    for factor, shift in ((2.0, 0.0), (-0.5, 0.0), (1.0, 0.5), (3.0, -7.0)):
        b = factor * a + shift
        tally = counted(a, b)
        assert tally.correlation == pytest.approx(np.sign(factor), abs=1e-12)
        assert tally.relative == pytest.approx(np.abs(b - a).max() / 4, rel=1e-15)
        if not shift:
            assert tally.cosine == pytest.approx(np.sign(factor), abs=1e-12)
            assert tally.relative == abs(factor - 1)
    square = counted(np.array([1.0, 0.0]), np.array([0.0, 1.0]))
    assert (square.cosine, square.correlation, square.relative) == (0.0, pytest.approx(-1), 1.0)
    # The same is the same to the last bit.
    for dtype in (np.float64, np.float32):
        x = np.random.default_rng(3).normal(1, 1, 50_003).astype(dtype)
        tally = counted(x, x.copy())
        assert (tally.relative, tally.mean, tally.cosine) == (0.0, 0.0, 1.0)
        assert tally.correlation == pytest.approx(1, abs=1e-12)


@pytest.fixture(params=["numba", "opencv"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "opencv":
        monkeypatch.setattr(tallies, "compiled", lambda loop, any_order: None)
    else:
        assert compiled(count_examples, any_order=True) is not None


# Without numba, near examples in float32 are counted in one go, in more than one piece.
@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("examples", [1, 2, 4, 5, 8])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
@pytest.mark.parametrize("apart", [0.0, 1e-6, 0.3])
@pytest.mark.parametrize("centre", [0.0, 30.0])
def test_examples_are_counted_and_multiplied(
    examples: int, dtype: type, apart: float, centre: float
) -> None:
    rng = np.random.default_rng(examples)
    a = (rng.normal(centre, 1, (examples, 60, 50, 4))).astype(dtype)
    b = (a + apart * rng.normal(0, 1, a.shape)).astype(dtype)
    tally = Tally()
    products = tally.add_examples(a, b)
    plain = counted(a, b)
    assert tally.reach == plain.reach
    # The difference itself is rounded, or is not.
    assert_allclose(tally.largest, plain.largest, rtol=1e-6)
    assert tally.relative == tally.largest / tally.reach
    assert_allclose(tally.mean, plain.mean, rtol=1e-6)
    assert_allclose(tally.cosine, plain.cosine, rtol=1e-9)
    assert_allclose(tally.correlation, plain.correlation, rtol=1e-9)
    if not apart:
        assert tally.cosine == 1
        assert np.array_equal(*products)
    for x, found in zip((a, b), products, strict=True):
        wide = x.astype(np.float64).reshape(examples, -1)
        wide -= wide[0]
        wanted = wide @ wide.T
        assert_allclose(found, wanted, atol=1e-2 * float(np.finfo(dtype).eps) ** 0.5 * wanted.max())


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("place", [0, 11_999])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_examples_that_are_no_numbers_show(place: int, value: float) -> None:
    a = np.random.default_rng(0).normal(0, 1, (4, 12_000)).astype(np.float32)
    b = a.copy()
    b[2, place] = value
    for one, two in ((a, b), (b, a), (b, b)):
        tally = Tally()
        tally.add_examples(one, two)
        assert not tally.relative <= 1e30
        assert math.isnan(tally.cosine)
        assert math.isnan(tally.correlation)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
@pytest.mark.parametrize("value", [0.1, -7.3, 1e3])
def test_constants_correlate_with_constants_alone(value: float, dtype: type) -> None:
    fixed = np.full(100_000, value, dtype)
    moving = np.random.default_rng(0).normal(0, 1, fixed.shape).astype(dtype)
    assert counted(fixed, fixed * dtype(0.3)).correlation == 1
    assert counted(fixed, moving).correlation == 0
    assert counted(moving, fixed).correlation == 0
    zeros = np.zeros_like(fixed)
    assert counted(zeros, zeros).cosine == counted(zeros, zeros).correlation == 1
    assert counted(zeros, moving).cosine == counted(moving, zeros).cosine == 0
    assert counted(zeros, moving).relative == math.inf
    assert counted(zeros, zeros).relative == 0


@pytest.mark.parametrize("place", [0, 49_999])
def test_what_is_no_number_shows(place: int) -> None:
    a = np.random.default_rng(0).normal(0, 1, 50_000)
    b = a.copy()
    b[place] = math.nan
    for one, two in ((a, b), (b, a), (b, b)):
        tally = counted(one, two, 3)
        assert not tally.relative <= 1e30
        assert math.isnan(tally.mean)
        assert math.isnan(tally.cosine)
        assert math.isnan(tally.correlation)


# Matching


def test_layers_of_the_same_network_match_themselves() -> None:
    found = matched(oracle(), OracleAdapter(small_weights(3)))
    assert named(found) == [(name, name) for name in LAYERS]
    assert (found.only, found.only_other) == ((), ())
    assert not any(pair.given for pair in found.pairs)
    assert [pair.family for pair in found.pairs[:4]] == [
        "convolution",
        "batch norm",
        "activation",
        "max pool",
    ]


def test_what_the_other_has_not_is_told() -> None:
    one, two = oracle(), OracleAdapter(softmax=True)
    assert matched(one, two).only_other == ("softmax",)
    assert matched(two, one).only == ("softmax",)
    # What does nothing, or has its own order, is no layer of one network alone.
    assert (matched(one, Idle()).only_other, matched(Idle(), one).only) == ((), ())
    flat = matched(Flat("channels last"), Flat("channels first"))
    assert named(flat) == [(name, name) for name in LAYERS if name != "gap"]
    assert (flat.only, flat.only_other) == ((), ())


def test_layers_match_as_they_are_given() -> None:
    found = matched(oracle(), oracle(), {"relu:0": "relu:1", "conv2:0": "conv2"})
    pairs = {pair.main: pair for pair in found.pairs}
    assert pairs["relu:0"].other == "relu:1"
    assert pairs["relu:0"].given
    assert pairs["conv2"].given
    assert not pairs["conv1"].given
    for name in ("conv1", "bn1", "conv2", "fc"):
        assert pairs[name].other == name


@pytest.mark.parametrize(
    ("given", "error", "match"),
    [
        ({"conv9": "conv1"}, UnknownLayer, "conv9"),
        ({"conv1": "conv9"}, UnknownLayer, "conv9"),
        ({"conv1": "conv1", "conv2": "conv1"}, InvalidOption, "second network is given for two"),
        ({"conv1": "conv1", "conv1:0": "conv2"}, InvalidOption, "first network is given twice"),
        ({"relu:1": "drop"}, InvalidOption, "^'drop' of oracle holds other layers, or does noth"),
    ],
)
def test_layers_that_cannot_be_given(given: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        cnnviz.compare(oracle(), Idle(), small_pictures(1), layers=given)


def test_a_layer_that_does_nothing_cannot_be_given_first() -> None:
    with pytest.raises(InvalidOption, match="'drop' of oracle"):
        cnnviz.compare(Idle(), oracle(), small_pictures(1), layers={"drop": "relu:1"})


# Comparing


def test_the_same_network_is_zero_apart_everywhere() -> None:
    found = cnnviz.compare(oracle(), oracle(), small_pictures(5))
    assert found.agree
    assert found.first_divergence is None
    assert found.diagnosis is None
    assert found.worst is not None
    assert found.worst.relative == 0
    assert [row.name for row in found.layers] == [row.other for row in found.layers] == LAYERS
    for row in found.layers:
        assert (row.relative, row.mean, row.cosine) == (0, 0, 1)
        assert row.correlation == pytest.approx(1, abs=1e-12)
        assert row.cka == pytest.approx(1, abs=1e-9)
    assert [row.name for row in found.gradients] == ["<input>", "relu:0", "relu:1"]
    assert all((row.relative, row.cosine) == (0, 1) for row in found.gradients)
    assert found.predictions.same == found.predictions.images == found.images == 5
    assert found.predictions.relative == 0
    assert (found.only, found.only_other, found.preprocessing) == ((), (), ())
    assert found.tolerance == 1e-9
    assert found.names == ("oracle (numpy)", "oracle (numpy)")
    assert str(found).startswith("oracle (numpy) and oracle (numpy): they agree\n")
    assert repr(found) == "<Comparison of oracle (numpy) and oracle (numpy): they agree>"


def test_numbers_of_a_layer_are_those_of_its_outputs() -> None:
    one, two, x = oracle(), oracle(conv2_bias=WEIGHTS["conv2.bias"] + 0.5), small_pictures(6)
    compared = cnnviz.compare(one, two, x, layer_images=6, doctor=False)
    found = {row.name: row for row in compared.layers}
    a, b = (net.forward(x, taps=LAYERS) for net in (one, two))
    for name in LAYERS:
        gap = np.abs(b[name] - a[name])
        assert found[name].relative == gap.max() / np.abs(a[name]).max()
        assert_allclose(found[name].mean, gap.mean(), rtol=1e-12, atol=1e-300)
        flat = a[name].ravel(), b[name].ravel()
        assert_allclose(found[name].correlation, np.corrcoef(*flat)[0, 1], rtol=1e-10)
        cka = cnnviz.linear_cka(a[name], b[name], unbiased=True)
        assert found[name].cka == pytest.approx(cka, abs=1e-9)
        assert found[name].shape == a[name].shape[1:]


SHUFFLED = np.random.default_rng(0).normal(0, 0.4, (3, 3, 4, 6))

FAULTS = [
    ("conv1", "missing weight", {"conv1_bias": np.zeros(4)}),
    ("conv2", "missing weight", {"conv2_bias": np.zeros(6)}),
    ("conv1", "BGR", {"conv1_kernel": WEIGHTS["conv1.kernel"][:, :, ::-1]}),
    ("conv1", "kernel layout", {"conv1_kernel": WEIGHTS["conv1.kernel"].swapaxes(0, 1)}),
    ("conv2", "kernel layout", {"conv2_kernel": WEIGHTS["conv2.kernel"][::-1, ::-1]}),
    ("conv2", "scale", {"conv2_kernel": WEIGHTS["conv2.kernel"] * 1.5}),
    ("conv2", "wrong weights", {"conv2_kernel": SHUFFLED}),
    ("conv2", "dtype", {"conv2_kernel": WEIGHTS["conv2.kernel"].astype(np.float16)}),
    ("bn1", "wrong weights", {"bn1_mean": WEIGHTS["bn1.mean"] + 1}),
    ("bn1", "missing weight", {"bn1_mean": np.zeros(4)}),
    (
        "bn1",
        "missing weight",
        {
            "bn1_scale": np.ones(4),
            "bn1_offset": np.zeros(4),
            "bn1_mean": np.zeros(4),
            "bn1_variance": np.ones(4),
        },
    ),
    (
        "bn1",
        "swapped weights",
        {"bn1_mean": WEIGHTS["bn1.offset"], "bn1_offset": WEIGHTS["bn1.mean"]},
    ),
    ("fc", "wrong weights", {"fc_bias": WEIGHTS["fc.bias"] + 1}),
]


@pytest.mark.parametrize(("layer", "cause", "changes"), FAULTS)
def test_a_fault_is_found_where_it_is(layer: str, cause: str, changes: dict[str, Array]) -> None:
    found = cnnviz.compare(oracle(), oracle(**changes), small_pictures(2))
    assert not found.agree
    first = found.first_divergence
    assert first is not None
    assert first.name == first.other == layer
    for row in found.layers[: LAYERS.index(layer)]:
        assert row.relative == 0
    assert len(found.diagnoses) == 1
    told = found.diagnosis
    assert told is not None
    assert (told.layer, told.other, told.cause, told.sure) == (layer, layer, cause, "proved")
    assert told.apart > 1e-5
    assert told.repaired < 1e-12
    assert str(told) in str(found)
    assert "\n" not in str(told)


def test_the_scale_is_told() -> None:
    two = oracle(conv2_kernel=WEIGHTS["conv2.kernel"] * 0.25)
    told = cnnviz.compare(oracle(), two, small_pictures(1)).diagnosis
    assert told is not None
    assert told.what == "its kernel is 0.25 times the other"


def test_weights_of_two_layers_exchanged_are_both_told() -> None:
    rng = np.random.default_rng(0)
    good = small_weights() | {
        "conv2.kernel": rng.normal(0, 0.4, (3, 3, 4, 4)),
        "conv2.bias": rng.normal(0, 0.2, 4),
        "fc.kernel": rng.normal(0, 0.6, (4, 5)),
    }
    bad = good | {"conv1.bias": good["conv2.bias"], "conv2.bias": good["conv1.bias"]}
    found = cnnviz.compare(OracleAdapter(good), OracleAdapter(bad), small_pictures(2))
    assert [(one.layer, one.cause, one.sure) for one in found.diagnoses] == [
        ("conv1", "swapped weights", "proved"),
        ("conv2", "swapped weights", "proved"),
    ]
    assert "'conv2'" in found.diagnoses[0].what
    assert "'conv1'" in found.diagnoses[1].what


def test_each_of_several_faults_is_told_in_order() -> None:
    two = oracle(bn1_mean=WEIGHTS["bn1.mean"] + 1, fc_bias=np.zeros(5))
    found = cnnviz.compare(oracle(), two, small_pictures(2))
    assert [(one.layer, one.cause) for one in found.diagnoses] == [
        ("bn1", "wrong weights"),
        ("fc", "missing weight"),
    ]
    assert found.diagnosis is found.diagnoses[0]


def test_code_of_its_own_is_told() -> None:
    found = cnnviz.compare(oracle(), Adding(), small_pictures(2))
    told = found.diagnosis
    assert told is not None
    assert (told.layer, told.cause, told.sure) == ("conv2", "its code", "proved")
    assert cnnviz.compare(oracle(), Adding(), small_pictures(2), doctor=False).diagnoses == ()


@pytest.mark.parametrize(
    ("first", "second", "cause"),
    [
        (IDENTITY, replace(IDENTITY, order="bgr"), "BGR"),
        (IDENTITY, replace(IDENTITY, scale=255.0), "scale"),
        (IDENTITY, replace(IDENTITY, scale=255.0, order="bgr"), "BGR and scale"),
        (SMALL_PREPROCESSING, IDENTITY, "normalisation"),
        (SMALL_PREPROCESSING, replace(SMALL_PREPROCESSING, mean=(0.0,)), "normalisation"),
        (SMALL_PREPROCESSING, replace(SMALL_PREPROCESSING, order="bgr"), "BGR and normalisation"),
    ],
)
def test_another_preprocessing_is_told(first: Any, second: Any, cause: str) -> None:
    nets = [OracleAdapter(preprocessing=one) for one in (first, second)]
    found = cnnviz.compare(*nets, small_pictures(2))
    assert found.first_divergence is not None
    assert found.first_divergence.name == "conv1"
    assert [(one.layer, one.cause, one.sure) for one in found.diagnoses] == [
        ("conv1", cause, "proved")
    ]
    assert found.preprocessing


def test_settings_of_the_preprocessing_that_differ_are_listed() -> None:
    a = cnnviz.Preprocessing((0.5,), (0.25,), size=(10, 10), source="one")
    b = replace(a, mean=(0.5, 0.5, 0.5), source="another")
    nets = OracleAdapter(preprocessing=a), OracleAdapter(preprocessing=b)
    assert cnnviz.compare(*nets, small_pictures(1)).preprocessing == ()
    b = replace(a, mean=(0.5, 0.5, 0.1), order="bgr", size=(12, 10), interpolation="bicubic")
    nets = OracleAdapter(preprocessing=a), OracleAdapter(preprocessing=b)
    found = cnnviz.compare(*nets, small_pictures(1), size=10)
    assert found.preprocessing == (
        ("mean", "(0.5)", "(0.5, 0.5, 0.1)"),
        ("order", "rgb", "bgr"),
        ("size", "(10, 10)", "(12, 10)"),
        ("interpolation", "bilinear", "bicubic"),
    )
    assert "preprocessing: order is rgb and bgr" in str(found)


def test_up_to_the_tolerance_they_agree() -> None:
    two = oracle(conv2_bias=WEIGHTS["conv2.bias"] + 1e-12)
    assert cnnviz.compare(oracle(), two, small_pictures(1)).agree
    found = cnnviz.compare(oracle(), two, small_pictures(1), tolerance=1e-14)
    assert found.first_divergence is not None
    assert (found.first_divergence.name, found.tolerance) == ("conv2", 1e-14)
    far = oracle(conv2_bias=WEIGHTS["conv2.bias"] + 1)
    assert cnnviz.compare(oracle(), far, small_pictures(1), tolerance=100).agree


def test_layers_are_compared_over_the_first_images_and_scores_over_all() -> None:
    one, two, x = oracle(), oracle(fc_bias=WEIGHTS["fc.bias"] + [0, 0, 3, 0, 0]), small_pictures(11)

    def stream() -> Iterator[Array]:
        yield from x

    found = cnnviz.compare(one, two, stream(), layer_images=3)
    assert (found.images, found.layer_images) == (11, 3)
    few = cnnviz.compare(one, two, x[:3])
    for row, other in zip(found.layers, few.layers, strict=True):
        assert row.relative == other.relative
        assert_allclose(row.mean, other.mean, rtol=1e-12)
    ours, theirs = (net.forward(x, taps=["fc"])["fc"] for net in (one, two))
    same = ours.argmax(1) == theirs.argmax(1)
    assert (found.predictions.images, found.predictions.same) == (11, same.sum())
    assert [row[0] for row in found.predictions.apart] == np.flatnonzero(~same).tolist()
    # Each at a place of its own in the minibatches.
    for count in (1, 9, 50):
        again = cnnviz.compare(one, two, x, layer_images=count)
        assert again.layer_images == min(count, 11)
        assert again.predictions.apart == found.predictions.apart
        assert_allclose(again.predictions.correlation, found.predictions.correlation, rtol=1e-12)
        wanted = cnnviz.compare(one, two, x[:count], layer_images=count).layers
        assert [row.relative for row in again.layers] == [row.relative for row in wanted]


def test_alikeness_of_features_is_of_four_images_on() -> None:
    nets = oracle(), OracleAdapter(small_weights(7))
    found = cnnviz.compare(*nets, small_pictures(3), doctor=False)
    assert all(math.isnan(row.cka) for row in found.layers)
    x = small_pictures(12)
    found = cnnviz.compare(*nets, x, layer_images=12, doctor=False)
    wanted = cnnviz.similarity(*nets, x[:12], batch=8)
    for i, row in enumerate(found.layers):
        assert row.cka == pytest.approx(wanted.matrix[i, i], abs=1e-9)


def test_the_size_is_asked_for_or_the_others() -> None:
    found = cnnviz.compare(oracle(), oracle(), small_pictures(1, 20), size=(12, 14))
    assert found.layers[0].shape == (10, 12, 4)
    free = OracleAdapter(preprocessing=replace(SMALL_PREPROCESSING, size=None))
    for nets in ((free, oracle()), (oracle(), free)):
        found = cnnviz.compare(*nets, small_pictures(2, 20))
        assert found.agree
        assert found.layers[0].shape == (8, 8, 4)
    assert cnnviz.compare(free, free, small_pictures(1, 20)).layers[0].shape == (18, 18, 4)


def test_images_may_be_of_any_kind(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    Image.fromarray((small_pictures(1)[0] * 255).astype(np.uint8)).save(path)
    with Image.open(path) as photo:
        photo.load()
    two = oracle(conv2_bias=np.zeros(6))
    given: tuple[Any, ...] = (path, str(path), photo, [path], iter([photo]))
    found = [cnnviz.compare(oracle(), two, images, doctor=False) for images in given]
    assert all(one.layers == found[0].layers for one in found)
    assert all(one.images == 1 for one in found)
    with pytest.raises(InvalidImage, match="there is no file"):
        cnnviz.compare(oracle(), two, [photo, "nowhere.png"])


@pytest.mark.parametrize(
    ("images", "options", "error", "match"),
    [
        ([], {}, InvalidImage, "no images to compare"),
        (iter([]), {}, InvalidImage, "no images to compare"),
        (3, {}, InvalidImage, "not int"),
        (small_pictures(1), {"layer_images": 0}, InvalidOption, "layer_images"),
        (small_pictures(1), {"tolerance": 0}, InvalidOption, "tolerance"),
        (small_pictures(1), {"tolerance": -1.0}, InvalidOption, "tolerance"),
        (small_pictures(1), {"tolerance": math.nan}, InvalidOption, "tolerance"),
        (small_pictures(1), {"size": 0}, InvalidOption, "size must be above zero"),
    ],
)
def test_what_cannot_be_compared(
    images: Any, options: dict[str, Any], error: type[CnnvizError], match: str
) -> None:
    with pytest.raises(error, match=match) as caught:
        cnnviz.compare(oracle(), oracle(), images, **options)
    assert "\n" not in str(caught.value)


def test_a_network_of_unknown_preprocessing_is_refused() -> None:
    with pytest.raises(UnknownPreprocessing):
        cnnviz.compare(oracle(), OracleAdapter(preprocessing=None), small_pictures(1))


@pytest.mark.parametrize("count", [1, 5])
def test_a_network_that_gives_no_numbers_parts(count: int) -> None:
    bias = WEIGHTS["fc.bias"].copy()
    bias[1] = math.nan
    for nets in ((oracle(), oracle(fc_bias=bias)), (oracle(fc_bias=bias), oracle())):
        found = cnnviz.compare(*nets, small_pictures(count))
        assert not found.agree
        assert found.first_divergence is not None
        assert found.first_divergence.name == "fc"
        assert math.isnan(found.layers[-1].cka)
        json.dumps(found.to_json(), allow_nan=False)


# Predictions


def test_predictions_are_counted() -> None:
    # The classes of each are 0 to 6; the first five of these are in common as told.
    ours = np.array([[9, 8, 7, 6, 5, 0, 0], [9, 8, 7, 6, 5, 0, 0], [1, 2, 3, 4, 5, 6, 7.0]])
    theirs = np.array([[9, 8, 7, 6, 5, 0, 0], [0, 0, 7, 8, 9, 6, 5], [7, 6, 5, 4, 3, 2, 1.0]])
    seen = PredictionsSoFar()
    seen.add(ours[:1], theirs[:1])
    seen.add(ours[1:], theirs[1:])
    found = seen.result()
    assert (found.images, found.same) == (3, 1)
    assert found.top5 == pytest.approx((5 + 3 + 3) / 15)
    assert found.apart == ((1, 0, 4), (2, 6, 0))
    assert found.relative == 1
    assert found.correlation == pytest.approx(np.corrcoef(ours.ravel(), theirs.ravel())[0, 1])
    assert found.to_json()["apart"] == [[1, 0, 4], [2, 6, 0]]
    assert str(found).startswith("same class: 1 of 3; of the 5 highest in common: 73.3%;")


def test_scores_of_every_place_are_averaged() -> None:
    scores = np.random.default_rng(0).normal(size=(2, 3, 4, 6))
    maps, rows = PredictionsSoFar(), PredictionsSoFar()
    maps.add(scores, scores[:, ::-1])
    rows.add(scores.mean((1, 2)), scores.mean((1, 2)))
    assert maps.result().same == rows.result().same == 2
    assert maps.result().relative == pytest.approx(0, abs=1e-12)


def test_scores_of_other_classes_are_no_number() -> None:
    seen = PredictionsSoFar()
    seen.add(np.ones((2, 5)), np.ones((2, 6)))
    found = seen.result()
    assert (found.images, found.same, found.top5) == (2, 0, 0)
    assert math.isnan(found.relative)
    assert math.isnan(found.correlation)


def test_only_the_first_that_differ_are_kept() -> None:
    seen = PredictionsSoFar()
    for _ in range(3):
        seen.add(np.tile([1.0, 0.0], (15, 1)), np.tile([0.0, 1.0], (15, 1)))
    assert [row[0] for row in seen.result().apart] == list(range(20))
    assert (seen.result().images, seen.result().same) == (45, 0)


# What is written


def of_other_shape() -> Comparison:
    """Two networks of which the second has another number of channels in the middle."""
    rng = np.random.default_rng(0)
    other = small_weights() | {
        "conv2.kernel": rng.normal(0, 0.4, (3, 3, 4, 7)),
        "conv2.bias": rng.normal(0, 0.2, 7),
        "fc.kernel": rng.normal(0, 0.6, (7, 5)),
    }
    given = {"conv2": "conv2", "fc": "fc"}
    return cnnviz.compare(oracle(), OracleAdapter(other), small_pictures(5), layers=given)


def test_layers_of_other_shapes_are_no_number_and_null() -> None:
    found = of_other_shape()
    rows = {row.name: row for row in found.layers}
    for value in ("relative", "mean", "cosine", "correlation"):
        assert math.isnan(getattr(rows["conv2"], value))
    assert rows["conv1"].relative == 0
    assert math.isfinite(rows["fc"].relative)
    assert found.first_divergence is rows["conv2"]
    assert found.worst is rows["conv2"]
    saved = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert saved["layers"][4]["relative"] is None
    assert saved["first_divergence"] == "conv2"
    assert saved["agree"] is False
    assert "other shape" in found.table
    assert found.diagnosis is not None
    assert found.diagnosis.layer == "conv2"


def test_a_comparison_is_saved(tmp_path: Path) -> None:
    for found in (cnnviz.compare(oracle(), oracle(), small_pictures(1)), of_other_shape()):
        saved = json.loads(found.save(tmp_path / "c.json").read_text())
        assert saved == json.loads(json.dumps(found.to_json()))
        assert [row["name"] for row in saved["layers"]] == [row.name for row in found.layers]
        assert found.save(tmp_path / "c.PNG").read_bytes().startswith(b"\x89PNG")
        text = found.save(str(tmp_path / "c.html")).read_text()
        assert text.startswith("<!doctype html>")
        assert "data:image/png;base64," in text
        assert ("they agree" in text) is found.agree
        assert ('class="fault"' in text) is bool(found.diagnoses)
        for name in LAYERS:
            assert f"<td>{name}</td>" in text
    with pytest.raises(InvalidOption, match=r"\.json, \.png or \.html, not '\.csv'"):
        found.save(tmp_path / "c.csv")
    assert not (tmp_path / "c.csv").exists()


def test_names_are_no_markup(tmp_path: Path) -> None:
    one, two = oracle(), oracle(fc_bias=np.zeros(5))
    one.name, two.name = "<script>one", "two & $x_1$ <b>"
    found = cnnviz.compare(one, two, small_pictures(1))
    text = found.save(tmp_path / "c.html").read_text()
    for name in ("<script", "<b>", "& $"):
        assert name not in text
    assert "&lt;script&gt;one (numpy)" in text
    assert "two &amp; $x_1$ &lt;b&gt;" in text
    assert "<input>" not in text
    assert "&lt;input&gt;" in text
    assert "<script" not in found._repr_html_()


def test_a_comparison_shows_itself() -> None:
    found = cnnviz.compare(oracle(), oracle(conv2_bias=np.zeros(6)), small_pictures(1))
    lines = found.table.splitlines()
    assert lines[0].split()[:3] == ["layer", "in", "the"]
    assert [line.split()[0] for line in lines[2:10]] == LAYERS
    assert "oracle (numpy) and oracle (numpy): THEY PART" in lines
    assert any(line.startswith("gradient at <input>") for line in lines)
    (axes,) = found.plot().axes
    assert axes.get_yscale() == "log"
    assert any("they part at conv2" in text.get_text() for text in axes.texts)
    assert "they part first at 'conv2' ('conv2' in the other)" in str(found)


# Layers computed by themselves


def test_layers_are_computed_as_the_oracle_does() -> None:
    net = OracleAdapter(softmax=True)
    probe = Probe.of(net, small_pictures(1))
    assert list(probe.inputs) == list(probe.outputs) == [*LAYERS, "softmax"]
    for name, wanted in probe.outputs.items():
        weights = {role: value for role, (_, value) in weights_by_role(net, name).items()}
        made = computed(probe.settings(name), weights, probe.inputs[name])
        assert_allclose(made, wanted, rtol=1e-12, atol=1e-14)


def test_batch_norm_on_the_statistics_of_the_batch() -> None:
    net = oracle()
    x = np.random.default_rng(0).normal(2, 3, (4, 5, 6, 4))
    weights = {role: value for role, (_, value) in weights_by_role(net, "bn1").items()}
    found = computed(net.settings("bn1"), weights, x, batch=True)
    assert_allclose(found.mean((0, 1, 2)), weights["offset"], atol=1e-12)
    assert_allclose(found.std((0, 1, 2)), weights["scale"], rtol=1e-3)


@pytest.mark.parametrize(
    ("strides", "dilation", "groups", "padding"),
    [
        ((1, 1), (1, 1), 1, ((0, 0), (0, 0))),
        ((2, 1), (1, 1), 1, ((1, 0), (2, 1))),
        ((1, 2), (2, 1), 2, ((0, 0), (1, 1))),
        ((2, 2), (1, 2), 4, ((0, 1), (0, 1))),
    ],
)
def test_convolutions_by_loops(strides: Any, dilation: Any, groups: int, padding: Any) -> None:
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(2, 9, 8, 4)), rng.normal(size=(3, 2, 4 // groups, 8))
    padded = np.pad(x, ((0, 0), *padding, (0, 0)))
    sides = [
        (padded.shape[i + 1] - (kernel.shape[i] - 1) * dilation[i] - 1) // strides[i] + 1
        for i in range(2)
    ]
    wanted = np.zeros((2, *sides, 8))
    for i, j, k, m, o in np.ndindex(*sides, 3, 2, 8):
        of = slice(o * groups // 8 * (4 // groups), (o * groups // 8 + 1) * (4 // groups))
        place = padded[:, i * strides[0] + k * dilation[0], j * strides[1] + m * dilation[1], of]
        wanted[:, i, j, o] += place @ kernel[k, m, :, o]
    settings = {
        **oracle().settings("conv1"),
        "strides": strides,
        "dilation": dilation,
        "groups": groups,
        "padding": padding,
        "activation": ("relu",),
    }
    found = computed(settings, {"kernel": kernel, "bias": np.full(8, 0.1)}, x)
    assert_allclose(found, np.maximum(wanted + 0.1, 0), atol=1e-12)


# What enters, and in which order


def test_what_enters_otherwise_is_told() -> None:
    x = np.random.default_rng(0).uniform(-1, 1, (1, 6, 7, 3))

    def told(ours: Array, theirs: Array) -> tuple[str, float]:
        found = first_input(ours, theirs, 1e-9)
        assert found is not None
        assert found[1] <= 1e-9
        return found[0].cause, found[1]

    assert told(x, x[..., ::-1]) == ("BGR", 0)
    assert told(x, 255 * x)[0] == "scale"
    assert told(x, 255 * x[..., ::-1])[0] == "BGR and scale"
    assert told(x, (x - 0.4) / 0.2)[0] == "normalisation"
    assert told(x, (x - [0.5, 0.4, 0.3]) * [1, 2, 3])[0] == "normalisation"
    turned = ((x - [0.5, 0.4, 0.3]) * [1, 2, 3])[..., ::-1]
    assert told(x, turned)[0] == "BGR and normalisation"
    found = first_input(x, x / 4, 1e-9)
    assert found is not None
    assert "0.25 times as bright" in found[0].what
    assert "multiply its pictures by 4 " in found[0].advice
    assert first_input(x, x**2, 1e-9) is None
    assert first_input(x, x[:, :5], 1e-9) is None


def test_of_a_plain_picture_no_factor_is_told() -> None:
    x = np.full((1, 6, 6, 3), 0.5)
    found = first_input(x, x + 0.25, 1e-9)
    assert found is not None
    assert found[0].advice == "multiply its input by (1, 1, 1) and add (-0.25, -0.25, -0.25)"
    assert first_input(np.zeros_like(x), x, 1e-9) is not None


@pytest.mark.parametrize("order", ["channels first", "channels last"])
def test_the_order_of_a_flattened_map_is_seen(order: str) -> None:
    probe = Probe.of(Flat(order), small_pictures(1))
    assert flattened_map(probe, "fc") == ((2, 2, 6), order)
    # The mean over places is no flattened map.
    assert flattened_map(Probe.of(oracle(), small_pictures(1)), "fc") is None


def test_the_order_of_channels_first() -> None:
    value = np.arange(2 * 3 * 4).reshape(1, 2, 3, 4)
    row = np.moveaxis(value, -1, 1).reshape(-1)
    assert_array_equal(row[channels_first_order((2, 3, 4))], value.reshape(-1))


def test_rows_for_the_other_order_are_told() -> None:
    # The same rows on a map in another order: what a port without a thought gives.
    for orders in (("channels last", "channels first"), ("channels first", "channels last")):
        one, two = (Flat(order) for order in orders)
        found = cnnviz.compare(one, two, small_pictures(2))
        assert [(d.layer, d.cause, d.sure) for d in found.diagnoses] == [
            ("fc", "flatten order", "proved")
        ]
        assert found.first_divergence is not None
        assert found.first_divergence.name == "fc"


# Porting


def test_weights_are_carried_over() -> None:
    one, two = oracle(), OracleAdapter(small_weights(5))
    two.name = "other"
    before = kept(one)
    assert not cnnviz.compare(one, two, small_pictures(1)).agree
    found = cnnviz.port_weights(one, two)
    assert kept(two) == kept(one) == before
    assert found.holds
    assert (found.source, found.target) == ("oracle (numpy)", "other (numpy)")
    assert (found.dtype, found.forward, found.gradient) == ("float64", 0, 0)
    assert found.tensors == len(WEIGHTS)
    assert found.numbers == sum(value.size for value in WEIGHTS.values())
    assert (found.turned, found.pictures) == ((), 2)
    assert [row.name for row in found.layers] == LAYERS
    assert all(row.relative == 0 for row in found.layers)
    assert "\n" not in str(found)
    assert "are the same in float64: scores apart by 0.0e+00" in str(found)
    # Of its own: the target goes another way afterwards.
    two.assign({"fc.bias": np.zeros(5)})
    assert kept(one) == before


def test_a_certificate_is_json(tmp_path: Path) -> None:
    found = cnnviz.port_weights(oracle(), OracleAdapter(small_weights(5)))
    told = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert told["holds"] is True
    assert told["tensors"] == 10
    assert [row["name"] for row in told["layers"]] == LAYERS
    saved = json.loads(found.save(tmp_path / "proof.json").read_text())
    assert saved == told


@pytest.mark.parametrize("orders", [("first", "last"), ("last", "first"), ("last", "last")])
def test_rows_of_a_flattened_map_are_turned(orders: tuple[str, str]) -> None:
    one, two = (Flat(f"channels {order}", seed) for seed, order in enumerate(orders))
    found = cnnviz.port_weights(one, two)
    assert found.holds
    assert found.turned == (("fc",) if orders[0] != orders[1] else ())
    x = small_pictures(3)
    ours, theirs = (net.forward(x, taps=["fc"])["fc"] for net in (one, two))
    assert_allclose(ours, theirs, rtol=1e-12)
    if found.turned:
        # And back again, bit for bit.
        again = Flat(f"channels {orders[0]}", 7)
        cnnviz.port_weights(two, again)
        assert kept(again) == kept(one)


def test_images_and_layers_may_be_given(tmp_path: Path) -> None:
    one, two = oracle(), OracleAdapter(small_weights(5))
    found = cnnviz.port_weights(one, two, images=small_pictures(1), layers={"conv2": "conv2:0"})
    assert found.pictures == 1
    assert kept(one) == kept(two)
    with pytest.raises(UnknownLayer):
        cnnviz.port_weights(one, two, layers={"conv9": "conv1"})
    with pytest.raises(InvalidImage):
        cnnviz.port_weights(one, two, images=tmp_path / "nowhere.png")


def of_another_shape() -> OracleAdapter:
    rng = np.random.default_rng(4)
    return OracleAdapter(
        small_weights(5)
        | {
            "conv2.kernel": rng.normal(0, 0.4, (3, 3, 4, 7)),
            "conv2.bias": rng.normal(0, 0.2, 7),
            "fc.kernel": rng.normal(0, 0.6, (7, 5)),
        }
    )


BOTH = {"conv2": "conv2", "fc": "fc"}


@pytest.mark.parametrize(
    ("target", "given", "match"),
    [
        (of_another_shape, None, "'conv2' and 1 more of oracle has weights and no counterpart"),
        (of_another_shape, BOTH, "the kernel of 'conv2' of oracle is 3 x 3 x 4 x 6, that of"),
        (lambda: Adding(small_weights(5)), None, "left as it was: .* conv2: its code"),
    ],
)
def test_what_cannot_be_ported_is_left_as_it_was(
    target: Callable[[], OracleAdapter], given: Any, match: str
) -> None:
    one, two = oracle(), target()
    before = kept(two)
    with pytest.raises(CannotPort, match=match) as caught:
        cnnviz.port_weights(one, two, layers=given)
    assert "\n" not in str(caught.value)
    assert kept(two) == before
    assert kept(one) == kept(oracle())


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, RuntimeError])
def test_an_interrupt_leaves_the_target_as_it_was(
    error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = oracle(), OracleAdapter(small_weights(5))
    before = kept(two)
    seen = []

    def interrupted(*given: Any, **more: Any) -> Certificate:
        seen.append(kept(two))
        raise error

    monkeypatch.setattr(porting, "certify", interrupted)
    with pytest.raises(error):
        cnnviz.port_weights(one, two)
    assert seen == [kept(one)]
    assert kept(two) == before


def test_an_interrupt_while_weights_are_written_too(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = oracle(), OracleAdapter(small_weights(5))
    before = kept(two)
    assign = two.assign

    def half(weights: dict[str, Array]) -> None:
        monkeypatch.setattr(two, "assign", assign)
        assign(dict(list(weights.items())[:3]))
        raise KeyboardInterrupt

    monkeypatch.setattr(two, "assign", half)
    with pytest.raises(KeyboardInterrupt):
        cnnviz.port_weights(one, two)
    assert kept(two) == before


def certificate(forward: float, gradient: float, *layers: float) -> Certificate:
    rows = tuple(
        LayerDifference(str(i), str(i), "", (1,), value, 0.0, 1.0, 1.0)
        for i, value in enumerate(layers)
    )
    return Certificate("a", "b", "float64", forward, gradient, (1e-6, 1e-5), rows)


def test_a_certificate_holds_within_its_bounds() -> None:
    assert certificate(1e-6, 1e-5).holds
    assert certificate(0.0, 0.0, 1e-6, 0.0).holds
    for wrong in (
        certificate(2e-6, 0.0),
        certificate(0.0, 2e-5),
        certificate(0.0, 0.0, 0.0, 2e-6),
        certificate(math.nan, 0.0),
        certificate(0.0, math.nan),
        certificate(0.0, 0.0, math.nan, 0.0),
        certificate(0.0, 0.0, 0.0, math.nan, 0.0),
    ):
        assert not wrong.holds
        assert "NOT the same" in str(wrong)
        json.dumps(wrong.to_json(), allow_nan=False)


# Sheets


@pytest.mark.parametrize("softmax", [False, True])
def test_identical_networks_look_the_same(softmax: bool) -> None:
    nets = OracleAdapter(softmax=softmax), OracleAdapter(softmax=softmax)
    x = small_pictures(2)
    sheets = {
        "grad_cam": cnnviz.side_by_side(*nets, x),
        "saliency": cnnviz.side_by_side(*nets, x, "saliency", target=1),
        "maps": cnnviz.side_by_side(*nets, x, "feature_maps", layer="conv2", channels=[5, 0]),
        "ascent": cnnviz.side_by_side(*nets, show="ascent", layer="conv1", channels=2, steps=2),
        "class": cnnviz.side_by_side(*nets, show="ascent", target=[0, 3], steps=2),
        "weights": cnnviz.side_by_side(*nets, show="weights"),
    }
    rows = {"grad_cam": 2, "saliency": 2, "maps": 4, "ascent": 2, "class": 2, "weights": 3}
    assert {name: len(sheet.rows) for name, sheet in sheets.items()} == rows
    for sheet in sheets.values():
        assert sheet.names == ("oracle (numpy)", "oracle (numpy)")
        for row, tiles in zip(sheet.rows, sheet.tiles(), strict=True):
            assert_array_equal(row.difference, 0)
            assert row.relative == 0
            assert row.scale == np.abs(row.ours).max()
            assert len(tiles) == 3
            assert all(tile.ndim == 3 and tile.shape[-1] == 3 for tile in tiles)
            assert_array_equal(tiles[0], tiles[1])
    assert [row.title for row in sheets["maps"].rows] == ["conv2:5", "conv2:0"] * 2
    assert [row.kind for row in sheets["weights"].rows] == ["bars"] * 3


def test_rows_are_what_each_network_shows() -> None:
    one, two, x = oracle(), OracleAdapter(small_weights(3)), small_pictures(2)
    sheet = cnnviz.side_by_side(one, two, x, "saliency")
    target = list(cnnviz.attribute(one, x, "saliency").target)
    for i, row in enumerate(sheet.rows):
        for net, shown in ((one, row.ours), (two, row.theirs)):
            assert_array_equal(shown, cnnviz.attribute(net, x, "saliency", target).raw[i])
        assert row.scale == max(np.abs(row.ours).max(), np.abs(row.theirs).max())
        assert_array_equal(row.difference, row.theirs - row.ours)
        assert row.relative == np.abs(row.difference).max() / row.scale
    sheet = cnnviz.side_by_side(one, two, x, "feature_maps", layer="relu:0", channels=2)
    ours = one.forward(x, taps=["relu:0"])["relu:0"]
    strongest = np.argsort(-ours.mean((0, 1, 2)))[:2]
    assert [row.title for row in sheet.rows] == [f"relu:0:{k}" for k in strongest] * 2
    assert_allclose(sheet.rows[1].ours, ours[0, ..., strongest[1]], rtol=1e-6)


def test_histograms_have_one_scale_and_the_order_of_the_layer() -> None:
    two = oracle(bn1_scale=WEIGHTS["bn1.scale"] * 2)
    sheet = cnnviz.side_by_side(oracle(), two, show="weights", layer="bn1")
    assert [row.title.split(":")[0] for row in sheet.rows] == [
        "bn1 scale",
        "bn1 offset",
        "bn1 running mean",
        "bn1 running variance",
    ]
    scale = sheet.rows[0]
    both = np.concatenate([WEIGHTS["bn1.scale"], WEIGHTS["bn1.scale"] * 2])
    assert scale.title.endswith(f"{both.min():.3g} to {both.max():.3g}")
    for counts in (scale.ours, scale.theirs):
        assert counts.sum() == pytest.approx(1)
    assert scale.relative > 0
    assert all(row.relative == 0 for row in sheet.rows[1:])


X = small_pictures(1)


@pytest.mark.parametrize(
    ("images", "show", "options", "error", "match"),
    [
        (X, "nosuch", {}, InvalidOption, "show is one of feature_maps, .*, not 'nosuch'"),
        (None, "nosuch", {}, InvalidOption, "show is one of"),
        (None, "grad_cam", {}, InvalidOption, "grad_cam is of images; give some"),
        (None, "feature_maps", {}, InvalidOption, "of images"),
        (X, "feature_maps", {}, InvalidOption, "name the layer"),
        (X, "feature_maps", {"layer": "conv9"}, UnknownLayer, "conv9"),
        (X, "feature_maps", {"layer": "gap"}, InvalidOption, "no maps of one shape"),
        (X, "feature_maps", {"layer": "softmax"}, InvalidOption, "'softmax' has no counterpart"),
        (X, "feature_maps", {"layer": "conv1", "channels": [4]}, ChannelOutOfRange, "4"),
        (X, "feature_maps", {"layer": "conv1", "channels": 0}, InvalidOption, "channels"),
        (X, "feature_maps", {"layer": "conv1", "channels": []}, InvalidOption, "no channel"),
        (X, "feature_maps", {"layer": "conv1", "steps": 3}, InvalidOption, "take no 'steps'"),
        (None, "ascent", {}, InvalidOption, "name a layer, or a class"),
        (None, "ascent", {"layer": "conv1", "channels": [-1]}, ChannelOutOfRange, "-1"),
        (None, "ascent", {"layer": "conv1", "channels": 0}, InvalidOption, "channels"),
        (None, "weights", {"layer": "relu:0"}, InvalidOption, "'relu:0' and .* have no weights"),
        (None, "weights", {"steps": 3}, InvalidOption, "take no 'steps'"),
    ],
)
def test_what_cannot_be_shown(
    images: Any, show: str, options: dict[str, Any], error: type[CnnvizError], match: str
) -> None:
    with pytest.raises(error, match=match) as caught:
        cnnviz.side_by_side(OracleAdapter(softmax=True), oracle(), images, show, **options)
    assert "\n" not in str(caught.value)


def test_a_sheet_is_a_png(tmp_path: Path) -> None:
    sheet = cnnviz.side_by_side(oracle(), OracleAdapter(small_weights(3)), X)
    assert sheet.save(tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")
    assert sheet._repr_png_().startswith(b"\x89PNG")
    assert repr(sheet) == "<SideBySide oracle (numpy) and oracle (numpy): 1 rows>"
    assert len(sheet.plot().axes) == 3
    for name in ("s.jpg", "s.json", "s"):
        with pytest.raises(InvalidOption, match=r"saved as \.png"):
            sheet.save(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["s.png"]


def test_predictions_of_a_comparison_are_those_of_its_scores() -> None:
    found = cnnviz.compare(oracle(), oracle(), X).predictions
    assert found == Predictions(1, 1, 1.0, 0.0, pytest.approx(1), ())
    assert str(found).startswith("same class: True")


# What is not finite


def holding(key: str, value: float) -> OracleAdapter:
    weights = {name: np.array(w) for name, w in small_weights().items()}
    weights[key].flat[0] = value
    return OracleAdapter(weights)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_told(value: float) -> None:
    found = cnnviz.compare(OracleAdapter(), holding("conv2.bias", value), small_pictures(5, 12))
    assert not found.agree
    first = found.first_divergence
    assert first is not None
    assert first.name == "conv2"
    assert "the worst is not finite, at 'conv2'" in str(found)
    assert "they part first at 'conv2' ('conv2' in the other): not finite" in str(found)
    assert [d.cause for d in found.diagnoses] == ["wrong weights"]
    for word in ("nan", "other shape"):
        assert word not in found.table
    json.dumps(found.to_json(), allow_nan=False)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("both", [True, False])
def test_of_a_reference_that_is_not_finite_nothing_is_proved(value: float, both: bool) -> None:
    reference = holding("conv2.bias", value)
    other = holding("conv2.bias", value) if both else OracleAdapter()
    found = cnnviz.compare(reference, other, small_pictures(5, 12))
    assert not found.agree
    assert found.diagnoses == ()
    assert found.notes == ("oracle (numpy) gives what is not finite, first at 'conv2'",)
    assert "each layer by itself does the same" not in str(found)
    assert "nan" not in found.table
