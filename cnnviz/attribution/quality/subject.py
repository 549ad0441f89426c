"""What is measured: maps at the size of their pictures, and the network that scores variants."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz import images
from cnnviz.attribution.result import Attribution
from cnnviz.attribution.targets import Targets
from cnnviz.attribution.task import Task
from cnnviz.batches import evenly, spans
from cnnviz.errors import InvalidOption
from cnnviz.progress import tracked
from cnnviz.scores import ScoreKind

__all__ = ["Subject", "ordering_maps", "subject_of"]

Array = NDArray[Any]


@dataclass
class Subject:
    """Maps, and a task with one picture and one target for each of them.

    Attributes
    ----------
    task : Task
    maps : array
        ``(N, *sides)``, at the size of the pictures.
    what : str
        What is done, for the bar.
    """

    task: Task
    maps: Array
    what: str

    def rows(self) -> Iterator[int]:
        """Give the number of each map, behind a bar."""
        yield from tracked(range(len(self.maps)), f"{self.what} {self.task.net.name}", self.count)

    @property
    def count(self) -> int:
        """How many maps there are."""
        return len(self.maps)

    def scores(self, row: int, count: int, make: Callable[[int, int], Array]) -> Array:
        """Score variants of one picture, in chunks of one size.

        Parameters
        ----------
        row : int
            Which picture.
        count : int
            How many variants.
        make : callable
            ``make(first, stop)`` to those variants, ``(stop - first, *sides, C)``.

        Returns
        -------
        array
            ``(count,)`` in float64.
        """
        task, found = self.task, []
        batch = evenly(count, task.batch())
        for some, meant in spans(count, batch, task.net.compiled):
            x = make(int(some[0]), int(some[0]) + meant)
            if meant < len(some):
                x = np.concatenate([x, np.repeat(x[-1:], len(some) - meant, 0)])
            values = task.values(task.ops.asarray(x), np.full(len(x), row))
            found.append(values[:meant, 0].astype(np.float64))
        return np.concatenate(found)

    def clean(self) -> Array:
        """Score the pictures themselves, ``(N,)`` in float64."""
        return self.task.scores().astype(np.float64)


def ordering_maps(attribution: Attribution) -> Array:
    """Give the maps that pixels are ordered by: signed, at the size of the pictures."""
    from cnnviz.attribution.methods import METHODS

    method = METHODS.get(attribution.method)
    return attribution.map if method is not None and not method.signed else attribution.signed


def subject_of(
    net: Any,
    attribution: Attribution,
    what: str,
    *,
    maps: Array | None = None,
    target: Targets = None,
    score: ScoreKind = "probability",
    batch: int | None = None,
) -> Subject:
    """Make ready what a measure needs.

    Parameters
    ----------
    net : model or Adapter
    attribution : Attribution
        Whose pictures and classes are taken.
    what : str
        For the bar.
    maps : array, optional
        ``(N, h, w)`` to be judged in place of those of the attribution.
    target : see `cnnviz.attribute`
        Where no class was explained: the same that was.
    score : {"logit", "probability"}
    batch : int, optional

    Raises
    ------
    InvalidOption
        What was explained is not known, or the maps do not fit.
    """
    if target is None:
        if any(one is None for one in attribution.target):
            raise InvalidOption(
                f"{attribution.names[0]!r} is no class; give the target that was explained once"
                " more: target=..."
            )
        target = [int(one) for one in attribution.target if one is not None]
    sides = attribution.images.shape[1:-1]
    size = (int(sides[0]), int(sides[1])) if len(sides) == 2 else None
    task = Task(net, attribution.images, target, size, batch, score)
    if task.goal.each > 1:
        raise InvalidOption("each map has one target; leave the target out")
    task.fix()
    judged = ordering_maps(attribution) if maps is None else fitted(maps, task.count, task.sides)
    return Subject(task, judged, what)


def fitted(maps: Any, count: int, sides: tuple[int, ...]) -> Array:
    """Enlarge maps to the size of the pictures.

    Raises
    ------
    InvalidOption
        There is not one for each picture, or they hold what is no finite number.
    """
    found = np.asarray(maps)
    if found.dtype.kind not in "fiub" or found.ndim != len(sides) + 1 or len(found) != count:
        raise InvalidOption(
            f"maps are numbers of {len(sides)} axes, one map for each of {count} pictures, not"
            f" {found.dtype} {found.shape}"
        )
    if found.dtype.kind != "f":
        found = found.astype(np.float64)
    if not np.isfinite(found).all():
        raise InvalidOption("maps hold finite numbers")
    return found if found.shape[1:] == tuple(sides) else images.enlarge(found, sides)
