"""What the figures draw, read back off their axes."""

from __future__ import annotations

import io
import subprocess
import sys
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.axes import Axes
from numpy.typing import NDArray
from PIL import Image

from cnnviz.errors import ChannelOutOfRange, InvalidOption
from cnnviz.figures import (
    figure_png,
    heat_figure,
    histogram_figure,
    images_figure,
    profile_figure,
    sheet_figure,
    signed_figure,
)
from cnnviz.testing import small_pictures
from cnnviz.weights import TensorStats


def shown(axes: Axes) -> NDArray[Any]:
    return np.asarray(axes.images[0].get_array())


def test_the_sheet_is_shown_pixel_by_pixel() -> None:
    picture = small_pictures(1)[0]
    axes = sheet_figure(picture, "a sheet").axes[0]
    np.testing.assert_array_equal(shown(axes), picture)
    assert axes.images[0].get_interpolation() == "nearest"
    assert axes.get_title() == "a sheet"


def test_a_grey_picture_is_not_stretched() -> None:
    axes = sheet_figure(np.full((4, 4, 1), 0.25)).axes[0]
    assert shown(axes).shape == (4, 4)
    assert axes.images[0].get_clim() == (0, 1)
    assert axes.images[0].get_cmap().name == "gray"


@pytest.mark.parametrize(("shape", "width"), [((900, 10), 3.0), ((10, 900), 10.0), ((9, 9), 7.0)])
def test_the_sheet_fits_a_page(shape: tuple[int, int], width: float) -> None:
    assert sheet_figure(np.zeros(shape)).get_figwidth() == width


def test_the_profile_marks_a_channel_and_says_its_rank() -> None:
    values = np.array([0.1, 0.4, 0.3, 0.4])
    axes = profile_figure(values, 2, "features.42").axes[0]
    line, _, _, dot = axes.lines
    np.testing.assert_array_equal(line.get_xydata(), np.stack([np.arange(4), values], axis=1))
    np.testing.assert_array_equal(dot.get_xydata(), [[2, 0.3]])
    # Two channels are stronger, so the third rank; equal ones would share.
    assert axes.get_legend().get_texts()[0].get_text() == "channel 2: 0.3, rank 3 of 4"
    assert axes.get_title(loc="left") == "features.42"


def test_the_profile_without_a_mark_has_no_legend() -> None:
    assert profile_figure(np.arange(3.0)).axes[0].get_legend() is None


@pytest.mark.parametrize("mark", [-1, 3])
def test_a_mark_out_of_range_is_refused(mark: int) -> None:
    with pytest.raises(ChannelOutOfRange, match=r"0\.\.2"):
        profile_figure(np.arange(3.0), mark)


def test_a_signed_map_is_white_at_zero() -> None:
    figure = signed_figure(np.array([[-1.0, 0.5], [0.0, 3.0]]), "raw")
    image = figure.axes[0].images[0]
    assert image.get_clim() == (-3, 3)
    assert len(figure.axes) == 2  # the other is the colour bar
    red, green, blue, _ = image.to_rgba(np.array([-1.0, 0.0, 3.0])).T
    assert red[0] < blue[0]
    assert min(red[1], green[1], blue[1]) > 0.95
    assert red[2] > blue[2]


def test_a_map_of_zeros_has_a_scale() -> None:
    assert signed_figure(np.zeros((2, 2))).axes[0].images[0].get_clim() == (-1, 1)


def test_heat_is_drawn_in_rows_of_photo_map_and_overlay() -> None:
    photos = small_pictures(2)
    maps = np.array([[[0.0, 0.25], [0.5, 0.75]], [[0.0, 0.1], [0.2, 1.0]]])
    figure = heat_figure(photos, maps, photos[::-1], ["one", "two"])
    panels = figure.axes[:6]
    assert len(figure.axes) == 6 + 2
    for i in (0, 1):
        photo, heat, overlay = panels[3 * i : 3 * i + 3]
        np.testing.assert_array_equal(shown(photo), photos[i])
        np.testing.assert_array_equal(shown(heat), maps[i])
        np.testing.assert_array_equal(shown(overlay), photos[1 - i])
        # A coarse map covers the whole photo.
        assert heat.images[0].get_extent() == photo.images[0].get_extent()
        assert heat.images[0].get_cmap().name == "viridis"
    assert [panels[i].images[0].get_clim() for i in (1, 4)] == [(0, 0.75), (0, 1)]
    assert [panels[i].get_title(loc="left") for i in (0, 3)] == ["one", "two"]


