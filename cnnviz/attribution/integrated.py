"""Integrated gradients, refined until they add up to what they must."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz import images
from cnnviz.adapter import INPUT
from cnnviz.attribution.gradients import pixel_maps
from cnnviz.attribution.settings import require_count, require_positive
from cnnviz.attribution.task import Maps, Task
from cnnviz.batches import evenly, spans
from cnnviz.errors import InvalidOption

__all__ = ["MOST", "NODES", "SEGMENTS", "baseline_of", "integrated_gradients"]

Array = NDArray[Any]

NODES = 8
"""Of one part of the way."""
SEGMENTS = 4
"""Parts that the way is cut into at first."""
TOLERANCE = 0.01
"""Of what the score changes by, how much the sum may be off."""
MOST = 640
"""Gradients for one picture."""


def baseline_of(task: Task, baseline: str | float | Array) -> Array:
    """Give the pictures that stand for nothing to see, ``(N, H, W, C)``.

    Parameters
    ----------
    task : Task
    baseline : {"black", "white", "mean", "blur"}, float or array
        ``"mean"`` is each picture's own mean colour, ``"blur"`` the picture out of focus; a
        number is a grey; an array is a picture, or one for each.

    Raises
    ------
    InvalidOption
        It is none of these.
    """
    x = task.pictures
    if isinstance(baseline, str):
        if baseline == "mean":
            return np.broadcast_to(x.mean(axis=tuple(range(1, x.ndim - 1)), keepdims=True), x.shape)
        if baseline == "blur" and x.ndim == 4:
            return images.gaussian_blur(x, max(task.sides) / 20)
        if baseline not in ("black", "white"):
            raise InvalidOption(
                "a baseline is 'black', 'white', 'mean', 'blur', a number or a picture, not"
                f" {baseline!r}"
            )
        return np.full_like(x, float(baseline == "white"))
    array = np.asarray(baseline)
    if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
        raise InvalidOption("a baseline holds finite numbers")
    try:
        return np.broadcast_to(array.astype(x.dtype), x.shape)
    except ValueError:
        raise InvalidOption(
            f"a baseline of {array.shape} does not fit pictures of {x.shape[1:]}"
        ) from None


@lru_cache(maxsize=32)
def _gauss(count: int) -> tuple[Array, Array]:
    """Nodes and weights of Gauss and Legendre on [0, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(count)
    return (nodes + 1) / 2, weights / 2


@dataclass(frozen=True)
class _Segment:
    """A part of the way from the baseline, integrated by a few nodes."""

    begin: float
    end: float
    integral: Any
    residue: Array

    @property
    def middle(self) -> float:
        return (self.begin + self.end) / 2


def integrated_gradients(
    task: Task,
    baseline: str | float | Array = "black",
    steps: int | None = None,
    tolerance: float | None = None,
) -> Maps:
    """Add the slopes up along the way from a baseline to the picture.

    Parameters
    ----------
    task : Task
    baseline : see `baseline_of`
    steps : int, optional
        Nodes of one Gauss-Legendre rule; by default the way is cut, where it bends most, until
        the tolerance holds, 640 gradients at most.
    tolerance : float, optional
        Without `steps`: of what the score changes by, how much the sum may be off; 0.01 by
        default.
    """
    if steps is not None:
        require_count("steps", steps)
    tolerance = chosen_tolerance(steps, tolerance)
    task.fix()
    starts = baseline_of(task, baseline)
    found, residues, used, changes = [], [], [], []
    for i in task.tracked("integrated_gradients"):
        way = _Way(task, i, starts[i])
        if steps is not None:
            integral, spent = way.integral(0, 1, steps), steps
        else:
            integral, spent = way.refined(tolerance)
        values = way.contributions(integral)
        axes = tuple(range(1, values.ndim))
        found.append(values)
        residues.append(way.change - values.sum(axis=axes))
        used.append(np.full(len(values), spent))
        changes.append(np.abs(way.change))
    residue = np.concatenate(residues)
    if steps is None:
        _warn(task, residue, np.concatenate(used), tolerance)
    change = np.concatenate(changes)
    # Zero as well where the score does not change, of which nothing is a share.
    share = np.divide(np.abs(residue), change, out=np.zeros_like(residue), where=change > 0)
    facts = {"residue": residue, "residue_share": share, "steps": np.concatenate(used)}
    return pixel_maps(np.concatenate(found), "sum", **facts)


def chosen_tolerance(steps: int | None, tolerance: float | None) -> float:
    """Give the tolerance, or raise InvalidOption where it is none or cannot be met."""
    if tolerance is None:
        return TOLERANCE
    if steps is not None:
        raise InvalidOption(
            "with steps the way is not refined to a tolerance; give steps or tolerance"
        )
    return require_positive("tolerance", tolerance)


def _warn(task: Task, residue: Array, used: Array, tolerance: float) -> None:
    for i in np.flatnonzero(used >= MOST).tolist():
        task.notes.append(
            f"map {i} is off by {abs(float(residue[i])):.2g} of the score after {used[i]}"
            f" gradients, more than the tolerance of {tolerance:g} of its change"
        )


class _Way:
    """The straight line from a baseline to one picture."""

    def __init__(self, task: Task, row: int, start: Array) -> None:
        self._task, self._row = task, row
        ops = task.ops
        self._difference = task.pictures[row] - start
        self._start = ops.asarray(np.ascontiguousarray(start)[None])
        self._step = ops.asarray(self._difference[None])
        ends = self.scores([0.0, 1.0])
        self._known = {0.0: ends[0], 1.0: ends[1]}
        self.change = ends[1] - ends[0]

    def scores(self, at: Sequence[float]) -> Array:
        """Give the score ``(len(at), K)`` at places of the way."""
        rows = np.full(len(at), self._row)
        return self._task.values(self._pictures(np.array(at)), rows)

    def _pictures(self, at: Array) -> Any:
        # Multiplied out on the device: the pictures would be much to copy.
        column = self._task.ops.asarray(at.reshape(-1, *(1,) * self._difference.ndim))
        return self._start + self._step * column

    def integral(self, begin: float, end: float, nodes: int) -> Any:
        """Add up the slopes over a part of the way, ``(K, H, W, C)``, a native tensor."""
        places, weights = _gauss(nodes)
        return self._sum(begin + places * (end - begin), weights * (end - begin))

    def _sum(self, at: Array, weights: Array) -> Any:
        task, ops = self._task, self._task.ops
        each, total = task.goal.each, None
        batch = evenly(len(at), task.batch())
        for some, count in spans(len(at), batch, task.net.compiled):
            factor = np.where(np.arange(len(some)) < count, weights[some], 0)
            rows = np.full(len(some), self._row)
            slope = task.gradient(self._pictures(at[some]), rows).gradients[INPUT]
            shape = tuple(int(n) for n in slope.shape)
            if each > 1:
                slope = ops.reshape(slope, (len(rows), each, *shape[1:]))
            scaled = slope * ops.asarray(factor.reshape(-1, *(1,) * (len(slope.shape) - 1)))
            summed = ops.sum(scaled, axis=(0,), keepdims=each == 1)
            total = summed if total is None else total + summed
        return total

    def contributions(self, integral: Any) -> Array:
        """Multiply by the way itself."""
        return np.asarray(self._task.ops.to_numpy(integral) * self._difference)

    def _segment(self, begin: float, end: float) -> _Segment:
        integral = self.integral(begin, end, NODES)
        missing = [at for at in (begin, end) if at not in self._known]
        if missing:
            self._known.update(zip(missing, self.scores(missing), strict=True))
        change = self._known[end] - self._known[begin]
        values = self.contributions(integral)
        return _Segment(
            begin, end, integral, change - values.sum(axis=tuple(range(1, values.ndim)))
        )

    def refined(self, tolerance: float) -> tuple[Any, int]:
        """Cut the way where the sum is off most, until all of it is within the tolerance."""
        edges = np.linspace(0, 1, SEGMENTS + 1)
        segments = [self._segment(float(a), float(b)) for a, b in itertools.pairwise(edges)]
        spent = SEGMENTS * NODES
        allowed = tolerance * np.abs(self.change)
        while spent + 2 * NODES <= MOST:
            off = np.sum([np.abs(s.residue) for s in segments], axis=0)
            if (off <= allowed).all():
                break
            worst = max(segments, key=lambda s: float(np.abs(s.residue).max()))
            segments.remove(worst)
            segments += [
                self._segment(worst.begin, worst.middle),
                self._segment(worst.middle, worst.end),
            ]
            spent += 2 * NODES
        segments.sort(key=lambda s: s.begin)
        total = segments[0].integral
        for segment in segments[1:]:
            total = total + segment.integral
        return total, spent
