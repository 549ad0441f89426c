"""Long work on disk: a plan that never changes, a file for each shard that is done.

A run that is killed at any moment and started again does what is not done yet, and ends with the
same bytes as one that was not.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cnnviz.errors import InvalidOption
from cnnviz.files import write_bytes, write_text

__all__ = ["DoneFiles", "Shard", "ShardFiles", "Work", "spread", "unlike"]

_SCHEMA = 1
_DRAFT = re.compile(r"\.[0-9a-f]{16}\.tmp")


@dataclass(frozen=True, order=True)
class Shard:
    """A run of images, from `start` up to `stop`; None for all that come."""

    number: int
    start: int
    stop: int | None


def spread(count: int | None, shards: int, batch: int) -> list[Shard]:
    """Share images out so that every shard begins with a whole batch; none is empty.

    Batches are then the same whatever the number of shards, and so is every bit of what a
    network makes of them.
    """
    if count is None:
        return [Shard(0, 0, None)]
    batches = -(-count // batch)
    shards = max(1, min(shards, batches))
    edges = [min(count, batches * i // shards * batch) for i in range(shards + 1)]
    return [Shard(i, edges[i], edges[i + 1]) for i in range(shards)]


@dataclass(frozen=True)
class ShardFiles:
    """Where shards are written, each once and whole; picklable.

    Attributes
    ----------
    folder : Path
    mark : str
        What every file carries, so that none of another run is taken for one of this.
    """

    folder: Path
    mark: str

    def path(self, shard: Shard) -> Path:
        """Say where a shard lies."""
        return self.folder / f"{shard.number:05d}.npz"

    def write(self, shard: Shard, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Write what was found; it is there once it is on the disk."""
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, mark=np.array(self.mark), **dict(arrays))
        write_bytes(self.path(shard), buffer.getvalue(), durable=True)

    def read(self, shard: Shard) -> dict[str, NDArray[Any]] | None:
        """Read a shard; None if it is not there, not whole, or of another run."""
        try:
            # Opened here: numpy leaves a file open that is no archive.
            with self.path(shard).open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                if str(file["mark"]) != self.mark:
                    return None
                return {name: file[name] for name in file.files if name != "mark"}
        # What was cut off by a crash of the machine is no archive, or one with a bad checksum.
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None

    def done(self, shard: Shard) -> bool:
        """Say whether a shard is there and whole."""
        return self.read(shard) is not None


class DoneFiles(Protocol):
    """Files of which it can be said whether a shard's are there and whole."""

    def done(self, shard: Shard) -> bool:
        """Say whether a shard is there and whole."""


class Work:
    """A folder in which long work is done, and what it is the work of.

    Parameters
    ----------
    folder : Path
        Made if it is not there.
    identity : mapping
        All that the result depends on, as JSON: fingerprints, layers, options.
    shards : sequence of Shard
        The plan, unless there is one already.
    resume : bool
        Whether to go on with work that was begun there.
    instead : str
        What a user can do who does not go on with what is there.

    Raises
    ------
    InvalidOption
        There is unfinished work and `resume` is not set, or it is the work of something else.

    Attributes
    ----------
    shards : tuple of Shard
        Those of the plan that was made first.
    mark : str
        A hash of the identity, for the files of the shards.
    files : ShardFiles
    """

    def __init__(
        self,
        folder: Path,
        identity: Mapping[str, Any],
        shards: Sequence[Shard],
        resume: bool,
        instead: str = "name another folder",
    ) -> None:
        self.folder = folder
        text = json.dumps(identity, sort_keys=True)
        mark = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
        self._plan, self._instead, self.mark = folder / "plan.json", instead, mark
        self.files = ShardFiles(folder / "shards", mark)
        planned = self._planned()
        if planned is not None and not resume:
            raise InvalidOption(
                f"{str(folder)!r} holds work that is not finished; resume=True (--resume) goes on"
                f" with it, or {instead}"
            )
        if planned is None:
            planned = {
                "schema": _SCHEMA,
                "mark": mark,
                "identity": identity,
                "shards": [[shard.start, shard.stop] for shard in shards],
            }
            folder.mkdir(parents=True, exist_ok=True)
            write_text(self._plan, json.dumps(planned, indent=1) + "\n", durable=True)
        elif planned["mark"] != mark:
            raise InvalidOption(
                f"{str(folder)!r} holds the work of another run"
                f" (other {', '.join(unlike(planned['identity'], identity))});"
                f" {instead}"
            )
        self.files.folder.mkdir(exist_ok=True)
        pairs = enumerate(planned["shards"])
        self.shards = tuple(Shard(i, start, stop) for i, (start, stop) in pairs)

    def pending(self, files: DoneFiles | None = None) -> list[Shard]:
        """Give the shards that are not done yet, in `files` if these are not the work's own."""
        there = files or self.files
        return [shard for shard in self.shards if not there.done(shard)]

    @staticmethod
    def clear(folder: Path) -> None:
        """Remove the shards and the plan, once the result is on the disk."""
        # The plan goes last: what a killed removal has left is removed by the next.
        shutil.rmtree(folder / "shards", ignore_errors=True)
        for draft in folder.iterdir():
            if _DRAFT.fullmatch(draft.name):
                draft.unlink()
        (folder / "plan.json").unlink(missing_ok=True)

    def _planned(self) -> dict[str, Any] | None:
        try:
            text = self._plan.read_text()
        except FileNotFoundError:
            return None
        try:
            planned: dict[str, Any] = json.loads(text)
            known = planned["schema"] == _SCHEMA
        except (ValueError, KeyError, TypeError):
            known = False
        if not known:
            raise InvalidOption(
                f"{str(self._plan)!r} is no plan of this version of cnnviz; {self._instead}"
            )
        return planned


def unlike(there: Mapping[str, Any], identity: Mapping[str, Any]) -> list[str]:
    """Name what differs between an identity that was read from JSON and one that was not."""
    now = json.loads(json.dumps(identity))
    return [key for key in {**there, **now} if there.get(key) != now.get(key)]
