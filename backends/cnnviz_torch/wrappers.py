"""What people wrap networks in: looked through, or refused by name."""

from __future__ import annotations

import copy

import torch
from torch import nn

from cnnviz.errors import InvalidOption, UnsupportedModel
from cnnviz_torch.tensors import kind

__all__ = ["moved", "refuse_wrapped", "unwrapped"]

# Packages whose layers keep weights that are not the network's own numbers.
_LOW_RANK = ("peft", "loralib")
_QUANTISED = (
    "torch.ao.nn.quantized",
    "torch.ao.nn.intrinsic.quantized",
    "torch.ao.nn.quantizable",
    "torch.nn.quantized",
    "bitsandbytes",
    "torchao",
    "optimum.quanto",
    "gptqmodel",
)


def refuse_wrapped(module: nn.Module, name: str) -> None:
    """Refuse by name what is quantised or carries low-rank adapters.

    Raises
    ------
    UnsupportedModel
        With what to give instead.
    """
    for address, part in module.named_modules():
        home = type(part).__module__
        if _within(home, _LOW_RANK) or hasattr(part, "lora_A"):
            raise UnsupportedModel(
                f"{name} carries LoRA ({_where(address, part)}); give the merged network"
                " (with peft: model.merge_and_unload())"
            )
        tensors = [*part.parameters(recurse=False), *part.buffers(recurse=False)]
        kinds = {type(t).__module__ for t in tensors}
        packed = any(t.is_quantized for t in tensors)
        if _within(home, _QUANTISED) or packed or any(_within(k, _QUANTISED) for k in kinds):
            raise UnsupportedModel(
                f"{name} is quantised ({_where(address, part)}), so it has no gradients; give the"
                " float network that it was made of"
            )


def unwrapped(model: nn.Module) -> nn.Module:
    """Give the module within `DataParallel`, `DistributedDataParallel` and `torch.compile`."""
    while True:
        if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            model = model.module
        elif hasattr(model, "_orig_mod"):
            model = model._orig_mod  # type: ignore[assignment]
        else:
            return model


def moved(module: nn.Module, device: str) -> nn.Module:
    """Give a module on a device: itself if it is there, else a copy.

    Raises
    ------
    InvalidOption
        There is no such device.
    """
    try:
        place = torch.device(device)
        if all(t.device == place for t in [*module.parameters(), *module.buffers()]):
            return module
        return copy.deepcopy(module).to(place)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InvalidOption(f"device {device!r} cannot be used: {reason}") from error


def _within(home: str, packages: tuple[str, ...]) -> bool:
    return any(home == package or home.startswith(f"{package}.") for package in packages)


def _where(address: str, part: nn.Module) -> str:
    return f"{kind(part)} at {address!r}" if address else kind(part)
