"""Streams of images: iterators, and what can be gone through again but not entered anywhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from cnnviz.errors import InvalidImage, InvalidOption
from cnnviz.sources.hashing import digest, picture_hash
from cnnviz.sources.source import Item, Labelled, Source
from cnnviz.sources.tensors import as_picture, labelled

__all__ = ["StreamSource"]

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
