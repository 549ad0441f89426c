"""Feature maps of a network whose maps are known by hand: its input, shifted and clipped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cnnviz.adapter import INPUT, LOGITS, OUTPUT
from cnnviz.errors import (
    ChannelOutOfRange,
    InvalidImage,
    InvalidOption,
    UnknownLayer,
    UnknownPreprocessing,
)
from cnnviz.features import FeatureMaps, feature_maps
from cnnviz.pictures import picture_batch, picture_size
from cnnviz.preprocessing import PRESETS, Preprocessing
from cnnviz.testing import OracleAdapter, small_pictures, small_weights
from cnnviz.testing.small import BN_EPS


def passing() -> OracleAdapter:
    """conv1 passes the three colours on, without the border, and its fourth map is -1."""
    weights = small_weights()
    weights["conv1.kernel"][:] = 0
    weights["conv1.kernel"][1, 1, range(3), range(3)] = 1
    weights["conv1.bias"] = np.array([0.0, 0.0, 0.0, -1.0])
    weights["bn1.scale"] = np.full(4, np.sqrt(1 + BN_EPS))
    weights["bn1.offset"] = weights["bn1.mean"] = np.zeros(4)
    weights["bn1.variance"] = np.ones(4)
    return OracleAdapter(weights, preprocessing=PRESETS["identity"])


class Sized(OracleAdapter):
    """An oracle that says it takes pictures of one shape only."""

    def __init__(
        self, shape: tuple[int | None, int | None, int], preprocessing: Preprocessing | None
    ) -> None:
        super().__init__(preprocessing=preprocessing)
        self.shape = shape

    @property
    def input_shape(self) -> tuple[int | None, int | None, int]:
        return self.shape


def hand_made(*maps: Any) -> FeatureMaps:
    """One picture, one layer, of maps ``(C, h, w)``."""
    return FeatureMaps({"conv": np.moveaxis(np.array(maps, float), 0, -1)[None]}, small_pictures(1))


def test_the_maps_are_channels_last_and_what_the_layer_gave() -> None:
    x = small_pictures(3)
    found = feature_maps(passing(), x, ["relu:0", "conv1", INPUT, "fc", OUTPUT])
    assert list(found.maps) == ["relu:0", "conv1", INPUT, "fc", OUTPUT]
    assert found.layers == tuple(found.maps)
    np.testing.assert_allclose(found.maps["relu:0"][..., :3], x[:, 1:-1, 1:-1], rtol=1e-12)
    np.testing.assert_array_equal(found.maps["conv1"][..., 3], np.full((3, 8, 8), -1.0))
    np.testing.assert_array_equal(found.maps[INPUT], x)
    np.testing.assert_array_equal(found.images, x)
    assert found.maps["fc"].shape == (3, 5)
    np.testing.assert_array_equal(found.maps["fc"], found.maps[OUTPUT])


def test_one_layer_may_be_a_name_and_none_is_the_last_stage() -> None:
    x = small_pictures(1)
    assert list(feature_maps(OracleAdapter(), x, "conv2").maps) == ["conv2"]
    assert list(feature_maps(OracleAdapter(), x).maps) == ["relu:1"]
    # A layer called once answers to the number of its call too, by the name that was used.
    assert list(feature_maps(OracleAdapter(), x, "conv2:0").maps) == ["conv2:0"]
    assert feature_maps(OracleAdapter(softmax=True), x, LOGITS).maps[LOGITS].shape == (1, 5)


@pytest.mark.parametrize("batch", [1, 2, 5, 8])
def test_the_batch_changes_nothing_but_the_number_of_runs(batch: int) -> None:
    net, x = OracleAdapter(), small_pictures(5)
    whole = feature_maps(OracleAdapter(), x, ["conv1", "conv2"], batch=100)
    found = feature_maps(net, x, ["conv1", "conv2"], batch=batch)
    for layer in ("conv1", "conv2"):
        np.testing.assert_allclose(found[layer], whole[layer], rtol=1e-13, atol=1e-13)
    # One run a chunk for both layers, and none goes further than the deeper of them.
    runs = -(-5 // batch)
    assert net.evaluations == ["conv1", "bn1", "relu:0", "pool", "conv2"] * runs


def test_float64_stays() -> None:
    x = small_pictures(1)
    assert feature_maps(OracleAdapter(), x, "fc").images.dtype == np.float64
    assert picture_batch(OracleAdapter(), x.astype(np.float32)).dtype == np.float32


def test_the_profile_is_the_mean_over_pictures_and_places() -> None:
    x = np.zeros((2, 10, 10, 3))
    x[0] = [0.5, 0.25, 0.5]
    x[1] = [1.0, 0.25, 0.0]
    profile = feature_maps(passing(), x, "relu:0").profile()
    np.testing.assert_allclose(profile.values, [0.75, 0.25, 0.25, 0], rtol=1e-12)
    assert profile.values.dtype == np.float64
    assert [profile.rank(0), profile.rank(3)] == [1, 4]
    assert profile.strongest(1) == [0]
    assert profile.to_json()["layer"] == "relu:0"


def test_equal_channels_share_the_better_rank() -> None:
    profile = hand_made([[1]], [[2]], [[1]], [[0]]).profile("conv")
    assert [profile.rank(c) for c in range(4)] == [2, 1, 2, 4]
    assert profile.strongest(3) == [1, 0, 2]


def test_the_profile_of_a_vector_is_its_mean_over_pictures() -> None:
    found = feature_maps(OracleAdapter(), small_pictures(3), "fc")
    np.testing.assert_allclose(found.profile().values, found["fc"].mean(axis=0), rtol=1e-14)


@pytest.mark.parametrize("channel", [-1, 4])
def test_a_channel_out_of_range_says_the_range(channel: int) -> None:
    profile = feature_maps(OracleAdapter(), small_pictures(1), "conv1").profile()
    for use in (profile.rank, profile.plot):
        with pytest.raises(ChannelOutOfRange, match=rf"conv1 channel {channel} .* in 0\.\.3"):
            use(channel)
    with pytest.raises(ChannelOutOfRange, match=r"in 0\.\.3"):
        feature_maps(OracleAdapter(), small_pictures(1), "conv1").sheet(first=[channel])


def test_the_plot_of_a_profile_says_the_rank() -> None:
    axes = hand_made([[1]], [[3]], [[2]]).profile().plot(mark=2).axes[0]
    assert axes.get_legend().get_texts()[0].get_text() == "channel 2: 2, rank 2 of 3"


def test_dead_is_zero_in_every_picture() -> None:
    x = small_pictures(2)
    x[0, ..., 1] = 0  # green is black in one picture only
    x[:, ..., 2] = 0  # blue in both
    assert feature_maps(passing(), x, "relu:0").dead() == [2, 3]
    # Before the ReLU the fourth map is -1 everywhere: constant, but not dead.
    assert feature_maps(passing(), x, "conv1").dead("conv1") == [2]


def test_the_sheet_lays_the_channels_out_in_order() -> None:
    found = hand_made([[0, 1], [2, 4]], [[-1, 1], [1, 1]], [[7, 7], [7, 7]])
    sheet = found.sheet(columns=2, scale=1)
    assert sheet.shape == (2 * 2 + 15, 2 * 2 + 15, 3)
    np.testing.assert_array_equal(sheet[5:7, 5:7, 0], [[0, 0.25], [0.5, 1]])
    np.testing.assert_array_equal(sheet[5:7, 12:14, 0], [[0, 1], [1, 1]])
    np.testing.assert_array_equal(sheet[12:14, 5:7, 0], [[0, 0], [0, 0]])


def test_the_sheet_can_keep_the_brightness_or_the_sign() -> None:
    found = hand_made([[0, 1], [2, 4]], [[-4, 1], [2, 0]])
    alike = found.sheet(columns=2, scale=1, normalise="layer")
    np.testing.assert_allclose(alike[5:7, 5:7, 0], [[0.5, 0.625], [0.75, 1]])
    np.testing.assert_allclose(alike[5:7, 12:14, 0], [[0, 0.625], [0.75, 0.5]])
    signed = found.sheet(columns=2, scale=1, normalise="zero")
    np.testing.assert_allclose(signed[5:7, 12:14, 0], [[0, 0.625], [0.75, 0.5]])
    with pytest.raises(InvalidOption, match="'channel', 'layer' or 'zero', not 'all'"):
        found.sheet(normalise="all")  # type: ignore[arg-type]


def test_the_sheet_takes_some_channels_of_one_picture() -> None:
    found = feature_maps(passing(), small_pictures(2), "relu:0")
    one = found.sheet(image=1, first=[2], scale=1)
    tile = found["relu:0"][1, ..., 2]
    tile = (tile - tile.min()) / (tile.max() - tile.min())
    np.testing.assert_allclose(one[5:13, 5:13, 1], tile, atol=1e-12)
    # 8 x 8 maps are enlarged to about 64 pixels, each place to a square.
    assert found.sheet(first=3, columns=3).shape == (64 + 10, 3 * 64 + 20, 3)
    np.testing.assert_array_equal(found.sheet(image=1, first=[2])[5:69:8, 5:69:8], one[5:13, 5:13])


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"layer": "fc"}, InvalidOption),
        ({"layer": "conv9"}, UnknownLayer),
        ({"layer": None}, InvalidOption),
        ({"layer": "conv1", "image": 1}, ChannelOutOfRange),
        ({"layer": "conv1", "image": -1}, ChannelOutOfRange),
        ({"layer": "conv1", "columns": 0}, InvalidOption),
        ({"layer": "conv1", "first": 0}, InvalidOption),
        ({"layer": "conv1", "first": []}, InvalidOption),
        ({"layer": "conv1", "scale": 0}, InvalidOption),
    ],
)
def test_a_sheet_that_cannot_be_meant_is_refused(
    options: dict[str, Any], error: type[Exception]
) -> None:
    found = feature_maps(OracleAdapter(), small_pictures(1), ["conv1", "fc"])
    with pytest.raises(error):
        found.sheet(**options)


def test_the_figure_says_how_many_are_dead() -> None:
    title = feature_maps(passing(), small_pictures(1), "relu:0").plot().axes[0].get_title()
    assert title == "relu:0: 4 of 4 channels\n1 dead: 3"
    vector = feature_maps(passing(), small_pictures(1), "fc").plot().axes[0]
    assert vector.get_xlabel() == "channel"


def test_the_maps_are_saved_by_layer(tmp_path: Path) -> None:
    found = feature_maps(OracleAdapter(), small_pictures(2), ["relu:0", "fc"])
    with np.load(found.save(tmp_path / "maps.npz")) as saved:
        assert sorted(saved) == ["fc", "relu:0"]
        np.testing.assert_array_equal(saved["relu:0"], found["relu:0"])
    with pytest.raises(InvalidOption, match="say which layer: relu:0, fc"):
        found.save(tmp_path / "maps.png")
    with pytest.raises(InvalidOption, match=r"\.npz or \.png, not '\.txt'"):
        found.save(tmp_path / "maps.txt")


def test_one_layer_is_saved_as_its_sheet(tmp_path: Path) -> None:
    found = feature_maps(passing(), small_pictures(1), "relu:0")
    pixels = np.asarray(Image.open(found.save(tmp_path / "sheet.png")))
    np.testing.assert_array_equal(pixels, np.rint(found.sheet() * 255).astype(np.uint8))


def test_it_shows_itself_in_a_notebook() -> None:
    found = feature_maps(OracleAdapter(), small_pictures(1), ["conv1", "fc"])
    assert found._repr_png_().startswith(b"\x89PNG")
    assert found._repr_html_().count("data:image/png;base64,") == 2
    assert found.profile("fc")._repr_png_().startswith(b"\x89PNG")
    assert repr(found) == "<FeatureMaps conv1 (1, 8, 8, 4), fc (1, 5)>"


def test_what_cannot_be_meant_is_refused() -> None:
    with pytest.raises(UnknownLayer, match="'conv1'"):
        feature_maps(OracleAdapter(), small_pictures(1), "conv")
    with pytest.raises(InvalidOption, match="no layer"):
        feature_maps(OracleAdapter(), small_pictures(1), [])
    with pytest.raises(InvalidOption, match="batch"):
        feature_maps(OracleAdapter(), small_pictures(1), "fc", batch=0)


def test_unknown_preprocessing_is_told_before_a_picture_is_read() -> None:
    with pytest.raises(UnknownPreprocessing, match="preprocessing='imagenet'"):
        feature_maps(OracleAdapter(preprocessing=None), "nowhere.png", "conv1")
    with pytest.raises(InvalidImage, match=r"nowhere\.png"):
        feature_maps(OracleAdapter(), "nowhere.png", "conv1")


@pytest.mark.parametrize(
    ("shape", "trained", "size", "expected"),
    [
        ((None, None, 3), None, None, None),
        ((None, None, 3), (20, 30), None, (20, 30)),
        ((None, None, 3), (20, 30), 12, (12, 12)),
        ((None, None, 3), (20, 30), (12, 14), (12, 14)),
        ((16, 18, 3), None, None, (16, 18)),
        ((16, 18, 3), (20, 30), None, (16, 18)),
        ((16, None, 3), (20, 30), None, (16, 30)),
        ((16, None, 3), None, None, None),
    ],
)
def test_the_size_is_the_callers_then_the_networks(
    shape: tuple[int | None, int | None, int],
    trained: tuple[int, int] | None,
    size: int | tuple[int, int] | None,
    expected: tuple[int, int] | None,
) -> None:
    net = Sized(shape, Preprocessing(size=trained))
    assert picture_size(net, size) == expected
    height, width = expected or (10, 10)
    assert picture_batch(net, small_pictures(2), size).shape == (2, height, width, 3)


def test_the_interpolation_is_that_of_the_preprocessing() -> None:
    x = small_pictures(1)
    nearest = OracleAdapter(preprocessing=Preprocessing(interpolation="nearest"))
    assert set(picture_batch(nearest, x, 20).ravel()) == set(x.ravel())
    bilinear = OracleAdapter(preprocessing=Preprocessing(interpolation="bilinear"))
    assert set(picture_batch(bilinear, x, 20).ravel()) != set(x.ravel())


def test_a_size_below_one_is_refused() -> None:
    with pytest.raises(InvalidOption, match="size must be above zero, not 0 x 4"):
        picture_batch(OracleAdapter(), small_pictures(1), (0, 4))


def test_the_pictures_have_the_networks_channels() -> None:
    grey: NDArray[Any] = picture_batch(
        Sized((None, None, 1), Preprocessing()), np.full((6, 6, 3), 255, np.uint8)
    )
    np.testing.assert_allclose(grey, np.ones((1, 6, 6, 1)), rtol=1e-6)
