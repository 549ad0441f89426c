"""What each kind of operation makes of the axes and of the receptive field of a tensor."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from cnnviz import fields, taps
from cnnviz.fields import ALL, Field, Taps
from cnnviz_torch.axes import (
    SPACE,
    Axes,
    Axis,
    joined,
    merged,
    resized,
    sliced,
    space_in,
    unknown,
    viewed,
)
from cnnviz_torch.windows import (
    along,
    each,
    interpolated,
    joined_fields,
    tags,
    taken_along,
)

__all__ = ["OF_MANY", "RULES", "Facts", "Step", "by_shape", "laid_out", "plain"]


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


@dataclass(frozen=True)
class Step:
    """One output of one operation, as its rule sees it."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    known: Sequence[tuple[Tensor, Facts]]
    first: Facts
    out: Tensor
    number: int
    name: str = ""

    def arg(self, place: int, name: str, default: Any = None) -> Any:
        """Give an argument by its place or its name."""
        return self.args[place] if len(self.args) > place else self.kwargs.get(name, default)

    def dim(self, place: int, default: int = 0) -> int:
        """Give an argument that is an axis, counted from 0."""
        return int(self.arg(place, "dim", default)) % max(len(self.first.axes), 1)


def _view(step: Step) -> Facts:
    return replace(step.first, axes=viewed(step.first.axes, step.out.shape))


def _permute(step: Step) -> Facts:
    axes = step.first.axes
    order = [int(i) % len(axes) for i in step.args[1]]
    return replace(step.first, axes=tuple(axes[i] for i in order))


def _transpose(step: Step) -> Facts:
    axes = list(step.first.axes)
    if len(axes) > 1:
        a, b = (int(i) % len(axes) for i in step.args[1:3]) if len(step.args) > 2 else (0, 1)
        axes[a], axes[b] = axes[b], axes[a]
    return replace(step.first, axes=tuple(axes))


def _select(step: Step) -> Facts:
    dim = step.dim(1)
    axes = step.first.axes
    field = step.first.field
    if space_in(axes[dim]):
        field = fields.unplaced(field)
    return replace(step.first, axes=(*axes[:dim], *axes[dim + 1 :]), field=field)


def _slice(step: Step) -> Facts:
    dim = step.dim(1)
    source = step.known[0][0]
    whole = source.shape[dim]
    start, stride = int(step.arg(2, "start") or 0), int(step.arg(4, "step", 1) or 1)
    start = max(start + whole, 0) if start < 0 else min(start, whole)
    return _cut(step, dim, start, stride)


def _split(step: Step) -> Facts:
    sizes = step.args[1]
    dim = step.dim(2)
    start = sizes * step.number if isinstance(sizes, int) else sum(sizes[: step.number])
    return _cut(step, dim, start, 1)


def _cut(step: Step, dim: int, start: int, stride: int) -> Facts:
    axes = list(step.first.axes)
    before = axes[dim]
    whole, left = step.known[0][0].shape[dim], step.out.shape[dim]
    axes[dim] = resized(before, left) if stride > 1 else sliced(before, start, left, whole)
    field = step.first.field
    if space_in(before) and (left != whole) and not _tokens_cut(before, axes[dim]):
        field = _field_of_slice(step, dim, start, stride)
    return replace(step.first, axes=tuple(axes), field=field)


def _tokens_cut(axis: Axis, after: Axis) -> bool:
    """Say whether a slice has taken other tokens from a grid, and left the grid."""
    return not isinstance(axis[0][0], str) and space_in(axis) == space_in(after)


def _field_of_slice(step: Step, dim: int, start: int, stride: int) -> Field:
    axes, field = step.first.axes, step.first.field
    lies = along(axes, field)
    if lies is None or dim not in lies:
        # What is left out may come back as another slice.
        strides = _by_axis(axes[dim], stride, field)
        return fields.enlarged(fields.unplaced(field), strides, strides)
    cut, still = Taps(((start, start),), stride), Taps(((0, 0),), 1)
    return fields.taken(field, [cut if i == dim else still for i in lies])


def _cat(step: Step) -> Facts | None:
    xs = list(step.args[0])
    dim = int(step.arg(1, "dim", 0)) % step.out.ndim
    known = {id(x): facts.axes for x, facts in step.known}
    each = [known.get(id(x)) or tuple(map(unknown, x.shape)) for x in xs if x.ndim == step.out.ndim]
    if len(each) != len(xs):
        return None
    rest = merged(
        list(known.values()), [1 if i == dim else n for i, n in enumerate(step.out.shape)]
    )
    joint = joined([axes[dim] for axes in each], [x.shape[dim] for x in xs])
    return laid_out(step, (*rest[:dim], joint, *rest[dim + 1 :]))


def _stack(step: Step) -> Facts:
    dim = int(step.arg(1, "dim", 0)) % step.out.ndim
    new = unknown(step.out.shape[dim])

    def opened(axes: Axes) -> Axes:
        return (*axes[:dim], new, *axes[dim:])

    parts = [
        (opened(facts.axes), (*x.shape[:dim], 1, *x.shape[dim:]), facts.field)
        for x, facts in step.known
    ]
    axes = opened(step.first.axes)
    return replace(step.first, axes=axes, field=joined_fields(parts, axes))


