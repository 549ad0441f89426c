"""Maps by principal components: what most of a layer's activation has in common."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.adapter import Layer
from cnnviz.attribution.cam import gradient_maps
from cnnviz.attribution.task import Maps, Task

__all__ = ["eigen_cam", "eigen_grad_cam", "first_component"]

Array = NDArray[Any]


def first_component(x: Array, centred: bool = False) -> Array:
    """Project ``(N, *grid, C)`` on the first right singular vector of each, to ``(N, *grid)``.

    Its sign is free; it is chosen so that the map points the way of the mean channel.
    """
    found = []
    for one in x:
        flat = one.reshape(-1, one.shape[-1])
        moved = flat - flat.mean(0) if centred else flat
        _, vectors = np.linalg.eigh(
            moved.T @ moved if len(flat) >= flat.shape[1] else moved @ moved.T
        )
        last = vectors[:, -1]
        if len(flat) >= flat.shape[1]:
            line = moved @ last
        else:
            # The short way round: places are fewer than channels.
            direction = moved.T @ last
            size = np.linalg.norm(direction)
            line = moved @ (direction / size) if size > 0 else np.zeros(len(flat))
        mean = moved.mean(1)
        if line @ mean < 0:
            line = -line
        found.append(line.reshape(one.shape[:-1]).astype(x.dtype))
    return np.stack(found)


def eigen_cam(task: Task, layers: list[Layer], centred: bool = False) -> list[Maps]:
    """Show the first principal component of the activations, whatever the class."""
    task.notes.append("eigen_cam does not depend on the class")
    raw: dict[str, list[Array]] = {layer.name: [] for layer in layers}
    for chunk in task.chunks("eigen_cam"):
        taps = [layer.name for layer in layers]
        found = task.net.forward(task.x(chunk.rows), taps=[*taps, *task.goal.taps])
        task.forwards += len(chunk.rows)
        for layer in layers:
            a = task.ops.to_numpy(task.on_grid(layer, found[layer.name]))[: chunk.count]
            raw[layer.name].append(np.repeat(first_component(a, centred), task.goal.each, 0))
    return [Maps(np.concatenate(raw[layer.name]), layer.name) for layer in layers]


def eigen_grad_cam(task: Task, layers: list[Layer], centred: bool = False) -> list[Maps]:
    """Show the first principal component of activations times slopes."""

    def product(ops: Any, a: Any, g: Any) -> Any:
        return a * g

    found = gradient_maps(task, layers, "eigen_grad_cam", product)
    for maps in found:
        maps.raw = first_component(maps.raw, centred)
    return found
