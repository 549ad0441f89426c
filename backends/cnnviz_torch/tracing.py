"""What every operation of one run makes of axes, of the receptive field, and of the layers before.

Seen below autograd, where a few dozen kinds of operation are left of all that torch offers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from cnnviz_torch import fields
from cnnviz_torch.axes import (
    SPACE,
    Axes,
    joined,
    merged,
    resized,
    sliced,
    space_in,
    unknown,
    viewed,
)
from cnnviz_torch.fields import ALL, Field

__all__ = ["Facts", "Tracer"]


@dataclass(frozen=True)
class Facts:
    """What is known of a tensor.

    Attributes
    ----------
    axes : Axes
    field : Field
    layers : int
        Bit ``i`` is set if it depends on what the i-th call of a layer gave.
    """

    axes: Axes
    field: Field
    layers: int = 0


class Tracer(TorchDispatchMode):
    """Follow a picture through every operation while the ``with`` is open.

    Parameters
    ----------
    picture : Tensor
        ``(1, C, *sides)``.
    """

    def __init__(self, picture: Tensor) -> None:
        super().__init__()
        self._known: dict[Any, Facts] = {}
        # What was written into a part of a tensor is known of the whole.
        self._written: dict[int, Facts] = {}
        count = picture.ndim - 2
        tags = ("c", *SPACE[-count:])
        axes = tuple(((tag, n),) if n > 1 else () for tag, n in zip(tags, picture.shape[1:]))
        self._sides = count
        self.note(picture, Facts(((), *axes), fields.first(count)))

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

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run an operation as it is, then note what it gave."""
        kwargs = kwargs or {}
        # Before it runs: it may work in place.
        operands = [(x, self.facts(x)) for x in _tensors((args, kwargs))]
        given = func(*args, **kwargs)
        self._follow(func, args, kwargs, operands, given)
        return given

    def _follow(
        self, func: Any, args: Any, kwargs: Any, operands: list[tuple[Tensor, Any]], given: Any
    ) -> None:
        known = [(x, facts) for x, facts in operands if facts is not None]
        outputs = [x for x in _tensors(given) if x.numel()]
        name = func.overloadpacket.__name__
        if not known:
            for x in outputs:
                self._known.pop(_key(x), None)
                if not any(x is operand for operand, _ in operands):
                    if not _is_view(func):
                        self._written.pop(_storage(x), None)
            if name == "convolution" and outputs and args[0].ndim == self._sides + 2:
                self._note_convolution(args, Facts(_plain(args[0]), None), outputs[0])
            return
        layers = 0
        for _, facts in known:
            layers |= facts.layers
        field = fields.union([facts.field for _, facts in known])
        first = Facts(known[0][1].axes, field, layers)
        rule = _RULES.get(name.removesuffix("_"), _RULES.get(name))
        if name == "convolution":
            main = self.facts(args[0]) or Facts(_plain(args[0]), None)
            self._note_convolution(args, replace(main, layers=layers), outputs[0])
            return
        in_place = any(x is y for x in outputs for y, _ in operands)
        if in_place and name in _WRITERS:
            for x in outputs:
                self._written[_storage(x)] = Facts(_written_axes(x, known), field, layers)
                self._known.pop(_key(x), None)
            return
        for i, x in enumerate(outputs):
            found = None
            if rule is not None and known[0][0] is _first_tensor(args):
                found = rule(_Step(args, kwargs, known, first, x, i))
            if found is None:
                found = replace(first, axes=_by_shape(known, x))
            if len(found.axes) != x.ndim:
                found = replace(found, axes=tuple(map(unknown, x.shape)))
            self.note(x, found)

    def _note_convolution(self, args: Any, facts: Facts, out: Tensor) -> None:
        _, weight, _, stride, _, dilation, transposed = args[:7]
        count = out.ndim - 2
        kernel = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], _each(dilation, count))]
        follow = fields.shrunk if transposed else fields.enlarged
        field = follow(facts.field, kernel, _each(stride, count))
        axes = facts.axes if len(facts.axes) == out.ndim else _plain(out)
        channels = (("c", out.shape[1]),) if out.shape[1] > 1 else ()
        inner = tuple(resized(a, n) for a, n in zip(axes[2:], out.shape[2:]))
        self.note(out, Facts((axes[0], channels, *inner), field, facts.layers))


