"""The loop that climbs: written once, on native tensors from start to end."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz import images
from cnnviz.adapter import Adapter
from cnnviz.ascent.objectives import Objective
from cnnviz.ascent.recipes import Recipe
from cnnviz.ascent.slopes import NOT_FINITE, Slopes
from cnnviz.ascent.steps import Move, Project, Show
from cnnviz.ascent.transforms import Chain
from cnnviz.errors import CnnvizError, InvalidOption

__all__ = ["Climb", "Climbed"]

Size = tuple[int, int]


@dataclass(frozen=True)
class Climbed:
    """What a climb came to.

    Attributes
    ----------
    images : array
        ``(N, H, W, C)`` in [0, 1], as they are shown.
    trace : array
        ``(steps, N)``.
    ends : tuple of int
        The number of steps when each octave ended.
    kept : list of (int, array)
        Pictures on the way.
    clean : array
        ``(N,)``: the objective of the finished picture, without transforms or penalties.
    verdicts : tuple of str
        Of each picture, why it says nothing; empty for most.
    alpha : array or None
        ``(N, H, W)`` in [0, 1].
    """

    images: NDArray[Any]
    trace: NDArray[Any]
    ends: tuple[int, ...]
    kept: list[tuple[int, NDArray[Any]]]
    clean: NDArray[Any]
    verdicts: tuple[str, ...]
    alpha: NDArray[Any] | None = None


class Climb:
    """Some pictures that climb together.

    Parameters
    ----------
    net : Adapter
    recipe : Recipe
    objectives : sequence of Objective
        One for each picture.
    seeds : sequence of sequence of int
        One for each picture.
    first, last : (int, int), optional
        Size of the first octave, or of the last; one of the two is given.
    whole : (int, int)
        What the network takes.
    start : array, optional
        ``(N, H, W, C)``: pictures to begin with.
    strict : bool
        Whether it is an error that no picture matters to its objective.
    """

    def __init__(
        self,
        net: Adapter[Any],
        recipe: Recipe,
        objectives: Sequence[Objective],
        seeds: Sequence[Sequence[int]],
        *,
        first: Size | None,
        last: Size | None,
        whole: Size,
        start: NDArray[Any] | None = None,
        strict: bool = True,
    ) -> None:
        self._net, self._recipe, self._objectives = net, recipe, objectives
        self._canvas = recipe.canvas.bound(net)
        self._whole = whole
        self._start = start
        self._rngs = [np.random.default_rng(one) for one in seeds]
        ends = [first or (None, None), last or (None, None)]
        heights, widths = (recipe.sides(*both) for both in zip(*ends, strict=True))
        self._sizes: list[Size] = list(zip(heights, widths, strict=True))
        self._slopes = Slopes(net, recipe, self._canvas, objectives)
        self._slopes.strict = strict
        self._values: list[Any] = []
        self._kept: list[tuple[int, NDArray[Any]]] = []
        self._ends: list[int] = []
        self._moving: NDArray[np.bool_] = np.ones(len(objectives), bool)
        self._slope: Any = None
        self._done = 0
        self._final: NDArray[Any] = np.empty(0)

    @property
    def independent(self) -> bool:
        """Whether no objective depends on its picture; known after the first step."""
        return self._slopes.independent

    @property
    def steps(self) -> int:
        """How many steps there will be at most."""
        return self._recipe.octaves * self._recipe.steps

    def run(self) -> Iterator[None]:
        """Climb octave by octave, yielding after each step."""
        recipe, canvas, ops = self._recipe, self._canvas, self._net.ops
        channels = self._net.input_shape[-1]
        if self._start is not None:
            pictures = images.resize(self._start, self._sizes[0], "bicubic")
            values = canvas.from_picture(np.clip(pictures, 0, 1))
        else:
            each = [canvas.first(rng, self._sizes[0], channels) for rng in self._rngs]
            values = np.stack(each)
        for octave in range(recipe.octaves):
            shape = (*self._sizes[octave], channels)
            native = ops.asarray(values)
            for stepped in self._octave(native, shape):
                native = stepped
                yield
            self._ends.append(self._done)
            picture = self._picture(native, shape)
            if recipe.octaves > 1 and self._done not in recipe.kept_steps:
                self._kept.append((self._done, canvas.display(picture)))
            if octave + 1 < len(self._sizes):
                # Cubic enlarging overshoots; it is cut off when the octave ends.
                picture = images.resize(np.clip(picture, 0, 1), self._sizes[octave + 1], "bicubic")
                if recipe.octave_blur:
                    picture = images.box_blur(picture, recipe.octave_blur)
                if octave + 1 < recipe.octaves:
                    values = canvas.from_picture(picture)
        self._final = picture

    def _octave(self, values: Any, shape: tuple[int, int, int]) -> Iterator[Any]:
        net, recipe, ops = self._net, self._recipe, self._net.ops
        size = shape[:2]
        show = Show(
            ops,
            self._canvas,
            shape,
            self._chain(size),
            recipe.views,
            bool(recipe.penalties),
        )
        self._slopes.scores = self._slopes.parts(size)
        self._moving[:] = True
        move = net.traced(Move(ops, self._canvas, recipe.optimizer, recipe.l2, recipe.clamp))
        projections = [
            (p.every, net.traced(Project(ops, self._canvas, p))) for p in recipe.all_projections
        ]
        waves = self._canvas.frequencies(shape) if recipe.reveal else None
        if recipe.reveal and waves is None:
            raise InvalidOption(
                f"a {type(self._canvas).__name__} has no waves to reveal; set reveal=0 or choose"
                " FourierCanvas"
            )
        if waves is not None and self._start is None and not self._ends:
            values = values * ops.asarray(_revealed(waves, 0.0))
        state = recipe.optimizer.first(values)
        for step in range(1, recipe.steps + 1):
            drawn = self._drawn(show, (step - 1) / max(1, recipe.steps - 1))
            value, slope = self._slopes.of(show, values, drawn)
            self._slope = slope
            self._values.append(value)
            rates = list(recipe.optimizer.rates(step))
            rates[0] *= _share(recipe.schedule, step, recipe.steps)
            mask = None
            if waves is not None:
                done = step / (recipe.reveal * recipe.steps)
                mask = ops.asarray(_revealed(waves, done))
            moving = self._still_moving(len(values.shape))
            values, state = move(values, slope, state, ops.asarray(np.array(rates)), mask, moving)
            for every, project in projections:
                if step % every == 0:
                    values = project(values, moving)
            self._done += 1
            if self._done in recipe.kept_steps:
                self._kept.append((self._done, self._canvas.display(self._picture(values, shape))))
            yield values
            if self._all_done(step):
                return

    def _chain(self, size: Size) -> Chain | None:
        given = self._recipe.all_transforms
        if not given:
            return None
        factor = min(size) / 224
        scaled = tuple(t.scaled(factor, min(size)) for t in given)
        return Chain(scaled, size, self._whole)

    def _drawn(self, show: Show, done: float) -> list[NDArray[Any]]:
        """Draw for each picture from its own numbers; stacked view after view."""
        each = [show.draw(rng, done) for rng in self._rngs]
        stacked = [np.stack(one, axis=1) for one in zip(*each, strict=True)]
        return [one.reshape(-1, *one.shape[2:]) for one in stacked]

    def _still_moving(self, axes: int) -> Any:
        if not self._recipe.plateau:
            return None
        moving = self._moving.astype(float).reshape(-1, *(1,) * (axes - 1))
        return self._net.ops.asarray(moving)

    def _all_done(self, step: int) -> bool:
        """See which pictures rise no more; the only numbers that are read within the loop."""
        recipe = self._recipe
        begun = max(2 * recipe.plateau, recipe.reveal * recipe.steps)
        if not recipe.plateau or step % recipe.plateau or step < begun:
            return False
        ops, window = self._net.ops, recipe.plateau
        recent = np.stack([ops.to_numpy(v) for v in self._values[-2 * window :]])
        before, after = recent[:window].mean(0), recent[window:].mean(0)
        self._moving &= after - before > recipe.tolerance * np.abs(before)
        return not self._moving.any()

    def _picture(self, values: Any, shape: tuple[int, int, int]) -> NDArray[Any]:
        ops = self._net.ops
        return np.asarray(ops.to_numpy(self._canvas.to_picture(ops, values, shape)))

    def result(self) -> Climbed:
        """Gather the pictures and say of each that could not be made why.

        Raises
        ------
        CnnvizError
            The score, or its gradient, is not finite.
        """
        ops = self._net.ops
        trace = np.stack([ops.to_numpy(v) for v in self._values])
        slope = ops.to_numpy(self._slope)
        if not (np.isfinite(trace).all() and np.isfinite(slope).all()):
            raise CnnvizError(NOT_FINITE)
        shown: NDArray[Any] = np.asarray(np.clip(self._canvas.display(self._final), 0, 1))
        alpha = self._slopes.alpha()
        if self._canvas.alpha:
            shown, alpha = shown[..., :-1], shown[..., -1]
        sigma = self._recipe.soften * min(1.0, min(shown.shape[1:3]) / 224)
        if sigma:
            shown = np.clip(images.gaussian_blur(shown, sigma), 0, 1)
        return Climbed(
            shown,
            trace,
            tuple(self._ends),
            [(step, one[..., : shown.shape[-1]]) for step, one in self._kept],
            self._clean(shown, alpha if self._canvas.alpha else None),
            self._slopes.verdicts(trace, slope),
            alpha,
        )

    def _clean(self, shown: NDArray[Any], cover: NDArray[Any] | None) -> NDArray[Any]:
        """Give the objective of finished pictures as the network is shown them."""
        if cover is not None:
            shown = shown * cover[..., None] + 0.5 * (1 - cover[..., None])
        if shown.shape[1:3] != self._whole and (
            math.prod(shown.shape[1:3]) > math.prod(self._whole) or self._fixed()
        ):
            shown = np.clip(images.resize(shown, self._whole, "bicubic"), 0, 1)
        total: Any = 0.0
        for net, score, args in self._slopes.parts((shown.shape[1], shown.shape[2])):
            if score.inner.rules:
                activations = net.forward(net.ops.asarray(shown), taps=score.inner.taps)
                total = total + net.ops.to_numpy(score.inner(activations, *args))
        return np.asarray(total)

    def _fixed(self) -> bool:
        return None not in self._net.input_shape


def _share(schedule: str, step: int, steps: int) -> float:
    """Give what is left of the length of a step."""
    done = (step - 1) / steps
    if schedule == "linear":
        return 1 - done
    return 0.5 * (1 + math.cos(math.pi * done)) if schedule == "cosine" else 1.0


def _revealed(waves: NDArray[Any], done: float) -> NDArray[Any]:
    """Give one for waves that are free, from the longest on to all when `done` is one."""
    top = float(waves.max())
    # The side of a coarse picture doubles in even times.
    limit = top * 2.0 ** (-4 * (1 - min(done, 1.0)))
    return np.asarray(waves <= limit * (1 + 1e-12), dtype=np.float64)
