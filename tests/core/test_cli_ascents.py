"""``cnnviz ascend``: sheets of a layer, films, the best of several seeds, a photo to begin with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from shell import assert_refused, contents, run_here

import cnnviz
from cnnviz.images import to_uint8
from cnnviz.testing import OracleAdapter, small_pictures

MODULE = "from cnnviz.testing import OracleAdapter\n\ndef build():\n    return OracleAdapter()\n"
SMALL = ["--size", "8", "--octaves", "1", "--steps", "1"]
SETTINGS = {"size": 8, "octaves": 1, "steps": 1}


@pytest.fixture
def cli(tmp_path, monkeypatch, capfd):
    (tmp_path / "net.py").write_text(MODULE)
    Image.fromarray(to_uint8(small_pictures(1, 12)[0])).save(tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)
    return lambda *given: run_here(capfd, "ascend", "net.py:build", *given)


def pixels(name):
    with Image.open(name) as picture:
        return np.asarray(picture)


@pytest.mark.parametrize(("asked", "channels"), [("conv1:*", range(4)), ("conv1:2-3", (2, 3))])
def test_a_sheet_of_channels(cli, asked, channels):
    run = cli(asked, *SMALL, "--out", "sheet.png", "--seed", "3", "--json")
    wanted = cnnviz.ascend_layer(OracleAdapter(), "conv1", channels, seed=3, **SETTINGS)
    assert run.json["channels"] == list(channels)
    assert run.json["clean"] == pytest.approx(wanted.clean.tolist())
    np.testing.assert_array_equal(pixels("sheet.png"), to_uint8(wanted.sheet()))
    told = cli(asked, *SMALL, "--out", "sheet.png", "--seed", "3").out.splitlines()
    assert [line.split()[0] for line in told[2 : 2 + len(channels)]] == list(map(str, channels))


def test_a_sheet_goes_on_where_it_stopped(cli):
    cli("conv1:0-1", *SMALL, "--out", "a.png", "--folder", "units")
    first = contents(Path("units"))
    assert set(first) == {"00000.png", "00001.png"}
    cli("conv1:0-2", *SMALL, "--out", "b.png", "--folder", "units")
    second = contents(Path("units"))
    assert set(second) == {"00000.png", "00001.png", "00002.png"}
    assert first.items() <= second.items()
    run = cli("conv1:0-2", *SMALL, "--out", "b.png", "--folder", "units", "--seed", "4")
    assert_refused(run, "other settings or weights", "00000.png")


def test_the_best_of_several_seeds(cli):
    run = cli("class:1", *SMALL, "--out", "a.png", "--best-of", "3", "--json")
    wanted = cnnviz.ascend(OracleAdapter(), "class:1", best_of=3, **SETTINGS)
    assert run.json["pictures"][0]["clean"] == pytest.approx(float(wanted.clean[0]))
    np.testing.assert_array_equal(pixels("a.png"), to_uint8(wanted.images[0]))


def test_a_photo_to_begin_with(cli):
    cli("layer:conv1", *SMALL, "--out", "a.png", "--start", "photo.png", "--recipe", "deepdream")
    wanted = cnnviz.ascend(
        OracleAdapter(), "layer:conv1", "deepdream", start="photo.png", **SETTINGS
    )
    np.testing.assert_array_equal(pixels("a.png"), to_uint8(wanted.images[0]))


def test_a_film(cli):
    run = cli("odds:1", *SMALL[:-1], "3", "--out", "film.gif", "--keep", "1")
    assert run.status == 0
    with Image.open("film.gif") as film:
        assert film.n_frames >= 2


@pytest.mark.parametrize("text", ["conv2:1@1,0", "layer:conv2", "odds:3", "class:3"])
def test_every_kind_of_objective(cli, text):
    run = cli(text, *SMALL, "--out", "a.png", "--json")
    assert run.status == 0
    assert len(run.json["pictures"]) == 1


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["conv2:*", "class:1", "--out", "a.png"], ["a sheet of channels is made alone"]),
        (["conv2:4-9", "--out", "a.png"], ["0..5"]),
        (["conv2:4-2", "--out", "a.png"], ["no channel"]),
        (["conv2:*", "--out", "a.gif"], ["cannot tell the format"]),
        (["conv2:*", "--out", "a.png", "--best-of", "2"], ["not for a sheet"]),
        (["class:1", "--out", "a.png", "--folder", "units"], ["--folder is for a sheet"]),
        (["class:1", "--out", "a.png", "--start", "none.png"], ["no file 'none.png'"]),
        (["class:1", "--out", "a.gif"], ["at least two pictures", "keep"]),
        (["conv2:1@9,0", "--out", "a.png"], ["row of 'conv2'", "out of range"]),
        (["class:1", "--out", "a.png", "--recipe", "maco", "--octaves", "2"], ["octaves=1"]),
    ],
)
def test_what_cannot_be_meant(cli, given, words):
    before = contents(Path("."))
    assert_refused(cli(*given, *SMALL) if "--octaves" not in given else cli(*given), *words)
    assert contents(Path(".")) == before
