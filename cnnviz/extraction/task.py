"""Features of a span of images, written as they are made."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cnnviz.adapter import Adapter
from cnnviz.errors import InvalidOption
from cnnviz.extraction.rows import RowFiles, RowWriter
from cnnviz.passes import NetworkTask, Pass
from cnnviz.plan import Shard
from cnnviz.sources import Batch
from cnnviz.trials import in_words

__all__ = ["FeatureTask", "Pool", "Wanted", "made"]

Pool = Literal["mean", "max"]


@dataclass(frozen=True, eq=False)
class Wanted(Pass):
    """What is made of which images.

    Attributes
    ----------
    pool : {"mean", "max"} or None
        Over all axes between the images and the channels.
    dtype : str or None
        What numbers are written as; the network's own for None.
    """

    pool: Pool | None
    dtype: str | None


def made(values: NDArray[Any], pool: Pool | None, dtype: str | None) -> tuple[NDArray[Any], int]:
    """Pool and round activations ``(B, ..., C)``.

    Returns
    -------
    array, int
        ``(B, C)`` if they are pooled, contiguous and little-endian; how many numbers became
        infinite because `dtype` does not reach so far.
    """
    own = values.dtype
    if pool is not None and values.ndim > 2:
        axes = tuple(range(1, values.ndim - 1))
        if pool == "max":
            values = values.max(axis=axes)
        else:
            # Thousands of places are added up: in float32 the last digits would be lost.
            means = values.mean(axis=axes, dtype=np.float64)
            values = means.astype(own) if own.kind == "f" else means
    wanted = values.dtype if dtype is None else np.dtype(dtype)
    lost = 0
    if values.dtype.kind == "f" and wanted.itemsize < values.dtype.itemsize:
        # What does not fit is counted and told.
        with np.errstate(over="ignore"):
            rounded = values.astype(wanted)
        lost = int(np.isinf(rounded).sum() - np.isinf(values).sum())
        values = rounded
    return np.ascontiguousarray(values, dtype=wanted.newbyteorder("<")), lost


@dataclass(frozen=True, eq=False)
class FeatureTask(NetworkTask):
    """Writes the features of shards, as an executor runs it.

    Attributes
    ----------
    wanted : Wanted
    files : RowFiles
    """

    wanted: Wanted
    files: RowFiles

    def run(self, opened: Adapter[Any], item: Shard) -> int:
        """Write a shard; give how many images it holds."""
        part = _Part(self, self.files.writer(item))
        try:
            what = f"features of images from number {item.start}"
            part.broken = self.wanted.each(opened, item, what, part.made, part.add)
            return part.finish()
        except OSError as error:
            reason = error.strerror or error
            raise InvalidOption(
                f"cannot write in {str(self.files.folder)!r}: {reason}; what is done there can be"
                " gone on with (resume=True, --resume)"
            ) from error
        finally:
            part.rows.discard()


@dataclass(frozen=True)
class _Rows:
    """The features of the images of a batch that are good."""

    images: NDArray[np.int64]
    labels: NDArray[np.int64]
    layers: list[NDArray[Any]]
    infinite: int


@dataclass
class _Part:
    """A shard on its way to the disk."""

    task: FeatureTask
    rows: RowWriter
    broken: list[tuple[int, str, str]] = field(default_factory=list)
    layers: list[dict[str, Any]] = field(default_factory=list)
    labelled: bool = False
    infinite: int = 0

    def made(self, found: Mapping[str, NDArray[Any]], ready: Batch) -> _Rows:
        """Make the features of a batch; several threads may do so at once."""
        wanted = self.task.wanted
        good = np.flatnonzero(ready.good)
        parts, infinite = [], 0
        for name in wanted.layers:
            values = found[name] if len(good) == len(ready.good) else found[name][good]
            values, lost = made(values, wanted.pool, wanted.dtype)
            infinite += lost
            parts.append(values)
        return _Rows(ready.indices[good], ready.labels[good], parts, infinite)

    def add(self, rows: _Rows) -> None:
        self.infinite += rows.infinite
        if not self.layers:
            self.layers = [{"shape": x.shape[1:], "dtype": x.dtype.str} for x in rows.layers]
            self._require_room(sum(x[:1].nbytes for x in rows.layers))
        for number, values in enumerate(rows.layers):
            self.rows.add(str(number), values.data.cast("B"))
        self.labelled |= bool((rows.labels >= 0).any())
        references = [self.task.wanted.source.reference(int(n)) for n in rows.images]
        self.rows.add_images(rows.images, rows.labels, references)

    def finish(self) -> int:
        self.rows.finish(
            {
                "mark": self.task.files.mark,
                "layers": self.layers,
                "broken": self.broken,
                "labelled": self.labelled,
                "infinite": self.infinite,
            }
        )
        return self.rows.count

    def _require_room(self, each: int) -> None:
        """Refuse to begin what the disk cannot hold, the parts and the file made of them."""
        count, files = self.task.wanted.source.length, self.task.files
        if count is None:
            return
        needed = 2 * each * count
        there = shutil.disk_usage(files.folder).free + files.used()
        if needed > there:
            raise InvalidOption(
                f"the features take {in_words(each * count)}, and as much again while the file is"
                f" put together, but {str(files.folder.parent.parent)!r} has"
                f" {in_words(there)} free; take pool='mean', dtype='float16', fewer layers, or"
                " another disk"
            )
