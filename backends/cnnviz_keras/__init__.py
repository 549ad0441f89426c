"""The Keras 3 backend of cnnviz, on TensorFlow, JAX or torch."""

from cnnviz_keras.adapter import KerasAdapter
from cnnviz_keras.ops import KerasOps

__all__ = ["KerasAdapter", "KerasOps"]
