"""Sheets in float32, where networks of ReLUs are chaotic: the same bytes, come what may."""

from __future__ import annotations

import pytest

import cnnviz

LAYERS = {"torch": "blocks.1.expand.bn", "keras": "block1_expand_bn"}
SETTINGS = {
    "size": 48,
    "octaves": 1,
    "steps": 12,
    "jitter": 4,
    "blur": 0,
    "transforms": (),
    "batch": 4,
}


@pytest.fixture(scope="module")
def net(backend):
    return cnnviz.load("demo", framework=backend.partition("-")[0])


def test_same_bytes_whatever_the_order_and_the_interruption(net, backend, tmp_path, monkeypatch):
    layer = LAYERS[backend.partition("-")[0]]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    cnnviz.ascend_layer(net, layer, range(6), folder=whole, **SETTINGS)

    class KilledError(Exception):
        pass

    original = cnnviz.images.save

    def killed(path, *args):
        if path.name == "00003.png":
            raise KilledError
        return original(path, *args)

    with monkeypatch.context() as patch:
        patch.setattr(cnnviz.images, "save", killed)
        with pytest.raises(KilledError):
            cnnviz.ascend_layer(net, layer, [5, 4, 3, 2], folder=parts, **SETTINGS)
    assert {path.name for path in parts.iterdir()} == {"00005.png", "00004.png"}
    made = cnnviz.ascend_layer(net, layer, range(6), folder=parts, **SETTINGS)
    assert [path.name for path in made.files] == [f"{one:05d}.png" for one in range(6)]
    for path in whole.iterdir():
        assert (parts / path.name).read_bytes() == path.read_bytes(), path.name
