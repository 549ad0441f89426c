"""Models as people write them in Keras, small."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from nets import keras_structures as structures
from zoo.entries import Entry

L = keras.layers


def small(channels: int = 3, size: tuple[int, int] = (32, 32), end: str | None = None) -> Any:
    return keras.Sequential(
        [
            keras.Input((*size, channels)),
            L.Conv2D(6, 3, padding="same", activation="relu", name="conv1"),
            L.Conv2D(8, 3, padding="same", name="conv2"),
            L.BatchNormalization(name="bn"),
            L.ReLU(name="relu"),
            L.GlobalAveragePooling2D(name="gap"),
            L.Dense(5, activation=end, name="fc"),
        ]
    )


def nested() -> Any:
    """A functional model in one in one, the innermost a Sequential."""
    inner = keras.Sequential(
        [keras.Input((32, 32, 6)), L.Conv2D(8, 3, name="conv"), L.ReLU(name="relu")], name="inner"
    )
    x = keras.Input((32, 32, 3))
    middle = keras.Model(x, inner(L.Conv2D(6, 3, padding="same", name="conv")(x)), name="middle")
    y = keras.Input((32, 32, 3))
    z = L.GlobalAveragePooling2D(name="gap")(middle(y))
    return keras.Model(y, L.Dense(5, name="fc")(z))


class Subclassed(keras.Model):
    def __init__(self, body: Any) -> None:
        super().__init__(name="subclassed")
        self.body = body
        self.gap = L.GlobalAveragePooling2D(name="gap")
        self.fc = L.Dense(5, name="fc")

    def call(self, x: Any) -> Any:
        return self.fc(self.gap(keras.ops.relu(self.body(x))))


def subclassed(body: Any) -> Any:
    model = Subclassed(body)
    model(np.zeros((1, 32, 32, 3), keras.config.floatx()))
    return model


def functional_body() -> Any:
    x = keras.Input((32, 32, 3))
    y = L.Conv2D(8, 3, padding="same", name="conv")(x)
    return keras.Model(x, L.Add(name="add")([y, L.Conv2D(8, 1, name="short")(x)]), name="body")


def shared() -> Any:
    conv, relu = L.Conv2D(3, 3, padding="same", name="conv"), L.ReLU(name="relu")
    x = keras.Input((32, 32, 3))
    y = relu(conv(relu(conv(x))))
    return keras.Model(x, L.Dense(5, name="fc")(L.GlobalAveragePooling2D(name="gap")(y)))


def operations() -> Any:
    """No layer around relu, mean and softmax."""
    x = keras.Input((32, 32, 3))
    y = keras.ops.relu(L.Conv2D(8, 3, name="conv")(x))
    y = keras.ops.mean(y * 2.0, axis=(1, 2))
    return keras.Model(x, keras.ops.softmax(L.Dense(5, name="fc")(y)))


def outputs(kind: str) -> Any:
    x = keras.Input((32, 32, 3))
    y = L.GlobalAveragePooling2D(name="gap")(L.Conv2D(8, 3, name="conv")(x))
    first, second = L.Dense(2, name="first")(y), L.Dense(5, name="second")(y)
    made = {"list": [first, second], "dict": {"first": first, "logits": second}}[kind]
    return keras.Model(x, made)


def called(kind: str) -> Callable[[Any], Any]:
    """Call a model of two inputs as it wants to be."""

    def call(given: tuple[Any, Any, dict[str, Any]]) -> Any:
        model, native, others = given
        facts = others["facts"]
        inputs: Any = {
            "list": [facts, native],
            "dict": {"facts": facts, "picture": native},
            "nested": [native, [facts]],
        }.get(kind)
        if kind == "arguments":
            return model(native, facts, training=False)
        return model(inputs, training=False)

    return call


def two_arguments() -> Any:
    model = structures.TwoArguments()
    model(np.zeros((1, 8, 8, 3)), np.zeros((1, 4)))
    return model


def saved(suffix: str) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"model{suffix}"
        small(end="softmax").save(path)
        return keras.saving.load_model(path, compile=False)


def compiled() -> Any:
    model = small()
    model.compile("sgd", "mse", jit_compile=True)
    return model


def with_policy(policy: str) -> Any:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        return small()
    finally:
        keras.config.set_dtype_policy(before)


def low_rank() -> Any:
    model = small()
    model.get_layer("fc").enable_lora(2)
    return model


def quantised() -> Any:
    with_floats = with_policy("float32")
    with_floats.quantize("int8")
    return with_floats


def _own(name: str, build: Callable[[], Any], size: tuple[int, ...] = (32, 32, 3), **o: Any) -> Any:
    o.setdefault("given", "identity")
    return Entry("own Keras", name, build, size, **o)


FACTS = {"facts": np.linspace(0, 1, 4)}
HALF = {"tolerance": 3e-2}

OWN = [
    _own("Sequential", small, cam="relu"),
    _own("nested two deep, Sequential inside functional", nested, cam="middle"),
    _own("subclassed", lambda: subclassed(L.Conv2D(8, 3, name="conv"))),
    _own("subclassed with functional inside", lambda: subclassed(functional_body()), cam="body"),
    _own("shared layers", shared, cam="relu:1"),
    _own("operations without layers", operations, final="softmax", logits="fc", cam="conv"),
    _own("softmax fused into the layer", lambda: small(end="softmax"), final="softmax"),
    _own("sigmoid fused into the layer", lambda: small(end="sigmoid"), final="sigmoid"),
    _own(
        "softmax as a layer",
        lambda: keras.Sequential(
            [keras.Input((32, 32, 3)), *small().layers, L.Softmax(name="end")]
        ),
        final="softmax",
        logits="fc",
    ),
    *(
        _own(
            f"two inputs, {kind}",
            lambda kind=kind: structures.two_inputs(kind),
            (8, 8, 3),
            other_inputs=FACTS,
            truth=called(kind),
        )
        for kind in ("list", "dict", "nested")
    ),
    _own(
        "two arguments, subclassed",
        two_arguments,
        (8, 8, 3),
        other_inputs=FACTS,
        truth=called("arguments"),
    ),
    _own("two inputs, one not given", structures.two_inputs, (8, 8, 3), refused="facts"),
    _own("list of outputs", lambda: outputs("list"), output=1, part="[1]"),
    _own("dictionary of outputs", lambda: outputs("dict"), part="[logits]"),
    _own("a layer of two tensors", lambda: _called_once(structures.Split("dict")), (8, 8, 3)),
    _own("class token and registers", lambda: structures.transformer(registers=2), (24, 40, 3)),
    _own("grey", lambda: small(1, (28, 28)), (28, 28, 1)),
    _own("five channels", lambda: small(5), (32, 32, 5)),
    _own("any size, not square", lambda: small(3, (None, None)), (24, 40, 3)),
    _own("3 x 3 pixels", lambda: small(3, (3, 3)), (3, 3, 3)),
    _own("1024 x 1024 pixels", lambda: small(3, (1024, 1024)), (1024, 1024, 3), batch=1),
    _own("signals, 1-D", lambda: structures.of_rank(1), (12, 2), final="softmax"),
    _own("volumes, 3-D", lambda: structures.of_rank(3), (12, 13, 14, 2), final="softmax"),
    *(
        _own(
            f"channels first, {rank}-D",
            lambda rank=rank: structures.of_rank(rank, "channels_first"),
            (*range(12, 12 + rank), 2),
            final="softmax",
            class_axis=1,
            # TensorFlow has no kernels for it on a processor.
            engine="torch",
        )
        for rank in (1, 2, 3)
    ),
    _own("mixed_bfloat16", lambda: with_policy("mixed_bfloat16"), **HALF),
    _own("mixed_float16", lambda: with_policy("mixed_float16"), **HALF),
    _own("bfloat16", lambda: with_policy("bfloat16"), **HALF),
    _own("float32", lambda: with_policy("float32"), tolerance=1e-4),
    _own("from a .keras file", lambda: saved(".keras"), final="softmax"),
    _own("from an .h5 file", lambda: saved(".h5"), final="softmax"),
    _own("compiled with jit_compile", compiled),
    _own("LoRA", low_rank, refused="LoRA"),
    _own("quantised to int8", quantised, refused="quantised"),
]


def _called_once(model: Any) -> Any:
    model(np.zeros((1, 8, 8, 3)))
    return model
