"""Maps of several layers as one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.attribution.task import Maps, as_maps
from cnnviz.errors import InvalidOption

__all__ = ["FUSIONS", "fused", "require_fusion"]

Array = NDArray[Any]

FUSIONS: Mapping[str, Callable[[Array], Array]] = {
    "mean": lambda maps: np.asarray(maps.mean(0)),
    "max": lambda maps: np.asarray(maps.max(0)),
    "product": lambda maps: np.asarray(maps.prod(0)),
    # As LayerCAM has it, so that faint maps of shallow layers count.
    "tanh": lambda maps: np.asarray(np.tanh(2 * maps).max(0)),
}
"""Ways to make one map ``(M, H, W)`` of several ``(L, M, H, W)``, each in [0, 1]."""


def fused(maps: Sequence[Maps], how: str, size: tuple[int, ...]) -> Maps:
    """Enlarge the maps of several layers, scale each to [0, 1], and make one of them.

    Raises
    ------
    InvalidOption
        There is no such way.
    """
    require_fusion(how)
    raw = FUSIONS[how](np.stack([as_maps(one.raw, size) for one in maps]))
    empty = {i: why for i, why in maps[-1].empty.items() if not raw[i].any()}
    return Maps(raw, " + ".join(one.layer for one in maps), empty, fuse=how)


def require_fusion(how: str) -> None:
    """Raise InvalidOption unless several layers can be fused so."""
    if how not in FUSIONS:
        raise InvalidOption(f"fuse is one of {', '.join(map(repr, FUSIONS))}, not {how!r}")
