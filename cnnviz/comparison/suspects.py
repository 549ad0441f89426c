"""On which pictures two networks part, and what the doctor says of them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from numpy.typing import NDArray

from cnnviz.comparison.differences import LayerDifference, outputs_of
from cnnviz.comparison.doctor import Diagnosis, diagnose
from cnnviz.comparison.pairs import Matching
from cnnviz.comparison.probes import Probe
from cnnviz.comparison.tallies import relative_difference

__all__ = ["Suspects"]

Array = NDArray[Any]

# So many pictures the doctor looks at before it gives up.
_TRIED = 4


class Suspects:
    """Pictures on which a layer was apart that was not before.

    Parameters
    ----------
    tolerance : float
        Up to which max|difference| / max|reference| is rounding.
    """

    def __init__(self, tolerance: float) -> None:
        self._tolerance = tolerance
        self._parted: set[str] = set()
        self._kept: list[tuple[Array, Array]] = []

    def see(self, rows: Iterable[LayerDifference], pictures: tuple[Array, Array]) -> None:
        """Keep pictures if more layers are apart since they were run.

        Parameters
        ----------
        rows : iterable of LayerDifference
            Over all pictures so far.
        pictures : (array, array)
            As each network takes them.
        """
        parted = {row.name for row in rows if not row.relative <= self._tolerance}
        if not parted <= self._parted:
            self._parted |= parted
            self._kept.append(pictures)

    def diagnose(self, first: tuple[Probe, Probe], matching: Matching) -> tuple[Diagnosis, ...]:
        """Say what is wrong with the second network, by the pictures that show it best.

        Those come first that part at the earliest layer, and among them those that are farthest
        apart there.

        Parameters
        ----------
        first : (Probe, Probe)
            The first picture of all in each network, for when no layer is apart.
        matching : Matching
        """
        one, two = (probe.net for probe in first)
        singles = [(x[i : i + 1], y[i : i + 1]) for x, y in self._kept for i in range(len(x))]
        if not singles:
            return tuple(diagnose(*first, matching, self._tolerance))
        if len(singles) > 1:
            singles.sort(key=lambda pictures: self._rank(first, matching, pictures))
        for x, y in singles[:_TRIED]:
            found = diagnose(Probe.of(one, x), Probe.of(two, y), matching, self._tolerance)
            if found:
                return tuple(found)
        return ()

    def _rank(
        self, first: tuple[Probe, Probe], matching: Matching, pictures: tuple[Array, Array]
    ) -> tuple[int, float]:
        """Give the place of the first pair that is apart, and by how much, the farthest lowest."""
        taps = [p.name for p in matching.pairs], [p.other for p in matching.pairs]
        ours, theirs = (
            outputs_of(probe.net, x, names)
            for probe, x, names in zip(first, pictures, taps, strict=True)
        )
        for place, pair in enumerate(matching.pairs):
            a, b = pair.ours(ours), pair.theirs(theirs)
            gap = relative_difference(a, b) if a.size == b.size else math.inf
            if not gap <= self._tolerance:
                return place, -math.inf if math.isnan(gap) else -gap
        return len(matching.pairs), 0.0
