"""``cam`` and ``attribute`` on folders: pictures, cards, and what is passed over."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from shell import Run, assert_refused, contents, run_here

import cnnviz
from cnnviz.images import to_uint8
from cnnviz.testing import OracleAdapter, small_pictures

MODULE = """
from cnnviz.testing import OracleAdapter

def build():
    return OracleAdapter()
"""


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd) -> Callable[..., Run]:
    (tmp_path / "net.py").write_text(MODULE)
    (tmp_path / "photos").mkdir()
    for i, picture in enumerate(small_pictures(3, 12)):
        Image.fromarray(to_uint8(picture)).save(tmp_path / "photos" / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: run_here(capfd, *arguments)


FOLDER = ["net.py:build", "photos"]


def test_what_it_takes_is_told_before_it_runs(cli):
    given = [*FOLDER, "--method", "rise", "--set", "masks=20", "--target", "1"]
    told = cli("attribute", *given, "--dry-run", "--json", "--out", "maps").json
    assert not Path("maps").exists()
    net = OracleAdapter()
    paths = [f"photos/{i}.png" for i in range(3)]
    wanted = cnnviz.cost(net, paths, "rise", 1, masks=20)
    about = {"network": net.name, "method": "rise", "photos": 3}
    assert told == about | wanted.to_json()
    assert cli("attribute", *given, "--dry-run").out == f"rise of 3 photos takes {wanted}\n"
    found = cli("attribute", *given)
    assert found.err == f"rise of 3 photos takes {wanted}\n"
    made = cnnviz.attribute(net, paths, "rise", 1, masks=20)
    assert (wanted.forwards, wanted.backwards) == (made.forwards, made.backwards)


def test_a_viewer_sees_it_before_and_a_failed_run_says_one_thing(cli, monkeypatch):
    def failing(*_, **__):
        raise cnnviz.CnnvizError("no")

    monkeypatch.setattr("cnnviz.attribute", failing)
    assert_refused(cli("cam", *FOLDER, "--target", "1"), "no")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert cli("cam", *FOLDER, "--target", "1").err.startswith("grad_cam of 3 photos takes")


def test_what_many_photos_take_is_added_up(cli):
    for i in range(3, 20):
        shutil.copy(f"photos/{i % 3}.png", f"photos/{i}.png")
    targets = [word for i in range(20) for word in ("--target", str(i % 4))]
    told = cli("cam", *FOLDER, *targets, "--dry-run", "--json").json
    assert (told["forwards"], told["backwards"], told["chunk"]) == (20, 20, 16)


def test_a_folder_becomes_a_folder(cli):
    before = contents(Path("photos"))
    found = cli("cam", *FOLDER, "--target", "1", "--out", "maps", "--json").json
    assert sorted(contents(Path("maps"))) == ["0.png", "1.png", "2.png", "cards.csv", "cards.json"]
    assert contents(Path("photos")) == before
    paths = [f"photos/{i}.png" for i in range(3)]
    wanted = cnnviz.grad_cam(OracleAdapter(), paths, 1)
    for i, overlay in enumerate(wanted.overlay()):
        with Image.open(f"maps/{i}.png") as picture:
            np.testing.assert_array_equal(np.asarray(picture), to_uint8(overlay))
    cards = json.loads(Path("maps/cards.json").read_text())
    assert [card["image"] for card in cards] == paths
    assert [card["picture"] for card in cards] == ["0.png", "1.png", "2.png"]
    np.testing.assert_allclose([card["score"] for card in cards], wanted.score)
    assert cards == [{"image": one["image"], "picture": card["picture"]} | one
                     for one, card in zip(found["maps"], cards, strict=True)]  # fmt: skip
    with open("maps/cards.csv") as table:
        rows = list(csv.DictReader(table))
    assert [float(row["high"]) for row in rows] == [card["high"] for card in cards]
    # Again, over what is there, gives the same.
    first = contents(Path("maps"))
    assert cli("cam", *FOLDER, "--target", "1", "--out", "maps").status == 0
    assert contents(Path("maps")) == first


def test_broken_photos_of_a_folder_are_passed_over(cli):
    whole = Path("photos/1.png").read_bytes()
    Path("photos/1.png").write_bytes(whole[: len(whole) // 2])
    Path("photos/notes.txt").write_text("not a photo")
    assert cli("attribute", *FOLDER, "--method", "saliency", "--dry-run").out.startswith(
        "saliency of 3 photos takes 3 forwards"
    )
    Path("photos/3.png").write_bytes(b"junk")
    told = cli("attribute", *FOLDER, "--method", "saliency", "--dry-run", "--json").json
    assert (told["forwards"], told["at_most"]) == (4, True)
    Path("photos/3.png").unlink()
    run = cli("attribute", *FOLDER, "--method", "saliency", "--out", "maps")
    assert run.status == 0
    assert "passed over" in run.out
    assert "'photos/1.png'" in run.out
    assert sorted(contents(Path("maps"))) == ["0.png", "2.png", "cards.csv", "cards.json"]
    # One that was named is an error.
    slopes = ["--method", "saliency"]
    assert_refused(cli("attribute", "net.py:build", "photos/1.png", *slopes), "damaged")
    for i in (0, 2):
        Path(f"photos/{i}.png").write_bytes(b"junk")
    assert_refused(cli("attribute", *FOLDER, *slopes, "--out", "none"), "none of 3 photos")
    assert not Path("none").exists()


def test_photos_of_one_name_are_told_apart(cli):
    Path("more").mkdir()
    shutil.copy("photos/0.png", "more/0.png")
    Image.open("photos/0.png").save("more/0.bmp")
    assert cli("cam", *FOLDER, "more", "--out", "maps").status == 0
    cards = json.loads(Path("maps/cards.json").read_text())
    names = [card["picture"] for card in cards]
    assert len(set(names)) == len(names) == 5
    assert all(Path("maps", name).exists() for name in names)


def test_nothing_of_the_users_is_written_over(cli):
    before = contents(Path("photos"))
    assert_refused(cli("cam", *FOLDER, "--out", "photos"), "would be written over")
    assert contents(Path("photos")) == before


def test_no_photo_is_written_over(cli):
    Path("link.png").symlink_to(Path("photos/0.png").resolve())
    Path("links").symlink_to(Path("photos").resolve())
    before = contents(Path())
    photo = "photos/0.png"
    for given, out in (
        (photo, photo),
        (photo, "photos/../photos/0.png"),
        (photo, "links/0.png"),
        (photo, "link.png"),
        ("link.png", photo),
        ("photos", "photos/2.png"),
    ):
        words = ["would be written over; name another file"]
        assert_refused(cli("cam", "net.py:build", given, "--out", out), *words)
        if given != "photos":
            assert_refused(cli("features", "net.py:build", given, "--out", out), *words)
            start = ["--start", given, "--out", out]
            assert_refused(cli("ascend", "net.py:build", "class:1", *start), *words)
    assert contents(Path()) == before
    assert cli("cam", "net.py:build", photo, "--out", "photos/new.png").status == 0


def test_fused_maps_are_told(cli):
    layers = ["--layer", "pool", "--layer", "relu:1", "--fuse", "max"]
    run = cli("cam", "net.py:build", "photos/0.png", "--target", "1", *layers)
    assert "2 layers fused by max" in run.out
    assert "0%" not in run.out


def test_settings_and_drawing(cli):
    given = ["attribute", "net.py:build", "photos/0.png", "--target", "1"]
    found = cli(
        *given, "--method", "integrated_gradients", "--set", "steps=3", "--set", "baseline=white",
        "--json", "--out", "a.npz",
    ).json  # fmt: skip
    wanted = cnnviz.attribute(
        OracleAdapter(), "photos/0.png", "integrated_gradients", 1, steps=3, baseline="white"
    )
    assert found["maps"][0]["residue"] == pytest.approx(wanted.facts["residue"][0])
    assert found["maps"][0]["steps"] == 3
    for more, drawn in (
        (["--signed"], wanted.overlay(signed=True)),
        (["--contour", "0.5", "--contour", "0.9"], wanted.contour((0.5, 0.9))),
        (["--alpha", "0.8"], wanted.overlay(alpha=0.8)),
    ):
        run = cli(
            *given, "--method", "integrated_gradients", "--set", "steps=3", "--set",
            "baseline=white", *more, "--out", "a.png",
        )  # fmt: skip
        assert run.status == 0
        with Image.open("a.png") as picture:
            np.testing.assert_array_equal(np.asarray(picture), to_uint8(drawn[0]))
    layers = cli(*given, "--method", "layer_cam", "--layer", "pool", "--layer", "relu:1",
                 "--fuse", "max", "--json").json  # fmt: skip
    assert layers["layer"] == "pool + relu:1"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--method", "nosuch"], "'saliency'"),
        (["--set", "steps"], "NAME=VALUE"),
        (["--set", "stops=3"], "'steps'"),
        (["--target", "1", "--target", "2"], "2 targets for 3 pictures"),
        (["--score", "odds"], "'probability'"),
        (["--interpolation", "cubic", "--out", "maps"], "'bicubic'"),
        (["--contour", "2", "--out", "maps"], "at most 1"),
        (["--alpha", "2", "--out", "maps"], r"must be in"),
        (["--layer", "pool"], "leave the layer out"),
        (["--fuse", "max"], "nothing to fuse"),
        (["--contour", "0.5", "--signed", "--out", "maps"], "omit --signed"),
        (["--contour", "0.5", "--alpha", "0.5", "--out", "maps"], "omit --alpha"),
        (["--set", "steps=3", "--set", "steps=4"], "--set steps is given twice"),
        (["--out", "nosuch/maps"], "make it first"),
        (["--out", "maps.txt"], "cannot tell the format"),
    ],
)
def test_what_cannot_be_meant(cli, arguments, words):
    before = contents(Path())
    assert_refused(cli("attribute", *FOLDER, *arguments), words)
    now = {name for name in contents(Path()) if not name.startswith("maps")}
    assert now == set(before)
    assert not [name for name in contents(Path()) if name.endswith(("cards.csv", "cards.json"))]


def test_an_empty_folder_is_told(cli):
    Path("empty").mkdir()
    assert_refused(cli("cam", "net.py:build", "empty"), "no photos in the folder 'empty'")
