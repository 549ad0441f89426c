"""Faults that ports have, each planted alone: what a doctor of networks has to find.

A fault is planted in the second of two networks that otherwise do the same: in Keras, with PyTorch
for the reference, or the other way round. Networks: the demo network with its trained weights,
ResNet-18, `nets.mixed`, and `nets.loose`, whose activations are functions in PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import keras
import numpy as np
import torch
from cnnviz_keras import lite0 as keras_lite0
from cnnviz_torch import lite0 as torch_lite0
from nets import loose, mixed, twins

import cnnviz
from cnnviz import lite0
from cnnviz.comparison.porting import port_weights

__all__ = ["FAULTS", "Fault", "sound"]


@dataclass(frozen=True)
class Fault:
    """A fault: its name, where it is planted, and what the doctor is to say."""

    name: str
    side: str
    network: str
    plant: Callable[[], tuple[Any, Any]]
    layer: str
    cause: str

    def __str__(self) -> str:
        return f"{self.name} in {self.side}"


FAULTS: list[Fault] = []


def fault(name: str, side: str, network: str, layer: str, cause: str) -> Any:
    def add(plant: Callable[[], tuple[Any, Any]]) -> Any:
        FAULTS.append(Fault(name, side, network, plant, layer, cause))
        return plant

    return add


@cache
def sound(network: str) -> tuple[Any, Any]:
    """Give a network in PyTorch and in Keras, with the same weights and no fault."""
    if network == "demo":
        return torch_lite0.build("float32"), keras_lite0.build("float32")
    if network == "resnet18":
        pair = twins.torch_twin("resnet18"), twins.resnet18()
    elif network == "loose":
        pair = loose.in_torch(), loose.in_keras()
    else:
        pair = mixed.in_torch(), mixed.in_keras()
    port_weights(opened(pair[0], network), opened(pair[1], network))
    return pair


def opened(model: Any, network: str) -> Any:
    if network == "demo":
        return cnnviz.adapt(model, lite0.PREPROCESSING.resized((64, 64)))
    if isinstance(model, torch.nn.Module):
        side = loose.SIZE if network == "loose" else mixed.SIZE
        return cnnviz.adapt(model, "imagenet", input_shape=(side, side, 3))
    return cnnviz.adapt(model, "imagenet")


def torch_mixed(**changed: Any) -> tuple[Any, Any]:
    """Plant in PyTorch: the reference is Keras."""
    good, reference = sound("mixed")
    model = mixed.in_torch(**changed)
    model.load_state_dict(good.state_dict())
    return opened(reference, "mixed"), opened(model, "mixed")


def keras_mixed(**changed: Any) -> tuple[Any, Any]:
    """Plant in Keras: the reference is PyTorch."""
    reference, good = sound("mixed")
    model = mixed.in_keras(**changed)
    model.set_weights([values(weight) for weight in good.weights])
    return opened(reference, "mixed"), opened(model, "mixed")


def in_torch(network: str, change: Callable[[Any], None]) -> tuple[Any, Any]:
    import copy

    good, reference = sound(network)
    model = copy.deepcopy(good)
    with torch.no_grad():
        change(model)
    return opened(reference, network), opened(model, network)


def in_keras(network: str, changed: dict[str, Callable[[Any], Any]]) -> tuple[Any, Any]:
    reference, good = sound(network)
    model = keras.models.clone_model(good)
    model.set_weights([values(weight) for weight in good.weights])
    paths = {weight.path: weight for weight in model.weights}
    for path, change in changed.items():
        paths[path].assign(change(values(paths[path])))
    return opened(reference, network), opened(model, network)


def values(weight: Any) -> Any:
    """Copy a Keras variable; Keras's own conversion warns with numpy 2."""
    value = weight.value
    value = value.detach() if hasattr(value, "detach") else value
    return value.numpy().copy() if hasattr(value, "numpy") else np.array(value)