def _product(step: Step) -> Facts | None:
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
        if {tag for tag, _ in inside} <= {tag for tag, _ in outside}:
            sizes = [math.prod(n for t, n in inside if t == tag) for tag in tags(field)]
            field = fields.enlarged(field, sizes, sizes)
        else:
            field = ALL
    if right is None and not _channels(contracted) and (inside or any(map(_channels, rows))):
        # Tokens were mixed: these columns are neither places nor channels.
        columns = unknown(step.out.shape[-1])
    return replace(step.first, axes=(*rows, columns), field=field)


def _channels(axis: Axis) -> bool:
    return any(tag == "c" for tag, _ in axis)


def _attention(step: Step) -> Facts:
    query = step.known[0][1]
    if step.number:
        return replace(step.first, axes=tuple(map(unknown, step.out.shape)))
    in_windows = any(space_in(axis) for axis in query.axes[:-2])
    field = None if in_windows and step.first.field != ALL else ALL
    return replace(step.first, axes=merged([query.axes], step.out.shape), field=field)


def _reduction(step: Step) -> Facts | None:
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


def _normed(step: Step) -> Facts:
    """Follow what scales by statistics: over the picture, or over some of the axes."""
    field = step.first.field
    name = step.name
    if name == "native_group_norm" or (name == "native_batch_norm" and step.arg(5, "training")):
        field = ALL
    elif name == "native_layer_norm":
        inner = step.first.axes[-len(step.args[1]) :]
        field = ALL if any(map(space_in, inner)) else field
    elif name in ("_softmax", "_log_softmax", "cumsum", "cumprod"):
        field = ALL if space_in(step.first.axes[step.dim(1)]) else field
    return replace(step.first, axes=by_shape(step.known, step.out), field=field)


def _moved(step: Step) -> Facts:
    """Follow what puts places elsewhere."""
    axes = by_shape(step.known, step.out)
    return replace(step.first, axes=axes, field=fields.unplaced(step.first.field))


def _pooling(step: Step) -> Facts:
    count = len(each(step.args[1], 1)) if "1d" in step.name else int(step.name.split("_pool")[1][0])
    kernel = each(step.args[1], count)
    stride = each(step.arg(2, "stride") or kernel, count)
    padding = each(step.arg(3, "padding", 0), count)
    dilation = each(step.arg(4, "dilation", 1) if step.name.startswith("max") else 1, count)
    made = [
        Taps(((-b, (k - 1) * d - b),), s)
        for k, s, b, d in zip(kernel, stride, padding, dilation, strict=True)
    ]
    return _resampled(step, made)


def _adaptive_pooling(step: Step) -> Facts:
    source = step.known[0][0]
    count = len(step.args[1]) if isinstance(step.args[1], (list, tuple)) else 1
    if all(m == 1 for m in step.out.shape[-count:]):
        return replace(step.first, axes=by_shape(step.known, step.out), field=ALL)
    sides = zip(source.shape[-count:], step.out.shape[-count:], strict=True)
    return _resampled(step, [taps.adaptive(n, m) for n, m in sides])


def _upsampling(step: Step, among: int) -> Facts:
    """Every place is made of `among` neighbours along each axis."""
    source = step.known[0][0]
    made = interpolated(source, step.out, among, step.args[2:], "exact" in step.name)
    return _resampled(step, made)


def _resampled(step: Step, made: Sequence[Taps]) -> Facts:
    field = taken_along(step.first.axes, step.first.field, made)
    return replace(step.first, axes=by_shape(step.known, step.out), field=field)


def _padding(step: Step) -> Facts | None:
    """Follow zeros, or the places themselves, put before and after; or places cut off."""
    pairs = list(zip(step.args[1][::2], step.args[1][1::2], strict=True))[::-1]
    axes = step.first.axes
    start = len(axes) - len(pairs)
    if any(
        any(pair) and not isinstance(axes[start + i][0][0], str)
        for i, pair in enumerate(pairs)
        if axes[start + i]
    ):
        return _moved(step)
    if step.name == "constant_pad_nd":
        return _resampled(step, [Taps(((-before,) * 2,), 1) for before, _ in pairs])
    sides = step.known[0][0].shape[start:]
    mirrored = step.name.startswith("reflection")
    return _resampled(
        step,
        [taps.beyond(n, *pair, mirrored=mirrored) for n, pair in zip(sides, pairs, strict=True)],
    )


def _shuffled(step: Step) -> Facts:
    """Follow `torch.nn.PixelShuffle` and its inverse."""
    factor = int(step.args[1])
    made = Taps(((0, 0),) * factor, 1)
    if step.name == "pixel_unshuffle":
        made = Taps(((0, factor - 1),), factor)
    return _resampled(step, [made, made])


