"""The loop that climbs: written once, on native tensors from start to end."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz import images
from cnnviz.adapter import INPUT, Adapter, Ops
from cnnviz.ascent.canvas import Canvas
from cnnviz.ascent.objectives import BatchScore, Objective, as_objectives
from cnnviz.ascent.recipes import Recipe, as_recipe
from cnnviz.ascent.result import Ascent
from cnnviz.ascent.transforms import Jitter
from cnnviz.discovery import adapt
from cnnviz.errors import CnnvizError, InvalidImage
from cnnviz.pictures import picture_size, require_pictures
from cnnviz.progress import tracked

__all__ = ["ascend"]


@dataclass(frozen=True)
class _Prepare:
    """From values to what the network sees; equal for equal settings, so a trace is shared."""

    ops: Ops[Any]
    canvas: Canvas
    jitter: Jitter | None

    def __call__(self, values: Any, *shifts: Any) -> Any:
        picture = self.canvas.to_picture(self.ops, values)
        return picture if self.jitter is None else self.jitter.apply(self.ops, picture, *shifts)


def ascend(
    net: Any,
    objective: Objective | str | Sequence[Objective | str],
    recipe: Recipe | str = "default",
    size: int | tuple[int, int] | None = None,
    seed: int = 0,
    **options: Any,
) -> Ascent:
    """Make pictures that a channel or a class answers to most, by gradient ascent [1]_.

    Parameters
    ----------
    net : model or Adapter
    objective : Objective, str, or a sequence of these
        One picture for each. As text: ``"layer3:7"``, ``"class:281"``, ``"class:tiger cat"``.
    recipe : str or Recipe
        ``"default"``, ``"octaves"`` or ``"cs231n"``; see `cnnviz.ascent.recipes`.
    size : int or (int, int), optional
        Height and width at the start, in pixels.
    seed : int
        A picture depends on it and on its own objective, not on those beside it.
    **options
        Settings of the recipe to change: ``steps=512``, ``jitter=4``, ``octaves=3``, ...

    Returns
    -------
    Ascent
        ``.images`` are ``(N, H, W, C)`` in [0, 1].

    Raises
    ------
    UnknownLayer, ChannelOutOfRange
        The network has no such layer, channel or class.
    InvalidOption
        The recipe or a setting is unknown or cannot be meant.

    References
    ----------
    .. [1] Erhan, Bengio, Courville and Vincent, "Visualizing Higher-Layer Features of a Deep
       Network", 2009; Simonyan, Vedaldi and Zisserman, arXiv:1312.6034, for classes.
    """
    net = adapt(net)
    objectives = as_objectives(objective)
    if size is not None:
        options["size"] = size
    chosen = as_recipe(recipe, options)
    require_pictures(net, "gradient ascent")
    whole = _whole_size(net)
    net.settle(*whole)
    score, weights = BatchScore.of(net, objectives)
    climb = _Climb(net, chosen, score, tuple(net.ops.asarray(w) for w in weights))
    seeds = [[seed, _target(weights, row)] for row in range(len(objectives))]
    given = picture_size(net, chosen.size) if chosen.size is not None else None
    try:
        climb.run(objectives, seeds, first=given, last=whole)
    except InvalidImage:
        if given is not None or chosen.octaves == 1:
            raise
        # A dense layer on a flattened map takes one size only.
        chosen = replace(chosen, octaves=1, steps=chosen.steps * chosen.octaves)
        climb = _Climb(net, chosen, score, climb.weights)
        climb.run(objectives, seeds, first=whole)
        climb.notes.append(f"{net.name} takes one size of picture only, so there are no octaves")
    return climb.result(objectives)


def _whole_size(net: Adapter[Any]) -> tuple[int, int]:
    """Give the size of picture that the network takes, or that networks usually do."""
    return picture_size(net) or (224, 224)


def _target(weights: Sequence[NDArray[Any]], row: int) -> int:
    """Number an objective by its channels alone: a layer's name is another in each framework."""
    asked = sorted((int(c), float(w[row, c])) for w in weights for c in np.flatnonzero(w[row]))
    return zlib.crc32(repr(asked).encode())


