"""Networks by name or file, and what is known of their preprocessing."""

from __future__ import annotations

import contextlib
import inspect
import re
import sys
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any, Literal
from zipfile import is_zipfile

import keras
import numpy as np

from cnnviz.errors import InvalidOption, UnknownModel
from cnnviz.preprocessing import Preprocessing, as_preprocessing

__all__ = ["find_preprocessing", "first_line", "load_keras", "placed"]

_HDF5 = b"\x89HDF\r\n\x1a\n"

Loaded = tuple[keras.Model, Preprocessing | None, Sequence[str] | None]


def find_preprocessing(model: keras.Model) -> Preprocessing | None:
    """Read a model's preprocessing off its own converter, or off keras.applications."""
    converter = getattr(getattr(model, "preprocessor", None), "image_converter", None)
    if converter is not None:
        try:
            return as_preprocessing(converter)
        except InvalidOption:
            return None
    # KerasHub calls its backbones alike, and trains them on other numbers.
    if not type(model).__module__.startswith("keras."):
        return None
    name = _plain(model.name)
    known = {_plain(key): module for key, module in _applications().items()}
    # Some families name their models after themselves: NASNet, MobilenetV3large.
    known |= {_plain(m.__name__.rpartition(".")[2]): m for m in _applications().values()}
    # What may follow is a width and a size: mobilenet_1.00_224.
    matches = [key for key in known if re.fullmatch(rf"{key}\d*", name)]
    if not matches:
        return None
    module = known[max(matches, key=len)]
    shape = getattr(model, "input_shape", None)
    shape = tuple(shape) if isinstance(shape, tuple) and len(shape) == 4 else (None,) * 4
    first = keras.config.image_data_format() == "channels_first"
    size, channels = (shape[2:], shape[1]) if first else (shape[1:3], shape[3])
    if channels not in (None, 3):
        return None
    return _measured(module, (224, 224) if None in size else size)


@contextlib.contextmanager
def placed(device: str | None) -> Iterator[None]:
    """Build what is built within on a device; Keras moves no model afterwards.

    Raises
    ------
    InvalidOption
        There is no such device.
    """
    with contextlib.ExitStack() as stack:
        if device is not None:
            try:
                stack.enter_context(keras.device(device))
                # TensorFlow and torch look for a device only when something is put there.
                keras.ops.convert_to_numpy(keras.ops.zeros(1))
            except Exception as error:
                reason = first_line(error)
                raise InvalidOption(f"device {device!r} cannot be used: {reason}") from error
        yield


def load_keras(spec: str, weights: str | None = None, device: str | None = None) -> Loaded:
    """Build ``keras:NAME`` of keras.applications, or open a file in safe mode.

    A file is a ``.keras`` archive, or the ``.h5`` of earlier versions of Keras.
    """
    with placed(device):
        if spec.startswith("keras:"):
            return _load_application(spec.partition(":")[2], weights)
        if weights is not None:
            raise InvalidOption(f"{spec} brings its own weights; leave --weights out")
        return _load_archive(Path(spec)), None, None


def _load_archive(path: Path) -> keras.Model:
    legacy = path.suffix.lower() in (".h5", ".hdf5")
    if legacy and path.read_bytes()[:8] != _HDF5:
        raise UnknownModel(f"{path} is not an HDF5 file; save it again: model.save('net.keras')")
    if not legacy and not is_zipfile(path):
        raise UnknownModel(
            f"{path} is not a .keras archive; save it again: model.save({path.name!r})"
        )
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:
        reason = first_line(error)
        if legacy and "No model config found" in str(error):
            reason = (
                "it holds weights alone; write module.py:function that builds it and loads them"
            )
        elif "Lambda" in str(error) or "safe_mode" in str(error):
            reason = "it holds code (a Lambda layer), which safe mode does not run"
        elif missing := re.search(r"Could not locate \w+ '([^']+)'", str(error)):
            reason = (
                f"it needs the code of {missing[1]!r}; write module.py:function that defines it"
                " and loads the file"
            )
        raise UnknownModel(f"{path} cannot be opened as a Keras model: {reason}") from error


def _load_application(name: str, weights: str | None) -> Loaded:
    known = {_plain(key): key for key in _applications()}
    if _plain(name) not in known:
        close = ", ".join(known[k] for k in get_close_matches(_plain(name), known, 3, 0.3))
        raise UnknownModel(
            f"keras.applications has no model {name!r}; the closest names are {close or 'none'}"
        )
    name = known[_plain(name)]
    build = getattr(keras.applications, name)
    given = "imagenet" if weights in (None, "pretrained") else weights
    if given not in ("imagenet", "none") and not Path(given).is_file():
        raise UnknownModel(
            f"there is no file {given!r}; weights are 'pretrained', 'none' or a file"
        )
    try:
        model = build(weights=None if given == "none" else given)
    except Exception as error:
        if given == "none":
            raise
        if given != "imagenet":
            raise UnknownModel(f"{given} does not fit keras:{name}: {first_line(error)}") from error
        raise UnknownModel(
            f"the weights of keras:{name} could not be had ({first_line(error)});"
            " give a file, or 'none' for random ones (--weights none)"
        ) from error
    found = _measured(_applications()[name], tuple(model.input_shape[1:3]))
    return model, found, None


def _applications() -> dict[str, ModuleType]:
    """Give every network of keras.applications with the module that holds its preprocessing."""
    # Some, as MobileNetV3Small, stand in keras.applications alone.
    alone = {
        name: sys.modules[value.__module__]
        for name, value in vars(keras.applications).items()
        if inspect.isfunction(value) and hasattr(sys.modules[value.__module__], "preprocess_input")
    }
    return alone | {
        name: module
        for module in vars(keras.applications).values()
        if isinstance(module, ModuleType) and hasattr(module, "preprocess_input")
        for name, value in vars(module).items()
        if inspect.isfunction(value)
        and name not in ("preprocess_input", "decode_predictions")
        and hasattr(keras.applications, name)
    }


def _measured(module: ModuleType, size: Any) -> Preprocessing:
    """Find the affine map that ``preprocess_input`` is by putting three colours through it."""
    black, white = (
        module.preprocess_input(np.full((1, 1, 1, 3), v, "float64"), data_format="channels_last")
        for v in (0.0, 255.0)
    )
    red = module.preprocess_input(np.array([[[[255.0, 0.0, 0.0]]]]), data_format="channels_last")
    low, high = np.asarray(black).ravel(), np.asarray(white).ravel()
    # The network's channel in which red arrives tells the order.
    order: Literal["rgb", "bgr"] = (
        "bgr" if np.argmax(np.abs(np.asarray(red).ravel() - low)) == 2 else "rgb"
    )
    # (255 u - mean) / std at u = 0 and u = 1.
    std = 255.0 / (high - low)
    mean = -low * std
    return Preprocessing(
        tuple(np.round(mean, 9)),
        tuple(np.round(std, 9)),
        scale=255.0,
        order=order,
        size=size,
        source=module.__name__.replace("keras.src.", "keras."),
    )


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def first_line(error: BaseException) -> str:
    """Give the line of an error of Keras that says what is wrong."""
    text = re.sub("\x1b\\[[0-9;]*m", "", str(error))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith("Exception encountered when calling")]
    return (told or lines or [type(error).__name__])[0]
