"""Every command on a real network of the backend, from the name to the file."""

from __future__ import annotations

import socket
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from shell import assert_refused, contents, run_here

from cnnviz import photos

NETWORKS = {
    # Spec, a layer in the middle, its channels, the layer of CAM, a tensor, a close name.
    "torch": ("torchvision:resnet18", "layer2.0.bn1", 128, "layer4", "conv1.weight", "resnet18"),
    "keras": (
        "keras:MobileNet",
        "conv_dw_3_relu",
        128,
        "conv_pw_13_relu",
        "conv1/kernel",
        "MobileNet",
    ),
}
CHELSEA, COFFEE = str(photos.path("chelsea")), str(photos.path("coffee"))


@pytest.fixture
def network(backend):
    return NETWORKS[backend.partition("-")[0]]


@pytest.fixture
def cli(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: run_here(capfd, *arguments)


def test_layers(network, cli):
    spec, layer, channels, *_ = network
    listed = cli("layers", spec, "--weights", "none", "--json").json
    (row,) = (row for row in listed if row["name"] == layer)
    assert row["output_shape"] == [None, 28, 28, channels] or row["output_shape"][1:3] == [56, 56]
    table = cli("layers", spec, "--weights", "none", "--size", "96")
    assert table.status == 0
    (line,) = (line for line in table.out.splitlines() if line.startswith(f"{layer} "))
    assert f"? x {row['output_shape'][1] * 96 // 224}" in line


def test_features(network, cli):
    spec, layer, channels, cam_layer, *_ = network
    given = ["features", spec, CHELSEA, COFFEE, "--weights", "none", "--layer", layer]
    found = cli(*given, "--layer", cam_layer, "--mark", "5", "--first", "12", "--out", "f.png")
    assert (found.status, found.err) == (0, "")
    assert f"{layer} channel 5: mean" in found.out
    assert f"of {channels}" in found.out
    with Image.open("f.png") as page:
        assert page.size[1] > 1000
    assert cli(*given, "--out", "f.npz").status == 0
    with np.load("f.npz") as maps:
        assert maps[layer].shape[0] == 2
        assert maps[layer].shape[-1] == channels


def test_weights(network, cli):
    spec, *_, tensor, _ = network
    given = ["weights", spec, "--weights", "none"]
    found = cli(*given, "--kernels", "k.png", "--out", "w.png")
    assert (found.status, found.err) == (0, "")
    assert tensor in found.out
    rows = cli(*given, "--json", "--out", "w.json").json
    assert sum(rows[0]["histogram"]) == rows[0]["count"]
    assert {"k.png", "w.png", "w.json"} == set(contents(Path()))


def test_cam(network, cli):
    spec, _, _, cam_layer, *_ = network
    given = ["cam", spec, CHELSEA, COFFEE, "--weights", "none"]
    found = cli(*given, "--target", "282", "--json", "--out", "c.png").json
    assert found["layer"] == cam_layer
    assert [one["target"] for one in found["maps"]] == [282, 282]
    same = cli(*given, "--layer", cam_layer, "--out", "c.npz")
    assert same.status == 0
    with np.load("c.npz") as maps:
        assert maps["map"].shape == (2, 224, 224)
        assert maps["map"].max() == 1


def test_ascend(network, cli):
    spec, layer, *_ = network
    small = ["--size", "48", "--octaves", "1", "--steps", "24", "--jitter", "0", "--blur", "0"]
    # Its changes are small, so what is seen last is comparable with what is seen first.
    given = ["ascend", spec, "--weights", "none", "--recipe", "distill", *small]
    found = cli(*given, f"{layer}:3", f"{layer}:4", "--json", "--out", "a.png").json
    assert found["shape"] == [2, 48, 48, 3]
    assert all(one["octaves"][-1] > one["start"] for one in found["pictures"])
    with Image.open("a.png") as page:
        assert "FourierCanvas" in page.text["cnnviz:recipe"]


def test_the_demo_network_knows_its_classes(backend, cli):
    framework = backend.partition("-")[0]
    given = ["cam", "demo", "--framework", framework, COFFEE]
    found = cli(*given, "--target", "espresso", "--json").json
    assert found["maps"][0]["name"] == "espresso"
    assert found["maps"][0]["score"] == max(
        cli(*given, "--target", name, "--json").json["maps"][0]["score"]
        for name in ("espresso", "967", "tiger cat")
    )
    before = contents(Path())
    refused = cli(*given, "--target", "espreso", "--out", "c.png")
    assert_refused(refused, "no class is called 'espreso'")
    assert_refused(cli(*given, "--target", "1000", "--out", "c.png"), "0..999")
    assert contents(Path()) == before


def test_a_function_may_build_the_network(backend, cli):
    nets = f"{backend.partition('-')[0]}_small"
    made = {"torch": "nets.Nested()", "keras": "nets.nested()"}[backend.partition("-")[0]]
    Path("net.py").write_text(
        f"from nets import {nets} as nets\nfrom beside import settled\n"
        f"def build():\n    return settled(nets, {made})\n"
    )
    Path("beside.py").write_text("def settled(nets, model):\n    return nets.settle(model)\n")
    given = ["cam", "net.py:build", CHELSEA, "--size", "10"]
    assert_refused(cli(*given), "--preprocessing")
    found = cli(*given, "--preprocessing", "tf", "--json")
    assert found.json["maps"][0]["target"] in range(5)


def test_the_closest_name_is_told(network, cli):
    spec, *_, close = network
    assert_refused(cli("layers", f"{spec[:-1]}x"), "has no model", close)


def test_a_device_that_is_not_there_is_told(network, cli):
    assert_refused(cli("layers", network[0], "--weights", "none", "--device", "nosuch"), "'nosuch'")


def test_the_own_device_can_be_said(network, cli):
    found = cli("layers", network[0], "--weights", "none", "--device", "cpu")
    assert (found.status, found.err) == (0, "")


def test_weights_that_cannot_be_fetched_are_told(network, cli, monkeypatch, tmp_path):
    def refuse(*args, **options):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    if network[0].startswith("keras"):
        home = "keras.src.utils.file_utils.config.keras_home"
        monkeypatch.setattr(home, lambda: str(tmp_path / "keras"))
    refused = cli("cam", network[0], CHELSEA, "--out", "c.png")
    assert_refused(refused, network[0], "Name or service not known", "--weights none")
    assert not [path for path in contents(tmp_path).values() if path]


def test_weights_that_do_not_fit_are_told(network, cli):
    Path("junk.h5").write_bytes(b"junk" * 100)
    assert_refused(cli("layers", network[0], "--weights", "junk.h5"), "junk.h5 does not fit")
    assert_refused(cli("layers", network[0], "--weights", "nosuch.h5"), "there is no file")
