"""Measures of explanations against closed forms, on a linear network and the oracle."""

from __future__ import annotations

import numpy as np
import pytest
from core.linear_net import LinearNet

import cnnviz
from cnnviz.attribution import quality
from cnnviz.errors import InvalidOption
from cnnviz.testing import OracleAdapter, small_pictures


@pytest.fixture(scope="module")
def net():
    return LinearNet()


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(3).uniform(0.1, 1, (2, 4, 5, 3))


@pytest.fixture(scope="module")
def product(net, pictures):
    """Slope times pixel: on a linear network, what each number contributes over black."""
    return cnnviz.attribute(net, pictures, "gradient_x_input", [1, 2])


def closed_curve(net, x, b, order, target):
    """The linear score after each pixel of an order was replaced."""
    change = ((b - x) * net.slope(target)).sum(-1).ravel()[order]
    return net.score(x[None], target)[0] + np.concatenate([[0], np.cumsum(change)])


@pytest.mark.parametrize("name", ["deletion", "insertion"])
def test_curves_of_a_linear_network_are_sums(net, pictures, product, name):
    found = getattr(quality, name)(net, product, steps=20, baseline="white", score="logit", batch=8)
    white = np.ones_like(pictures)
    assert found.scores.shape == (2, 21)
    np.testing.assert_allclose(found.shares, np.linspace(0, 1, 21))
    for i, target in enumerate((1, 2)):
        x, b = (pictures[i], white[i]) if name == "deletion" else (white[i], pictures[i])
        order = np.argsort(-product.raw[i].ravel())
        wanted = closed_curve(net, x, b, order, target)
        np.testing.assert_allclose(found.scores[i], wanted, atol=1e-9)
        assert found.area[i] == pytest.approx((wanted[1:] + wanted[:-1]).mean() / 2)
        assert found.scores[i, 0] == pytest.approx(net.score(x[None], target)[0])
        assert found.scores[i, -1] == pytest.approx(net.score(b[None], target)[0])


def test_probabilities_by_default_and_uneven_steps(net, pictures, product):
    found = quality.deletion(net, product, steps=7)
    assert found.scores.min() >= 0
    assert found.scores.max() <= 1
    np.testing.assert_allclose(found.shares * 20, np.round(np.arange(8) * 20 / 7))
    assert found.area == pytest.approx(np.trapezoid(found.scores, found.shares))


def test_equal_pixels_go_row_by_row(net, pictures, product):
    flat = np.ones((2, 4, 5))
    found = quality.deletion(net, product, maps=flat, steps=20, score="logit")
    wanted = closed_curve(net, pictures[0], np.zeros((4, 5, 3)), np.arange(20), 1)
    np.testing.assert_allclose(found.scores[0], wanted, atol=1e-9)


def test_the_right_order_is_the_best(net, pictures, product):
    """No order has a lower deletion area on a linear network than its own contributions."""
    own = quality.deletion(net, product, steps=20, score="logit").area
    noise = quality.random_map(2, (4, 5), seed=5)
    other = quality.deletion(net, product, maps=noise, steps=20, score="logit").area
    assert (own < other).all()


def test_pixels_filled_in_solve_the_equations():
    rng = np.random.default_rng(0)
    picture, removed = rng.uniform(0, 1, (9, 7, 3)), rng.uniform(0, 1, (9, 7)) < 0.7
    index = {tuple(p): i for i, p in enumerate(np.argwhere(removed))}
    matrix, right = np.zeros((len(index), len(index))), np.zeros((len(index), 3))
    for (row, column), i in index.items():
        for down in (-1, 0, 1):
            for across in (-1, 0, 1):
                near = (row + down, column + across)
                if near == (row, column) or not (0 <= near[0] < 9 and 0 <= near[1] < 7):
                    continue
                weight = 1 / 12 if down and across else 1 / 6
                matrix[i, i] += weight
                if near in index:
                    matrix[i, index[near]] -= weight
                else:
                    right[i] += weight * picture[near]
    found = quality.imputed(picture, removed)
    np.testing.assert_allclose(found[removed], np.linalg.solve(matrix, right), atol=1e-4)
    np.testing.assert_array_equal(found[~removed], picture[~removed])
    # A ramp satisfies the equations inside of the picture, however wide the hole.
    ramp = np.broadcast_to(np.linspace(0, 1, 40)[None, :, None], (40, 40, 1))
    hole = np.zeros((40, 40), bool)
    hole[3:37, 3:37] = True
    np.testing.assert_allclose(quality.imputed(ramp, hole), ramp, atol=2e-3)
    np.testing.assert_array_equal(quality.imputed(picture, np.zeros((9, 7), bool)), picture)


