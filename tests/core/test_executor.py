"""Processes that die while work is shared among them."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any

import pytest
from loky.backend.synchronize import SemLock

from cnnviz import executor
from cnnviz.errors import CnnvizError


def tells(deadly: tuple[int, ...] = ()) -> Any:
    # Within a function, so that it goes to workers by value.
    class Tells:
        environment: dict[str, str] = {}  # noqa: RUF012

        def open(self) -> None:
            return None

        def run(self, opened: None, item: int) -> tuple[int, int]:
            if item in deadly:
                os.kill(os.getpid(), signal.SIGKILL)
            return os.getpid(), item * item

    return Tells()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_worker_that_dies_between_two_results_is_replaced(workers: int) -> None:
    with executor.processes(workers) as place:
        done = place.map_shards(tells(), range(8))
        item, (worker, value) = next(done)
        found = {item: value}
        os.kill(worker, signal.SIGKILL)
        # Until the pool has seen it.
        time.sleep(1)
        for item, (_, value) in done:
            assert item not in found
            found[item] = value
    assert found == {n: n * n for n in range(8)}


def test_work_that_kills_its_workers_is_given_up() -> None:
    with executor.processes(1) as place, pytest.raises(CnnvizError, match="died 3 times"):
        list(place.map_shards(tells(deadly=(2,)), range(4)))


def test_nothing_of_a_pool_outlives_it(monkeypatch: pytest.MonkeyPatch) -> None:
    # What still gives back its locks as the process ends is cut off, and its locks are leaked.
    before = set(threading.enumerate())
    release = SemLock._cleanup

    def slow(name: str) -> None:
        time.sleep(0.2)
        release(name)

    monkeypatch.setattr(SemLock, "_cleanup", slow)
    with executor.processes(2) as place:
        next(place.map_shards(tells(), range(8)))
    assert not set(threading.enumerate()) - before
