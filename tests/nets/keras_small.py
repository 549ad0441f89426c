"""The small network of cnnviz.testing in Keras, in every form that people write."""

from __future__ import annotations

import keras
import numpy as np

from cnnviz.testing.small import BN_EPS, small_weights

L = keras.layers
DTYPE = "float64"


def _parts(prefix: str = "") -> dict[str, L.Layer]:
    return {
        "conv1": L.Conv2D(4, 3, name=f"{prefix}conv1", dtype=DTYPE),
        "bn1": L.BatchNormalization(epsilon=BN_EPS, name=f"{prefix}bn1", dtype=DTYPE),
        "relu": L.ReLU(name=f"{prefix}relu", dtype=DTYPE),
        "pool": L.MaxPooling2D(2, name=f"{prefix}pool", dtype=DTYPE),
        "conv2": L.Conv2D(6, 3, name=f"{prefix}conv2", dtype=DTYPE),
        "gap": L.GlobalAveragePooling2D(name=f"{prefix}gap", dtype=DTYPE),
        "fc": L.Dense(5, name=f"{prefix}fc", dtype=DTYPE),
    }


STEM = ("conv1", "bn1", "relu", "pool")
HEAD = ("conv2", "relu", "gap", "fc")


def _chain(parts, names, x):
    for name in names:
        x = parts[name](x)
    return x


def _input(shape=(10, 10, 3)):
    return keras.Input(shape, dtype=DTYPE)


def functional(softmax: str | None = None) -> keras.Model:
    parts = _parts()
    x = _input()
    y = _chain(parts, (*STEM, *HEAD[:-1]), x)
    if softmax == "fused":
        parts["fc"] = L.Dense(5, activation="softmax", name="fc", dtype=DTYPE)
    y = parts["fc"](y)
    if softmax == "layer":
        y = L.Softmax(name="softmax", dtype=DTYPE)(y)
    if softmax == "activation":
        y = L.Activation("softmax", name="softmax", dtype=DTYPE)(y)
    return keras.Model(x, y, name="small")


def sequential() -> keras.Model:
    parts = _parts()
    # A Sequential holds no layer twice, so the second ReLU is another.
    second = L.ReLU(name="relu2", dtype=DTYPE)
    chain = [parts[n] for n in STEM] + [parts["conv2"], second, parts["gap"], parts["fc"]]
    return keras.Sequential([_input(), *chain], name="small")


SEQUENTIAL_NAMES = {"relu:0": "relu", "relu:1": "relu2"}


def nested() -> keras.Model:
    """A functional model within a Sequential within a functional model."""
    parts = _parts()
    x = _input()
    stem = keras.Model(x, _chain(parts, STEM, x), name="stem")
    inner = _input((4, 4, 4))
    y = parts["conv2"](inner)
    y = L.ReLU(name="relu", dtype=DTYPE)(y)
    head = keras.Model(inner, parts["fc"](parts["gap"](y)), name="head")
    backbone = keras.Sequential([_input(), stem], name="backbone")
    x = _input()
    return keras.Model(x, head(backbone(x)), name="small")


NESTED_NAMES = {
    **{n: f"backbone/stem/{n}" for n in ("conv1", "bn1", "pool")},
    "relu:0": "backbone/stem/relu",
    "relu:1": "head/relu",
    **{n: f"head/{n}" for n in ("conv2", "gap", "fc")},
}


@keras.saving.register_keras_serializable("cnnviz-tests")
class Subclassed(keras.Model):
    """Layers as attributes, called in plain Python."""

    def __init__(self, **kwargs):
        super().__init__(**{"name": "small", "dtype": DTYPE, **kwargs})
        for name, layer in _parts().items():
            setattr(self, name, layer)

    def call(self, x):
        x = self.pool(self.relu(self.bn1(self.conv1(x))))
        return self.fc(self.gap(self.relu(self.conv2(x))))


class Mixed(keras.Model):
    """Subclassed, with a functional stem inside and training passed on."""

    def __init__(self):
        super().__init__(name="small", dtype=DTYPE)
        parts = _parts()
        x = _input()
        self.stem = keras.Model(x, _chain(parts, STEM, x), name="stem")
        self.conv2, self.gap, self.fc = parts["conv2"], parts["gap"], parts["fc"]
        self.relu = L.ReLU(name="relu", dtype=DTYPE)

    def call(self, x, training=None):
        return self.fc(self.gap(self.relu(self.conv2(self.stem(x, training=training)))))


MIXED_NAMES = {
    **{n: f"stem/{n}" for n in ("conv1", "bn1", "pool")},
    "relu:0": "stem/relu",
    "relu:1": "relu",
}


def called(model: keras.Model) -> keras.Model:
    model(np.zeros((1, 10, 10, 3)))
    return model


def settle(model: keras.Model, weights=None) -> keras.Model:
    """Give a model the weights of cnnviz.testing.small_weights."""
    names = {
        "kernel": "kernel",
        "bias": "bias",
        "gamma": "scale",
        "beta": "offset",
        "moving_mean": "mean",
        "moving_variance": "variance",
    }
    weights = weights or small_weights()
    for variable in model.weights:
        layer = variable.path.split("/")[-2]
        variable.assign(weights[f"{layer}.{names[variable.name]}"])
    return model


def numbers(variable) -> np.ndarray:
    value = variable.value
    value = value.detach() if hasattr(value, "detach") else value
    return np.array(value.numpy() if hasattr(value, "numpy") else value)


def snapshot(model: keras.Model) -> object:
    """Everything about a model that a call must leave alone."""
    layers = list(model._flatten_layers())
    return (
        [(v.path, numbers(v).tobytes()) for v in model.variables],
        [v.trainable for v in model.variables],
        [(x.name, x.trainable, len(x._inbound_nodes), sorted(vars(x))) for x in layers],
        [getattr(x, "activation", None) for x in layers],
        [id(x.call.__func__) for x in layers],
        id(keras.layers.Layer.__call__),
        keras.config.floatx(),
        keras.config.image_data_format(),
        getattr(model, "optimizer", None),
    )
