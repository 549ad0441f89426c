"""Tokens, signals, volumes and dense scores, on small networks in numpy against closed forms."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import cnnviz
from cnnviz.adapter import LOGITS, Layer
from cnnviz.ascent.objectives import BatchScore
from cnnviz.attribution import Attribution
from cnnviz.errors import InvalidImage, InvalidOption
from cnnviz.fields import Window
from cnnviz.layers import last_spatial
from cnnviz.preprocessing import PRESETS, Preprocessing
from cnnviz.testing import OracleAdapter

Array = NDArray[Any]
Step = tuple[Layer, Callable[[Array], Array]]
KERNEL = np.random.default_rng(3).normal(0, 1, (4, 5))


class Graph(OracleAdapter):
    """A network of steps that are given, for inputs of one shape."""

    def __init__(
        self,
        shape: tuple[int, ...],
        steps: Sequence[Step],
        preprocessing: Preprocessing | None = PRESETS["identity"],
    ) -> None:
        super().__init__(preprocessing=preprocessing, step=1e-4)
        self.model = {"fc.kernel": KERNEL}
        self.shape = shape
        self._graph = [(layer.name, layer.kind, function) for layer, function in steps]
        self._layers = [layer for layer, _ in steps]
        self.listed_size = shape[:-1]

    @property
    def input_shape(self) -> Any:
        return self.shape

    def layers(self) -> Sequence[Layer]:
        return self._layers


def step(name: str, kind: str, shape: tuple[int, ...], function: Any, **more: Any) -> Step:
    return Layer(name, kind, (None, *shape), 20 if name == "fc" else 0, **more), function


def patches(x: Array) -> Array:
    """Make 2 x 3 places of a picture of 8 x 12, four numbers each."""
    blocks = x.reshape(len(x), 2, 4, 3, 4, 3).mean(axis=(2, 4))
    return np.concatenate([blocks, blocks.prod(-1, keepdims=True) * 3], axis=-1) - 0.3


def with_class_token(x: Array) -> Array:
    tokens = x.reshape(len(x), 6, 4)
    return np.concatenate([np.full((len(x), 1, 4), 0.25), tokens, tokens[:, :1] * 0 + 9], axis=1)


def dense(x: Array) -> Array:
    return x @ KERNEL


# One token for the class before the grid of 2 x 3, and a register behind it.
TOKENS: dict[str, Any] = {"grid": (2, 3), "class_tokens": 1}
FIRST: list[Step] = [
    step("patch", "Conv2d", (2, 3, 4), patches),
    step("embed", "Concatenate", (8, 4), with_class_token, **TOKENS),
    step("norm1", "LayerNorm", (8, 4), lambda x: x * 2, **TOKENS),
]


def vit() -> Graph:
    """Make a transformer whose score is read off the class token after one mixing."""
    return Graph(
        (8, 12, 3),
        [
            *FIRST,
            step("mixed", "Attention", (8, 4), lambda x: x + np.tanh(x).mean(1)[:, None], **TOKENS),
            step("norm", "LayerNorm", (8, 4), lambda x: x * 0.5, **TOKENS),
            step("head.pick", "Select", (4,), lambda x: x[:, 0]),
            step("fc", "Dense", (5,), dense),
        ],
    )


def averaged() -> Graph:
    """Make one whose score is the mean over the tokens of the grid."""
    return Graph(
        (8, 12, 3),
        [
            *FIRST,
            step("mean", "Mean", (4,), lambda x: x[:, 1:7].mean(1)),
            step("fc", "Dense", (5,), dense),
        ],
    )


def segmenter() -> Graph:
    """Make one that scores every place."""
    return Graph(
        (8, 12, 3),
        [step("patch", "Conv2d", (2, 3, 4), patches), step("score", "Conv2d", (2, 3, 5), dense)],
    )


def on_line(x: Array) -> Array:
    pairs = x.reshape(len(x), 6, 2, 2)
    return np.concatenate([pairs.mean(2), pairs.max(2)], axis=-1)


def in_volume(x: Array) -> Array:
    blocks = x.reshape(len(x), 2, 2, 3, 2, 4, 2, 1)
    return np.concatenate(
        [
            blocks.mean((2, 4, 6)),
            blocks.max((2, 4, 6)),
            blocks.min((2, 4, 6)),
            blocks.sum((2, 4, 6)),
        ],
        axis=-1,
    )


def signals() -> Graph:
    return Graph(
        (12, 2),
        [
            step("conv", "Conv1d", (6, 4), on_line, grid=(6,), field=Window((2.0,), (2.0,))),
            step("mean", "Mean", (4,), lambda x: x.mean(1)),
            step("fc", "Dense", (5,), dense),
        ],
    )


def volumes() -> Graph:
    return Graph(
        (4, 6, 8, 1),
        [
            step("conv", "Conv3d", (2, 3, 4, 4), in_volume, grid=(2, 3, 4)),
            step("mean", "Mean", (4,), lambda x: x.mean((1, 2, 3))),
            step("fc", "Dense", (5,), dense),
        ],
    )


def noise(net: Graph, count: int = 2) -> Array:
    return np.random.default_rng(5).uniform(0, 1, (count, *net.shape))


def test_tokens_that_do_not_lead_to_the_score_are_not_taken() -> None:
    net = vit()
    assert last_spatial(net).name == "norm1"
    found = cnnviz.grad_cam(net, noise(net), 1)
    assert found.layer == "norm1"
    assert any("'norm1'" in note for note in found.notes)
    assert np.ptp(found.raw[0]) > 0


def test_the_default_does_not_change_from_call_to_call() -> None:
    net = vit()
    first = last_spatial(net)
    ran = len(net.evaluations)
    assert last_spatial(net) == first
    assert len(net.evaluations) == ran


def test_a_head_at_zero_is_asked_again_once_it_is_trained() -> None:
    head = np.zeros_like(KERNEL)
    steps = [*steps_of(vit())[:-1], step("fc", "Dense", (5,), lambda x: x @ head)]
    net = Graph((8, 12, 3), steps)
    assert last_spatial(net).name == "norm"
    head += KERNEL
    assert last_spatial(net).name == "norm1"


def test_what_a_backend_says_not_to_lead_to_the_score_is_skipped() -> None:
    net = segmenter()
    side = Layer("aux", "Conv2d", (None, 2, 3, 4), 0, leads_to_score=False)
    net._layers = [replace(layer, leads_to_score=True) for layer in net._layers] + [side]
    assert last_spatial(net).name == "score"
    assert not net.evaluations


def test_without_preprocessing_the_last_layer_is_taken_unseen() -> None:
    net = Graph((8, 12, 3), steps_of(segmenter()), None)
    assert last_spatial(net).name == "score"
    assert not net.evaluations


def steps_of(net: Graph) -> list[Step]:
    return [
        (layer, function) for layer, (_, _, function) in zip(net._layers, net._graph, strict=True)
    ]


def test_grad_cam_of_tokens_is_that_of_their_grid() -> None:
    net = averaged()
    x = noise(net)
    places = patches(x) * 2
    found = cnnviz.grad_cam(net, x, [0, 3], "norm1")
    wanted = np.einsum("nhwk,kn->nhw", places, KERNEL[:, [0, 3]])
    np.testing.assert_allclose(found.raw, wanted / 6, atol=1e-7)
    assert found.map.shape == (2, 8, 12)
    np.testing.assert_allclose(cnnviz.cam(net, x, [0, 3], "norm1").raw, wanted, atol=1e-12)


def test_features_of_tokens_are_drawn_on_their_grid() -> None:
    net = vit()
    x = noise(net)
    found = cnnviz.feature_maps(net, x, "norm")
    np.testing.assert_array_equal(found["norm"], net.forward(x, taps=["norm"])["norm"])
    tokens = found["norm"][:, 1:7].reshape(2, 2, 3, 4)
    plain = cnnviz.FeatureMaps({"norm": tokens}, x)
    np.testing.assert_array_equal(found.sheet(), plain.sheet())
    # The class token and the register count in the numbers, as every other activation does.
    np.testing.assert_allclose(found.profile().values, found["norm"].mean((0, 1)))


def test_the_default_of_features_is_said() -> None:
    net = vit()
    found = cnnviz.feature_maps(net, noise(net))
    assert found.layers == ("norm1",)
    assert any("'norm1'" in note for note in found.notes)


def test_a_channel_of_tokens_is_its_mean_over_the_grid() -> None:
    net = vit()
    x = noise(net)
    score, weights = BatchScore.of(net, cnnviz.ascent.objectives.as_objectives(["norm:2"] * 2))
    seen = net.forward(x, taps=score.taps)
    np.testing.assert_allclose(score(seen, *weights), seen["norm"][:, 1:7, 2].mean(1))


def test_dense_scores_count_by_their_mean() -> None:
    net = segmenter()
    x = noise(net)
    everywhere = patches(x) @ KERNEL
    means = everywhere.mean((1, 2))
    found = cnnviz.grad_cam(net, x, None, "patch")
    assert found.target == tuple(means.argmax(1))
    np.testing.assert_allclose(found.score, means.max(1))
    wanted = np.take_along_axis(everywhere, means.argmax(1)[:, None, None, None], -1)[..., 0]
    np.testing.assert_allclose(found.raw, wanted / 6, atol=1e-7)
    assert any("mean over 2 x 3 places" in note for note in found.notes)
    score, weights = BatchScore.of(net, cnnviz.ascent.objectives.as_objectives(["class:1"] * 2))
    np.testing.assert_allclose(score({LOGITS: everywhere}, *weights), means[:, 1])


def line(values: Array, count: int) -> Array:
    """Interpolate numbers at the middles of equal parts of a line; beyond the ends they stay."""
    parts = len(values)
    return np.interp((np.arange(count) + 0.5) / count, (np.arange(parts) + 0.5) / parts, values)


def unit(raw: Array, size: tuple[int, ...]) -> Array:
    for axis, side in enumerate(size):
        raw = np.apply_along_axis(line, axis, raw, side)
    return raw / (raw.max() or 1)


@pytest.mark.parametrize("make", [signals, volumes])
@pytest.mark.parametrize("method", ["grad_cam", "cam"])
def test_signals_and_volumes_have_maps(make: Callable[[], Graph], method: str) -> None:
    net = make()
    x = noise(net) * 40 - 20
    conv = net.forward(x, taps=["conv"])["conv"]
    found = cnnviz.attribute(net, x, method, [1, 4])
    wanted = np.einsum("n...k,kn->n...", conv, KERNEL[:, [1, 4]])
    scale = conv[0, ..., 0].size if method == "grad_cam" else 1
    np.testing.assert_allclose(found.raw, wanted / scale, rtol=1e-5, atol=1e-6)
    for raw, heat in zip(found.raw, found.map, strict=True):
        np.testing.assert_allclose(heat, unit(np.maximum(raw, 0), net.shape[:-1]), atol=1e-12)
    np.testing.assert_array_equal(found.images, x)


@pytest.mark.parametrize("make", [signals, volumes])
def test_signals_and_volumes_are_drawn_and_kept(make: Callable[[], Graph], tmp_path: Path) -> None:
    net = make()
    found = cnnviz.grad_cam(net, noise(net), 0)
    assert found._repr_png_()[:4] == b"\x89PNG"
    with pytest.raises(InvalidOption, match=r"\.map"):
        found.overlay()
    with np.load(found.save(tmp_path / "maps.npz")) as kept:
        np.testing.assert_array_equal(kept["map"], found.map)
    maps = cnnviz.feature_maps(net, noise(net), "conv")
    assert maps["conv"].shape[1:-1] == net.layer("conv").spatial
    assert cnnviz.figures.figure_png(maps.plot())[:4] == b"\x89PNG"


def test_one_signal_is_a_batch_of_one() -> None:
    net = signals()
    x = noise(net)
    both = cnnviz.grad_cam(net, x, 0).raw
    np.testing.assert_allclose(cnnviz.grad_cam(net, x[1], 0).raw, both[1:], atol=1e-9)
    np.testing.assert_array_equal(cnnviz.grad_cam(net, [x[0], x[1]], 0).raw, both)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ("song.wav", InvalidImage),
        (np.zeros((2, 12, 3)), InvalidImage),
        (np.zeros(12), InvalidImage),
        (np.zeros((1, 1, 12, 2)), InvalidImage),
        (np.zeros((0, 12, 2)), InvalidImage),
        (np.full((1, 12, 2), np.nan), InvalidImage),
        (np.zeros((12, 2), np.uint8), InvalidImage),
        ([], InvalidImage),
        ([np.zeros((12, 2)), np.zeros((10, 2))], InvalidImage),
    ],
)
def test_what_is_no_signal_is_told_in_one_line(given: Any, error: type[Exception]) -> None:
    with pytest.raises(error) as raised:
        cnnviz.grad_cam(signals(), given, 0)
    assert "\n" not in str(raised.value)


def test_there_is_no_picture_of_a_signal() -> None:
    with pytest.raises(InvalidOption, match=r"length.*pictures"):
        cnnviz.ascend(signals(), "conv:0", size=12, steps=1)


def test_windows_along_the_batch_are_refused_in_words() -> None:
    net = vit()
    net._layers = [
        replace(layer, rows=4) if layer.name == "norm" else layer for layer in net._layers
    ]
    with pytest.raises(InvalidOption, match=r"'norm'.*4.*windows"):
        cnnviz.grad_cam(net, noise(net), 0, "norm")


def bands(count: int, preprocessing: Preprocessing) -> Graph:
    return Graph(
        (8, 12, count),
        [
            step("conv", "Conv2d", (8, 12, 4), lambda x: x[..., :1] * [1, 2, 3, 4]),
            step("mean", "Mean", (4,), lambda x: x.mean((1, 2))),
            step("fc", "Dense", (5,), dense),
        ],
        preprocessing,
    )


@pytest.mark.parametrize("count", [1, 2, 4, 6, 13])
def test_pictures_may_have_any_number_of_channels(count: int, tmp_path: Path) -> None:
    net = bands(count, PRESETS["identity"])
    x = noise(net, 1)
    found: Attribution = cnnviz.cam(net, x, 0)
    np.testing.assert_array_equal(found.images, x)
    assert found.overlay().shape == (1, 8, 12, 3)
    assert found.save(tmp_path / "one.png").stat().st_size > 50
    assert found._repr_png_()[:4] == b"\x89PNG"
    said = any(f"mean of their {count} channels" in note for note in found.notes)
    assert said == (count not in (1, 3))
    made = cnnviz.ascend(net, "conv:0", size=8, steps=2, octaves=1)
    assert made.images.shape == (1, 8, 8, count)


@pytest.mark.parametrize("preset", ["imagenet", "caffe"])
def test_preprocessing_for_other_channels_is_refused_in_words(preset: str) -> None:
    net = bands(6, PRESETS[preset])
    with pytest.raises(InvalidOption, match=r"3 values.*6"):
        cnnviz.cam(net, noise(net), 0)


def test_the_table_shows_tokens_and_what_they_see() -> None:
    net = vit()
    net._layers[0] = replace(
        net._layers[0], field=Window((4.0, 4.0), (4.0, 4.0)), leads_to_score=True
    )
    net._layers[1] = replace(net._layers[1], field="all")
    table = cnnviz.layers(net)
    patch, embed, norm1 = table.to_json()[:3]
    assert (patch["receptive_field"], patch["leads_to_score"]) == ([4, 4], True)
    assert (embed["receptive_field"], norm1["receptive_field"]) == ("all", None)
    assert (embed["grid"], embed["class_tokens"]) == ([2, 3], 1)
    assert json.loads(json.dumps(table.to_json())) == table.to_json()
    rows = str(table).splitlines()
    assert "4 x 4" in rows[2]
    assert "? x 8 x 4" in rows[3]
    assert "2 x 3" in rows[3]
    assert "all" in rows[3]
    assert "2 x 3" in table._repr_html_()
