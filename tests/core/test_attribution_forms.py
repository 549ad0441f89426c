"""Every method of attribution that goes by slopes against a closed form, on the oracle alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import cnnviz
from cnnviz import objectives
from cnnviz.adapter import INPUT, LOGITS, Evaluation, Layer
from cnnviz.attribution import METHODS, cost
from cnnviz.attribution.before import last_before
from cnnviz.attribution.decomposition import first_component
from cnnviz.attribution.integrated import baseline_of
from cnnviz.attribution.task import Task
from cnnviz.errors import InvalidOption
from cnnviz.testing import OracleAdapter, small_pictures, small_weights

IDENTITY = cnnviz.Preprocessing((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), size=(10, 10))


class Linear(OracleAdapter):
    """Scores that are linear in the pixels."""

    def __init__(self, seed=0):
        super().__init__(preprocessing=IDENTITY)
        self.kernel = np.random.default_rng(seed).normal(0, 1, (300, 5))
        self._graph = [("score", "Dense", lambda x: x.reshape(len(x), -1) @ self.kernel)]

    def weight(self, target):
        return self.kernel[:, target].reshape(10, 10, 3)


@pytest.fixture(scope="module")
def net():
    return OracleAdapter()


@pytest.fixture(scope="module")
def maps(net):
    return net.forward(small_pictures(), taps=["relu:1", "pool", LOGITS])


def raw(net, method, target=1, layer="relu:1", **options):
    return cnnviz.attribute(net, small_pictures(), method, target, layer, **options).raw


def test_after_a_mean_and_a_dense_layer_the_slope_is_the_weight(net, maps):
    """Grad-CAM, HiResCAM and XGrad-CAM are then CAM over the area, place by place."""
    a, w = maps["relu:1"], net.model["fc.kernel"][:, 1] / 4
    wanted = a @ w
    for method in ("grad_cam", "hires_cam", "xgrad_cam", "shapley_cam"):
        np.testing.assert_allclose(raw(net, method), wanted, atol=1e-6, err_msg=method)
    for method in ("layer_cam", "elementwise"):
        np.testing.assert_allclose(raw(net, method), a @ np.maximum(w, 0), atol=1e-6)
    share = np.maximum(4 * w, 0) / (2 + a.sum((1, 2)) * w)
    pp = np.einsum("nhwc,nc->nhw", a, share)
    np.testing.assert_allclose(raw(net, "grad_cam_pp"), pp, atol=1e-6)
    bias = net.model["fc.bias"][1]
    np.testing.assert_allclose(
        raw(net, "hires_cam").sum((1, 2)), maps[LOGITS][:, 1] - bias, atol=1e-6
    )


def test_sums_in_the_middle(net):
    """XGrad-CAM and HiResCAM both sum to slope times activation."""
    run = net.gradient(
        lambda acts: acts[LOGITS][:, 1], small_pictures(), taps=[LOGITS, "pool"], wrt=["pool"]
    )
    product = run.gradients["pool"] * run.activations["pool"]
    wanted = product.sum((1, 2, 3))
    for method in ("xgrad_cam", "hires_cam"):
        np.testing.assert_allclose(raw(net, method, layer="pool").sum((1, 2)), wanted, atol=1e-6)
    np.testing.assert_allclose(
        raw(net, "elementwise", layer="pool"), np.maximum(product, 0).sum(-1), atol=1e-6
    )
    g, a = run.gradients["pool"], run.activations["pool"]
    layer_cam = raw(net, "layer_cam", layer="pool")
    np.testing.assert_allclose(layer_cam, (np.maximum(g, 0) * a).sum(-1), atol=1e-6)
    share = np.zeros_like(g)
    np.divide(
        g**2, 2 * g**2 + a.sum((1, 2), keepdims=True) * g**3, out=share, where=np.abs(g) > 1e-7
    )
    weights = (share * np.maximum(g, 0)).sum((1, 2), keepdims=True)
    np.testing.assert_allclose(
        raw(net, "grad_cam_pp", layer="pool"), (a * weights).sum(-1), atol=1e-5
    )


def test_smooth_without_noise_is_plain(net):
    wanted = raw(net, "grad_cam_pp", layer="pool")
    found = raw(net, "smooth_grad_cam_pp", layer="pool", samples=2, noise=0.0)
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    noisy = raw(net, "smooth_grad_cam_pp", layer="pool", samples=2, noise=0.3)
    assert not np.allclose(noisy, wanted)


def test_shapley_on_a_score_that_bends(net, maps):
    """For y = |s|^2 / 2 with s = W m + b: slope W s, curvature times activation W W' m."""
    w, b = net.model["fc.kernel"], net.model["fc.bias"]
    mean = maps["relu:1"].mean((1, 2))

    def energy(scores):
        return 0.5 * (scores * scores).sum(1)

    slope = (mean @ w + b) @ w.T / 4
    bend = mean @ w @ w.T / 4
    wanted = np.einsum("nhwc,nc->nhw", maps["relu:1"], slope - 0.5 * bend)
    found = cnnviz.attribute(net, small_pictures(), "shapley_cam", energy, "relu:1")
    np.testing.assert_allclose(found.raw, wanted, atol=1e-5)
    assert found.target == (None, None)
    assert found.names == ("energy", "energy")
    assert found.cards[0].score_kind == "function"


