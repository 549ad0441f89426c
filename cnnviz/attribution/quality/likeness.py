"""How alike two maps are: by the order of their pixels, and by their structure."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.errors import InvalidOption

__all__ = ["spearman", "ssim"]

Array = NDArray[Any]

# The window of Wang et al.: 11 pixels, a standard deviation of 1.5.
_RADIUS, _SIGMA = 5, 1.5


def spearman(a: Array, b: Array) -> float:
    """Give the rank correlation of two maps, in [-1, 1].

    The correlation of the ranks of their numbers; equal ones share the mean of their ranks.

    Parameters
    ----------
    a, b : array
        Of one shape.

    Returns
    -------
    float
        Of a map that is the same everywhere: 1 with another such, 0 with any other.

    Raises
    ------
    InvalidOption
        They differ in shape.
    """
    x, y = _pair(a, b)
    x, y = _ranks(x.ravel()), _ranks(y.ravel())
    x, y = x - x.mean(), y - y.mean()
    sizes = float((x * x).sum()), float((y * y).sum())
    if min(sizes) == 0:
        return float(max(sizes) == 0)
    return float(np.clip((x * y).sum() / np.sqrt(sizes[0] * sizes[1]), -1, 1))


def _ranks(values: Array) -> NDArray[np.float64]:
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray((ends - (counts - 1) / 2)[places.ravel()])


def ssim(a: Array, b: Array, value_range: float = 1.0) -> float:
    """Give the structural similarity of two maps [1]_, up to 1.

    ``(2 m_a m_b + c1) (2 s_ab + c2) / ((m_a^2 + m_b^2 + c1) (s_a^2 + s_b^2 + c2))``, averaged
    over all places, with means m and variances s in a Gaussian window of 11 pixels, standard
    deviation 1.5; ``c1 = (0.01 R)^2``, ``c2 = (0.03 R)^2``. Borders are mirrored.

    Parameters
    ----------
    a, b : array
        Maps over any number of axes, of one shape.
    value_range : float
        R: from the lowest to the highest value that there may be.

    Returns
    -------
    float

    Raises
    ------
    InvalidOption
        They differ in shape.

    References
    ----------
    .. [1] Wang et al., "Image Quality Assessment: From Error Visibility to Structural
       Similarity", IEEE TIP 2004.
    """
    x, y = _pair(a, b)
    c1, c2 = (0.01 * value_range) ** 2, (0.03 * value_range) ** 2
    mx, my = _window(x), _window(y)
    vx, vy, both = _window(x * x) - mx * mx, _window(y * y) - my * my, _window(x * y) - mx * my
    upper = (2 * mx * my + c1) * (2 * both + c2)
    return float((upper / ((mx * mx + my * my + c1) * (vx + vy + c2))).mean())


def _window(x: Array) -> Array:
    """Blur along every axis."""
    away = np.arange(-_RADIUS, _RADIUS + 1)
    weights = np.exp(-0.5 * (away / _SIGMA) ** 2)
    weights /= weights.sum()
    for axis in range(x.ndim):
        side = x.shape[axis]
        pads = [(_RADIUS, _RADIUS) if i == axis else (0, 0) for i in range(x.ndim)]
        padded = np.moveaxis(np.pad(x, pads, mode="symmetric"), axis, 0)
        total = weights[0] * padded[:side]
        for i in range(1, len(weights)):
            total = total + weights[i] * padded[i : i + side]
        x = np.moveaxis(total, 0, axis)
    return x


def _pair(a: Array, b: Array) -> tuple[Array, Array]:
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if x.shape != y.shape or not x.size:
        raise InvalidOption(f"maps that are compared have one shape, not {x.shape} and {y.shape}")
    return x, y
