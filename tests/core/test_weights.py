"""Statistics of the weights against numbers worked out by hand, and the first kernels."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cnnviz.errors import CnnvizError, InvalidOption
from cnnviz.layers import tensor_role
from cnnviz.preprocessing import PRESETS, Preprocessing
from cnnviz.testing import OracleAdapter
from cnnviz.weights import TensorStats, weight_stats


class Weighted(OracleAdapter):
    """An oracle that has other weights than it computes with."""

    def __init__(
        self,
        given: Mapping[str, NDArray[Any]],
        channels: int = 3,
        preprocessing: Preprocessing | None = PRESETS["identity"],
    ) -> None:
        super().__init__(preprocessing=preprocessing)
        self.given = given
        self.channels = channels

    @property
    def input_shape(self) -> tuple[int | None, int | None, int]:
        return (None, None, self.channels)

    def weights(self, layer: str | None = None) -> Mapping[str, NDArray[Any]]:
        return self.given


def stats(*values: float) -> TensorStats:
    return TensorStats.of("w", np.array(values), "kernel")


def test_the_statistics_are_those_of_the_textbook() -> None:
    row = stats(1, 2, 3, 4)
    assert (row.count, row.non_finite) == (4, 0)
    assert (row.mean, row.min, row.max) == (2.5, 1, 4)
    assert row.std == pytest.approx(np.sqrt(5 / 3), rel=1e-15)
    assert row.shape == (4,)


def test_the_histogram_has_50_bins_from_least_to_most() -> None:
    row = TensorStats.of("w", np.arange(100, dtype=np.float32).reshape(10, 10), "kernel")
    assert row.histogram.tolist() == [2] * 50
    np.testing.assert_allclose(row.edges, np.linspace(0, 99, 51), rtol=1e-15)


def test_a_single_number_has_no_spread() -> None:
    row = TensorStats.of("w", np.array(3.0), "parameter")
    assert (row.count, row.mean, row.std, row.shape) == (1, 3, 0, ())


def test_equal_numbers_fill_one_bin() -> None:
    row = stats(2, 2, 2)
    assert (row.std, row.histogram.sum(), row.histogram.max()) == (0, 3, 3)
    assert (row.edges[0], row.edges[-1]) == (1.5, 2.5)


def test_neighbouring_floats_can_be_counted() -> None:
    row = stats(1.0, np.nextafter(1.0, 2.0))
    assert row.histogram.sum() == 2
    assert np.all(np.diff(row.edges) > 0)


def test_what_is_not_finite_is_counted_and_left_out() -> None:
    row = stats(1, np.nan, 3, np.inf, -np.inf)
    assert (row.count, row.non_finite) == (5, 3)
    assert (row.mean, row.min, row.max, row.histogram.sum()) == (2, 1, 3, 2)
    assert row.std == pytest.approx(np.sqrt(2))


@pytest.mark.parametrize("values", [[], [np.nan]])
def test_no_finite_number_gives_zeros(values: list[float]) -> None:
    row = stats(*values)
    assert (row.mean, row.std, row.min, row.max, row.histogram.sum()) == (0, 0, 0, 0, 0)
    assert np.isfinite(row.edges).all()


def test_half_precision_is_counted_in_double() -> None:
    # The mean lies between two neighbours of float16.
    row = TensorStats.of("w", np.array([1, 1 + 2**-10], np.float16), "kernel")
    assert row.mean == 1 + 2**-11


KERNEL, VECTOR = np.ones((3, 3, 2, 2)), np.ones(4)


@pytest.mark.parametrize(
    ("name", "values", "role"),
    [
        ("features.0.weight", KERNEL, "kernel"),
        ("features.0.bias", VECTOR, "bias"),
        ("features.1.weight", VECTOR, "scale"),
        ("features.1.bias", VECTOR, "offset"),
        ("features.1.running_mean", VECTOR, "running mean"),
        ("features.1.running_var", VECTOR, "running variance"),
        ("fc.weight", np.ones((4, 2)), "kernel"),
        ("attn.in_proj_weight", np.ones((4, 2)), "kernel"),
        ("attn.in_proj_bias", VECTOR, "bias"),
        ("class_token", np.ones((1, 1, 4)), "parameter"),
        ("block/conv/kernel", KERNEL, "kernel"),
        ("block/conv/bias", VECTOR, "bias"),
        ("sep/depthwise_kernel", KERNEL, "kernel"),
        ("sep/pointwise_kernel", KERNEL, "kernel"),
        ("bn/gamma", VECTOR, "scale"),
        ("bn/beta", VECTOR, "offset"),
        ("bn/moving_mean", VECTOR, "running mean"),
        ("bn/moving_variance", VECTOR, "running variance"),
        ("weight", KERNEL, "kernel"),
    ],
)
def test_the_role_is_read_off_the_name(name: str, values: NDArray[Any], role: str) -> None:
    beside = {"features.0.weight": KERNEL, "features.1.weight": VECTOR}
    assert tensor_role(name, {**beside, name: values}) == role


def test_the_table_has_one_row_a_tensor() -> None:
    found = weight_stats(OracleAdapter())
    assert [(row.name, row.role) for row in found.table] == [
        ("conv1.kernel", "kernel"),
        ("conv1.bias", "bias"),
        ("bn1.scale", "scale"),
        ("bn1.offset", "offset"),
        ("bn1.mean", "running mean"),
        ("bn1.variance", "running variance"),
        ("conv2.kernel", "kernel"),
        ("conv2.bias", "bias"),
        ("fc.kernel", "kernel"),
        ("fc.bias", "bias"),
    ]
    assert [row.name for row in found.table if row.is_statistic] == ["bn1.mean", "bn1.variance"]
    assert found["conv1.kernel"].shape == (3, 3, 3, 4)
    assert "10 tensors, 377 parameters and 8 running statistics" in str(found)
    with pytest.raises(InvalidOption, match="no tensor 'conv9'"):
        found["conv9"]


def test_broken_weights_are_told_not_raised() -> None:
    found = weight_stats(Weighted({"a.kernel": np.array([1.0, np.nan]), "b.bias": np.ones(2)}))
    assert found.non_finite == ("a.kernel",)
    assert "1 not finite" in str(found)
    assert str(found).endswith("not finite: a.kernel")
    assert found.plot().axes[0].texts[0].get_text() == "1 of 2 not finite"


def test_kernels_about_zero() -> None:
    kernel = np.zeros((1, 2, 3, 2))
    kernel[0, 0, :, 0] = [4, -2, 0]
    kernel[0, 1, :, 0] = [0, 0, 1]
    tiles = weight_stats(Weighted({"c.kernel": kernel})).kernels()
    assert tiles.shape == (2, 1, 2, 3)
    np.testing.assert_array_equal(tiles[0, 0], [[1, 0.25, 0.5], [0.5, 0.5, 0.625]])
    # A kernel of zeros is mid grey and not a division by zero.
    np.testing.assert_array_equal(tiles[1], np.full((1, 2, 3), 0.5))


def test_kernels_stretched() -> None:
    kernel = np.zeros((1, 2, 3, 2))
    kernel[0, 0, :, 0] = [4, -2, 1]
    tiles = weight_stats(Weighted({"c.kernel": kernel})).kernels(normalise="minmax")
    np.testing.assert_allclose(tiles[0, 0], [[1, 0, 0.5], [1 / 3, 1 / 3, 1 / 3]])
    np.testing.assert_array_equal(tiles[1], np.zeros((1, 2, 3)))
    with pytest.raises(InvalidOption, match="'zero' or 'minmax', not 'max'"):
        weight_stats(Weighted({"c.kernel": kernel})).kernels(normalise="max")  # type: ignore[arg-type]


def test_kernels_of_a_network_fed_with_bgr_are_shown_as_rgb() -> None:
    kernel = np.zeros((1, 1, 3, 1))
    kernel[0, 0, 0] = 1  # blue, to this network
    tiles = weight_stats(Weighted({"c.kernel": kernel}, preprocessing=PRESETS["caffe"])).kernels()
    np.testing.assert_array_equal(tiles[0, 0, 0], [0.5, 0.5, 1])


def test_kernels_of_a_grey_network_are_grey() -> None:
    kernel = np.array([1.0, -1.0]).reshape(1, 2, 1, 1)
    tiles = weight_stats(Weighted({"c.kernel": kernel}, channels=1)).kernels()
    np.testing.assert_array_equal(tiles[0, 0], [[1, 1, 1], [0, 0, 0]])


def test_the_first_kernel_is_that_of_the_picture() -> None:
    weights = {
        "fc.kernel": np.ones((3, 3)),
        "depthwise.kernel": np.ones((3, 3, 1, 8)),
        "stem.kernel": np.ones((7, 7, 3, 8)),
        "later.kernel": np.ones((5, 5, 3, 8)),
    }
    assert weight_stats(Weighted(weights)).first_kernel_name == "stem.kernel"


@pytest.mark.parametrize(("channels", "inputs"), [(3, 4), (4, 4), (3, 1)])
def test_without_such_a_kernel_it_is_said(channels: int, inputs: int) -> None:
    net = Weighted({"c.kernel": np.ones((3, 3, inputs, 8))}, channels=channels)
    with pytest.raises(CnnvizError, match="oracle has no first-layer kernels"):
        weight_stats(net).kernels()


def test_the_sheet_enlarges_each_weight_to_a_square() -> None:
    kernel = np.zeros((1, 1, 3, 2))
    kernel[0, 0, :, 0] = [1, 0, -1]
    sheet = weight_stats(Weighted({"c.kernel": kernel})).kernel_sheet(scale=4, columns=2)
    assert sheet.shape == (4 + 10, 2 * 4 + 15, 3)
    np.testing.assert_array_equal(sheet[5:9, 5:9], np.broadcast_to([1, 0.5, 0], (4, 4, 3)))
    np.testing.assert_array_equal(sheet[5:9, 14:18], np.full((4, 4, 3), 0.5))
    with pytest.raises(InvalidOption, match="at least 1"):
        weight_stats(Weighted({"c.kernel": kernel})).kernel_sheet(scale=0)


def test_the_sheet_is_legible_by_default() -> None:
    # 11 x 11 as AlexNet: each weight becomes 4 x 4 pixels.
    sheet = weight_stats(Weighted({"c.kernel": np.ones((11, 11, 3, 4))})).kernel_sheet()
    assert sheet.shape == (2 * 44 + 15, 2 * 44 + 15, 3)


def test_the_table_is_saved_as_json_and_csv(tmp_path: Path) -> None:
    found = weight_stats(OracleAdapter())
    rows = json.loads(found.save(tmp_path / "w.json").read_text())
    assert rows == found.to_json()
    assert rows[0]["std"] == float(OracleAdapter().model["conv1.kernel"].std(ddof=1))
    assert (len(rows[0]["histogram"]), len(rows[0]["edges"])) == (50, 51)
    with found.save(tmp_path / "w.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["name"] for row in table] == [row.name for row in found.table]
    assert float(table[0]["mean"]) == found.table[0].mean
    assert table[0]["shape"] == "3x3x3x4"
    with pytest.raises(InvalidOption, match=r"\.json, \.csv or \.png, not '\.txt'"):
        found.save(tmp_path / "w.txt")


def test_the_figure_shows_the_tensors_asked_for(tmp_path: Path) -> None:
    found = weight_stats(OracleAdapter())
    figure = found.plot(["fc.bias", "bn1.mean"])
    assert [axes.get_title().strip() for axes in figure.axes] == ["fc.bias", "bn1.mean"]
    assert figure.get_suptitle() == "oracle: weights (2 of 10 tensors)"
    assert found.save(tmp_path / "w.png").read_bytes().startswith(b"\x89PNG")
