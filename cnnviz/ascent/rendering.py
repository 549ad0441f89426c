"""Pictures for one objective or for many, in batches that fit memory."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.adapter import Adapter
from cnnviz.ascent.climbing import Climb, Climbed
from cnnviz.ascent.objectives import Objective, as_objectives, seed_of
from cnnviz.ascent.recipes import Recipe, as_recipe
from cnnviz.ascent.result import Ascent
from cnnviz.ascent.slopes import independent
from cnnviz.batches import at_most, layers_until, numbers
from cnnviz.discovery import adapt
from cnnviz.errors import InvalidImage, InvalidOption
from cnnviz.images import ImagesLike
from cnnviz.pictures import picture_batch, picture_size, require_pictures
from cnnviz.progress import tracked

__all__ = ["ascend", "batch_for", "rendered", "require_ascent", "require_whole"]

Size = tuple[int, int]

# What one activation of a batch may take on a processor: much larger ones go back to the system
# after each step and come page by page again. Measured on ResNet-50 and VGG16 at 224 px.
_LARGEST = {"eager": 50 * 2**20, "compiled": 100 * 2**20}
# Weights are read once a batch, so many of them want many pictures; few are served by few.
_WEIGHTS_EACH = 1.6 * 2**20
# Where weights do not matter two at once are best, or one where an activation of two is above this.
_FEW = {"eager": 16 * 2**20, "compiled": 32 * 2**20}
# What all of them may take elsewhere.
_TOTAL = 2 * 2**30
_BATCHES = (16, 8, 4, 2, 1)


def ascend(
    net: Any,
    objective: Objective | str | Sequence[Objective | str],
    recipe: Recipe | str = "default",
    size: int | tuple[int, int] | None = None,
    seed: int = 0,
    *,
    start: ImagesLike | None = None,
    best_of: int = 1,
    batch: int | None = None,
    **options: Any,
) -> Ascent:
    """Make pictures that a channel or a class answers to most, by gradient ascent [1]_.

    Parameters
    ----------
    net : model or Adapter
    objective : Objective, str, or a sequence of these
        One picture for each. As text: ``"layer3:7"``, ``"layer3:7@4,5"``, ``"layer:layer3"``,
        ``"class:281"``, ``"class:tiger cat"``; `cnnviz.objectives` makes all others.
    recipe : str or Recipe
        A name of `cnnviz.RECIPES`: ``"default"``, ``"distill"``, ``"maco"``, ...
    size : int or (int, int), optional
        Height and width at the start, in pixels.
    seed : int
        A picture depends on it and on its own objective, not on those beside it.
    start : path, Pillow image, array or list of these, optional
        What to begin with in place of noise: one picture, or one for each objective.
    best_of : int
        How many seeds, from `seed` on, each picture is made with; the one whose objective is
        highest, without transforms, is kept.
    batch : int, optional
        How many pictures climb at once; by default as many as run well.
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
        The recipe or a setting is unknown or cannot be meant, settings contradict each other,
        or no objective depends on the picture.

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
    require_ascent(net)
    require_whole("best_of", best_of, 1)
    if batch is not None:
        require_whole("batch", batch, 1)
    return rendered(net, objectives, chosen, seed, best_of=best_of, start=start, batch=batch)


def require_whole(name: str, value: Any, least: int) -> None:
    """Raise InvalidOption unless a value is an integer that is large enough."""
    try:
        fine = operator.index(value) >= least
    except TypeError:
        fine = False
    if not fine:
        raise InvalidOption(f"{name} is a whole number from {least} on, not {value}")


def require_ascent(net: Adapter[Any]) -> None:
    """Raise InvalidOption if there are no pictures to be made for a network."""
    require_pictures(net, "gradient ascent")
    if str(getattr(net.ops, "dtype", "")).rpartition(".")[2] == "float16":
        raise InvalidOption(
            f"{net.name} computes in float16, which is too coarse for the steps of an ascent; give"
            " it in float32 or bfloat16"
        )


