"""A network run in several threads at once, and what it gives taken in order."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

__all__ = ["cores", "side_by_side"]

Item = TypeVar("Item")
Opened = TypeVar("Opened")
Found = TypeVar("Found")


def side_by_side(
    openers: Sequence[Callable[[], Opened]],
    items: Iterable[Item],
    work: Callable[[Opened, Item], Found],
    take: Callable[[Found], None],
) -> None:
    """Do work on items in several threads at once, and take what it gives in their order.

    What is raised comes through, and nothing is taken after it.

    Parameters
    ----------
    openers : sequence of callable
        One for each thread, called in it; `work` is given what it gives.
    items : iterable
        Read in the thread of the caller, few ahead of the work.
    work : callable
        ``work(opened, item)``, several at once.
    take : callable
        Called for one after the other, in any of the threads.
    """
    # What is set for the caller's context, such as numpy's errstate, holds in the threads as well.
    waiting = deque((opener, copy_context()) for opener in openers)
    own = threading.local()
    failed = threading.Event()

    def entered(item: Item, before: threading.Event, after: threading.Event) -> None:
        try:
            if not hasattr(own, "context"):
                opener, own.context = waiting.popleft()
                own.opened = own.context.run(opener)
            own.context.run(one, item, before)
        except BaseException:
            failed.set()
            raise
        finally:
            after.set()

    def one(item: Item, before: threading.Event) -> None:
        if failed.is_set():
            return
        found = work(own.opened, item)
        before.wait()
        if not failed.is_set():
            take(found)

    running: deque[Future[None]] = deque()
    last = threading.Event()
    last.set()
    with ThreadPoolExecutor(len(openers), "cnnviz-network") as pool:
        try:
            for item in items:
                # One waits for the thread that is free next.
                if len(running) > len(openers):
                    running.popleft().result()
                after = threading.Event()
                running.append(pool.submit(entered, item, last, after))
                last = after
            while running:
                running.popleft().result()
        except BaseException:
            failed.set()
            raise


def cores() -> int:
    """Count the cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS or Windows
        return os.cpu_count() or 1