def test_finer_is_a_contrast(net, maps):
    """Grad-CAM is linear in the score: the map of a class less those of the closest."""
    logits = maps[LOGITS]
    found = cnnviz.attribute(net, small_pictures(), "finer_cam", 1, "pool", others=2, gamma=0.5)
    for i in range(2):
        apart = np.abs(logits[i] - logits[i, 1])
        apart[1] = np.inf
        first, second = np.argsort(apart)[:2]
        each = [raw(net, "grad_cam", int(c), "pool")[i] for c in (1, first, second)]
        np.testing.assert_allclose(found.raw[i], each[0] - 0.25 * (each[1] + each[2]), atol=1e-6)
    # The card tells the score of the class, not of the contrast.
    np.testing.assert_allclose(found.score, logits[:, 1])


def test_components():
    rng = np.random.default_rng(0)
    pattern, mix = rng.uniform(0, 1, (1, 4, 3)), rng.normal(0, 1, 6)
    x = pattern[..., None] * mix
    for centred in (False, True):
        found = first_component(x, centred)[0]
        assert abs(np.corrcoef(found.ravel(), pattern.ravel())[0, 1]) == pytest.approx(1)
    # Both ways round, and its sign does not hang on chance.
    for shape in ((2, 5, 5, 3), (2, 2, 2, 20)):
        y = rng.normal(0.3, 1, shape)
        flat = y.reshape(2, -1, shape[-1])
        for one, got in zip(flat, first_component(y), strict=True):
            u, s, _ = np.linalg.svd(one, full_matrices=False)
            line = u[:, 0] * s[0]
            np.testing.assert_allclose(np.abs(got.ravel()), np.abs(line), atol=1e-9)
            assert got.ravel() @ one.mean(1) >= 0
        np.testing.assert_array_equal(first_component(y), first_component(y.copy()))
    assert not first_component(np.zeros((1, 2, 2, 3))).any()


def test_eigen_cams_on_the_network(net, maps):
    np.testing.assert_allclose(raw(net, "eigen_cam", layer="pool"), first_component(maps["pool"]))
    run = net.gradient(
        lambda acts: acts[LOGITS][:, 1], small_pictures(), taps=[LOGITS, "pool"], wrt=["pool"]
    )
    product = run.gradients["pool"] * run.activations["pool"]
    found = raw(net, "eigen_grad_cam", layer="pool")
    np.testing.assert_allclose(found, first_component(product), atol=1e-5)


