"""Models of several inputs and outputs, signals, volumes and tokens, small, in float64."""

from __future__ import annotations

import keras

from nets.keras_small import DTYPE

L = keras.layers


class Halves(L.Layer):
    """A layer that gives two tensors, as a tuple or a dictionary."""

    def __init__(self, kind="tuple", **kwargs):
        super().__init__(**{"dtype": DTYPE, **kwargs})
        self.kind = kind
        self.conv = L.Conv2D(4, 3, padding="same", name="conv", dtype=DTYPE)

    def build(self, shape):
        self.conv.build(shape)

    def call(self, x):
        y = self.conv(x)
        if self.kind == "dict":
            return {"low": y, "high": y * 2.0}
        if self.kind == "single":
            return [y]
        if self.kind == "twice":
            return y, y
        return y, y * 2.0


class Split(keras.Model):
    """Subclassed, around a layer of several tensors."""

    def __init__(self, kind):
        super().__init__(name="split", dtype=DTYPE)
        self.halves = Halves(kind, name="halves")
        self.kind = kind
        self.gap = L.GlobalAveragePooling2D(name="gap", dtype=DTYPE)
        self.fc = L.Dense(3, name="fc", dtype=DTYPE)

    def call(self, x):
        given = self.halves(x)
        if self.kind == "single":
            return self.fc(self.gap(given[0]))
        a, b = given.values() if isinstance(given, dict) else given
        return self.fc(self.gap(a * b))


class Outputs(keras.Model):
    """Subclassed, with what it returns in some structure, and a softmax that is no layer."""

    def __init__(self, kind, activation="softmax"):
        super().__init__(name="outputs", dtype=DTYPE)
        self.kind = kind
        self.activation = activation
        self.conv = L.Conv2D(4, 3, name="conv", dtype=DTYPE)
        self.gap = L.GlobalAveragePooling2D(name="gap", dtype=DTYPE)
        self.fc = L.Dense(3, name="fc", dtype=DTYPE)
        self.aux = L.Dense(2, name="aux", activation="sigmoid", dtype=DTYPE)

    def call(self, x):
        y = self.gap(keras.ops.relu(self.conv(x)))
        scores = getattr(keras.ops, self.activation)(self.fc(y))
        aux = self.aux(y)
        if self.kind == "dict":
            return {"aux": aux, "logits": scores}
        if self.kind == "list":
            return [scores, aux]
        return scores


def two_inputs(kind="list"):
    picture = keras.Input((8, 8, 3), name="picture", dtype=DTYPE)
    facts = keras.Input((4,), name="facts", dtype=DTYPE)
    y = L.Conv2D(4, 3, name="conv", dtype=DTYPE)(picture)
    y = L.GlobalAveragePooling2D(name="gap", dtype=DTYPE)(y)
    y = L.Concatenate(name="both", dtype=DTYPE)([y, facts])
    y = L.Dense(3, name="fc", dtype=DTYPE)(y)
    inputs = {
        "list": [facts, picture],
        "dict": {"facts": facts, "picture": picture},
        "nested": [picture, [facts]],
    }[kind]
    return keras.Model(inputs, y, name="two_inputs")


class TwoArguments(keras.Model):
    """A subclassed model that is called with two tensors."""

    def __init__(self):
        super().__init__(name="two_arguments", dtype=DTYPE)
        self.conv = L.Conv2D(4, 3, name="conv", dtype=DTYPE)
        self.gap = L.GlobalAveragePooling2D(name="gap", dtype=DTYPE)
        self.fc = L.Dense(3, name="fc", dtype=DTYPE)

    def call(self, picture, facts):
        return self.fc(keras.ops.concatenate([self.gap(self.conv(picture)), facts], -1))


class OneDictionary(TwoArguments):
    """A subclassed model that is called with a dictionary."""

    def call(self, inputs):
        return super().call(inputs["picture"], inputs["facts"])


def _halved(size, **options):
    """Stand in for a pooling of volumes, which TensorFlow does not have for float64."""
    return L.Conv3D(4, size, strides=size, **options)


def of_rank(rank, data_format="channels_last", channels=2, side=12):
    """A network on signals, pictures or volumes, up to a softmax."""
    convolution = {1: L.Conv1D, 2: L.Conv2D, 3: L.Conv3D}[rank]
    pooling = {1: L.MaxPooling1D, 2: L.MaxPooling2D, 3: _halved}[rank]
    gap = {
        1: L.GlobalAveragePooling1D,
        2: L.GlobalAveragePooling2D,
        3: L.GlobalAveragePooling3D,
    }[rank]
    sides = tuple(range(side, side + rank))
    shape = (*sides, channels) if data_format == "channels_last" else (channels, *sides)
    x = keras.Input(shape, dtype=DTYPE)
    options = {"data_format": data_format, "dtype": DTYPE}
    y = convolution(4, 3, name="conv1", padding="same", **options)(x)
    y = L.ReLU(name="relu", dtype=DTYPE)(y)
    y = pooling(2, name="pool", **options)(y)
    y = convolution(5, 3, name="conv2", **options)(y)
    z = gap(name="gap", **options)(y)
    z = L.Dense(3, activation="softmax", name="fc", dtype=DTYPE)(z)
    return keras.Model(x, z, name=f"rank{rank}")


class ClassToken(L.Layer):
    """Put a learned token before those of the picture, and another behind them."""

    def __init__(self, registers=0, **kwargs):
        super().__init__(**{"dtype": DTYPE, **kwargs})
        self.registers = registers

    def build(self, shape):
        self.token = self.add_weight(shape=(1, 1, shape[-1]), name="token")
        self.after = self.add_weight(shape=(1, self.registers, shape[-1]), name="after")

    def call(self, x):
        count = keras.ops.shape(x)[0]
        before = keras.ops.repeat(self.token, count, axis=0)
        after = keras.ops.repeat(self.after, count, axis=0)
        return keras.ops.concatenate([before, x, after], axis=1)


def transformer(height=24, width=40, patch=8, class_token=True, registers=0, wide=6):
    """A ViT of one block on a picture that is no square."""
    x = keras.Input((height, width, 3), dtype=DTYPE)
    y = L.Conv2D(wide, patch, strides=patch, name="patches", dtype=DTYPE)(x)
    y = L.Reshape((-1, wide), name="tokens", dtype=DTYPE)(y)
    if class_token:
        y = ClassToken(registers, name="class_token")(y)
    z = L.LayerNormalization(name="norm", dtype=DTYPE)(y)
    z = L.MultiHeadAttention(2, 3, name="attention", dtype=DTYPE)(z, z)
    y = L.Add(name="add", dtype=DTYPE)([y, z])
    y = L.Dense(wide, activation="gelu", name="mlp", dtype=DTYPE)(y)
    y = L.GlobalAveragePooling1D(name="pooled", dtype=DTYPE)(y)
    return keras.Model(x, L.Dense(3, name="fc", dtype=DTYPE)(y), name="transformer")
