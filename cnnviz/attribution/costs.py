"""What an attribution will cost, told before it runs."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cnnviz.adapter import Layer
from cnnviz.attribution import integrated
from cnnviz.attribution.cam import require_logits, require_one_class
from cnnviz.attribution.methods import check_fuse, check_options, chosen_layers, known_method
from cnnviz.attribution.perturbation import windows
from cnnviz.attribution.settings import require_count
from cnnviz.attribution.targets import Targets, TopClasses
from cnnviz.attribution.task import Task
from cnnviz.batches import evenly, layers_until, numbers
from cnnviz.images import ImagesLike
from cnnviz.scores import ScoreKind

__all__ = ["Cost", "cost"]


@dataclass(frozen=True)
class Cost:
    """How often a network is to be run, and what that takes.

    Attributes
    ----------
    forwards, backwards : int
        Pictures run, and derivatives taken, as `Attribution` counts them.
    bytes : int
        About how much the pictures and activations of a chunk take at their peak, in float32.
    chunk : int
        Pictures at a time.
    at_most : bool
        Whether a run may need fewer, such as where channels are dead.
    """

    forwards: int
    backwards: int
    bytes: int
    chunk: int
    at_most: bool = False

    def to_json(self) -> dict[str, Any]:
        """Give it as numbers."""
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"{'at most ' if self.at_most else ''}{self.forwards}"
            f" forward{'s' * (self.forwards != 1)} and {self.backwards}"
            f" backward{'s' * (self.backwards != 1)}, {self.chunk} at a time, about"
            f" {max(1, round(self.bytes / 2**20))} MiB"
        )


def cost(
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
) -> Cost:
    """Tell what `attribute` would cost with the same arguments; no picture is run.

    What finds the layer that is taken by default is not counted.

    Parameters
    ----------
    net, images, method, target, layer, size, batch, score, fuse, **options
        As for `attribute`.

    Returns
    -------
    Cost
        ``integrated_gradients`` without ``steps``, and methods that skip channels without
        shape, may take less: ``at_most`` is then True.

    Raises
    ------
    InvalidImage, UnknownLayer, ChannelOutOfRange, InvalidOption
        As `attribute`, where no run is needed to tell.
    """
    chosen = known_method(method)
    check_options(method, options)
    check_fuse(method, fuse)
    several = isinstance(target, TopClasses)
    # The highest classes are known once the network ran; how many there are is known now.
    task = Task(net, images, None if several else target, size, batch, score or chosen.score)
    layers = chosen_layers(task, method, layer)
    defaults = {
        name: one.default
        for name, one in inspect.signature(chosen.run).parameters.items()
        if one.default is not inspect.Parameter.empty
    }
    settings = {**defaults, **options}
    for name in ("samples", "masks", "channels", "steps"):
        if settings.get(name) is not None:
            require_count(name, settings[name])
    plan = _Plan(task, layers, settings)
    if isinstance(target, TopClasses):
        plan.each, plan.searched = target.count, True
    return _COUNTS[method](plan)


class _Plan:
    """The counts that methods are made of."""

    def __init__(self, task: Task, layers: list[Layer], options: Mapping[str, Any]) -> None:
        self.task, self.layers, self.options = task, layers, options
        self.each, self.searched = task.goal.each, False
        self.chunk = task.batch()
        # Of a score that is no class, variants stop where it is read.
        self.variants = task.batch(task.goal.taps)

    @property
    def count(self) -> int:
        return self.task.count

    def pictures(self, chunk: int | None = None) -> int:
        """Count the pictures themselves, run once, with those that fill a chunk up."""
        chunk = chunk or self.chunk
        full = self.task.net.compiled and self.count > chunk
        return math.ceil(self.count / chunk) * chunk if full else self.count

    def run(self, total: int, most: int, whole: int | None = None) -> int:
        """Count some variants of one picture, in even chunks."""
        if not total:
            return 0
        batch = evenly(whole or total, most)
        return math.ceil(total / batch) * batch if self.task.net.compiled else total

    @property
    def fixed(self) -> int:
        """Forwards that tell the class of each picture, and the highest classes."""
        unknown = self.task.goal.of_classes and self.task.goal.classes is None
        return self.pictures() if unknown or self.searched else 0

    @property
    def found_classes(self) -> int:
        """Forwards that found the highest classes, if these are explained."""
        return self.pictures() if self.searched else 0

    def told(
        self,
        forwards: int,
        backwards: int = 0,
        chunk: int | None = None,
        *,
        total: int | None = None,
        at_most: bool = False,
        begins: Layer | None = None,
    ) -> Cost:
        """Make the result.

        Parameters
        ----------
        forwards, backwards, chunk
            As `Cost` has them; the chunk is the most that may be run at once.
        total : int, optional
            How many variants there are of one picture, if it is not run as it is.
        at_most : bool
        begins : Layer, optional
            What is run, or kept of a derivative, begins here.
        """
        chunk = chunk or self.chunk
        chunk = evenly(total, chunk) if total else min(chunk, self.count)
        return Cost(forwards, backwards, chunk * self.bytes(backwards > 0, begins), chunk, at_most)

    def bytes(self, kept: bool, begins: Layer | None = None) -> int:
        """Predict what one picture takes, with all activations of a derivative or without."""
        task = self.task
        listed = task.net.listed_size or task.sides
        scale = math.prod(task.sides) / max(1, math.prod(listed))
        order = {layer.name: i for i, layer in enumerate(task.net.layers())}
        first = order[begins.name] if begins else -1
        found = layers_until(task.net, task.goal.taps)
        late = [numbers(begins)] if begins else []
        late += [numbers(one) for one in found if order[one.name] > first]
        picture = 0 if begins and not kept else math.prod(task.pictures.shape[1:])
        # What goes into a layer and what comes out; of a derivative all that came before too.
        alive = sum(late) if kept else 0
        return round(4 * (picture + scale * (alive + 2 * max(late, default=0))))


def _first(plan: _Plan) -> Layer | None:
    """Give the earliest layer of those that maps are taken at."""
    order = {layer.name: i for i, layer in enumerate(plan.task.net.layers())}
    return min(plan.layers, key=lambda layer: order[layer.name], default=None)


def _slopes(plan: _Plan) -> Cost:
    """One forward and one backward a picture."""
    chunk = plan.variants if plan.layers else plan.chunk
    runs = plan.pictures(chunk)
    return plan.told(plan.found_classes + runs, runs * plan.each, chunk, begins=_first(plan))


def _shapley_cam(plan: _Plan) -> Cost:
    require_one_class(plan.each)
    return _slopes(plan)


def _full_grad(plan: _Plan) -> Cost:
    chunk = max(1, plan.chunk // 2)
    runs = plan.pictures(chunk)
    return plan.told(plan.found_classes + runs, runs * plan.each, chunk)


def _guided_grad_cam(plan: _Plan) -> Cost:
    runs = plan.pictures(plan.variants) + plan.pictures()
    return plan.told(plan.found_classes + runs, runs * plan.each)


def _cam(plan: _Plan) -> Cost:
    require_logits(plan.task, "CAM")
    return plan.told(plan.found_classes + plan.pictures())


def _eigen_cam(plan: _Plan) -> Cost:
    # The map, the score and, where it is not given, the class.
    return plan.told(2 * plan.pictures() + plan.fixed)


def _finer_cam(plan: _Plan) -> Cost:
    require_logits(plan.task, "FinerCAM")
    runs = plan.pictures(plan.variants)
    # The classes beside it, the score, and the map of the contrast.
    forwards = 2 * plan.pictures() + runs
    return plan.told(forwards, runs * plan.each, plan.variants, begins=_first(plan))


def _smooth_grad(plan: _Plan) -> Cost:
    samples = plan.options["samples"]
    runs = plan.count * plan.run(samples, plan.chunk)
    clean = plan.count if plan.layers else 0
    forwards = plan.fixed + clean + runs + plan.pictures()
    return plan.told(forwards, runs * plan.each, total=samples, begins=_first(plan))


def _integrated(plan: _Plan) -> Cost:
    steps = plan.options["steps"]
    integrated.chosen_tolerance(steps, plan.options["tolerance"])
    ends, total = 2, steps
    if steps is None:
        nodes, segments = integrated.NODES, integrated.SEGMENTS
        cuts = (integrated.MOST - segments * nodes) // (2 * nodes)
        # Each edge between two parts is scored once.
        ends += segments - 1 + cuts
        total = nodes
        runs = (segments + 2 * cuts) * plan.run(nodes, plan.chunk)
    else:
        runs = plan.run(steps, plan.chunk)
    forwards = plan.fixed + plan.count * (ends + runs) + plan.pictures()
    backwards = plan.count * runs * plan.each
    return plan.told(forwards, backwards, total=total, at_most=steps is None)


def _masked(plan: _Plan) -> Cost:
    samples = plan.options.get("samples", 1)
    channels, longest, runs = plan.options["channels"], 1, 0
    for layer in plan.layers:
        width = layer.channels or 1
        some = min(channels or width, width)
        longest = max(longest, some)
        runs += samples * plan.run(some, plan.variants)
    forwards = plan.fixed + 2 * plan.pictures() + plan.count * (1 + runs)
    # Channels without shape are skipped; how many have one is not known.
    return plan.told(forwards, 0, plan.variants, total=longest, at_most=True)


def _ablation(plan: _Plan) -> Cost:
    channels, longest, chunk, runs = plan.options["channels"], 1, 1, 0
    for layer in plan.layers:
        width = layer.channels or 1
        some = 1 + min(channels or width, width)
        most = plan.task.batch(plan.task.goal.taps, layer)
        longest, chunk = max(longest, some), max(chunk, most)
        # The way to the layer is run once more to go on from it.
        runs += 1 + plan.run(some, most)
    forwards = plan.fixed + plan.pictures() + plan.count * (1 + runs)
    return plan.told(forwards, 0, chunk, total=longest, at_most=True, begins=_first(plan))


def _variants(plan: _Plan, total: int) -> Cost:
    runs = plan.count * plan.run(total, plan.variants)
    return plan.told(plan.fixed + plan.pictures() + runs, 0, plan.variants, total=total)


def _occlusion(plan: _Plan) -> Cost:
    places = windows(plan.task.sides, plan.options["patch"], plan.options["stride"])
    return _variants(plan, len(places))


_COUNTS: dict[str, Callable[[_Plan], Cost]] = {
    "cam": _cam,
    **dict.fromkeys(
        (
            "grad_cam",
            "grad_cam_pp",
            "hires_cam",
            "elementwise",
            "xgrad_cam",
            "layer_cam",
            "eigen_grad_cam",
            "refine_cam",
            "saliency",
            "gradient_x_input",
            "guided_backprop",
            "deconvnet",
        ),
        _slopes,
    ),
    "smooth_grad_cam_pp": _smooth_grad,
    "shapley_cam": _shapley_cam,
    "eigen_cam": _eigen_cam,
    "finer_cam": _finer_cam,
    "full_grad": _full_grad,
    "smoothgrad": _smooth_grad,
    "smoothgrad_squared": _smooth_grad,
    "vargrad": _smooth_grad,
    "integrated_gradients": _integrated,
    "guided_grad_cam": _guided_grad_cam,
    "score_cam": _masked,
    "ss_cam": _masked,
    "is_cam": _masked,
    "ablation_cam": _ablation,
    "occlusion": _occlusion,
    "rise": lambda plan: _variants(plan, plan.options["masks"]),
    "superpixels": lambda plan: _variants(plan, plan.options["samples"]),
}
"""How each method of `METHODS` counts."""
