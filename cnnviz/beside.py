"""Work on what a network gave, done while it runs on."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, ParamSpec

__all__ = ["Beside"]

P = ParamSpec("P")


class Beside:
    """A thread that does one piece of work after the other; for use in a ``with``.

    No more than one piece waits, so that little is held. What work raises comes through at the
    next call, or at the end of the ``with``.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="cnnviz-beside")
        self._last: Future[Any] | None = None

    def __enter__(self) -> Beside:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self.wait()
        finally:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def do(self, work: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """Begin some work, once what came before is done."""
        self.wait()
        self._last = self._pool.submit(work, *args, **kwargs)

    def wait(self) -> None:
        """Wait until all is done."""
        if self._last is not None:
            last, self._last = self._last, None
            last.result()
