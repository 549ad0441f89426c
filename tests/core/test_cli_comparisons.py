"""``compare`` and ``port``: what they say, write and refuse."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from shell import Run, assert_refused, contents, run_here

import cnnviz
from cnnviz.cli.bringing import wants_torch
from cnnviz.images import to_uint8
from cnnviz.testing import OracleAdapter, small_pictures, small_weights

MODULE = """
from cnnviz.testing import OracleAdapter, small_weights

def build():
    return OracleAdapter()

def near():
    weights = small_weights()
    weights["conv2.bias"] += 1e-6
    return OracleAdapter(weights)

def far():
    weights = small_weights()
    weights["conv2.bias"][:] = 0
    return OracleAdapter(weights)

def softmax():
    return OracleAdapter(softmax=True)

def unknown():
    return OracleAdapter(preprocessing=None)

def broken():
    raise RuntimeError("no such weights")

def marked():
    from pathlib import Path

    made = OracleAdapter()
    made.assign = lambda weights: Path("assigned").touch()
    return made
"""

LAYERS = ["conv1", "bn1", "relu:0", "pool", "conv2", "relu:1", "gap", "fc"]
SAME = ["net.py:build", "net.py:build", "photos"]
FAR = ["net.py:build", "net.py:far", "photos"]
PATHS = [f"photos/{i}.png" for i in range(3)]


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd) -> Callable[..., Run]:
    (tmp_path / "net.py").write_text(MODULE)
    (tmp_path / "photos").mkdir()
    for i, picture in enumerate(small_pictures(3, 12)):
        Image.fromarray(to_uint8(picture)).save(tmp_path / "photos" / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: run_here(capfd, *arguments)


def far() -> OracleAdapter:
    return OracleAdapter(small_weights() | {"conv2.bias": np.zeros(6)})


# Compare


def test_networks_that_do_the_same(cli):
    run = cli("compare", *SAME)
    assert run.status == 0
    assert run.err == ""
    assert "oracle (numpy) and oracle (numpy): they agree" in run.out.splitlines()
    assert run.out == f"{cnnviz.compare(OracleAdapter(), OracleAdapter(), PATHS)}\n"
    assert cli("compare", "net.py:build", "net.py:softmax", PATHS[0]).status == 0


def test_networks_that_part(cli):
    run = cli("compare", *FAR)
    assert run.status == 1
    assert run.err == ""
    assert "they part first at 'conv2'" in run.out
    assert "diagnosis: conv2: missing weight" in run.out


def test_the_tolerance_is_the_users(cli):
    near = ["net.py:build", "net.py:near", "photos"]
    assert cli("compare", *near).status == 1
    run = cli("compare", *near, "--tolerance", "1e-3")
    assert run.status == 0
    assert "they agree" in run.out
    assert "tolerance 0.001" in run.out
    assert cli("compare", *near, "--tolerance", "1e-9").status == 1


def test_numbers_are_those_of_the_library(cli):
    run = cli("compare", *FAR, "--layer-images", "2", "--json")
    assert run.status == 1
    wanted = cnnviz.compare(OracleAdapter(), far(), PATHS, layer_images=2)
    assert run.json == json.loads(json.dumps(wanted.to_json()))
    assert run.json["layer_images"] == 2
    assert run.json["images"] == 3
    same = cli("compare", *SAME, "--json")
    assert same.status == 0
    assert same.json["agree"] is True
    assert same.json["first_divergence"] is None


def test_the_size_is_the_users(cli):
    found = cli("compare", *SAME, "--size", "14", "--json").json
    assert found["layers"][0]["shape"] == [12, 12, 4]


def test_all_files_are_written(cli):
    before = contents(Path("photos"))
    files = ["c.html", "c.png", "c.json"]
    given = [word for file in files for word in ("--out", file)]
    run = cli("compare", *FAR, *given, "--pictures", "p.png")
    assert run.status == 1
    assert run.out.splitlines()[-4:] == [f"wrote {file}" for file in (*files, "p.png")]
    wanted = cnnviz.compare(OracleAdapter(), far(), PATHS)
    assert json.loads(Path("c.json").read_text()) == json.loads(json.dumps(wanted.to_json()))
    page = Path("c.html").read_text()
    assert page.startswith("<!doctype html>")
    assert "missing weight" in page
    for file in ("c.png", "p.png"):
        with Image.open(file) as picture:
            assert picture.format == "PNG"
    assert contents(Path("photos")) == before
    # Over what it wrote itself it writes again, and with --json says nothing else.
    again = cli("compare", *SAME, *given, "--json")
    assert again.json["agree"] is True
    assert json.loads(Path("c.json").read_text()) == again.json


@pytest.mark.parametrize("show", ["grad_cam", "saliency", "weights"])
def test_pictures_are_what_is_asked_for(cli, show):
    run = cli("compare", *FAR, "--pictures", "p.png", "--show", show)
    assert run.status == 1
    assert run.out.splitlines()[-1] == "wrote p.png"
    some = None if show == "weights" else PATHS
    wanted = cnnviz.side_by_side(OracleAdapter(), far(), some, show).save("wanted.png")
    with Image.open("p.png") as made, Image.open(wanted) as other:
        np.testing.assert_array_equal(np.asarray(made), np.asarray(other))


def test_layers_are_matched_as_told(cli):
    given = ["--layer", "relu:0=relu:1", "--layer", "conv1=conv1:0"]
    found = cli("compare", *SAME, *given, "--json")
    assert found.status == 1
    rows = {row["name"]: row["other"] for row in found.json["layers"]}
    assert (rows["relu:0"], rows["conv1"]) == ("relu:1", "conv1")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--show", "nosuch"], "--show is weights, or a method of attribution, not 'nosuch'"),
        (["--show", "feature_maps"], "not 'feature_maps'"),
        (["--show", "ascent"], "not 'ascent'"),
        (["--layer", "conv1"], "--layer takes A=B, a layer of each network, not 'conv1'"),
        (["--layer", "=conv1"], "--layer takes A=B"),
        (["--layer", "conv1="], "--layer takes A=B"),
        (["--layer", "conv9=conv1"], "conv9"),
        (["--layer", "conv1=conv9"], "conv9"),
        (["--layer", "conv1=conv1", "--layer", "conv2=conv1"], "given for two of the first"),
        (["--layer", "conv1=conv1", "--layer", "conv1:0=conv2"], "is given twice"),
        (["--tolerance", "0"], "tolerance"),
        (["--tolerance", "-1"], "tolerance"),
        (["--layer-images", "0"], "layer_images"),
        (["--size", "0"], "size"),
        (["--out", "c.csv"], "end it in .html, .png or .json"),
        (["--out", "nosuch/c.json"], "make it first"),
        (["--out", "photos"], "cannot tell the format"),
        (["--pictures", "p.jpg"], "cannot tell the format of 'p.jpg'"),
        (["--pictures", "photos/1.png"], "'photos/1.png' would be written over"),
        (["--out", "photos/../photos/0.png"], "would be written over; name another file"),
        (["--out", "c.json", "--out", "photos/2.png"], "would be written over"),
        (["--preprocessing", "nosuch"], "nosuch"),
    ],
)
def test_what_cannot_be_compared(cli, arguments, words):
    before = contents(Path())
    assert_refused(cli("compare", *SAME, *arguments), words)
    assert contents(Path()) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["net.py:build", "nowhere.py:build", "photos"], "nowhere.py"),
        (["net.py:nosuch", "net.py:build", "photos"], "nosuch"),
        (["net.py:build", "nowhere.keras", "photos"], "nowhere.keras"),
        (["nowhere.pt", "net.py:build", "photos"], "nowhere.pt"),
        (["net.py:build", "net.py:broken", "photos"], "no such weights"),
        (["net.py:build", "net.py:build", "nowhere.png"], "nowhere.png"),
        (["net.py:build", "net.py:build", "photos/0.png", "nowhere.png"], "nowhere.png"),
        (["net.py:build", "net.py:build", "net.py"], "net.py"),
        (["net.py:unknown", "net.py:build", "photos"], "cnnviz.adapt(model, preprocessing="),
        (["net.py:build", "net.py:unknown", "photos"], "cnnviz.adapt(model, preprocessing="),
        (
            ["net.py:unknown", "net.py:build", "photos", "--preprocessing", "imagenet"],
            "net.py:unknown returns an adapter, which takes no preprocessing from outside",
        ),
        (["net.py", "net.py:build", "photos"], "cannot tell what 'net.py' is"),
    ],
)
def test_what_is_not_there(cli, arguments, words):
    assert_refused(cli("compare", *arguments, "--out", "c.json"), words)
    assert not Path("c.json").exists()


def test_photos_are_read_before_a_network(cli):
    Path("photos/1.png").write_bytes(b"junk")
    assert_refused(cli("compare", "nowhere.py:build", "net.py:build", "photos"), "photos/1.png")


@pytest.mark.parametrize("option", ["tolerance", "layer-images"])
def test_limits_are_read_before_a_network(cli, option):
    run = cli("compare", "nowhere.py:build", "net.py:build", "photos", f"--{option}", "0")
    assert_refused(run, option.replace("-", "_"))


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        ("torchvision:resnet18", True),
        ("timm:resnet18", True),
        ("demo", True),
        ("demo:torch", True),
        ("demo:keras", False),
        ("keras:ResNet50", False),
        ("net.keras", False),
        ("net.PTH", True),
        ("direct.py:f", True),
        ("within.py:f", True),
        ("beside.py:f", True),
        ("circle.py:f", True),
        ("package.py:f", True),
        ("plain.py:f", False),
        ("direct.py", False),
        ("wrong.py:f", False),
        ("nowhere.py:f", False),
    ],
)
def test_what_imports_torch_is_read_off(tmp_path, monkeypatch, spec, wanted):
    files = {
        "direct.py": "from torch import nn",
        "within.py": "def f():\n    import keras\n    import torchvision.models as m",
        "beside.py": "import keras\nfrom direct import f",
        "circle.py": "from circle import beside\nimport beside",
        "package.py": "import os\nfrom nets import twins",
        "nets/twins.py": "import torch",
        "plain.py": "import keras\ntorch = 1  # import torch",
        "wrong.py": "import torch import",
    }
    (tmp_path / "nets").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    assert wants_torch(spec) is wanted


# Port


def test_what_cannot_be_saved_is_not_ported(cli):
    for out in ("out.pt", "out.keras", "out.weights.h5"):
        before = contents(Path())
        run = cli("port", "net.py:build", "net.py:marked", "--out", out, "--certificate", "c.json")
        assert_refused(run, f"numpy networks are not written to '{Path(out).suffix}' files")
        assert contents(Path()) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["net.py:build", "net.py:marked", "--out", "out.npz"], "cannot tell the format"),
        (["net.py:build", "net.py:marked", "--out", "nosuch/out.pt"], "make it first"),
        (
            ["net.py:build", "net.py:marked", "--out", "out.pt", "--certificate", "c.txt"],
            "cannot tell the format of 'c.txt'",
        ),
        (["source.pt", "net.py:marked", "--out", "source.pt"], "would be written over"),
        (["net.py:build", "target.keras", "--out", "target.keras"], "would be written over"),
        (["net.py:build", "nowhere.py:f", "--out", "out.pt"], "nowhere.py"),
        (["nowhere.pt", "net.py:marked", "--out", "out.pt"], "nowhere.pt"),
        (["net.py:build", "net.py:marked", "--out", "out.pt", "--layer", "fc"], "takes A=B"),
    ],
)
def test_what_cannot_be_ported(cli, arguments, words):
    before = contents(Path())
    assert_refused(cli("port", *arguments), words)
    assert contents(Path()) == before


def test_the_output_of_a_port_must_be_named(cli):
    run = cli("port", "net.py:build", "net.py:build")
    assert run.status == 2
    assert "--out" in run.err
