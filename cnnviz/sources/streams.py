"""Streams of images: iterators, and what can be gone through again but not entered anywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.errors import InvalidImage, InvalidOption
from cnnviz.sources.hashing import digest, picture_hash
from cnnviz.sources.source import Item, Labelled, Source
from cnnviz.sources.tensors import as_label, as_picture, in_parts, labelled

__all__ = ["BatchStream", "StreamSource", "keras_stream", "tensorflow_stream"]

# So many of its first images tell one stream from another.
_FIRST = 4


class StreamSource(Source):
    """Images that come one after another.

    Parameters
    ----------
    images : iterable
        Gives pictures, pairs of a picture and a label, or mappings that hold both. An iterator
        can be gone through once; any other is gone through again from its start.
    name : str
        What it is, in words.
    """

    threads = 1
    forward = True

    def __init__(self, images: Iterable[Any], name: str = "") -> None:
        self.name = name or f"{type(images).__name__} of images"
        self._images = images
        self._once = iter(images) is images if isinstance(images, Iterator) else False
        self._first: list[Labelled] | None = None
        self._taken = 0

    def singles(self) -> Iterator[Labelled]:
        """Go through the images from the first one; again only if the stream can."""
        return map(labelled, iter(self._images))

    def first(self) -> list[Labelled]:
        """Give the first few images; of an iterator they are kept for the reading that follows."""
        if self._first is None:
            stream = self.singles()
            self._first = []
            for one in stream:
                self._first.append(one)
                if len(self._first) == _FIRST:
                    break
        return self._first

    def fingerprint(self) -> str:
        """Hash the first four images."""
        return digest("stream", *(_hash(one.picture) for one in self.first()))

    def read(self, index: int) -> Any:
        """Refuse: a stream only goes forward."""
        raise InvalidOption(f"{self.name} only goes forward; give a list or a folder to go back")

    def items(self, start: int, stop: int | None) -> Iterator[Item]:
        """Go through the stream, passing over what comes before `start`.

        Raises
        ------
        InvalidOption
            It is an iterator that has been read further already, or the stream has changed.
        """
        if stop is not None and stop <= start:
            return
        if self._once:
            if start < self._taken:
                raise InvalidOption(
                    f"{self.name} can be read once, and {self._taken} images of it have been;"
                    " give a list, or something that can be gone through again"
                )
            stream = self._rest()
            place = self._taken
        else:
            stream = self._again()
            place = 0
        for one in stream:
            if place >= start:
                yield Item(place, lambda one=one: _loaded(one), one.label)  # type: ignore[misc]
            place += 1
            # Before the next is taken, which may be the one that is not wanted.
            if stop is not None and place >= stop:
                return

    def _rest(self) -> Iterator[Labelled]:
        kept = self._first or []
        while self._taken < len(kept):
            self._taken += 1
            yield kept[self._taken - 1]
        for one in self.singles():
            self._taken += 1
            yield one

    def _again(self) -> Iterator[Labelled]:
        known = self.first()
        for place, one in enumerate(self.singles()):
            if place < len(known) and _hash(one.picture) != _hash(known[place].picture):
                raise InvalidOption(
                    f"{self.name} gives other images each time it is read, so nothing can be"
                    " found again in it; make it without shuffling (shuffle=False)"
                )
            yield one


def _loaded(one: Labelled) -> Labelled:
    return Labelled(as_picture(one.picture), one.label)


def _hash(picture: Any) -> int | str:
    try:
        return picture_hash(as_picture(picture))
    except InvalidImage:
        return "broken"


class BatchStream(StreamSource):
    """What gives its images in batches: a ``tf.data.Dataset`` or a Keras dataset.

    Parameters
    ----------
    images : object
        Gives arrays, pairs of arrays, or mappings.
    name : str
        What it is, in words.
    elements : callable
        Goes through what it gives, from the start.
    batched : bool
        Whether that has an axis of images in front.
    length : int, optional
        How many images there are, where it tells.
    """

    def __init__(
        self,
        images: Any,
        name: str,
        elements: Callable[[Any], Iterator[Any]],
        batched: bool,
        length: int | None = None,
    ) -> None:
        super().__init__(images, name)
        self.length = length
        self._elements, self._batched = elements, batched
        self._scale: float | None = None

    def singles(self) -> Iterator[Labelled]:
        """Go through the images one by one; floats up to 255 become floats up to 1."""
        for element in self._elements(self._images):
            pictures, labels = in_parts(element)
            array = np.asarray(pictures)
            rows = array if self._batched else array[None]
            if rows.ndim == 4 and rows.dtype.kind == "f" and rows.size:
                rows = self._unit(rows)
            known = labels if self._batched else [labels]
            for place, row in enumerate(rows):
                yield Labelled(row, None if known is None else as_label(known[place]))

    def _unit(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Scale by what the first batch says: Keras gives floats in [0, 255]."""
        if self._scale is None:
            self._scale = 255.0 if 1 + 1e-6 < rows.max() < 256 and rows.min() >= 0 else 1.0
        if self._scale == 1:
            return rows
        return np.asarray(np.clip(rows / np.asarray(self._scale, rows.dtype), 0, 1))


def tensorflow_stream(dataset: Any) -> BatchStream:
    """Take a ``tf.data.Dataset``; batched if its pictures have four axes or an open first one.

    Raises
    ------
    InvalidImage
        It is empty.
    """
    pictures, _ = in_parts(dataset.element_spec)
    shape = getattr(pictures, "shape", None)
    sides = None if shape is None or shape.rank is None else shape.as_list()
    if sides is None:
        raise InvalidImage("the tf.data.Dataset does not tell the number of its axes; set_shape it")
    batched = len(sides) >= 4 or (
        len(sides) > 2 and sides[0] is None and sides[-1] not in (1, 3, 4)
    )
    count = int(dataset.cardinality())
    if count == 0:
        raise InvalidImage("the tf.data.Dataset is empty")
    length = None if batched or count < 0 else count
    return BatchStream(dataset, "tf.data.Dataset", _numpy, batched, length)


def keras_stream(dataset: Any) -> BatchStream:
    """Take a ``keras.utils.PyDataset``, which gives batches by number."""
    return BatchStream(dataset, f"Keras dataset {type(dataset).__name__}", _by_number, True)


def _numpy(dataset: Any) -> Iterator[Any]:
    return iter(dataset.as_numpy_iterator())


def _by_number(dataset: Any) -> Iterator[Any]:
    return (dataset[number] for number in range(len(dataset)))
