"""Exemplars of the oracle against brute force over all of its activations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import cnnviz
from cnnviz.compiled import compiled
from cnnviz.errors import ChannelOutOfRange, InvalidImage, InvalidOption, UnknownLayer
from cnnviz.exemplars import (
    EDGES,
    Exemplars,
    find_exemplars,
    ranking,
    reductions,
    sampling,
    statistics,
    sums,
)
from cnnviz.exemplars.activations import Activations
from cnnviz.exemplars.loops import reduce_maps
from cnnviz.exemplars.ranking import Ranking
from cnnviz.exemplars.statistics import ChannelStatistics
from cnnviz.exemplars.sums import ExactSum
from cnnviz.features import feature_maps
from cnnviz.passes import batch_for
from cnnviz.testing import OracleAdapter, small_pictures

LAYERS = ("conv1", "relu:0", "pool", "gap", "fc")
COUNT = 70


@pytest.fixture(scope="module")
def pictures() -> NDArray[np.float64]:
    return small_pictures(COUNT)


@pytest.fixture(scope="module")
def labels() -> NDArray[np.int64]:
    return np.random.default_rng(3).integers(0, 4, COUNT)


@pytest.fixture(scope="module")
def maps(pictures: NDArray[np.float64]) -> Any:
    return feature_maps(OracleAdapter(), pictures, LAYERS).maps


@pytest.fixture(scope="module")
def found(pictures: NDArray[np.float64], labels: NDArray[np.int64]) -> Exemplars:
    return find_exemplars(
        OracleAdapter(), pictures, LAYERS, k=5, labels=labels, per_class=2, sample=20, batch=16
    )


def best(scores: NDArray[Any], k: int) -> NDArray[Any]:
    """Order images ``(N, C)`` by falling score, the earlier first; the first k, ``(C, k)``."""
    return np.argsort(-scores.T, axis=1, kind="stable")[:, :k]


@pytest.mark.parametrize("layer", LAYERS)
def test_the_best_images_are_those_of_brute_force(found, maps, layer):
    flat = maps[layer].reshape(COUNT, -1, maps[layer].shape[-1])
    order = best(flat.max(axis=1), 5)
    assert np.array_equal(found[layer].images, order)
    assert np.array_equal(
        found[layer].values, np.take_along_axis(flat.max(axis=1).T, order, axis=1)
    )
    order = best(flat.mean(axis=1), 5)
    assert np.array_equal(found[layer].mean_images, order)
    assert found[layer].mean_values == pytest.approx(
        np.take_along_axis(flat.mean(axis=1).T, order, axis=1), rel=1e-12, abs=1e-15
    )


@pytest.mark.parametrize("layer", LAYERS)
def test_positions_are_where_the_map_is_largest(found, maps, layer):
    for channel in range(found[layer].channels):
        for one in found[layer].top(channel):
            field = maps[layer][one.image, ..., channel]
            assert field[one.position] == field.max() == one.value
            # The first in reading order, as argmax has it.
            assert one.position == np.unravel_index(field.argmax(), field.shape)


@pytest.mark.parametrize("layer", LAYERS)
def test_statistics_are_those_of_all_activations(found, maps, layer):
    flat = maps[layer].reshape(-1, maps[layer].shape[-1])
    statistics = found[layer].statistics
    assert np.array_equal(statistics.count, np.full(flat.shape[1], len(flat)))
    assert statistics.mean == pytest.approx(flat.mean(axis=0), rel=1e-12, abs=1e-14)
    assert statistics.variance == pytest.approx(flat.var(axis=0), rel=1e-10)
    assert np.array_equal(statistics.min, flat.min(axis=0))
    assert np.array_equal(statistics.max, flat.max(axis=0))
    assert np.array_equal(statistics.zeros, (flat == 0).sum(axis=0))
    # No map here has more places than are counted of each image, so the histogram is of all.
    for channel in range(flat.shape[1]):
        counted = np.histogram(flat[:, channel].astype(np.float32), EDGES)[0]
        assert statistics.histogram[channel].sum() == counted.sum()
        assert np.abs(statistics.histogram[channel] - counted).sum() <= 2


def test_classes_have_their_own(found, maps, labels):
    scores = maps["pool"].max(axis=(1, 2))
    for label in range(4):
        own = np.flatnonzero(labels == label)
        order = own[best(scores[own], 2)]
        for channel in range(4):
            got = [one.image for one in found["pool"].of_class(channel, label)]
            assert got == list(order[channel])
        assert found["pool"].class_means[label] == pytest.approx(scores[own].mean(axis=0))
    assert np.array_equal(found["pool"].labels(), labels[found["pool"].images])
    assert np.array_equal(found.class_counts, np.bincount(labels))
    with pytest.raises(ChannelOutOfRange):
        found["pool"].of_class(0, 4)


def test_quantiles_run_from_the_weakest_to_the_strongest(found, maps):
    scores = maps["conv1"].max(axis=(1, 2))[:, 1]
    assert len(set(found.sampled)) == 20
    order = sorted(found.sampled, key=lambda image: (scores[image], image))
    parts = found["conv1"].quantiles(1, ranges=4, each=3)
    assert [[one.image for one in part] for part in parts] == [
        [int(i) for i in order[n * 5 + 1 : n * 5 + 4]] for n in range(4)
    ]
    assert [one.value for one in parts[0]] == [scores[one.image] for one in parts[0]]
    drawn = found["conv1"].random(0, 6)
    assert [one.image for one in drawn] == [one.image for one in found["conv1"].random(3, 6)]


def test_a_sample_is_fair():
    """Every image is as likely: over many seeds each of 40 is drawn about as often."""
    counts = np.zeros(40)
    for seed in range(200):
        found = find_exemplars(OracleAdapter(), small_pictures(40), "fc", 1, sample=10, seed=seed)
        counts[found.sampled] += 1
    # 50 expected, a standard deviation of 6.
    assert counts.sum() == 2000
    assert 25 < counts.min() <= counts.max() < 75


@pytest.mark.parametrize("batch", [1, 7, 16, 64, 200])
def test_the_batch_changes_nothing_but_the_last_bits(pictures, labels, found, batch):
    other = find_exemplars(
        OracleAdapter(), pictures, LAYERS, 5, labels=labels, per_class=2, sample=20, batch=batch
    )
    for layer in LAYERS:
        assert np.array_equal(other[layer].images, found[layer].images)
        assert other[layer].values == pytest.approx(found[layer].values, rel=1e-12)
        assert other[layer].statistics.variance == pytest.approx(found[layer].statistics.variance)
    assert np.array_equal(other.sampled, found.sampled)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize(
    ("executor", "shards"), [("serial", 1), ("serial", 3), ("serial", 8), ("processes", 3)]
)
def test_shards_and_processes_give_the_same_bytes(pictures, labels, tmp_path, executor, shards):
    options: Any = {"k": 4, "labels": labels, "sample": 12, "batch": 4}
    net = OracleAdapter()
    find_exemplars(net, pictures, LAYERS, **options).save(tmp_path / "whole")
    find_exemplars(
        net, pictures, LAYERS, **options, out=tmp_path / "out", executor=executor, shards=shards
    )
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "exemplars.json",
        "layers",
        "scan.npz",
    }


def test_processes_without_a_folder_leave_none(pictures, found, labels):
    other = find_exemplars(
        OracleAdapter(),
        pictures,
        LAYERS,
        5,
        labels=labels,
        per_class=2,
        sample=20,
        batch=16,
        executor="processes",
    )
    for layer in LAYERS:
        assert np.array_equal(other[layer].images, found[layer].images)
        assert np.array_equal(other[layer].statistics.mean, found[layer].statistics.mean)


class Stops(OracleAdapter):
    """Fails at a call of its forward."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.left = at

    def forward(self, x, *, taps):
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return super().forward(x, taps=taps)