def test_full_grad_accounts_for_the_whole_score(net):
    """The network is linear between its ReLUs and poolings, so nothing is left over."""
    found = cnnviz.attribute(net, small_pictures(), "full_grad", [0, 3])
    np.testing.assert_allclose(found.facts["residue"], 0, atol=1e-6)
    assert (np.abs(found.score) > 0.1).all()
    assert found.raw.shape == (2, 10, 10)
    broken = OracleAdapter()
    broken.offsets = lambda: {k: v for k, v in OracleAdapter.offsets(broken).items() if k != "fc"}
    found = cnnviz.attribute(broken, small_pictures(), "full_grad", [0, 3])
    np.testing.assert_allclose(found.facts["residue"], broken.model["fc.bias"][[0, 3]], atol=1e-6)


def test_linear_scores_have_their_weights_for_slopes():
    net, x = Linear(), small_pictures()
    w = net.weight(2)
    plain = cnnviz.attribute(net, x, "saliency", 2)
    np.testing.assert_allclose(plain.values, np.stack([w, w]), atol=1e-7)
    np.testing.assert_allclose(plain.raw, np.abs(plain.values).max(-1))
    product = cnnviz.attribute(net, x, "gradient_x_input", 2)
    np.testing.assert_allclose(product.raw, (w * x).sum(-1), atol=1e-7)
    np.testing.assert_allclose(product.raw.sum((1, 2)), product.score, atol=1e-5)
    for method, wanted in (
        ("smoothgrad", w),
        ("smoothgrad_squared", w**2),
        ("vargrad", np.zeros_like(w)),
    ):
        found = cnnviz.attribute(net, x, method, 2, samples=3)
        np.testing.assert_allclose(found.values, np.stack([wanted, wanted]), atol=1e-6)


def test_smoothing_a_parabola():
    """E over noise of the slope of x'Qx/2 is Qx; its variance is that of noise times Q."""
    net, x = Linear(), small_pictures(1)

    def parabola(scores):
        return 0.5 * scores[:, 2] ** 2

    w = net.weight(2)
    found = cnnviz.attribute(net, x, "smoothgrad", parabola, samples=60, noise=0.1)
    wanted = float((x * w).sum()) * w
    sigma = 0.1 * (x.max() - x.min()) * np.linalg.norm(w)
    assert np.abs(found.values[0] - wanted).max() < 4 * sigma / np.sqrt(60) * np.abs(w).max()
    spread = cnnviz.attribute(net, x, "vargrad", parabola, samples=60, noise=0.1)
    np.testing.assert_allclose(spread.values[0], w**2 * sigma**2, rtol=0.6)
    # The noise of a picture is its own.
    both = cnnviz.attribute(net, small_pictures(), "smoothgrad", parabola, samples=5)
    alone = cnnviz.attribute(net, x, "smoothgrad", parabola, samples=5)
    np.testing.assert_allclose(both.values[:1], alone.values, atol=1e-6)


@pytest.mark.parametrize("baseline", ["black", "white", "mean", "blur", 0.25])
def test_integrated_gradients_of_a_linear_score_are_weight_times_way(baseline):
    net, x = Linear(), small_pictures()
    start = baseline_of(Task(net, x, 2), baseline)
    for steps in (1, 7, None):
        found = cnnviz.attribute(net, x, "integrated_gradients", 2, baseline=baseline, steps=steps)
        np.testing.assert_allclose(found.values, net.weight(2) * (x - start), atol=1e-6)
        np.testing.assert_allclose(found.facts["residue"], 0, atol=1e-5)


def test_gauss_is_exact_on_polynomials():
    net, x = Linear(), small_pictures(1)

    def quintic(scores):
        return scores[:, 2] ** 5 / 100

    exact = cnnviz.attribute(net, x, "integrated_gradients", quintic, steps=3)
    assert abs(exact.facts["residue"][0]) < 1e-6 * abs(exact.score[0])
    rough = cnnviz.attribute(net, x, "integrated_gradients", quintic, steps=2)
    assert abs(rough.facts["residue"][0]) > 1e-3 * abs(rough.score[0])


