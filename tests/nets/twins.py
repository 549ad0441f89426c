"""Five networks of torchvision written again in Keras, as people who port them write them.

The layers have the names of Keras's own networks, shortcuts come before what they pass by, and
where torch pads at a stride of 2 there is a ZeroPadding2D. Sizes are in pixels of the square input.
"""

from __future__ import annotations

from typing import Any

import keras

L = keras.layers
SIZES = {"resnet18": 64, "resnet50": 64, "vgg16_bn": 224, "densenet121": 64, "mobilenet_v2": 64}


class _Writer:
    """Writes one layer after the other, all in one dtype."""

    def __init__(self, size: int, classes: int, dtype: str | None) -> None:
        self.dtype, self.classes = dtype, classes
        self.input = keras.Input((size, size, 3), dtype=dtype)

    def put(self, kind: Any, x: Any, name: str, *args: Any, **options: Any) -> Any:
        return kind(*args, name=name, dtype=self.dtype, **options)(x)

    def bn(self, x: Any, name: str) -> Any:
        return self.put(L.BatchNormalization, x, name, epsilon=1e-5, momentum=0.9)

    def relu(self, x: Any, name: str, top: float | None = None) -> Any:
        return self.put(L.ReLU, x, name, max_value=top)

    def padded(self, x: Any, stride: int, kernel: int, name: str) -> tuple[Any, dict[str, Any]]:
        """The input and the options of a window that torch pads by half its size."""
        if stride == 1 or kernel == 1:
            return x, {"strides": stride, "padding": "same" if kernel > 1 else "valid"}
        return self.put(L.ZeroPadding2D, x, name, kernel // 2), {"strides": stride}

    def conv(
        self,
        x: Any,
        name: str,
        filters: int,
        kernel: int,
        stride: int = 1,
        pad: str = "",
        bias: bool = False,
    ) -> Any:
        x, options = self.padded(x, stride, kernel, pad)
        return self.put(L.Conv2D, x, name, filters, kernel, use_bias=bias, **options)

    def stem(self, x: Any) -> Any:
        """The first layers of a ResNet and of a DenseNet."""
        x = self.conv(x, "conv1_conv", 64, 7, 2, "conv1_pad")
        x = self.relu(self.bn(x, "conv1_bn"), "conv1_relu")
        # After a ReLU a zero is as good as torch's minus infinity.
        x, options = self.padded(x, 2, 3, "pool1_pad")
        return self.put(L.MaxPooling2D, x, "pool1_pool", 3, **options)

    def end(self, x: Any, name: str, dropout: float = 0.0, pool: str = "avg_pool") -> keras.Model:
        x = self.put(L.GlobalAveragePooling2D, x, pool)
        if dropout:
            x = self.put(L.Dropout, x, "top_dropout", dropout)
        return self.model(self.put(L.Dense, x, "predictions", self.classes), name)

    def model(self, x: Any, name: str) -> keras.Model:
        return keras.Model(self.input, x, name=name)


def _basic(w: _Writer, x: Any, name: str, filters: int, stride: int) -> Any:
    shortcut = x
    if stride != 1:
        shortcut = w.bn(w.conv(x, f"{name}_0_conv", filters, 1, stride), f"{name}_0_bn")
    x = w.conv(x, f"{name}_1_conv", filters, 3, stride, f"{name}_1_pad")
    x = w.relu(w.bn(x, f"{name}_1_bn"), f"{name}_1_relu")
    x = w.bn(w.conv(x, f"{name}_2_conv", filters, 3), f"{name}_2_bn")
    return w.relu(w.put(L.Add, [shortcut, x], f"{name}_add"), f"{name}_out")


def _bottleneck(w: _Writer, x: Any, name: str, filters: int, stride: int) -> Any:
    shortcut = x
    if x.shape[-1] != 4 * filters:
        shortcut = w.bn(w.conv(x, f"{name}_0_conv", 4 * filters, 1, stride), f"{name}_0_bn")
    x = w.relu(w.bn(w.conv(x, f"{name}_1_conv", filters, 1), f"{name}_1_bn"), f"{name}_1_relu")
    x = w.conv(x, f"{name}_2_conv", filters, 3, stride, f"{name}_2_pad")
    x = w.relu(w.bn(x, f"{name}_2_bn"), f"{name}_2_relu")
    x = w.bn(w.conv(x, f"{name}_3_conv", 4 * filters, 1), f"{name}_3_bn")
    return w.relu(w.put(L.Add, [shortcut, x], f"{name}_add"), f"{name}_out")


def _resnet(w: _Writer, block: Any, depths: tuple[int, ...], name: str) -> keras.Model:
    x = w.stem(w.input)
    for stage, depth in enumerate(depths):
        for i in range(depth):
            stride = 2 if stage and not i else 1
            x = block(w, x, f"conv{stage + 2}_block{i + 1}", 64 * 2**stage, stride)
    return w.end(x, name)


def resnet18(size: int = 64, classes: int = 10, dtype: str | None = None) -> keras.Model:
    return _resnet(_Writer(size, classes, dtype), _basic, (2, 2, 2, 2), "resnet18")


def resnet50(size: int = 64, classes: int = 10, dtype: str | None = None) -> keras.Model:
    """The one of version 1.5, whose stride is in the second convolution of a block."""
    return _resnet(_Writer(size, classes, dtype), _bottleneck, (3, 4, 6, 3), "resnet50")


def vgg16_bn(size: int = 224, classes: int = 10, dtype: str | None = None) -> keras.Model:
    """Only where the last map is 7 × 7, and torch's adaptive pooling to that does nothing."""
    if size // 32 != 7:
        raise ValueError(f"vgg16_bn has its twin at sizes from 224 to 255, not at {size}")
    w = _Writer(size, classes, dtype)
    x = w.input
    for b, (filters, depth) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)), 1):
        for i in range(1, depth + 1):
            x = w.conv(x, f"block{b}_conv{i}", filters, 3, bias=True)
            x = w.relu(w.bn(x, f"block{b}_bn{i}"), f"block{b}_relu{i}")
        x = w.put(L.MaxPooling2D, x, f"block{b}_pool", 2, strides=2)
    x = w.put(L.Flatten, x, "flatten")
    for i in (1, 2):
        x = w.relu(w.put(L.Dense, x, f"fc{i}", 4096), f"fc{i}_relu")
        x = w.put(L.Dropout, x, f"fc{i}_dropout", 0.5)
    return w.model(w.put(L.Dense, x, "predictions", classes), "vgg16_bn")


