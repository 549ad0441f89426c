"""The formats that features are written in, by the end of the file's name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from cnnviz.errors import InvalidOption
from cnnviz.extraction.npz import NpzFormat
from cnnviz.extraction.parquet import ParquetFormat
from cnnviz.extraction.rows import Table
from cnnviz.extraction.zarr_store import ZarrFormat

__all__ = ["FORMATS", "Format", "format_of"]


class Format(Protocol):
    """How a table is written and read."""

    suffix: str
    folder: bool

    def require(self) -> None:
        """Raise MissingDependency where what it needs is not installed."""

    def write(self, path: Path, table: Table, about: Mapping[str, Any]) -> None:
        """Write a table; memory does not grow with its length."""

    def about(self, path: Path) -> Any:
        """Read what a file says of itself; None if it says nothing."""

    def column(self, path: Path, name: str) -> Any:
        """Give a column; of a layer what reads only the images that are looked at."""


FORMATS: dict[str, Format] = {
    one.suffix: one for one in (NpzFormat(), ZarrFormat(), ParquetFormat())
}
"""By suffix."""


def format_of(path: Path) -> Format:
    """Tell a format by a file's name.

    Raises
    ------
    InvalidOption
        There is none of that suffix.
    """
    if path.suffix.lower() not in FORMATS:
        raise InvalidOption(
            f"cannot tell the format of {str(path)!r}; end it in .npz, .zarr or .parquet"
        )
    return FORMATS[path.suffix.lower()]
