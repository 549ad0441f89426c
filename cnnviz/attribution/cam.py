"""Class activation maps: what a layer's channels show, weighted by what the score makes of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.adapter import LOGITS, Adapter, Layer, Ops
from cnnviz.attribution.task import Chunk, Maps, Task
from cnnviz.errors import InvalidOption
from cnnviz.scores import class_scores

__all__ = ["RULES", "cam", "finer_cam", "gradient_cam", "shapley_cam", "smooth_grad_cam_pp"]

Array = NDArray[Any]
# In place of a zero below a fraction whose upper part is zero as well.
_TINY = float(np.finfo(np.float32).tiny)
Rule = Callable[[Ops[Any], Any, Any], Any]
"""From activations and slopes ``(N, *grid, C)`` to raw maps ``(N, *grid)``."""


def space(x: Any) -> tuple[int, ...]:
    """Give the axes of space."""
    return tuple(range(1, len(x.shape) - 1))


def _over_channels(ops: Ops[Any], x: Any) -> Any:
    return ops.sum(x, axis=(len(x.shape) - 1,))


def _positive(ops: Ops[Any], x: Any) -> Any:
    return ops.maximum(x, 0.0)


def _grad_cam(ops: Ops[Any], a: Any, g: Any) -> Any:
    return _over_channels(ops, a * ops.mean(g, axis=space(a), keepdims=True))


def grad_cam_pp_weights(ops: Ops[Any], a: Any, g: Any, ratio: Any) -> Any:
    """Give the weights of Grad-CAM++ ``(N, 1, 1, C)``.

    The paper's share ``g^2 / (2 g^2 + S g^3)`` is ``1 / (2 + S ratio)``, which no small slope
    underflows; `ratio` is g, or the mean of ``g^3`` over that of ``g^2``. Where g is zero, so is
    what the share is multiplied by.
    """
    total = ops.sum(a, axis=space(a), keepdims=True)
    return ops.sum(_positive(ops, g) / (total * ratio + 2.0), axis=space(a), keepdims=True)


def _grad_cam_pp(ops: Ops[Any], a: Any, g: Any) -> Any:
    return _over_channels(ops, a * grad_cam_pp_weights(ops, a, g, _positive(ops, g)))


def _hires_cam(ops: Ops[Any], a: Any, g: Any) -> Any:
    return _over_channels(ops, g * a)


def _elementwise(ops: Ops[Any], a: Any, g: Any) -> Any:
    return _over_channels(ops, _positive(ops, g * a))


def _xgrad_cam(ops: Ops[Any], a: Any, g: Any) -> Any:
    total = ops.sum(a, axis=space(a), keepdims=True)
    # A channel that is nowhere active adds nothing, whatever its weight.
    weights = ops.sum(g * a, axis=space(a), keepdims=True) / (total + _TINY)
    return _over_channels(ops, a * weights)


def _layer_cam(ops: Ops[Any], a: Any, g: Any) -> Any:
    return _over_channels(ops, _positive(ops, g) * a)


RULES: Mapping[str, Rule] = {
    "grad_cam": _grad_cam,
    "grad_cam_pp": _grad_cam_pp,
    "hires_cam": _hires_cam,
    "elementwise": _elementwise,
    "xgrad_cam": _xgrad_cam,
    "layer_cam": _layer_cam,
}
"""The methods that are one forward, one backward to the layer, and one formula."""


def gradient_cam(task: Task, layers: list[Layer], rule: str) -> list[Maps]:
    """Run one of the formulas, for several layers with one backward."""
    return gradient_maps(task, layers, rule, RULES[rule])


def gradient_maps(
    task: Task, layers: list[Layer], name: str, rule: Rule, curvature: bool = False
) -> list[Maps]:
    """Give the maps of a rule at some layers.

    With `curvature` the rule is given slopes less half of what bends them.
    """
    ops, found = task.ops, _Found(layers)
    taps = [layer.name for layer in layers]
    for chunk in task.chunks(name, task.batch(task.goal.taps)):
        x = task.x(chunk.rows)
        run = task.gradient(x, chunk.rows, taps, taps, curvature=curvature)
        task.record(chunk, run)
        for layer in layers:
            slope = task.on_grid(layer, run.gradients[layer.name])
            a = task.repeated(task.on_grid(layer, run.activations[layer.name]))
            if curvature:
                slope = slope - task.on_grid(layer, run.curvatures[layer.name]) * 0.5
            found.add(layer, chunk, task, rule(ops, a, slope), slope)
    return found.maps(task)


class _Found:
    """Raw maps chunk by chunk, and whether there was any slope."""

    def __init__(self, layers: list[Layer]) -> None:
        self.layers = layers
        self.raw: dict[str, list[Array]] = {layer.name: [] for layer in layers}
        self.strength: dict[str, list[Array]] = {layer.name: [] for layer in layers}

    def add(self, layer: Layer, chunk: Chunk, task: Task, raw: Any, slope: Any) -> None:
        ops, meant = task.ops, chunk.count * task.goal.each
        axes = tuple(range(1, len(slope.shape)))
        self.raw[layer.name].append(ops.to_numpy(raw)[:meant])
        self.strength[layer.name].append(ops.to_numpy(ops.max(ops.abs(slope), axis=axes))[:meant])

    def maps(self, task: Task) -> list[Maps]:
        found = []
        for layer in self.layers:
            strength = np.concatenate(self.strength[layer.name])
            if not strength.any() and task.goal.kind == "function":
                raise InvalidOption(
                    f"the function that is explained does not depend on {layer.name!r} in any"
                    " picture; is it a constant?"
                )
            empty = dict.fromkeys(np.flatnonzero(strength == 0).tolist(), "its gradient is zero")
            found.append(Maps(np.concatenate(self.raw[layer.name]), layer.name, empty))
        return found


def smooth_grad_cam_pp(
    task: Task, layers: list[Layer], samples: int = 25, noise: float = 0.15, seed: int = 0
) -> list[Maps]:
    """Run Grad-CAM++ on the mean powers of the slopes of noisy pictures."""
    from cnnviz.attribution.noise import noisy_batches

    task.fix()
    ops, found = task.ops, _Found(layers)
    taps = [layer.name for layer in layers]
    for i in task.tracked("smooth_grad_cam_pp"):
        row = np.array([i])
        clean = task.net.forward(task.x(row), taps=taps)
        task.forwards += 1
        powers: dict[str, list[Any]] = {tap: [] for tap in taps}
        for x, rows, weight in noisy_batches(task, i, samples, noise, seed):
            run = task.gradient(x, rows, taps)
            for layer in layers:
                g = task.on_grid(layer, run.gradients[layer.name])
                shape = tuple(int(n) for n in g.shape)
                apart = ops.reshape(g, (len(rows), task.goal.each, *shape[1:]))
                count = ops.reshape(ops.asarray(weight / samples), (len(rows), *(1,) * len(shape)))
                sums = [ops.sum(apart**k * count, axis=(0,)) for k in (1, 2, 3)]
                known = powers[layer.name]
                powers[layer.name] = (
                    [one + more for one, more in zip(known, sums, strict=True)] if known else sums
                )
        for layer in layers:
            a = task.repeated(task.on_grid(layer, clean[layer.name]))
            g, g2, g3 = powers[layer.name]
            weights = grad_cam_pp_weights(ops, a, g, g3 / (g2 + _TINY))
            found.add(layer, Chunk(row, 1), task, _over_channels(ops, a * weights), g)
    return found.maps(task)


def shapley_cam(task: Task, layers: list[Layer]) -> list[Maps]:
    """Weight channels by their mean slope, less half of how it changes with the activation."""
    require_one_class(task.goal.each)
    return gradient_maps(task, layers, "shapley_cam", _grad_cam, curvature=True)


def require_one_class(each: int) -> None:
    """Raise InvalidOption where ShapleyCAM would explain several classes of a picture."""
    if each > 1:
        raise InvalidOption("shapley_cam explains one class of each picture at a time")


def require_logits(task: Task, name: str) -> None:
    """Raise InvalidOption unless the logits of classes are explained."""
    if not task.goal.of_classes or task.goal.kind != "logit":
        raise InvalidOption(f"{name} explains the logits of classes; use grad_cam")


def finer_cam(
    task: Task, layers: list[Layer], others: int = 3, gamma: float = 0.6, base: str = "grad_cam"
) -> list[Maps]:
    """Explain a class against those that score closest to it."""
    if base not in RULES:
        raise InvalidOption(f"no method {base!r} to refine; there are {', '.join(RULES)}")
    require_logits(task, "FinerCAM")
    task.fix()
    logits, classes = task.logits(), task.goal.classes
    assert classes is not None
    count = logits.shape[1]
    if not 0 < others < count:
        raise InvalidOption(f"others must be in 1..{count - 1}, not {others}")
    weights = np.zeros((*classes.shape, count))
    for i, row in enumerate(classes):
        for k, c in enumerate(row):
            apart = np.abs(logits[i] - logits[i, c])
            apart[c] = np.inf
            closest = np.argsort(apart, kind="stable")[:others]
            weights[i, k, closest] = -gamma / others
            weights[i, k, c] = 1
    task.scores()
    task.weigh(weights)
    return gradient_cam(task, layers, base)


def cam(task: Task, layers: list[Layer]) -> list[Maps]:
    """Weight channels by the classifier's own weights."""
    adapter, ops = task.net, task.ops
    if len(layers) > 1:
        raise InvalidOption("CAM is defined at one layer; name one")
    require_logits(task, "CAM")
    (layer,) = layers
    kernel, bias = classifier(adapter)
    raws, strength = [], []
    for chunk in task.chunks("cam", task.batch()):
        found = adapter.forward(task.x(chunk.rows), taps=[layer.name, LOGITS])
        task.forwards += len(chunk.rows)
        logits = ops.to_numpy(class_scores(ops, found[LOGITS]))
        maps = ops.to_numpy(task.on_grid(layer, found[layer.name]))
        rough = max(_rounding(logits), _rounding(maps))
        if maps.shape[-1] != len(kernel) or not np.allclose(
            maps.mean(axis=space(maps)) @ kernel + bias,
            logits,
            rtol=rough,
            atol=rough * float(np.abs(logits).max()),
        ):
            raise InvalidOption(
                f"the scores of {adapter.name} are not a dense layer of the mean of"
                f" {layer.name!r}, so CAM is not defined; use grad_cam"
            )
        known = task.goal.classes
        classes = logits.argmax(1)[:, None] if known is None else known[chunk.rows]
        weights = kernel.T[classes]
        raw = np.einsum("n...c,nkc->nk...", maps, weights)
        task.note_scores(chunk, np.take_along_axis(logits, classes, 1), logits)
        raws.append(raw[: chunk.count].reshape(-1, *raw.shape[2:]))
        strength.append(np.abs(weights).max(2)[: chunk.count].ravel())
    zero = np.flatnonzero(np.concatenate(strength) == 0)
    empty = dict.fromkeys(zero.tolist(), "its gradient is zero")
    return [Maps(np.concatenate(raws), layer.name, empty)]


def _rounding(numbers: Array) -> float:
    """Give the share by which sums may be off, by what the numbers were rounded to.

    Their type does not tell: short floats come out as float32.
    """
    single = numbers.astype(np.float32)
    # Four units in the last place of eight bits, or of eleven.
    if not (single.view(np.uint32) & 0xFFFF).any():
        return 2**-5
    with np.errstate(over="ignore"):
        return 2**-8 if (single.astype(np.float16) == single).all() else 1e-3


def classifier(net: Adapter[Any]) -> tuple[NDArray[Any], NDArray[Any] | float]:
    """Find the dense layer that gives the class scores: its kernel (K, classes) and bias."""
    for layer in reversed(net.layers()):
        if layer.leaf and layer.parameters:
            weights = list(net.weights(layer.name).values())
            kernels = [w for w in weights if w.ndim == 2]
            if len(kernels) == 1 and kernels[0].shape[1] == net.classes:
                biases = [w for w in weights if w.shape == (net.classes,)]
                return kernels[0], biases[0] if biases else 0.0
            break
    raise InvalidOption(f"{net.name} does not end in a dense layer; use grad_cam")
