"""Linear CKA of features: Gram matrices, their centring and the criteria HSIC, in float64."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.errors import InvalidOption

__all__ = ["alignment", "centred", "gram", "least_examples", "linear_cka"]

Matrix = NDArray[np.float64]

# Numbers in float64 that are multiplied at once: they stay in the cache.
_AT_ONCE = 2**17
# The square of a product of features must be a number too.
_LARGEST = 1e140
# What is left of a Gram matrix by its rounding alone.
_ROUNDING = 1e-13


def least_examples(unbiased: bool) -> int:
    """Say of how many examples an estimate can be made."""
    return 4 if unbiased else 2


def linear_cka(x: Any, y: Any, *, unbiased: bool = False) -> float:
    """Compare features of the same examples: 1 if equal but for a rotation and a scale [1]_.

    ``HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L))`` of the Gram matrices ``K = X X^T`` and
    ``L = Y Y^T``, in float64, by these or by the covariances, whichever are smaller.

    Parameters
    ----------
    x, y : array
        ``(N, ...)``: a row an example, flattened; the other axes may differ.
    unbiased : bool
        Whether HSIC is the unbiased estimate HSIC_1 [2]_. The biased one nears 1 for any
        features that are wider than there are examples; the unbiased may lie below 0.

    Returns
    -------
    float
        0 where `x` or `y` is the same for every example.

    Raises
    ------
    InvalidOption
        `x` and `y` differ in length, there are fewer than 2 examples (4 for the unbiased
        estimate), or numbers are not finite.

    References
    ----------
    .. [1] Kornblith et al., "Similarity of Neural Network Representations Revisited", ICML
       2019, arXiv:1905.00414.
    .. [2] Song et al., "Feature Selection via Dependence Maximization", JMLR 13, 2012.
    """
    one, other = _rows(x, "x"), _rows(y, "y")
    count, least = len(one), least_examples(unbiased)
    if len(other) != count:
        raise InvalidOption(
            f"x holds {count} examples and y {len(other)}; give features of the same ones"
        )
    if count < least:
        kind = "unbiased" if unbiased else "biased"
        raise InvalidOption(f"{kind} CKA takes at least {least} examples, not {count}")
    pair = [_unit(features) for features in (one, other)]
    if count > max(features.shape[1] for features in pair):
        (x, y), measure = pair, _by_covariance
    else:
        x, y = (centred(features @ features.T, unbiased) for features in pair)
        measure = _by_gram
    own = np.array([[measure(x, x, unbiased)], [measure(y, y, unbiased)]])
    return float(alignment(np.array([[measure(x, y, unbiased)]]), own[0], own[1])[0, 0])


def gram(parts: Sequence[NDArray[Any]], what: str) -> tuple[Matrix, bool]:
    """Multiply the features of examples by each other, and say whether they are all the same.

    Parameters
    ----------
    parts : sequence of array
        ``(n, P)``: the rows in pieces, of any dtype.
    what : str
        Whose features they are, for the error.

    Returns
    -------
    array, bool
        ``(N, N)`` in float64, counted from the first example, which centring takes away again.
        All zero where nothing but rounding sets the examples apart.

    Raises
    ------
    InvalidOption
        Numbers are not finite.
    """
    count, width = sum(map(len, parts)), parts[0].shape[1]
    step = max(1, _AT_ONCE // count)
    total = np.zeros((count, count))
    constant = True
    with np.errstate(invalid="ignore", over="ignore"):
        for start in range(0, width, step):
            some = np.concatenate([part[:, start : start + step] for part in parts])
            some, equal = _differences(some)
            constant = constant and equal
            total += some @ some.T
    # A number that is not finite spoils the product of its row with itself.
    if not (np.diagonal(total) < _LARGEST).all():
        raise InvalidOption(f"{what}: features are not finite, or too large to be compared")
    return (np.zeros_like(total) if constant else total), constant


def centred(kernel: Matrix, unbiased: bool) -> Matrix:
    """Take the means of rows and columns away; for HSIC_1 without regard to the diagonal.

    The sum of the products of two such matrices is proportional to their HSIC.
    """
    n = len(kernel)
    kernel = np.array(kernel)
    size = np.linalg.norm(kernel)
    if unbiased:
        np.fill_diagonal(kernel, 0)
        rows = kernel.sum(axis=0)
        kernel += rows.sum() / ((n - 1) * (n - 2)) - (rows[:, None] + rows) / (n - 2)
        np.fill_diagonal(kernel, 0)
    else:
        rows = kernel.mean(axis=0)
        kernel += rows.mean() - (rows[:, None] + rows)
    # Examples that are all equally far apart leave nothing: rounding would have a direction.
    return np.zeros_like(kernel) if np.linalg.norm(kernel) <= _ROUNDING * n * size else kernel


def alignment(cross: Matrix, own: Matrix, other: Matrix) -> Matrix:
    """Divide HSIC of pairs ``(La, Lb)`` by the roots of HSIC of each with itself; 0 for 0 / 0."""
    scale = np.sqrt(np.maximum(own, 0))[:, None] * np.sqrt(np.maximum(other, 0))
    return np.asarray(np.divide(cross, scale, out=np.zeros_like(cross), where=scale > 0))


def _rows(x: Any, name: str) -> NDArray[Any]:
    array = np.asarray(x)
    if array.ndim == 0 or array.dtype.kind not in "biuf":
        raise InvalidOption(f"{name} is an array (N, ...) of real numbers, a row an example")
    array = array.reshape(len(array), -1) if array.size else np.zeros((len(array), 1))
    if not (np.abs(array.astype(np.float64)) < _LARGEST).all():
        raise InvalidOption(f"{name}: features are not finite, or too large to be compared")
    return array


def _unit(features: NDArray[Any]) -> Matrix:
    """Centre features and divide them by the largest; all zero where they are constant."""
    found, constant = _differences(features)
    if constant:
        return np.zeros_like(found)
    found -= found.mean(axis=0)
    return np.asarray(found / np.abs(found).max())


def _differences(features: NDArray[Any]) -> tuple[Matrix, bool]:
    """Count features from the first example; say whether rounding alone sets the others apart."""
    own = features.dtype.kind == "f"
    rounding = 8 * float(np.finfo(features.dtype).eps) if own else 0.0
    found = features.astype(np.float64)
    base = found[0].copy()
    found -= base
    return found, bool((np.abs(found) <= rounding * np.abs(base)).all())


def _by_gram(x: Matrix, y: Matrix, unbiased: bool) -> float:
    return float(np.vdot(x, y))


def _by_covariance(x: Matrix, y: Matrix, unbiased: bool) -> float:
    """Work HSIC out, up to a factor, from features ``(N, P)`` that are centred."""
    cross = float(((x.T @ y) ** 2).sum())
    if not unbiased:
        return cross
    # The sums over all but the diagonal, of kernels whose rows add up to zero.
    n, k, m = len(x), (x**2).sum(axis=1), (y**2).sum(axis=1)
    both = float(k @ m)
    found = cross - both + k.sum() * m.sum() / ((n - 1) * (n - 2)) - 2 * both / (n - 2)
    return found if abs(found) > _ROUNDING * n * cross else 0.0
