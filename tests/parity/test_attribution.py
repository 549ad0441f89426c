"""Every method of attribution says the same in PyTorch and in Keras, to the ninth digit."""

from __future__ import annotations

import numpy as np
import pytest
from attributions import AT, OPTIONS
from nets import keras_small, torch_small

import cnnviz
from cnnviz.testing import SMALL_PREPROCESSING, small_pictures


@pytest.fixture(scope="module")
def nets():
    torch_net = cnnviz.adapt(torch_small.settle(torch_small.Small()), SMALL_PREPROCESSING)
    keras_net = cnnviz.adapt(keras_small.settle(keras_small.functional(None)), SMALL_PREPROCESSING)
    return torch_net, keras_net


@pytest.mark.parametrize("method", sorted(cnnviz.METHODS))
def test_maps(nets, method):
    options = OPTIONS.get(method, {})
    one, two = (
        cnnviz.attribute(net, small_pictures(), method, [1, 4], AT.get(method), **options)
        for net in nets
    )
    scale = np.abs(one.raw).max()
    assert scale > 0
    assert np.abs(one.raw - two.raw).max() <= 1e-9 * scale
    assert np.abs(one.map - two.map).max() <= 1e-8
    np.testing.assert_allclose(one.score, two.score, rtol=1e-9)
    assert (one.forwards, one.backwards) == (two.forwards, two.backwards)


def test_refined_integrals_take_the_same_way(nets):
    one, two = (
        cnnviz.attribute(net, small_pictures(), "integrated_gradients", [1, 4]) for net in nets
    )
    np.testing.assert_array_equal(one.facts["steps"], two.facts["steps"])
    assert np.abs(one.values - two.values).max() <= 1e-9 * np.abs(one.values).max()
