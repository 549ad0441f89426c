"""Each objective is the number that it says, computed here from the activations of a layer."""

from __future__ import annotations

import numpy as np
import pytest

import cnnviz
from cnnviz import objectives as on
from cnnviz.ascent.objectives import BatchScore
from cnnviz.testing import OracleAdapter, small_pictures

RNG = np.random.default_rng(0)
VECTOR = RNG.normal(0, 1, 4)
PATTERN = RNG.normal(0, 1, (4, 5, 4))
PHOTO = RNG.uniform(0, 1, (12, 9, 3))


@pytest.fixture(scope="module")
def net():
    return OracleAdapter()


def values(net, objectives, x):
    """Give what objectives are for pictures, one each."""
    score, args = BatchScore.of(net, objectives, x.shape[1:3])
    return score(net.forward(x, taps=score.taps), *args)


def cosine(a, b, axis=None):
    return np.sum(a * b, axis) / np.sqrt(np.sum(a * a, axis) * np.sum(b * b, axis))


def seen(net, layer, image, size):
    picture = np.clip(cnnviz.images.resize(np.asarray(image), size, "bicubic"), 0, 1)
    return net.forward(picture[None], taps=[layer])[layer][0]


def pointwise(vector, power):
    def value(a):
        dots = a @ vector
        return np.mean(dots * np.maximum(0.1, cosine(a, vector, -1)) ** power)

    return value


