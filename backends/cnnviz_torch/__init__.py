"""The PyTorch backend of cnnviz, by hooks."""

from cnnviz_torch.adapter import TorchAdapter
from cnnviz_torch.ops import TorchOps

__all__ = ["TorchAdapter", "TorchOps"]