@pytest.mark.parametrize("at", [0, 1, 5, 9, 16])
def test_an_interrupted_run_goes_on_to_the_same_bytes(pictures, tmp_path, at):
    whole, out = tmp_path / "whole", tmp_path / "out"
    options: Any = {"layers": LAYERS, "k": 3, "batch": 4, "shards": 5}
    find_exemplars(OracleAdapter(), pictures, **options, out=whole)
    with pytest.raises(KeyboardInterrupt):
        find_exemplars(Stops(at), pictures, **options, out=out)
    with pytest.raises(InvalidOption, match="resume=True"):
        find_exemplars(OracleAdapter(), pictures, **options, out=out)
    with pytest.raises(InvalidOption, match="other keep"):
        find_exemplars(OracleAdapter(), pictures, LAYERS, 4, batch=4, out=out, resume=True)
    # The plan that was made first is the one that is gone on with.
    find_exemplars(OracleAdapter(), pictures, LAYERS, 3, batch=4, shards=2, out=out, resume=True)
    assert contents(out) == contents(whole)


def test_a_damaged_shard_is_made_again(pictures, tmp_path):
    whole, out = tmp_path / "whole", tmp_path / "out"
    options: Any = {"layers": LAYERS, "k": 3, "batch": 4, "shards": 5}
    find_exemplars(OracleAdapter(), pictures, **options, out=whole)
    with pytest.raises(KeyboardInterrupt):
        find_exemplars(Stops(9), pictures, **options, out=out)
    shards = sorted((out / "shards").iterdir())
    assert len(shards) == 2
    shards[0].write_bytes(shards[0].read_bytes()[:-200])
    (out / "shards" / ".0123456789abcdef.tmp").write_bytes(b"what a killed write leaves")
    find_exemplars(OracleAdapter(), pictures, **options, out=out, resume=True)
    assert contents(out) == contents(whole)