def test_integrated_gradients_refine_themselves(net):
    x = small_pictures(1, side=8)
    found = cnnviz.attribute(net, x, "integrated_gradients", 1, size=8, tolerance=0.06)
    change = found.score[0] - net.forward(np.zeros_like(x), taps=[LOGITS])[LOGITS][0, 1]
    assert abs(found.facts["residue"][0]) <= 0.06 * abs(change)
    share = abs(found.facts["residue"][0] / change)
    assert found.facts["residue_share"][0] == pytest.approx(share)
    assert found.values.sum() == pytest.approx(change - found.facts["residue"][0])
    coarse = cnnviz.attribute(net, x, "integrated_gradients", 1, size=8, tolerance=0.3)
    assert coarse.facts["steps"][0] <= found.facts["steps"][0]


def test_rules_agree_where_all_is_positive():
    weights = {k: np.abs(v) for k, v in small_weights().items()}
    weights["bn1.mean"] = -weights["bn1.mean"]
    net = OracleAdapter(weights, preprocessing=IDENTITY)
    wanted = cnnviz.attribute(net, small_pictures(), "saliency", 1).values
    for method in ("guided_backprop", "deconvnet"):
        found = cnnviz.attribute(net, small_pictures(), method, 1).values
        np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_guided_grad_cam_is_a_product(net):
    found = cnnviz.attribute(net, small_pictures(), "guided_grad_cam", 1)
    guided = cnnviz.attribute(net, small_pictures(), "guided_backprop", 1)
    heat = cnnviz.grad_cam(net, small_pictures(), 1)
    enlarged = cnnviz.images.enlarge(np.maximum(heat.raw, 0), (10, 10))
    np.testing.assert_allclose(found.values, guided.values * enlarged[..., None], atol=1e-9)
    assert found.layer == "relu:1"


FAST = {
    "smooth_grad_cam_pp": {"samples": 2},
    "smoothgrad": {"samples": 2},
    "smoothgrad_squared": {"samples": 2},
    "vargrad": {"samples": 2},
    "integrated_gradients": {"steps": 2},
}
BY_SLOPES = [
    name
    for name, method in METHODS.items()
    if getattr(method.run, "func", method.run).__module__.rpartition(".")[2]
    not in ("masking", "ablation", "perturbation")
]


@pytest.mark.parametrize("method", BY_SLOPES)
def test_a_picture_does_not_depend_on_its_neighbours(net, method):
    options = FAST.get(method, {})
    both = cnnviz.attribute(net, small_pictures(3), method, [0, 1, 2], batch=2, **options)
    for i in range(3):
        one = cnnviz.attribute(net, small_pictures(3)[i : i + 1], method, i, **options)
        np.testing.assert_allclose(both.raw[i], one.raw[0], atol=2e-5, rtol=1e-5)
        assert one.cards[0].score == pytest.approx(both.cards[i].score)


@pytest.mark.parametrize("method", sorted(set(BY_SLOPES) - {"shapley_cam"}))
def test_several_classes_at_once_are_what_each_is_alone(net, method):
    options = FAST.get(method, {})
    found = cnnviz.attribute(net, small_pictures(), method, [(0, 2), (1, 0)], **options)
    assert found.target == (0, 2, 1, 0)
    assert found.images.shape[0] == found.map.shape[0] == 4
    for k, targets in enumerate(([0, 1], [2, 0])):
        alone = cnnviz.attribute(net, small_pictures(), method, targets, **options)
        np.testing.assert_allclose(found.raw[k::2], alone.raw, atol=2e-5, rtol=1e-5)
        np.testing.assert_allclose(found.score[k::2], alone.score)
    with pytest.raises(InvalidOption, match="as many classes"):
        cnnviz.attribute(net, small_pictures(), method, [(0, 2), (1,)], **options)


def test_the_highest_classes(net, maps):
    found = cnnviz.attribute(net, small_pictures(), "grad_cam", cnnviz.top(2))
    order = np.argsort(-maps[LOGITS], axis=1)[:, :2]
    assert found.target == tuple(order.ravel())
    with pytest.raises(InvalidOption, match="from 1 on"):
        cnnviz.top(0)
    with pytest.raises(InvalidOption, match="5 classes"):
        cnnviz.attribute(net, small_pictures(), "grad_cam", cnnviz.top(6))


