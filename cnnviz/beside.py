"""Work on what a network gave, done while it runs on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, ParamSpec

__all__ = ["Beside", "beside"]

P = ParamSpec("P")


class Beside:
    """A thread that does one piece of work after the other, as `beside` gives it."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self._pool = pool
        self._last: Future[Any] | None = None

    def do(self, work: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """Begin some work, once what came before is done."""
        self.wait()
        self._last = self._pool.submit(work, *args, **kwargs)

    def wait(self) -> None:
        """Wait until all is done."""
        if self._last is not None:
            last, self._last = self._last, None
            last.result()


@contextmanager
def beside() -> Iterator[Beside]:
    """Open a thread for work; no more than one piece waits, so that little is held.

    What work raises comes through at the next call, or at the end of the ``with``.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="cnnviz-beside") as pool:
        thread = Beside(pool)
        yield thread
        thread.wait()