def test_a_finished_folder_is_opened_and_another_is_refused(pictures, found, tmp_path):
    out = tmp_path / "out"
    first = find_exemplars(OracleAdapter(), pictures, LAYERS, 3, out=out)
    before = contents(out)
    again = find_exemplars(Stops(0), pictures, LAYERS, 3, out=out)
    assert np.array_equal(again["fc"].images, first["fc"].images)
    with pytest.raises(InvalidOption, match="another run"):
        find_exemplars(OracleAdapter(), pictures[1:], LAYERS, 3, out=out)
    assert contents(out) == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(InvalidOption, match="not empty"):
        find_exemplars(OracleAdapter(), pictures, LAYERS, 3, out=tmp_path / "mine")
    assert contents(tmp_path / "mine") == {"thesis.txt": b"years of work"}


def test_what_is_saved_comes_back(found, tmp_path, pictures):
    found.save(tmp_path)
    again = Exemplars.open(tmp_path)
    assert str(again) == str(found)
    assert json.dumps(again.to_json()) == json.dumps(found.to_json())
    assert again["fc"].quantiles(0) == found["fc"].quantiles(0)
    assert again.references == found.references
    with pytest.raises(InvalidOption, match="need the network"):
        again["fc"].plot(0)
    (tmp_path / "scan.npz").write_bytes(b"PK nothing")
    with pytest.raises(InvalidOption, match=r"scan\.npz"):
        Exemplars.open(tmp_path)
    with pytest.raises(InvalidOption, match="no exemplars"):
        Exemplars.open(tmp_path / "elsewhere")


