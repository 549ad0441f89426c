"""The idx files in which MNIST and its kin come."""

from __future__ import annotations

import gzip
import os
import re
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.errors import InvalidImage
from cnnviz.sources.arrays import ArraySource
from cnnviz.sources.source import given_labels

__all__ = ["idx_source", "is_idx"]

_NAME = re.compile(r"idx[1-4]-ubyte(\.gz)?$")


def is_idx(path: str) -> bool:
    """Say whether a file's name is that of an idx file of bytes, compressed or not."""
    return _NAME.search(path) is not None


def idx_source(path: str) -> ArraySource:
    """Read images from an idx file, and their labels from the one beside it, if there is one.

    ``train-images-idx3-ubyte.gz`` is looked for beside as ``train-labels-idx1-ubyte.gz``,
    compressed or not.

    Raises
    ------
    InvalidImage
        It is no idx file of images, or is cut short.
    """
    images = _read(path)
    if images.ndim not in (3, 4):
        raise InvalidImage(f"{path!r} holds no images but an array of {images.shape}")
    folder, name = os.path.split(path)
    beside = name.replace("images", "labels").replace(f"idx{images.ndim}", "idx1")
    bare = beside.removesuffix(".gz")
    labels = None
    for one in (os.path.join(folder, bare), os.path.join(folder, f"{bare}.gz")):
        if bare != name.removesuffix(".gz") and os.path.exists(one):
            labels, _ = given_labels(_read(one), len(images))
            break
    return ArraySource(images, f"idx file {path}", labels)


def _read(path: str) -> NDArray[Any]:
    try:
        with gzip.open(path) if path.endswith(".gz") else open(path, "rb") as file:
            data = file.read()
    except (OSError, EOFError) as error:
        raise InvalidImage(f"{path!r} cannot be read: {error}") from error
    if len(data) < 4 or data[:3] != b"\0\0\x08":
        raise InvalidImage(f"{path!r} is no idx file of bytes")
    shape = np.frombuffer(data, ">u4", count=min(data[3], (len(data) - 4) // 4), offset=4)
    begin = 4 + 4 * data[3]
    if len(shape) < data[3] or len(data) - begin != prod(map(int, shape)):
        raise InvalidImage(f"{path!r} is cut short; download it again")
    return np.frombuffer(data, np.uint8, offset=begin).reshape(tuple(map(int, shape)))
