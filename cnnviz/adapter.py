"""The contract between the algorithms and a framework.

An adapter wraps one model and gives layer access, forward and gradient. Every algorithm of
cnnviz is written against this page alone; a backend implements it for its framework.

Pictures go in as the framework's own tensors, channels last ``(N, H, W, C)``, RGB in [0, 1];
the adapter normalises them and moves axes, so a gradient at `INPUT` is per pixel of the
[0, 1] picture. Activations and their gradients come out channels last as well.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from numpy.typing import NDArray

from cnnviz.errors import InvalidOption, UnknownField, UnknownLayer, UnknownPreprocessing
from cnnviz.fields import ALL, Field, Window, rounded
from cnnviz.ops import Ops
from cnnviz.preprocessing import Preprocessing

if TYPE_CHECKING:
    from cnnviz.discovery import Origin

__all__ = ["INPUT", "LOGITS", "OUTPUT", "Adapter", "Evaluation", "Layer", "Ops", "ReluRule"]

INPUT = "<input>"
"""The tap at the picture in [0, 1], after `prepare`."""
OUTPUT = "<output>"
"""The tap at what the model returns."""
LOGITS = "<logits>"
"""The tap at the class scores before a final softmax or sigmoid; the output where there is none.

``(N, C)``; ``(N, H, W, C)`` or ``(N, A, C)`` where the model scores every place or proposal.
"""

T = TypeVar("T")

ReluRule = Literal["plain", "redirected", "guided", "deconvnet"]
"""What the derivative of a ReLU is; see `Adapter.gradient`."""


@dataclass(frozen=True)
class Layer:
    """One tensor that one call of one layer gives, as `Adapter.layers` lists it.

    Attributes
    ----------
    name : str
        The framework's own address: ``layer2.0.conv3``, ``backbone/block1_conv1``. A layer
        that is called twice has two, ``relu:0`` and ``relu:1``; one that gives several
        tensors has one for each, ``encoder[0]`` or ``backbone[out]``.
    kind : str
        The class of the layer.
    output_shape : tuple or None
        Channels last, None for the batch: ``(None, H, W, C)``. None if there is no tensor in
        what the layer gives.
    parameters : int
        Numbers in its parameters, those of its parts included, each counted once.
    leaf : bool
        Whether it holds no other layer.
    grid : tuple of int, optional
        The places in space, ``(H, W)``, that the axes between the first and the last stand
        for; ``(L,)`` or ``(D, H, W)`` for networks on signals and volumes, ``(h, w)`` also
        for tokens ``(None, T, C)``. Empty if they stand for none. Where it is not given, an
        output of four axes is taken for a map.
    class_tokens : int
        Tokens that come before those of the grid. What comes after it are registers.
    rows : int
        Length of the first axis for one picture: above 1 where windows or proposals are laid
        along the batch. Such a layer is not spatial.
    field : cnnviz.fields.Window, "all" or None
        Which pixels of the input one place depends on; ``"all"`` if every place depends on
        every pixel, None if it is not known. At the size of picture at which the layers were
        listed: where padding depends on the size, so do the places of a field.
    leads_to_score : bool, optional
        Whether the class scores depend on it; None if it is not known.
    """

    name: str
    kind: str
    output_shape: tuple[int | None, ...] | None
    parameters: int
    leaf: bool = True
    grid: tuple[int, ...] | None = None
    class_tokens: int = 0
    rows: int = 1
    field: Field = None
    leads_to_score: bool | None = None

    @property
    def channels(self) -> int | None:
        """Size of the last axis, if there is one."""
        return self.output_shape[-1] if self.output_shape else None

    @property
    def spatial(self) -> tuple[int, ...]:
        """Extent in space, such as height and width; empty for none or a single place."""
        if self.output_shape is None or self.rows != 1:
            return ()
        if self.grid is not None:
            grid = self.grid
        else:
            grid = tuple(n or 0 for n in self.output_shape[1:-1])
            grid = grid if len(grid) == 2 else ()
        return grid if math.prod(grid) > 1 else ()

    @property
    def receptive_field(self) -> tuple[int, ...] | Literal["all"] | None:
        """Height and width of the field of one place, in pixels; ``"all"`` or None as `field`.

        That of the widest, where they differ.
        """
        return rounded(self.field)

    def patch(self, place: Sequence[int], size: Sequence[int]) -> tuple[int, ...]:
        """Give the part of a picture on which one place depends.

        Parameters
        ----------
        place : (int, int)
            Row and column in the layer's grid.
        size : (int, int)
            Height and width of the picture: that at which the layers were listed (see
            `Adapter.layers_at` for others).

        Returns
        -------
        (int, int, int, int)
            Top, left, bottom and right in pixels, the last two exclusive. It is not clipped:
            where padding is part of the field it lies outside the picture, and patches of one
            layer are of one size as long as the layer does not enlarge what it is given. One
            number of each kind for signals, three for volumes.

        Raises
        ------
        UnknownField
            It is not known where the place looks; `cnnviz.measured_window` may tell.
        InvalidOption
            The layer has no such place.
        """
        if self.field == ALL:
            return (*(0 for _ in size), *size)
        grid = self.grid if self.grid is not None else (self.output_shape or ())[1:-1]
        axes = len(self.field.extent) if isinstance(self.field, Window) else 0
        box = None
        if isinstance(self.field, Window) and self.rows == 1 and len(grid) == axes == len(size):
            if len(place) != axes or min(place) < 0:
                raise InvalidOption(
                    f"a place of layer {self.name!r} is {axes} numbers from 0, not {place!r}"
                )
            box = self.field.box(place)
        if box is None:
            raise UnknownField(
                f"it is not known where in the picture the places of layer {self.name!r} look;"
                " cnnviz.measured_window(net, layer) tells it by gradients, where they do"
            )
        return box

    @property
    def tokens(self) -> bool:
        """Whether the places of its grid lie along one axis: ``(None, T, C)``."""
        shape = self.output_shape or ()
        return len(self.spatial) > 1 and len(shape) == 3

    @property
    def other_tokens(self) -> int:
        """Tokens that are none of its grid: class tokens and registers."""
        if not self.tokens or self.output_shape is None:
            return 0
        return (self.output_shape[1] or 0) - math.prod(self.spatial)

    @property
    def address(self) -> str:
        """The layer's own address: the name without the number of the call and the part."""
        return self._named["address"] or ""

    @property
    def call(self) -> int:
        """Which call of its layer this is, from 0."""
        return int(self._named["call"] or 0)

    @property
    def part(self) -> str:
        """Which tensor of what it gives, as in ``[0]`` or ``[out]``; empty if there is but one."""
        return self._named["part"] or ""

    @property
    def _named(self) -> dict[str, str | None]:
        found = _NAME.fullmatch(self.name)
        return found.groupdict() if found else {"address": self.name, "call": None, "part": None}