class _Climb:
    """One run: what the loop hands from step to step."""

    def __init__(
        self, net: Adapter[Any], recipe: Recipe, score: BatchScore, weights: tuple[Any, ...]
    ) -> None:
        self._net = net
        self._recipe = recipe
        self._score = score
        self.weights = weights
        self.notes: list[str] = []
        self._values: list[list[Any]] = []
        self._kept: list[tuple[int, NDArray[Any]]] = []
        self._slope: Any = None
        self._done = 0
        self.images: NDArray[Any] = np.empty(0)

    def run(
        self,
        objectives: Sequence[Objective],
        seeds: Sequence[Sequence[int]],
        first: tuple[int, int] | None = None,
        last: tuple[int, int] | None = None,
    ) -> None:
        """Climb from noise of the first size, or of one that leads up to the last."""
        recipe, channels = self._recipe, self._net.input_shape[-1]
        rngs = [np.random.default_rng(one) for one in seeds]
        firsts, lasts = first or (None, None), last or (None, None)
        heights, widths = (recipe.sides(*ends) for ends in zip(firsts, lasts, strict=True))
        sizes = list(zip(heights, widths, strict=True))
        start = np.stack([recipe.canvas.first(rng, sizes[0], channels) for rng in rngs])
        name = str(objectives[0]) if len(objectives) == 1 else f"{len(objectives)} pictures"
        total = recipe.octaves * recipe.steps
        for _ in tracked(self._octaves(start, sizes, rngs), f"ascend {name}", total):
            pass

    def _octaves(
        self,
        start: NDArray[np.float64],
        sizes: Sequence[tuple[int, int]],
        rngs: Sequence[np.random.Generator],
    ) -> Iterator[None]:
        """Climb octave by octave, yielding after each step."""
        recipe, canvas, ops = self._recipe, self._recipe.canvas, self._net.ops
        values = start
        for octave in range(recipe.octaves):
            native = None
            for stepped in self._octave(ops.asarray(values), rngs):
                native = stepped
                yield
            picture = self._picture(native)
            if recipe.octaves > 1 and self._done not in recipe.keep:
                self._kept.append((self._done, picture))
            if octave + 1 < len(sizes):
                # Cubic enlarging overshoots; it is cut off when the octave ends.
                picture = images.resize(picture, sizes[octave + 1], "bicubic")
                if recipe.octave_blur:
                    picture = images.box_blur(picture, recipe.octave_blur)
                values = canvas.from_picture(picture)
        self.images = np.clip(picture, 0, 1)

    def _octave(self, values: Any, rngs: Sequence[np.random.Generator]) -> Any:
        net, recipe, ops = self._net, self._recipe, self._net.ops
        amount = min(recipe.jitter, *(int(side) // 4 for side in values.shape[1:3]))
        jitter = Jitter(amount) if amount else None
        prepare = _Prepare(ops, recipe.canvas, jitter)
        state: tuple[Any, ...] = ()
        self._values.append([])
        for step in range(1, recipe.steps + 1):
            shifts: tuple[Any, ...] = ()
            if jitter is not None:
                drawn = np.stack([jitter.draw(rng) for rng in rngs])
                shifts = (ops.asarray(drawn),)
            found = net.gradient(
                self._score,
                values,
                taps=self._score.taps,
                prepare=prepare,
                score_args=self.weights,
                prepare_args=shifts,
            )
            self._slope = slope = found.gradients[INPUT]
            self._values[-1].append(found.value)
            if recipe.l2:
                slope = slope - values * (2 * recipe.l2)
            values, state = recipe.optimizer.step(ops, values, slope, state)
            if recipe.clamp:
                values = recipe.canvas.clamp(ops, values)
            if recipe.blur and recipe.blur_every and step % recipe.blur_every == 0:
                values = recipe.canvas.blur(ops, values, recipe.blur)
            self._done += 1
            if self._done in recipe.keep:
                self._kept.append((self._done, self._picture(values)))
            yield values

    def _picture(self, values: Any) -> NDArray[Any]:
        ops = self._net.ops
        picture = ops.to_numpy(self._recipe.canvas.to_picture(ops, values))
        return np.asarray(np.clip(picture, 0, 1))

    def result(self, objectives: Sequence[Objective]) -> Ascent:
        """Gather the pictures and say of each that could not be made why."""
        ops = self._net.ops
        trace = np.stack([np.stack([ops.to_numpy(v) for v in octave]) for octave in self._values])
        slope = ops.to_numpy(self._slope)
        if not (np.isfinite(trace).all() and np.isfinite(slope).all()):
            raise CnnvizError(
                "the score or its gradient is not finite; check the weights of the network"
                " and take smaller steps"
            )
        notes = [
            f"{o} is dead: its gradient is zero, so the picture says nothing of it"
            for o, one, values in zip(
                objectives, slope, trace.reshape(-1, len(slope)).T, strict=True
            )
            # One that rose and has no gradient left is as high as it can be.
            if not one.any() and np.ptp(values) == 0
        ]
        return Ascent(
            images=self.images,
            objective=tuple(map(str, objectives)),
            trace=trace.reshape(-1, len(objectives)),
            octaves=trace[:, -1],
            intermediates=tuple(self._kept),
            recipe=self._recipe,
            network=self._net.name,
            framework=self._net.framework,
            notes=(*self.notes, *notes),
        )