@dataclass(frozen=True)
class _Step:
    """One output of one operation, as its rule sees it."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    known: Sequence[tuple[Tensor, Facts]]
    first: Facts
    out: Tensor
    number: int

    def arg(self, place: int, name: str, default: Any = None) -> Any:
        return self.args[place] if len(self.args) > place else self.kwargs.get(name, default)

    def dim(self, place: int, default: int = 0) -> int:
        return int(self.arg(place, "dim", default)) % max(len(self.first.axes), 1)


def _view(step: _Step) -> Facts:
    return replace(step.first, axes=viewed(step.first.axes, step.out.shape))


def _permute(step: _Step) -> Facts:
    axes = step.first.axes
    order = [int(i) % len(axes) for i in step.args[1]]
    return replace(step.first, axes=tuple(axes[i] for i in order))


def _transpose(step: _Step) -> Facts:
    axes = list(step.first.axes)
    if len(axes) > 1:
        a, b = (int(i) % len(axes) for i in step.args[1:3]) if len(step.args) > 2 else (0, 1)
        axes[a], axes[b] = axes[b], axes[a]
    return replace(step.first, axes=tuple(axes))


def _select(step: _Step) -> Facts:
    dim = step.dim(1)
    return replace(step.first, axes=(*step.first.axes[:dim], *step.first.axes[dim + 1 :]))


def _slice(step: _Step) -> Facts:
    dim = step.dim(1)
    source = step.known[0][0]
    whole = source.shape[dim]
    start, stride = int(step.arg(2, "start") or 0), int(step.arg(4, "step", 1) or 1)
    start = max(start + whole, 0) if start < 0 else min(start, whole)
    return _cut(step, dim, start if stride == 1 else 0, stride)


def _split(step: _Step) -> Facts:
    sizes = step.args[1]
    dim = step.dim(2)
    start = sizes * step.number if isinstance(sizes, int) else sum(sizes[: step.number])
    return _cut(step, dim, start, 1)


def _cut(step: _Step, dim: int, start: int, stride: int) -> Facts:
    axes = list(step.first.axes)
    whole = step.known[0][0].shape[dim]
    field = step.first.field
    if stride > 1:
        strides = _by_axis(axes[dim], stride, field)
        field = fields.enlarged(field, strides, strides)
        axes[dim] = resized(axes[dim], step.out.shape[dim])
    else:
        axes[dim] = sliced(axes[dim], start, step.out.shape[dim], whole)
    return replace(step.first, axes=tuple(axes), field=field)


def _cat(step: _Step) -> Facts | None:
    xs = list(step.args[0])
    dim = int(step.arg(1, "dim", 0)) % step.out.ndim
    known = {id(x): facts.axes for x, facts in step.known}
    each = [known.get(id(x)) or tuple(map(unknown, x.shape)) for x in xs if x.ndim == step.out.ndim]
    if len(each) != len(xs):
        return None
    rest = merged(
        list(known.values()), [1 if i == dim else n for i, n in enumerate(step.out.shape)]
    )
    along = joined([axes[dim] for axes in each], [x.shape[dim] for x in xs])
    return replace(step.first, axes=(*rest[:dim], along, *rest[dim + 1 :]))


def _stack(step: _Step) -> Facts:
    dim = int(step.arg(1, "dim", 0)) % step.out.ndim
    axes = step.first.axes
    return replace(step.first, axes=(*axes[:dim], unknown(step.out.shape[dim]), *axes[dim:]))


def _product(step: _Step) -> Facts | None:
    """Rows of the first, columns of the second; a weight's columns are channels."""
    a, b = step.args[-2:] if len(step.args) > 2 else step.args[:2]
    of = {id(x): facts for x, facts in step.known}
    left, right = of.get(id(a)), of.get(id(b))
    if left is None:
        return None
    *rows, contracted = left.axes
    inside = space_in(contracted)
    outside = [f for axis in rows for f in space_in(axis)]
    field = step.first.field
    columns: Any = (("c", step.out.shape[-1]),) if step.out.shape[-1] > 1 else ()
    if right is not None:
        # Attention: every row looks at every other, within its own window.
        in_windows = any(space_in(axis) for axis in left.axes[:-2])
        field = None if in_windows and field != ALL else ALL
        columns = right.axes[-1]
    elif inside:
        tags = {tag for tag, _ in inside}
        if tags <= {tag for tag, _ in outside}:
            sizes = [math.prod(n for t, n in inside if t == tag) for tag in _tags(field)]
            field = fields.enlarged(field, sizes, sizes)
        else:
            field = ALL
        if not any(tag == "c" for tag, _ in contracted):
            # Tokens were mixed: these columns are neither places nor channels.
            columns = unknown(step.out.shape[-1])
    return replace(step.first, axes=(*rows, columns), field=field)


