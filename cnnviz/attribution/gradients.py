"""Attribution to pixels by the derivative of the score at the picture."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cnnviz import images
from cnnviz.adapter import INPUT, Layer, ReluRule
from cnnviz.attribution.cam import gradient_cam
from cnnviz.attribution.noise import noisy_batches
from cnnviz.attribution.task import Maps, Task
from cnnviz.errors import InvalidOption

__all__ = ["gradient_x_input", "guided_grad_cam", "saliency", "smooth_grad"]

Array = NDArray[Any]


def pixel_maps(values: Array, how: Literal["sum", "largest"], **facts: Array) -> Maps:
    """Make one number a pixel of numbers for each of its channels.

    Parameters
    ----------
    values : array
        ``(M, H, W, C)``.
    how : {"sum", "largest"}
        What adds up to the score is summed; of slopes the largest magnitude counts.
    """
    raw = values.sum(-1) if how == "sum" else np.abs(values).max(-1)
    empty = {i: "its gradient is zero" for i in range(len(values)) if not values[i].any()}
    return Maps(raw, values=values, empty=empty, facts=facts)


def slopes(task: Task, name: str, relu: ReluRule = "plain") -> Array:
    """Give the derivative at the pictures, ``(M, H, W, C)``."""
    found = []
    for chunk in task.chunks(name):
        run = task.gradient(task.x(chunk.rows), chunk.rows, relu=relu)
        task.record(chunk, run)
        meant = chunk.count * task.goal.each
        found.append(task.ops.to_numpy(run.gradients[INPUT])[:meant])
    values = np.concatenate(found)
    if not values.any() and task.goal.kind == "function":
        raise InvalidOption(
            "the function that is explained does not depend on any picture; is it a constant?"
        )
    return values


def saliency(task: Task) -> Maps:
    """Show the largest slope of each pixel."""
    return pixel_maps(slopes(task, "saliency"), "largest")


def gradient_x_input(task: Task) -> Maps:
    """Multiply the slope of each pixel by the pixel."""
    pictures = np.repeat(task.pictures, task.goal.each, 0)
    return pixel_maps(slopes(task, "gradient_x_input") * pictures, "sum")


def ruled(task: Task, rule: ReluRule) -> Maps:
    """Show slopes that ReLUs passed on by another rule."""
    values = slopes(task, rule, rule)
    # What is below zero came from the first layer, after all ReLUs, and is drawn as well.
    return pixel_maps(values, "largest")


def smooth_grad(
    task: Task,
    samples: int = 50,
    noise: float = 0.15,
    seed: int = 0,
    power: Literal["mean", "square", "variance"] = "mean",
) -> Maps:
    """Average the slopes of noisy pictures, or their squares, or show their variance."""
    task.fix()
    ops, each = task.ops, task.goal.each
    found = []
    for i in task.tracked("smooth_grad"):
        total: Any = None
        squares: Any = None
        for x, rows, weight in noisy_batches(task, i, samples, noise, seed):
            slope = task.gradient(x, rows).gradients[INPUT]
            shape = tuple(int(n) for n in slope.shape)
            apart = slope if each == 1 else ops.reshape(slope, (len(rows), each, *shape[1:]))
            if not weight.all():
                apart = apart * ops.asarray(weight.reshape(-1, *(1,) * (len(apart.shape) - 1)))
            summed = ops.sum(apart, axis=(0,), keepdims=each == 1)
            total = summed if total is None else total + summed
            if power != "mean":
                squared = ops.sum(apart * apart, axis=(0,), keepdims=each == 1)
                squares = squared if squares is None else squares + squared
        mean = ops.to_numpy(total) / samples
        if power == "mean":
            found.append(mean)
        else:
            square = ops.to_numpy(squares) / samples
            found.append(square if power == "square" else np.maximum(square - mean**2, 0))
    return pixel_maps(np.concatenate(found), "largest")


def guided_grad_cam(task: Task, layers: list[Layer]) -> Maps:
    """Multiply guided backpropagation by the enlarged Grad-CAM."""
    maps = gradient_cam(task, layers, "grad_cam")
    heat = np.maximum(images.enlarge(np.maximum(maps[0].raw, 0), task.sides), 0)
    values = slopes(task, "guided_grad_cam", "guided")
    found = pixel_maps(values * heat[..., None], "largest")
    found.layer = maps[0].layer
    found.empty = {**found.empty, **maps[0].empty}
    return found
