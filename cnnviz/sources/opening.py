"""From whatever holds images to a source of them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from PIL import Image

from cnnviz.errors import InvalidImage, InvalidOption
from cnnviz.sources import files
from cnnviz.sources.arrays import ListSource, array_source
from cnnviz.sources.source import Relabelled, Source, given_labels
from cnnviz.sources.streams import StreamSource

__all__ = ["as_source"]


def as_source(images: Any, labels: Any = None) -> Source:
    """Take images of any kind as one ordered source.

    Parameters
    ----------
    images : path, pattern, Pillow image, array, list, dataset or iterable
        A folder (its subfolders are classes where all images lie in them), a file, a pattern
        such as ``"photos/**/*.jpg"``, an array ``(N, H, W, C)`` or ``(N, H, W)``, a list of
        paths, Pillow images and arrays, or an iterator. A `Source` stays as it is.
    labels : sequence of int or str, or array, optional
        The class of each image instead of what the source tells; of names the order is
        alphabetical.

    Raises
    ------
    InvalidImage
        There are no images in it.
    InvalidOption
        The labels are not one an image, or `images` is nothing that holds images.
    """
    source = _opened(images)
    if labels is None:
        return source
    if source.length is None:
        raise InvalidOption(f"{source.name} tells no length to give labels to; let it give pairs")
    return Relabelled(source, *given_labels(labels, source.length))


def _opened(images: Any) -> Source:
    if isinstance(images, Source):
        return images
    if isinstance(images, str | os.PathLike):
        return _at_path(os.fspath(images))
    if isinstance(images, Image.Image):
        return ListSource([images])
    if isinstance(images, list | tuple):
        return _listed(list(images))
    if getattr(images, "ndim", None) is not None and hasattr(images, "__array__"):
        return array_source(images)
    if isinstance(images, Iterable):
        return StreamSource(images)
    raise InvalidOption(
        "images are a folder, files, arrays, a dataset or an iterable of pictures, not"
        f" {type(images).__name__}"
    )


def _listed(images: list[Any]) -> Source:
    if not images:
        raise InvalidImage("the list of images is empty; give at least one")
    if all(isinstance(one, str | os.PathLike) for one in images):
        return files.paths(images)
    return ListSource(images)


def _at_path(path: str) -> Source:
    if os.path.isdir(path):
        return files.folder(path)
    if os.path.exists(path):
        return files.paths([path])
    if "://" in path:
        raise InvalidImage(f"{path!r} is an address; download it first")
    if any(sign in path for sign in "*?["):
        found = files.matching(path)
        return files.paths(found, f"{len(found)} files {path}")
    raise InvalidImage(f"there is no file or folder {path!r}")
