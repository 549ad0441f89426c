"""One network whose activations are functions in PyTorch and parts of layers in Keras.

So people write them: `F.relu(conv(x))` here, `Conv2D(activation="relu")` there. A map is enlarged
on the way, something is added to what an activation gives, and maps are pooled by kind. Each part
can be made otherwise.
"""

from __future__ import annotations

from typing import Any

SIZE = 32
ACTIVATIONS = ("first", "second", "third", "fourth", "fifth", "dense")


def in_torch(
    *,
    without: str = "",
    instead: str = "softplus",
    pool: str = "max",
    enlarged: str = "nearest",
    factor: float = 1.0,
    batch_statistics: bool = False,
    more: bool = False,
    twice: bool = False,
    seed: int = 0,
) -> Any:
    import torch
    from torch import nn
    from torch.nn import functional as F

    class Loose(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(3, 8, 3, padding=1)
            self.conv2 = nn.Conv2d(8, 16, 3, 2)
            self.bn = nn.BatchNorm2d(16, track_running_stats=not batch_statistics)
            self.pool = (nn.MaxPool2d if pool == "max" else nn.AvgPool2d)(2)
            self.conv3 = nn.Conv2d(16, 16, 3, padding=1)
            self.more = nn.Conv2d(16, 16, 1, groups=16) if more else None
            self.up = nn.Upsample(scale_factor=2, mode=enlarged)
            self.conv4 = nn.Conv2d(16, 12, 3)
            self.conv5 = nn.Conv2d(12, 24, 3, padding=1)
            self.fc1 = nn.Linear(6 * 6 * 24, 20)
            self.fc2 = nn.Linear(20, 10)

        def forward(self, x: Any) -> Any:
            def after(name: str, function: Any, x: Any) -> Any:
                return x if name == without else function(x)

            x = after("first", F.relu, self.conv1(x))
            x = self.pool(after("second", F.relu, self.bn(self.conv2(x))))
            x = x + after("third", F.gelu, self.conv3(x))
            x = x if self.more is None else self.more(x)
            x = self.up(x * factor)
            x = F.max_pool2d(after("fourth", getattr(F, instead), self.conv4(x)), 2)
            x = after("fifth", F.relu, self.conv5(x))
            x = after("dense", F.relu, self.fc1(x.flatten(1)))
            return self.fc2(F.relu(x) if twice else x)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Loose()
        with torch.no_grad():
            for name in ("running_mean", "running_var", "weight", "bias"):
                tensor = getattr(model.bn, name)
                if tensor is not None:
                    tensor.copy_(torch.rand_like(tensor) * 0.5 + (0.5 if "mean" not in name else 0))
    return model.eval()


def in_keras(
    *,
    without: str = "",
    instead: str = "softplus",
    pool: str = "max",
    enlarged: str = "nearest",
    factor: float = 1.0,
    more: bool = False,
    functions: bool = False,
    dtype: str | None = None,
) -> Any:
    import keras

    L = keras.layers
    x = given = L.Input((SIZE, SIZE, 3), dtype=dtype)

    def fused(kind: Any, which: str, activation: str, *args: Any, **options: Any) -> Any:
        told = None if which == without else activation
        if not functions:
            return lambda x: kind(*args, activation=told, dtype=dtype, **options)(x)
        function = keras.activations.get(told)
        return lambda x: function(kind(*args, dtype=dtype, **options)(x))

    x = fused(L.Conv2D, "first", "relu", 8, 3, padding="same", name="one")(x)
    x = L.Conv2D(16, 3, 2, name="two", dtype=dtype)(x)
    x = L.BatchNormalization(epsilon=1e-5, name="two_bn", dtype=dtype)(x)
    if without != "second":
        x = L.ReLU(name="two_relu", dtype=dtype)(x)
    kind = L.MaxPooling2D if pool == "max" else L.AveragePooling2D
    x = kind(2, name="halved", dtype=dtype)(x)
    y = fused(L.Conv2D, "third", "gelu", 16, 3, padding="same", name="three")(x)
    x = L.Add(name="sum", dtype=dtype)([x, y])
    if more:
        x = L.DepthwiseConv2D(1, name="more", dtype=dtype)(x)
    if factor != 1:
        x = L.Rescaling(factor, name="factor", dtype=dtype)(x)
    x = L.UpSampling2D(2, interpolation=enlarged, name="doubled", dtype=dtype)(x)
    x = fused(L.Conv2D, "fourth", instead, 12, 3, name="four")(x)
    x = L.MaxPooling2D(2, name="last", dtype=dtype)(x)
    x = fused(L.Conv2D, "fifth", "relu", 24, 3, padding="same", name="five")(x)
    x = L.Flatten(name="row", dtype=dtype)(x)
    x = fused(L.Dense, "dense", "relu", 20, name="dense")(x)
    x = L.Dense(10, name="scores", dtype=dtype)(x)
    return keras.Model(given, x, name="loose")
