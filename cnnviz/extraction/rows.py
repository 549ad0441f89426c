"""Features of a part of the images on disk: a folder for each part, a file for each column."""

from __future__ import annotations

import json
import math
import os
import secrets
import shutil
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.errors import InvalidImage, InvalidOption
from cnnviz.files import sync_entries
from cnnviz.plan import Shard

__all__ = ["Column", "RowFiles", "RowWriter", "Table"]

_ABOUT = "about.json"
_NUMBERS = {"index": "<i8", "label": "<i8"}
_TEXT = "reference"
_OTHERS = (*_NUMBERS, _TEXT, "broken", "classes", "about")


class RowWriter:
    """Appends rows to the files of one part, which is there once `finish` has been called.

    Parameters
    ----------
    folder : Path
        Of the part.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._draft = folder.with_name(f".{secrets.token_hex(8)}.tmp")
        self._draft.mkdir()
        self._files: dict[str, Any] = {}
        self._sums: dict[str, tuple[int, int]] = {}
        self.count, self.longest = 0, 0

    def add(self, name: str, data: bytes | memoryview) -> None:
        """Append to a file."""
        if name not in self._files:
            self._files[name] = (self._draft / name).open("xb")
            self._sums[name] = (0, 0)
        size, check = self._sums[name]
        self._files[name].write(data)
        self._sums[name] = size + len(data), zlib.crc32(data, check)

    def add_images(
        self, numbers: NDArray[np.int64], labels: NDArray[np.int64], references: Sequence[str]
    ) -> None:
        """Append which images the rows are of."""
        self.add("index", numbers.astype("<i8").tobytes())
        self.add("label", labels.astype("<i8").tobytes())
        lines = [text.encode("utf-8", "backslashreplace").decode() for text in references]
        self.add(_TEXT, "".join(f"{json.dumps(line)}\n" for line in lines).encode())
        self.longest = max(self.longest, *map(len, lines))
        self.count += len(numbers)

    def finish(self, about: Mapping[str, Any]) -> None:
        """Put the part in its place once it is on the disk; if another did so first, that stays."""
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
        self.close()
        whole = {**about, "count": self.count, "longest": self.longest, "sums": self._sums}
        with (self._draft / _ABOUT).open("x") as file:
            json.dump(whole, file)
            file.flush()
            os.fsync(file.fileno())
        sync_entries(self._draft)
        try:
            self._draft.rename(self._folder)
        except OSError:
            if not self._folder.is_dir():
                raise
            self.discard()
        sync_entries(self._folder.parent)

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()

    def discard(self) -> None:
        """Remove what was written, if it was not finished."""
        self.close()
        shutil.rmtree(self._draft, ignore_errors=True)


@dataclass(frozen=True)
class RowFiles:
    """Where parts are written, each once and whole; picklable.

    Attributes
    ----------
    folder : Path
    mark : str
        What every part carries, so that none of another run is taken for one of this.
    """

    folder: Path
    mark: str

    def path(self, shard: Shard) -> Path:
        """Say where a part lies."""
        return self.folder / f"{shard.number:05d}"

    def writer(self, shard: Shard) -> RowWriter:
        """Begin a part; what there was of it is removed."""
        shutil.rmtree(self.path(shard), ignore_errors=True)
        return RowWriter(self.path(shard))

    def about(self, shard: Shard) -> dict[str, Any] | None:
        """Give what a part says of itself; None if it is not there, not whole or another run's."""
        folder = self.path(shard)
        try:
            about: dict[str, Any] = json.loads((folder / _ABOUT).read_text())
            whole = about["mark"] == self.mark and all(
                (folder / name).stat().st_size == size for name, (size, _) in about["sums"].items()
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return about if whole else None

    def done(self, shard: Shard) -> bool:
        """Say whether a part is there, and every byte of it as it was written."""
        about = self.about(shard)
        if about is None:
            return False
        return all(
            _checksum(self.path(shard) / name) == check
            for name, (_, check) in about["sums"].items()
        )

    def used(self) -> int:
        """Count the bytes that are there, those of unfinished parts as well."""
        total = 0
        for here, _, names in os.walk(self.folder):
            for name in names:
                try:
                    total += os.stat(os.path.join(here, name)).st_size
                except FileNotFoundError:
                    # Another worker has put its part in place meanwhile.
                    continue
        return total


@dataclass(frozen=True)
class Column:
    """One column of a table: a row for each image.

    Attributes
    ----------
    name : str
        Unlike that of any other column.
    layer : str or None
        Whose features it holds.
    shape : tuple of int
        Of a row.
    dtype : numpy.dtype
    file : str
    """

    name: str
    layer: str | None
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    file: str

    @property
    def row_bytes(self) -> int:
        """What a row takes."""
        return max(1, math.prod(self.shape) * self.dtype.itemsize)

    def rows_within(self, most: int) -> int:
        """Say how many rows take no more than so many bytes; at least one."""
        return max(1, most // self.row_bytes)


class Table:
    """All parts as one table, read a block at a time.

    Parameters
    ----------
    files : RowFiles
    shards : sequence of Shard
    layers : sequence of str
    classes : sequence of str, optional

    Raises
    ------
    InvalidOption
        A part is missing.
    InvalidImage
        Parts do not fit together, since their images differ in size.

    Attributes
    ----------
    columns : tuple of Column
        Layers first; none of a layer where there is no image.
    count : int
    broken : list of (int, str, str)
    infinite : int
        Numbers that a smaller dtype could not hold.
    """

    def __init__(
        self,
        files: RowFiles,
        shards: Sequence[Shard],
        layers: Sequence[str],
        classes: Sequence[str] | None,
    ) -> None:
        self._parts: list[tuple[Path, int]] = []
        self.broken: list[tuple[int, str, str]] = []
        self.infinite, longest, labelled = 0, 1, False
        shapes: list[Any] = []
        for shard in shards:
            about = files.about(shard)
            if about is None:
                raise InvalidOption(f"{files.path(shard)} was changed during the run; resume it")
            self.broken += [(int(n), text, reason) for n, text, reason in about["broken"]]
            if not about["count"]:
                continue
            self._parts.append((files.path(shard), about["count"]))
            longest = max(longest, about["longest"])
            labelled |= about["labelled"]
            self.infinite += about["infinite"]
            shapes = shapes or about["layers"]
            if shapes != about["layers"]:
                raise InvalidImage("images differ in size; give a size to resize them all to")
        self.count = sum(count for _, count in self._parts)
        self.classes = None if classes is None or not labelled else tuple(classes)
        columns = [
            Column(_apart(name), name, tuple(one["shape"]), np.dtype(one["dtype"]), str(i))
            for i, (name, one) in enumerate(zip(layers, shapes, strict=False))
        ]
        names = ["index", "label"] if labelled else ["index"]
        columns += [Column(name, None, (), np.dtype(_NUMBERS[name]), name) for name in names]
        columns.append(Column(_TEXT, None, (), np.dtype(f"<U{longest}"), _TEXT))
        self.columns = tuple(columns)

    def blocks(self, column: Column, rows: int) -> Iterator[NDArray[Any]]:
        """Give a column, so many rows at a time, wherever its parts begin and end.

        Raises
        ------
        InvalidOption
            A file was cut off meanwhile.
        """
        pieces: list[NDArray[Any]] = []
        have = 0
        for folder, count in self._parts:
            with (folder / column.file).open("rb") as file:
                left = count
                while left:
                    piece = _piece(file, column, min(left, rows - have))
                    pieces.append(piece)
                    have += len(piece)
                    left -= len(piece)
                    if have == rows:
                        yield np.concatenate(pieces) if len(pieces) > 1 else pieces[0]
                        pieces, have = [], 0
        if have:
            yield np.concatenate(pieces)


def _piece(file: Any, column: Column, rows: int) -> NDArray[Any]:
    if column.file == _TEXT:
        lines = [file.readline() for _ in range(rows)]
        if not all(lines):
            raise InvalidOption(f"{file.name} was changed during the run; resume it")
        return np.array([json.loads(line) for line in lines], column.dtype)
    wanted = rows * math.prod(column.shape)
    found = np.fromfile(file, column.dtype, wanted)
    if len(found) < wanted:
        raise InvalidOption(f"{file.name} was changed during the run; resume it")
    return found.reshape(rows, *column.shape)


def _apart(layer: str) -> str:
    """Name the column of a layer, which may be called as one that is there already."""
    return f"layer:{layer}" if layer in _OTHERS else layer


def _checksum(path: Path) -> int:
    found = 0
    with path.open("rb") as file:
        while data := file.read(2**22):
            found = zlib.crc32(data, found)
    return found
