"""Sheets of a layer: one picture a channel, whatever the batch, the order or an interruption."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from PIL import Image

import cnnviz
from cnnviz.errors import ChannelOutOfRange, InvalidOption
from cnnviz.testing import OracleAdapter, small_weights

QUICK = {"size": 8, "octaves": 1, "steps": 2, "jitter": 1, "blur": 0, "transforms": ()}


@pytest.fixture(scope="module")
def net():
    return OracleAdapter()


@pytest.fixture(scope="module")
def whole(net):
    return cnnviz.ascend_layer(net, "conv2", **QUICK)


def test_every_channel_has_a_picture(net, whole):
    assert whole.channels == tuple(range(6))
    assert whole.images.shape == (6, 8, 8, 3)
    singles = [cnnviz.ascend(net, f"conv2:{c}", **QUICK) for c in range(6)]
    for row, single in enumerate(singles):
        np.testing.assert_allclose(whole.images[row], single.images[0], atol=0.6 / 255)
        # The oracle differentiates a whole batch at once, which rounds by what is beside it.
        assert whole.clean[row] == pytest.approx(single.clean[0], abs=1e-4)
    assert whole.sheet(3, 2).shape == (2 * 10 + 2, 3 * 10 + 2, 3)


@pytest.mark.parametrize(("batch", "channels"), [(1, (4, 1)), (4, (1, 2, 3, 4, 5))])
def test_a_picture_does_not_depend_on_batch_and_order(net, whole, batch, channels):
    made = cnnviz.ascend_layer(net, "conv2", channels, batch=batch, **QUICK)
    np.testing.assert_allclose(made.images, whole.images[list(channels)], atol=1.01 / 255)
    assert made.channels == channels


def test_what_was_made_is_not_made_again(net, whole, tmp_path, monkeypatch):
    folder = tmp_path / "units"
    first = cnnviz.ascend_layer(net, "conv2", [0, 3], folder=folder, batch=4, **QUICK)
    bytes_before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(bytes_before) == {"00000.png", "00003.png"}
    # One that was cut off is made again, and comes out the same.
    (folder / "00003.png").write_bytes(bytes_before["00003.png"][:200])
    asked = []
    original = cnnviz.ascent.sheets.rendered
    monkeypatch.setattr(
        cnnviz.ascent.sheets,
        "rendered",
        lambda net, o, *a, **k: asked.append(o) or original(net, o, *a, **k),
    )
    again = cnnviz.ascend_layer(net, "conv2", folder=folder, batch=4, **QUICK)
    assert [sorted({str(one) for one in chunk}) for chunk in asked] == [
        ["conv2:1", "conv2:2", "conv2:3", "conv2:4"],
        ["conv2:5"],
    ]
    # A batch is always full.
    assert [len(chunk) for chunk in asked] == [4, 4]
    with Image.open(folder / "00003.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture) / np.float32(255), again.images[3])
    np.testing.assert_array_equal(again.images[[0, 3]], first.images)
    np.testing.assert_array_equal(again.images, whole.images)
    np.testing.assert_allclose(again.clean[[0, 3]], first.clean)
    with Image.open(folder / "00005.png") as picture:
        assert "oracle" in picture.text["cnnviz:network"]
        assert "steps=2" in picture.text["cnnviz:recipe"]


@pytest.mark.parametrize("change", [{"seed": 1}, {"steps": 4}, {"batch": 2}, {"weights": 1}])
def test_pictures_of_other_settings_are_left_alone(net, tmp_path, change):
    cnnviz.ascend_layer(net, "conv2", [0], folder=tmp_path, batch=4, **QUICK)
    before = (tmp_path / "00000.png").read_bytes()
    if change.pop("weights", 0):
        weights = small_weights()
        weights["conv1.bias"] = weights["conv1.bias"] + 1
        net = OracleAdapter(weights)
    with pytest.raises(InvalidOption, match="other settings or weights"):
        cnnviz.ascend_layer(net, "conv2", [0], folder=tmp_path, **({"batch": 4} | QUICK | change))
    assert (tmp_path / "00000.png").read_bytes() == before


def test_dead_channels_are_told_and_remembered(tmp_path):
    weights = small_weights()
    weights["conv2.bias"] = weights["conv2.bias"] - [0, 100, 0, 0, 0, 0]
    for _ in range(2):
        made = cnnviz.ascend_layer(
            OracleAdapter(weights), "relu:1", [2, 1], folder=tmp_path, batch=2, **QUICK
        )
        assert len(made.notes) == 1
        assert made.notes[0].startswith("relu:1:1 is dead: it never answered")


def test_saved_with_how_it_was_made(whole, tmp_path):
    whole.save(tmp_path / "sheet.png", columns=3)
    with Image.open(tmp_path / "sheet.png") as picture:
        assert picture.size == (3 * 13 + 5, 2 * 13 + 5)
        assert picture.text["cnnviz:objective"] == "conv2: channels 0, 1, 2, 3, 4, 5"
    assert whole._repr_png_()[:4] == b"\x89PNG"
    assert len(whole.plot().axes) == 6


@pytest.mark.parametrize(
    ("channels", "error", "text"),
    [
        ([6], ChannelOutOfRange, r"0\.\.5"),
        ([], InvalidOption, "no channel"),
        ([1, 1], InvalidOption, "twice"),
    ],
)
def test_what_cannot_be_meant(net, channels, error, text):
    with pytest.raises(error, match=text):
        cnnviz.ascend_layer(net, "conv2", channels, **QUICK)


def test_constant_channels_do_not_end_a_sheet():
    weights = small_weights()
    weights["conv2.kernel"] = weights["conv2.kernel"] * np.array([0, 0, 1, 1, 1, 1])
    net = OracleAdapter(weights)
    made = cnnviz.ascend_layer(net, "conv2", [0, 1, 2], batch=2, **QUICK)
    assert [note.split()[0] for note in made.notes] == ["conv2:0", "conv2:1"]
    both = cnnviz.ascend(net, ["conv2:0", "conv2:2"], batch=1, **QUICK)
    assert [bool(verdict) for verdict in both.verdicts] == [True, False]
    with pytest.raises(InvalidOption, match="does not depend on the picture"):
        cnnviz.ascend(net, ["conv2:0", "conv2:1"], batch=1, **QUICK)


def test_the_size_of_the_network_is_part_of_what_was_made(tmp_path):
    settings = {key: value for key, value in QUICK.items() if key != "size"}
    small, large = OracleAdapter(), OracleAdapter()
    large._preprocessing = dataclasses.replace(large.preprocessing, size=(12, 12))
    cnnviz.ascend_layer(small, "conv2", [0], folder=tmp_path, batch=1, **settings)
    with pytest.raises(InvalidOption, match="other settings"):
        cnnviz.ascend_layer(large, "conv2", [0], folder=tmp_path, batch=1, **settings)


def test_pictures_that_are_tied_together_are_no_sheet(net):
    shared = cnnviz.canvas.SharedCanvas(own=cnnviz.canvas.FourierCanvas())
    with pytest.raises(InvalidOption, match="ties pictures together"):
        cnnviz.ascend_layer(net, "conv2", canvas=shared, **QUICK)
