"""Features as Parquet: a row for each image, a column of lists of one length for each layer."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.errors import InvalidOption, MissingDependency
from cnnviz.extraction.rows import Column, Table

__all__ = ["ParquetColumn", "ParquetFormat"]

_GROUP = 2**25
_KEY = b"cnnviz"


class ParquetFormat:
    """Writes and reads Parquet by pyarrow."""

    suffix = ".parquet"
    folder = False

    def require(self) -> None:
        """Raise MissingDependency unless pyarrow is installed."""
        _pyarrow()

    def write(self, path: Path, table: Table, about: Mapping[str, Any]) -> None:
        """Write a table, a group of rows at a time."""
        arrow, parquet = _pyarrow()
        fields = [_field(arrow, column) for column in table.columns]
        schema = arrow.schema(fields, metadata={_KEY: json.dumps(about).encode()})
        rows = max(1, _GROUP // sum(column.row_bytes for column in table.columns))
        blocks = [table.blocks(column, rows) for column in table.columns]
        with parquet.ParquetWriter(
            str(path), schema, use_dictionary=False, write_statistics=False
        ) as writer:
            for some in zip(*blocks, strict=True):
                arrays = [
                    _array(arrow, block, field.type)
                    for block, field in zip(some, schema, strict=True)
                ]
                writer.write_table(arrow.Table.from_arrays(arrays, schema=schema), rows)

    def about(self, path: Path) -> Any:
        """Read what a file says of itself; None if it says nothing."""
        arrow, parquet = _pyarrow()
        try:
            metadata = parquet.read_schema(str(path)).metadata or {}
            return json.loads(metadata[_KEY])
        except (OSError, ValueError, KeyError, arrow.ArrowException):
            return None

    def column(self, path: Path, name: str) -> Any:
        """Give a column, of which the groups of rows are read that are looked at."""
        column = ParquetColumn(path, name)
        return column if column.shape[1:] else column[:]


class ParquetColumn:
    """The features of a layer in a Parquet file; indexed by images, it reads what is asked for.

    Attributes
    ----------
    shape : tuple of int
    dtype : numpy.dtype
    """

    def __init__(self, path: Path, name: str) -> None:
        _, parquet = _pyarrow()
        self._path, self._name = path, name
        with parquet.ParquetFile(str(path)) as file:
            field = file.schema_arrow.field(name)
            sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
        self._edges = np.cumsum([0, *sizes])
        row = json.loads((field.metadata or {}).get(b"shape", b"[]"))
        self.shape = (int(self._edges[-1]), *row)
        kind = getattr(field.type, "value_type", field.type)
        self.dtype = np.dtype(kind.to_pandas_dtype())

    @property
    def ndim(self) -> int:
        """The number of axes, that of images among them."""
        return len(self.shape)

    def __len__(self) -> int:
        return int(self.shape[0])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("what is read from a file is a copy")
        return np.asarray(self[:], dtype)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Read images by number, slice or array of numbers; further axes as of an array."""
        first, *rest = key if isinstance(key, tuple) else (key,)
        if first is Ellipsis or first is None:
            raise InvalidOption("the first index says which images: a number, slice or array")
        rows = np.arange(self.shape[0])[first]
        found = self._rows(np.atleast_1d(rows))
        if not np.ndim(rows):
            found = found[0]
            return np.asarray(found[tuple(rest)])
        return found[(slice(None), *rest)] if rest else found

    def _rows(self, rows: NDArray[np.intp]) -> NDArray[Any]:
        _, parquet = _pyarrow()
        found = np.empty((len(rows), *self.shape[1:]), self.dtype)
        groups = np.searchsorted(self._edges, rows, side="right") - 1
        with parquet.ParquetFile(str(self._path)) as file:
            for group in np.unique(groups):
                column = file.read_row_group(int(group), columns=[self._name])
                values = column.column(0).combine_chunks()
                flat = values.flatten() if self.shape[1:] else values
                array = flat.to_numpy(zero_copy_only=False).reshape(-1, *self.shape[1:])
                here = groups == group
                found[here] = array[rows[here] - self._edges[group]]
        return found


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingDependency(
            "pyarrow is not installed; pip install 'cnnviz[parquet]'"
        ) from error
    return pyarrow, parquet


def _field(arrow: Any, column: Column) -> Any:
    if column.dtype.kind == "U":
        return arrow.field(column.name, arrow.string())
    kind = arrow.from_numpy_dtype(column.dtype)
    if column.layer is None:
        return arrow.field(column.name, kind)
    kind = arrow.list_(kind, math.prod(column.shape))
    about = {"shape": json.dumps(column.shape), "layer": column.layer}
    return arrow.field(column.name, kind, metadata=about)


def _array(arrow: Any, block: NDArray[Any], kind: Any) -> Any:
    if block.dtype.kind == "U":
        return arrow.array(block.tolist(), kind)
    flat = arrow.array(block.reshape(-1))
    if not arrow.types.is_fixed_size_list(kind):
        return flat
    return arrow.FixedSizeListArray.from_arrays(flat, type=kind)
