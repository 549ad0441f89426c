"""The loops by hand in Keras on TensorFlow, for `benchmarks.attribution`."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from benchmarks.ascent_keras import adapted, model, use_threads, versions

__all__ = ["LAYER", "Loops", "adapted", "model", "use_threads", "versions"]

Array = NDArray[Any]
LAYER = "conv5_block3_out"


class Loops:
    """Sub-models, and one traced function for each kind of work."""

    def __init__(self, net: keras.Model) -> None:
        # The scores before the softmax.
        last = net.layers[-1]
        middle = net.get_layer(LAYER).output
        dense = keras.layers.Dense(last.units)
        scores = dense(net.layers[-2].output)
        dense.set_weights(last.get_weights())
        self.trunk = keras.Model(net.input, middle)
        self.head = keras.Model(middle, scores)
        self.net = keras.Model(net.input, scores)
        self.mean = tf.constant([103.939, 116.779, 123.68])
        self._cam = tf.function(self._cam_chunk, autograph=False)
        self._slope = tf.function(self._slope_sum, autograph=False)
        self._seen = tf.function(self._masked, autograph=False)

    def native(self, x: tf.Tensor) -> tf.Tensor:
        """Give BGR, without its mean."""
        return tf.reverse(x, [-1]) * 255.0 - self.mean

    def _cam_chunk(self, x: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
        a = self.trunk(self.native(x), training=False)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(a)
            total = tf.reduce_sum(self.head(a, training=False)[:, target])
        g = tape.gradient(total, a)
        raw = tf.nn.relu(tf.reduce_sum(a * tf.reduce_mean(g, (1, 2), True), -1, True))
        maps = tf.image.resize(raw, x.shape[1:3])[..., 0]
        return maps / tf.maximum(tf.reduce_max(maps, (1, 2), True), 1e-30)

    def grad_cam(self, x: Array, target: int, chunk: int) -> Array:
        """Enlarged and scaled maps."""
        parts = [x[i : i + chunk] for i in range(0, len(x), chunk)]
        return np.concatenate([self._cam(tf.constant(p), target).numpy() for p in parts])

    def _slope_sum(self, x: tf.Tensor, share: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            total = tf.reduce_sum(self.net(self.native(x), training=False)[:, target])
        return tf.reduce_sum(tape.gradient(total, x) * share, 0)

    def _sum(self, make: Any, share: Array, target: int, chunk: int) -> Array:
        # Even chunks, so that there is one trace.
        chunk = -(-len(share) // -(-len(share) // chunk))
        total = 0.0
        for i in range(0, len(share), chunk):
            some = np.resize(share[i : i + chunk], chunk).astype(np.float32)
            some[len(share) - i :] = 0
            total = total + self._slope(make(i, chunk), some.reshape(-1, 1, 1, 1), target)
        return total.numpy()

    def integrated(self, x: Array, target: int, nodes: Array, weights: Array, chunk: int) -> Array:
        """Integrated gradients from black."""
        picture = tf.constant(x)

        def make(i: int, n: int) -> tf.Tensor:
            return picture * np.resize(nodes[i : i + n], n).reshape(-1, 1, 1, 1).astype(np.float32)

        return self._sum(make, weights, target, chunk) * x[0]

    def smoothed(self, x: Array, target: int, noise: Array, chunk: int) -> Array:
        """Mean slope over noise that is drawn here as well."""
        picture = tf.constant(x)

        def make(i: int, n: int) -> tf.Tensor:
            return picture + tf.random.normal((n, *x.shape[1:]), stddev=0.15)

        return self._sum(make, np.full(len(noise), 1 / len(noise)), target, chunk)

    def _masked(self, x: tf.Tensor, masks: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
        scores = self.net(self.native(x * masks[..., None]), training=False)
        score = tf.nn.softmax(scores)[:, target]
        return tf.reduce_sum(masks * score[:, None, None], 0)

    def rise(self, x: Array, target: int, count: int, chunk: int) -> Array:
        """Random masks weighted by the probability behind them."""
        picture, height = tf.constant(x), x.shape[1]
        cell = -(-height // 7)
        rng, total = np.random.default_rng(0), 0.0
        for _ in range(0, count, chunk):
            grid = (rng.random((chunk, 7, 7, 1)) < 0.5).astype(np.float32)
            large = tf.image.resize(grid, (8 * cell, 8 * cell))[..., 0]
            shift = rng.integers(0, cell, (chunk, 2))
            masks = tf.stack(
                [m[a : a + height, b : b + height] for m, (a, b) in zip(large, shift, strict=True)]
            )
            total = total + self._seen(picture, masks, target)
        return (total / count / 0.5).numpy()
