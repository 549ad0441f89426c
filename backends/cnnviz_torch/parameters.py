"""The numbers that modules hold: named, what they add, and written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cnnviz.assignment import assigned
from cnnviz.errors import InvalidOption
from cnnviz_torch.tensors import families, neutral_kernel

__all__ = ["named", "offset", "once", "write"]

_AFFINE = {f"{kind}{n}d" for kind in ("Conv", "ConvTranspose") for n in (1, 2, 3)} | {"Linear"}
_NORMS = {"BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm", "FrozenBatchNorm2d"}


def named(module: nn.Module) -> Iterator[tuple[str, nn.Module, str, Tensor]]:
    """Yield the full name, the part, the name in it and the tensor of each weight.

    Parameters and running statistics; counters are left out, shared ones come again.
    """
    for prefix, part in module.named_modules():
        for name, tensor in _own(part):
            yield f"{prefix}.{name}" if prefix else name, part, name, tensor


def once(
    weights: Iterable[tuple[str, nn.Module, str, Tensor]],
) -> Iterator[tuple[str, nn.Module, str, Tensor]]:
    """Leave out what came before under another name."""
    seen = set()
    for weight in weights:
        if id(weight[-1]) not in seen:
            seen.add(id(weight[-1]))
            yield weight


def write(
    name: str,
    modules: Iterable[nn.Module],
    known: Mapping[str, NDArray[Any]],
    weights: Mapping[str, NDArray[Any]],
) -> None:
    """Write weights into each of several copies of one network: all of them, or none.

    Parameters
    ----------
    name : str
        What to call the network in an error.
    modules : iterable of torch.nn.Module
    known, weights : mapping of str to array
        Those that there are, and those to come; see `cnnviz.assignment.assigned`.

    Raises
    ------
    InvalidOption
        They do not fit; nothing is written.
    """
    new = {key: torch.from_numpy(np.array(v)) for key, v in assigned(name, known, weights).items()}
    pairs = []
    for module in modules:
        for key, part, own, tensor in once(named(module)):
            if key in new:
                value = new[key]
                if (value.isfinite() & ~value.to(tensor.dtype).isfinite()).any():
                    raise InvalidOption(
                        f"{key!r} holds numbers that are too large for {tensor.dtype}"
                    )
                pairs.append((part, own, tensor, value))
    for part, own, tensor, value in pairs:
        # What was made in inference mode may only be changed there.
        with torch.inference_mode(tensor.is_inference()), torch.no_grad():
            neutral_kernel(part, own, tensor.detach()).copy_(value)


def offset(module: nn.Module) -> Tensor | None:
    """Give what a layer adds whatever it is given, ``(C,)``; None if it adds nothing.

    It is known of convolutions and dense layers, and of a batch norm that runs on its statistics.
    """
    kinds = families(module)
    shift: Tensor | None = getattr(module, "bias", None)
    if kinds & _AFFINE:
        return shift.detach() if isinstance(shift, Tensor) else None
    mean, variance = (getattr(module, f"running_{s}", None) for s in ("mean", "var"))
    eps = _eps(module)
    # Without statistics of its own it runs on those of the batch, and is not affine.
    if not (kinds & _NORMS and isinstance(mean, Tensor) and isinstance(variance, Tensor)):
        return None
    if eps is None:
        return None
    # More exact than the model's own, which may be of half precision.
    factor = (variance.detach().double() + eps).rsqrt()
    scale = getattr(module, "weight", None)
    if isinstance(scale, Tensor):
        factor = scale.detach().double() * factor
    added = -mean.detach().double() * factor
    if isinstance(shift, Tensor):
        added = added + shift.detach().double()
    given: Tensor = added.to(mean.dtype)
    return given


def _eps(module: nn.Module) -> float | None:
    """Give what a norm adds to the variance; an export keeps it among its calls."""
    eps: float | None = getattr(module, "eps", None)
    if eps is None:
        for node in getattr(getattr(module, "graph", None), "nodes", ()):
            schema = getattr(node.target, "_schema", None)
            named = [argument.name for argument in schema.arguments] if schema else []
            if "eps" in named:
                place = named.index("eps")
                eps = node.args[place] if place < len(node.args) else node.kwargs.get("eps")
    return eps


def _own(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield a module's own parameters and running statistics."""
    yield from module.named_parameters(recurse=False)
    for name, buffer in module.named_buffers(recurse=False):
        if buffer.is_floating_point() and name in module.state_dict():
            yield name, buffer
