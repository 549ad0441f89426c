"""Files of torch on the command line: exports, TorchScript, and what is neither."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from nets.torch_small import Nested, Small, settle
from shell import assert_refused, contents, run_here
from torch import nn

import cnnviz
from cnnviz import photos

CHELSEA = str(photos.path("chelsea"))
CAM = ["--preprocessing", "tf", "--json"]


@pytest.fixture
def cli(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: run_here(capfd, *arguments)


@pytest.fixture
def model():
    return settle(Small()).float()


def export(model, path, *shape, dynamic=("N",)):
    sides = {
        i: torch.export.Dim(name, min=1 if name == "N" else 16)
        for i, name in enumerate(dynamic)
        if name
    }
    pictures = torch.zeros(shape)
    program = torch.export.export(model, (pictures,), dynamic_shapes=(sides,))
    torch.export.save(program, path)


def script(model, path, traced=False):
    with warnings.catch_warnings():
        # Deprecated since torch 2.5, and still what many people have in their files.
        warnings.simplefilter("ignore")
        pictures = torch.zeros(1, 3, 32, 32)
        made = torch.jit.trace(model, pictures) if traced else torch.jit.script(model)
        made.save(path)


def test_an_export_has_the_layers_of_the_original(cli, model):
    model = settle(Nested()).float()
    export(model, "net.pt2", 2, 3, 32, 32)
    found = cli("layers", "net.pt2", "--json").json
    original = cnnviz.layers(cnnviz.adapt(model, input_shape=(32, 32, 3))).to_json()
    # Blocks of which nothing else is left are told by their parts alone.
    assert [row for row in original if row["leaf"]] == [row for row in found if row["leaf"]]
    assert {row["name"] for row in found} <= {row["name"] for row in original}


def test_an_export_has_the_maps_of_the_original(cli, model):
    export(model, "net.pt2", 2, 3, 32, 32)
    net = cnnviz.adapt(model, preprocessing="tf", input_shape=(32, 32, 3))
    given = ["net.pt2", CHELSEA, "--preprocessing", "tf"]
    assert cli("features", *given, "--layer", "relu:1", "--out", "f.npz").status == 0
    expected = cnnviz.feature_maps(net, CHELSEA, "relu:1", size=32)["relu:1"]
    with np.load("f.npz") as maps:
        np.testing.assert_allclose(maps["relu:1"], expected, rtol=1e-5, atol=1e-6)
    for method in ("grad_cam", "cam"):
        assert cli("cam", *given, "--method", method, "--out", "c.npz").status == 0
        with np.load("c.npz") as maps:
            expected = cnnviz.attribute(net, CHELSEA, method, size=32).raw
            np.testing.assert_allclose(maps["raw"], expected, rtol=1e-4, atol=1e-5)
    small = ["--steps", "4", "--octaves", "3", "--out", "a.png"]
    made = cli("ascend", *given[:1], "conv2:3", *given[2:], *small)
    assert "one size of picture only" in made.out


def test_an_export_has_the_weights_of_the_original(cli, model):
    export(model, "net.pt2", 2, 3, 32, 32)
    script(model, "net.pt")
    expected = cnnviz.weight_stats(cnnviz.adapt(model)).to_json()
    assert cli("weights", "net.pt2", "--json").json == expected
    assert cli("weights", "net.pt", "--json").json == expected


def test_a_size_serves_where_the_export_tells_none(cli):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    export(model.eval(), "net.pt2", 2, 3, 32, 32, dynamic=("N", "", "H", "W"))
    assert_refused(cli("layers", "net.pt2"), "--size")
    rows = cli("layers", "net.pt2", "--size", "24x40", "--json").json
    assert rows[0]["output_shape"] == [None, 22, 38, 4]
    found = cli("cam", "net.pt2", CHELSEA, "--size", "24x40", *CAM)
    assert found.json["layer"] == "1"


def test_an_export_of_one_picture_takes_one(cli, model):
    export(model, "net.pt2", 1, 3, 32, 32, dynamic=())
    assert cli("cam", "net.pt2", CHELSEA, *CAM).status == 0
    assert_refused(cli("cam", "net.pt2", CHELSEA, CHELSEA, *CAM), "dynamic_shapes")


def test_an_export_in_training_mode_is_refused(cli, model):
    export(model.train(), "net.pt2", 2, 3, 32, 32)
    assert_refused(cli("layers", "net.pt2"), "training mode", "model.eval()")


@pytest.mark.parametrize("how", ["scripted", "traced", "training"])
def test_a_class_of_torchscript_ascends(how, cli, model):
    script(model.train(how == "training"), "net.pt", traced=how == "traced")
    given = ["net.pt", "--preprocessing", "tf"]
    small = ["--size", "32", "--octaves", "1", "--steps", "8", "--jitter", "0", "--blur", "0"]
    made = cli("ascend", *given, "class:3", *small, "--out", "a.png", "--json").json
    expected = cnnviz.ascend(
        cnnviz.adapt(model.eval(), preprocessing="tf"),
        "class:3",
        size=32,
        octaves=1,
        steps=8,
        jitter=0,
        blur=0,
    )
    assert made["pictures"][0]["octaves"] == [pytest.approx(expected.trace[-1, 0], rel=1e-3)]
    assert expected.trace[-1, 0] > expected.trace[0, 0]
    before = contents(Path())
    for refused in (
        cli("layers", "net.pt", "--size", "32"),
        cli("cam", *given, CHELSEA, "--size", "32", "--out", "b.png"),
        cli("features", *given, CHELSEA, "--size", "32", "--layer", "conv1", "--out", "b.png"),
        cli("ascend", *given, "conv1:1", *small, "--out", "b.png"),
    ):
        assert_refused(refused, "TorchScript", "hides its layers", ".pt2")
    assert_refused(cli("ascend", *given, "class:5", *small, "--out", "b.png"), "0..4")
    assert contents(Path()) == before


@pytest.mark.parametrize("suffix", ["pt", "pth", "pt2"])
@pytest.mark.parametrize("what", ["junk", "nothing", "weights", "module"])
def test_other_files_are_refused(what, suffix, cli, model):
    path = Path(f"net.{suffix}")
    if what in ("junk", "nothing"):
        path.write_bytes(b"junk" * 100 if what == "junk" else b"")
    else:
        torch.save(model.state_dict() if what == "weights" else model, path)
    refused = cli("layers", str(path))
    assert_refused(refused, str(path), "is not")
    if suffix != "pt2":
        assert "module.py:function" in refused.err


def test_a_state_dict_gives_a_network_its_weights(cli):
    import torchvision

    model = torchvision.models.resnet18(weights=None)
    torch.save(model.state_dict(), "w.pth")
    rows = cli("weights", "torchvision:resnet18", "--weights", "w.pth", "--json").json
    assert rows == cnnviz.weight_stats(cnnviz.adapt(model)).to_json()
    torch.save({"conv1.weight": torch.zeros(3)}, "w.pth")
    refused = cli("weights", "torchvision:resnet18", "--weights", "w.pth")
    assert_refused(refused, "does not fit", "Missing key(s)")


def test_segmentation_without_weights_fetches_none(cli, monkeypatch):
    def fetch(*args, **kwargs):
        raise AssertionError("the weights of the backbone are fetched")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", fetch)
    spec = "torchvision:lraspp_mobilenet_v3_large"
    done = cli("cam", spec, CHELSEA, "--weights", "none", "--size", "64", "--json")
    assert done.status == 0
    assert "taken at 'backbone[high]'" in done.out
