"""What modules were told when they were made, in the words of `cnnviz.comparison.settings`."""

from __future__ import annotations

from typing import Any

from torch import nn

__all__ = ["settings_of"]

_ACTIVATIONS: dict[type[nn.Module], str] = {
    nn.ReLU: "relu",
    nn.ReLU6: "relu6",
    nn.SiLU: "silu",
    nn.Sigmoid: "sigmoid",
    nn.Tanh: "tanh",
    nn.Hardswish: "hard silu",
    nn.Hardsigmoid: "hard sigmoid",
    nn.Mish: "mish",
    nn.SELU: "selu",
    nn.Softsign: "softsign",
    nn.PReLU: "prelu",
    nn.Softmax: "softmax",
    nn.LogSoftmax: "log softmax",
}
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_MAX_POOLS = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
_AVERAGE_POOLS = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
_GLOBAL = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)
_PADS = (nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d)


def settings_of(module: nn.Module) -> dict[str, Any]:
    """Give the settings of a module; empty if it is of no family that is known."""
    found = _told(module)
    weight = getattr(module, "weight", None)
    if found and weight is not None:
        found["dtype"] = str(weight.dtype).removeprefix("torch.")
    return found


def _told(module: nn.Module) -> dict[str, Any]:
    activation = _activation(module)
    if activation is not None:
        return {"family": "activation", "activation": activation}
    if isinstance(module, (*_CONVOLUTIONS, *_TRANSPOSED)):
        return _without_padding(module, _convolution(module))
    if isinstance(module, nn.Linear):
        return {"family": "dense", "activation": ("linear",)}
    if isinstance(module, _BATCH_NORMS):
        momentum = module.momentum
        return {
            "family": "batch norm",
            "eps": float(module.eps),
            "statistics": "batch" if module.running_mean is None else "running",
            # None stands for the mean of all batches.
            **({} if momentum is None else {"momentum": float(momentum)}),
        }
    if _is_frozen_norm(module):
        frozen: Any = module
        return {"family": "batch norm", "eps": float(frozen.eps), "statistics": "running"}
    if isinstance(module, nn.LayerNorm):
        return {"family": "layer norm", "eps": float(module.eps)}
    if isinstance(module, nn.GroupNorm):
        return {"family": "group norm", "eps": float(module.eps), "groups": module.num_groups}
    if isinstance(module, (*_MAX_POOLS, *_AVERAGE_POOLS)):
        return _without_padding(module, _pool(module))
    if isinstance(module, _GLOBAL):
        sizes = module.output_size
        one = sizes == 1 or (isinstance(sizes, (tuple, list)) and set(sizes) == {1})
        return {"family": "global average pool"} if one else {}
    if isinstance(module, _DROPOUTS):
        return {"family": "dropout", "rate": float(module.p)}
    if isinstance(module, nn.Flatten):
        return {"family": "flatten"}
    if isinstance(module, nn.Identity):
        return {"family": "identity"}
    if isinstance(module, nn.Upsample):
        corners = " between corners" if module.align_corners else ""
        return {
            "family": "resize",
            "interpolation": f"{module.mode}{corners}",
            "antialias": False,
        }
    if isinstance(module, _PADS):
        return {"family": "padding", "padding": _pairs(module.padding), "mode": "zeros"}
    return {}


def _is_frozen_norm(module: Any) -> bool:
    # By its name: torchvision need not be there.
    kinds = {(kind.__module__, kind.__name__) for kind in type(module).__mro__}
    return ("torchvision.ops.misc", "FrozenBatchNorm2d") in kinds


def _activation(module: nn.Module) -> tuple[Any, ...] | None:
    for kind, name in _ACTIVATIONS.items():
        if type(module) is kind:
            return (name,)
    if isinstance(module, nn.LeakyReLU):
        return ("leaky relu", float(module.negative_slope))
    if isinstance(module, nn.ELU):
        return ("elu", float(module.alpha))
    if isinstance(module, nn.Softplus) and float(module.beta) == 1:
        return ("softplus",)
    if isinstance(module, nn.GELU):
        return ("gelu" if module.approximate == "none" else "gelu by tanh",)
    return None


def _without_padding(module: nn.Module, told: dict[str, Any]) -> dict[str, Any]:
    """Leave out the padding of a class that goes about its forward in a way of its own.

    Such as timm's `Conv2dSame`, whose ``padding`` is 0 and which pads by the size of the map.
    """
    if type(module).__module__.startswith("torch.nn."):
        return told
    own = {"forward", "_conv_forward"} & {
        name for kind in type(module).__mro__ if _is_foreign(kind) for name in vars(kind)
    }
    return {key: value for key, value in told.items() if key != "padding" or not own}


def _is_foreign(kind: type) -> bool:
    return issubclass(kind, nn.Module) and not kind.__module__.startswith("torch.nn.")


def _convolution(module: Any) -> dict[str, Any]:
    padding = module.padding
    axes = len(module.kernel_size)
    if padding == "valid":
        padding = (0,) * axes
    found = {
        "strides": tuple(module.stride),
        "dilation": tuple(module.dilation),
        "groups": module.groups,
        "padding": padding if padding == "same" else tuple((n, n) for n in padding),
        "mode": module.padding_mode,
        "activation": ("linear",),
    }
    if isinstance(module, _TRANSPOSED):
        # What of the full product is cut off on each side.
        cut = zip(padding, module.output_padding, strict=True)
        found["padding"] = tuple((p, p - more) for p, more in cut)
        return {"family": "transposed convolution", **found}
    return {"family": "convolution", **found}


def _pool(module: Any) -> dict[str, Any]:
    # Of torch's own class: that of the user's may have any name.
    kinds = (*_MAX_POOLS, *_AVERAGE_POOLS)
    axes = 1 + next(i for i, kind in enumerate(kinds) if isinstance(module, kind)) % 3
    window = _each(module.kernel_size, axes)
    found: dict[str, Any] = {
        "window": window,
        "strides": window if module.stride is None else _each(module.stride, axes),
        "padding": tuple((n, n) for n in _each(module.padding, axes)),
        "ceil": bool(module.ceil_mode),
    }
    if isinstance(module, _MAX_POOLS):
        return {"family": "max pool", "dilation": _each(module.dilation, axes), **found}
    return {"family": "average pool", "count_padding": bool(module.count_include_pad), **found}


def _each(value: Any, axes: int) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, (tuple, list)) else (int(value),) * axes


def _pairs(padding: Any) -> tuple[tuple[int, int], ...]:
    """Give (before, after) of each axis, the first axis first; torch tells the last first."""
    flat = list(padding)
    return tuple((int(a), int(b)) for a, b in zip(flat[::2], flat[1::2], strict=True))[::-1]