def rendered(
    net: Adapter[Any],
    objectives: Sequence[Objective],
    recipe: Recipe,
    seed: int,
    *,
    best_of: int = 1,
    start: ImagesLike | None = None,
    batch: int | None = None,
    strict: bool = True,
) -> Ascent:
    """Make the pictures of `ascend`, whose arguments were looked at.

    Parameters
    ----------
    strict : bool
        Whether it is an error that no objective depends on its picture.
    """
    require_whole("seed", seed, 0)
    whole = picture_size(net) or (224, 224)
    net.settle(*whole)
    jobs = _Jobs(net, objectives, recipe, seed, best_of, start, whole)
    return _result(net, jobs, _climb(net, jobs, batch, strict))


class _Jobs:
    """The pictures to be made, each with its seed."""

    def __init__(
        self,
        net: Adapter[Any],
        objectives: Sequence[Objective],
        recipe: Recipe,
        seed: int,
        best_of: int,
        start: ImagesLike | None,
        whole: Size,
    ) -> None:
        self.objectives, self.recipe, self.whole = list(objectives), recipe, whole
        self.best_of = best_of
        self.note = ""
        self.given = picture_size(net, recipe.size) if recipe.size is not None else None
        seen: dict[Objective, int] = {}
        self.pictures: list[tuple[Objective, list[int]]] = []
        for objective in objectives:
            number = seed_of(net, objective)
            copy = seen[objective] = seen.get(objective, -1) + 1
            for k in range(best_of):
                # The first of several alike is the picture that there is alone.
                self.pictures.append((objective, [seed + k, number, *([copy] if copy else [])]))
        self.start = _start(net, objectives, start, self.given or whole)
        coupled = any(t.rule(t.net or net).coupled for o in objectives for t in o.terms)
        self.together = coupled or recipe.canvas.coupled
        if self.together and best_of > 1:
            raise InvalidOption(
                "pictures that are made together have no best seed of their own; set best_of=1"
            )


