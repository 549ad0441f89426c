"""Features that were written, read where they are looked at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.errors import InvalidOption, UnknownLayer
from cnnviz.extraction.formats import format_of
from cnnviz.tables import text_table

__all__ = ["SCHEMA", "Extraction", "Features"]

SCHEMA = 1


@dataclass(frozen=True)
class Features:
    """What is written of one layer.

    Attributes
    ----------
    layer : str
    column : str
        The name in the file: the layer's, unless that is taken.
    shape : tuple of int
        ``(N, C)`` if pooled, else ``(N, H, W, C)`` or as the layer gives it.
    dtype : numpy.dtype
    """

    layer: str
    column: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class Extraction:
    """The features of a data set in a file; ``extraction[layer]`` reads them where looked at.

    Attributes
    ----------
    path : Path
    layers : dict of str to Features
    count : int
        Images, the first axis of everything.
    broken : list of (int, str, str)
        Number, reference and reason of the images that could not be read and have no row.
    classes : tuple of str or None
        The names of the labels.
    network, framework : str
    infinite : int
        Numbers that became infinite because the dtype does not reach so far.
    """

    def __init__(self, path: Path, about: Any) -> None:
        self.path = path
        self.identity = dict(about["identity"])
        self.network, self.framework = self.identity["network"], self.identity["framework"]
        self.count, self.infinite = int(about["count"]), int(about["infinite"])
        self.broken = [(int(n), str(text), str(why)) for n, text, why in about["broken"]]
        self.classes = None if about["classes"] is None else tuple(about["classes"])
        self.layers = {
            one["layer"]: Features(
                one["layer"], one["column"], (self.count, *one["shape"]), np.dtype(one["dtype"])
            )
            for one in about["layers"]
        }
        self._labelled = bool(about["labelled"])

    @classmethod
    def open(cls, path: str | Path) -> Extraction:
        """Open a file that `cnnviz.extract` wrote; no features are read yet.

        Raises
        ------
        InvalidOption
            It is no such file.
        MissingDependency
            What its format needs is not installed.
        """
        path = Path(path)
        about = format_of(path).about(path)
        if not isinstance(about, dict) or about.get("schema") != SCHEMA:
            raise InvalidOption(f"{str(path)!r} holds no features of this version of cnnviz")
        return cls(path, about)

    def __getitem__(self, layer: str) -> Any:
        """Give the features of a layer, ``(N, ...)``: what is indexed is read from the disk.

        A ``numpy.memmap`` of ``.npz``, a ``zarr.Array`` of Zarr, a
        `cnnviz.extraction.parquet.ParquetColumn` of Parquet.
        """
        if layer not in self.layers:
            raise UnknownLayer(layer, self.layers)
        return format_of(self.path).column(self.path, self.layers[layer].column)

    def __iter__(self) -> Iterator[str]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    @property
    def index(self) -> NDArray[np.int64]:
        """``(N,)``: the number of each image in its source."""
        return np.asarray(self._read("index"), np.int64)

    @property
    def labels(self) -> NDArray[np.int64] | None:
        """``(N,)``: the class of each image, -1 where none is known; None if none is at all."""
        return np.asarray(self._read("label"), np.int64) if self._labelled else None

    @property
    def references(self) -> list[str]:
        """The path of each image, or what there is in its place."""
        return [str(one) for one in self._read("reference")]

    def to_json(self) -> dict[str, Any]:
        """Give all but the features, of what JSON knows."""
        return {
            "path": str(self.path),
            "network": self.network,
            "framework": self.framework,
            "count": self.count,
            "layers": {
                name: {"column": one.column, "shape": list(one.shape), "dtype": str(one.dtype)}
                for name, one in self.layers.items()
            },
            "classes": None if self.classes is None else list(self.classes),
            "broken": [list(one) for one in self.broken],
            "infinite": self.infinite,
        }

    def __str__(self) -> str:
        rows = [
            (name, " x ".join(map(str, one.shape)), str(one.dtype))
            for name, one in self.layers.items()
        ]
        lines = [f"{self.network} ({self.framework}): {self.count:,} images in {self.path}"]
        if self.broken:
            _, reference, reason = self.broken[0]
            count = len(self.broken)
            lines.append(f"{count} could not be read; the first is {reference}: {reason}")
        if self.infinite:
            lines.append(f"{self.infinite:,} numbers are too large for the dtype and infinite")
        return text_table(("layer", "shape", "dtype"), rows, footer=lines)

    def _read(self, column: str) -> Any:
        return np.asarray(format_of(self.path).column(self.path, column)[:])
