"""Datasets that are read by number: of PyTorch, torchvision, Hugging Face, or alike."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.errors import CnnvizError, InvalidImage, InvalidOption, MissingDependency
from cnnviz.sources.arrays import ArraySource, array_source
from cnnviz.sources.files import FileSource
from cnnviz.sources.hashing import digest, picture_hash
from cnnviz.sources.source import Item, Labelled, Source, UnreadableFile, given_labels
from cnnviz.sources.tensors import as_picture, is_tensor, labelled, of_package

__all__ = ["DatasetSource", "from_disk", "hugging_face", "map_style", "saved_dataset"]

# So many images, evenly spaced, tell one dataset from another.
_PROBES = 8


class DatasetSource(Source):
    """A dataset that gives its images by number.

    Parameters
    ----------
    dataset : object
        Has a length and gives an image, a pair of image and label, or a mapping, by its number.
    name : str
        What it is, in words.
    parts : callable
        Parts what the dataset gives into picture and label.
    labels : callable, optional
        Gives all labels at once without any image.
    classes : sequence of str, optional
        Names of the labels.
    threads : int, optional
        How many threads may ask the dataset at once; None for any number.
    """

    def __init__(
        self,
        dataset: Any,
        name: str,
        parts: Callable[[Any], Labelled] = labelled,
        labels: Callable[[], NDArray[np.int64] | None] | None = None,
        classes: Sequence[str] | None = None,
        threads: int | None = None,
    ) -> None:
        self.name, self.length, self.threads = name, len(dataset), threads
        self.classes = None if classes is None else tuple(classes)
        self._dataset, self._parts, self._all = dataset, parts, labels

    @cached_property
    def parallel(self) -> bool:  # type: ignore[override]
        """Whether the dataset can be pickled."""
        try:
            pickle.dump(self._dataset, _Nowhere(), protocol=5)
        except Exception:  # noqa: BLE001  whatever the user's class raises, it cannot
            return False
        return True

    def fingerprint(self) -> str:
        """Hash the class's name, the length and eight images from first to last.

        Raises
        ------
        InvalidOption
            The dataset gives another image each time, as one with random transforms does.
        """
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        places = np.unique(np.linspace(0, self.end(None) - 1, _PROBES).astype(int))
        found, again = ([self._hash(int(place)) for place in places] for _ in range(2))
        if found != again:
            raise InvalidOption(
                f"{self.name} gives another image each time it is asked for the same; leave"
                " random transforms out of it"
            )
        return digest("dataset", type(self._dataset).__qualname__, self.length, *found)

    def read(self, index: int) -> Any:
        """Ask the dataset for one image; see `Source.read`."""
        return self._both(self.check_index(index)).picture

    def label(self, index: int) -> int | None:
        """Give the label of an image, for which the dataset may have to read it."""
        known = self._labels
        return self._both(self.check_index(index)).label if known is None else int(known[index])

    def items(self, start: int, stop: int | None) -> Iterator[Item]:
        """See `Source.items`; labels come with the images unless they are known."""
        known = self._labels
        for index in range(start, self.end(stop)):
            label = None if known is None else int(known[index])
            yield Item(index, partial(self._both, index), label)

    @cached_property
    def _labels(self) -> NDArray[np.int64] | None:
        return None if self._all is None else self._all()

    def _hash(self, index: int) -> int | str:
        try:
            return picture_hash(self.read(index))
        except InvalidImage:
            return "broken"

    def _both(self, index: int) -> Labelled:
        try:
            picture, label = self._parts(self._dataset[index])
        except (CnnvizError, MemoryError):
            raise
        except Exception as error:
            told = " ".join(str(error).split())
            # Pillow raises SyntaxError at a broken PNG.
            family = UnreadableFile if isinstance(error, OSError | SyntaxError) else InvalidImage
            raise family(f"the dataset raises {type(error).__name__}: {told}") from error
        return Labelled(as_picture(picture), label)


class _Nowhere:
    """A file that keeps nothing."""

    def write(self, data: Any) -> int:
        return len(data)


def map_style(dataset: Any) -> Source:
    """Take a dataset of PyTorch or alike; its files or arrays at once if it changes none of them.

    Raises
    ------
    InvalidImage
        It is empty.
    """
    kind = type(dataset).__name__
    framework = "torch dataset" if of_package(dataset, "torch") else "dataset"
    name = f"{framework} {kind}"
    if len(dataset) == 0:
        raise InvalidImage(f"the {name} is empty")
    if kind == "Subset" and of_package(dataset, "torch"):
        return _subset(dataset)
    if kind == "TensorDataset" and of_package(dataset, "torch"):
        return _tensors(dataset, name)
    own = type(dataset).__module__.startswith("torchvision.datasets")
    plain = all(
        getattr(dataset, one, None) is None
        for one in ("transform", "target_transform", "transforms")
    )
    classes = getattr(dataset, "classes", None)
    named = isinstance(classes, list | tuple) and all(isinstance(one, str) for one in classes)
    classes = classes if named else None
    if own and plain:
        found = _files(dataset, name) or _data(dataset, name, classes)
        if found is not None:
            return found
    labels = partial(_targets, dataset) if own else None
    # The user's code is written for processes that do not share it.
    return DatasetSource(dataset, name, labels=labels, classes=classes, threads=None if own else 1)


def _targets(dataset: Any) -> NDArray[np.int64] | None:
    """Give the labels that a dataset of torchvision lists."""
    if getattr(dataset, "target_transform", None) is not None:
        return None
    listed = getattr(dataset, "targets", getattr(dataset, "labels", None))
    if listed is None or isinstance(listed, str):
        return None
    array = np.asarray(listed)
    fine = array.shape == (len(dataset),) and array.dtype.kind in "iu"
    return array.astype(np.int64) if fine else None


def _files(dataset: Any, name: str) -> FileSource | None:
    """Take the files of an ImageFolder that reads them as everybody does."""
    samples = getattr(dataset, "samples", None)
    loader = getattr(getattr(dataset, "loader", None), "__name__", "")
    if not samples or loader != "default_loader":
        return None
    root = os.fspath(dataset.root)
    names = [os.path.relpath(path, root).replace(os.sep, "/") for path, _ in samples]
    labels = np.array([label for _, label in samples], np.int64)
    return FileSource(root, names, name, labels, dataset.classes)


def _data(dataset: Any, name: str, classes: Any) -> ArraySource | None:
    """Take the array in which a dataset of torchvision has its pictures, such as CIFAR10."""
    data = getattr(dataset, "data", None)
    if data is not None and is_tensor(data):
        data = data.numpy()
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or len(data) != len(dataset):
        return None
    if data.ndim == 4 and data.shape[-1] not in (1, 3, 4):
        data = np.moveaxis(data, 1, -1)
    if data.ndim not in (3, 4):
        return None
    # It may turn or colour what it has before it gives it.
    if picture_hash(as_picture(labelled(dataset[0]).picture)) != picture_hash(data[0]):
        return None
    return ArraySource(data, name, _targets(dataset), classes)


def _subset(dataset: Any) -> Source:
    parent = map_style(dataset.dataset)
    name = f"Subset of {parent.name}"
    places = [int(place) for place in dataset.indices]
    if isinstance(parent, FileSource | ArraySource):
        return parent.taken(places, name)
    labels = partial(_taken_targets, dataset.dataset, places)
    return DatasetSource(
        dataset, name, labels=labels, classes=parent.classes, threads=parent.threads
    )


def _taken_targets(dataset: Any, places: list[int]) -> NDArray[np.int64] | None:
    known = _targets(dataset) if type(dataset).__module__.startswith("torchvision") else None
    return None if known is None else known[places]


def _tensors(dataset: Any, name: str) -> Source:
    images, *more = dataset.tensors
    labels = None
    if more and not more[0].is_floating_point() and more[0].ndim == 1:
        labels, _ = given_labels(more[0].detach().cpu().numpy(), len(images))
    return array_source(images, name, labels, many=True)


def hugging_face(dataset: Any) -> Source:
    """Take a split of a dataset of Hugging Face.

    The image is the column that its features call so, the label the one that names classes.

    Raises
    ------
    InvalidImage
        It is empty, or no column holds images.
    """
    features = dict(dataset.features)
    kinds = {column: type(feature).__name__ for column, feature in features.items()}
    # Whatever its features are, these names are what people call them.
    image = next((c for c, kind in kinds.items() if kind == "Image"), None) or next(
        (c for c in ("image", "img", "pixel_values", "picture") if c in kinds), None
    )
    if image is None:
        raise InvalidImage(
            f"no column of the dataset holds images: {', '.join(kinds)}; cast one:"
            " dataset.cast_column(name, datasets.Image())"
        )
    if len(dataset) == 0:
        raise InvalidImage("the dataset is empty")
    label = next((c for c, kind in kinds.items() if kind == "ClassLabel"), None) or next(
        (c for c in ("label", "labels", "fine_label", "target") if c in kinds), None
    )
    split = getattr(dataset, "split", None)
    info = getattr(getattr(dataset, "info", None), "dataset_name", None)
    name = " ".join(str(one) for one in ("Hugging Face dataset", info, split) if one)
    return DatasetSource(
        dataset,
        name,
        partial(_of_row, image, label),
        None if label is None else partial(_column, dataset, label),
        getattr(features.get(label), "names", None),
    )


def _of_row(image: str, label: str | None, row: Any) -> Labelled:
    if image not in row:
        return labelled(row)
    found = labelled({"image": row[image], "label": row.get(label)})
    if found.picture is None:
        raise InvalidImage("the dataset has no image in this row")
    return found


def _column(dataset: Any, label: str) -> NDArray[np.int64] | None:
    column = dataset[label][:]
    array = np.asarray(column.numpy() if is_tensor(column) else column)
    return array.astype(np.int64) if array.ndim == 1 and array.dtype.kind in "iu" else None


def saved_dataset(path: str) -> bool:
    """Say whether a folder was written by a Hugging Face dataset's ``save_to_disk``."""
    names = set(os.listdir(path))
    return {"dataset_info.json", "state.json"} <= names or "dataset_dict.json" in names


def from_disk(path: str) -> Source:
    """Open a folder that ``save_to_disk`` wrote.

    Raises
    ------
    MissingDependency
        The package ``datasets`` is not installed.
    InvalidOption
        It holds several splits.
    """
    if os.path.exists(os.path.join(path, "dataset_dict.json")):
        splits = sorted(one for one in os.listdir(path) if os.path.isdir(os.path.join(path, one)))
        raise InvalidOption(
            f"{path!r} holds the splits {', '.join(splits)}; name one:"
            f" {os.path.join(path, splits[0] if splits else 'train')!r}"
        )
    try:
        load_from_disk = import_module("datasets").load_from_disk
    except ImportError as error:
        raise MissingDependency(
            f"{path!r} is a Hugging Face dataset; to read it: pip install datasets"
        ) from error
    return hugging_face(load_from_disk(path))
