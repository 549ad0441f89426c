"""From whatever holds images to a source of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from PIL import Image

from cnnviz.errors import InvalidImage, InvalidOption
from cnnviz.sources import files
from cnnviz.sources.archives import ArchiveSource, expanded
from cnnviz.sources.arrays import ListSource, array_source
from cnnviz.sources.datasets import from_disk, hugging_face, map_style, saved_dataset
from cnnviz.sources.idx import idx_source, is_idx
from cnnviz.sources.source import Relabelled, Source, given_labels
from cnnviz.sources.streams import StreamSource, keras_stream, tensorflow_stream
from cnnviz.sources.tensors import of_package

__all__ = ["as_source"]


def as_source(images: Any, labels: Any = None) -> Source:
    """Take images of any kind as one ordered source.

    Parameters
    ----------
    images : path, pattern, Pillow image, array, list, dataset or iterable
        A folder (its subfolders are classes where all images lie in them), a file, a pattern
        such as ``"photos/**/*.jpg"``, an array ``(N, H, W, C)`` or ``(N, H, W)``, a list of
        paths, Pillow images and arrays, tar archives as WebDataset writes them
        (``"shard-{0000..0009}.tar"``), an idx file of MNIST, a dataset of PyTorch, Keras,
        TensorFlow or Hugging Face, a DataLoader that does not shuffle, or an iterator. A
        `Source` stays as it is. Of a dataset of Keras that knows its files these are read, in
        the order of their names, at their own size.
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
    if isinstance(images, Mapping):
        first = next(iter(images), "train")
        raise InvalidOption(
            f"there are several splits or columns ({', '.join(map(str, images))}); give one, as in"
            f" dataset[{first!r}]"
        )
    return _dataset(images)


def _dataset(images: Any) -> Source:
    """Take a framework's dataset by what it has, since no framework is imported here."""
    by_number = hasattr(images, "__getitem__") and hasattr(images, "__len__")
    if hasattr(images, "file_paths") and hasattr(images, "class_names"):
        return files.keras_files(images)
    if of_package(images, "tensorflow") and hasattr(images, "element_spec"):
        return tensorflow_stream(images)
    if of_package(images, "torch") and hasattr(images, "sampler") and hasattr(images, "dataset"):
        return _loader(images)
    if of_package(images, "keras") and by_number:
        return keras_stream(images)
    if by_number and hasattr(images, "features") and hasattr(images.features, "items"):
        return hugging_face(images)
    if by_number and not any(one.__name__ == "IterableDataset" for one in type(images).__mro__):
        return map_style(images)
    if isinstance(images, Iterable):
        return StreamSource(images)
    raise InvalidOption(
        "images are a folder, files, arrays, a dataset or an iterable of pictures, not"
        f" {type(images).__name__}"
    )


def _loader(loader: Any) -> Source:
    """Take the dataset of a DataLoader that keeps its order."""
    kind = type(loader.sampler).__name__
    if kind not in ("SequentialSampler", "_InfiniteConstantSampler"):
        raise InvalidOption(
            f"the DataLoader takes its images in another order ({kind}); give its dataset:"
            " loader.dataset"
        )
    return _opened(loader.dataset)


def _listed(images: list[Any]) -> Source:
    if not images:
        raise InvalidImage("the list of images is empty; give at least one")
    if not all(isinstance(one, str | os.PathLike) for one in images):
        return ListSource(images)
    names = [os.fspath(one) for one in images]
    if all(one.endswith(".tar") for one in names):
        return ArchiveSource(names, f"{len(names)} archives")
    return files.paths(names)


def _at_path(path: str) -> Source:
    if os.path.isdir(path):
        return from_disk(path) if saved_dataset(path) else files.folder(path)
    if os.path.exists(path):
        if path.endswith((".tar", ".tar.gz", ".tgz")):
            return ArchiveSource([path], f"archive {path}")
        return idx_source(path) if is_idx(path) else files.paths([path])
    if "://" in path:
        raise InvalidImage(f"{path!r} is an address; download it first")
    if "{" in path:
        found = [one for part in expanded(path) for one in _globbed(part)]
    elif any(sign in path for sign in "*?["):
        found = _globbed(path)
    else:
        raise InvalidImage(f"there is no file or folder {path!r}")
    if all(one.endswith(".tar") for one in found):
        return ArchiveSource(found, f"{len(found)} archives {path}")
    return files.paths(found, f"{len(found)} files {path}")


def _globbed(path: str) -> list[str]:
    return files.matching(path) if any(sign in path for sign in "*?[") else [path]