MIXED: list[tuple[str, str, dict[str, Any], dict[str, Any], str, str]] = [
    # name, cause, in PyTorch, in Keras, the layer in PyTorch, in Keras
    (
        "'same' padding at stride 2",
        "same padding at stride 2",
        {"same_stride": True},
        {"same_stride": True},
        "conv1",
        "stem",
    ),
    ("batch norm eps", "batch norm eps", {"bn_eps": 1e-3}, {"bn_eps": 1e-3}, "bn1", "stem_bn"),
    (
        "slope of a leaky ReLU",
        "leaky relu slope",
        {"slope": 0.2},
        {"slope": 0.3},
        "leaky",
        "stem_act",
    ),
    (
        "zeros around a max-pool of signed numbers",
        "max pool pads with zeros",
        {"zeros_before_pool": True},
        {"zeros_before_pool": True},
        "pool1",
        "max",
    ),
    (
        "form of GELU",
        "gelu form",
        {"approximate": "tanh"},
        {"approximate": True},
        "gelu",
        "deep_act",
    ),
    (
        "an average pool that counts its padding",
        "pool counts its padding",
        {"count_padding": True},
        {"count_padding": True},
        "pool2",
        "mean",
    ),
    (
        "layer norm eps",
        "layer norm eps",
        {"norm_eps": 1e-3},
        {"norm_eps": 1e-3},
        "norm",
        "second_norm",
    ),
    (
        "missing activation",
        "missing activation",
        {"silu": False},
        {"silu": False},
        "pool3",
        "halved",
    ),
    (
        "missing skip connection",
        "skip connection",
        {"skip": False},
        {"skip": False},
        "pool3",
        "halved",
    ),
]
for _name, _cause, _torch, _keras, _layer, _other in MIXED:
    FAULTS.append(
        Fault(_name, "PyTorch", "mixed", lambda c=_torch: torch_mixed(**c), _layer, _cause)
    )
    FAULTS.append(Fault(_name, "Keras", "mixed", lambda c=_keras: keras_mixed(**c), _other, _cause))


@fault("a dropout left on", "PyTorch", "mixed", "fc2", "train/eval")
def _() -> Any:
    return torch_mixed(active_dropout=True)


@fault("a dropout left on", "Keras", "mixed", "drop", "train/eval")
def _() -> Any:
    return keras_mixed(active_dropout=True)


@fault("batch norm on the statistics of the batch", "PyTorch", "mixed", "bn1", "train/eval")
def _() -> Any:
    return torch_mixed(batch_statistics=True)


@fault("a GELU of tanh, by a function", "PyTorch", "mixed", "pool2", "gelu form")
def _() -> Any:
    return torch_mixed(functional_gelu="tanh")


@fault("order in which a map is flattened", "PyTorch", "mixed", "fc1", "flatten order")
def _() -> Any:
    return torch_mixed(flatten_last=True)


@fault("order in which a map is flattened", "Keras", "mixed", "dense", "flatten order")
def _() -> Any:
    plain = sound("mixed")[0].fc1.weight.detach().numpy().T
    return in_keras("mixed", {"dense/kernel": lambda _: plain})


@fault(
    "channels and multipliers of a depthwise kernel", "PyTorch", "mixed", "deep", "depthwise order"
)
def _() -> Any:
    def change(model: Any) -> None:
        kernel = model.deep.weight
        kernel.copy_(kernel.reshape(16, 2, 1, 3, 3).transpose(0, 1).reshape(kernel.shape))

    return in_torch("mixed", change)


@fault(
    "channels and multipliers of a depthwise kernel", "Keras", "mixed", "deep", "depthwise order"
)
def _() -> Any:
    def change(kernel: Any) -> Any:
        return kernel.reshape(3, 3, 32).reshape(3, 3, 2, 16).swapaxes(2, 3)

    return in_keras("mixed", {"deep/kernel": change})


