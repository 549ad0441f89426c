"""The demo network says the same in PyTorch and in Keras."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import keras
import numpy as np
import pytest
import torch
from cnnviz_keras import lite0 as keras_lite0
from cnnviz_keras.precision import float64_kept
from cnnviz_torch import lite0 as torch_lite0
from numpy.typing import NDArray
from PIL import Image

from cnnviz import lite0, photos
from cnnviz.errors import InvalidOption

BACKEND = keras.config.backend()
BOUNDS = {"float32": 1e-4, "float64": 1e-10}


@pytest.fixture(scope="module")
def pictures() -> NDArray[Any]:
    """The three photos as the network takes them."""
    resized = []
    for path in photos.paths().values():
        with Image.open(path) as photo:
            resized.append(photo.resize((224, 224), Image.Resampling.BILINEAR))
    return lite0.PREPROCESSING.apply(np.stack([np.asarray(p) for p in resized]) / 255)


@pytest.fixture(scope="module", params=["float32", "float64"])
def twins(request: pytest.FixtureRequest) -> tuple[Any, Any, str]:
    with allowing(request.param):
        return torch_lite0.build(request.param), keras_lite0.build(request.param), request.param


@contextmanager
def allowing(dtype: str) -> Iterator[None]:
    """Let Keras compute in 64 bits where they are asked for, and only there."""
    with jax_bits(dtype == "float64"), float64_kept() if dtype == "float64" else nullcontext():
        yield


def jax_bits(x64: bool) -> Any:
    if BACKEND != "jax":
        return nullcontext()
    import jax

    return jax.enable_x64(x64)


def in_torch(model: Any, x: NDArray[Any]) -> NDArray[Any]:
    with torch.no_grad():
        return np.asarray(model(torch.from_numpy(np.moveaxis(x, -1, 1).copy())))


def in_keras(model: Any, x: NDArray[Any]) -> Any:
    with allowing(x.dtype.name):
        return keras.tree.map_structure(to_numpy, model(x, training=False))


def to_numpy(x: Any) -> NDArray[Any]:
    # Keras's own conversion of a torch tensor warns with numpy 2.
    return np.asarray(x.detach()) if BACKEND == "torch" else keras.ops.convert_to_numpy(x)


def relative(a: NDArray[Any], b: NDArray[Any]) -> float:
    assert a.shape == b.shape
    assert a.dtype == b.dtype
    return float(np.abs(a - b).max() / np.abs(a).max())


def test_logits_agree(twins: tuple[Any, Any, str], pictures: NDArray[Any]) -> None:
    of_torch, of_keras, dtype = twins
    x = pictures.astype(dtype)
    a, b = in_torch(of_torch, x), in_keras(of_keras, x)
    assert a.shape == (3, 1000)
    assert relative(a, b) < BOUNDS[dtype]
    assert np.abs(a - b).max() < 1e-4


@pytest.mark.parametrize("size", [(97, 130), (64, 33)])
def test_logits_agree_at_other_sizes(
    twins: tuple[Any, Any, str], pictures: NDArray[Any], size: tuple[int, int]
) -> None:
    of_torch, of_keras, dtype = twins
    x = pictures[:1, : size[0], : size[1]].astype(dtype)
    assert relative(in_torch(of_torch, x), in_keras(of_keras, x)) < BOUNDS[dtype]


def test_every_layer_agrees_with_its_namesake(
    twins: tuple[Any, Any, str], pictures: NDArray[Any]
) -> None:
    of_torch, of_keras, dtype = twins
    seen: dict[str, NDArray[Any]] = {}

    def remember(name: str) -> Any:
        def hook(_: Any, __: Any, out: torch.Tensor) -> None:
            seen[name] = np.asarray(out.movedim(1, -1))

        return hook

    leaves = {
        name.replace("blocks.", "block").replace(".", "_"): module
        for name, module in of_torch.named_modules()
        if not list(module.children()) and not name.endswith(".pad")
    }
    handles = [m.register_forward_hook(remember(name)) for name, m in leaves.items()]
    x = pictures[:1, :97, :130].astype(dtype)
    in_torch(of_torch, x)
    for handle in handles:
        handle.remove()

    layers = of_keras.layers[1:]
    assert {layer.name for layer in layers} == set(leaves)
    outputs = in_keras(keras.Model(of_keras.input, [layer.output for layer in layers]), x)
    for layer, there in zip(layers, outputs, strict=True):
        assert relative(seen[layer.name], there) < BOUNDS[dtype], layer.name


@pytest.mark.parametrize("framework", ["torch", "keras"])
def test_the_demo_knows_the_photos(framework: str, pictures: NDArray[Any]) -> None:
    load, run = {
        "torch": (torch_lite0.load_demo, in_torch),
        "keras": (keras_lite0.load_demo, in_keras),
    }[framework]
    model, preprocessing, labels = load()
    assert preprocessing == lite0.PREPROCESSING
    logits = run(model, pictures.astype(np.float32))
    top = dict(zip(photos.paths(), logits.argmax(-1), strict=True))
    assert labels[top["coffee"]] == "espresso"
    assert labels[top["chelsea"]] in {"tabby", "tiger cat", "Egyptian cat"}


def test_building_leaves_no_trace() -> None:
    before = random.getstate(), torch.get_rng_state()
    settings = keras.config.floatx(), keras.config.dtype_policy().name, torch.get_default_dtype()
    model = torch_lite0.build("float64")
    with jax_bits(True):
        keras_lite0.build("float64")
    assert random.getstate() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])
    after = keras.config.floatx(), keras.config.dtype_policy().name, torch.get_default_dtype()
    assert settings == after
    assert {p.dtype for p in model.parameters()} == {torch.float64}
    assert {p.device.type for p in model.parameters()} == {"cpu"}
    assert not any(module.training for module in model.modules())


@pytest.mark.parametrize("build", [torch_lite0.build, keras_lite0.build])
def test_another_dtype_is_refused(build: Any) -> None:
    with pytest.raises(InvalidOption, match="float16"):
        build("float16")


@pytest.mark.skipif(BACKEND != "jax", reason="a setting of JAX alone")
def test_jax_in_32_bits_refuses_float64() -> None:
    with jax_bits(False), pytest.raises(InvalidOption, match="JAX_ENABLE_X64"):
        keras_lite0.build("float64")
