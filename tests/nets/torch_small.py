"""The small network of cnnviz.testing in PyTorch, in every form that people write."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cnnviz.testing.small import BN_EPS, small_weights


class GlobalMean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


class Small(nn.Module):
    """In-place ReLU, called twice."""

    def __init__(self, softmax: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3)
        self.bn1 = nn.BatchNorm2d(4, eps=BN_EPS)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(4, 6, 3)
        self.gap = GlobalMean()
        self.fc = nn.Linear(6, 5)
        self.softmax = nn.Softmax(1) if softmax else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.relu(self.bn1(self.conv1(x))))
        x = self.fc(self.gap(self.relu(self.conv2(x))))
        return x if self.softmax is None else self.softmax(x)


class Nested(nn.Module):
    """The same in blocks, with a residual of zero added in place."""

    def __init__(self) -> None:
        super().__init__()
        flat = Small()
        self.stem = nn.Sequential()
        for name in ("conv1", "bn1", "relu", "pool"):
            self.stem.add_module(name, getattr(flat, name))
        self.head = nn.Sequential()
        for name in ("conv2", "relu", "gap", "fc"):
            layer = nn.ReLU(inplace=True) if name == "relu" else getattr(flat, name)
            self.head.add_module(name, layer)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x += 0.0
        return self.head(x)


NESTED_NAMES = {
    "conv1": "stem.conv1",
    "bn1": "stem.bn1",
    "relu:0": "stem.relu",
    "pool": "stem.pool",
    "conv2": "head.conv2",
    "relu:1": "head.relu",
    "gap": "head.gap",
    "fc": "head.fc",
}


class Viewing(Small):
    """Flattens with view(), which a channels-last tensor refuses."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.relu(self.bn1(self.conv1(x))))
        x = x.view(x.shape[0], -1).view(x.shape)
        return self.fc(self.gap(self.relu(self.conv2(x))))


def settle(model: nn.Module, weights=None) -> nn.Module:
    """Give a model the weights of cnnviz.testing.small_weights, in float64 and eval mode."""
    weights = weights or small_weights()
    parts = {name.rpartition(".")[2]: module for name, module in model.named_modules()}
    with torch.no_grad():
        for name in ("conv1", "conv2"):
            kernel = weights[f"{name}.kernel"].transpose(3, 2, 0, 1).copy()
            parts[name].weight.data = torch.from_numpy(kernel)
            parts[name].bias.data = torch.from_numpy(weights[f"{name}.bias"])
        bn = parts["bn1"]
        bn.weight.data = torch.from_numpy(weights["bn1.scale"])
        bn.bias.data = torch.from_numpy(weights["bn1.offset"])
        bn.running_mean = torch.from_numpy(weights["bn1.mean"])
        bn.running_var = torch.from_numpy(weights["bn1.variance"])
        parts["fc"].weight.data = torch.from_numpy(weights["fc.kernel"].T.copy())
        parts["fc"].bias.data = torch.from_numpy(weights["fc.bias"])
    return model.eval()


HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
)


def snapshot(model: nn.Module) -> object:
    """Everything about a model that a call must leave alone."""
    return (
        {k: v.numpy().tobytes() for k, v in model.state_dict().items()},
        {
            k: (p.requires_grad, p.grad is None, p.data_ptr(), p.is_contiguous())
            for k, p in model.named_parameters()
        },
        {
            name: (m.training, [len(getattr(m, h)) for h in HOOKS], sorted(vars(m)))
            for name, m in model.named_modules()
        },
        [getattr(m, "inplace", None) for m in model.modules()],
        torch.is_grad_enabled(),
        torch.backends.cudnn.enabled,
        torch.get_default_dtype(),
    )
