"""The small network of the tests, as data: numbers that every framework can be given.

Its layers, by the names that the oracle uses::

    conv1   3 x 3, valid, 3 -> 4, with bias
    bn1     batch norm, eps 1e-3
    relu:0  (in place where the framework can)
    pool    max, 2 x 2
    conv2   3 x 3, valid, 4 -> 6, with bias
    relu:1  the same layer, called again
    gap     mean over space
    fc      6 -> 5, with bias
    softmax only if asked for
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cnnviz.preprocessing import Preprocessing

__all__ = ["BN_EPS", "SMALL_PREPROCESSING", "small_pictures", "small_weights"]

BN_EPS = 1e-3
SMALL_PREPROCESSING = Preprocessing((0.5, 0.4, 0.3), (0.3, 0.25, 0.2), size=(10, 10))


def small_weights(seed: int = 0) -> dict[str, NDArray[np.float64]]:
    """Draw the weights: kernels ``(kh, kw, in, out)``, dense ``(in, out)``, settled batch norm."""
    rng = np.random.default_rng(seed)
    return {
        "conv1.kernel": rng.normal(0, 0.4, (3, 3, 3, 4)),
        "conv1.bias": rng.normal(0, 0.2, 4),
        "bn1.scale": rng.uniform(0.5, 1.5, 4),
        "bn1.offset": rng.normal(0, 0.3, 4),
        "bn1.mean": rng.normal(0, 0.5, 4),
        "bn1.variance": rng.uniform(0.5, 2.0, 4),
        "conv2.kernel": rng.normal(0, 0.4, (3, 3, 4, 6)),
        "conv2.bias": rng.normal(0, 0.2, 6),
        "fc.kernel": rng.normal(0, 0.6, (6, 5)),
        "fc.bias": rng.normal(0, 0.2, 5),
    }


def small_pictures(count: int = 2, side: int = 10, seed: int = 1) -> NDArray[np.float64]:
    """Draw pictures ``(count, side, side, 3)`` in [0, 1]."""
    return np.random.default_rng(seed).uniform(0, 1, (count, side, side, 3))
