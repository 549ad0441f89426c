"""PyTorch models behind the contract, by forward hooks."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from cnnviz.adapter import INPUT, LOGITS, OUTPUT, Adapter, Evaluation, Layer, ReluRule
from cnnviz.errors import CnnvizError, InvalidImage, InvalidOption, TapNotReached, UnsupportedModel
from cnnviz.files import write_bytes
from cnnviz.preprocessing import Preprocessing
from cnnviz_torch import derivatives
from cnnviz_torch.inputs import OtherInputs, input_shape, refusal
from cnnviz_torch.inspection import applied, entering, in_float64
from cnnviz_torch.listing import Listing, list_layers
from cnnviz_torch.loans import Loans, lent_by
from cnnviz_torch.ops import TorchOps
from cnnviz_torch.parameters import named, offset, once, write
from cnnviz_torch.recording import Place, Recording
from cnnviz_torch.rectifiers import RuledReLU
from cnnviz_torch.resumption import Resumption
from cnnviz_torch.settings import settings_of
from cnnviz_torch.specs import check_order, find_preprocessing
from cnnviz_torch.state import undisturbed, unrecorded
from cnnviz_torch.streams import (
    agreeing,
    alone,
    copies,
    independent,
    made_of,
    same_things,
    shared_out,
    take_threads,
)
from cnnviz_torch.tensors import as_scores, kind, neutral_kernel
from cnnviz_torch.wrappers import moved, refuse_wrapped, unwrapped

__all__ = ["TorchAdapter"]

T = TypeVar("T")


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
        self._given_inputs = other_inputs
        self._inputs = OtherInputs(module, other_inputs, self.name)
        self._listing: Listing | None = None
        # Where the network works in place on what a layer gave.
        self._changing: set[Place] = set()
        # And on what goes into one.
        self._changing_inputs: set[Place] = set()
        self._by_name: dict[str, Layer] = {}
        # Whether this is of a copy for a thread of its own.
        self._copied = False
        # What was tried last in several threads, and whether it runs well so.
        self._tried: tuple[Any, list[Any], bool] = None, [], False
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
        return input_shape(self._module, self._preprocessing)

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
            found = once(named(self._module))
        else:
            found = named(self._module.get_submodule(self.layer(layer).address))
        return {
            key: self.ops.to_numpy(neutral_kernel(part, name, tensor))
            for key, part, name, tensor in found
        }

    def forward(self, x: Tensor, *, taps: Iterable[str]) -> Mapping[str, Tensor]:
        """See `cnnviz.adapter.Adapter.forward`."""
        wanted = list(taps)
        return undisturbed(self._module, lambda: self._record(x, wanted, ()))

    def borrow(self, x: Tensor, *, taps: Iterable[str]) -> Mapping[str, Tensor]:
        """See `cnnviz.adapter.Adapter.borrow`."""
        wanted = list(taps)
        run = lambda: self._record(x, wanted, (), lend=True)  # noqa: E731
        return unrecorded(run) if self._copied else undisturbed(self._module, run)

    def streams(
        self, x: Tensor, *, taps: Iterable[str], most: int
    ) -> Sequence[Callable[[], Adapter[Tensor]]]:
        """See `cnnviz.adapter.Adapter.streams`; the threads of torch are shared out."""
        threads = torch.get_num_threads()
        count, each = shared_out(threads, most)
        nets: list[TorchAdapter] = []
        if count > 1 and self._place.type == "cpu" and not alone(self._module):
            nets = self._copies(count, x[:1], list(taps))
        return [partial(_opened, net, each, threads) for net in nets] or [lambda: self]

    def _copies(self, count: int, x: Tensor, taps: Sequence[str]) -> list[TorchAdapter]:
        """Give adapters of copies of the network, each for a thread; none where that is no good."""
        parts_now = made_of(self._module)
        if parts_now is None:
            return []
        # As long as it is made of the same things all need not be tried again.
        asked = tuple(taps), tuple(x.shape)
        known = asked == self._tried[0] and same_things(parts_now, self._tried[1])
        if known and not self._tried[2]:
            return []
        # Before it is copied, so that all know its layers.
        self.settle(*x.shape[1:-1])
        nets: list[TorchAdapter] = []

        def tried() -> bool:
            parts = copies(self._module, count)
            nets.extend(map(self._around, parts))
            runs = [partial(net.borrow, taps=taps) for net in (self, *nets)]
            if not nets:
                return False
            if known:
                return agreeing(runs[0], runs[1], x)
            return independent(runs[0], parts, runs[1:], x)

        try:
            # The copies need not be put into eval mode for each run.
            good = undisturbed(self._module, tried)
        except Exception:  # noqa: BLE001
            # What people keep in a network may be anything; what is wrong with a run will be told
            # where the network is run as it was meant to be.
            good = False
        if not known:
            self._tried = asked, parts_now, good
        return nets if good else []

    def _around(self, part: nn.Module) -> TorchAdapter:
        """Give an adapter of a copy of the network, which knows what this one does."""
        net = copy(self)
        net._module, net._copied, net._changing = part, True, set(self._changing)
        return net

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_tried": (None, [], False)}

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
        relu: ReluRule = "plain",
        jacobian: bool = False,
        curvature: bool = False,
    ) -> Evaluation[Tensor]:
        """See `cnnviz.adapter.Adapter.gradient`."""
        taps, wrt = list(taps), list(wrt)
        if curvature and (jacobian or relu != "plain"):
            raise InvalidOption("a curvature is of one score, with the derivatives as they are")

        def run() -> Evaluation[Tensor]:
            # From the start, though nothing is recorded before the first tensor that needs it:
            # a view that was made without may not be changed in place with.
            torch.set_grad_enabled(True)
            raw = (x.clone() if x.is_inference() else x).detach().requires_grad_(INPUT in wrt)
            picture = prepare(raw, *prepare_args) if prepare is not None else raw
            beside: Mapping[str, Tensor] = {}
            if isinstance(picture, tuple):
                picture, beside = picture
            with ExitStack() as modes:
                if relu != "plain":
                    modes.enter_context(RuledReLU(relu))
                if curvature:
                    # The other kernels have no second derivative.
                    modes.enter_context(sdpa_kernel(SDPBackend.MATH))
                recorded = self._record(picture, [*taps, *wrt], [t for t in wrt if t != INPUT])
            value = score({**beside, **{tap: recorded[tap] for tap in taps}}, *score_args)
            leaves = {tap: raw if tap == INPUT else recorded[tap] for tap in wrt}
            bends: Mapping[str, Tensor] = {}
            if curvature:
                gradients, bends = derivatives.curved(value, leaves)
            elif jacobian:
                gradients = derivatives.jacobian(value, leaves)
            else:
                gradients = derivatives.slopes(value, leaves)
            activations = {tap: recorded[tap].detach() for tap in taps}
            return Evaluation(value.detach(), activations, gradients, bends)

        return undisturbed(self._module, run)

    def resume(
        self, x: Tensor, *, at: str, taps: Iterable[str]
    ) -> Callable[[Tensor], Mapping[str, Tensor]]:
        """See `cnnviz.adapter.Adapter.resume`."""
        wanted = list(taps)
        if len(x) != 1:
            raise InvalidImage(f"a run is resumed for one picture, not for {len(x)}")
        if at == INPUT:
            return lambda activation: self.forward(activation, taps=wanted)
        if INPUT in wanted:
            raise TapNotReached(f"{INPUT!r} comes before {at!r}, where the run goes on")
        place = self._place_of(at, x)
        if place.source != "layer":
            raise InvalidOption(f"a run goes on from a layer, not from {at!r} of {self.name}")
        places = {tap: self._place_of(tap, x) for tap in wanted}

        def begin() -> Resumption:
            name = f"{at!r} of {self.name}"
            return Resumption(self._module, self._run, place, places, x, name)

        resumption = self._told(lambda: undisturbed(self._module, begin), x)

        def go_on(activation: Tensor) -> Mapping[str, Tensor]:
            found, count = undisturbed(self._module, lambda: resumption.go_on(activation))
            if LOGITS in found:
                found[LOGITS] = as_scores(found[LOGITS], count, self.name)
            return found

        return go_on

    def offsets(self) -> Mapping[str, NDArray[Any]]:
        """See `cnnviz.adapter.Adapter.offsets`."""
        found = {
            layer.name: offset(self._module.get_submodule(layer.address))
            for layer in self.layers()
            if layer.leaf
        }
        return {name: self.ops.to_numpy(x) for name, x in found.items() if x is not None}

    def assign(self, weights: Mapping[str, NDArray[Any]]) -> None:
        """See `cnnviz.adapter.Adapter.assign`."""
        # Elsewhere than the user's own model is, a copy of it runs.
        modules = {id(m): m for m in (unwrapped(self.model), self._module)}
        write(self.name, modules.values(), self.weights(), weights)

    def weight_names(self, layer: str) -> Mapping[str, str]:
        """See `cnnviz.adapter.Adapter.weight_names`."""
        first = {id(tensor): key for key, _, _, tensor in once(named(self._module))}
        part = self._module.get_submodule(self.layer(layer).address)
        return {key: first[id(tensor)] for key, _, _, tensor in named(part)}

    def settings(self, layer: str) -> Mapping[str, Any]:
        """See `cnnviz.adapter.Adapter.settings`."""
        return settings_of(self._module.get_submodule(self.layer(layer).address))

    def entering(self, x: Tensor, *, layers: Iterable[str]) -> Mapping[str, Tensor]:
        """See `cnnviz.adapter.Adapter.entering`."""
        places = {name: self._place_of(name, x) for name in layers}
        ranks = {name: len(self.layer(name).output_shape or ()) for name in places}

        if not places:
            return {}

        def run(loans: Loans) -> dict[str, Tensor]:
            whole = lambda: self._run(self._module, x)  # noqa: E731
            return self._told(lambda: entering(self._module, whole, places, ranks, loans), x)

        lent = lambda: lent_by(self._module, run, places, self._changing_inputs)  # noqa: E731
        return undisturbed(self._module, lent)

    def apply(self, layer: str, x: Tensor) -> Tensor:
        """See `cnnviz.adapter.Adapter.apply`."""
        known = self.layer(layer)
        place = self._listed().places[known.name]
        rank = len(known.output_shape or ())
        return undisturbed(self._module, lambda: applied(self._module, layer, place, rank, x))

    @contextmanager
    def in_float64(self) -> Iterator[Adapter[Tensor]]:
        """See `cnnviz.adapter.Adapter.in_float64`."""
        made = type(self)(
            in_float64(self._module, self.name),
            preprocessing=self._preprocessing,
            input_shape=self._given_shape,
            output=self._wanted_output,
            other_inputs=self._given_inputs,
        )
        made.labels = self.labels
        if self.listed_size is not None:
            made.settle(*self.listed_size)
        yield made

    def require_savable(self, path: Path) -> None:
        """See `cnnviz.adapter.Adapter.require_savable`."""
        if path.suffix.lower() not in (".pt", ".pth"):
            raise InvalidOption(f"weights of torch are written to .pt or .pth, not {path.suffix!r}")

    def save(self, path: Path) -> None:
        """Write the state_dict of the model; see `cnnviz.adapter.Adapter.save`."""
        self.require_savable(path)
        buffer = io.BytesIO()
        torch.save(unwrapped(self.model).state_dict(), buffer)
        write_bytes(path, buffer.getvalue())

    def traced(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """See `cnnviz.adapter.Adapter.traced`; torch runs it as it is."""

        def run(*args: Any) -> Any:
            return unrecorded(lambda: function(*args))

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
        self, picture: Tensor, taps: Sequence[str], leaves: Sequence[str], lend: bool = False
    ) -> dict[str, Tensor]:
        """Run the model on a picture until every tap was seen, and give their tensors."""
        found: dict[str, Tensor] = {INPUT: picture} if INPUT in taps else {}
        if all(tap == INPUT for tap in taps):
            return found
        places = {tap: self._place_of(tap, picture) for tap in taps if tap != INPUT}

        def run(loans: Loans | None = None) -> dict[str, Tensor]:
            recording = Recording(self._module, places, leaves, lender=loans)
            whole = lambda: self._run(self._module, picture)  # noqa: E731
            return self._told(lambda: recording.run(whole), picture)

        # A copy was seen to keep nothing.
        keeping = not self._copied
        found |= lent_by(self._module, run, places, self._changing, keeping) if lend else run()
        if LOGITS in found:
            found[LOGITS] = as_scores(found[LOGITS], len(picture), self.name)
        return found

    def _told(self, run: Callable[[], T], picture: Tensor) -> T:
        """Run, and say in words why the model did not take pictures."""
        try:
            return run()
        except CnnvizError:
            raise
        except Exception as error:
            raise refusal(self.name, picture, error, self._module) from error

    def _run(self, module: nn.Module, pictures: Tensor) -> Any:
        return self._inputs.call(module, self._normalised(pictures))

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

    def layers_at(self, *size: int) -> Sequence[Layer]:
        """See `cnnviz.adapter.Adapter.layers_at`."""
        self.settle(*size)
        if size == self.listed_size:
            return self.layers()
        return self._listing_at((*size, self.input_shape[-1])).layers

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
        listing = self._listing_at(shape)
        self.classes, self.dense = listing.classes, listing.dense
        self.final_activation = listing.final_activation
        self.listed_size = shape[:-1]
        self._by_name = {layer.name: layer for layer in listing.layers}
        self._listing = listing
        self._changing |= listing.changing

    def _listing_at(self, shape: tuple[int, ...]) -> Listing:
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
            raise refusal(self.name, blank.movedim(1, -1), error, self._module) from error
        return listing


def _opened(net: TorchAdapter, threads: int, default: int) -> TorchAdapter:
    take_threads(threads, default)
    return net
