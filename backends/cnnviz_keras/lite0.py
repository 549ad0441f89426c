"""The demo network in Keras 3: EfficientNet-Lite0 with its ImageNet weights."""

from __future__ import annotations

from typing import Any

import keras
from numpy.typing import NDArray

from cnnviz import lite0
from cnnviz.errors import InvalidOption
from cnnviz.preprocessing import Preprocessing
from cnnviz_keras.specs import placed

__all__ = ["build", "load_demo"]


def build(dtype: str = "float32") -> keras.Model:
    """Build the network with its ImageNet weights, from pictures of any size to logits.

    Parameters
    ----------
    dtype : {"float32", "float64"}
        What it computes in; the weights are float32 numbers either way. On JAX and PyTorch
        Keras itself does a part of a float64 model in float32 (keras issue 23704), unless
        it runs within `cnnviz_keras.precision.float64_kept`.

    Raises
    ------
    InvalidOption
        The dtype is another, or JAX is set to compute in 32 bits.
    MissingDependency, CorruptFile
        As in `cnnviz.lite0.read_weights`.
    """
    lite0.as_dtype(dtype)
    if dtype == "float64" and keras.config.backend() == "jax":
        _require_x64()
    weights = lite0.read_weights()
    graph = _Graph(dtype)
    pictures = keras.Input((None, None, 3), dtype=dtype, name="input")
    x = graph.conv_bn(pictures, "stem", lite0.STEM, 3, stride=2)
    for k, spec in enumerate(lite0.BLOCKS):
        x = graph.block(x, f"block{k}", spec)
    x = graph.conv_bn(x, "head", lite0.HEAD, 1)
    x = keras.layers.GlobalAveragePooling2D(**graph.layout, name="pool")(x)
    logits = graph.dense(x, "fc", lite0.CLASSES)
    model = keras.Model(pictures, logits, name="efficientnet_lite0")
    _fill(model, weights)
    return model


def load_demo(device: str | None = None) -> tuple[keras.Model, Preprocessing, tuple[str, ...]]:
    """Give the demo network, what it was trained on, and the names of its classes."""
    with placed(device):
        return build(), lite0.PREPROCESSING, lite0.labels()


class _Graph:
    """Adds the parts of the network to a symbolic tensor, all in one dtype."""

    def __init__(self, dtype: str) -> None:
        self.dtype = {"dtype": dtype}
        # Said at each layer, for a user's keras.json may say otherwise.
        self.layout = {"data_format": "channels_last", "dtype": dtype}

    def conv_bn(
        self, x: Any, name: str, filters: int | None, kernel: int, stride: int = 1, act: bool = True
    ) -> Any:
        """Add a convolution, depthwise where `filters` is None, its normalisation and ReLU6."""
        options = {"strides": stride, "padding": "same", "use_bias": False, "name": f"{name}_conv"}
        # Random initial weights would draw from Python's own random state.
        if filters is None:
            conv = keras.layers.DepthwiseConv2D(
                kernel, depthwise_initializer="zeros", **options, **self.layout
            )
        else:
            conv = keras.layers.Conv2D(
                filters, kernel, kernel_initializer="zeros", **options, **self.layout
            )
        bn = keras.layers.BatchNormalization(
            axis=-1, epsilon=lite0.BN_EPSILON, name=f"{name}_bn", **self.dtype
        )
        x = bn(conv(x))
        return keras.layers.ReLU(6.0, name=f"{name}_act", **self.dtype)(x) if act else x

    def block(self, x: Any, name: str, spec: lite0.Block) -> Any:
        """Add one inverted residual."""
        y = x
        if spec.expand != 1:
            y = self.conv_bn(y, f"{name}_expand", spec.inputs * spec.expand, 1)
        y = self.conv_bn(y, f"{name}_depthwise", None, spec.kernel, spec.stride)
        y = self.conv_bn(y, f"{name}_project", spec.outputs, 1, act=False)
        return keras.layers.Add(name=f"{name}_add", **self.dtype)([y, x]) if spec.residual else y

    def dense(self, x: Any, name: str, units: int) -> Any:
        """Add the classifier."""
        return keras.layers.Dense(units, kernel_initializer="zeros", name=name, **self.dtype)(x)


def _fill(model: keras.Model, weights: dict[str, NDArray[Any]]) -> None:
    """Copy the weights into the layers, by the rule of names in `cnnviz.lite0`."""
    by_layer: dict[str, dict[str, NDArray[Any]]] = {}
    for name, array in weights.items():
        module, _, tensor = name.rpartition(".")
        layer = module.replace("blocks.", "block").replace(".", "_")
        by_layer.setdefault(layer, {})[tensor] = array
    for name, tensors in by_layer.items():
        model.get_layer(name).set_weights(_native(model.get_layer(name), tensors))


def _native(layer: Any, tensors: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
    if isinstance(layer, keras.layers.BatchNormalization):
        return [tensors[name] for name in ("weight", "bias", "running_mean", "running_var")]
    if isinstance(layer, keras.layers.Dense):
        return [tensors["weight"].T, tensors["bias"]]
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        return [tensors["weight"].transpose(2, 3, 0, 1)]
    return [tensors["weight"].transpose(2, 3, 1, 0)]


def _require_x64() -> None:
    import jax

    # JAX would compute in 32 bits with no more than a warning.
    if not jax.config.jax_enable_x64:
        raise InvalidOption("JAX computes in float32; set JAX_ENABLE_X64=1 to build in float64")
