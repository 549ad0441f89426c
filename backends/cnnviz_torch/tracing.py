"""What every operation of one run makes of axes, of the receptive field, and of the layers before.

Seen below autograd, where a few dozen kinds of operation are left of all that torch offers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from cnnviz import fields
from cnnviz_torch.axes import Axes, merged, resized, unknown
from cnnviz_torch.dispatching import Operations
from cnnviz_torch.facts import Facts, Step, by_shape, laid_out, plain
from cnnviz_torch.rules import OF_MANY, RULES
from cnnviz_torch.windows import through_convolution

__all__ = ["Tracer"]

# What puts one tensor into a part of another.
_WRITERS = ("copy_", "index_put_", "scatter_", "index_copy_", "masked_scatter_")


class Tracer(Operations):  # type: ignore[no-untyped-call]
    """Follow a picture through every operation while the ``with`` is open.

    Parameters
    ----------
    picture : Tensor
        ``(1, C, *sides)``.

    Attributes
    ----------
    changed : set of int
        Layers whose tensors a later operation wrote to.
    """

    def __init__(self, picture: Tensor) -> None:
        super().__init__()
        self.changed: set[int] = set()
        # The layers that gave what lies in a piece of memory.
        self._givers: dict[int, list[int]] = {}
        self._known: dict[Any, Facts] = {}
        # What was written into a part of a tensor is known of the whole.
        self._written: dict[int, Facts] = {}
        self._rank = picture.ndim
        self.note(picture, Facts(plain(picture), fields.first(picture.ndim - 2)))

    def facts(self, x: Tensor) -> Facts | None:
        """Give what is known of a tensor, None if it does not come from the picture."""
        found = self._known.get(_key(x))
        if found is not None and len(found.axes) == x.ndim:
            return found
        written = self._written.get(_storage(x))
        if written is None:
            return None
        axes = ((),) * (x.ndim - len(written.axes)) + written.axes
        if len(axes) != x.ndim:
            axes = tuple(map(unknown, x.shape))
        return replace(written, axes=merged([axes], x.shape))

    def note(self, x: Tensor, facts: Facts) -> None:
        """Keep what is known of a tensor."""
        self._known[_key(x)] = facts

    def finish(self, x: Tensor, layer: int) -> None:
        """Note that a layer gave this tensor."""
        found = self.facts(x)
        if found is None:
            found = Facts(tuple(map(unknown, x.shape)), None)
        self.note(x, replace(found, layers=found.layers | 1 << layer))
        self._givers.setdefault(_storage(x), []).append(layer)

    def operation(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run an operation as it is, then note what it gave."""
        # Before it runs: it may work in place.
        operands = [(x, self.facts(x)) for x in _tensors((args, kwargs))]
        if func._schema.is_mutable:
            for x in _written_to(func._schema, args, kwargs):
                self.changed.update(self._givers.get(_storage(x), ()))
        given = func(*args, **kwargs)
        before = {_storage(x) for x, _ in operands}
        for x in _tensors(given):
            if _storage(x) not in before:
                # Memory that is used again.
                self._givers.pop(_storage(x), None)
        self._follow(func, args, kwargs, operands, given)
        return given

    def _follow(
        self, func: Any, args: Any, kwargs: Any, operands: list[tuple[Tensor, Any]], given: Any
    ) -> None:
        known = [(x, facts) for x, facts in operands if facts is not None]
        outputs = [x for x in _tensors(given) if x.numel()]
        name = func.overloadpacket.__name__
        if not known:
            # Memory is used again: what was known of it is of another tensor.
            for x in outputs:
                self._known.pop(_key(x), None)
                if not func.is_view and not any(x is operand for operand, _ in operands):
                    self._written.pop(_storage(x), None)
            if name == "convolution" and outputs and args[0].ndim == self._rank:
                self._note_convolution(args, Facts(plain(args[0]), None), outputs[0])
            return
        layers = 0
        for _, facts in known:
            layers |= facts.layers
        field = fields.union([facts.field for _, facts in known])
        first = Facts(known[0][1].axes, field, layers)
        rule = RULES.get(name.removesuffix("_"), RULES.get(name))
        if name == "convolution":
            main = self.facts(args[0]) or Facts(plain(args[0]), None)
            self._note_convolution(args, replace(main, layers=layers), outputs[0])
            return
        in_place = any(x is y for x in outputs for y, _ in operands)
        if in_place and name in _WRITERS:
            for x in outputs:
                axes = _written_axes(x, known)
                self._written[_storage(x)] = Facts(axes, fields.unplaced(field), layers)
                self._known.pop(_key(x), None)
            return
        for i, x in enumerate(outputs):
            found = None
            if rule is not None and (rule in OF_MANY or known[0][0] is _first_tensor(args)):
                found = rule(Step(args, kwargs, known, first, x, i, name.removesuffix("_")))
            if found is None:
                found = laid_out(Step(args, kwargs, known, first, x, i), by_shape(known, x))
                if func.namespace != "aten":
                    # An operation of another library may move places as it likes.
                    found = replace(found, field=fields.unplaced(found.field))
            if len(found.axes) != x.ndim:
                axes = tuple(map(unknown, x.shape))
                found = replace(found, axes=axes, field=fields.unplaced(found.field))
            self.note(x, found)

    def _note_convolution(self, args: Any, facts: Facts, out: Tensor) -> None:
        weight, transposed = args[1], args[6]
        axes = facts.axes if len(facts.axes) == out.ndim else plain(out)
        field = through_convolution(facts.field, axes, weight, args[3:6], transposed)
        channels = (("c", out.shape[1]),) if out.shape[1] > 1 else ()
        inner = tuple(resized(a, n) for a, n in zip(axes[2:], out.shape[2:], strict=True))
        self.note(out, Facts((axes[0], channels, *inner), field, facts.layers))


def _written_to(schema: Any, args: Any, kwargs: Any) -> Iterator[Tensor]:
    """Give the tensors that an operation writes to."""
    for i, argument in enumerate(schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            yield from _tensors(args[i] if i < len(args) else kwargs.get(argument.name))


def _written_axes(x: Tensor, known: Sequence[tuple[Tensor, Facts]]) -> Axes:
    sources = [facts.axes for y, facts in known if y is not x]
    return max(sources, key=len, default=tuple(map(unknown, x.shape)))


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _tensors(inner)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))


def _first_tensor(args: Any) -> Tensor | None:
    return next(_tensors(args), None)


def _storage(x: Tensor) -> int:
    return x.untyped_storage().data_ptr()


def _key(x: Tensor) -> Any:
    # Not its id(): a view is a new object each time it is asked for.
    return _storage(x), x.storage_offset(), x.shape, x.stride()
