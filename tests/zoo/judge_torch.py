"""What PyTorch itself computes, by plain hooks on a copy of the model."""

from __future__ import annotations

import copy
import gc
import hashlib
import re
from typing import Any

import numpy as np
import torch
from nets.torch_small import HOOKS
from numpy.typing import NDArray
from torch import Tensor, nn
from zoo.entries import Entry, TrueCall, Truth, tensors


class Torch:
    """PyTorch, for the judge."""

    def built(self, entry: Entry) -> nn.Module:
        torch.manual_seed(0)
        model: nn.Module = entry.build()
        if entry.dtype == "float64" and entry.refused is None:
            model.double()
        if entry.refused is None and not isinstance(model, torch.jit.ScriptModule):
            _stir(model)
        return model

    def truth(self, model: nn.Module, entry: Entry, native: NDArray[Any], told: Any) -> Truth:
        inner = entry.truth(model) if entry.truth else model
        # What was exported keeps tensors that cannot be copied.
        module = self.built(entry) if entry.dtype == "exported" else copy.deepcopy(inner)
        for part in module.modules():
            part.training = False
        return _Run(module, entry).truth(native, told)

    def snapshot(self, model: nn.Module) -> dict[str, Any]:
        """Every number, flag and hook of a model."""
        found: dict[str, Any] = {}
        for name, x in [*model.named_parameters(), *model.named_buffers()]:
            found[f"numbers of {name}"] = _digest(x), x.data_ptr(), x.requires_grad, x.grad is None
        for name, part in model.named_modules():
            if isinstance(part, torch.jit.ScriptModule):
                continue
            own = {k for k in vars(part) if not k.startswith("_compiled")}
            found[f"attributes of {name}"] = own
            found[f"mode of {name}"] = part.training
            found[f"hooks of {name}"] = [len(getattr(part, k, ())) for k in HOOKS]
        found["gradients on"] = torch.is_grad_enabled()
        return found

    def alive(self) -> int:
        return sum(issubclass(type(x), Tensor) for x in gc.get_objects())

    def clear(self) -> None:
        pass


def _stir(model: nn.Module) -> None:
    """Give zero tensors values: what is multiplied by them would else be judged on nothing."""
    with torch.no_grad():
        for name, x in model.named_parameters():
            if x.is_floating_point() and x.numel() and not x.any() and "bias" not in name:
                x.normal_(0, 0.1)


