"""Ablation-CAM: channels weighted by what the score loses without each."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.adapter import INPUT, Layer
from cnnviz.attribution.masking import most_varied
from cnnviz.attribution.settings import require_channels
from cnnviz.attribution.task import Maps, Task
from cnnviz.batches import evenly, spans
from cnnviz.errors import CnnvizError, InvalidOption
from cnnviz.progress import worked

__all__ = ["ablation_cam"]

Array = NDArray[Any]
# A variant that lacks nothing has the score of the picture, but for the rounding of half types.
_SAME = 5e-3


def ablation_cam(task: Task, layers: list[Layer], channels: int | None = None) -> list[Maps]:
    """Weight channels by the share of the score that is lost without them.

    What comes before the layer runs once for a picture, what follows once for each channel;
    `Attribution.forwards` counts each of these runs of a part as one. Channels that are zero
    all over the picture add nothing and are not run.

    Parameters
    ----------
    task : Task
    layers : list of Layer
    channels : int, optional
        Only so many: those that vary most over space.

    Returns
    -------
    list of Maps
        ``sum_k w_k A_k`` with ``w_k = (y - y without channel k) / y``. Where y is zero the
        loss is not divided, and a note says so.

    Raises
    ------
    InvalidOption
        What is explained is read before a layer.
    CnnvizError
        The score of a picture hangs on what is run beside it.
    """
    require_channels(channels)
    for layer in layers:
        _require_before(task, layer)
    task.fix()
    whole = task.scores().reshape(task.count, task.goal.each)
    _note_signs(task, whole)
    taps = [layer.name for layer in layers]
    raws: dict[str, list[Array]] = {tap: [] for tap in taps}
    empty: dict[str, dict[int, str]] = {tap: {} for tap in taps}
    batches = {layer.name: task.batch(task.goal.taps, layer) for layer in layers}

    def work() -> Generator[None, None, None]:
        for i in range(task.count):
            x = task.x(np.array([i]))
            activations = task.net.forward(x, taps=taps)
            task.forwards += 1
            for layer in layers:
                native = activations[layer.name]
                a = task.ops.to_numpy(task.on_grid(layer, native))[0]
                some = _active(a, channels)
                go_on = task.net.resume(x, at=layer.name, taps=task.goal.taps)
                task.forwards += 1
                # With the one that lacks nothing.
                most = 1 + min(channels or a.shape[-1], a.shape[-1])
                batch = evenly(most, batches[layer.name])
                scores = yield from _without(task, i, native, some, go_on, batch)
                _require_apart(task, layer, scores, whole[i])
                loss = whole[i] - scores[1:]
                weights = loss / np.where(whole[i] == 0, 1, whole[i])
                raws[layer.name].append(np.moveaxis(a[..., some] @ weights.astype(a.dtype), -1, 0))
                for k in np.flatnonzero(~loss.any(0)).tolist():
                    why = "the score is the same without any channel"
                    empty[layer.name][i * task.goal.each + k] = why

    chunks = sum(-(-(1 + (channels or n.channels or 1)) // batches[n.name]) for n in layers)
    worked(work(), f"ablation_cam {task.net.name}", task.count * chunks)
    return [Maps(np.concatenate(raws[tap]), tap, empty[tap]) for tap in taps]


def _without(
    task: Task,
    row: int,
    native: Any,
    channels: NDArray[np.intp],
    go_on: Callable[[Any], Mapping[str, Any]],
    batch: int,
) -> Generator[None, None, Array]:
    """Give the scores ``(1 + channels, K)``: with all channels, then without one after another."""
    width = int(native.shape[-1])
    middle = (1,) * (len(native.shape) - 2)
    found = []
    for some, count in spans(1 + len(channels), batch, task.net.compiled):
        kept = np.ones((len(some), width))
        lacking = np.flatnonzero(some)
        kept[lacking, channels[some[lacking] - 1]] = 0
        factor = task.ops.asarray(kept.reshape(len(some), *middle, width))
        activations = go_on(native * factor)
        task.forwards += len(some)
        found.append(task.scored(activations, np.full(len(some), row))[:count])
        yield
    return np.concatenate(found)


def _active(a: Array, channels: int | None) -> NDArray[np.intp]:
    flat = a.reshape(-1, a.shape[-1])
    return most_varied(flat, np.flatnonzero(flat.any(0)), channels)


def _require_before(task: Task, layer: Layer) -> None:
    order = {one.name: i for i, one in enumerate(task.net.layers())}
    for tap in task.goal.taps:
        if tap == INPUT or order.get(tap, len(order)) < order[layer.name]:
            raise InvalidOption(
                f"what is explained is read at {tap!r}, before {layer.name!r}; ablation_cam"
                " takes a layer before all of it"
            )


def _require_apart(task: Task, layer: Layer, scores: Array, whole: Array) -> None:
    """Raise unless the variant that lacks nothing has the score of the picture."""
    scale = max(float(np.abs(scores).max()), float(np.abs(whole).max()))
    off = float(np.abs(scores[0] - whole).max())
    if off > _SAME * scale:
        raise CnnvizError(
            f"run on from {layer.name!r} with nothing removed, {task.net.name} gives a score that"
            f" is off by {off:.2g}: it computes something across the batch; take batch=1, or"
            " another method"
        )


def _note_signs(task: Task, whole: Array) -> None:
    for i, score in enumerate(whole.ravel().tolist()):
        if score == 0:
            task.notes.append(
                f"the score of map {i} is zero, of which nothing is a share: channels are"
                " weighted by what the score loses without them"
            )
        elif score < 0:
            task.notes.append(
                f"the score of map {i} is below zero, so channels that raise it have weights"
                " below zero, as in the paper; score='probability' is never below"
            )