@fault("a kernel for blue, green, red", "PyTorch", "demo", "stem.conv", "BGR")
def _() -> Any:
    return in_torch("demo", lambda m: m.stem.conv.weight.copy_(m.stem.conv.weight.flip(1)))


@fault("a kernel for blue, green, red", "Keras", "demo", "stem_conv", "BGR")
def _() -> Any:
    return in_keras("demo", {"stem_conv/kernel": lambda k: k[:, :, ::-1]})


def _preprocessed(side: str, **changed: Any) -> tuple[Any, Any]:
    """Give the demo network, the second with another preprocessing."""
    one, two = sound("demo") if side == "Keras" else sound("demo")[::-1]
    right = lite0.PREPROCESSING.resized((64, 64))
    return cnnviz.adapt(one, right), cnnviz.adapt(two, replace(right, **changed))


for _side, _first in (("PyTorch", "stem.conv"), ("Keras", "stem_conv")):
    FAULTS.append(
        Fault(
            "pictures in blue, green, red",
            _side,
            "demo",
            lambda s=_side: _preprocessed(s, order="bgr"),
            _first,
            "BGR",
        )
    )
    FAULTS.append(
        Fault(
            "pictures in [0, 1] for [0, 255]",
            _side,
            "demo",
            lambda s=_side: _preprocessed(s, scale=1.0, mean=(0.0,)),
            _first,
            "normalisation",
        )
    )


@fault("a new layer's statistics", "PyTorch", "resnet18", "layer2.0.bn1", "missing weight")
def _() -> Any:
    return in_torch("resnet18", lambda m: m.layer2[0].bn1.reset_running_stats())


@fault("a bias that was not loaded", "Keras", "mixed", "second", "missing weight")
def _() -> Any:
    return in_keras("mixed", {"second/bias": np.zeros_like})


@fault(
    "weights of two layers exchanged", "PyTorch", "resnet18", "layer3.0.conv2", "swapped weights"
)
def _() -> Any:
    def change(model: Any) -> None:
        one, two = model.layer3[0].conv2.weight, model.layer3[1].conv1.weight
        kept = one.clone()
        one.copy_(two)
        two.copy_(kept)

    return in_torch("resnet18", change)


@fault("weights of two layers exchanged", "Keras", "demo", "block2_expand_bn", "swapped weights")
def _() -> Any:
    good = {weight.path: values(weight) for weight in sound("demo")[1].weights}
    names = ("gamma", "beta", "moving_mean", "moving_variance")
    one, two = "block2_expand_bn", "block3_expand_bn"
    changed = {f"{one}/{n}": lambda _, n=n: good[f"{two}/{n}"] for n in names}
    changed |= {f"{two}/{n}": lambda _, n=n: good[f"{one}/{n}"] for n in names}
    return in_keras("demo", changed)


@fault(
    "height and width of a kernel exchanged",
    "PyTorch",
    "resnet18",
    "layer1.0.conv1",
    "kernel layout",
)
def _() -> Any:
    def change(model: Any) -> None:
        kernel = model.layer1[0].conv1.weight
        kernel.copy_(kernel.transpose(2, 3).clone())

    return in_torch("resnet18", change)


@fault("a kernel turned by 180 degrees", "Keras", "demo", "block2_depthwise_conv", "kernel layout")
def _() -> Any:
    return in_keras("demo", {"block2_depthwise_conv/kernel": lambda k: k[::-1, ::-1]})


@fault("weights in half precision", "PyTorch", "mixed", "conv2", "dtype")
def _() -> Any:
    def change(model: Any) -> None:
        model.conv2.weight.copy_(model.conv2.weight.bfloat16().float())

    return in_torch("mixed", change)


@fault("a network in half precision", "Keras", "mixed", "stem", "dtype")
def _() -> Any:
    return keras_mixed(dtype="mixed_float16")


