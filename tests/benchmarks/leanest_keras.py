"""The leanest loop of gradient ascent that can be written by hand in Keras on TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from benchmarks.leanest import COLOURS, SIZE, Variant, affine, half_spectrum, lines, spectrum

__all__ = ["VARIANTS", "Loop", "cut"]

VARIANTS = tuple(
    Variant(waves, warp) for waves in ("fft", "matrices") for warp in ("projective", "none")
)


def cut(model: keras.Model, layer: str) -> keras.Model:
    """Give the part of a network that leads to a layer."""
    return keras.Model(model.input, model.get_layer(layer).output)


class Loop:
    """Pictures of some channels at the end of a network; call it for a step.

    The whole step is one `tf.function`, that of the optimizer included.
    """

    def __init__(self, net: keras.Model, channels: Sequence[int], variant: Variant) -> None:
        self.net, self.variant = net, variant
        count = len(channels)
        shape: tuple[int, ...]
        if variant.waves == "fft":
            shape = (count, 3, SIZE, SIZE // 2 + 1, 2)
            self.scale = tf.constant(half_spectrum(SIZE)[..., None] * SIZE, tf.float32)
        else:
            shape = (count, 3, SIZE, SIZE)
            self.scale = tf.constant(spectrum(SIZE), tf.float32)
        self.values = tf.Variable(tf.random.normal(shape, stddev=0.01, seed=0))
        self.mean, self.square = (tf.Variable(tf.zeros(shape)) for _ in range(2))
        self.lines = tf.constant(lines(SIZE), tf.float32)
        self.colours = tf.constant(COLOURS.T, tf.float32)
        # What `caffe` subtracts from blue, green, red, of a picture counted from grey.
        self.shift = tf.constant([127.5 - 103.939, 127.5 - 116.779, 127.5 - 123.68])
        self.places = tf.stack([tf.range(count), tf.constant(list(channels))], 1)
        self.only = int(channels[0]) if count == 1 else None
        self.rng = np.random.default_rng(0)
        self.done = 0
        self.traced = tf.function(self.step, autograph=False)

    def __call__(self) -> None:
        """Take a step."""
        self.done += 1
        rates = 0.05 / (1 - 0.9**self.done), 1 / (1 - 0.999**self.done)
        maps = np.zeros((self.values.shape[0], 8))
        if self.variant.warp != "none":
            drawn = affine(self.rng, len(maps))
            maps[:, :6] = drawn.reshape(-1, 6)
            middle = (SIZE - 1) / 2
            # Counted from a corner, as the operation wants them.
            maps[:, [2, 5]] += middle - drawn[:, :, :2].sum(2) * middle
        self.traced(tf.constant(maps, tf.float32), tf.constant(rates, tf.float32))

    def step(self, maps: Any, rates: Any) -> None:
        """Take a step; runs once."""
        values = self.values.value()
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(values)
            picture = self.picture(values)
            if self.variant.warp != "none":
                picture = tf.raw_ops.ImageProjectiveTransformV3(
                    images=picture,
                    transforms=maps,
                    output_shape=(SIZE, SIZE),
                    fill_value=0.0,
                    interpolation="BILINEAR",
                    fill_mode="CONSTANT",
                )
            found = self.net(picture[..., ::-1] * 255.0 + self.shift, training=False)
            if self.only is not None:
                score = tf.reduce_mean(found[..., self.only])
            else:
                score = tf.reduce_sum(tf.gather_nd(tf.reduce_mean(found, (1, 2)), self.places))
        slope = tape.gradient(score, values)
        mean = self.mean.assign(self.mean * 0.9 + slope * 0.1)
        square = self.square.assign(self.square * 0.999 + slope * slope * 0.001)
        self.values.assign_add(mean * rates[0] / (tf.sqrt(square * rates[1]) + 1e-8))

    def picture(self, values: Any) -> Any:
        """Give the picture, counted from grey."""
        scaled = values * self.scale
        if self.variant.waves == "fft":
            waves = tf.complex(scaled[..., 0], scaled[..., 1])
            raw = tf.signal.irfft2d(waves, (SIZE, SIZE))
        else:
            raw = self.lines @ scaled @ tf.transpose(self.lines)
        flat = tf.reshape(tf.transpose(raw, (0, 2, 3, 1)), (-1, 3))
        coloured = tf.reshape(flat @ self.colours, (-1, SIZE, SIZE, 3))
        return tf.tanh(coloured * 0.5) * 0.5