def test_broken_images_are_passed_over_and_counted(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(12):
        pixels = rng.integers(0, 256, (10, 10, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i:02d}.png")
    whole = find_exemplars(OracleAdapter(), tmp_path, "fc", 12)
    (tmp_path / "04.png").write_bytes(b"not a picture")
    (tmp_path / "07.png").write_bytes((tmp_path / "07.png").read_bytes()[:100])
    found = find_exemplars(OracleAdapter(), tmp_path, "fc", 12, batch=3)
    assert found.seen == 10
    assert [(number, Path(text).name) for number, text, _ in found.broken] == [
        (4, "04.png"),
        (7, "07.png"),
    ]
    assert "2 could not be read" in str(found)
    for channel in range(5):
        kept = [one.image for one in whole["fc"].top(channel) if one.image not in (4, 7)]
        assert [one.image for one in found["fc"].top(channel)] == kept
    # Fewer images than are asked for leave slots without one.
    assert (found["fc"].images[:, 10:] == -1).all()
    for path in tmp_path.iterdir():
        path.write_bytes(b"none is left")
    with pytest.raises(InvalidImage):
        find_exemplars(OracleAdapter(), tmp_path, "fc")


class Made(OracleAdapter):
    """Gives activations that are written down."""

    def __init__(self, values: NDArray[Any]) -> None:
        super().__init__()
        self._values, self._at = values, 0

    def forward(self, x, *, taps):
        some = self._values[self._at : self._at + len(x)]
        self._at += len(x)
        return dict.fromkeys(taps, some)


def test_below_zero_ties_and_what_is_not_finite():
    values = np.full((8, 2, 2, 3), -1.0, np.float32)
    values[5, 1, 0, 0] = -0.5
    values[2, 0, 0, 1] = np.nan
    values[3, 0, 1, 1] = np.inf
    values[:, :, :, 2] = 7
    found = find_exemplars(Made(values), small_pictures(8), "conv1", 4, batch=3)["conv1"]
    # A channel that is below zero everywhere has its best as well; among equals, the earlier.
    assert found.images.tolist() == [[5, 0, 1, 2], [0, 1, 4, 5], [0, 1, 2, 3]]
    assert found.positions[0, 0].tolist() == [1, 0]
    assert found.positions[2].tolist() == [[0, 0]] * 4
    assert found.statistics.missing.tolist() == [0, 2, 0]
    assert found.statistics.count.tolist() == [32, 30, 32]
    assert found.statistics.mean.tolist() == [-1 + 0.5 / 32, -1, 7]
    assert found.statistics.max.tolist() == [-0.5, -1, 7]
    assert found.statistics.variance[1:].tolist() == [0, 0]


def test_dead_constant_and_duplicate_channels_are_told():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(40, 3, 3, 4)).astype(np.float32)
    values[..., 0] = 0
    values[..., 1] = 2.5
    values[..., 3] = 3 * values[..., 2]
    found = find_exemplars(Made(values), small_pictures(40), "conv1", 3)
    report = found.report()
    assert [(f.channel, f.kind, f.other) for f in report.findings] == [
        (0, "dead", None),
        (1, "constant", None),
        (3, "duplicate", 2),
    ]
    # The weights of the layer are looked at, since the network is at hand.
    assert "cosine" in report.findings[2].weights
    assert "norm" in report.findings[0].weights
    assert "1 dead, 1 constant, 1 duplicate" in str(report)
    assert json.loads(json.dumps(report.to_json()))["channels"] == {"conv1": 4}


def test_a_stream_of_unknown_length(pictures, found):
    again = find_exemplars(OracleAdapter(), iter(pictures), LAYERS, 5, batch=16, sample=20)
    for layer in LAYERS:
        assert np.array_equal(again[layer].images, found[layer].images)
        assert np.array_equal(again[layer].statistics.mean, found[layer].statistics.mean)
    with pytest.raises(InvalidOption, match="other processes"):
        find_exemplars(OracleAdapter(), iter(pictures), LAYERS, executor="processes")


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"layers": "conv9"}, UnknownLayer, "conv9"),
        ({"layers": []}, InvalidOption, "names"),
        ({"layers": 3}, InvalidOption, "names"),
        ({"k": 0}, InvalidOption, "k is"),
        ({"sample": -1}, InvalidOption, "sample"),
        ({"batch": 0}, InvalidOption, "batch"),
        ({"shards": 0}, InvalidOption, "shards"),
        ({"executor": "cluster"}, InvalidOption, "executor"),
        ({"labels": [1, 2]}, InvalidOption, "labels"),
    ],
)
def test_bad_input_is_one_line(pictures, options, error, words):
    with pytest.raises(error, match=words) as caught:
        find_exemplars(OracleAdapter(), pictures, **options)
    assert "\n" not in str(caught.value)