def test_objectives_are_explained(net):
    one, two = (raw(net, "grad_cam", c, "pool") for c in (1, 3))
    contrast = objectives.class_logit(1) - objectives.class_logit(3)
    found = cnnviz.attribute(net, small_pictures(), "grad_cam", contrast, "pool")
    np.testing.assert_allclose(found.raw, one - two, atol=1e-6)
    assert found.names[0] == str(contrast)
    unit = objectives.neuron("conv2", 3, 0, 1)
    found = cnnviz.attribute(net, small_pictures(), "hires_cam", unit, "pool")
    np.testing.assert_allclose(
        found.score, net.forward(small_pictures(), taps=["conv2"])["conv2"][:, 0, 1, 3]
    )
    with pytest.raises(InvalidOption, match="'relu:1' comes after 'conv2'"):
        cnnviz.attribute(net, small_pictures(), "hires_cam", unit, "relu:1")


class Apart(OracleAdapter):
    """What comes after does not depend on the first ReLU."""

    def gradient(self, *given, wrt=(INPUT,), **more):
        found = super().gradient(*given, wrt=wrt, **more)
        none = {"relu:0": found.gradients["relu:0"] * 0} if "relu:0" in found.gradients else {}
        return replace(found, gradients={**found.gradients, **none})


@pytest.mark.parametrize("method", ["grad_cam", "guided_grad_cam", "refine_cam", "score_cam"])
def test_the_layer_is_by_default_before_what_is_explained(net, method):
    unit = objectives.channel("conv2", 3)
    found = cnnviz.attribute(net, small_pictures(), method, unit)
    assert found.layer == "relu:0"
    # A pooling is passed over, as it is where class scores are explained.
    named = cnnviz.attribute(net, small_pictures(), method, unit, "relu:0")
    np.testing.assert_array_equal(found.raw, named.raw)
    assert method == "refine_cam" or "before 'conv2'" in found.notes[0]
    told, wanted = (cost(net, small_pictures(), method, unit, at) for at in (None, "relu:0"))
    assert told == wanted
    late = cnnviz.attribute(net, small_pictures(), method, objectives.channel("relu:1", 3))
    assert late.layer.endswith("conv2")
    assert cnnviz.attribute(net, small_pictures(), method, 1).layer.endswith("relu:1")
    assert cnnviz.attribute(Apart(), small_pictures(), method, unit).layer == "bn1"
    first = objectives.channel("conv1", 0)
    for run in (cnnviz.attribute, cost):
        with pytest.raises(InvalidOption, match="no layer with height and width leads to 'conv1'"):
            run(net, small_pictures(), method, first)


def test_what_is_before_a_block_is_not_within_it():
    def block(name, kind):
        return Layer(name, kind, (None, 4, 4, 2), 0, leaf=kind == "Conv")

    names = ("stem", "blocks.0.conv", "blocks.0", "blocks.1.conv", "blocks.1.mlp", "blocks.1")
    net = OracleAdapter()
    table = [block(name, "Conv" if "conv" in name or name == "stem" else "Block") for name in names]
    table.append(block("blocks", "Sequential"))
    net.layers = lambda: table

    def gradient(score, x, *, taps, wrt):
        return Evaluation(np.zeros(1), {}, {name: np.ones((1, 4, 4, 2)) for name in wrt})

    net.gradient = gradient
    for at, wanted in (
        ("blocks", "blocks.0"),
        ("blocks.1", "blocks.0"),
        ("blocks.1.conv", "blocks.0"),
        ("blocks.1.mlp", "blocks.1.conv"),
        ("blocks.0", "stem"),
    ):
        explained = next(layer for layer in table if layer.name == at)
        assert last_before(net, explained, (4, 4)).name == wanted, at


