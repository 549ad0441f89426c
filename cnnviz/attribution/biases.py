"""FullGrad: the slope of the picture, and of every bias of the network."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz import images
from cnnviz.adapter import INPUT
from cnnviz.attribution.task import Maps, Task
from cnnviz.errors import InvalidOption
from cnnviz.grids import on_grid

__all__ = ["full_grad"]

Array = NDArray[Any]


def full_grad(task: Task) -> Maps:
    """Add up what the picture and what every bias contribute.

    The facts of the result have its residue: what the score is, less what the picture and all
    biases contribute. It is zero for networks that are linear between their ReLUs and poolings.
    """
    net, ops = task.net, task.ops
    if task.pictures.ndim != 4:
        raise InvalidOption("full_grad takes pictures")
    offsets = net.offsets()
    listed = {layer.name: layer for layer in net.layers()}
    preprocessing = net.require_preprocessing()
    shift = np.asarray(preprocessing.affine()[0])
    raws, residues = [], []
    names = [name for name in offsets if listed[name].leads_to_score is not False]
    for chunk in task.chunks("full_grad", max(1, task.batch() // 2)):
        run = task.gradient(task.x(chunk.rows), chunk.rows, [INPUT, *names])
        task.record(chunk, run)
        meant = chunk.count * task.goal.each
        rows = np.repeat(chunk.rows, task.goal.each)[:meant]
        centred = task.pictures[rows] - shift
        slopes = ops.to_numpy(run.gradients[INPUT])[:meant]
        total = (slopes * centred).sum((1, 2, 3))
        raw = _shown(np.abs(slopes * centred), task.sides)
        for name in names:
            # On the device: slopes of all layers are a lot to copy.
            slope = run.gradients[name]
            part = slope * ops.asarray(np.asarray(offsets[name]))
            axes = tuple(range(1, len(slope.shape)))
            total = total + ops.to_numpy(ops.sum(part, axis=axes))[:meant]
            layer = listed[name]
            if layer.spatial and layer.rows == 1:
                placed = on_grid(net, layer, part, task.sides)
                raw = raw + _shown(ops.to_numpy(ops.abs(placed))[:meant], task.sides)
        value = ops.to_numpy(run.value)[:meant]
        raws.append(raw)
        residues.append(value - total)
    return Maps(np.concatenate(raws), facts={"residue": np.concatenate(residues)})


def _shown(contributions: Array, size: tuple[int, ...]) -> Array:
    """Scale the contributions of a layer to [0, 1], enlarge them and add the channels up."""
    axes = tuple(range(1, contributions.ndim))
    low = contributions.min(axis=axes, keepdims=True)
    high = contributions.max(axis=axes, keepdims=True) - low
    scaled = (contributions - low) / np.where(high > 0, high, 1)
    # Enlarging is linear, so one map is enlarged in place of one for each channel.
    return images.enlarge(scaled.sum(-1), size)
