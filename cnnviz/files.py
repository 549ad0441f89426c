"""Files that appear when they are whole; a failure leaves the old one as it was."""

from __future__ import annotations

import io
import json
import math
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.errors import InvalidOption

__all__ = ["plain_json", "sync_entries", "write_arrays", "write_bytes", "write_json", "write_text"]


def write_bytes(path: str | os.PathLike[str], data: bytes, durable: bool = False) -> Path:
    """Write a file under a temporary name in its folder, then put it in its place.

    Parameters
    ----------
    path : path
    data : bytes
    durable : bool
        Whether it is on the disk, and not on its way there, when this returns.

    Raises
    ------
    InvalidOption
        The folder is missing or cannot be written.
    """
    given = Path(path)
    # A link is written through, not replaced.
    target = Path(os.path.realpath(given))
    if not target.parent.is_dir():
        raise InvalidOption(f"there is no folder {str(target.parent)!r}; make it first")
    # Not tempfile: its files can be read by their owner alone, and this one is to be shared.
    draft = target.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        try:
            with draft.open("xb") as file:
                file.write(data)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            draft.replace(target)
            if durable:
                sync_entries(target.parent)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise InvalidOption(f"cannot write {str(given)!r}: {error.strerror or error}") from error
    return given


def write_text(path: str | os.PathLike[str], text: str, durable: bool = False) -> Path:
    """Write a text in UTF-8; see `write_bytes`."""
    return write_bytes(path, text.encode(), durable)


def sync_entries(folder: Path) -> None:
    """Put the names in a folder on the disk, where the system can open one."""
    if os.name == "posix":
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def plain_json(value: Any) -> Any:
    """Give a value of what JSON knows: what is not finite becomes null, a path its text."""
    if isinstance(value, dict):
        return {key: plain_json(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def write_json(path: str | os.PathLike[str], value: Any) -> Path:
    """Write a value as JSON, see `plain_json`; see `write_bytes`."""
    return write_text(path, json.dumps(plain_json(value), indent=1, allow_nan=False) + "\n")


def write_arrays(
    path: str | os.PathLike[str], arrays: Mapping[str, NDArray[Any]], durable: bool = False
) -> Path:
    """Write arrays by name as ``.npz``, compressed; see `write_bytes`."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **dict(arrays))
    return write_bytes(path, buffer.getvalue(), durable)