def test_probabilities_are_explained(net, maps):
    power = np.exp(maps[LOGITS] - maps[LOGITS].max(1, keepdims=True))
    share = power / power.sum(1, keepdims=True)
    found = cnnviz.attribute(net, small_pictures(), "saliency", 1, score="probability")
    np.testing.assert_allclose(found.score, share[:, 1])
    slope = net.gradient(
        lambda acts: (np.exp(acts[LOGITS]) / np.exp(acts[LOGITS]).sum(1, keepdims=True))[:, 1],
        small_pictures(),
        taps=[LOGITS],
    ).gradients[INPUT]
    np.testing.assert_allclose(found.values, slope, atol=1e-7)
    with pytest.raises(InvalidOption, match="'logit' or 'probability'"):
        cnnviz.attribute(net, small_pictures(), "saliency", 1, score="odds")


def test_several_layers_are_fused(net):
    layers = ["pool", "relu:1"]
    each = np.stack(
        [cnnviz.attribute(net, small_pictures(), "layer_cam", 1, one).map for one in layers]
    )
    for how, wanted in (
        ("mean", each.mean(0)),
        ("max", each.max(0)),
        ("product", each.prod(0)),
        ("tanh", np.tanh(2 * each).max(0)),
    ):
        found = cnnviz.attribute(net, small_pictures(), "layer_cam", 1, layers, fuse=how)
        np.testing.assert_allclose(found.raw, wanted, atol=1e-6)
        assert found.layer == "pool + relu:1"
        note = f"2 layers fused by {how}, each cut at zero and scaled to its maximum"
        assert note in found.notes
        (card, _) = found.cards
        assert f"fused by {how}" in str(card)
        assert "below zero" not in str(card)
        assert card.to_json()["fuse"] == how
    alone = cnnviz.attribute(net, small_pictures(), "layer_cam", 1, ["pool"], fuse="max")
    assert alone.cards[0].fuse == ""
    assert not [note for note in alone.notes if "fused" in note]
    with pytest.raises(InvalidOption, match="'product'"):
        cnnviz.attribute(net, small_pictures(), "layer_cam", 1, layers, fuse="sum")
    with pytest.raises(InvalidOption, match="empty list"):
        cnnviz.attribute(net, small_pictures(), "layer_cam", 1, [])
    with pytest.raises(InvalidOption, match="at one layer"):
        cnnviz.attribute(net, small_pictures(), "cam", 1, layers)


def test_work_is_counted(net):
    found = cnnviz.grad_cam(net, small_pictures(), 1)
    assert (found.forwards, found.backwards) == (2, 2)
    found = cnnviz.attribute(net, small_pictures(), "grad_cam", [(0, 1, 2)] * 2)
    assert (found.forwards, found.backwards) == (2, 6)
    found = cnnviz.attribute(net, small_pictures(), "integrated_gradients", 1, steps=4)
    # Four along the way, both its ends, and the pictures once.
    assert found.backwards == 8
    assert found.forwards == 2 * 7


@pytest.mark.parametrize(
    ("method", "options", "text"),
    [
        ("saliency", {"layer": "pool"}, "leave the layer out"),
        ("saliency", {"samples": 3}, "takes none"),
        ("smoothgrad", {"sample": 3}, "'samples'"),
        ("smoothgrad", {"samples": 0}, "from 1 on"),
        ("smoothgrad", {"noise": -1}, "share of the range"),
        ("integrated_gradients", {"steps": 0}, "from 1 on"),
        ("integrated_gradients", {"tolerance": 0}, "above zero"),
        ("integrated_gradients", {"steps": 3, "tolerance": 0.1}, "give steps or tolerance"),
        ("integrated_gradients", {"baseline": "grey"}, "'black'"),
        ("integrated_gradients", {"baseline": np.zeros((3, 3))}, "does not fit"),
        ("finer_cam", {"others": 5}, r"1\.\.4"),
        ("finer_cam", {"base": "cam"}, "to refine"),
        ("grad_cam", {"target": lambda scores: scores}, "one number for each picture"),
        ("grad_cam", {"target": lambda scores: scores[:, 0] * 0}, "constant"),
        ("saliency", {"target": lambda scores: scores[:, 0] * 0}, "constant"),
        ("grad_cam", {"target": [(), ()]}, "nothing to explain"),
        ("grad_cam", {"target": 1.5}, "by index or name, .* not a float"),
        ("grad_cam", {"target": [1, objectives.class_logit(1)]}, "not an int and an Objective"),
        ("grad_cam", {"target": [(1, objectives.class_logit(1))] * 2}, "not an Objective"),
        ("saliency", {"fuse": "max"}, "taken at the picture"),
        ("cam", {"fuse": "max"}, "taken at one layer"),
        ("grad_cam", {"fuse": "sum"}, "'product'"),
    ],
)
def test_what_cannot_be_meant(net, method, options, text):
    target = options.pop("target", 1)
    with pytest.raises(InvalidOption, match=text) as raised:
        cnnviz.attribute(net, small_pictures(), method, target, **options)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("scale", ["own", "shared"])
