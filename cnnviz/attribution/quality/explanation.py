"""A map together with what speaks for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.attribution.methods import attribute
from cnnviz.attribution.quality.removal import (
    average_drop_increase,
    deletion,
    insertion,
    road,
)
from cnnviz.attribution.quality.robustness import completeness, infidelity
from cnnviz.attribution.result import Attribution
from cnnviz.attribution.targets import Targets
from cnnviz.discovery import adapt
from cnnviz.errors import InvalidOption
from cnnviz.images import ImagesLike
from cnnviz.scores import ScoreKind

__all__ = ["CHECKS", "explain"]

Array = NDArray[Any]
Check = Callable[..., Array]
"""``check(net, attribution, target=..., batch=...)`` to a number a map, ``(N,)``."""


def _deletion(net: Any, attribution: Attribution, **how: Any) -> Array:
    return deletion(net, attribution, steps=_steps(attribution), **how).area


def _insertion(net: Any, attribution: Attribution, **how: Any) -> Array:
    return insertion(net, attribution, steps=_steps(attribution), **how).area


def _steps(attribution: Attribution) -> int:
    # As by default, but that a tiny picture has fewer pixels.
    return min(50, int(attribution.map[0].size))


def _drop(net: Any, attribution: Attribution, **how: Any) -> Array:
    return average_drop_increase(net, attribution, **how).drops


def _road(net: Any, attribution: Attribution, **how: Any) -> Array:
    return road(net, attribution, **how).gap


def _infidelity(net: Any, attribution: Attribution, **how: Any) -> Array:
    return infidelity(net, attribution, **how).share


CHECKS: Mapping[str, Check] = {
    "deletion": _deletion,
    "insertion": _insertion,
    "drop": _drop,
    "road": _road,
    "infidelity": _infidelity,
    "completeness": completeness,
}
"""What `explain` can measure, by name: areas, per cent of drop, ROAD's gap, unforetold share."""


def explain(
    net: Any,
    images: ImagesLike,
    method: str = "grad_cam",
    target: Targets = None,
    layer: str | Sequence[str] | None = None,
    *,
    checks: Sequence[str] = ("deletion", "insertion", "drop"),
    size: int | tuple[int, int] | None = None,
    batch: int | None = None,
    score: ScoreKind | None = None,
    fuse: str | None = None,
    **options: Any,
) -> Attribution:
    """Explain pictures, and measure the explanation; its cards tell both.

    Parameters
    ----------
    net, images, method, target, layer, size, batch, score, fuse
        As for `cnnviz.attribute`.
    checks : sequence of str
        What is measured, with its defaults: ``"deletion"`` and ``"insertion"`` (the areas),
        ``"drop"`` (per cent of the score), ``"road"`` (the gap), ``"infidelity"`` (the share of
        changes that is not foretold), ``"completeness"``.
    **options
        Settings of the method.

    Returns
    -------
    Attribution
        With one number a map and check in `Attribution.facts`; `Attribution.forwards` counts
        the method alone.

    Raises
    ------
    InvalidOption
        There is no such check, or as `attribute` and the checks.
    """
    for check in checks:
        if check not in CHECKS:
            raise InvalidOption(f"no check {check!r}; there are {', '.join(map(repr, CHECKS))}")
    adapter = adapt(net)
    found = attribute(
        adapter, images, method, target, layer, size=size, batch=batch, score=score, fuse=fuse,
        **options,
    )  # fmt: skip
    classes = all(one is not None for one in found.target)
    again = None if classes else target
    facts = {
        check: np.asarray(CHECKS[check](adapter, found, target=again, batch=batch))
        for check in checks
    }
    return replace(found, facts={**found.facts, **facts})
