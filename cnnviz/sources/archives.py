"""Tar archives of images with labels beside them, as WebDataset writes them."""

from __future__ import annotations

import json
import os
import re
import tarfile
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import product
from typing import Any, NamedTuple

from cnnviz.errors import InvalidImage
from cnnviz.sources.files import READABLE, decoded
from cnnviz.sources.hashing import digest
from cnnviz.sources.source import Item, Labelled, Source
from cnnviz.sources.tensors import as_label, label_of

__all__ = ["ArchiveSource", "expanded"]

_BRACES = re.compile(r"\{([^{}]*)\}")


class _Member(NamedTuple):
    name: str
    offset: int
    size: int


class _Sample(NamedTuple):
    archive: int
    image: _Member
    label: _Member | None


class ArchiveSource(Source):
    """Images in tar archives, which are read in place, from anywhere.

    Members that share their name up to its first dot are one sample: an image, and its label in
    a ``.cls`` (a number) or a ``.json`` (``{"label": 3}``).

    Parameters
    ----------
    paths : sequence of str
        The archives, in order; not compressed.
    name : str
        What the source is, in words.

    Raises
    ------
    InvalidImage
        One is no archive, or there is no image in any.
    """

    parallel = True

    def __init__(self, paths: Sequence[str], name: str) -> None:
        self.name = name
        self._paths = list(paths)
        self._absolute = [os.path.abspath(path) for path in paths]
        self._samples = [
            sample for place, path in enumerate(paths) for sample in _samples(place, path)
        ]
        if not self._samples:
            raise InvalidImage(f"there are no images in {name} ({', '.join(READABLE)})")
        self.length = len(self._samples)

    def fingerprint(self) -> str:
        """Hash the archives' names, and the names and sizes in bytes of their images."""
        names = [os.path.basename(path) for path in self._paths]
        found = ((names[one.archive], one.image.name, one.image.size) for one in self._samples)
        return digest("archives", *(part for parts in found for part in parts))

    def reference(self, index: int) -> str:
        """Give the archive's path and the name of the image in it."""
        sample = self._samples[self.check_index(index)]
        return f"{self._paths[sample.archive]}:{sample.image.name}"

    def label(self, index: int) -> int | None:
        """Read the label beside an image."""
        sample = self._samples[self.check_index(index)]
        if sample.label is None:
            return None
        text = self._bytes(sample.archive, sample.label)
        try:
            # A number by itself is JSON as well.
            found = json.loads(text)
        except ValueError:
            return None
        return label_of(found) if isinstance(found, dict) else as_label(found)

    def read(self, index: int) -> Any:
        """Decode one image; see `Source.read`."""
        sample = self._samples[self.check_index(index)]
        return decoded(self._bytes(sample.archive, sample.image), self.reference(index))

    def items(self, start: int, stop: int | None) -> Iterator[Item]:
        """See `Source.items`; labels are read with the images."""
        for index in range(start, self.end(stop)):
            yield Item(index, partial(self._both, index))

    def _both(self, index: int) -> Labelled:
        return Labelled(self.read(index), self.label(index))

    def _bytes(self, archive: int, member: _Member) -> bytes:
        try:
            with open(self._absolute[archive], "rb") as file:
                file.seek(member.offset)
                return file.read(member.size)
        except OSError as error:
            raise InvalidImage(f"{self._paths[archive]!r} cannot be read: {error}") from error


def expanded(pattern: str) -> list[str]:
    """Write out the braces of a pattern: ``{0000..0009}`` and ``{a,b}``, as a shell does."""
    parts = _BRACES.split(pattern)
    return ["".join(some) for some in product(*map(_choices, range(len(parts)), parts))]


def _choices(place: int, part: str) -> list[str]:
    if place % 2 == 0:
        return [part]
    if found := re.fullmatch(r"(\d+)\.\.(\d+)", part):
        first, last = found.groups()
        width = len(first) if first.startswith("0") else 0
        return [f"{number:0{width}d}" for number in range(int(first), int(last) + 1)]
    return part.split(",")


def _samples(archive: int, path: str) -> Iterator[_Sample]:
    """List the samples of an archive in its order, from the headers alone."""
    groups: dict[str, dict[str, _Member]] = {}
    try:
        with tarfile.open(path, "r:") as opened:
            for one in opened:
                folder, _, base = one.name.rpartition("/")
                if one.isfile() and not base.startswith("."):
                    key, _, suffix = base.partition(".")
                    member = _Member(one.name, one.offset_data, one.size)
                    groups.setdefault(f"{folder}/{key}", {})[suffix.lower()] = member
    except FileNotFoundError as error:
        raise InvalidImage(f"there is no archive {path!r}") from error
    except (tarfile.TarError, OSError) as error:
        raise InvalidImage(
            f"{path!r} is no tar archive, or cut short ({error}); a compressed one has to be"
            " decompressed first, to be read from anywhere"
        ) from error
    for members in groups.values():
        images = [suffix for suffix in members if f".{suffix}".endswith(READABLE)]
        # What is called jpg is the image, and mask.png something that belongs to it.
        plain = [suffix for suffix in images if "." not in suffix][:1]
        label = members.get("cls") or members.get("json")
        for suffix in plain or images:
            yield _Sample(archive, members[suffix], label)
