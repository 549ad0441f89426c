"""What each kind of operation makes of the axes and of the receptive field of a tensor."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from cnnviz import fields
from cnnviz.fields import ALL, Field, Taps
from cnnviz_torch import resampling
from cnnviz_torch.axes import (
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
from cnnviz_torch.facts import Facts, Step, laid_out
from cnnviz_torch.windows import (
    along,
    joined_fields,
    tags,
)

__all__ = ["OF_MANY", "RULES"]


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
    **dict.fromkeys(_POOLINGS, resampling.pooling),
    **dict.fromkeys(_ADAPTIVE, resampling.adaptive_pooling),
    **dict.fromkeys(_NEAREST, partial(resampling.upsampling, among=1)),
    **dict.fromkeys(_LINEAR, partial(resampling.upsampling, among=2)),
    "upsample_bicubic2d": partial(resampling.upsampling, among=4),
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
    **dict.fromkeys(_PADDINGS, resampling.padding),
    **dict.fromkeys(_NORMS, resampling.normed),
    **dict.fromkeys(_MOVES, resampling.moved),
    "pixel_shuffle": resampling.shuffled,
    "pixel_unshuffle": resampling.shuffled,
    "im2col": resampling.unfolded,
    "col2im": resampling.folded,
}
OF_MANY = (_cat, _stack, _product)
"""Rules of operations whose first tensor may not come from the picture."""


def _by_axis(axis: Any, stride: int, field: Field) -> list[int]:
    inside = {tag for tag, _ in space_in(axis)}
    return [stride if tag in inside else 1 for tag in tags(field)]
