"""First and second derivatives of a score, once the graph of the run is there."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["curved", "jacobian", "slopes"]


def slopes(value: Tensor, leaves: Mapping[str, Tensor], *, kept: bool = False) -> dict[str, Tensor]:
    """Differentiate the sum of a score; zero where it does not depend on a leaf.

    Parameters
    ----------
    value : Tensor
    leaves : mapping of str to Tensor
        By tap.
    kept : bool
        Whether the graph is left for another derivative.
    """
    found: tuple[Tensor | None, ...] = (None,) * len(leaves)
    if value.requires_grad and leaves:
        found = torch.autograd.grad(
            value.sum(), tuple(leaves.values()), retain_graph=kept, allow_unused=True
        )
    return _filled(leaves, found)


def jacobian(value: Tensor, leaves: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Differentiate each column of a score ``(N, K)`` by itself, to ``(K, N, ...)``."""
    last = value.shape[1] - 1
    columns = [slopes(value[:, k], leaves, kept=k < last) for k in range(last + 1)]
    return {tap: torch.stack([column[tap] for column in columns]) for tap in leaves}


def curved(
    value: Tensor, leaves: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Give the derivatives, and the second derivatives times the leaves themselves."""
    found: tuple[Tensor | None, ...] = (None,) * len(leaves)
    if value.requires_grad and leaves:
        found = torch.autograd.grad(
            value.sum(), tuple(leaves.values()), create_graph=True, allow_unused=True
        )
    bends = []
    # One by one: a leaf that depends on another changes with it, but is held for its own.
    for leaf, slope in zip(leaves.values(), found, strict=True):
        bend = None
        if slope is not None and slope.requires_grad:
            along = (slope * leaf.detach()).sum()
            (bend,) = torch.autograd.grad(along, leaf, retain_graph=True, allow_unused=True)
        bends.append(bend)
    return _filled(leaves, found), _filled(leaves, bends)


def _filled(
    leaves: Mapping[str, Tensor], found: tuple[Tensor | None, ...] | list[Tensor | None]
) -> dict[str, Tensor]:
    return {
        tap: torch.zeros_like(leaf) if one is None else one.detach()
        for (tap, leaf), one in zip(leaves.items(), found, strict=True)
    }