_NAME = re.compile(r"(?P<address>.+?)(?::(?P<call>\d+))?(?P<part>(?:\[[^\[\]]*\])+)?")


@dataclass(frozen=True)
class Evaluation(Generic[T]):
    """What `Adapter.gradient` computed, as native tensors.

    Attributes
    ----------
    value : tensor
        What the score returned: ``(N,)``, or a scalar.
    activations, gradients : mapping of str to tensor
        By tap. A gradient has the shape of its activation; that of `INPUT` has the shape of
        the `x` that was given, before `prepare`. ``(K, N, ...)`` where each of K scores a
        picture was differentiated.
    curvatures : mapping of str to tensor
        By tap, where they were asked for: the second derivative times the activation.
    """

    value: T
    activations: Mapping[str, T]
    gradients: Mapping[str, T]
    curvatures: Mapping[str, T] = field(default_factory=dict)


class Adapter(ABC, Generic[T]):
    """One model, seen the same way whatever its framework.

    Attributes
    ----------
    framework : str
        Such as ``"torch"`` or ``"keras-tensorflow"``.
    name : str
        What to call the model in tables and pictures.
    model : object
        The user's own model; never changed.
    preprocessing : Preprocessing or None
        None if it is not known; then anything that needs a picture raises.
    labels : sequence of str or None
        Names of the classes, where they are known.
    final_activation : str or None
        ``"softmax"`` or ``"sigmoid"`` if the model ends in one (so `LOGITS` differs from
        `OUTPUT`). Known once the layers are.
    classes : int or None
        Size of the last axis of the class scores. Known once the layers are.
    dense : bool
        Whether the class scores are given for each place or proposal, as for segmentation and
        detection. Known once the layers are.
    listed_size : tuple of int or None
        Height and width of the picture at which the layers were listed, once they are.
    compiled : bool
        Whether `score` and `prepare` are traced once and then run without Python.
    origin : Origin or None
        How it was opened, where `cnnviz.adapt` or `cnnviz.load` did.
    """

    framework: str
    name: str
    model: Any
    ops: Ops[T]
    labels: Sequence[str] | None = None
    final_activation: str | None = None
    classes: int | None = None
    dense: bool = False
    listed_size: tuple[int, ...] | None = None
    compiled: bool = False
    origin: Origin | None = None
    _preprocessing: Preprocessing | None = None

    @classmethod
    @abstractmethod
    def accepts(cls, model: object) -> bool:
        """Say whether this backend opens such a model; cheap, and without side effects."""

    @property
    @abstractmethod
    def input_shape(self) -> tuple[*tuple[int | None, ...], int]:
        """Height, width and channels that the model takes; None where any height or width will do.

        ``(length, channels)`` for a network on signals, ``(depth, height, width, channels)``
        for one on volumes.
        """

    @property
    @abstractmethod
    def device(self) -> str:
        """Where the model computes, in the framework's own words."""

    @property
    def any_thread(self) -> bool:
        """Whether what was run once gives the same from any thread, for pictures of that shape.

        Not so where it heeds what is set for a thread, as eager calls do.
        """
        return False

    @abstractmethod
    def layers(self) -> Sequence[Layer]:
        """List every call of every layer in the order in which they finish."""

    def layers_at(self, *size: int) -> Sequence[Layer]:
        """List the layers as they are for pictures of this height and width.

        The size that was settled on stays: `layers` gives what it gave. An adapter whose layers
        are the same at every size need not say so.
        """
        return self.layers()

    @abstractmethod
    def weights(self, layer: str | None = None) -> Mapping[str, NDArray[Any]]:
        """Give the parameters and running statistics of one layer, or of the whole model.

        Names are the framework's own; kernels are ``(kh, kw, in, out)``, dense ones
        ``(in, out)``. Counters and random states are left out; shared ones come once.
        """

    def weight_shapes(self, layer: str) -> Mapping[str, tuple[int, ...]]:
        """Give the shapes of what `weights` gives of a layer."""
        return {name: value.shape for name, value in self.weights(layer).items()}

    @abstractmethod
    def forward(self, x: T, *, taps: Iterable[str]) -> Mapping[str, T]:
        """Run pictures ``(N, H, W, C)`` in [0, 1] up to the deepest tap; no gradient is kept.

        Raises
        ------
        UnknownLayer
            A tap is no layer of the model.
        TapNotReached
            The run never came through a tap.
        """

    def borrow(self, x: T, *, taps: Iterable[str]) -> Mapping[str, T]:
        """Give what `forward` gives, to be read and not written to: nothing need be copied.

        It stays as it is while the network runs again.
        """
        return self.forward(x, taps=taps)

    def streams(
        self, x: T, *, taps: Iterable[str], most: int
    ) -> Sequence[Callable[[], Adapter[T]]]:
        """Open the network for several threads that run it at once.

        Parameters
        ----------
        x : tensor
            Pictures as they are to come, in this number.
        taps : iterable of str
            What `borrow` will be asked for.
        most : int
            Threads.

        Returns
        -------
        sequence of callable
            One for each thread, to be called in it; what it gives is to be run in that thread
            alone. There is one where the network cannot be run so, or would not be faster: it
            gives this adapter, which stays with the thread that asked.
        """
        return [lambda: self]

    @abstractmethod
    def gradient(
        self,
        score: Callable[..., T],
        x: T,
        *,
        taps: Iterable[str],
        wrt: Sequence[str] = (INPUT,),
        prepare: Callable[..., T] | None = None,
        score_args: Sequence[T] = (),
        prepare_args: Sequence[T] = (),
        relu: ReluRule = "plain",
        jacobian: bool = False,
        curvature: bool = False,
    ) -> Evaluation[T]:
        """Compute ``score(activations at taps)`` of ``model(prepare(x))`` and its derivatives.

        Parameters
        ----------
        score : callable
            ``score(activations, *score_args)``, activations a mapping by tap, to ``(N,)`` or
            a scalar; the derivative is that of its sum. Equal scores share a trace, so give
            the same object (or an equal one) through a loop.
        x : tensor
            Pictures, or whatever `prepare` makes pictures of.
        taps : iterable of str
            Where activations are wanted.
        wrt : sequence of str
            Taps at which the derivative is wanted. The part of the network before the first
            of them records no gradient. Where the score does not depend on a tap, its
            gradient is zero.
        prepare : callable, optional
            ``prepare(x, *prepare_args)`` to pictures ``(N, H, W, C)`` in [0, 1], or to these
            and a mapping of further tensors, which the score finds beside the activations.
        score_args, prepare_args : sequence of tensor
            What changes from step to step, so that no step is traced again.
        relu : {"plain", "redirected", "guided", "deconvnet"}
            What the derivative of a ReLU or ReLU6 is. ``"redirected"`` [1]_: where it would be
            zero for the whole of a picture, what would raise the activity of units below zero
            (or lower those beyond 6) is passed on instead; else as it is. ``"guided"`` [2]_:
            what is positive, where the unit is active. ``"deconvnet"`` [3]_: what is positive,
            wherever.
        jacobian : bool
            Whether the score gives ``(N, K)``, each column of which is differentiated by
            itself: one forward and K backwards.
        curvature : bool
            Whether to give, beside each gradient g, how it changes along the activation a at
            its tap: the derivative of ``sum(g * a)`` with a held, which is H a. Not together
            with `jacobian` or a rule for ReLU.

        Raises
        ------
        UnknownLayer, TapNotReached
            As in `forward`.

        References
        ----------
        .. [1] Olah et al., lucid, ``redirected_relu_grad``, 2018.
        .. [2] Springenberg et al., arXiv:1412.6806.
        .. [3] Zeiler and Fergus, arXiv:1311.2901.
        """

    @abstractmethod
    def resume(self, x: T, *, at: str, taps: Iterable[str]) -> Callable[[T], Mapping[str, T]]:
        """Run one picture up to a layer, and give what goes on from there with other activations.

        Parameters
        ----------
        x : tensor
            One picture, ``(1, H, W, C)``.
        at : str
            The tap whose activation is replaced.
        taps : iterable of str
            Where activations are wanted: after `at`, or `at` itself.

        Returns
        -------
        callable
            From activations ``(M, ...)``, as the tap gives them, to those at `taps`; what came
            before the layer is not computed again, save by what runs outside of all layers. No
            gradient is recorded. Where the network also goes around the layer, as a skip
            connection does, what came by that way is the picture's own.

        Raises
        ------
        UnknownLayer, TapNotReached
            As in `forward`.
        InvalidImage
            There is more than one picture.
        """

    @abstractmethod
    def offsets(self) -> Mapping[str, NDArray[Any]]:
        """Give what each affine layer adds whatever it is given, ``(C,)``, by the layer's name.

        Biases of convolutions and dense layers, and of a batch norm that runs on its statistics
        ``beta - mean * gamma / sqrt(variance + eps)``; layers that add nothing are left out. A
        layer that is called twice has two.
        """

    @abstractmethod
    def assign(self, weights: Mapping[str, NDArray[Any]]) -> None:
        """Write weights into the user's own model: all of those that are given, or none.

        Parameters
        ----------
        weights : mapping of str to array
            Names and shapes as `weights` gives them for the whole model.

        Raises
        ------
        InvalidOption
            The model has no weight of that name, or another shape, or holds numbers that the
            model's dtype does not; nothing is changed.
        """

    @abstractmethod
    def weight_names(self, layer: str) -> Mapping[str, str]:
        """Say what `weights` of the whole model calls each of those of one layer.

        From the names that ``weights(layer)`` has; a tensor that several layers share has one.
        """

    @abstractmethod
    def settings(self, layer: str) -> Mapping[str, Any]:
        """Say what a layer was told when it was made, in words that all frameworks share.

        See `cnnviz.comparison.settings` for the words. Empty if it is a layer of no family that
        is known there.
        """

    @abstractmethod
    def entering(self, x: T, *, layers: Iterable[str]) -> Mapping[str, T]:
        """Run pictures ``(N, H, W, C)``, and give what goes into layers, channels last.

        That is the first argument of each call, as it was before the call. Layers that take
        several tensors, or none, are left out.

        Raises
        ------
        UnknownLayer, TapNotReached
            As in `forward`.
        """

    @abstractmethod
    def apply(self, layer: str, x: T) -> T:
        """Run one layer alone, as in evaluation, on a tensor as `entering` gives it.

        Raises
        ------
        UnknownLayer
        InvalidOption
            The layer does not take it.
        """

    @abstractmethod
    def in_float64(self) -> AbstractContextManager[Adapter[T]]:
        """Open a copy of the network that computes in float64; the model itself is left alone.

        Raises
        ------
        UnsupportedModel
            It cannot be copied, or the framework was not told to compute in 64 bits.
        """

    def traced(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Make a function of native tensors, and of tuples of them, fast to call again.

        Equal functions share a trace, as in `gradient`; no gradient is recorded.
        """
        return function

    @abstractmethod
    def decoder(self, model: Any) -> Callable[[T], T]:
        """Make a function of another model of the same framework, such as a generator.

        From its own native input ``(N, ...)`` to pictures, channels last. It is run as in
        evaluation and left as it was; derivatives pass through it to its input.

        Raises
        ------
        UnsupportedModel
            It is no model of this framework.
        """

    def require_savable(self, path: Path) -> None:
        """Raise InvalidOption unless `save` knows the suffix.

        Raises
        ------
        InvalidOption
        """
        raise InvalidOption(f"{self.framework} networks are not written to {path.suffix!r} files")

    def save(self, path: Path) -> None:
        """Write the model, or its weights, in its framework's own format.

        The file appears when it is whole; an old one stays until then.

        Raises
        ------
        InvalidOption
            The suffix is none of the framework's.
        """
        self.require_savable(path)

    def settle(self, *size: int) -> None:
        """List the layers at this height and width, if nothing else has told a size yet."""

    @property
    def environment(self) -> Mapping[str, str]:
        """Variables that another process must have before it imports the framework."""
        return {}

    @property
    def title(self) -> str:
        """The name with the framework, which tells two of one name apart."""
        return f"{self.name} ({self.framework})"

    @property
    def preprocessing(self) -> Preprocessing | None:
        """The map from [0, 1] to the model's input, or None if nothing tells it."""
        return self._preprocessing

    def require_preprocessing(self) -> Preprocessing:
        """Give the preprocessing, or say what to write.

        Raises
        ------
        UnknownPreprocessing
            It was neither given nor found.
        """
        if self.preprocessing is None:
            presets = "'imagenet'), or 'caffe', 'tf', 'identity', "
            if len(self.input_shape) != 3:
                presets = "'identity'), or "
            raise UnknownPreprocessing(
                f"nothing tells what {self.name} was trained on; give it:"
                f" cnnviz.adapt(model, preprocessing={presets}"
                "cnnviz.Preprocessing(mean, std), or its own image processor"
                " (--preprocessing on the command line)"
            )
        return self.preprocessing

    def layer(self, name: str) -> Layer:
        """Find a layer by its name; one called once also by its name with ``:0``.

        Raises
        ------
        UnknownLayer
            There is none; the error names the closest.
        """
        table = {layer.name: layer for layer in self.layers()}
        found = table.get(name) or table.get(re.sub(r":0(?=$|\[)", "", name))
        if found is None:
            raise UnknownLayer(name, table)
        return found

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} on {self.framework}, {self.device}>"
