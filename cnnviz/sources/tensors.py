"""What datasets give for one image: tensors, arrays, Pillow images, pairs and mappings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnnviz.errors import InvalidImage
from cnnviz.images.reading import upright
from cnnviz.sources.source import Labelled

__all__ = [
    "as_label",
    "as_picture",
    "in_parts",
    "is_tensor",
    "label_of",
    "labelled",
    "of_package",
]

_PICTURES = ("image", "img", "picture", "pixel_values", "images", "x", "jpg", "jpeg", "png", "webp")
_LABELS = ("label", "labels", "target", "class", "cls", "fine_label", "y")
# Resizing a tensor overshoots by rounding, and bicubically by a little more.
_SLACK = 1e-3


def of_package(value: Any, package: str) -> bool:
    """Say whether a value is of a package, without importing it."""
    return any(base.__module__.partition(".")[0] == package for base in type(value).__mro__)


def is_tensor(value: Any) -> bool:
    """Say whether a value is a tensor of PyTorch."""
    return hasattr(value, "detach") and of_package(value, "torch")


def as_picture(value: Any) -> Any:
    """Make of a dataset's image one that `cnnviz.pictures.picture_batch` takes.

    A tensor of PyTorch has its channels moved to the end.

    Raises
    ------
    InvalidImage
        It is no image, or a tensor that a transform has normalised.
    """
    if isinstance(value, Image.Image):
        return upright(value)
    if is_tensor(value):
        return _of_torch(value)
    if hasattr(value, "__array__"):
        array = np.asarray(value)
        if array.dtype != object:
            return array
    raise InvalidImage(f"an image is a Pillow image or an array, not {type(value).__name__}")


def _of_torch(tensor: Any) -> NDArray[Any]:
    if tensor.is_floating_point() and tensor.element_size() < 4:
        tensor = tensor.float()
    array = np.asarray(tensor.detach().cpu().numpy())
    if array.ndim == 4 or (
        array.ndim == 3 and (array.shape[0] in (1, 3, 4) or array.shape[-1] not in (1, 3, 4))
    ):
        array = np.moveaxis(array, 0, -1)
    if array.ndim == 3 and array.dtype.kind == "f" and array.size:
        low, high = float(array.min()), float(array.max())
        if low < -_SLACK or high > 1 + _SLACK:
            raise InvalidImage(
                f"the tensor has values from {low:.4g} to {high:.4g}: a transform has normalised"
                " it; leave that out of the dataset, the network's preprocessing does it"
            )
        array = np.clip(array, 0, 1)
    return array


def as_label(value: Any) -> int | None:
    """Make an integer of a label: a number, an array of one, or one-hot; else None."""
    if value is None or isinstance(value, str | bytes):
        return None
    if is_tensor(value):
        value = value.detach().cpu().numpy()
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):
        return None
    if array.dtype.kind not in "iufb" or array.size == 0 or array.ndim > 1:
        return None
    found = array.argmax() if array.size > 1 else array.reshape(())
    return int(found)


def label_of(value: Mapping[Any, Any]) -> int | None:
    """Give the label that a mapping holds under one of its usual names."""
    return as_label(next((value[one] for one in _LABELS if one in value), None))


def in_parts(value: Any) -> tuple[Any, Any]:
    """Part what a dataset gives into pictures and labels, whatever they are.

    Raises
    ------
    InvalidImage
        A mapping has no key that is known to hold an image.
    """
    if isinstance(value, Mapping):
        key = next((one for one in _PICTURES if one in value), None)
        if key is None:
            raise InvalidImage(
                f"the dataset gives {', '.join(map(str, value))}; its image must be called"
                f" {', '.join(_PICTURES[:3])} or so"
            )
        return value[key], next((value[one] for one in _LABELS if one in value), None)
    if isinstance(value, list | tuple) and value:
        return value[0], value[1] if len(value) > 1 else None
    return value, None


def labelled(value: Any) -> Labelled:
    """Part what a dataset gives for one image into the picture and its label; see `in_parts`."""
    picture, label = in_parts(value)
    return Labelled(picture, as_label(label))
