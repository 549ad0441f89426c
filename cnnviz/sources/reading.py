"""A source as batches for a network, decoded in threads beside it."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.adapter import Adapter
from cnnviz.errors import InvalidImage, InvalidOption
from cnnviz.images import read_batch
from cnnviz.pictures import picture_batch, picture_size
from cnnviz.sources.hashing import block_hashes, picture_hash
from cnnviz.sources.source import Item, Source, UnreadableFile

__all__ = ["Batch", "Broken", "read_batches"]


@dataclass(frozen=True)
class Broken:
    """An image that was passed over.

    Attributes
    ----------
    index : int
        Its place in the source.
    reference : str
        Its path, or its number in words.
    reason : str
        What is wrong with it, in one line.
    """

    index: int
    reference: str
    reason: str


@dataclass
class Batch:
    """Some images of a source as a network takes them.

    Attributes
    ----------
    indices : array
        ``(B,)`` places in the source; -1 for a row that only fills the batch up.
    pictures : array
        ``(B, H, W, C)`` as `cnnviz.pictures.picture_batch` gives them; zeros where an image is
        broken. If all are, and nothing tells a size, the sides are 0.
    good : array
        ``(B,)``, whether the row holds an image.
    labels : array
        ``(B,)`` classes, -1 where none is known.
    hashes : array
        ``(B,)`` of uint64: BLAKE2b of the decoded image, before it was resized.
    broken : list of Broken
    """

    indices: NDArray[np.int64]
    pictures: NDArray[Any]
    good: NDArray[np.bool_]
    labels: NDArray[np.int64]
    hashes: NDArray[np.uint64]
    broken: list[Broken] = field(default_factory=list)


@dataclass
class _Row:
    index: int
    label: int
    hash: int = 0
    picture: Any = None
    error: InvalidImage | None = None


_Rows = list[_Row]


def read_batches(
    source: Source,
    net: Adapter[Any],
    start: int = 0,
    stop: int | None = None,
    batch: int = 32,
    *,
    size: int | tuple[int, int] | None = None,
    full: bool = False,
    workers: int | None = None,
    ahead: int = 2,
) -> Generator[Batch, None, None]:
    """Read images in order, batch by batch, while the network works on those before.

    An image that is broken is told in its batch and passed over. Closing the iterator, or an
    error, ends the threads.

    Parameters
    ----------
    source : Source
    net : Adapter
        Its channels, size and interpolation are taken.
    start, stop : int
        The span of images; None is the end of the source.
    batch : int
        How many at once; the last batch has what remains.
    size : int or (int, int), optional
        Height and width instead of the network's own.
    full : bool
        Fill the last batch up with rows that are not `good`.
    workers : int, optional
        Threads that decode; by default up to four, and one where decoding runs the user's code.
    ahead : int
        How many batches are read at most before they are asked for.

    Returns
    -------
    iterator of Batch

    Raises
    ------
    InvalidImage
        All images of the first batch fail for one reason that is not a damaged file's, such as
        their number of channels; or the images differ in size and nothing says which to take.
    InvalidOption
        A number is out of range, or the source cannot be read from `start` any more.
    UnknownPreprocessing
        Nothing says what the network was trained on.
    """
    if batch < 1 or ahead < 0 or start < 0 or (workers is not None and workers < 1):
        raise InvalidOption(
            "batch and workers are above zero, start and ahead not below it:"
            f" batch {batch}, workers {workers}, start {start}, ahead {ahead}"
        )
    if workers is None:
        workers = min(4, os.cpu_count() or 1, source.threads or 4)
    if source.length is not None:
        stop = source.end(stop)
    reader = _Reader(source, net, batch, size)
    return reader.run(start, stop, full, workers, ahead)


class _Reader:
    """How the images of one source become batches of one network."""

    def __init__(
        self, source: Source, net: Adapter[Any], batch: int, size: int | tuple[int, int] | None
    ) -> None:
        self._source, self._net, self._batch, self._asked = source, net, batch, size
        preprocessing = net.require_preprocessing()
        self._channels = net.input_shape[-1]
        preprocessing.check_channels(self._channels)
        self._flat = len(net.input_shape) == 3
        if size is not None and not self._flat:
            raise InvalidOption(
                f"{net.name} takes no pictures; cut or resample the arrays yourself"
            )
        self._size = picture_size(net, size) if self._flat else None
        self._interpolation = preprocessing.interpolation
        self._sides: tuple[int, ...] | None = self._size
        self._dtype: Any = np.float32

    def run(
        self, start: int, stop: int | None, full: bool, workers: int, ahead: int
    ) -> Generator[Batch, None, None]:
        pool = ThreadPoolExecutor(workers, thread_name_prefix="cnnviz-source")
        waiting: deque[Callable[[], _Rows | Batch]] = deque()
        submitted = self._submitted(pool, start, stop)
        first = True
        try:
            while True:
                for collect in islice(submitted, ahead + 1 - len(waiting)):
                    waiting.append(collect)
                if not waiting:
                    return
                found = waiting.popleft()()
                ready = found if isinstance(found, Batch) else self._assembled(found, first)
                if ready is None:
                    return
                first = False
                if ready.good.any():
                    self._net.settle(*ready.pictures.shape[1:-1])
                yield self._filled(ready) if full else ready
        finally:
            # Before the stream is closed: a thread may be in it.
            pool.shutdown(wait=True, cancel_futures=True)
            submitted.close()

    def _submitted(
        self, pool: ThreadPoolExecutor, start: int, stop: int | None
    ) -> Generator[Any, None, None]:
        """Set work going, a batch each time; what comes waits for its rows when it is called."""
        source = self._source
        if source.forward:
            stream = source.items(start, stop)
            try:
                while True:
                    yield pool.submit(self._pulled, stream).result
            finally:
                stream.close()  # type: ignore[attr-defined]
        assert stop is not None
        for begin in range(start, stop, self._batch):
            end = min(begin + self._batch, stop)
            if self._flat and source.block(begin, begin + 1) is not None:
                yield pool.submit(self._block, begin, end).result
            else:
                rows = [pool.submit(self._row, item) for item in source.items(begin, end)]
                yield partial(_results, rows)

    def _pulled(self, stream: Iterator[Item]) -> _Rows:
        return [self._row(item) for item in islice(stream, self._batch)]

    def _block(self, begin: int, end: int) -> Batch | _Rows:
        """Read a span of an array at once, or one by one if anything in it is broken."""
        block = self._source.block(begin, end)
        assert block is not None
        try:
            pictures = self._read(block[..., None] if block.ndim == 3 else block)
        except InvalidImage:
            return [self._row(item) for item in self._source.items(begin, end)]
        labels = [self._source.label(index) for index in range(begin, end)]
        return Batch(
            np.arange(begin, end),
            pictures,
            np.ones(end - begin, bool),
            np.array([-1 if one is None else one for one in labels], np.int64),
            block_hashes(block),
        )

    def _row(self, item: Item) -> _Row:
        """Decode and resize one image; in a thread."""
        try:
            picture = item.load()
        except InvalidImage as error:
            return _Row(item.index, _known(item.label), error=error)
        row = _Row(item.index, _known(item.label))
        try:
            row.hash = picture_hash(picture)
            row.picture = self._read([picture])[0] if self._flat else picture
        except InvalidImage as error:
            row.error = error
        return row

    def _read(self, pictures: Any) -> NDArray[Any]:
        return read_batch(
            pictures,
            channels=self._channels,
            size=self._size,
            interpolation=self._interpolation,
        )

    def _assembled(self, rows: _Rows, first: bool) -> Batch | None:
        if not rows:
            return None
        if not self._flat:
            self._settle_arrays(rows)
        fine = [row for row in rows if row.error is None]
        if first:
            self._require_some(rows, fine)
        for row in fine:
            if row.picture.shape[:-1] != fine[0].picture.shape[:-1]:
                one, other = (" x ".join(map(str, r.picture.shape[:-1])) for r in (fine[0], row))
                raise InvalidImage(
                    f"images differ in size: {self._source.reference(fine[0].index)} is {one},"
                    f" {self._source.reference(row.index)} is {other} (height x width); give a"
                    " size to resize them all to"
                )
        if fine:
            self._sides = fine[0].picture.shape[:-1]
            self._dtype = np.result_type(*{row.picture.dtype for row in fine})
        sides = self._sides or (0,) * (len(self._net.input_shape) - 1)
        pictures = np.zeros((len(rows), *sides, self._channels), self._dtype)
        for place, row in enumerate(rows):
            if row.error is None:
                pictures[place] = row.picture
        return Batch(
            np.array([row.index for row in rows], np.int64),
            pictures,
            np.array([row.error is None for row in rows]),
            np.array([row.label for row in rows], np.int64),
            np.array([row.hash for row in rows], np.uint64),
            [self._broken(row) for row in rows if row.error is not None],
        )

    def _settle_arrays(self, rows: _Rows) -> None:
        """Check signals and volumes; not in a thread, since the network is told their size."""
        for row in rows:
            if row.error is None:
                try:
                    found = picture_batch(self._net, row.picture)
                    if len(found) > 1:
                        raise InvalidImage(
                            f"{self._net.name} takes one array of {row.picture.shape} for many;"
                            " give a list of them"
                        )
                    row.picture = found[0]
                except InvalidImage as error:
                    row.error, row.hash, row.picture = error, 0, None

    def _require_some(self, rows: _Rows, fine: _Rows) -> None:
        """Raise what all of the first images have in common, if it is no damage of a file."""
        if fine or (len(rows) == 1 and self._source.length != 1):
            return
        error = rows[0].error
        if isinstance(error, UnreadableFile) or len({_kind(row.error) for row in rows}) > 1:
            return
        broken = self._broken(rows[0])
        raise InvalidImage(f"{broken.reference}: {broken.reason}") from error

    def _broken(self, row: _Row) -> Broken:
        reason = str(row.error).replace("image 0 of the list", "the image")
        return Broken(row.index, self._source.reference(row.index), reason)

    def _filled(self, ready: Batch) -> Batch:
        more = self._batch - len(ready.indices)
        if not more:
            return ready
        pad = ((0, more),)
        return Batch(
            np.pad(ready.indices, pad, constant_values=-1),
            np.pad(ready.pictures, (*pad, *[(0, 0)] * (ready.pictures.ndim - 1))),
            np.pad(ready.good, pad),
            np.pad(ready.labels, pad, constant_values=-1),
            np.pad(ready.hashes, pad),
            ready.broken,
        )


def _results(rows: list[Future[_Row]]) -> _Rows:
    return [row.result() for row in rows]


def _known(label: int | None) -> int:
    return -1 if label is None else label


def _kind(error: InvalidImage | None) -> str:
    """Give the reason without its numbers, which differ from image to image."""
    return f"{type(error).__name__} {re.sub(r'[-+.0-9]+|[(][^)]*[)]', '', str(error))}"