class _Run:
    """Hooks on every module of a copy."""

    def __init__(self, module: nn.Module, entry: Entry) -> None:
        self.module, self.entry = module, entry
        self.names = {part: name for name, part in module.named_modules() if name}
        self.calls: list[TrueCall] = []
        self.native: list[dict[str, Tensor]] = []
        self.kept: list[Any] = []  # so that no address in memory is used twice
        self.known: dict[Any, int] = {}
        self.by_shape: dict[Any, set[int]] = {}
        self.keys: list[dict[str, list[Any]]] = []
        self.counts: dict[str, int] = {}

    def truth(self, picture: NDArray[Any], told: Any) -> Truth:
        entry = self.entry
        dtype = next(
            (p.dtype for p in self.module.parameters() if p.is_floating_point()), torch.float32
        )
        x = torch.tensor(picture, dtype=dtype, requires_grad=True)
        seen = x.flip(-1) if told.order == "bgr" else x
        mean, std = (torch.tensor(v, dtype=dtype) for v in (told.mean, told.std))
        native = ((seen * told.scale - mean) / std).movedim(-1, 1)
        if not entry.channels_last:
            native = native.contiguous()
        others = {k: torch.tensor(v)[None] for k, v in (entry.other_inputs or {}).items()}
        others = {k: v.to(dtype) if v.is_floating_point() else v for k, v in others.items()}
        for part in self.names:
            part.register_forward_hook(self._hook)
        output = self.module(native, **others)
        outputs = tensors(output, lambda v: isinstance(v, Tensor))
        if entry.logits is not None:
            address, _, keys = entry.logits.partition("[")
            at = next(i for i, call in enumerate(self.calls) if call.address == address)
            found = self.native[at]
            scores = found[f"[{keys}"] if keys else next(iter(found.values()))
        elif not entry.part and len(outputs) == 1:
            scores = next(iter(outputs.values()))
        else:
            scores = outputs[entry.part]
        if scores.ndim == 1:
            scores = scores[:, None]
        axis = entry.class_axis
        if axis is None:
            axis = 1 if scores.ndim == native.ndim else -1
        scores = scores.movedim(axis, -1)
        target = min(1, scores.shape[-1] - 1)
        self._settle_axes()
        self._differentiate(scores[..., target].mean(), x)
        slope = _array(self.slope) if self.slope is not None else np.zeros(picture.shape)
        return Truth(self.calls, _array(scores), slope, target)

    def _hook(self, module: nn.Module, args: Any, output: Any) -> Any:
        address = self.names[module]
        number = self.counts.get(address, 0)
        self.counts[address] = number + 1
        found = tensors(output, lambda v: isinstance(v, Tensor))
        leaf = next(module.children(), None) is None
        self.calls.append(TrueCall(address, number, {k: _array(x) for k, x in found.items()}, leaf))
        replaced, kept = output, output
        keys = {k: [_key(x)] for k, x in found.items()}
        if isinstance(output, Tensor) and output.is_floating_point():
            # A layer that hands on its input shares that tensor with what goes round it, and
            # what follows may work in place: neither is the derivative of what it gave.
            kept = output.clone()
            replaced = kept.clone()
            found = {"": kept}
            keys[""].append(_key(replaced))
        self.kept += [replaced, kept, args, output]
        self.native.append(found)
        self.keys.append(keys)
        axis = _axis_of(module, address, self.entry)
        if axis is not None:
            given = [v for v in args if isinstance(v, Tensor)][:1]
            for x in [*given, *([output] if isinstance(output, Tensor) else [])]:
                if x.ndim < 3 and axis == 1:
                    continue
                place = axis % x.ndim
                self.known[_key(x)] = place
                self.by_shape.setdefault(tuple(x.shape), set()).add(place)
            if isinstance(output, Tensor) and output.ndim >= 2:
                self.calls[-1].axes[""] = axis % output.ndim if output.ndim > 2 else 1
        return replaced if isinstance(output, Tensor) else None

    def _settle_axes(self) -> None:
        """Where a layer does not tell its axis, one that takes or gives the same tensor does."""
        for call, keys in zip(self.calls, self.keys, strict=True):
            for part, places in keys.items():
                shape = call.parts[part].shape
                if part in call.axes or len(shape) < 3:
                    if len(shape) in (1, 2):
                        call.axes[part] = len(shape) - 1
                    continue
                told = {self.known[key] for key in places if key in self.known}
                told = told or self.by_shape.get(tuple(shape), set())
                if len(told) == 1:
                    call.axes[part] = next(iter(told))

    def _differentiate(self, score: Tensor, x: Tensor) -> None:
        places = [
            (call, keys, t)
            for call, found in zip(self.calls, self.native, strict=True)
            for keys, t in found.items()
            if call.leaf and len(found) == 1 and t.requires_grad and t.is_floating_point()
        ]
        slopes = torch.autograd.grad(score, [x, *(t for _, _, t in places)], allow_unused=True)
        self.slope = slopes[0]
        for (call, keys, _), slope in zip(places, slopes[1:], strict=True):
            if slope is not None and slope.any():
                call.gradients[keys] = _array(slope)


def _axis_of(module: nn.Module, address: str, entry: Entry) -> int | None:
    """The axis of the channels, by the definition of torch's own layers."""
    name = type(module).__name__
    if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.modules.batchnorm._BatchNorm)):
        return 1
    if isinstance(module, nn.GroupNorm) or "LayerNorm2d" in name:
        return 1
    if isinstance(module, nn.LayerNorm):
        # ConvNeXt's own moves the axes first.
        return -1 if type(module).forward in (nn.LayerNorm.forward,) else None
    if isinstance(module, nn.Linear):
        return 1 if entry.swapped and re.search(entry.swapped, address) else -1
    return None


def _key(x: Tensor) -> Any:
    return x.data_ptr(), tuple(x.shape), tuple(x.stride())


def _array(x: Tensor) -> NDArray[Any]:
    x = x.detach()
    return np.array((x.double() if x.is_floating_point() else x).cpu().numpy())


def _digest(x: Tensor) -> str:
    if x.is_quantized:
        x = x.int_repr()
    raw = x.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return hashlib.blake2b(raw, digest_size=12).hexdigest()