def _attention(step: _Step) -> Facts:
    query = step.known[0][1]
    if step.number:
        return replace(step.first, axes=tuple(map(unknown, step.out.shape)))
    in_windows = any(space_in(axis) for axis in query.axes[:-2])
    field = None if in_windows and step.first.field != ALL else ALL
    return replace(step.first, axes=merged([query.axes], step.out.shape), field=field)


def _reduction(step: _Step) -> Facts | None:
    source = step.known[0][0]
    dims = step.arg(1, "dim")
    if isinstance(dims, bool) or (dims is not None and not isinstance(dims, (int, list, tuple))):
        return None
    wanted = range(source.ndim) if dims in (None, []) else [dims] if isinstance(dims, int) else dims
    gone = {int(i) % source.ndim for i in wanted}
    if step.out.ndim not in (source.ndim, source.ndim - len(gone)):
        return None
    keep = step.out.ndim == source.ndim
    axes = tuple(
        () if i in gone else axis for i, axis in enumerate(step.first.axes) if keep or i not in gone
    )
    over_space = any(space_in(step.first.axes[i]) for i in gone)
    return replace(step.first, axes=axes, field=ALL if over_space else step.first.field)


def _pooling(step: _Step) -> Facts:
    count = step.out.ndim - 2
    kernel = _each(step.args[1], count)
    stride = _each(step.arg(2, "stride") or kernel, count)
    facts = replace(step.first, field=fields.enlarged(step.first.field, kernel, stride))
    return replace(facts, axes=_by_shape(step.known, step.out))


def _adaptive_pooling(step: _Step) -> Facts:
    source = step.known[0][0]
    count = len(step.args[1]) if isinstance(step.args[1], (list, tuple)) else 1
    ratio = [n / m for n, m in zip(source.shape[-count:], step.out.shape[-count:])]
    whole = all(m == 1 for m in step.out.shape[-count:])
    kernel = [math.ceil(r) for r in ratio]
    field = ALL if whole else fields.enlarged(step.first.field, kernel, ratio)
    return replace(step.first, axes=_by_shape(step.known, step.out), field=field)


def _upsampling(step: _Step) -> Facts:
    source, out = step.known[0][0], step.out
    ratio = [n / m for n, m in zip(source.shape[2:], out.shape[2:])]
    field = fields.enlarged(step.first.field, [2] * len(ratio), ratio)
    return replace(step.first, axes=_by_shape(step.known, out), field=field)


