"""Two ways of doing the same work timed against each other on a machine that others use too.

The ways take turns, a step at a time, so that whatever disturbs one disturbs all. Three ratios
are told: of the fastest steps on the clock; of the fastest in seconds of processor; and the
median over rounds of processor seconds within a round, which needs no quiet moment.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

__all__ = ["Row", "Times", "fastest", "interleaved", "table"]


@dataclass(frozen=True)
class Times:
    """Seconds of each round."""

    wall: Sequence[float]
    cpu: Sequence[float]


def fastest(call: Callable[[], object], rounds: int = 2) -> float:
    """Give the least seconds of processor of a few calls, after one that is not counted."""
    call()
    found = []
    for _ in range(rounds):
        begun = time.process_time()
        call()
        found.append(time.process_time() - begun)
    return min(found)


def interleaved(
    calls: Mapping[str, Callable[[], object]], seconds: float, least: int = 6
) -> dict[str, Times]:
    """Call all in turn until `seconds` are over, and `least` times at least."""
    wall: dict[str, list[float]] = {name: [] for name in calls}
    cpu: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    for name in names:
        # What is made once: traces, kernels, the memory of a step.
        for _ in range(2):
            calls[name]()
    gc.collect()
    gc.disable()
    try:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end or len(wall[names[0]]) < least:
            # Who comes after whom changes: one may leave the caches to the other.
            names = [*names[1:], names[0]]
            for name in names:
                begun = time.perf_counter(), time.process_time()
                calls[name]()
                cpu[name].append(time.process_time() - begun[1])
                wall[name].append(time.perf_counter() - begun[0])
    finally:
        gc.enable()
    return {name: Times(wall[name], cpu[name]) for name in calls}


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes
    ----------
    work : str
    ours : Times
    best : str
        The fastest of the loops by hand.
    theirs : Times
    each, their_each : int
        How many pictures a step is of.
    """

    work: str
    ours: Times
    best: str
    theirs: Times
    each: int = 1
    their_each: int = 1

    @property
    def ratios(self) -> tuple[float, float, float]:
        """Fastest on the clock, fastest in processor seconds, median of the rounds."""
        scale = self.their_each / self.each
        pairs = zip(self.ours.cpu, self.theirs.cpu, strict=True)
        return (
            min(self.ours.wall) / min(self.theirs.wall) * scale,
            min(self.ours.cpu) / min(self.theirs.cpu) * scale,
            median(a / b for a, b in pairs) * scale,
        )


def table(rows: Sequence[Row]) -> str:
    """Write the comparisons below each other."""
    head = (
        f"{'work':52} {'ours ms':>8} {'limit ms':>8}"
        f" {'clock':>6} {'cpu':>6} {'median':>6} {'n':>4}  limit"
    )
    lines = [head, "-" * len(head)]
    for row in rows:
        ours, theirs = (
            1000 * min(times.wall) / each
            for times, each in ((row.ours, row.each), (row.theirs, row.their_each))
        )
        clock, cpu, middle = row.ratios
        lines.append(
            f"{row.work:52} {ours:8.1f} {theirs:8.1f} {clock:6.2f} {cpu:6.2f} {middle:6.2f}"
            f" {len(row.ours.wall):4}  {row.best}"
        )
    return "\n".join(lines)
