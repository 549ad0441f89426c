"""Layers of PyTorch against layers of Keras are as alike as those of PyTorch among themselves."""

from __future__ import annotations

import numpy as np
import pytest
from nets import keras_small, torch_small

import cnnviz
from cnnviz.comparison.similarity import similarity
from cnnviz.testing import SMALL_PREPROCESSING, small_pictures

LAYERS = ("conv1", "bn1", "relu:0", "pool", "conv2", "relu:1", "gap", "fc")


@pytest.fixture(scope="module")
def nets():
    torch_net = cnnviz.adapt(torch_small.settle(torch_small.Small()), SMALL_PREPROCESSING)
    keras_net = cnnviz.adapt(keras_small.settle(keras_small.functional(None)), SMALL_PREPROCESSING)
    return torch_net, keras_net


@pytest.mark.parametrize("features", ["flat", "mean"])
@pytest.mark.parametrize("unbiased", [False, True])
def test_the_framework_makes_no_difference(nets, features, unbiased):
    torch_net, keras_net = nets
    options = {
        "layers": LAYERS,
        "other_layers": LAYERS,
        "features": features,
        "unbiased": unbiased,
        "batch": 8,
    }
    x = small_pictures(21)
    itself = similarity(torch_net, torch_net, x, **options)
    across = similarity(torch_net, keras_net, iter(x), **options)
    np.testing.assert_allclose(np.diag(across.matrix), 1, atol=1e-9)
    np.testing.assert_allclose(across.matrix, itself.matrix, atol=1e-9)
    turned = similarity(keras_net, torch_net, list(x), **options)
    np.testing.assert_allclose(turned.matrix, itself.matrix.T, atol=1e-9)


def test_the_default_is_every_layer_that_leads_to_the_score(nets):
    found = similarity(*nets, small_pictures(8))
    assert set(LAYERS) <= set(found.layers)
    assert set(LAYERS) <= set(found.other_layers)
    best = found.best()
    assert all(best[name][1] == pytest.approx(1, abs=1e-9) for name in LAYERS)
