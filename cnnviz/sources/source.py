"""What a source of images is, and one whose labels are given beside it."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cnnviz.errors import ChannelOutOfRange, InvalidImage, InvalidOption

__all__ = ["Item", "Labelled", "Relabelled", "Source", "UnreadableFile", "given_labels", "numbered"]


class UnreadableFile(InvalidImage):
    """A file, or a member of an archive, is missing, damaged or no image."""


class Labelled(NamedTuple):
    """A picture and the label that came with it."""

    picture: Any
    label: int | None


class Item:
    """One image of a source, not decoded yet.

    Parameters
    ----------
    index : int
        Its place in the source.
    load : callable
        Gives the picture, or a `Labelled` one.
    label : int, optional
        Its class, where that is known before the picture is.
    """

    __slots__ = ("_load", "index", "label")

    def __init__(self, index: int, load: Callable[[], Any], label: int | None = None) -> None:
        self.index = index
        self.label = label
        self._load = load

    def load(self) -> Any:
        """Decode the picture; `label` is known from then on, if it ever is.

        Raises
        ------
        InvalidImage
            It is broken.
        """
        found = self._load()
        if isinstance(found, Labelled):
            if self.label is None:
                self.label = found.label
            return found.picture
        return found


class Source(ABC):
    """An ordered set of images.

    Attributes
    ----------
    name : str
        What it is, in words: "folder photos/".
    classes : tuple of str or None
        The names of the classes, where they have any.
    length : int or None
        How many images there are; None for a stream that does not tell.
    parallel : bool
        Whether it can be opened again in another process and read from any index.
    threads : int or None
        How many threads may decode at once unless the caller asks for more; None for any
        number. What runs code of the user's is read by one.
    forward : bool
        Whether it can only be gone through in order, from its start.
    """

    name: str
    classes: tuple[str, ...] | None = None
    length: int | None = None
    parallel: bool = False
    threads: int | None = None
    forward: bool = False

    @abstractmethod
    def fingerprint(self) -> str:
        """Give 16 hexadecimal digits that are the same for the same images in the same order.

        Labels, times of files and the folder that they are mounted in do not count. What does
        is said by each kind of source.
        """

    @abstractmethod
    def read(self, index: int) -> Any:
        """Decode one image, as `cnnviz.pictures.picture_batch` takes it.

        Raises
        ------
        InvalidImage
            It is broken.
        InvalidOption
            The source only goes forward.
        ChannelOutOfRange
            There is no image of that index.
        """

    def reference(self, index: int) -> str:
        """Say which image this is: its path, or its number."""
        return f"number {index} of {self.name}"

    def label(self, index: int) -> int | None:
        """Give the class of an image, or None."""
        return None

    def labels_fingerprint(self) -> str | None:
        """Give 16 hexadecimal digits that change with labels that were given apart; else None."""
        return None

    def items(self, start: int, stop: int | None) -> Iterator[Item]:
        """Go through the images from `start` up to `stop`, or to the end, in order."""
        for index in range(start, self.end(stop)):
            yield Item(index, partial(self.read, index), self.label(index))

    def block(self, start: int, stop: int) -> NDArray[Any] | None:
        """Give a slice of images that lie in memory as one array, or None if they do not."""
        return None

    def end(self, stop: int | None) -> int:
        """Give where to stop in a source of known length."""
        if self.length is None:
            raise InvalidOption(f"{self.name} does not tell how many images it has")
        return self.length if stop is None else min(stop, self.length)

    def check_index(self, index: int) -> int:
        """Refuse an index outside the source."""
        if not 0 <= index < self.end(None):
            raise ChannelOutOfRange("image", index, self.end(None))
        return int(index)


class Relabelled(Source):
    """A source whose labels the user has given.

    Parameters
    ----------
    source : Source
        Of known length.
    labels : array of int
        One for each image.
    classes : tuple of str, optional
        Their names; by default those of `source`, else their numbers.
    """

    def __init__(
        self, source: Source, labels: NDArray[np.int64], classes: tuple[str, ...] | None
    ) -> None:
        self.source = source
        self.name, self.length = source.name, source.length
        self.threads, self.forward = source.threads, source.forward
        self.classes = classes or source.classes or numbered(labels)
        self._labels = labels

    @property
    def parallel(self) -> bool:  # type: ignore[override]
        """As the source's own."""
        return self.source.parallel

    def fingerprint(self) -> str:
        """Give that of the source: labels do not count."""
        return self.source.fingerprint()

    def labels_fingerprint(self) -> str:
        """Give 16 hexadecimal digits that change with any label."""
        return hashlib.blake2b(self._labels.tobytes(), digest_size=8).hexdigest()

    def read(self, index: int) -> Any:
        """See `Source.read`."""
        return self.source.read(index)

    def reference(self, index: int) -> str:
        """See `Source.reference`."""
        return self.source.reference(index)

    def label(self, index: int) -> int | None:
        """Give the label that the user has given."""
        return int(self._labels[index])

    def items(self, start: int, stop: int | None) -> Iterator[Item]:
        """See `Source.items`."""
        for item in self.source.items(start, stop):
            item.label = self.label(item.index)
            yield item

    def block(self, start: int, stop: int) -> NDArray[Any] | None:
        """See `Source.block`."""
        return self.source.block(start, stop)


def numbered(labels: NDArray[np.int64]) -> tuple[str, ...]:
    """Name classes after their numbers."""
    return tuple(map(str, range(int(labels.max(initial=-1)) + 1)))


def given_labels(labels: Any, count: int) -> tuple[NDArray[np.int64], tuple[str, ...] | None]:
    """Make integers of labels: of names their places in alphabetical order, of one-hot rows theirs.

    Parameters
    ----------
    labels : sequence of int or str, or array ``(N,)``, ``(N, 1)`` or one-hot ``(N, classes)``
    count : int
        How many there must be.

    Returns
    -------
    array, tuple of str or None
        ``(N,)``, and the names if names were given.

    Raises
    ------
    InvalidOption
        They are neither, or not one for each image.
    """
    try:
        array = np.asarray(labels)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidOption(f"labels must be integers or names, one an image ({error})") from error
    if array.ndim == 2 and len(array) == count:
        array = array[:, 0] if array.shape[1] == 1 else array.argmax(axis=1)
    if array.shape != (count,):
        raise InvalidOption(f"labels must be one an image: {count}, not {array.shape}")
    if array.dtype.kind in "US" or all(isinstance(one, str) for one in array):
        names, places = np.unique(array.astype(str), return_inverse=True)
        return places.astype(np.int64), tuple(map(str, names))
    whole = array.dtype.kind in "iub" or (
        array.dtype.kind == "f" and bool((array == np.floor(array)).all())
    )
    if not whole or (count and array.min() < -1):
        raise InvalidOption("labels must be integers from 0 on (-1 for unknown) or names")
    return array.astype(np.int64), None