def test_road(net, pictures, product):
    found = quality.road(net, product, percentiles=(20, 50), noise=0, score="logit")
    assert found.most.shape == found.least.shape == (2, 2)
    order = np.argsort(-product.raw[0].ravel())
    for column, count in enumerate((4, 10)):
        for scores, chosen in ((found.most, order[:count]), (found.least, order[-count:])):
            removed = np.isin(np.arange(20), chosen).reshape(4, 5)
            filled = quality.imputed(pictures[0], removed)
            assert scores[0, column] == pytest.approx(net.score(filled[None], 1)[0])
    np.testing.assert_allclose(found.most_drop, found.clean - found.most.mean(1))
    np.testing.assert_allclose(found.gap, (found.most_drop - found.least_drop) / 2)
    # The same map with its sign turned has the two orders exchanged.
    turned = quality.road(
        net, product, maps=-product.raw, percentiles=(20, 50), noise=0, score="logit"
    )
    np.testing.assert_allclose(turned.gap, -found.gap, atol=1e-9)
    noisy = quality.road(net, product, noise=0.1)
    assert (noisy.most != quality.road(net, product, noise=0.1, seed=1).most).all()


def test_average_drop_and_increase(net, pictures, product):
    half = quality.average_drop_increase(net, product, maps=np.full((2, 4, 5), 0.5))
    logits = np.stack([net.score(pictures, c) for c in range(3)], 1)
    halves = np.stack([net.score(pictures / 2, c) for c in range(3)], 1)

    def softmax(z):
        return np.exp(z) / np.exp(z).sum(1, keepdims=True)

    rows, classes = [0, 1], [1, 2]
    clean, kept = softmax(logits)[rows, classes], softmax(halves)[rows, classes]
    np.testing.assert_allclose(half.clean, clean)
    np.testing.assert_allclose(half.kept, kept)
    assert half.average_drop == pytest.approx(100 * np.mean(np.maximum(0, clean - kept) / clean))
    assert half.increase == pytest.approx(100 * np.mean(kept > clean))
    whole = quality.average_drop_increase(net, product, maps=np.ones((2, 4, 5)))
    assert whole.average_drop == whole.increase == 0
    with pytest.raises(InvalidOption, match=r"in \[0, 1\]"):
        quality.average_drop_increase(net, product, maps=np.full((2, 4, 5), 2.0))


def test_pointing_game_and_energy():
    maps = np.zeros((3, 10, 10))
    maps[0, 2, 3], maps[0, 8, 8] = 2, 1
    maps[1, 5, 5], maps[1, 0, 0] = 1, -4
    boxes = [(0, 0, 4, 4), (7, 7, 10, 10), (0, 0, 10, 10)]
    assert quality.pointing_game(maps, boxes, 0).tolist() == [True, False, False]
    # From (5, 5) to the corner of the box at (7, 7).
    assert quality.pointing_game(maps, boxes, 2.9).tolist() == [True, True, False]
    assert quality.pointing_game(maps, boxes, 2.8).tolist() == [True, False, False]
    np.testing.assert_allclose(quality.energy_pointing(maps, boxes), [2 / 3, 0, 0])
    mask = np.zeros((10, 10), bool)
    mask[8, 8] = True
    np.testing.assert_allclose(quality.energy_pointing(maps[:1], [mask]), [1 / 3])
    for wrong in ([(0, 0, 0, 4)], [(0, 0, 4, 11)], [np.zeros((10, 10), bool)], boxes, [(1, 2, 3)]):
        with pytest.raises(InvalidOption):
            quality.pointing_game(maps[:1], wrong)


def test_mosaics_lie_where_they_must():
    singles = np.arange(5)[:, None, None, None] / 4 * np.ones((5, 4, 6, 3))
    found = quality.mosaics(singles, [3, 1, 4, 1, 0])
    # Of five choices of four, those with both of the class 1 are left out.
    assert len(found) == 2 * 4
    assert found.pictures.shape == (8, 8, 12, 3)
    for picture, classes, sources in zip(found.pictures, found.classes, found.sources, strict=True):
        assert len(set(classes)) == 4
        corners = picture[:4, :6], picture[:4, 6:], picture[4:, :6], picture[4:, 6:]
        for corner, source, name in zip(corners, sources, classes, strict=True):
            np.testing.assert_allclose(corner, source / 4)
            assert [3, 1, 4, 1, 0][source] == name
    # Every picture of a set of four comes once into every cell.
    for column in found.sources[:4].T:
        assert len(set(column.tolist())) == 4
    assert len(quality.mosaics(singles, [3, 1, 4, 1, 0], placements="one")) == 2
    every = quality.mosaics(singles[:4], range(4), placements="all")
    assert len({tuple(four) for four in every.sources.tolist()}) == 24
    with pytest.raises(InvalidOption, match="rotations, all, one"):
        quality.mosaics(singles[:4], range(4), placements="some")
    few = quality.mosaics(singles, list(range(5)), count=7, seed=2)
    assert len(few) == 7
    assert len(np.unique(few.sources, axis=0)) == 7
    assert quality.mosaics(singles, list(range(5)), size=2).pictures.shape[1:3] == (4, 4)
    with pytest.raises(InvalidOption, match="four different"):
        quality.mosaics(singles, [0, 0, 0, 1, 2])