def densenet121(size: int = 64, classes: int = 10, dtype: str | None = None) -> keras.Model:
    w = _Writer(size, classes, dtype)
    x = w.stem(w.input)
    for stage, depth in enumerate((6, 12, 24, 16), 2):
        if stage > 2:
            name = f"pool{stage - 1}"
            x = w.relu(w.bn(x, f"{name}_bn"), f"{name}_relu")
            x = w.conv(x, f"{name}_conv", x.shape[-1] // 2, 1)
            x = w.put(L.AveragePooling2D, x, f"{name}_pool", 2, strides=2)
        for i in range(1, depth + 1):
            name = f"conv{stage}_block{i}"
            y = w.relu(w.bn(x, f"{name}_0_bn"), f"{name}_0_relu")
            y = w.conv(y, f"{name}_1_conv", 128, 1)
            y = w.relu(w.bn(y, f"{name}_1_bn"), f"{name}_1_relu")
            y = w.conv(y, f"{name}_2_conv", 32, 3)
            x = w.put(L.Concatenate, [x, y], f"{name}_concat")
    return w.end(w.relu(w.bn(x, "bn"), "relu"), "densenet121")


# Of each block of MobileNetV2: how many times it widens, its filters and its stride.
_STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2))
_STAGES += ((6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
_INVERTED = [(t, c, s if i == 0 else 1) for t, c, n, s in _STAGES for i in range(n)]


def _inverted(w: _Writer, start: Any, name: str, wider: int, filters: int, stride: int) -> Any:
    x, inside = start, start.shape[-1]
    if wider != 1:
        x = w.conv(x, f"{name}_expand", wider * inside, 1)
        x = w.relu(w.bn(x, f"{name}_expand_BN"), f"{name}_expand_relu", 6.0)
    x, options = w.padded(x, stride, 3, f"{name}_pad")
    x = w.put(L.DepthwiseConv2D, x, f"{name}_depthwise", 3, use_bias=False, **options)
    x = w.relu(w.bn(x, f"{name}_depthwise_BN"), f"{name}_depthwise_relu", 6.0)
    x = w.bn(w.conv(x, f"{name}_project", filters, 1), f"{name}_project_BN")
    if stride == 1 and inside == filters:
        x = w.put(L.Add, [start, x], f"{name}_add")
    return x


def mobilenet_v2(size: int = 64, classes: int = 10, dtype: str | None = None) -> keras.Model:
    w = _Writer(size, classes, dtype)
    x = w.conv(w.input, "Conv1", 32, 3, 2, "Conv1_pad")
    x = w.relu(w.bn(x, "bn_Conv1"), "Conv1_relu", 6.0)
    for i, (wider, filters, stride) in enumerate(_INVERTED):
        x = _inverted(w, x, f"block_{i}" if i else "expanded_conv", wider, filters, stride)
    x = w.relu(w.bn(w.conv(x, "Conv_1", 1280, 1), "Conv_1_bn"), "out_relu", 6.0)
    return w.end(x, "mobilenet_v2", 0.2, "global_average_pooling2d")


def torch_twin(name: str, classes: int = 10, seed: int = 0) -> Any:
    """The network of torchvision, in float32 and eval mode, as if it had been trained.

    Its weights are random, no gamma is 1, no beta or bias is 0, and its batch norms have the
    statistics of noise that went through it. Torch's random state is left as it was.
    """
    import torch
    import torchvision

    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed GPUs as well
        model = torchvision.models.get_model(name, weights=None, num_classes=classes)
        norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
        for key, value in model.named_parameters():
            if key.endswith("bias"):
                value.normal_(0.0, 0.1)
        for norm in norms:
            norm.weight.uniform_(0.6, 1.4)
            norm.momentum = None  # the mean of all that it sees
        model.train()
        for _ in range(3):
            model(torch.randn(8, 3, 64, 64))
        for norm in norms:
            norm.momentum = 0.1
    return model.eval()
