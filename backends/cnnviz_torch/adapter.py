"""PyTorch models behind the contract, by forward hooks."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cnnviz.adapter import INPUT, LOGITS, OUTPUT, Adapter, Evaluation, Layer
from cnnviz.errors import CnnvizError, InvalidImage, InvalidOption, UnsupportedModel
from cnnviz.preprocessing import Preprocessing
from cnnviz_torch.ops import TorchOps
from cnnviz_torch.recording import Recording, Stop, primary_tensor
from cnnviz_torch.specs import exported_shape, find_preprocessing
from cnnviz_torch.state import undisturbed
from cnnviz_torch.tensors import channels_last, kind, neutral_kernel

__all__ = ["TorchAdapter"]

_FINAL = {
    "Softmax": "softmax",
    "Softmax2d": "softmax",
    "LogSoftmax": "softmax",
    "Sigmoid": "sigmoid",
}


class TorchAdapter(Adapter[Tensor]):
    """One `torch.nn.Module`, tapped by hooks that live for a single call.

    A model in training mode is evaluated as in eval mode; its mode, and everything else
    about it, is afterwards what it was. `torch.compile`, `DataParallel` and
    `DistributedDataParallel` wrappers are looked through.

    Parameters
    ----------
    model : torch.nn.Module
    preprocessing : Preprocessing, optional
        Read off timm's and torchvision's own records where it is not given.
    input_shape : (int, int, int), optional
        Height, width and channels; by default those of the preprocessing.
    device : str, optional
        The model's own by default; elsewhere a copy of it is used.

    Raises
    ------
    UnsupportedModel
        Its parameters lie on several devices.
    """

    framework = "torch"

    def __init__(
        self,
        model: nn.Module,
        *,
        preprocessing: Preprocessing | None = None,
        input_shape: tuple[int, int, int] | None = None,
        device: str | None = None,
    ) -> None:
        self.model = model
        module = _unwrapped(model)
        if device is not None:
            module = _moved(module, device)
        self._module = module
        self.name = kind(module)
        tensors = [*module.parameters(), *module.buffers()]
        if len({t.device for t in tensors}) > 1:
            raise UnsupportedModel(f"{self.name} is spread over several devices; put it on one")
        place = tensors[0].device if tensors else torch.device("cpu")
        if place.type == "meta":
            raise UnsupportedModel(f"{self.name} is on the meta device: it has no weights to show")
        dtype = next((t.dtype for t in tensors if t.is_floating_point()), torch.float32)
        self._dtype, self._place = dtype, place
        self.ops = TorchOps(dtype, place)
        self._preprocessing = preprocessing or find_preprocessing(module)
        self._given_shape = input_shape
        self._table: tuple[Layer, ...] | None = None
        self._logits_call: tuple[str, int] | None = None
        # Half the memory traffic on a processor; a model that uses view() may not take it.
        self._memory_format = torch.channels_last

    @classmethod
    def accepts(cls, model: object) -> bool:
        """Take every `torch.nn.Module` that is not a Keras layer on the torch backend."""
        return isinstance(model, nn.Module) and not any(
            base.__module__.partition(".")[0] == "keras" for base in type(model).__mro__
        )

    @property
    def input_shape(self) -> tuple[int | None, int | None, int]:
        """Height and width, where known, and the channels of the first convolution."""
        if self._given_shape is not None:
            return self._given_shape
        exported = exported_shape(self._module)
        if exported is not None:
            return exported
        size = self._preprocessing.size if self._preprocessing else None
        channels = next(
            (m.in_channels for m in self._module.modules() if isinstance(m, nn.Conv2d)), 3
        )
        return (*(size or (None, None)), channels)

    @property
    def device(self) -> str:
        """The device of the parameters."""
        return str(self._place)

    def layers(self) -> Sequence[Layer]:
        """List every call of every module; runs one blank picture the first time."""
        if isinstance(self._module, torch.jit.ScriptModule):
            raise UnsupportedModel(
                f"{self.name} is TorchScript, which hides its layers (class:INDEX still ascends);"
                " give the nn.Module that it was made of by module.py:function, or an export of"
                " torch.export (.pt2)"
            )
        if self._table is None:
            height, width, channels = self.input_shape
            if height is None or width is None:
                raise InvalidOption(
                    f"nothing tells what size of picture {self.name} takes; give it:"
                    f" cnnviz.adapt(model, input_shape=(224, 224, {channels}))"
                    " (--size on the command line)"
                )
            self._probe(height, width, channels)
        assert self._table is not None
        return self._table

    def weights(self, layer: str | None = None) -> Mapping[str, NDArray[Any]]:
        """See `cnnviz.adapter.Adapter.weights`."""
        if layer is None:
            found, seen = {}, set()
            for prefix, module in self._module.named_modules():
                for name, tensor in _own_tensors(module):
                    if id(tensor) not in seen:
                        seen.add(id(tensor))
                        full = f"{prefix}.{name}" if prefix else name
                        found[full] = self._weight(module, name, tensor)
            return found
        module = self._module.get_submodule(self.layer(layer).address)
        return {
            f"{prefix}.{name}" if prefix else name: self._weight(part, name, tensor)
            for prefix, part in module.named_modules()
            for name, tensor in _own_tensors(part)
        }

    def forward(self, x: Tensor, *, taps: Iterable[str]) -> Mapping[str, Tensor]:
        """See `cnnviz.adapter.Adapter.forward`."""
        with undisturbed(self._module), torch.no_grad():
            return self._record(x, list(taps), ())

    def gradient(
        self,
        score: Callable[..., Tensor],
        x: Tensor,
        *,
        taps: Iterable[str],
        wrt: Sequence[str] = (INPUT,),
        prepare: Callable[..., Tensor] | None = None,
        score_args: Sequence[Tensor] = (),
        prepare_args: Sequence[Tensor] = (),
    ) -> Evaluation[Tensor]:
        """See `cnnviz.adapter.Adapter.gradient`."""
        taps, wrt = list(taps), list(wrt)
        at_input = INPUT in wrt
        with undisturbed(self._module), torch.set_grad_enabled(at_input):
            x = x.detach().requires_grad_(at_input)
            picture = prepare(x, *prepare_args) if prepare is not None else x
            recorded = self._record(picture, [*taps, *wrt], [t for t in wrt if t != INPUT])
            with torch.enable_grad():
                value = score({tap: recorded[tap] for tap in taps}, *score_args)
            leaves = [x if tap == INPUT else recorded[tap] for tap in wrt]
            slopes: Sequence[Tensor | None] = (None,) * len(leaves)
            if value.requires_grad:
                slopes = torch.autograd.grad(value.sum(), leaves, allow_unused=True)
            gradients = {
                tap: torch.zeros_like(leaf) if slope is None else slope
                for tap, leaf, slope in zip(wrt, leaves, slopes, strict=True)
            }
        return Evaluation(value.detach(), {tap: recorded[tap].detach() for tap in taps}, gradients)

    def _record(
        self, picture: Tensor, taps: Sequence[str], leaves: Sequence[str]
    ) -> dict[str, Tensor]:
        """Run the model on a picture until every tap was seen, and give their tensors."""
        calls = self._resolve(taps, picture)
        recording = Recording(self._module, calls, leaves)
        found: dict[str, Tensor] = {INPUT: picture} if INPUT in taps else {}
        if any(tap != INPUT for tap in taps):
            native = self._normalised(picture)
            with recording:
                try:
                    output = self._module(native)
                except Stop:
                    output = None
                except CnnvizError:
                    raise
                except (RuntimeError, ValueError, AssertionError, IndexError) as error:
                    raise _refusal(self.name, picture, error) from error
            found |= recording.finished(output)
        return found

    def _normalised(self, picture: Tensor) -> Tensor:
        preprocessing = self.require_preprocessing()
        shift, factor = (self.ops.asarray(v) for v in preprocessing.affine())
        if preprocessing.order == "bgr":
            picture = picture.flip(-1)
        # The view has the strides of torch.channels_last already: nothing is copied.
        native = ((picture - shift) * factor).permute(0, 3, 1, 2)
        return native.contiguous(memory_format=self._memory_format)

    def settle(self, *size: int) -> None:
        """See `cnnviz.adapter.Adapter.settle`."""
        if self._table is None:
            own_height, own_width, channels = self.input_shape
            self._probe(own_height or size[0], own_width or size[1], channels)

    def _resolve(self, taps: Iterable[str], picture: Tensor) -> dict[str, tuple[str, int]]:
        """Turn each tap at a layer into its address and the number of the call."""
        names = [tap for tap in taps if tap not in (INPUT, OUTPUT)]
        if names:
            self.settle(*picture.shape[1:-1])
        calls = {}
        for tap in names:
            if tap == LOGITS:
                calls[tap] = self._logits_call
            else:
                layer = self.layer(tap)
                calls[tap] = (layer.address, layer.call)
        calls |= {tap: None for tap in taps if tap == OUTPUT}
        return calls  # type: ignore[return-value]

    def _probe(self, height: int, width: int, channels: int) -> None:
        """List the layers by running a blank picture once through the untouched model."""
        blank = torch.zeros((1, channels, height, width), dtype=self._dtype, device=self._place)
        with undisturbed(self._module), torch.no_grad():
            try:
                self._list(blank.contiguous(memory_format=self._memory_format))
            except RuntimeError as error:
                if "view size is not compatible" not in str(error):
                    raise _refusal(self.name, blank.permute(0, 2, 3, 1), error) from error
                self._memory_format = torch.contiguous_format
                self._list(blank)
            except (ValueError, AssertionError, IndexError) as error:
                raise _refusal(self.name, blank.permute(0, 2, 3, 1), error) from error

    def _list(self, blank: Tensor) -> None:
        # The parts of TorchScript take no hooks.
        scripted = isinstance(self._module, torch.jit.ScriptModule)
        parts = [] if scripted else self._module.named_modules()
        names = {module: name for name, module in parts if name}
        finished: list[tuple[str, nn.Module, Any]] = []

        thread = threading.get_ident()

        def note(module: nn.Module, args: Any, output: Any) -> None:
            # Another thread may run the same model meanwhile.
            if threading.get_ident() == thread:
                finished.append((names[module], module, output))

        handles = [module.register_forward_hook(note) for module in names]
        try:
            output = primary_tensor(self._module(blank))
        finally:
            for handle in handles:
                handle.remove()
        addresses = [address for address, _, _ in finished]
        calls: dict[str, int] = {}
        table = []
        for address, module, value in finished:
            number = calls[address] = calls.get(address, -1) + 1
            shape = (None, *channels_last(value).shape[1:]) if isinstance(value, Tensor) else None
            name = kind(module)
            table.append(
                Layer(
                    f"{address}:{number}" if addresses.count(address) > 1 else address,
                    name,
                    shape,
                    sum(p.numel() for p in module.parameters()),
                    leaf=next(module.children(), None) is None,
                )
            )
            if name in _FINAL and value is output:
                self.final_activation = _FINAL[name]
                self._logits_call = (address, number)
        self.classes = output.shape[1] if output.ndim > 1 else None
        self._table = tuple(table)

    def _weight(self, module: nn.Module, name: str, tensor: Tensor) -> NDArray[Any]:
        return self.ops.to_numpy(neutral_kernel(module, name, tensor))


def _own_tensors(module: nn.Module) -> Iterable[tuple[str, Tensor]]:
    """Yield a module's own parameters and running statistics; counters are left out."""
    yield from module.named_parameters(recurse=False)
    for name, buffer in module.named_buffers(recurse=False):
        if buffer.is_floating_point() and name in module.state_dict():
            yield name, buffer


def _unwrapped(model: nn.Module) -> nn.Module:
    while True:
        if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            model = model.module
        elif hasattr(model, "_orig_mod"):
            model = model._orig_mod  # type: ignore[assignment]
        else:
            return model


def _moved(module: nn.Module, device: str) -> nn.Module:
    try:
        place = torch.device(device)
        if all(t.device == place for t in [*module.parameters(), *module.buffers()]):
            return module
        return copy.deepcopy(module).to(place)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InvalidOption(f"device {device!r} cannot be used: {reason}") from error


def _refusal(name: str, picture: Tensor, error: Exception) -> InvalidImage:
    height, width, channels = picture.shape[1:]
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return InvalidImage(
        f"{name} does not take pictures of {height} x {width} with {channels} channels: {reason}"
    )
