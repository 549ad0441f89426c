"""The networks and the loop by hand in Keras on TensorFlow, for `benchmarks.ascent`."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

import cnnviz
from benchmarks.leanest import Variant
from benchmarks.leanest_keras import VARIANTS, Loop, cut

__all__ = [
    "BEST",
    "LAYERS",
    "VARIANTS",
    "Loop",
    "adapted",
    "cut",
    "model",
    "use_threads",
    "versions",
]

LAYERS = {
    "resnet50": ("conv2_block3_out", "conv3_block4_out", "conv5_block3_out"),
    "vgg16": ("block2_conv2", "block3_conv3", "block5_conv3"),
}
BEST = Variant("fft", "projective")


def model(name: str) -> keras.Model:
    """Build a network with random weights."""
    keras.utils.set_random_seed(0)
    build = {"resnet50": keras.applications.ResNet50, "vgg16": keras.applications.VGG16}[name]
    return build(weights=None)


def adapted(net: keras.Model) -> Any:
    """Give the network to cnnviz."""
    return cnnviz.adapt(net, "caffe", input_shape=(224, 224, 3))


def use_threads(count: int) -> None:
    """Set how many threads an operation has, before TensorFlow begins."""
    tf.config.threading.set_intra_op_parallelism_threads(count)
    tf.config.threading.set_inter_op_parallelism_threads(count)


def versions() -> str:
    """Say what is timed."""
    threads = tf.config.threading.get_intra_op_parallelism_threads()
    return f"TensorFlow {tf.__version__}, Keras {keras.__version__}, {threads} threads"