def test_a_sheet_draws_each_method_on_each_network(net, scale):
    other = OracleAdapter(small_weights(3))
    sheet = cnnviz.attribution_sheet(
        {"a": net, "b": other}, small_pictures(), ["grad_cam", "saliency"], 1, scale=scale
    )
    tiles = sheet.tiles()
    assert [len(row) for row in tiles] == [3] * 4
    for k, tile in enumerate(tiles):
        label, i = "ab"[k % 2], k // 2
        np.testing.assert_array_equal(tile[0], small_pictures()[i])
        for column, method in enumerate(("grad_cam", "saliency"), 1):
            heat = sheet[label, method].heat()[i]
            if scale == "shared":
                tops = {one: max(sheet[one, method].raw[i].max(), 0) for one in "ab"}
                heat = heat * (tops[label] / max(tops.values()))
            wanted = cnnviz.images.overlay(small_pictures()[i], heat, 0.5)
            np.testing.assert_allclose(tile[column], wanted, atol=1e-12)
    assert sheet._repr_png_()[:4] == b"\x89PNG"
    with pytest.raises(InvalidOption, match="'own' or 'shared'"):
        cnnviz.attribution_sheet(net, small_pictures(), ["cam"], scale="both")
    with pytest.raises(InvalidOption, match="one method"):
        cnnviz.attribution_sheet(net, small_pictures(), [])
    for options, words in (
        ({"rise": {"masks": 4}}, "settings of 'rise', which is not on the sheet"),
        ({"cam": {"masks": 4}}, "no setting 'masks'"),
    ):
        with pytest.raises(InvalidOption, match=words):
            cnnviz.attribution_sheet(net, small_pictures(), ["cam"], options=options)
    at_pool = {"grad_cam": {"layer": "pool", "size": 10}}
    sheet = cnnviz.attribution_sheet(net, small_pictures(), ["grad_cam"], 1, options=at_pool)
    assert next(iter(sheet.attributions.values())).layer == "pool"


def test_results_are_short_in_words(net):
    found = cnnviz.attribute(net, small_pictures(), "grad_cam", [(0, 1, 2, 3)] * 2, "pool")
    names = "class 0, class 1, class 2, ..."
    assert repr(found) == f"<Attribution grad_cam at 'pool' of {names}: raw (8, 4, 4)>"
    sheet = cnnviz.attribution_sheet({"a": net}, small_pictures(), ["cam", "saliency"], 1)
    assert repr(sheet) == "<AttributionSheet cam, saliency of a: 2 maps each>"


def test_one_level_is_an_outline(net):
    found = cnnviz.cam(net, small_pictures(), 0)
    np.testing.assert_array_equal(found.contour(0.5), found.contour([0.5]))
    for levels in (2, [], ["half"], "0.5"):
        with pytest.raises(InvalidOption, match="levels are numbers"):
            found.contour(levels)


def test_one_picture_and_several_classes_are_told_apart(net):
    one = small_pictures(1)
    for target, words in (
        ((1, 2), r"2 targets for 1 picture; .*; \[\(1, 2\)\] explains both classes"),
        ([1, "2", 3, 4], r"\[\(1, '2', 3, \.\.\.\)\] explains all classes"),
    ):
        with pytest.raises(InvalidOption, match=words):
            cnnviz.grad_cam(net, one, target)
