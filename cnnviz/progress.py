"""A bar for what takes long: nothing is shown for the first two seconds, nor without a viewer."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterable, Iterator
from typing import TypeVar

__all__ = ["tracked", "worked"]

Item = TypeVar("Item")
Result = TypeVar("Result")

_PATIENCE = 2.0
_thread = threading.local()


def tracked(items: Iterable[Item], what: str, total: int | None) -> Iterator[Item]:
    """Yield items, and show a bar on stderr (or in a notebook) once two seconds have passed."""
    bar = None
    begun = time.monotonic()
    outer = not getattr(_thread, "busy", False)
    try:
        _thread.busy = True
        for done, item in enumerate(items):
            # Within a longer work, whose bar there is, a part shows none.
            if outer and bar is None and time.monotonic() - begun > _PATIENCE:
                bar = _Bar(what, total)
            if bar is not None:
                bar.update(done)
            yield item
    finally:
        if outer:
            _thread.busy = False
        if bar is not None:
            bar.close()


def worked(work: Generator[None, None, Result], what: str, total: int) -> Result:
    """Run what yields once a step to its end, behind the bar of `tracked`, and give its result."""
    found: list[Result] = []

    def steps() -> Generator[None, None, None]:
        found.append((yield from work))

    for _ in tracked(steps(), what, total):
        pass
    return found[0]


class _Bar:
    def __init__(self, what: str, total: int | None) -> None:
        # rich takes 50 ms to import; most calls never show a bar.
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.progress import TimeRemainingColumn as Remaining

        console = Console(stderr=True)
        seen = console.is_terminal or console.is_jupyter
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            Remaining(),
            console=console,
            disable=not seen,
            transient=True,
        )
        self._task = self._progress.add_task(what, total=total)
        self._progress.start()

    def update(self, done: int) -> None:
        self._progress.update(self._task, completed=done)

    def close(self) -> None:
        self._progress.stop()
