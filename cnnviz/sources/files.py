"""Image files: of a folder, of a list of paths, of a pattern."""

from __future__ import annotations

import os
from collections.abc import Sequence
from glob import glob
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from cnnviz.errors import InvalidImage
from cnnviz.images import read
from cnnviz.images.reading import upright
from cnnviz.sources.hashing import digest
from cnnviz.sources.source import Source, UnreadableFile

__all__ = [
    "READABLE",
    "FileSource",
    "decoded",
    "folder",
    "keras_files",
    "matching",
    "paths",
]

READABLE = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
"""Suffixes of the files of a folder that are taken for pictures."""


class FileSource(Source):
    """Image files below one folder.

    Parameters
    ----------
    root : str
        The folder.
    names : sequence of str
        The files, relative to it, with ``/`` between folders.
    name : str
        What the source is, in words.
    labels : array of int, optional
        One for each file.
    classes : sequence of str, optional
        Names of the labels.
    """

    parallel = True

    def __init__(
        self,
        root: str,
        names: Sequence[str],
        name: str,
        labels: NDArray[np.int64] | None = None,
        classes: Sequence[str] | None = None,
    ) -> None:
        self.name = name
        self.length = len(names)
        self.classes = None if classes is None else tuple(classes)
        self._root, self._names, self._labels = root, list(names), labels
        # Another process may stand in another folder.
        self._absolute = os.path.abspath(root)
        self._fingerprint: str | None = None

    def fingerprint(self) -> str:
        """Hash the names, relative to the folder, and the sizes in bytes; what is inside is not."""
        if self._fingerprint is None:
            sizes = (_size(os.path.join(self._absolute, name)) for name in self._names)
            parts = (part for pair in zip(self._names, sizes, strict=True) for part in pair)
            self._fingerprint = digest("files", *parts)
        return self._fingerprint

    def reference(self, index: int) -> str:
        """Give the path, as the user would write it."""
        return os.path.join(self._root, self._names[self.check_index(index)])

    def label(self, index: int) -> int | None:
        """Give the class that the file's folder stands for."""
        return None if self._labels is None else int(self._labels[index])

    def read(self, index: int) -> Any:
        """Decode the file; see `decoded`."""
        return decoded(os.path.join(self._absolute, self._names[self.check_index(index)]))

    def taken(self, places: Sequence[int], name: str) -> FileSource:
        """Give a source of some of the files, in that order."""
        names = [self._names[place] for place in places]
        labels = None if self._labels is None else self._labels[list(places)]
        return FileSource(self._root, names, name, labels, self.classes)


def decoded(file: str | bytes, name: str = "") -> Any:
    """Decode a file whole, upright by its EXIF orientation, and close it.

    Parameters
    ----------
    file : str or bytes
        Its path, or what is in it.
    name : str
        What the error calls it if it has no path.

    Returns
    -------
    Pillow image
        Of the file's own mode; `cnnviz.images.read` makes colours of it.

    Raises
    ------
    UnreadableFile
        It is missing, damaged or no image.
    """
    try:
        with Image.open(BytesIO(file) if isinstance(file, bytes) else file) as image:
            return upright(image)
    except MemoryError:
        raise
    except Exception as error:  # the decoders of Pillow raise nearly anything at a damaged file
        raise UnreadableFile(_reason(file, name, error)) from error


def _reason(file: str | bytes, name: str, error: Exception) -> str:
    if isinstance(file, bytes):
        if isinstance(error, UnidentifiedImageError):
            return f"{name} is empty or not an image that Pillow can read"
        return f"{name} is damaged or cut short ({' '.join(str(error).split())})"
    try:
        read(file)
    except InvalidImage as told:
        # It has the words for each kind of damage.
        return str(told)
    return f"{file!r} cannot be read: {error}"


def folder(path: str) -> FileSource:
    """Take the pictures in a folder and in those below it, sorted by name.

    Where all of them lie in subfolders, the first subfolder is the class, as in torchvision's
    ImageFolder. Hidden files and folders are left out.

    Raises
    ------
    InvalidImage
        There are none.
    """
    names = sorted(_below(path), key=lambda name: name.split("/"))
    shown = f"folder {path.rstrip(os.sep) or os.sep}/".replace("//", "/")
    if not names:
        more = ""
        if any(".idx" in one or "-idx" in one for one in os.listdir(path)):
            more = "; it holds idx files: name one"
        elif any(one.endswith(".tar") for one in os.listdir(path)):
            more = f"; it holds archives: name them, {os.path.join(path, '*.tar')!r}"
        raise InvalidImage(f"there are no pictures in the {shown} ({', '.join(READABLE)}){more}")
    if not all("/" in name for name in names):
        return FileSource(path, names, shown)
    of = [name.partition("/")[0] for name in names]
    classes = sorted(set(of))
    places = {one: place for place, one in enumerate(classes)}
    return FileSource(path, names, shown, np.array([places[one] for one in of]), classes)


def paths(
    given: Sequence[str | os.PathLike[str]],
    name: str | None = None,
    labels: NDArray[np.int64] | None = None,
    classes: Sequence[str] | None = None,
) -> FileSource:
    """Take files in the order they are given in; the folder that all lie in does not count."""
    files = [os.fspath(one) for one in given]
    absolute = [os.path.abspath(one) for one in files]
    try:
        root = os.path.commonpath([os.path.dirname(one) for one in absolute])
    except ValueError:
        # On several drives.
        root = ""
    names = [os.path.relpath(one, root) if root else one for one in absolute]
    shown = root if all(map(os.path.isabs, files)) else os.path.relpath(root or os.curdir)
    root = shown if root else root
    what = name or (f"file {files[0]}" if len(files) == 1 else f"{len(files)} files of {root}")
    portable = [one.replace(os.sep, "/") for one in names]
    return FileSource("" if root == os.curdir else root, portable, what, labels, classes)


def keras_files(dataset: Any) -> FileSource:
    """Take the files of ``keras.utils.image_dataset_from_directory``, sorted by name."""
    files = sorted(dataset.file_paths, key=lambda one: Path(one).parts)
    classes = list(dataset.class_names or [])
    labels = []
    for file in files:
        # The class is a folder below the one that was named, which is not kept.
        parts = [one for one in Path(file).parts[:-1] if one in classes]
        labels.append(classes.index(parts[-1]) if parts else -1)
    known = np.array(labels, np.int64) if classes else None
    return paths(files, f"Keras dataset of {len(files)} files", known, classes or None)


def matching(pattern: str) -> list[str]:
    """List the files that match a pattern with ``*``, ``?``, ``[`` or ``**``, sorted.

    Raises
    ------
    InvalidImage
        There are none.
    """
    found = [one for one in glob(pattern, recursive=True) if os.path.isfile(one)]
    if not found:
        raise InvalidImage(f"no file matches {pattern!r}")
    return sorted(found, key=lambda one: Path(one).parts)


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return -1


def _below(top: str) -> list[str]:
    """Name the pictures below a folder, relative to it; a link back upwards is followed once."""
    found, seen = [], set()
    for here, inner, files in os.walk(top, followlinks=True):
        real = os.path.realpath(here)
        if real in seen:
            inner[:] = []
            continue
        seen.add(real)
        inner[:] = sorted(one for one in inner if not one.startswith((".", "__MACOSX")))
        for one in files:
            if one.lower().endswith(READABLE) and not one.startswith("."):
                found.append(os.path.relpath(os.path.join(here, one), top).replace(os.sep, "/"))
    return found
