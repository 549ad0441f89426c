"""Class scores of two networks for the same pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.adapter import LOGITS, Adapter
from cnnviz.batches import chunk_for, evenly, spans

__all__ = ["Scoring", "scoring"]

Array = NDArray[Any]

_BATCH = 8


class Scoring:
    """Runs two networks, at once where that may be, as `scoring` gives it.

    A network that may be called from any thread runs in one of its own once it was run on as many
    pictures. The other stays with the caller, and with what is set for its thread.
    """

    def __init__(
        self,
        nets: tuple[Adapter[Any], Adapter[Any]],
        pool: ThreadPoolExecutor,
        use: Callable[[Array, Array], None],
    ) -> None:
        self._nets, self._pool, self._use = nets, pool, use
        self._waiting: list[tuple[Array, Array]] = []
        self._seen: set[tuple[int, tuple[int, ...]]] = set()
        # Elsewhere than on a processor calls return before the work is done.
        here = all(net.device.lower().startswith("cpu") for net in nets)
        # Two networks of one framework might be one, or share what is theirs.
        here = here and nets[0].framework != nets[1].framework
        self._away = next((i for i in (1, 0) if here and nets[i].any_thread), None)

    def add(self, x: Array, y: Array) -> None:
        """Take in pictures ``(B, H, W, C)``, as each network takes them."""
        if self._waiting:
            shapes = [[z.shape[1:] for z in pair] for pair in (self._waiting[0], (x, y))]
            if shapes[0] != shapes[1]:
                self.finish()
        self._waiting.append((x, y))
        if sum(len(one) for one, _ in self._waiting) >= _BATCH:
            whole = self._joined()
            for start in range(0, len(whole[0]), _BATCH):
                some = whole[0][start : start + _BATCH], whole[1][start : start + _BATCH]
                if len(some[0]) == _BATCH:
                    self._run(some)
                else:
                    self._waiting = [some]

    def finish(self) -> None:
        """Run what is left over."""
        if self._waiting:
            self._run(self._joined())

    def _joined(self) -> tuple[Array, Array]:
        x, y = (np.concatenate(parts) for parts in zip(*self._waiting, strict=True))
        self._waiting = []
        return x, y

    def _run(self, pictures: tuple[Array, Array]) -> None:
        calls: list[Callable[[], Array]] = []
        moved: Future[Array] | None = None
        for i, (net, some) in enumerate(zip(self._nets, pictures, strict=True)):
            chunk = min(chunk_for(net, [LOGITS], some.shape[1:-1]), _BATCH)
            # Another number of pictures would be traced anew.
            full = net.compiled and (i, (chunk, *some.shape[1:])) in self._seen
            if not full:
                chunk = evenly(len(some), chunk)
                self._seen.add((i, (chunk, *some.shape[1:])))
            calls.append(partial(_scores, net, some, chunk, full))
            if full and i == self._away:
                moved = self._pool.submit(calls[i])
        found = {i: call() for i, call in enumerate(calls) if moved is None or i != self._away}
        if moved is not None and self._away is not None:
            found[self._away] = moved.result()
        self._use(found[0], found[1])


@contextmanager
def scoring(
    one: Adapter[Any], two: Adapter[Any], use: Callable[[Array, Array], None]
) -> Iterator[Scoring]:
    """Open what runs two networks and gives the class scores of both to `use`, in order."""
    with ThreadPoolExecutor(1, thread_name_prefix="cnnviz-network") as pool:
        yield Scoring((one, two), pool, use)


def _scores(net: Adapter[Any], pictures: Array, chunk: int, full: bool) -> Array:
    parts = []
    for rows, count in spans(len(pictures), chunk, full):
        some = net.ops.asarray(pictures[rows])
        parts.append(net.ops.to_numpy(net.forward(some, taps=[LOGITS])[LOGITS])[:count])
    return np.concatenate(parts)
