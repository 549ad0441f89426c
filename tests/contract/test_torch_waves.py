"""Waves by a Fourier transform are what the matrices give, and so is their derivative."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cnnviz_torch import TorchOps

from cnnviz.ascent.canvas.lines import fourier_lines
from cnnviz.ops import WaveOps


def by_matrices(x):
    down, across = fourier_lines(x.shape[1]), fourier_lines(x.shape[2])
    return np.einsum("hk,nklc,wl->nhwc", down, x, across)


@pytest.mark.parametrize("sides", [(6, 8), (7, 5), (9, 4), (1, 2), (2, 1), (1, 1)])
def test_waves_and_their_derivative(sides):
    ops = TorchOps(torch.float64, torch.device("cpu"))
    assert isinstance(ops, WaveOps)
    rng = np.random.default_rng(0)
    x, slope = rng.normal(0, 1, (2, 2, *sides, 3))
    values = ops.asarray(x).requires_grad_(True)
    found = ops.waves(values)
    np.testing.assert_allclose(ops.to_numpy(found), by_matrices(x), atol=1e-12)
    (back,) = torch.autograd.grad(found, values, ops.asarray(slope))
    down, across = fourier_lines(sides[0]), fourier_lines(sides[1])
    wanted = np.einsum("hk,nhwc,wl->nklc", down, slope, across)
    np.testing.assert_allclose(ops.to_numpy(back), wanted, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_stay_what_they_are(dtype):
    ops = TorchOps(dtype, torch.device("cpu"))
    x = np.random.default_rng(0).normal(0, 1, (1, 6, 8, 3))
    found = ops.waves(ops.asarray(x))
    assert found.dtype == dtype
    np.testing.assert_allclose(ops.to_numpy(found), by_matrices(x), atol=0.05)
