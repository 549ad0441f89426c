"""The demo network in PyTorch: EfficientNet-Lite0 with its ImageNet weights."""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnviz import lite0
from cnnviz.preprocessing import Preprocessing

__all__ = ["EfficientNetLite0", "build", "load_demo"]


class SamePad2d(nn.Module):
    """Pad as TensorFlow's ``same``, which at an even side pads more at the end than at the start.

    Parameters
    ----------
    kernel, stride : int
        Of the convolution that follows.
    """

    def __init__(self, kernel: int, stride: int) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        """Pad maps ``(N, C, H, W)`` with zeros."""
        top, bottom = self._ends(x.shape[-2])
        left, right = self._ends(x.shape[-1])
        return F.pad(x, (left, right, top, bottom))

    def extra_repr(self) -> str:
        """Say the two sizes in the printed model."""
        return f"kernel={self.kernel}, stride={self.stride}"

    def _ends(self, side: int) -> tuple[int, int]:
        steps = (side + self.stride - 1) // self.stride
        total = max((steps - 1) * self.stride + self.kernel - side, 0)
        return total // 2, total - total // 2


class Add(nn.Module):
    """Add the input of a block to its output; a module, so that the sum has a name."""

    def forward(self, x: Tensor, shortcut: Tensor) -> Tensor:
        """Add two maps of one shape."""
        return x + shortcut


class GlobalAveragePool2d(nn.Module):
    """Average over the whole map, ``(N, C, H, W)`` to ``(N, C)``, as the Keras layer does."""

    def forward(self, x: Tensor) -> Tensor:
        """Average over the two last axes."""
        return x.mean((-2, -1))


class Block(nn.Module):
    """One inverted residual.

    Parameters
    ----------
    spec : cnnviz.lite0.Block
        Its sizes.
    """

    def __init__(self, spec: lite0.Block) -> None:
        super().__init__()
        wide = spec.inputs * spec.expand
        if spec.expand != 1:
            self.expand = _conv_bn(spec.inputs, wide, 1)
        self.depthwise = _conv_bn(wide, wide, spec.kernel, spec.stride, groups=wide)
        self.project = _conv_bn(wide, spec.outputs, 1, act=False)
        if spec.residual:
            self.add = Add()
        self.spec = spec

    def forward(self, x: Tensor) -> Tensor:
        """Run maps ``(N, C, H, W)`` through the block."""
        y = self.expand(x) if self.spec.expand != 1 else x
        y = self.project(self.depthwise(y))
        out: Tensor = self.add(y, x) if self.spec.residual else y
        return out


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0: pictures ``(N, 3, H, W)`` to ImageNet logits ``(N, 1000)``."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _conv_bn(3, lite0.STEM, 3, stride=2)
        self.blocks = nn.Sequential(*map(Block, lite0.BLOCKS))
        self.head = _conv_bn(lite0.BLOCKS[-1].outputs, lite0.HEAD, 1)
        self.pool = GlobalAveragePool2d()
        self.fc = nn.Linear(lite0.HEAD, lite0.CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the logits of normalised pictures."""
        logits: Tensor = self.fc(self.pool(self.head(self.blocks(self.stem(x)))))
        return logits


def build(dtype: str = "float32") -> nn.Module:
    """Build the network with its ImageNet weights, on the CPU and in eval mode.

    Parameters
    ----------
    dtype : {"float32", "float64"}
        What it computes in; the weights are float32 numbers either way.

    Raises
    ------
    InvalidOption
        The dtype is another.
    MissingDependency, CorruptFile
        As in `cnnviz.lite0.read_weights`.
    """
    floating = lite0.as_dtype(dtype)
    state = OrderedDict(
        (name, torch.from_numpy(array.astype(floating) if array.dtype.kind == "f" else array))
        for name, array in lite0.read_weights().items()
    )
    # On meta nothing is initialised, so the caller's random state is not drawn from.
    with torch.device("meta"):
        model = EfficientNetLite0()
    model.load_state_dict(state, assign=True)
    return model.eval()


def load_demo(device: str | None = None) -> tuple[nn.Module, Preprocessing, tuple[str, ...]]:
    """Give the demo network, what it was trained on, and the names of its classes.

    The adapter puts it on the device.
    """
    return build(), lite0.PREPROCESSING, lite0.labels()


def _conv_bn(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, act: bool = True
) -> nn.Sequential:
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    # At stride 1 `same` is symmetric, and the convolution pads without a copy.
    if stride > 1:
        parts["pad"] = SamePad2d(kernel, stride)
    padding = 0 if stride > 1 else kernel // 2
    parts["conv"] = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
    parts["bn"] = nn.BatchNorm2d(outputs, eps=lite0.BN_EPSILON)
    if act:
        parts["act"] = nn.ReLU6()
    return nn.Sequential(parts)
