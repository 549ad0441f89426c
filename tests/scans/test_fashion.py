"""60,000 real images through a trained network: exemplars against brute force, flat memory."""

from __future__ import annotations

import importlib
import resource
import threading
import time
from typing import Any

import numpy as np
import pytest
from scans import fashion

import cnnviz
from cnnviz.exemplars import find_exemplars

K = 9


@pytest.fixture(scope="module", params=["torch", "keras"])
def framework(request: pytest.FixtureRequest) -> str:
    importlib.import_module("torch")  # before TensorFlow
    return str(request.param)


@pytest.fixture(scope="module")
def net(framework: str) -> Any:
    return fashion.trained(framework)


@pytest.fixture(scope="module")
def found(net: Any) -> Any:
    return find_exemplars(net, fashion.source(), "all", K)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_exemplars_of_all_layers_are_those_of_brute_force(net, found):
    x, y = fashion.pixels()
    print(f"\n{net.title}: accuracy {fashion.accuracy(net):.4f} on the test images")
    brute = {layer: Brute() for layer in found.layers}
    for i in range(0, len(x), 1000):
        pictures = net.ops.asarray(x[i : i + 1000].astype(np.float32) / 255)
        for layer, values in net.forward(pictures, taps=found.layers).items():
            brute[layer].add(net.ops.to_numpy(values))
    for layer, all_of_it in brute.items():
        all_of_it.check(found[layer])
    assert np.array_equal(found.class_counts, np.bincount(y))


class Brute:
    """Everything about a layer, by the plainest means and in float64."""

    def __init__(self) -> None:
        self.first: Any = None
        self.largest: list[Any] = []
        self.means: list[Any] = []
        self.totals: dict[str, Any] = {}

    def add(self, values: Any) -> None:
        flat = values.reshape(len(values), -1, values.shape[-1]).astype(np.float64)
        if self.first is None:
            # Squares about a first mean, so that nothing cancels.
            self.first = flat.mean(axis=(0, 1))
        self.largest.append(flat.max(axis=1))
        self.means.append(flat.mean(axis=1))
        away = flat - self.first
        for name, part in {
            "count": np.full(flat.shape[-1], flat.shape[0] * flat.shape[1]),
            "sum": away.sum(axis=(0, 1)),
            "square": (away**2).sum(axis=(0, 1)),
            "zeros": (flat == 0).sum(axis=(0, 1)),
        }.items():
            self.totals[name] = self.totals.get(name, 0) + part

    def check(self, mine: Any) -> None:
        scores, averages = np.concatenate(self.largest), np.concatenate(self.means)
        same_order(mine.images, mine.values, scores)
        same_order(mine.mean_images, mine.mean_values, averages)
        totals, statistics = self.totals, mine.statistics
        count = totals["count"]
        mean = self.first + totals["sum"] / count
        spread = np.sqrt(totals["square"] / count - (totals["sum"] / count) ** 2)
        alive = spread > 0
        assert np.array_equal(statistics.count, count)
        assert np.abs(statistics.mean - mean).max() <= 1e-6 * spread.max()
        assert np.abs(statistics.std[alive] / spread[alive] - 1).max() <= 1e-6
        assert np.abs(statistics.max - scores.max(axis=0)).max() <= 1e-5 * scores.max()
        # A unit at the kink may be zero in one batch and 1e-9 in another.
        assert np.abs(statistics.zeros - totals["zeros"]).max() <= 1e-5 * count[0]


def same_order(images: Any, values: Any, scores: Any) -> None:
    """Hold the order to brute force; another batch may change last bits, so near ties may turn."""
    kept = np.sort(-scores.T, axis=1)[:, :K] * -1
    tolerance = 2e-6 * np.abs(scores).max()
    assert np.abs(values - kept).max() <= tolerance
    # Each image has the score that it is said to have, and none comes twice.
    assert np.abs(np.take_along_axis(scores.T, images, axis=1) - values).max() <= tolerance
    assert all(len(set(row)) == K for row in images)
    order = np.argsort(-scores.T, axis=1, kind="stable")[:, :K]
    clear = np.diff(np.sort(-scores.T, axis=1)[:, : K + 1], axis=1).min(axis=1) > 2 * tolerance
    assert clear.any()
    assert np.array_equal(order[clear], images[clear])


@pytest.mark.slow
def test_classes_of_exemplars_are_far_from_chance(found):
    layer = [name for name in found.layers if len(found[name].positions.shape) == 3][-3]
    labels = found[layer].labels()
    shares = np.array([np.bincount(row, minlength=10).max() / K for row in labels])
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, 10, (20000, K))
    chance = np.mean([np.bincount(row, minlength=10).max() / K for row in drawn])
    print(
        f"\n{layer}: {shares.mean():.2f} of a channel's images are of one class, by chance", end=""
    )
    print(f" {chance:.2f}; {(shares == 1).mean():.0%} of channels have one class alone")
    assert shares.mean() > 1.8 * chance


@pytest.mark.slow
def test_memory_is_flat(net):
    samples: list[tuple[float, float]] = []
    done = threading.Event()

    def watch() -> None:
        page = resource.getpagesize()
        while not done.is_set():
            with open("/proc/self/statm") as file:
                samples.append((time.monotonic(), int(file.read().split()[1]) * page))
            time.sleep(0.02)

    watcher = threading.Thread(target=watch)
    images = fashion.source()
    find_exemplars(net, fashion.pixels()[0][:512], "all", K)
    watcher.start()
    begun = time.monotonic()
    try:
        find_exemplars(net, images, "all", K)
    finally:
        done.set()
        watcher.join()
    middle = (begun + samples[-1][0]) / 2
    halves = [max(m for t, m in samples if (t < middle) == early) for early in (True, False)]
    print(f"\n{net.title}: {halves[0] / 2**20:.0f} MiB at most in the first half,", end="")
    print(f" {halves[1] / 2**20:.0f} MiB in the second")
    assert halves[1] <= 1.05 * halves[0]


@pytest.mark.slow
def test_logits_find_their_classes(net, found):
    best = find_exemplars(net, fashion.source(), cnnviz.LOGITS, K)[cnnviz.LOGITS]
    right = best.labels() == np.arange(10)[:, None]
    print(f"\n{net.title}: {right.mean():.2f} of the images that excite a class are of it")
    # By chance it is a tenth.
    assert right.mean() > 0.75