def middles(a, b):
    h, w = (min(m, n) for m, n in zip(a.shape[:2], b.shape[:2], strict=True))
    parts = []
    for one in (a, b):
        y, x = ((side - n) // 2 for side, n in zip(one.shape[:2], (h, w), strict=True))
        parts.append(one[y : y + h, x : x + w])
    return parts


def patterned(power):
    def value(a):
        a, b = middles(a, PATTERN)
        return np.sum(a * b) * max(0.1, cosine(a, b)) ** power

    return value


# By name: the objective, the layer that it reads, and its value from that layer's activation.
VALUES = {
    "channel": (on.channel("conv1", 2), "conv1", lambda a: a[..., 2].mean()),
    "channel-of-vector": (on.channel("fc", 2), "fc", lambda a: a[2]),
    "class": (on.class_logit(3), "fc", lambda a: a[3]),
    "layer": (on.layer("conv2"), "conv2", lambda a: np.mean(a**2)),
    "layer-of-vector": (on.layer("fc"), "fc", lambda a: np.mean(a**2)),
    **{
        f"direction^{p}": (on.direction("bn1", VECTOR, p), "bn1", pointwise(VECTOR, p))
        for p in (0, 1, 2)
    },
    "direction-of-vector": (
        on.direction("fc", [1, 2, 3, 4, 5], 1),
        "fc",
        pointwise(np.arange(1.0, 6), 1),
    ),
    **{f"spatial^{p}": (on.spatial("bn1", PATTERN, p), "bn1", patterned(p)) for p in (0, 1, 2)},
    "negative": (-on.channel("conv1", 2), "conv1", lambda a: -a[..., 2].mean()),
    "half": (on.channel("conv1", 2) / 2, "conv1", lambda a: a[..., 2].mean() / 2),
    "sum": (
        3 * on.channel("conv1", 2) + on.channel("conv1", 0) - 0.5 * on.layer("conv1"),
        "conv1",
        lambda a: 3 * a[..., 2].mean() + a[..., 0].mean() - 0.5 * np.mean(a**2),
    ),
    "twice": (
        on.layer("conv1") + on.layer("conv1") * 2,
        "conv1",
        lambda a: 3 * np.mean(a**2),
    ),
    "interpolated": (
        on.interpolate(on.channel("conv1", 2), on.channel("conv1", 0), 5)[1],
        "conv1",
        lambda a: 0.75 * a[..., 2].mean() + 0.25 * a[..., 0].mean(),
    ),
}


@pytest.mark.parametrize("size", [(10, 14), (13, 9)], ids=str)
@pytest.mark.parametrize("name", VALUES)
def test_the_value_of_an_objective(net, name, size):
    objective, layer, wanted = VALUES[name]
    x = np.random.default_rng(1).uniform(0, 1, (2, *size, 3))
    a = net.forward(x, taps=[layer])[layer]
    found = values(net, [objective] * 2, x)
    assert found == pytest.approx([wanted(a[0]), wanted(a[1])], rel=1e-9)
    assert found[0] != found[1]


@pytest.mark.parametrize("power", [0, 1, 2])
def test_the_value_of_a_caricature(net, power):
    x = small_pictures(2, 11)
    a = net.forward(x, taps=["conv2"])["conv2"]
    b = seen(net, "conv2", PHOTO, (11, 11))
    wanted = [np.sum(one * b) * max(0.1, cosine(one, b)) ** power / np.sum(b * b) for one in a]
    found = values(net, [on.caricature("conv2", PHOTO, power)] * 2, x)
    assert found == pytest.approx(wanted, rel=1e-9)


def test_the_value_of_an_inversion(net):
    x = small_pictures(1, 11)
    a, b = net.forward(x, taps=["conv2"])["conv2"][0], seen(net, "conv2", PHOTO, (11, 11))
    found = values(net, [on.inversion("conv2", PHOTO)], x)
    assert found == pytest.approx([-np.sum((a - b) ** 2) / np.sum(b * b)], rel=1e-9)
    same = np.clip(cnnviz.images.resize(PHOTO, (11, 11), "bicubic"), 0, 1)[None]
    assert values(net, [on.inversion("conv2", PHOTO)], same) == pytest.approx([0], abs=1e-12)
    assert values(net, [on.caricature("conv2", PHOTO)], same) == pytest.approx([1], rel=1e-9)
    kept = on.accentuation(on.channel("conv1", 1), PHOTO, "conv2", weight=2.0)
    shown = net.forward(same, taps=["conv1"])["conv1"]
    assert values(net, [kept], same) == pytest.approx([shown[..., 1].mean()], rel=1e-9)


@pytest.mark.parametrize(("row", "column"), [(0, 0), (7, 11), (3, 9), (None, 2), (5, None)])
def test_a_neuron_is_the_unit_that_is_asked_for(row, column):
    """On a map that is not square, at the network's own size."""
    net = cnnviz.testing.OracleAdapter(
        preprocessing=cnnviz.Preprocessing((0.5,) * 3, (0.25,) * 3, size=(10, 14))
    )
    x = np.random.default_rng(1).uniform(0, 1, (2, 10, 14, 3))
    a = net.forward(x, taps=["conv1"])["conv1"]
    y, z = 4 if row is None else row, 6 if column is None else column
    found = values(net, [on.neuron("conv1", 2, row, column)] * 2, x)
    assert found == pytest.approx(a[:, y, z, 2], rel=1e-9)
    pointed = values(net, [on.direction("conv1", VECTOR, 1, row=y, column=z)] * 2, x)
    dots = a[:, y, z] @ VECTOR
    assert pointed == pytest.approx(
        dots * np.maximum(0.1, cosine(a[:, y, z], VECTOR, -1)), rel=1e-9
    )


def test_a_neuron_moves_with_the_size(net):
    """On a map of twice the size its place lies between four units; none is lost at an edge."""
    x = np.random.default_rng(1).uniform(0, 1, (1, 18, 18, 3))
    a = net.forward(x, taps=["conv1"])["conv1"][0, ..., 1]
    assert values(net, [on.neuron("conv1", 1, 3, 5)], x) == pytest.approx(
        [a[6:8, 10:12].mean()], rel=1e-9
    )
    small = np.random.default_rng(1).uniform(0, 1, (1, 6, 6, 3))
    corner = net.forward(small, taps=["conv1"])["conv1"][0, 0, 0, 1]
    assert values(net, [on.neuron("conv1", 1, 0, 0)], small) == pytest.approx([corner], rel=1e-9)


def test_the_value_of_diversity(net):
    x = small_pictures(4, 10)
    a = net.forward(x, taps=["bn1"])["bn1"].reshape(4, -1, 4)
    grams = [one.T @ one for one in a]
    first, second = on.diversity("bn1"), on.channel("conv1", 0) + 2 * on.diversity("bn1")
    found = values(net, [first, second, first, first], x)
    alike = lambda i, j: cosine(grams[i], grams[j])  # noqa: E731
    mean = net.forward(x, taps=["conv1"])["conv1"][1, ..., 0].mean()
    # Only pictures of one objective are held apart; one alone has nothing to differ from.
    assert found == pytest.approx(
        [
            -(alike(0, 2) + alike(0, 3)) / 3,
            mean,
            -(alike(2, 0) + alike(2, 3)) / 3,
            -(alike(3, 0) + alike(3, 2)) / 3,
        ],
        rel=1e-9,
    )


def test_the_value_of_alignment(net):
    x = small_pictures(5, 10)
    a = net.forward(x, taps=["conv1"])["conv1"].reshape(5, -1)
    apart = ((a[:, None] - a[None]) ** 2).mean(-1)
    found = values(net, [on.alignment("conv1", decay=3.0)] * 5, x)
    for i in range(5):
        near = [(j, abs(i - j)) for j in range(5) if 0 < abs(i - j) <= 3]
        wanted = -sum(0.5 * 3.0 ** -(d - 1) * apart[i, j] for j, d in near)
        assert found[i] == pytest.approx(wanted, rel=1e-9)


def test_different_objectives_in_one_batch_equal_singles(net):
    mixed = [
        on.channel("conv1", 2),
        on.neuron("conv1", 1, 0, 3),
        on.direction("bn1", VECTOR, 2),
        on.direction("bn1", -VECTOR, 2),
        on.spatial("bn1", PATTERN),
        # Another size of pattern, and one that would spread over it.
        on.spatial("bn1", PATTERN[:2, :3]),
        on.spatial("bn1", PATTERN[:1, :1]),
        on.caricature("conv2", PHOTO, 1.0),
        on.caricature("conv2", PHOTO[::-1], 1.0),
        on.inversion("conv2", PHOTO),
        on.layer("conv2") + 0.5 * on.class_logit(1),
    ]
    x = small_pictures(len(mixed), 10)
    together = values(net, mixed, x)
    for i, objective in enumerate(mixed):
        assert together[i] == pytest.approx(values(net, [objective], x[i : i + 1])[0], rel=1e-9)


def test_alignments_of_two_decays_do_not_mix(net):
    x = small_pictures(4, 10)
    slow, fast = on.alignment("conv1", 2.0), on.alignment("conv1", 4.0)
    mixed = values(net, [slow, slow, fast, fast], x)
    assert mixed[:2] == pytest.approx(values(net, [slow] * 2, x[:2]))
    assert mixed[2:] == pytest.approx(values(net, [fast] * 2, x[2:]))