def test_all_layers_and_the_default(pictures):
    net = OracleAdapter()
    assert find_exemplars(net, pictures[:4], "all").layers == (
        *("conv1", "bn1", "relu:0", "pool", "conv2", "relu:1", "gap", "fc"),
    )
    assert find_exemplars(net, pictures[:4]).layers == ("relu:0", "relu:1")
    assert find_exemplars(net, pictures[:4], cnnviz.LOGITS)[cnnviz.LOGITS].channels == 5


def test_thousands_of_small_images_run_in_larger_batches(pictures):
    net = OracleAdapter()
    sizes = {count: batch_for(net, ("conv1",), count=count) for count in (100, 10_000, None)}
    assert sizes == {100: 64, 10_000: 512, None: 64}
    few = find_exemplars(net, pictures, "conv1", batch=64)
    many = find_exemplars(net, pictures, "conv1", batch=512)
    assert np.array_equal(few["conv1"].images, many["conv1"].images)


def test_sums_do_not_depend_on_the_grouping():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(500, 3)) * 10.0 ** rng.integers(-20, 20, (500, 3))
    whole = ExactSum.zeros((3,))
    for row in values:
        whole.add(row[None])
    for parts in (2, 7, 100):
        merged = ExactSum.zeros((3,))
        for part in np.array_split(rng.permutation(values), parts):
            one = ExactSum.zeros((3,))
            one.add(part)
            merged.merge(one)
        assert np.array_equal(merged.digits, whole.digits)
    from fractions import Fraction

    for channel in range(3):
        exact = float(sum(Fraction(v) for v in values[:, channel]))
        assert whole.value[channel] == pytest.approx(exact, rel=1e-15)


def test_sums_are_the_same_without_numba(monkeypatch):
    rng = np.random.default_rng(5)
    values = rng.normal(size=(400, 4)) * 10.0 ** rng.integers(-60, 60, (400, 4))
    values[::7], values[3::50] = 0.0, 5e-324
    both = []
    for numba in (True, False):
        if not numba:
            without_numba(monkeypatch)
        found = ExactSum.zeros((2, 4))
        found.add(values[:300], 1)
        found.add(values[300:], 1)
        both.append(found.digits)
    assert both[0].any()
    assert not both[0][:, 0].any()
    assert np.array_equal(*both)


def test_rankings_merge_as_if_all_came_at_once():
    rng = np.random.default_rng(1)
    # Few different values, so that many are equal.
    values = rng.integers(0, 6, (60, 5)).astype(np.float64)
    numbers = np.arange(60)

    def nowhere(rows: NDArray[np.intp], channels: NDArray[np.intp]) -> NDArray[np.int32]:
        return (rows * 100 + channels).astype(np.int32)

    whole = Ranking.empty(5, 7, np.float64)
    whole.offer(values, numbers, nowhere)
    parts = []
    for some in np.array_split(numbers, 9):
        part = Ranking.empty(5, 7, np.float64)
        start = some[0]
        part.offer(values[some], some, lambda r, c, at=start: nowhere(r + at, c))
        parts.append(part)
    merged = Ranking.empty(5, 7, np.float64)
    for part in (parts[i] for i in rng.permutation(9)):
        merged.merge(part)
    assert np.array_equal(merged.images, whole.images)
    assert np.array_equal(merged.places, whole.places)
    assert np.array_equal(whole.images, best(values, 7))


