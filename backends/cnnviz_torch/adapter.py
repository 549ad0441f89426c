"""PyTorch models behind the contract, by forward hooks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, Literal

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cnnviz.adapter import INPUT, LOGITS, OUTPUT, Adapter, Evaluation, Layer
from cnnviz.errors import CnnvizError, InvalidImage, InvalidOption, TapNotReached, UnsupportedModel
from cnnviz.preprocessing import Preprocessing
from cnnviz_torch.inputs import OtherInputs
from cnnviz_torch.listing import Listing, list_layers
from cnnviz_torch.ops import TorchOps
from cnnviz_torch.recording import Place, Recording, Stop
from cnnviz_torch.rectifiers import RedirectedReLU
from cnnviz_torch.specs import check_order, exported_shape, find_preprocessing, fixed_size
from cnnviz_torch.state import undisturbed
from cnnviz_torch.tensors import kind, neutral_kernel
from cnnviz_torch.wrappers import moved, refuse_wrapped, unwrapped

__all__ = ["TorchAdapter"]


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
    input_shape : tuple of int, optional
        Height, width and channels; by default those that the model or its preprocessing tells.
    output : str or int, optional
        The output, or the layer, that holds the class scores.
    other_inputs : mapping of str to array, optional
        An example of each argument of ``forward`` besides the picture.
    device : str, optional
        The model's own by default; elsewhere a copy of it is used.

    Raises
    ------
    UnsupportedModel
        It lies on several devices, is quantised, or carries low-rank adapters.
    InvalidOption
        Another input is missing, or is none.
    """

    framework = "torch"

    def __init__(
        self,
        model: nn.Module,
        *,
        preprocessing: Preprocessing | None = None,
        input_shape: tuple[int, ...] | None = None,
        output: str | int | None = None,
        other_inputs: Mapping[str, Any] | None = None,
        device: str | None = None,
    ) -> None:
        check_order()
        self.model = model
        module = unwrapped(model)
        self.name = kind(module)
        refuse_wrapped(module, self.name)
        if device is not None:
            module = moved(module, device)
        self._module = module
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
        self._wanted_output = output
        self._inputs = OtherInputs(module, other_inputs, self.name)
        self._listing: Listing | None = None
        self._by_name: dict[str, Layer] = {}
        # Half the memory traffic on a processor; a model that uses view() may not take it.
        self._channels_last = True

    @classmethod
    def accepts(cls, model: object) -> bool:
        """Take every `torch.nn.Module` that is not a Keras layer on the torch backend."""
        return isinstance(model, nn.Module) and not any(
            base.__module__.partition(".")[0] == "keras" for base in type(model).__mro__
        )

    @property
    def input_shape(self) -> tuple[*tuple[int | None, ...], int]:
        """The sides, where known, and the channels of the first convolution."""
        if self._given_shape is not None:
            return (*self._given_shape[:-1], self._given_shape[-1])
        exported = exported_shape(self._module)
        if exported is not None:
            return exported
        convs = (m for m in self._module.modules() if isinstance(m, nn.modules.conv._ConvNd))
        first = next(convs, None)
        sides = len(first.kernel_size) if first is not None else 2
        size: tuple[int | None, ...] | None = fixed_size(self._module)
        if size is None and self._preprocessing is not None:
            size = self._preprocessing.size
        if size is None or len(size) != sides:
            size = (None,) * sides
        return (*size, first.in_channels if first is not None else 3)

    @property
    def device(self) -> str:
        """The device of the parameters."""
        return str(self._place)

    def layers(self) -> Sequence[Layer]:
        """List every call of every module; runs one blank picture the first time."""
        return self._listed().layers

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
        wanted = list(taps)
        return undisturbed(self._module, lambda: self._record(x, wanted, ()))

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
        relu: Literal["plain", "redirected"] = "plain",
    ) -> Evaluation[Tensor]:
        """See `cnnviz.adapter.Adapter.gradient`."""
        taps, wrt = list(taps), list(wrt)

        def run() -> Evaluation[Tensor]:
            # From the start, though nothing is recorded before the first tensor that needs it:
            # a view that was made without may not be changed in place with.
            torch.set_grad_enabled(True)
            raw = (x.clone() if x.is_inference() else x).detach().requires_grad_(INPUT in wrt)
            picture = prepare(raw, *prepare_args) if prepare is not None else raw
            beside: Mapping[str, Tensor] = {}
            if isinstance(picture, tuple):
                picture, beside = picture
            with RedirectedReLU() if relu == "redirected" else nullcontext():
                recorded = self._record(picture, [*taps, *wrt], [t for t in wrt if t != INPUT])
            value = score({**beside, **{tap: recorded[tap] for tap in taps}}, *score_args)
            leaves = [raw if tap == INPUT else recorded[tap] for tap in wrt]
            slopes: Sequence[Tensor | None] = (None,) * len(leaves)
            if value.requires_grad:
                slopes = torch.autograd.grad(value.sum(), leaves, allow_unused=True)
            gradients = {
                tap: torch.zeros_like(leaf) if slope is None else slope
                for tap, leaf, slope in zip(wrt, leaves, slopes, strict=True)
            }
            activations = {tap: recorded[tap].detach() for tap in taps}
            return Evaluation(value.detach(), activations, gradients)

        return undisturbed(self._module, run)

    def traced(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """See `cnnviz.adapter.Adapter.traced`; torch runs it as it is."""

        def run(*args: Any) -> Any:
            with torch.inference_mode(False), torch.no_grad():
                return function(*args)

        return run

    def decoder(self, model: Any) -> Callable[[Tensor], Tensor]:
        """See `cnnviz.adapter.Adapter.decoder`."""
        if not self.accepts(model):
            raise UnsupportedModel(
                f"a generator for {self.name} is a torch.nn.Module, not a {type(model).__name__}"
            )

        def paint(code: Tensor) -> Tensor:
            recording = torch.is_grad_enabled()

            def run() -> Tensor:
                torch.set_grad_enabled(recording)
                try:
                    painted: Tensor = model(code)
                except Exception as error:
                    raise InvalidOption(
                        f"the generator does not take codes {tuple(code.shape)}:"
                        f" {str(error).strip().splitlines()[0]}"
                    ) from error
                return painted.movedim(1, -1) if painted.ndim == 4 else painted

            return undisturbed(model, run)

        return paint

    def _record(
        self, picture: Tensor, taps: Sequence[str], leaves: Sequence[str]
    ) -> dict[str, Tensor]:
        """Run the model on a picture until every tap was seen, and give their tensors."""
        found: dict[str, Tensor] = {INPUT: picture} if INPUT in taps else {}
        if all(tap == INPUT for tap in taps):
            return found
        places = {tap: self._place_of(tap, picture) for tap in taps if tap != INPUT}
        recording = Recording(self._module, places, leaves)
        native = self._normalised(picture)
        try:
            with recording:
                try:
                    output = self._inputs.call(self._module, native)
                except Stop:
                    output = None
                except CnnvizError:
                    raise
                except Exception as error:
                    raise _refusal(self.name, picture, error) from error
        finally:
            # Again, since an interrupt may come in the clean-up itself.
            recording.remove()
        found |= recording.finished(output)
        if LOGITS in found:
            found[LOGITS] = _as_scores(found[LOGITS], len(picture), self.name)
        return found

    def _normalised(self, picture: Tensor) -> Tensor:
        preprocessing = self.require_preprocessing()
        shift, factor = (self.ops.asarray(v) for v in preprocessing.affine())
        if preprocessing.order == "bgr":
            picture = picture.flip(-1)
        # The view has the strides of torch.channels_last already: nothing is copied.
        return self._laid_out(((picture - shift) * factor).movedim(-1, 1))

    def _laid_out(self, native: Tensor) -> Tensor:
        last = self._channels_last and native.ndim == 4
        return native.contiguous(
            memory_format=torch.channels_last if last else torch.contiguous_format
        )

    def settle(self, *size: int) -> None:
        """See `cnnviz.adapter.Adapter.settle`."""
        if self._listing is None:
            *own, channels = self.input_shape
            self._probe((*(n or m for n, m in zip(own, size, strict=True)), channels))

    def layer(self, name: str) -> Layer:
        """See `cnnviz.adapter.Adapter.layer`."""
        self.layers()
        return self._by_name.get(name) or super().layer(name)

    def _place_of(self, tap: str, picture: Tensor) -> Place:
        """Say where a tap is to be had."""
        self.settle(*picture.shape[1:-1])
        listing = self._listed(hidden=tap in (OUTPUT, LOGITS))
        if tap in (OUTPUT, LOGITS):
            place = listing.output if tap == OUTPUT else listing.logits
            if place is None:
                raise TapNotReached(
                    f"what {self.name} returns holds no tensor of class scores, as in detection;"
                    " name a layer that gives them:"
                    " cnnviz.adapt(model, output='head.classification_head')"
                )
            return place
        if tap.startswith("<") and tap in listing.places:
            return listing.places[tap]
        return listing.places[self.layer(tap).name]

    def _listed(self, hidden: bool = False) -> Listing:
        if isinstance(self._module, torch.jit.ScriptModule) and not hidden:
            raise UnsupportedModel(
                f"{self.name} is TorchScript, which hides its layers (class:INDEX still ascends);"
                " give the nn.Module that it was made of by module.py:function, or an export of"
                " torch.export (.pt2)"
            )
        if self._listing is None:
            *sides, channels = self.input_shape
            if None in sides:
                example = {1: "1024, ", 2: "224, 224, ", 3: "16, 112, 112, "}[len(sides)]
                raise InvalidOption(
                    f"nothing tells what size of picture {self.name} takes; give it:"
                    f" cnnviz.adapt(model, input_shape=({example}{channels}))"
                    " (--size on the command line)"
                )
            self._probe((*(n or 0 for n in sides), channels))
        assert self._listing is not None
        return self._listing

    def _probe(self, shape: tuple[int, ...]) -> None:
        """List the layers by running a blank picture once through the untouched model."""
        *sides, channels = shape
        blank = torch.zeros((1, channels, *sides), dtype=self._dtype, device=self._place)

        def run(native: Tensor) -> Any:
            return self._inputs.call(self._module, native)

        def listed() -> Listing:
            native = self._laid_out(blank)
            return list_layers(self._module, run, native, self._wanted_output, self.name)

        try:
            try:
                listing = undisturbed(self._module, listed)
            except RuntimeError as error:
                if "view size is not compatible" not in str(error):
                    raise
                self._channels_last = False
                listing = undisturbed(self._module, listed)
        except CnnvizError:
            raise
        except Exception as error:
            raise _refusal(self.name, blank.movedim(1, -1), error) from error
        self.classes, self.dense = listing.classes, listing.dense
        self.final_activation = listing.final_activation
        self.listed_size = tuple(sides)
        self._by_name = {layer.name: layer for layer in listing.layers}
        self._listing = listing

    def _weight(self, module: nn.Module, name: str, tensor: Tensor) -> NDArray[Any]:
        return self.ops.to_numpy(neutral_kernel(module, name, tensor))


def _own_tensors(module: nn.Module) -> Iterable[tuple[str, Tensor]]:
    """Yield a module's own parameters and running statistics; counters are left out."""
    yield from module.named_parameters(recurse=False)
    for name, buffer in module.named_buffers(recurse=False):
        if buffer.is_floating_point() and name in module.state_dict():
            yield name, buffer


def _as_scores(x: Tensor, count: int, name: str) -> Tensor:
    """Give scores ``(N, ..., C)`` of ``count`` pictures, whatever the model's own rows are."""
    if x.ndim < 2:
        x = x.reshape(-1, 1)
    if len(x) == count:
        return x
    if len(x) % count:
        raise TapNotReached(
            f"{name} gave {len(x)} rows of scores for {count} pictures; give one picture at a time"
        )
    return x.reshape(count, len(x) // count, *x.shape[1:])


def _refusal(name: str, picture: Tensor, error: Exception) -> InvalidImage:
    *sides, channels = picture.shape[1:]
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    size = " x ".join(map(str, sides))
    return InvalidImage(
        f"{name} does not take pictures of {size} with {channels} channels: {reason}"
    )
