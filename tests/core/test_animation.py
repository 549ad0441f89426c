"""Films of the pictures on the way."""

from __future__ import annotations

import sys

import av
import numpy as np
import pytest
from PIL import Image

import cnnviz
from cnnviz.errors import InvalidImage, InvalidOption, MissingDependency
from cnnviz.images.animation import save_animation
from cnnviz.testing import OracleAdapter

FRAMES = [np.full((6, 9, 3), value) for value in (0.0, 0.5, 1.0)]


def test_gif_shows_each_frame(tmp_path):
    save_animation(tmp_path / "film.gif", FRAMES, 0.1)
    with Image.open(tmp_path / "film.gif") as film:
        assert film.n_frames >= 3
        shades = []
        for number in range(3):
            film.seek(number)
            shades.append(int(np.asarray(film.convert("L")).mean()))
    assert shades == [0, 128, 255]


def test_mp4_shows_each_frame(tmp_path):
    save_animation(tmp_path / "film.mp4", FRAMES, 0.25)
    with av.open(str(tmp_path / "film.mp4")) as film:
        found = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
        assert float(film.streams.video[0].average_rate) == pytest.approx(4)
    # The last stands for a while, and sides are made even.
    assert len(found) == 7
    assert found[0].shape == (6, 10, 3)
    np.testing.assert_allclose([f.mean() / 255 for f in found[:3]], [0, 0.5, 1], atol=0.03)


def test_a_climb_is_filmed(tmp_path):
    net = OracleAdapter()
    made = cnnviz.ascend(
        net,
        ["conv2:1", "class:0"],
        size=8,
        steps=6,
        octaves=1,
        jitter=0,
        blur=0,
        transforms=(),
        keep=2,
    )
    assert [step for step, _ in made.intermediates] == [2, 4, 6]
    assert len(made.frames()) == 3
    made.save(tmp_path / "climb.gif")
    with Image.open(tmp_path / "climb.gif") as film:
        assert film.size == (31, 18)


@pytest.mark.parametrize(
    ("name", "frames", "seconds", "error", "text"),
    [
        ("a.gif", FRAMES[:1], 0.2, InvalidImage, "keep=8"),
        ("a.avi", FRAMES, 0.2, InvalidOption, ".gif or .mp4"),
        ("a.gif", FRAMES, 0.0, InvalidOption, "seconds"),
        ("a.mp4", [np.zeros((4, 4, 5))] * 2, 0.2, InvalidImage, "H, W, 3"),
        ("no/a.gif", FRAMES, 0.2, InvalidOption, "no folder"),
    ],
)
def test_what_cannot_be_filmed(tmp_path, name, frames, seconds, error, text):
    with pytest.raises(error, match=text):
        save_animation(tmp_path / name, frames, seconds)
    assert list(tmp_path.iterdir()) == []


def test_without_an_encoder(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingDependency, match=r"cnnviz\[video\]"):
        save_animation(tmp_path / "a.mp4", FRAMES)
