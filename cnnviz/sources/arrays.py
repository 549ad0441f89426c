"""Images in memory: one array of many, or a list of Pillow images, arrays and paths."""

from __future__ import annotations

import os
from collections.abc import Sequence
from hashlib import blake2b
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnnviz.errors import InvalidImage
from cnnviz.images.reading import upright
from cnnviz.sources.files import decoded
from cnnviz.sources.hashing import digest, picture_hash
from cnnviz.sources.source import Source, numbered
from cnnviz.sources.tensors import as_picture, is_tensor

__all__ = ["ArraySource", "ListSource", "array_source"]

# A Pillow image that is opened and not read yet is no thing for two threads.
_loading = Lock()


class ArraySource(Source):
    """Images in one array, ``(N, H, W)``, ``(N, H, W, C)`` or ``(N, D, H, W, C)``.

    Parameters
    ----------
    array : array
        uint8, or floats as the network takes them.
    name : str
        What it is, in words.
    labels : array of int, optional
        One for each image.
    classes : sequence of str, optional
        Names of the labels.
    """

    parallel = True

    def __init__(
        self,
        array: NDArray[Any],
        name: str,
        labels: NDArray[np.int64] | None = None,
        classes: Sequence[str] | None = None,
    ) -> None:
        self.name = name
        self.length = len(array)
        if classes is None and labels is not None:
            classes = numbered(labels)
        self.classes = None if classes is None else tuple(classes)
        self._array, self._labels = array, labels
        self._fingerprint: str | None = None

    def fingerprint(self) -> str:
        """Hash the shape, the dtype and every number."""
        if self._fingerprint is None:
            found = blake2b(digest_size=16)
            rows = max(1, 2**24 // max(1, self._array[:1].nbytes))
            for start in range(0, len(self._array), rows):
                found.update(self._array[start : start + rows].tobytes())
            shape, kind = self._array.shape, self._array.dtype.str
            self._fingerprint = digest("array", shape, kind, found.digest())
        return self._fingerprint

    def label(self, index: int) -> int | None:
        """Give the label of an image, or None."""
        return None if self._labels is None else int(self._labels[index])

    def read(self, index: int) -> Any:
        """Give one image, a view of the array."""
        return self._array[self.check_index(index)]

    def block(self, start: int, stop: int) -> NDArray[Any]:
        """Give the images of a span, a view of the array."""
        return self._array[start:stop]

    def taken(self, places: Sequence[int], name: str) -> ArraySource:
        """Give a source of some of the images, in that order."""
        rows = list(places)
        labels = None if self._labels is None else self._labels[rows]
        return ArraySource(self._array[rows], name, labels, self.classes)


class ListSource(Source):
    """Pillow images, arrays and paths, in the order of a list.

    Parameters
    ----------
    images : sequence
    """

    parallel = True

    def __init__(self, images: Sequence[Any]) -> None:
        self.name = f"list of {len(images)} images"
        self.length = len(images)
        self._images = list(images)
        self._fingerprint: str | None = None

    def fingerprint(self) -> str:
        """Hash every picture; of files the name and the size."""
        if self._fingerprint is None:
            parts: list[Any] = ["list"]
            for index, image in enumerate(self._images):
                if isinstance(image, str | os.PathLike):
                    name = os.path.basename(os.fspath(image))
                    parts += [name, os.path.getsize(image) if os.path.exists(image) else -1]
                    continue
                try:
                    parts.append(picture_hash(self.read(index)))
                except InvalidImage:
                    parts.append("broken")
            self._fingerprint = digest(*parts)
        return self._fingerprint

    def reference(self, index: int) -> str:
        """Give the path, or the number."""
        image = self._images[self.check_index(index)]
        return os.fspath(image) if isinstance(image, str | os.PathLike) else f"number {index}"

    def read(self, index: int) -> Any:
        """Decode the image; see `Source.read`."""
        image = self._images[self.check_index(index)]
        if isinstance(image, str | os.PathLike):
            return decoded(os.fspath(image))
        if isinstance(image, Image.Image):
            try:
                with _loading:
                    return upright(image)
            except MemoryError:
                raise
            except Exception as error:  # as of a file: the decoders raise nearly anything
                raise InvalidImage(f"the image is damaged or closed ({error})") from error
        return as_picture(image)


def array_source(array: Any, name: str = "", labels: Any = None, many: bool = False) -> ArraySource:
    """Take an array: of two axes, or of three that end in channels, it is one picture.

    An array of three axes that does not end in 1, 3 or 4 is many grey pictures (or signals);
    of a tensor of PyTorch with four axes or more, channels are the second. Where
    `many`, the first axis is always that of images.

    Raises
    ------
    InvalidImage
        It has another number of axes, or no image.
    """
    given = array
    if is_tensor(given):
        given = given.detach().cpu().numpy()
        if given.ndim > 4 or (given.ndim == 4 and given.shape[-1] not in (1, 3, 4)):
            given = np.moveaxis(given, 1, -1)
        elif not many and given.ndim == 3 and given.shape[0] in (1, 3, 4):
            given = np.moveaxis(given, 0, -1)
    given = np.asanyarray(given)
    if not many and (given.ndim == 2 or (given.ndim == 3 and given.shape[-1] in (1, 3, 4))):
        given = given[None]
    if not 3 <= given.ndim <= 5 or 0 in given.shape:
        raise InvalidImage(
            f"an array of images is (N, H, W, C), not {given.shape}; for other things give a list"
        )
    return ArraySource(given, name or f"array of {len(given)} images", labels)