def test_shares_of_maps_that_are_known():
    perfect = np.zeros((1, 4, 6, 8))
    for k in range(4):
        perfect[0, k, k // 2 * 3 : k // 2 * 3 + 3, k % 2 * 4 : k % 2 * 4 + 4] = k + 1
    np.testing.assert_allclose(quality.grid_shares(perfect), 1)
    np.testing.assert_allclose(quality.grid_shares(perfect - 0.5), 1)
    np.testing.assert_allclose(quality.grid_shares(np.ones((2, 4, 6, 8))), 0.25)
    np.testing.assert_allclose(quality.grid_shares(-perfect), 0)
    centre = quality.centre_box(8, (6, 8)).reshape(2, 4, 6, 8)
    np.testing.assert_allclose(quality.grid_shares(centre), 0.25)
    assert quality.centre_box(1, (40, 60)).mean() == pytest.approx(0.25)
    assert quality.centre_box(1, (1, 2), 0.01).any()
    noise = quality.random_map(4 * 50, (16, 16), 4).reshape(50, 4, 16, 16)
    assert quality.grid_shares(noise).mean() == pytest.approx(0.25, abs=0.02)
    with pytest.raises(InvalidOption, match="even"):
        quality.grid_shares(np.ones((2, 4, 5, 8)))


def test_grid_pointing_sees_where_a_class_is():
    """Class k of this network is the sum of cell k, so slopes lie where they must."""
    net = LinearNet((6, 8), classes=4)
    kernel = np.zeros((6, 8, 3, 4))
    for k in range(4):
        kernel[k // 2 * 3 : k // 2 * 3 + 3, k % 2 * 4 : k % 2 * 4 + 4, :, k] = 1
    net.model["fc.kernel"] = kernel.reshape(-1, 4)
    singles = np.random.default_rng(0).uniform(0.1, 1, (4, 3, 4, 3))
    cells = quality.mosaics(singles, [0, 1, 2, 3], placements="one")
    found = quality.grid_pointing(net, cells, "gradient_x_input")
    np.testing.assert_allclose(found.shares, 1, atol=1e-6)
    assert (found.count, found.mean) == (4, pytest.approx(1, abs=1e-6))
    turned = quality.mosaics(singles, [1, 0, 2, 3], placements="one")
    found = quality.grid_pointing(net, turned, "gradient_x_input")
    np.testing.assert_allclose(found.shares, [[0, 0, 1, 1]], atol=1e-6)
    assert "0.500" in str(found)


def test_grid_pointing_of_a_layer_and_one_class_at_a_time():
    net = OracleAdapter()
    cells = quality.mosaics(small_pictures(4, 8), [0, 1, 2, 3], count=2)
    together = quality.grid_pointing(net, cells, "grad_cam", "pool")
    apart = quality.grid_pointing(net, cells, "grad_cam", "pool", together=False)
    np.testing.assert_allclose(together.shares, apart.shares, atol=1e-6)
    result = cnnviz.attribute(net, cells.pictures, "grad_cam", list(cells.classes), "pool", size=16)
    maps = cnnviz.images.enlarge(np.maximum(result.raw, 0), (16, 16)).reshape(2, 4, 16, 16)
    np.testing.assert_allclose(together.shares, quality.grid_shares(maps), atol=1e-6)


def test_sensitivity(net, pictures):
    """A slope of a linear network is a constant; slope times pixel changes by the noise."""
    constant = quality.sensitivity(net, pictures, "saliency", [1, 2], samples=3)
    np.testing.assert_allclose(constant, 0, atol=1e-6)
    found = quality.sensitivity(
        net, pictures / 2 + 0.2, "gradient_x_input", 1, samples=2, radius=0.1
    )
    x = pictures / 2 + 0.2
    raw = (x * net.slope(1)).sum(-1)
    worst = []
    for i in range(2):
        drawn = np.random.default_rng([0, i]).uniform(-0.1, 0.1, x.shape[1:])
        worst.append(np.linalg.norm((drawn * net.slope(1)).sum(-1)))
    wanted = max(worst) / np.linalg.norm(raw.reshape(2, -1), axis=1)
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_sensitivity_holds_the_class(net):
    """Between two classes of one score the picture keeps the first."""
    even = LinearNet()
    even.model["fc.kernel"] = even.model["fc.kernel"] * 1e-6
    even.model["fc.bias"] = np.zeros(3)
    found = quality.sensitivity(even, np.full((1, 4, 5, 3), 0.5), "saliency", samples=5)
    np.testing.assert_allclose(found, 0, atol=1e-3)
    two = quality.sensitivity(net, np.full((1, 4, 5, 3), 0.5), "saliency", [(0, 1)], samples=2)
    assert two.shape == (2,)


@pytest.mark.parametrize("perturbation", ["square", "gaussian"])
def test_infidelity_of_a_linear_network_is_zero(net, pictures, product, perturbation):
    for scaled in (True, False):
        found = quality.infidelity(
            net, product, perturbation=perturbation, scaled=scaled, samples=20
        )
        np.testing.assert_allclose(found.values, 0, atol=1e-12)
        np.testing.assert_allclose(found.factor, 1, rtol=1e-6)
        assert (found.change > 1e-3).all()
    slope = cnnviz.attribute(net, pictures, "saliency", [1, 2])
    found = quality.infidelity(net, slope, perturbation=perturbation, scaled=False, samples=20)
    np.testing.assert_allclose(found.values, 0, atol=1e-12)


def test_infidelity_knows_maps_but_for_their_scale(net, product):
    from dataclasses import replace

    twice = replace(product, values=None, raw=product.raw * 2)
    found = quality.infidelity(net, twice, samples=20)
    np.testing.assert_allclose(found.values, 0, atol=1e-12)
    np.testing.assert_allclose(found.factor, 0.5, rtol=1e-6)
    plain = quality.infidelity(net, twice, samples=20, scaled=False)
    np.testing.assert_allclose(plain.values, plain.change, rtol=1e-6)
    np.testing.assert_allclose(plain.share, 1, rtol=1e-6)
    noise = replace(product, values=None, raw=np.random.default_rng(0).normal(size=(2, 4, 5)))
    assert (quality.infidelity(net, noise, samples=50).share > 0.3).all()
    with pytest.raises(InvalidOption, match="not for each channel"):
        quality.infidelity(net, twice, perturbation="gaussian")


def test_completeness(net, pictures):
    ig = cnnviz.attribute(net, pictures, "integrated_gradients", 1, baseline="white", steps=2)
    found = quality.completeness(net, ig, baseline="white")
    np.testing.assert_allclose(found, 0, atol=1e-6)
    assert (quality.completeness(net, ig, baseline="black") > 1e-2).all()


def test_what_was_explained_must_be_known(net, pictures):
    def first(scores):
        return scores[:, 0]

    found = cnnviz.attribute(net, pictures, "saliency", first)
    with pytest.raises(InvalidOption, match="no class"):
        quality.deletion(net, found)
    by_hand = quality.deletion(net, found, target=first, steps=4)
    assert by_hand.scores[:, 0] == pytest.approx(net.score(pictures, 0))
    for wrong in ({"steps": 0}, {"steps": 21}, {"maps": np.ones((1, 4, 5))}, {"baseline": "red"}):
        with pytest.raises(InvalidOption):
            quality.deletion(net, found, target=first, **wrong)


def test_explain_tells_it_on_its_cards(net, pictures):
    checks = ("deletion", "insertion", "drop", "road", "infidelity", "completeness")
    found = quality.explain(
        net, pictures, "gradient_x_input", [1, 2], checks=("deletion", "drop", "road")
    )
    plain = cnnviz.attribute(net, pictures, "gradient_x_input", [1, 2])
    np.testing.assert_array_equal(found.raw, plain.raw)
    assert "drop" in str(found.cards[0])
    assert found.cards[1].facts["deletion"] == found.facts["deletion"][1]
    with pytest.raises(InvalidOption, match="'deletion'"):
        quality.explain(net, pictures, checks=("delete",))
    oracle = quality.explain(
        OracleAdapter(), small_pictures(), "grad_cam", cnnviz.top(2), checks=checks
    )
    assert set(oracle.cards[3].facts) == set(checks)


def test_a_map_does_not_depend_on_the_batch(net, product):
    for name in ("deletion", "road", "average_drop_increase"):
        one, many = (
            getattr(quality, name)(net, product, batch=b, **k)
            for b, k in (
                (1, {"steps": 5} if name == "deletion" else {}),
                (16, {"steps": 5} if name == "deletion" else {}),
            )
        )
        for a, b in zip(vars(one).values(), vars(many).values(), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-12)


def test_a_size_that_a_network_was_trained_at_does_not_bind_the_mosaics():
    class Trained(OracleAdapter):
        input_shape = (10, 10, 3)

    made = quality.mosaics(list(small_pictures(4)), [0, 1, 2, 3], size=8)
    found = quality.grid_pointing(Trained(), made)
    plain = quality.grid_pointing(OracleAdapter(), made)
    np.testing.assert_allclose(found.shares, plain.shares)
