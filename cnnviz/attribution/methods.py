"""The methods of attribution by name, and what runs them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from cnnviz.adapter import Layer
from cnnviz.attribution import (
    ablation,
    biases,
    cam,
    decomposition,
    gradients,
    integrated,
    masking,
    perturbation,
)
from cnnviz.attribution.fusion import fused, require_fusion
from cnnviz.attribution.result import Attribution
from cnnviz.attribution.targets import Targets
from cnnviz.attribution.task import Maps, Task
from cnnviz.errors import InvalidOption
from cnnviz.images import ImagesLike
from cnnviz.scores import ScoreKind

__all__ = ["METHODS", "Method", "attribute", "run_method"]


@dataclass(frozen=True)
class Method:
    """A way to say which parts of a picture a score rests on.

    Attributes
    ----------
    run : callable
        ``run(task, **options)`` to `Maps`, or ``run(task, layers, **options)`` to one for each
        layer.
    effect : str
        What it shows.
    paper : str
        Where it comes from.
    at : {"layers", "layer", "picture"}
        Whether it is taken at layers, at one, or at the picture.
    score : {"logit", "probability"}
        What of a class it explains by default.
    stages : int
        At the ends of how many stages it is taken by default; 0 for the last layer with space.
    fuse : str
        How several layers are fused by default.
    signed : bool
        Whether what is below zero in `Attribution.raw` speaks against the target.
    """

    run: Callable[..., Any]
    effect: str
    paper: str
    at: Literal["layers", "layer", "picture"] = "layers"
    score: ScoreKind = "logit"
    stages: int = 0
    fuse: str = "mean"
    signed: bool = True

    @property
    def options(self) -> list[str]:
        """Names of the settings that it takes."""
        taken = inspect.signature(self.run).parameters
        given = set(getattr(self.run, "keywords", {}))
        return [name for name in taken if name not in {"task", "layers", *given}]


def _rule(name: str, effect: str, paper: str, **more: Any) -> Method:
    return Method(partial(cam.gradient_cam, rule=name), effect, paper, **more)


METHODS: dict[str, Method] = {
    "cam": Method(cam.cam, "channels by the classifier's own weights", "1512.04150", "layer"),
    "grad_cam": _rule("grad_cam", "channels by their mean slope", "1610.02391"),
    "grad_cam_pp": _rule(
        "grad_cam_pp", "channels by their positive slopes, weighted by place", "1710.11063"
    ),
    "smooth_grad_cam_pp": Method(
        cam.smooth_grad_cam_pp, "Grad-CAM++ over noisy pictures", "1908.01224"
    ),
    "hires_cam": _rule("hires_cam", "slope times activation, place by place", "2011.08891"),
    "elementwise": _rule(
        "elementwise", "slope times activation where that is positive", "1610.02391", signed=False
    ),
    "xgrad_cam": _rule("xgrad_cam", "channels by slope times share of activation", "2008.02312"),
    "layer_cam": _rule(
        "layer_cam", "positive slope times activation, place by place", "LayerCAM, TIP 2021"
    ),
    "eigen_cam": Method(
        decomposition.eigen_cam, "the first principal component of the activations", "2008.00299"
    ),
    "eigen_grad_cam": Method(
        decomposition.eigen_grad_cam,
        "the first principal component of slope times activation",
        "2008.00299",
    ),
    "shapley_cam": Method(
        cam.shapley_cam, "channels by their slope, less half of its change", "2501.06261"
    ),
    "finer_cam": Method(cam.finer_cam, "a class against those closest to it", "2501.11309"),
    "refine_cam": _rule(
        "layer_cam",
        "the product of the maps of several stages",
        "2605.14641",
        stages=3,
        fuse="product",
        signed=False,
    ),
    "full_grad": Method(
        biases.full_grad, "slopes of the picture and of every bias", "1905.00780", "picture",
        signed=False,
    ),
    "saliency": Method(
        gradients.saliency, "the largest slope of a pixel", "1312.6034", "picture", signed=False
    ),
    "gradient_x_input": Method(
        gradients.gradient_x_input, "slope times pixel", "1605.01713", "picture"
    ),
    "smoothgrad": Method(
        partial(gradients.smooth_grad, power="mean"),
        "the mean slope over noisy pictures", "1706.03825", "picture", signed=False,
    ),
    "smoothgrad_squared": Method(
        partial(gradients.smooth_grad, power="square"),
        "the mean squared slope over noisy pictures", "1806.10758", "picture", signed=False,
    ),
    "vargrad": Method(
        partial(gradients.smooth_grad, power="variance"),
        "the variance of the slope over noisy pictures", "1810.03307", "picture", signed=False,
    ),
    "integrated_gradients": Method(
        integrated.integrated_gradients,
        "slopes added up along the way from a baseline", "1703.01365", "picture",
    ),
    "guided_backprop": Method(
        partial(gradients.ruled, rule="guided"),
        "positive slopes through active units", "1412.6806", "picture", signed=False,
    ),
    "deconvnet": Method(
        partial(gradients.ruled, rule="deconvnet"),
        "positive slopes through all units", "1311.2901", "picture", signed=False,
    ),
    "guided_grad_cam": Method(
        gradients.guided_grad_cam, "guided backpropagation where Grad-CAM is", "1610.02391",
        "layer", signed=False,
    ),
    "score_cam": Method(
        masking.score_cam, "channels by the score of the picture seen through them", "1910.01279"
    ),
    "ss_cam": Method(masking.ss_cam, "Score-CAM over noisy pictures", "2006.14255"),
    "is_cam": Method(masking.is_cam, "Score-CAM over masks of growing strength", "2010.03023"),
    "ablation_cam": Method(
        ablation.ablation_cam, "channels by what the score loses without them", "WACV 2020"
    ),
    "occlusion": Method(
        perturbation.occlusion, "what the score loses behind a patch", "1311.2901", "picture",
        "probability",
    ),
    "rise": Method(
        perturbation.rise, "the mean of random masks, weighted by the score behind them",
        "1806.07421", "picture", "probability",
    ),
    "superpixels": Method(
        perturbation.superpixels, "a linear model of what each segment adds (LIME)", "1602.04938",
        "picture", "probability",
    ),
}  # fmt: skip
"""Every method, by the name that `attribute` takes."""


def attribute(
    net: Any,
    images: ImagesLike,
    method: str = "grad_cam",
    target: Targets = None,
    layer: str | Sequence[str] | None = None,
    *,
    size: int | tuple[int, int] | None = None,
    batch: int | None = None,
    score: ScoreKind | None = None,
    fuse: str | None = None,
    **options: Any,
) -> Attribution:
    """Show which parts of pictures a score rests on, by a method chosen by name.

    Parameters
    ----------
    net : model or Adapter
    images : path, Pillow image, array or list of these
        Resized whole, not cropped, to what the network takes.
    method : str
        A name of `cnnviz.METHODS`: ``"grad_cam"``, ``"integrated_gradients"``, ``"rise"``, ...
    target : int, str, Objective, callable, `cnnviz.top`, `cnnviz.region`, or a sequence, optional
        What is explained: a class by index or name, an objective such as
        ``class_logit(281) - class_logit(282)``, or a function to ``(N,)`` of the native class
        scores ``(N, C)``; of a network that scores every place ``(N, H, W, C)``, channels last
        in every framework. One for all pictures or one each; ``[(281, 282)]`` gives the one
        picture a map for each of two classes, from one forward. By default the predicted class.
    layer : str or sequence of str, optional
        Where a class activation map is taken; several are fused. By default the last layer with
        spatial extent before what is explained; see `cnnviz.layers`.
    size : int or (int, int), optional
        Height and width of the pictures instead of the network's own.
    batch : int, optional
        Pictures at a time; by default as many as run well.
    score : {"logit", "probability"}, optional
        Whether a class is scored before its softmax or sigmoid, or after; most methods explain
        the logit, those that hide parts of the picture the probability.
    fuse : {"mean", "max", "product", "tanh"}, optional
        How several layers become one map, each cut at zero and scaled to [0, 1] before.
    **options
        Settings of the method, such as ``samples=50``.

    Returns
    -------
    Attribution
        ``.raw`` signed, ``.map`` in [0, 1] at the size of the pictures, ``.cards`` what each
        map is.

    Raises
    ------
    InvalidImage
        A picture cannot be read or does not fit the network.
    UnknownLayer, ChannelOutOfRange
        The network has no such layer or class.
    InvalidOption
        There is no such method or setting, the layer has no space or comes after what is
        explained, or targets and pictures differ in number.
    """
    chosen = known_method(method)
    task = Task(net, images, target, size, batch, score or chosen.score)
    return run_method(task, method, layer, fuse, options)


def known_method(name: str) -> Method:
    """Find a method.

    Raises
    ------
    InvalidOption
        There is none of that name.
    """
    if name not in METHODS:
        raise InvalidOption(f"no method {name!r}; there are {', '.join(map(repr, METHODS))}")
    return METHODS[name]


def check_options(name: str, options: Iterable[str]) -> None:
    """Raise InvalidOption for what is no setting of a method."""
    taken = known_method(name).options
    for option in options:
        if option not in taken:
            known = ", ".join(map(repr, taken)) or "none"
            raise InvalidOption(f"{name} has no setting {option!r}; it takes {known}")


def check_fuse(name: str, fuse: str | None) -> None:
    """Raise InvalidOption unless the maps of a method can be fused so."""
    if fuse is None:
        return
    at = known_method(name).at
    if at != "layers":
        where = "the picture" if at == "picture" else "one layer"
        raise InvalidOption(f"{name} is taken at {where}, which leaves nothing to fuse; omit fuse")
    require_fusion(fuse)


def chosen_layers(task: Task, name: str, layer: str | Sequence[str] | None) -> list[Layer]:
    """Find the layers that a method is taken at; none for one at the picture.

    Raises
    ------
    InvalidOption
        It is not taken at such, or so many.
    UnknownLayer
        There is no such layer.
    """
    method = known_method(name)
    if method.at == "picture":
        if layer is not None:
            raise InvalidOption(f"{name} is taken at the picture; leave the layer out")
        return []
    if layer is None and method.stages:
        return task.stages(method.stages)
    names = [layer] if isinstance(layer, str) or not isinstance(layer, Sequence) else list(layer)
    for one in names:
        if not isinstance(one, (str, type(None))):
            raise InvalidOption(f"a layer is a name, as cnnviz.layers lists them, not {one!r}")
    if not names:
        raise InvalidOption("an empty list of layers; name one or leave it out")
    if len(names) > 1 and method.at == "layer":
        raise InvalidOption(f"{name} is taken at one layer; name one")
    return [task.layer(one) for one in names]


def run_method(
    task: Task,
    name: str,
    layer: str | Sequence[str] | None,
    fuse: str | None,
    options: Mapping[str, Any],
) -> Attribution:
    """Run a method on what was read of its arguments."""
    method = known_method(name)
    check_options(name, options)
    check_fuse(name, fuse)
    layers = chosen_layers(task, name, layer)
    found = method.run(task, *([layers] if layers else []), **options)
    maps = _one(found, fuse or method.fuse, task)
    return task.finished(name, maps)


def _one(found: Maps | list[Maps], fuse: str, task: Task) -> Maps:
    if isinstance(found, Maps):
        return found
    if len(found) == 1:
        return found[0]
    task.notes.append(
        f"{len(found)} layers fused by {fuse}, each cut at zero and scaled to its maximum"
    )
    return fused(found, fuse, task.sides)