def test_one_negative_number_makes_all_maps_signed() -> None:
    maps = np.array([[[1.0, 0.5]], [[-2.0, 1.0]]])
    images = [a.images[0] for a in heat_figure(small_pictures(2), maps).axes[:4]]
    assert [images[i].get_clim() for i in (1, 3)] == [(-1, 1), (-2, 2)]
    assert images[1].get_cmap().name == images[3].get_cmap().name == "RdBu_r"


@pytest.mark.parametrize(
    ("maps", "overlays", "titles"), [(1, None, None), (2, 1, None), (2, None, ["one"])]
)
def test_each_photo_needs_its_map(maps: int, overlays: int | None, titles: Any) -> None:
    over = None if overlays is None else small_pictures(overlays)
    with pytest.raises(InvalidOption, match="for 2 pictures"):
        heat_figure(small_pictures(2), np.zeros((maps, 2, 2)), over, titles)


def test_pictures_are_laid_out_in_rows() -> None:
    pictures = small_pictures(5)
    axes = images_figure(pictures, list("abcde"), columns=3).axes
    assert [a.get_title() for a in axes] == ["a", "b", "c", "d", "e", ""]
    np.testing.assert_array_equal(shown(axes[4]), pictures[4])
    assert not axes[5].images
    assert not axes[5].axison


def test_pictures_may_differ_in_size() -> None:
    axes = images_figure([np.zeros((4, 6)), np.ones((9, 3, 3))]).axes
    assert [shown(a).shape[:2] for a in axes] == [(4, 6), (9, 3)]


def test_pixels_beyond_white_are_white_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    axes = images_figure(np.array([[[[1.5, -0.5, 0.5]]]])).axes
    np.testing.assert_array_equal(shown(axes[0]), [[[1, 0, 0.5]]])
    assert not caplog.records


@pytest.mark.parametrize("draw", [images_figure, histogram_figure])
def test_nothing_cannot_be_drawn(draw: Any) -> None:
    with pytest.raises(InvalidOption, match="nothing to draw"):
        draw([])


def test_histograms_are_drawn_bin_by_bin() -> None:
    rows = [
        TensorStats.of("a.weight", np.array([0.0, 0.0, 1.0]), "kernel"),
        TensorStats.of("a.running_mean", np.array([2.0, 4.0]), "running mean"),
    ]
    figure = histogram_figure(rows, "weights")
    first, second = figure.axes
    bars = first.patches[0].get_data()
    np.testing.assert_array_equal(bars.values, [2] + [0] * 48 + [1])
    np.testing.assert_allclose(bars.edges, np.linspace(0, 1, 51))
    assert first.lines[0].get_xdata()[0] == pytest.approx(1 / 3)
    assert first.texts[0].get_text() == "kernel, mean 0.33, std 0.58"
    assert first.patches[0].get_facecolor() != second.patches[0].get_facecolor()
    assert figure.get_suptitle() == "weights"


def test_a_title_is_no_formula() -> None:
    pictures = small_pictures(1)
    for figure in (images_figure(pictures, [r"$\x$"]), sheet_figure(pictures[0], r"$\x$")):
        assert figure_png(figure).startswith(b"\x89PNG")


def test_a_long_title_is_cut_in_the_middle() -> None:
    axes = images_figure(small_pictures(1), ["tabby, a name that goes on and on.conv3"]).axes[0]
    assert axes.get_title().startswith("tabby, ")
    assert "…" in axes.get_title()
    assert axes.get_title().endswith(".conv3")


def test_the_same_figure_gives_the_same_bytes() -> None:
    first, second = (figure_png(signed_figure(np.eye(3)), dpi=50) for _ in range(2))
    assert first == second
    assert Image.open(io.BytesIO(first)).width == 230


def test_every_figure_can_be_drawn_without_changing_matplotlib() -> None:
    before = dict(mpl.rcParams)
    pictures = small_pictures(2)
    for figure in (
        sheet_figure(pictures[0], "t"),
        images_figure(pictures),
        heat_figure(pictures, np.zeros((2, 3, 3)), pictures, ["a", "b"]),
        signed_figure(np.zeros((1, 40))),
        profile_figure(np.arange(512.0), 7),
        histogram_figure([TensorStats.of("w", np.array([]), "kernel")]),
    ):
        assert Image.open(io.BytesIO(figure_png(figure))).width > 100
    assert dict(mpl.rcParams) == before


def test_pyplot_is_never_imported() -> None:
    code = (
        "import sys, numpy as np, cnnviz.figures as f;"
        "f.figure_png(f.signed_figure(np.eye(3)));"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