def _start(
    net: Adapter[Any], objectives: Sequence[Objective], start: ImagesLike | None, size: Size
) -> NDArray[Any] | None:
    """Give the pictures to begin with, one for each objective; those of the objectives first."""
    if start is None:
        own = [objective.start for objective in objectives]
        if all(one is None for one in own):
            return None
        if any(one is None for one in own):
            raise InvalidOption(
                "some objectives begin with a picture and others do not; make them apart"
            )
        return np.concatenate([picture_batch(net, one, size) for one in own])
    pictures = picture_batch(net, start, size)
    if len(pictures) not in (1, len(objectives)):
        raise InvalidOption(
            f"there are {len(pictures)} pictures to begin with for {len(objectives)} objectives;"
            " give one, or one for each"
        )
    return np.repeat(pictures, len(objectives) // len(pictures), 0)


def _climb(net: Adapter[Any], jobs: _Jobs, batch: int | None, strict: bool) -> list[Climbed]:
    """Climb batch after batch, behind one bar."""
    count = len(jobs.pictures)
    objectives = [objective for objective, _ in jobs.pictures]
    if jobs.together:
        if batch is not None and batch < count:
            raise InvalidOption(f"these pictures are made together; set batch={count} or leave it")
        batch = count
    elif batch is None:
        batch = batch_for(net, objectives, jobs.recipe, jobs.given or jobs.whole)
    recipe = jobs.recipe
    while True:
        # Of several batches each must be seen before it is said that none depends on anything.
        at_once = strict and count <= batch
        climbs = [
            _made(net, jobs, recipe, range(b, min(b + batch, count)), at_once)
            for b in range(0, count, batch)
        ]
        name = str(objectives[0]) if count == 1 else f"{count} pictures"
        total = sum(climb.steps for climb in climbs)
        found: list[Climbed] = []
        try:
            for _ in tracked(_run(climbs, found), f"ascend {name}", total):
                pass
        except InvalidImage:
            if jobs.given is not None or recipe.octaves == 1:
                raise
            # A dense layer on a flattened map takes one size only.
            recipe = replace(recipe, octaves=1, steps=recipe.steps * recipe.octaves)
            note = f"{net.name} takes one size of picture only, so there are no octaves"
            jobs.recipe = recipe
            jobs.note = note
            continue
        if strict and all(climb.independent for climb in climbs):
            raise independent(objectives)
        return found


def _made(net: Adapter[Any], jobs: _Jobs, recipe: Recipe, rows: range, strict: bool) -> Climb:
    pictures = [jobs.pictures[row] for row in rows]
    start = None
    if jobs.start is not None:
        start = np.stack([jobs.start[row // jobs.best_of] for row in rows])
    return Climb(
        net,
        recipe,
        [objective for objective, _ in pictures],
        [seed for _, seed in pictures],
        first=jobs.given,
        last=None if jobs.given is not None else jobs.whole,
        whole=jobs.whole,
        start=start,
        strict=strict,
    )


def _run(climbs: Sequence[Climb], found: list[Climbed]) -> Iterator[None]:
    for climb in climbs:
        yield from climb.run()
        found.append(climb.result())


def batch_for(
    net: Adapter[Any], objectives: Sequence[Objective], recipe: Recipe, size: Size
) -> int:
    """Say how many pictures climb at once: the same for every unit of a layer.

    The activations up to the deepest layer that is asked for decide, and what runs well on the
    device; never how many pictures there are, so that each is the same whatever is asked
    beside it.
    """
    taps = {tap for o in objectives for t in o.terms for tap in t.rule(t.net or net).taps}
    layers = layers_until(net, taps)
    if not layers:
        # Of what cannot be seen, four at once are never far from the best.
        return 4
    # In float32 or wider.
    each = 4 * recipe.views * math.prod(size) / max(1, math.prod(net.listed_size or size))
    counts = [numbers(layer) for layer in layers]
    if not net.device.startswith("cpu"):
        # What is kept for the backward counts, and its slopes.
        return at_most(_TOTAL / (2 * each * sum(counts)), _BATCHES)
    weights = 4 * sum(layer.parameters for layer in layers)
    kind, largest = "compiled" if net.compiled else "eager", each * max(counts)
    wanted = max(min(2, _FEW[kind] / largest), weights / _WEIGHTS_EACH)
    return at_most(min(wanted, _LARGEST[kind] / largest), _BATCHES)


def _result(net: Adapter[Any], jobs: _Jobs, climbed: Sequence[Climbed]) -> Ascent:
    """Put the batches together, and of several seeds keep the best."""
    longest = max(len(one.trace) for one in climbed)
    clean = np.concatenate([one.clean for one in climbed])
    best = clean.reshape(-1, jobs.best_of).argmax(1)
    rows = np.arange(len(best)) * jobs.best_of + best
    # Pictures that were done early stay what they were.
    traces = [np.pad(c.trace, ((0, longest - len(c.trace)), (0, 0)), "edge") for c in climbed]
    trace = np.concatenate(traces, axis=1)[:, rows]
    octaves = np.concatenate([c.trace[np.array(c.ends) - 1] for c in climbed], axis=1)[:, rows]
    kept = []
    for k, (step, _) in enumerate(climbed[0].kept):
        if all(len(c.kept) > k for c in climbed):
            kept.append((step, np.concatenate([c.kept[k][1] for c in climbed])[rows]))
    every = [verdict for one in climbed for verdict in one.verdicts]
    verdicts = tuple(every[row] for row in rows)
    notes = dict.fromkeys(note for note in (jobs.note, *verdicts) if note)
    return Ascent(
        images=np.concatenate([one.images for one in climbed])[rows],
        objective=tuple(map(str, jobs.objectives)),
        trace=trace,
        octaves=octaves,
        clean=clean[rows],
        seeds=tuple(jobs.pictures[row][1][0] for row in rows),
        intermediates=tuple(kept),
        recipe=jobs.recipe,
        network=net.name,
        framework=net.framework,
        notes=tuple(notes),
        verdicts=verdicts,
        alpha=_alpha(climbed, rows),
        net=net,
        objectives=tuple(jobs.objectives),
    )


def _alpha(climbed: Sequence[Climbed], rows: NDArray[Any]) -> NDArray[Any] | None:
    found = [one.alpha for one in climbed if one.alpha is not None]
    return np.concatenate(found)[rows] if found else None
