"""Where long work is done: in this process, in a pool of processes, or on a Ray cluster.

A task opens a network once in each worker and is then given one item after the other. It writes
what it finds to files and holds nothing, so a worker that dies costs the items it was at, and
these are done again.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from importlib.util import find_spec
from typing import Any, Protocol, TypeVar

from cnnviz.errors import CnnvizError, InvalidOption, MissingDependency
from cnnviz.streams import cores

__all__ = ["EXECUTORS", "Executor", "Task", "as_executor", "processes", "ray", "serial"]

Item = TypeVar("Item")

# How often an item is tried again on a new worker before the run is given up.
_PATIENCE = 3


class Task(Protocol):
    """What is done to each item; picklable, unless it stays in this process."""

    @property
    def environment(self) -> Mapping[str, str]:
        """Variables that a worker must have before it imports a framework."""

    def open(self) -> Any:
        """Open what all items need, such as a network; called once in each worker."""

    def run(self, opened: Any, item: Any) -> Any:
        """Do one item; twice is as good as once."""


class Executor(ABC):
    """Runs the items of a task.

    Attributes
    ----------
    name : str
        In words, for messages.
    workers : int
        How many items are worked on at once.
    elsewhere : bool
        Whether the work is done in other processes, so that a task must be picklable.
    """

    name: str
    workers: int
    elsewhere: bool

    @abstractmethod
    def map_shards(self, task: Task, shards: Sequence[Item]) -> Iterator[tuple[Item, Any]]:
        """Do a few large items, and yield each with its result as it is done, in any order.

        Raises
        ------
        CnnvizError
            A worker died again and again at the same item. What the task raises comes through.
        """

    def map_units(self, task: Task, units: Iterable[Item]) -> Iterator[tuple[Item, Any]]:
        """Do many small items, and yield each with its result in the order of the units.

        Raises
        ------
        CnnvizError
            As in `map_shards`.
        """
        units = list(units)
        # Several go to a worker at once; few enough that none waits long for the last.
        size = max(1, min(32, len(units) // (4 * self.workers)))
        groups = [tuple(units[i : i + size]) for i in range(0, len(units), size)]
        done: dict[int, Any] = {}
        next_one = 0
        numbers = list(range(len(groups)))
        for number, results in self.map_shards(_Grouped(task, groups), numbers):
            done[number] = results
            while next_one in done:
                yield from zip(groups[next_one], done.pop(next_one), strict=True)
                next_one += 1

    @abstractmethod
    def close(self) -> None:
        """Let the workers go; calling it again does nothing."""

    def __enter__(self) -> Executor:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class _Grouped:
    """A task whose items are groups of another's."""

    def __init__(self, task: Task, groups: Sequence[tuple[Any, ...]]) -> None:
        self.task, self.groups = task, groups

    @property
    def environment(self) -> Mapping[str, str]:
        return self.task.environment

    def open(self) -> Any:
        return self.task.open()

    def run(self, opened: Any, item: int) -> list[Any]:
        return [self.task.run(opened, unit) for unit in self.groups[item]]


def serial() -> Executor:
    """Do the work here, one item after the other."""
    return _Serial()