def _resizing(side: str) -> tuple[Any, Any]:
    """Put a layer that resizes in front of both: with antialias in the first only."""
    of_torch, of_keras = sound("mixed")

    class Resized(torch.nn.Module):
        def __init__(self, antialias: bool) -> None:
            super().__init__()
            self.body = of_torch
            self.antialias = antialias

        def forward(self, x: Any) -> Any:
            resize = torch.nn.functional.interpolate
            x = resize(x, (64, 64), mode="bilinear", antialias=self.antialias)
            return self.body(x)

    def resized(antialias: bool) -> Any:
        given = keras.layers.Input((200, 200, 3))
        x = keras.layers.Resizing(64, 64, antialias=antialias, name="resizing")(given)
        body = keras.models.clone_model(of_keras)
        body.set_weights([values(weight) for weight in of_keras.weights])
        return keras.Model(given, body(x), name="resized")

    first = cnnviz.adapt(Resized(side == "Keras").eval(), "imagenet", input_shape=(200, 200, 3))
    second = cnnviz.adapt(resized(side != "Keras"), "imagenet")
    return (first, second) if side == "Keras" else (second, first)


@fault("resizing without antialias", "Keras", "mixed", "mixed/stem", "antialias")
def _() -> Any:
    return _resizing("Keras")


@fault("resizing without antialias", "PyTorch", "mixed", "body.conv1", "antialias")
def _() -> Any:
    return _resizing("PyTorch")


def torch_loose(**changed: Any) -> tuple[Any, Any]:
    good, reference = sound("loose")
    model = loose.in_torch(**changed)
    model.load_state_dict(good.state_dict(), strict=False)
    return opened(reference, "loose"), opened(model, "loose")


def keras_loose(**changed: Any) -> tuple[Any, Any]:
    reference, good = sound("loose")
    model = loose.in_keras(**changed)
    weights = {weight.path: values(weight) for weight in good.weights}
    for weight in model.weights:
        if weight.path in weights:
            weight.assign(weights[weight.path])
    return opened(reference, "loose"), opened(model, "loose")


LOOSE: list[tuple[str, dict[str, Any], tuple[str, str], tuple[str, str]]] = [
    # name, how it is made, the layer in PyTorch and the cause, in Keras
    (
        "missing activation that is a function",
        {"without": "first"},
        ("conv1", "missing activation"),
        ("two", "missing activation"),
    ),
    (
        "missing activation after a batch norm",
        {"without": "second"},
        ("pool", "missing activation"),
        ("halved", "missing activation"),
    ),
    (
        "missing activation within a sum",
        {"without": "third"},
        ("up", "missing activation"),
        ("doubled", "missing activation"),
    ),
    (
        "missing activation before a pooling",
        {"without": "fourth"},
        ("conv5", "missing activation"),
        ("five", "missing activation"),
    ),
    (
        "missing activation before a flattening",
        {"without": "fifth"},
        ("conv5", "missing activation"),
        ("dense", "missing activation"),
    ),
    ("one pool for the other", {"pool": "mean"}, ("pool", "pool kind"), ("halved", "pool kind")),
    (
        "interpolation",
        {"enlarged": "bilinear"},
        ("up", "interpolation"),
        ("doubled", "interpolation"),
    ),
    ("a factor", {"factor": 2.0}, ("up", "scale"), ("doubled", "a layer too many")),
    (
        "a convolution too many",
        {"more": True},
        ("up", "a layer too many"),
        ("doubled", "a layer too many"),
    ),
]
for _name, _made, (_layer, _cause), (_other, _told) in LOOSE:
    FAULTS.append(
        Fault(_name, "PyTorch", "loose", lambda c=_made: torch_loose(**c), _layer, _cause)
    )
    FAULTS.append(Fault(_name, "Keras", "loose", lambda c=_made: keras_loose(**c), _other, _told))


@fault("batch norm without statistics of its own", "PyTorch", "loose", "bn", "train/eval")
def _() -> Any:
    return torch_loose(batch_statistics=True)
