"""Features as a Zarr group: an array for each column, in chunks along the images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cnnviz.errors import MissingDependency
from cnnviz.extraction.rows import Table

__all__ = ["ZarrFormat"]

_CHUNK = 2**22
_TEXTS = 4096


class ZarrFormat:
    """Writes and reads groups of Zarr, version 3 of the format."""

    suffix = ".zarr"
    folder = True

    def require(self) -> None:
        """Raise MissingDependency unless zarr is installed."""
        _zarr()

    def write(self, path: Path, table: Table, about: Mapping[str, Any]) -> None:
        """Write a table, a chunk at a time."""
        group = _zarr().create_group(str(path), zarr_format=3, attributes=dict(about))
        for column in table.columns:
            text = column.dtype.kind == "U"
            rows = min(table.count, _TEXTS if text else column.rows_within(_CHUNK))
            array = group.create_array(
                _key(column.name),
                shape=(table.count, *column.shape),
                chunks=(rows, *column.shape),
                dtype=str if text else column.dtype,
                attributes={} if column.layer is None else {"layer": column.layer},
            )
            for number, block in enumerate(table.blocks(column, rows)):
                start = number * rows
                array[start : start + len(block)] = block.astype(object) if text else block

    def about(self, path: Path) -> Any:
        """Read what a group says of itself; None if it says nothing."""
        zarr = _zarr()
        try:
            return dict(zarr.open_group(str(path), mode="r").attrs)
        # Of what is no group, a file, or of another version.
        except Exception:  # noqa: BLE001  zarr's own errors have no common class
            return None

    def column(self, path: Path, name: str) -> Any:
        """Give an array of Zarr, which reads the chunks that are looked at."""
        return _zarr().open_group(str(path), mode="r")[_key(name)]


def _zarr() -> Any:
    try:
        import zarr
    except ImportError as error:
        raise MissingDependency("zarr is not installed; pip install 'cnnviz[zarr]'") from error
    return zarr


def _key(name: str) -> str:
    """Name an array as any file system can; a slash would begin a group."""
    key = quote(name, safe="")
    return f"%5F{key[1:]}" if key.startswith("__") else key
