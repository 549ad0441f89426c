"""Features as ``.npz``: a member for each column, not compressed, so that it is read in place."""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.errors import InvalidOption
from cnnviz.extraction.rows import Table

__all__ = ["NpzFormat"]

# The earliest that an archive can say: its bytes shall not depend on the day.
_DATE = (1980, 1, 1, 0, 0, 0)
_BLOCK = 2**24


class NpzFormat:
    """Writes and reads archives of numpy."""

    suffix = ".npz"
    folder = False

    def require(self) -> None:
        """There is nothing to install."""

    def write(self, path: Path, table: Table, about: Mapping[str, Any]) -> None:
        """Write a table, a block at a time."""
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for column in table.columns:
                shape = (table.count, *column.shape)
                blocks = table.blocks(column, column.rows_within(_BLOCK))
                # Text is mostly the empty ends of its longest line.
                packed = column.dtype.kind == "U"
                _member(archive, column.name, column.dtype, shape, blocks, packed)
            broken = [[str(number), text, reason] for number, text, reason in table.broken]
            others: dict[str, NDArray[Any]] = {
                "broken": np.array(broken, str) if broken else np.empty((0, 3), "<U1")
            }
            if table.classes is not None:
                others["classes"] = np.array(table.classes, str)
            others["about"] = np.array(json.dumps(about))
            for name, array in others.items():
                _member(archive, name, array.dtype, array.shape, [array], packed=True)

    def about(self, path: Path) -> Any:
        """Read what a file says of itself; None if it says nothing."""
        try:
            with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                return json.loads(str(file["about"]))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None

    def column(self, path: Path, name: str) -> Any:
        """Give a column, read from the file where it is looked at."""
        with zipfile.ZipFile(path) as archive:
            info = archive.getinfo(f"{name}.npy")
            if info.compress_type != zipfile.ZIP_STORED:
                with archive.open(info) as member:
                    return np.lib.format.read_array(member, allow_pickle=False)
        with path.open("rb") as file:
            file.seek(info.header_offset)
            head = file.read(30)
            if head[:4] != b"PK\x03\x04":
                raise InvalidOption(f"{str(path)!r} is damaged")
            sizes = [int.from_bytes(head[at : at + 2], "little") for at in (26, 28)]
            file.seek(sum(sizes), io.SEEK_CUR)
            np.lib.format.read_magic(file)
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            begins = file.tell()
        return np.memmap(path, dtype, "r", begins, shape)


def _member(
    archive: zipfile.ZipFile,
    name: str,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    blocks: Iterable[NDArray[Any]],
    packed: bool,
) -> None:
    header = io.BytesIO()
    described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False}
    np.lib.format.write_array_header_1_0(header, {**described, "shape": shape})
    info = zipfile.ZipInfo(f"{name}.npy", _DATE)
    info.compress_type = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
    # Unix, and readable by all, whatever the system.
    info.create_system, info.external_attr = 3, 0o644 << 16
    # Tells whether offsets of eight bytes are needed, before anything is written.
    info.file_size = header.tell() + math.prod(shape) * dtype.itemsize
    with archive.open(info, "w") as member:
        member.write(header.getvalue())
        for block in blocks:
            member.write(block.tobytes() if packed else block.data.cast("B"))
