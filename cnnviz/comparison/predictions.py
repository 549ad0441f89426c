"""Whether two networks see the same classes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.comparison.tallies import Tally

__all__ = ["Predictions", "PredictionsSoFar", "predicted_classes"]

Array = NDArray[Any]

_TOP = 5


@dataclass(frozen=True)
class Predictions:
    """How the classes and the scores of two networks agree.

    Attributes
    ----------
    images : int
    same : int
        Images with the same first class.
    top5 : float
        Which share of the five highest classes they have in common, over all images.
    relative : float
        max|difference| / max|reference| of the scores before a softmax.
    correlation : float
        Of all scores.
    apart : tuple of (int, int, int)
        Images that differ in their first class, and both classes; the first of them.
    """

    images: int
    same: int
    top5: float
    relative: float
    correlation: float
    apart: tuple[tuple[int, int, int], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Give it as numbers."""
        return {**vars(self), "apart": [list(one) for one in self.apart]}

    def __str__(self) -> str:
        share = f"{self.same} of {self.images}" if self.images > 1 else f"{bool(self.same)}"
        apart = f"scores apart by {self.relative:.1e} of the largest"
        if math.isnan(self.relative):
            apart = "scores are not finite, or of another number of classes"
        return f"same class: {share}; of the {_TOP} highest in common: {self.top5:.1%}; {apart}"


class PredictionsSoFar:
    """Predictions, counted as pictures come."""

    def __init__(self) -> None:
        self._tally = Tally()
        self._images = self._same = 0
        self._common = 0.0
        self._apart: list[tuple[int, int, int]] = []

    def add(self, ours: Array, theirs: Array) -> None:
        """Count class scores ``(N, C)`` of both; those of every place are averaged over these."""
        a, b = _by_picture(ours), _by_picture(theirs)
        if a.shape != b.shape:
            self._images += len(a)
            return
        self._tally.add(a, b)
        first, second = a.argmax(-1), b.argmax(-1)
        for i in np.flatnonzero(first != second)[: max(0, 20 - len(self._apart))]:
            self._apart.append((self._images + int(i), int(first[i]), int(second[i])))
        self._images += len(a)
        self._same += int((first == second).sum())
        top = min(_TOP, a.shape[-1])
        highest = [np.argsort(-x, axis=-1, kind="stable")[:, :top] for x in (a, b)]
        for one, two in zip(*highest, strict=True):
            self._common += len(set(one.tolist()) & set(two.tolist())) / top

    def result(self) -> Predictions:
        """Give what was counted."""
        known = self._tally.reach > 0 or self._tally.largest > 0 or self._same > 0
        return Predictions(
            self._images,
            self._same,
            self._common / max(1, self._images),
            self._tally.relative if known else float("nan"),
            self._tally.correlation if known else float("nan"),
            tuple(self._apart),
        )


def predicted_classes(scores: Array) -> list[int]:
    """Give the highest class of each picture, of scores ``(N, C)`` or ``(N, ..., C)``."""
    return [int(k) for k in _by_picture(scores).argmax(-1)]


def _by_picture(scores: Array) -> Array:
    return np.asarray(scores.reshape(len(scores), -1, scores.shape[-1]).mean(1))
