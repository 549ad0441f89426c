"""Shards on Ray Core: actors that hold a network, on one machine or many."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from cnnviz.errors import CnnvizError
from cnnviz.executor import Executor, Task

__all__ = ["RayExecutor"]

Item = TypeVar("Item")


class RayExecutor(Executor):
    """As `cnnviz.executor.ray` makes it."""

    elsewhere = True

    def __init__(
        self, workers: int | None, cpus: float, gpus: float, address: str | None, patience: int
    ) -> None:
        import ray

        self._begun = not ray.is_initialized()
        if self._begun:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        if workers is None:
            room: dict[str, float] = ray.cluster_resources()
            needs = (("CPU", cpus), ("GPU", gpus))
            workers = max(1, int(min(room.get(k, 0) / n for k, n in needs if n > 0)))
        self.workers = workers
        self.name = f"{workers} Ray actors"
        self._options = {"num_cpus": cpus, "num_gpus": gpus}
        self._patience = patience

    def map_shards(self, task: Task, shards: Sequence[Item]) -> Iterator[tuple[Item, Any]]:
        """See `Executor.map_shards`."""
        if not shards:
            return
        import ray

        # The network goes to the cluster once, not to each actor.
        stored = ray.put(task)
        environment = {"env_vars": dict(task.environment)} if task.environment else {}
        actor: Any = ray.remote(_Actor).options(**self._options, runtime_env=environment)
        waiting = deque((shard, 0) for shard in shards)
        idle: list[Any] = [actor.remote(stored) for _ in range(min(self.workers, len(shards)))]
        running: dict[Any, tuple[Any, Item, int]] = {}
        try:
            while waiting or running:
                while waiting and idle:
                    worker = idle.pop()
                    shard, tries = waiting.popleft()
                    running[worker.run.remote(shard)] = worker, shard, tries
                done, _ = ray.wait(list(running), num_returns=1)
                worker, shard, tries = running.pop(done[0])
                try:
                    result = ray.get(done[0])
                except ray.exceptions.RayActorError as error:
                    # A restarted actor has forgotten the network as well, so a new one is as good.
                    if tries + 1 >= self._patience:
                        raise CnnvizError(
                            f"a Ray actor died {self._patience} times at the same work: {error}"
                        ) from error
                    waiting.appendleft((shard, tries + 1))
                    idle.append(actor.remote(stored))
                    continue
                except ray.exceptions.RayTaskError as error:
                    raise error.cause if isinstance(error.cause, Exception) else error from error
                idle.append(worker)
                yield shard, result
        finally:
            for worker in [*idle, *(worker for worker, _, _ in running.values())]:
                ray.kill(worker)

    def close(self) -> None:
        """See `Executor.close`; a cluster that was there before stays."""
        import ray

        if self._begun and ray.is_initialized():
            ray.shutdown()


class _Actor:
    def __init__(self, task: Task) -> None:
        self._task = task
        self._opened: Any = None

    def run(self, item: Any) -> Any:
        # Not as the actor begins: what is raised there looks like its death.
        if self._opened is None:
            self._opened = self._task.open()
        return self._task.run(self._opened, item)
