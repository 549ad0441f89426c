"""What operations make of a field that take each place of others, or put places elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cnnviz import fields, taps
from cnnviz.fields import ALL, Taps
from cnnviz_torch.axes import space_in
from cnnviz_torch.facts import Facts, Step, by_shape, plain
from cnnviz_torch.windows import each, interpolated, taken_along

__all__ = [
    "adaptive_pooling",
    "folded",
    "moved",
    "normed",
    "padding",
    "pooling",
    "shuffled",
    "unfolded",
    "upsampling",
]


def normed(step: Step) -> Facts:
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


def moved(step: Step) -> Facts:
    """Follow what puts places elsewhere."""
    axes = by_shape(step.known, step.out)
    return replace(step.first, axes=axes, field=fields.unplaced(step.first.field))


def pooling(step: Step) -> Facts:
    """Follow a pooling over windows."""
    # Torch pools a signal as a picture of height one.
    count = int(step.name.split("_pool")[1][0])
    kernel = each(step.args[1], count)
    stride = each(step.arg(2, "stride") or kernel, count)
    padding = each(step.arg(3, "padding", 0), count)
    dilation = each(step.arg(4, "dilation", 1) if step.name.startswith("max") else 1, count)
    made = [
        Taps(((-b, (k - 1) * d - b),), s)
        for k, s, b, d in zip(kernel, stride, padding, dilation, strict=True)
    ]
    return _resampled(step, made)


def adaptive_pooling(step: Step) -> Facts:
    """Follow a pooling to a size; to a single place, it sees all."""
    source = step.known[0][0]
    count = len(step.args[1]) if isinstance(step.args[1], (list, tuple)) else 1
    if all(m == 1 for m in step.out.shape[-count:]):
        return replace(step.first, axes=by_shape(step.known, step.out), field=ALL)
    sides = zip(source.shape[-count:], step.out.shape[-count:], strict=True)
    return _resampled(step, [taps.adaptive(n, m) for n, m in sides])


def upsampling(step: Step, among: int) -> Facts:
    """Every place is made of `among` neighbours along each axis."""
    source = step.known[0][0]
    made = interpolated(source, step.out, among, step.args[2:], "exact" in step.name)
    return _resampled(step, made)


def _resampled(step: Step, made: Sequence[Taps]) -> Facts:
    field = taken_along(step.first.axes, step.first.field, made)
    return replace(step.first, axes=by_shape(step.known, step.out), field=field)


def padding(step: Step) -> Facts | None:
    """Follow zeros, or the places themselves, put before and after; or places cut off."""
    pairs = list(zip(step.args[1][::2], step.args[1][1::2], strict=True))[::-1]
    axes = step.first.axes
    start = len(axes) - len(pairs)
    if any(
        any(pair) and not isinstance(axes[start + i][0][0], str)
        for i, pair in enumerate(pairs)
        if axes[start + i]
    ):
        return moved(step)
    if step.name == "constant_pad_nd":
        return _resampled(step, [Taps(((-before,) * 2,), 1) for before, _ in pairs])
    sides = step.known[0][0].shape[start:]
    mirrored = step.name.startswith("reflection")
    return _resampled(
        step,
        [taps.beyond(n, *pair, mirrored=mirrored) for n, pair in zip(sides, pairs, strict=True)],
    )


def shuffled(step: Step) -> Facts:
    """Follow `torch.nn.PixelShuffle` and its inverse."""
    factor = int(step.args[1])
    made = Taps(((0, 0),) * factor, 1)
    if step.name == "pixel_unshuffle":
        made = Taps(((0, factor - 1),), factor)
    return _resampled(step, [made, made])


def unfolded(step: Step) -> Facts | None:
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


def folded(step: Step) -> Facts:
    """Follow `torch.nn.Fold`, whose patches overlap."""
    return replace(step.first, axes=plain(step.out), field=fields.unplaced(step.first.field))