def _unfolded(step: Step) -> Facts | None:
    """Follow the patches of `torch.nn.Unfold`: ``(N, C * kh * kw, places)``."""
    source = step.known[0][0]
    if source.ndim != 4:
        return None
    kernel, dilation, padding, stride = (each(v, 2) for v in step.args[1:5])
    spread = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    places = tuple(
        (tag, (n + 2 * p - s) // t + 1)
        for tag, n, p, s, t in zip("hw", source.shape[2:], padding, spread, stride, strict=True)
    )
    made = [Taps(((-p, s - 1 - p),), t) for p, s, t in zip(padding, spread, stride, strict=True)]
    field = taken_along(step.first.axes, step.first.field, made)
    axes = ((), (("c", step.out.shape[1]),), tuple(f for f in places if f[1] > 1))
    return replace(step.first, axes=axes, field=field)


def _folded(step: Step) -> Facts:
    return replace(step.first, axes=plain(step.out), field=fields.unplaced(step.first.field))


_VIEWS = ("view", "_unsafe_view", "_reshape_alias", "unsqueeze", "squeeze", "reshape", "flatten")
_REDUCTIONS = ("mean", "sum", "amax", "amin", "max", "min", "var", "std", "logsumexp", "prod")
_POOLINGS = tuple(
    f"{kind}_pool{n}d{tail}"
    for kind in ("avg", "max")
    for n in (1, 2, 3)
    for tail in ("", "_with_indices")
)
_ADAPTIVE = tuple(
    f"{start}adaptive_{kind}_pool{n}d"
    for start in ("", "_")
    for kind in ("avg", "max")
    for n in (1, 2, 3)
)
_NEAREST = tuple(
    f"{start}{n}d" for start in ("upsample_nearest", "_upsample_nearest_exact") for n in (1, 2, 3)
)
_PADDINGS = (
    "constant_pad_nd",
    *(f"{kind}_pad{n}d" for kind in ("reflection", "replication") for n in (1, 2, 3)),
)
_NORMS = (
    "native_batch_norm",
    "native_group_norm",
    "native_layer_norm",
    "_softmax",
    "_log_softmax",
    "cumsum",
    "cumprod",
)
_MOVES = ("roll", "flip", "index", "index_select", "gather", "take", "sort", "grid_sampler_2d")
_LINEAR = ("upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d")
_ATTENTIONS = (
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention",
    "_native_multi_head_attention",
    "_transformer_encoder_layer_fwd",
)
RULES: Mapping[str, Callable[[Step], Facts | None]] = {
    **dict.fromkeys(_VIEWS, _view),
    **dict.fromkeys((*_REDUCTIONS, "linalg_vector_norm", "argmax"), _reduction),
    **dict.fromkeys(_POOLINGS, _pooling),
    **dict.fromkeys(_ADAPTIVE, _adaptive_pooling),
    **dict.fromkeys(_NEAREST, partial(_upsampling, among=1)),
    **dict.fromkeys(_LINEAR, partial(_upsampling, among=2)),
    "upsample_bicubic2d": partial(_upsampling, among=4),
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
    **dict.fromkeys(_PADDINGS, _padding),
    **dict.fromkeys(_NORMS, _normed),
    **dict.fromkeys(_MOVES, _moved),
    "pixel_shuffle": _shuffled,
    "pixel_unshuffle": _shuffled,
    "im2col": _unfolded,
    "col2im": _folded,
}
OF_MANY = (_cat, _stack, _product)
"""Rules of operations whose first tensor may not come from the picture."""


def by_shape(known: Sequence[tuple[Tensor, Facts]], out: Tensor) -> Axes:
    """Follow an operation by shapes alone: by element, or along axes that keep their use."""
    shapes = [x.shape for x, _ in known]
    try:
        shape = torch.broadcast_shapes(*shapes, out.shape)  # type: ignore[no-untyped-call]
        broadcast = shape == out.shape
    except RuntimeError:
        broadcast = False
    if broadcast:
        return merged([facts.axes for _, facts in known], out.shape)
    source, facts = known[0]
    if source.ndim == out.ndim:
        return tuple(resized(a, n) for a, n in zip(facts.axes, out.shape, strict=True))
    return tuple(map(unknown, out.shape))


def _by_axis(axis: Any, stride: int, field: Field) -> list[int]:
    inside = {tag for tag, _ in space_in(axis)}
    return [stride if tag in inside else 1 for tag in tags(field)]


def laid_out(step: Step, axes: Axes) -> Facts:
    """Give the facts of what is made place by place, once its axes are known."""
    parts = [(facts.axes, x.shape, facts.field) for x, facts in step.known]
    return replace(step.first, axes=axes, field=joined_fields(parts, axes))


def plain(x: Tensor) -> Axes:
    """Read axes as torch's convolutions do: ``(N, C, *sides)``."""
    tags = ("c", *SPACE[-(x.ndim - 2) :])
    sides = zip(tags, x.shape[1:], strict=True)
    return ((), *(((tag, n),) if n > 1 else () for tag, n in sides))