@pytest.mark.parametrize("shape", [(3, 28, 28, 32), (2, 13, 13, 40), (5, 7, 7, 3), (4, 1, 1, 9)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_reductions_in_any_layout(shape, dtype):
    rng = np.random.default_rng(0)
    x = np.maximum(rng.normal(3, 1, shape), 2).astype(dtype) - dtype(2)
    for values in (x, np.moveaxis(np.ascontiguousarray(np.moveaxis(x, -1, 1)), 1, -1)):
        found = Activations(values, np.arange(len(x)))
        flat = x.astype(np.float64).reshape(-1, shape[-1])
        assert found.sums.sum(axis=0) == pytest.approx(flat.sum(axis=0), rel=1e-12)
        assert found.squares.sum(axis=0) == pytest.approx((flat**2).sum(axis=0), rel=1e-12)
        assert np.array_equal(found.largest, x.max(axis=(1, 2)))
        assert np.array_equal(found.smallest, x.min(axis=(0, 1, 2)))
        assert np.array_equal(found.zeros, (flat == 0).sum(axis=0))


def without_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (ranking, reductions, statistics, sums):
        monkeypatch.setattr(module, "compiled", lambda loop: None)


@pytest.mark.parametrize(
    "shape",
    [
        *((3, 28, 28, 32), (2, 13, 13, 40), (5, 7, 7, 3), (4, 1, 1, 9), (1, 6, 7, 300), (6, 5)),
        *((3, 16, 16, 1), (2, 67, 67, 1), (2, 8, 8, 64)),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("broken", [False, True])
def test_numba_and_opencv_give_the_same_bits(monkeypatch, shape, dtype, broken):
    rng = np.random.default_rng(1)
    x = np.maximum(rng.normal(0.2, 1, shape), 0).astype(dtype)
    # A gate that is shut leaves zeros of both signs.
    x[..., 0] = rng.choice([-0.0, 0.0], x.shape[:-1])
    x[-1, ..., -1] = -0.0
    if broken:
        x[1:2, ..., 1 % shape[-1]], x[0, ..., -1] = np.nan, -np.inf
    every = np.indices((len(x), shape[-1])).reshape(2, -1)
    both = []
    for numba in (True, False):
        if not numba:
            without_numba(monkeypatch)
        reduced = Activations(x, np.arange(len(x)))
        counted = ChannelStatistics.empty(shape[-1], x.dtype)
        counted.add(
            reduced, sampling.drawn(reduced.maps, sampling.priorities(every[0][: len(x)], 3), 40)
        )
        names = ("missing", "largest", "means", "smallest", "most", "zeros", "sums", "squares")
        both.append({name: getattr(reduced, name) for name in names} | counted.arrays())
        both[-1]["places"] = reduced.places_of_largest(*every)
        best = ranking.Ranking.empty(shape[-1], 2, reduced.largest.dtype)
        where = reduced.places_of_largest if reduced.known is None else reduced.known
        best.offer(reduced.largest, np.arange(len(x)), where)
        both[-1] |= best.arrays("best")
    assert compiled(reduce_maps) is not None
    for name, one in both[0].items():
        assert one.dtype == both[1][name].dtype, name
        assert one.tobytes() == both[1][name].tobytes(), name


def test_without_numba_the_same_bytes_are_kept(monkeypatch, pictures, labels, tmp_path):
    settings = {"labels": labels, "batch": 16, "sample": 20, "k": 5}
    for name in ("with", "without"):
        if name == "without":
            without_numba(monkeypatch)
        find_exemplars(OracleAdapter(), pictures, "all", **settings).save(tmp_path / name)
    first, second = (sorted((tmp_path / name).rglob("*")) for name in ("with", "without"))
    assert [path.name for path in first] == [path.name for path in second]
    assert any(path.is_file() for path in first)
    for one, other in zip(first, second, strict=True):
        if one.is_file():
            assert one.read_bytes() == other.read_bytes(), one.name


def test_opencv_keeps_its_threads(pictures):
    before = cv2.getNumThreads()
    cv2.setNumThreads(2)
    try:
        find_exemplars(OracleAdapter(), pictures[:8], "fc")
        with pytest.raises(KeyboardInterrupt):
            find_exemplars(Stops(0), pictures[:8], "fc")
        assert cv2.getNumThreads() == 2
    finally:
        cv2.setNumThreads(before)