def processes(workers: int | None = None, threads: int | None = None) -> Executor:
    """Do the work in processes of this machine, each of which holds the network once.

    Parameters
    ----------
    workers : int, optional
        How many; one for every two cores by default, and at least two.
    threads : int, optional
        Cores for each; by default the machine's are shared out.

    Raises
    ------
    InvalidOption
        A number is below one.
    """
    count = cores()
    workers = max(2, count // 2) if workers is None else _whole(workers, "workers")
    threads = max(1, count // workers) if threads is None else _whole(threads, "threads")
    return _Processes(workers, threads)


def ray(
    workers: int | None = None,
    *,
    cpus: float = 1,
    gpus: float = 0,
    address: str | None = None,
) -> Executor:
    """Do the work in actors of Ray Core, on this machine or on a cluster.

    Parameters
    ----------
    workers : int, optional
        How many actors; as many as the cluster has room for by default.
    cpus, gpus : float
        What each takes; a part of a GPU lets several share it.
    address : str, optional
        Of a running cluster, or ``"auto"`` for the one that this machine belongs to; by default
        the one that Ray was told of, else a new one on this machine.

    Raises
    ------
    MissingDependency
        Ray is not installed: ``pip install 'cnnviz[ray]'``.
    InvalidOption
        A number is below zero.
    """
    if find_spec("ray") is None:
        raise MissingDependency("ray is not installed; pip install 'cnnviz[ray]'")
    from cnnviz.ray_executor import RayExecutor

    if cpus < 0 or gpus < 0 or cpus + gpus == 0:
        raise InvalidOption("a worker takes some of a CPU or of a GPU: give cpus or gpus")
    count = None if workers is None else _whole(workers, "workers")
    return RayExecutor(count, cpus, gpus, address, _PATIENCE)


EXECUTORS = {"serial": serial, "processes": processes, "ray": ray}
"""The makers by name."""


def as_executor(given: str | Executor | None) -> tuple[Executor, bool]:
    """Give an executor, by its name or as it is, and whether it was made here.

    Raises
    ------
    InvalidOption
        There is none of that name.
    """
    if isinstance(given, Executor):
        return given, False
    name = "serial" if given is None else given
    if name not in EXECUTORS:
        known = ", ".join(map(repr, EXECUTORS))
        raise InvalidOption(f"executor is one of {known} or an Executor, not {given!r}")
    return EXECUTORS[name](), True


class _Serial(Executor):
    name, workers, elsewhere = "this process", 1, False

    def map_shards(self, task: Task, shards: Sequence[Item]) -> Iterator[tuple[Item, Any]]:
        opened = task.open() if shards else None
        for shard in shards:
            yield shard, task.run(opened, shard)

    def close(self) -> None:
        """There is nothing to let go."""


class _Processes(Executor):
    elsewhere = True

    def __init__(self, workers: int, threads: int) -> None:
        self.workers, self.threads = workers, threads
        self.name = f"{workers} processes"
        self._pool: Any = None

    def map_shards(self, task: Task, shards: Sequence[Item]) -> Iterator[tuple[Item, Any]]:
        from loky.process_executor import BrokenProcessPool

        waiting = deque((shard, 0) for shard in shards)
        running: dict[Future[Any], tuple[Item, int]] = {}
        self._start(task)
        try:
            while waiting or running:
                # No more than they are at, so that little is lost if the run ends.
                while waiting and len(running) < self.workers:
                    shard, tries = waiting.popleft()
                    try:
                        running[self._pool.submit(_run, shard)] = shard, tries
                    except BrokenProcessPool as error:
                        # A worker died since the last result was waited for.
                        if running:
                            waiting.appendleft((shard, tries))
                            break
                        waiting.appendleft((shard, _once_more(tries, error)))
                        self._start(task)
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                lost = []
                for future in done:
                    shard, tries = running.pop(future)
                    try:
                        result = future.result()
                    except BrokenProcessPool as error:
                        lost.append((shard, _once_more(tries, error)))
                        continue
                    yield shard, result
                if lost:
                    # With one worker the pool is broken, and all that ran in it is lost.
                    waiting.extendleft([*lost, *running.values()])
                    running.clear()
                    self._start(task)
        finally:
            self.close()

    def close(self) -> None:
        if self._pool is not None:
            feeder = _feeder(self._pool)
            self._pool.shutdown(wait=True, kill_workers=True)
            self._pool = None
            if feeder is not None:
                # loky does not wait for it; ended by the end of the process while it gives back
                # its locks, it leaves one behind, and a warning of that on stderr.
                feeder.join(timeout=10)

    def _start(self, task: Task) -> None:
        from loky import ProcessPoolExecutor

        self.close()
        self._pool = ProcessPoolExecutor(
            self.workers,
            timeout=60,
            initializer=_begin,
            initargs=(task, self.threads),
            env={**_threads(self.threads), **task.environment},
        )


def _feeder(pool: Any) -> threading.Thread | None:
    """The thread that sends a pool's work to its workers, if it has begun."""
    queue = getattr(pool, "_call_queue", None)
    return getattr(queue, "_thread", None)


def _once_more(tries: int, error: Exception) -> int:
    """Count a try that a dead worker has cost, or give up."""
    if tries + 1 < _PATIENCE:
        return tries + 1
    raise CnnvizError(
        f"a worker process died {_PATIENCE} times at the same work;"
        " perhaps the memory is too small: take fewer workers"
    ) from error


# The task, and what it has opened once it has.
_worker: list[Any] = []


def _begin(task: Task, threads: int) -> None:
    global _worker
    from cnnviz.images.filters import opencv

    # Ctrl-C reaches the whole group; the master ends its workers, and says one line.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    opencv().setNumThreads(threads)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    _worker = [task]


def _end_with(master: int) -> None:
    """End this worker once the process that began it is gone, killed without a word."""
    while os.getppid() == master:
        time.sleep(1)
    # At once, whatever it is at: what is not done will be done again.
    os._exit(1)


def _run(item: Any) -> Any:
    # Not as the worker begins: what is raised there is told by no result.
    if len(_worker) == 1:
        _worker.append(_worker[0].open())
    task, opened = _worker
    return task.run(opened, item)


def _threads(count: int) -> dict[str, str]:
    names = ("OMP", "MKL", "OPENBLAS")
    found = {f"{name}_NUM_THREADS": str(count) for name in names}
    return {**found, "TF_NUM_INTRAOP_THREADS": str(count), "TF_NUM_INTEROP_THREADS": "1"}


def _whole(value: int, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidOption(f"{name} is a whole number above zero, not {value!r}")
    return value
