"""The judge is judged first: the oracle passes its own checks, and agrees with a closed form."""

from __future__ import annotations

import numpy as np
import pytest

from cnnviz.adapter import INPUT
from cnnviz.testing import CHECKS, OracleAdapter, Subject, small_pictures


def snapshot(model):
    return {name: value.tobytes() for name, value in model.items()}


@pytest.mark.parametrize("softmax", [False, True], ids=["logits", "softmax"])
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_oracle_passes(check, softmax):
    check(Subject(OracleAdapter(softmax=softmax), snapshot, softmax=softmax, tolerance=1e-7))


def test_gradient_after_gap_is_the_dense_kernel():
    net = OracleAdapter()
    found = net.gradient(
        lambda acts: acts["fc"][:, 3], small_pictures(), taps=["fc"], wrt=["gap", "relu:1"]
    )
    kernel = net.model["fc.kernel"][:, 3]
    np.testing.assert_allclose(found.gradients["gap"], np.tile(kernel, (2, 1)), rtol=1e-8)
    np.testing.assert_allclose(
        found.gradients["relu:1"], np.broadcast_to(kernel / 4, (2, 2, 2, 6)), rtol=1e-8
    )


def test_stops_at_the_deepest_tap():
    net = OracleAdapter()
    net.forward(small_pictures(), taps=["pool"])
    assert net.evaluations == ["conv1", "bn1", "relu:0", "pool"]


def test_convolution_and_pooling_by_hand():
    net = OracleAdapter()
    x = small_pictures(1)
    found = net.forward(x, taps=["conv1", "relu:0", "pool", INPUT])
    patch = net.require_preprocessing().apply(x)[0, 2:5, 3:6]
    by_hand = np.sum(patch[..., None] * net.model["conv1.kernel"], axis=(0, 1, 2))
    np.testing.assert_allclose(found["conv1"][0, 2, 3], by_hand + net.model["conv1.bias"])
    np.testing.assert_allclose(found["pool"][0, 1, 2], found["relu:0"][0, 2:4, 4:6].max((0, 1)))