_VIEWS = ("view", "_unsafe_view", "_reshape_alias", "unsqueeze", "squeeze", "reshape", "flatten")
_REDUCTIONS = ("mean", "sum", "amax", "amin", "max", "min", "var", "std", "logsumexp", "prod")
_REDUCTIONS += ("linalg_vector_norm", "argmax")
_POOLINGS = ("max_pool2d_with_indices", "max_pool3d_with_indices", "avg_pool2d", "avg_pool3d")
_POOLINGS += ("avg_pool1d", "max_pool2d")
_ADAPTIVE = tuple(
    f"{a}_{b}{n}d"
    for a in ("_adaptive", "adaptive")
    for n in "123"
    for b in ("avg_pool", "max_pool")
)
_UPSAMPLINGS = (
    "upsample_nearest1d",
    "upsample_nearest2d",
    "upsample_bilinear2d",
    "upsample_bicubic2d",
    "upsample_trilinear3d",
    "upsample_nearest3d",
    "_upsample_nearest_exact2d",
    "_upsample_bilinear2d_aa",
    "upsample_linear1d",
)
_ATTENTIONS = (
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention",
    "_scaled_dot_product_fused_attention_overrideable",
    "_native_multi_head_attention",
    "_transformer_encoder_layer_fwd",
)
_RULES: Mapping[str, Callable[[_Step], Facts | None]] = {
    **dict.fromkeys(_VIEWS, _view),
    **dict.fromkeys(_REDUCTIONS, _reduction),
    **dict.fromkeys(_POOLINGS, _pooling),
    **dict.fromkeys(_ADAPTIVE, _adaptive_pooling),
    **dict.fromkeys(_UPSAMPLINGS, _upsampling),
    **dict.fromkeys(_ATTENTIONS, _attention),
    **dict.fromkeys(("mm", "bmm", "addmm", "baddbmm", "linear"), _product),
    "permute": _permute,
    "transpose": _transpose,
    "t": _transpose,
    "select": _select,
    "unbind": lambda step: _select(step),
    "slice": _slice,
    "split": _split,
    "split_with_sizes": _split,
    "cat": _cat,
    "stack": _stack,
}
_WRITERS = ("copy_", "index_put_", "scatter_", "index_copy_", "masked_scatter_")


def _by_shape(known: Sequence[tuple[Tensor, Facts]], out: Tensor) -> Axes:
    """Follow an operation by shapes alone: element by element, or along axes that keep their use."""
    shapes = [x.shape for x, _ in known]
    try:
        broadcast = torch.broadcast_shapes(*shapes, out.shape) == out.shape
    except RuntimeError:
        broadcast = False
    if broadcast:
        return merged([facts.axes for _, facts in known], out.shape)
    source, facts = known[0]
    if source.ndim == out.ndim:
        return tuple(resized(a, n) for a, n in zip(facts.axes, out.shape, strict=True))
    return tuple(map(unknown, out.shape))


def _by_axis(axis: Any, stride: int, field: Field) -> list[int]:
    tags = {tag for tag, _ in axis}
    return [stride if tag in tags else 1 for tag in _tags(field)]


def _tags(field: Field) -> tuple[str, ...]:
    return SPACE[-len(field.extent) :] if isinstance(field, fields.Window) else ()


def _plain(x: Tensor) -> Axes:
    """Read axes as torch's convolutions do: ``(N, C, *sides)``."""
    tags = ("c", *SPACE[-(x.ndim - 2) :])
    axes = tuple(((tag, n),) if n > 1 else () for tag, n in zip(tags, x.shape[1:]))
    return ((), *axes)


def _written_axes(x: Tensor, known: Sequence[tuple[Tensor, Facts]]) -> Axes:
    sources = [facts.axes for y, facts in known if y is not x]
    return max(sources, key=len, default=tuple(map(unknown, x.shape)))


def _each(value: Any, count: int) -> list[int]:
    sides = list(value) if isinstance(value, (list, tuple)) else [value]
    return sides * count if len(sides) == 1 else sides


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


def _is_view(func: Any) -> bool:
    return bool(func.is_view)


def _storage(x: Tensor) -> int:
    return x.untyped_storage().data_ptr()


def _key(x: Tensor) -> Any:
    # Not its id(): a view is a new object each time it is asked for.
    return _storage(x), x.storage_offset(), x.shape, x.stride()
