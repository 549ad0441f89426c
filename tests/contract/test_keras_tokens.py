"""Tokens: where they lie is found, not assumed, and channels are never taken for them."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from cnnviz_keras.tokens import TokenGrid, corners, grid_of
from nets import keras_structures as nets
from nets.keras_small import DTYPE, functional

import cnnviz

L = keras.layers


@pytest.mark.parametrize(
    ("class_token", "registers", "before"), [(False, 0, 0), (True, 0, 1), (True, 3, 1)]
)
def test_the_grid_of_a_transformer(class_token, registers, before):
    model = nets.transformer(class_token=class_token, registers=registers)
    rows = {layer.name: layer for layer in cnnviz.adapt(model, "identity").layers()}
    count = 15 + before + registers
    for name in ("norm", "attention", "add", "mlp"):
        assert rows[name].output_shape == (None, count, 6)
        assert rows[name].tokens, name
        assert (rows[name].spatial, rows[name].class_tokens) == ((3, 5), before), name
    assert rows["tokens"].spatial == rows["patches"].spatial == (3, 5)
    assert rows["tokens"].class_tokens == 0
    assert not rows["patches"].tokens
    assert rows["pooled"].spatial == ()
    assert rows["patches"].receptive_field == (8, 8)
    assert rows["attention"].receptive_field == "all"


def test_a_picture_that_its_patches_do_not_fill():
    rows = {r.name: r for r in cnnviz.adapt(nets.transformer(30, 47), "identity").layers()}
    assert rows["mlp"].spatial == (3, 5)


def test_a_tap_at_tokens_lies_on_the_picture():
    """What changes in one patch changes the token of that patch."""
    net = cnnviz.adapt(nets.transformer(), "identity")
    plain = np.full((1, 24, 40, 3), 0.5)
    spot = plain.copy()
    spot[:, 8:16, 24:32] += 0.2
    both = net.forward(net.ops.asarray(np.concatenate([plain, spot])), taps=["class_token"])
    value = net.ops.to_numpy(both["class_token"])
    layer = net.layer("class_token")
    grid = value[:, layer.class_tokens :].reshape(2, *layer.spatial, -1)
    moved = np.abs(grid[1] - grid[0]).max(-1) > 1e-6
    assert list(zip(*np.nonzero(moved), strict=True)) == [(1, 3)]


def test_channels_are_not_taken_for_tokens():
    """Maps flattened channels first: (N, C, H W) has the shape of tokens, and holds none."""
    x = keras.Input((12, 12, 3), dtype=DTYPE)
    y = L.Conv2D(16, 3, strides=3, name="conv", dtype=DTYPE)(x)
    y = L.Reshape((16, 16), name="places", dtype=DTYPE)(y)
    y = L.Permute((2, 1), name="channels", dtype=DTYPE)(y)
    y = L.Dense(5, name="mixed", dtype=DTYPE)(y)
    y = L.Flatten(name="flat", dtype=DTYPE)(y)
    net = cnnviz.adapt(keras.Model(x, L.Dense(2, name="fc", dtype=DTYPE)(y)), "identity")
    rows = {layer.name: layer for layer in net.layers()}
    assert rows["places"].spatial == (4, 4)
    assert rows["channels"].spatial == ()
    assert rows["mixed"].spatial == ()


def test_tokens_that_are_mixed_already_have_no_grid():
    x = keras.Input((12, 12, 3), dtype=DTYPE)
    y = L.Conv2D(4, 3, strides=3, name="conv", dtype=DTYPE)(x)
    y = L.Reshape((1, 64), name="flat", dtype=DTYPE)(y)
    y = L.Dense(36, name="mixed", dtype=DTYPE)(y)
    y = L.Reshape((9, 4), name="like_tokens", dtype=DTYPE)(y)
    y = L.GlobalAveragePooling1D(dtype=DTYPE)(y)
    net = cnnviz.adapt(keras.Model(x, y), "identity")
    assert net.layer("like_tokens").spatial == ()


def test_scores_of_attention_are_no_map():
    x = keras.Input((16, 16, 3), dtype=DTYPE)
    y = L.Conv2D(6, 4, strides=4, name="patches", dtype=DTYPE)(x)
    y = L.Reshape((16, 6), name="tokens", dtype=DTYPE)(y)
    y, scores = L.MultiHeadAttention(2, 3, name="attention", dtype=DTYPE)(
        y, y, return_attention_scores=True
    )
    out = L.GlobalAveragePooling1D(dtype=DTYPE)(y)
    net = cnnviz.adapt(keras.Model(x, [out, scores]), "identity")
    rows = {layer.name: layer for layer in net.layers()}
    assert rows["attention[0]"].spatial == (4, 4)
    assert rows["attention[1]"].output_shape == (None, 2, 16, 16)
    assert rows["attention[1]"].spatial == ()


def test_convolutions_cost_no_run(monkeypatch):
    net = cnnviz.adapt(functional(), "identity")
    monkeypatch.setattr(net._engine, "forward", None)
    assert len(net.layers()) == 8


@pytest.mark.parametrize("shape", [(1, 7), (7, 1), (4, 6)])
@pytest.mark.parametrize("around", [(0, 0), (2, 1)])
def test_the_grid_of_overlapping_patches(shape, around):
    """Patches of 8 pixels at steps of 4, so that a corner may be in several."""
    before = around[0]
    height, width = (4 * n + 4 for n in shape)
    pictures = corners(height, width, 2)
    rows = [
        pictures[:, 4 * i : 4 * i + 8, 4 * j : 4 * j + 8].mean((1, 2))
        for i in range(shape[0])
        for j in range(shape[1])
    ]
    values = np.stack(rows, axis=1)
    values = np.pad(values, ((0, 0), around, (0, 0)))
    assert grid_of(values) == TokenGrid(shape, before)
    assert grid_of(values.swapaxes(1, 2)) is None
