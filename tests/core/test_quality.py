"""Cards and transfer: what is measured of a picture is what numpy measures."""

from __future__ import annotations

import numpy as np
import pytest

import cnnviz
from cnnviz.adapter import LOGITS
from cnnviz.ascent.quality import high_frequency_share
from cnnviz.errors import InvalidOption
from cnnviz.testing import OracleAdapter, small_pictures, small_weights

QUICK = {"size": 10, "octaves": 1, "steps": 3, "jitter": 0, "blur": 0, "transforms": ()}


@pytest.fixture(scope="module")
def net():
    return OracleAdapter()


def wave(frequency, size=64):
    """A wave along the rows, of so many cycles a pixel."""
    line = 0.5 + 0.4 * np.cos(2 * np.pi * frequency * np.arange(size))
    return np.repeat(np.repeat(line[None, :, None], size, 0), 3, 2)


@pytest.mark.parametrize(("frequency", "share"), [(0.05, 0), (0.2, 0), (0.3, 1), (0.45, 1)])
def test_a_wave_is_fine_or_coarse(frequency, share):
    assert high_frequency_share(wave(frequency)) == pytest.approx(share, abs=0.02)


def test_noise_has_what_lies_outside_a_circle():
    noise = np.random.default_rng(0).normal(0.5, 0.1, (256, 256))
    # Of the square of waves, the disc of a quarter cycle a pixel is pi / 16.
    assert high_frequency_share(noise) == pytest.approx(1 - np.pi / 16, abs=0.02)
    assert high_frequency_share(np.full((9, 9, 3), 0.4)) == 0


def test_cards(net):
    made = cnnviz.ascend(net, ["conv2:1", "class:2"], **QUICK)
    photos = small_pictures()
    cards = made.quality(photos, seeds=2)
    activations = net.forward(photos, taps=["conv2", LOGITS])
    assert cards[0].largest == pytest.approx(activations["conv2"][..., 1].mean((1, 2)).max())
    assert cards[1].largest == pytest.approx(activations[LOGITS][:, 2].max())
    for card, value, picture in zip(cards, made.clean, made.images, strict=True):
        assert card.clean == value
        assert card.high_frequency == high_frequency_share(picture)
        assert -1 <= card.agreement <= 1
    assert str(cards[0]).startswith("conv2:1: ")
    bare = made.quality()
    assert (bare[0].largest, bare[0].agreement) == (None, None)


def test_clean_is_the_objective_of_the_picture(net):
    made = cnnviz.ascend(net, ["conv2:1", "class:2"], **(QUICK | {"jitter": 2}))
    activations = net.forward(made.images.astype(float), taps=["conv2", LOGITS])
    wanted = [activations["conv2"][0, ..., 1].mean(), activations[LOGITS][1, 2]]
    np.testing.assert_allclose(made.clean, wanted)


def test_best_of_several_seeds(net):
    singles = [cnnviz.ascend(net, ["conv2:1", "class:2"], seed=s, **QUICK) for s in (5, 6, 7)]
    best = cnnviz.ascend(net, ["conv2:1", "class:2"], seed=5, best_of=3, **QUICK)
    rows = np.stack([one.clean for one in singles]).argmax(0)
    assert best.seeds == tuple(5 + rows)
    for column, row in enumerate(rows):
        np.testing.assert_allclose(best.images[column], singles[row].images[column], atol=1e-4)
        np.testing.assert_allclose(best.trace[:, column], singles[row].trace[:, column], atol=1e-4)


def test_transfer_ranks_the_class_asked_for(net):
    made = cnnviz.ascend(net, ["class:2", "class:0"], **QUICK)
    weights = small_weights()
    weights["fc.bias"] = weights["fc.bias"] + [0, 0, 0, 0, 1000]
    judge = OracleAdapter(weights)
    found = made.transfer(judge)
    scores = judge.forward(made.images.astype(float), taps=[LOGITS])[LOGITS]
    wanted = [1 + (scores[0] > scores[0, 2]).sum(), 1 + (scores[1] > scores[1, 0]).sum()]
    np.testing.assert_array_equal(found.ranks, wanted)
    assert min(wanted) >= 2
    assert found.names == ("class 4", "class 4")
    assert found.within(1) == 0
    assert found.within(5) == 2
    assert "0 of 2 in its top 1, 2 in its top 5" in str(found)


def test_transfer_matches_names_where_both_know_them(net):
    own, judge = OracleAdapter(), OracleAdapter()
    own.labels, judge.labels = list("abcde"), list("edcba")
    made = cnnviz.ascend(own, "class:a", **QUICK)
    assert made.transfer(judge).classes == (4,)


def test_transfer_of_what_has_no_class(net):
    made = cnnviz.ascend(net, "conv2:1", **QUICK)
    with pytest.raises(InvalidOption, match="asks for no class"):
        made.transfer(net)
