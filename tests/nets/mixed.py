"""One network with what ports get wrong, in PyTorch and in Keras; its parts can be made otherwise.

Signed numbers go into the pooling, a depthwise convolution gives two channels for one, maps are
normalised by layer, and a map is flattened before a dense layer.
"""

from __future__ import annotations

from typing import Any

SIZE = 64


def in_torch(
    *,
    slope: float = 0.01,
    approximate: str = "none",
    count_padding: bool = False,
    norm_eps: float = 1e-5,
    bn_eps: float = 1e-5,
    functional_gelu: str | None = None,
    zeros_before_pool: bool = False,
    batch_statistics: bool = False,
    active_dropout: bool = False,
    skip: bool = True,
    silu: bool = True,
    same_stride: bool = False,
    flatten_last: bool = False,
    seed: int = 0,
) -> Any:
    import torch
    from torch import nn
    from torch.nn import functional

    class LayerNorm(nn.LayerNorm):
        """Over the channels of a map."""

        def forward(self, x: Any) -> Any:
            return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    class BatchNorm(nn.BatchNorm2d):
        """On the statistics of the batch, whatever the mode."""

        def forward(self, x: Any) -> Any:
            return functional.batch_norm(x, None, None, self.weight, self.bias, True, 0.0, self.eps)

    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(3, 16, 3, 2, 0 if same_stride else 1)
            self.bn1 = (BatchNorm if batch_statistics else nn.BatchNorm2d)(16, eps=bn_eps)
            self.leaky = nn.LeakyReLU(slope)
            self.pool1 = nn.MaxPool2d(3, 1, 0 if zeros_before_pool else 1)
            self.deep = nn.Conv2d(16, 32, 3, 1, 1, groups=16)
            self.gelu = nn.GELU(approximate) if functional_gelu is None else None
            self.pool2 = nn.AvgPool2d(3, 1, 1, count_include_pad=count_padding)
            self.conv2 = nn.Conv2d(32, 32, 3, 2, 1)
            self.norm = LayerNorm(32, eps=norm_eps)
            self.conv3 = nn.Conv2d(32, 32, 3, 1, 1)
            self.silu = nn.SiLU() if silu else nn.Identity()
            self.pool3 = nn.MaxPool2d(2)
            self.fc1 = nn.Linear(8 * 8 * 32, 64)
            self.relu = nn.ReLU()
            self.drop = nn.Dropout(0.3)
            self.fc2 = nn.Linear(64, 10)

        def forward(self, x: Any) -> Any:
            if same_stride:
                x = functional.pad(x, (0, 1, 0, 1))
            x = self.leaky(self.bn1(self.conv1(x)))
            if zeros_before_pool:
                x = functional.pad(x, (1, 1, 1, 1))
            x = self.deep(self.pool1(x))
            if self.gelu is None:
                x = functional.gelu(x, approximate=functional_gelu)
            else:
                x = self.gelu(x)
            x = self.norm(self.conv2(self.pool2(x)))
            x = x + self.silu(self.conv3(x)) if skip else self.silu(self.conv3(x))
            x = self.pool3(x)
            x = x.permute(0, 2, 3, 1) if flatten_last else x
            x = self.relu(self.fc1(x.flatten(1)))
            x = functional.dropout(x, 0.3, True) if active_dropout else self.drop(x)
            return self.fc2(x)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Mixed()
        with torch.no_grad():
            for name, tensor in model.state_dict().items():
                if name.startswith(("bn1", "norm")) and tensor.is_floating_point():
                    low = 0.01 if name == "bn1.running_var" else 0.5
                    positive = "var" in name or "weight" in name
                    tensor.copy_(torch.rand_like(tensor) + (low if positive else -0.5))
    return model.eval()


def in_keras(
    *,
    slope: float = 0.01,
    approximate: bool = False,
    count_padding: bool = False,
    norm_eps: float = 1e-5,
    bn_eps: float = 1e-5,
    zeros_before_pool: bool = False,
    active_dropout: bool = False,
    skip: bool = True,
    silu: bool = True,
    same_stride: bool = False,
    fused: bool = False,
    dtype: str | None = None,
) -> Any:
    import keras

    L = keras.layers

    def gelu(x: Any) -> Any:
        return keras.activations.gelu(x, approximate=approximate)

    class Dropping(L.Dropout):
        """Active, whatever the mode."""

        def call(self, x: Any, training: bool = False) -> Any:
            kept = keras.random.uniform(keras.ops.shape(x), seed=1) > self.rate
            return keras.ops.where(kept, x / (1 - self.rate), 0.0)

    x = given = L.Input((SIZE, SIZE, 3), dtype=None if "mixed" in str(dtype) else dtype)

    def layer(kind: Any, *args: Any, **options: Any) -> Any:
        return kind(*args, dtype=dtype, **options)

    if not same_stride:
        x = layer(L.ZeroPadding2D, 1, name="stem_pad")(x)
    padding = "same" if same_stride else "valid"
    x = layer(L.Conv2D, 16, 3, 2, padding, name="stem")(x)
    x = layer(L.BatchNormalization, epsilon=bn_eps, name="stem_bn")(x)
    x = layer(L.LeakyReLU, negative_slope=slope, name="stem_act")(x)
    if zeros_before_pool:
        x = layer(L.ZeroPadding2D, 1, name="max_pad")(x)
    x = layer(L.MaxPooling2D, 3, 1, "valid" if zeros_before_pool else "same", name="max")(x)
    x = layer(L.DepthwiseConv2D, 3, depth_multiplier=2, padding="same", name="deep")(x)
    x = layer(L.Activation, gelu if approximate else "gelu", name="deep_act")(x)
    if count_padding:
        x = layer(L.ZeroPadding2D, 1, name="mean_pad")(x)
    x = layer(L.AveragePooling2D, 3, 1, "valid" if count_padding else "same", name="mean")(x)
    x = layer(L.ZeroPadding2D, 1, name="second_pad")(x)
    x = layer(L.Conv2D, 32, 3, 2, name="second")(x)
    x = norm = layer(L.LayerNormalization, epsilon=norm_eps, name="second_norm")(x)
    if fused:
        x = layer(L.Conv2D, 32, 3, padding="same", activation="silu", name="third")(x)
    else:
        x = layer(L.Conv2D, 32, 3, padding="same", name="third")(x)
        x = layer(L.Activation, "silu", name="third_act")(x) if silu else x
    x = layer(L.Add, name="sum")([norm, x]) if skip else x
    x = layer(L.MaxPooling2D, 2, name="halved")(x)
    x = layer(L.Flatten, name="row")(x)
    x = layer(L.Dense, 64, name="dense", activation="relu" if fused else None)(x)
    x = x if fused else layer(L.Activation, "relu", name="dense_act")(x)
    x = layer(Dropping if active_dropout else L.Dropout, 0.3, name="drop")(x)
    x = layer(L.Dense, 10, name="scores")(x)
    return keras.Model(given, x, name="mixed")
