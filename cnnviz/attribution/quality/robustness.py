"""Whether a map holds when the picture changes a little, and whether its numbers add up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cnnviz import images
from cnnviz.attribution.integrated import baseline_of
from cnnviz.attribution.methods import attribute
from cnnviz.attribution.quality.subject import (
    subject_of,
)
from cnnviz.attribution.result import Attribution
from cnnviz.attribution.settings import require_count, require_positive
from cnnviz.attribution.targets import Targets
from cnnviz.discovery import adapt
from cnnviz.errors import InvalidOption
from cnnviz.images import ImagesLike
from cnnviz.pictures import picture_batch
from cnnviz.progress import tracked
from cnnviz.scores import ScoreKind

__all__ = ["Infidelity", "completeness", "infidelity", "sensitivity"]

Array = NDArray[Any]

# Methods whose numbers are slopes: what the score changes by for each unit of a pixel.
_SLOPES = (
    "saliency",
    "smoothgrad",
    "smoothgrad_squared",
    "vargrad",
    "guided_backprop",
    "deconvnet",
)


@dataclass(frozen=True)
class Infidelity:
    """How far the changes that a map foretells are from those that the score shows.

    Attributes
    ----------
    values : array
        ``(N,)``: the mean squared difference, in squared units of the score.
    factor : array
        ``(N,)``: what the maps were multiplied by; 1 unless scaled.
    change : array
        ``(N,)``: the mean square of what the score really changes by.
    """

    values: NDArray[np.float64]
    factor: NDArray[np.float64]
    change: NDArray[np.float64]

    @property
    def share(self) -> NDArray[np.float64]:
        """``(N,)``: what of the changes is not foretold; in [0, 1] where maps were scaled."""
        some = self.change > 0
        return np.asarray(np.where(some, self.values / np.where(some, self.change, 1), 0))


def sensitivity(
    net: Any,
    images: ImagesLike,
    method: str = "grad_cam",
    target: Targets = None,
    layer: str | Sequence[str] | None = None,
    *,
    radius: float = 0.02,
    samples: int = 10,
    seed: int = 0,
    size: int | tuple[int, int] | None = None,
    batch: int | None = None,
    score: ScoreKind | None = None,
    fuse: str | None = None,
    **options: Any,
) -> NDArray[np.float64]:
    """Give the largest relative change of a map under small changes of its picture [1]_.

    ``max_d ||phi(x + d) - phi(x)|| / ||phi(x)||`` over `samples` draws of d, uniform in
    ``[-radius, radius]`` for each number; phi is `Attribution.raw`. Pictures stay in [0, 1]. The
    class is that of the picture itself throughout.

    Parameters
    ----------
    net, images, method, target, layer, size, batch, score, fuse
        As for `cnnviz.attribute`.
    radius : float
        0.02 of the range of a picture.
    samples : int
        Draws; the same for each picture.
    seed : int
    **options
        Settings of the method.

    Returns
    -------
    array
        ``(N,)``, a number a map; 0 is a map that holds. Infinite where the map was empty and
        does not stay so.

    Raises
    ------
    InvalidOption
        A setting cannot be meant, or as `attribute`.

    References
    ----------
    .. [1] Yeh et al., "On the (In)fidelity and Sensitivity of Explanations", NeurIPS 2019,
       arXiv:1901.09392.
    """
    radius = require_positive("radius", radius)
    require_count("samples", samples)
    require_count("seed", seed, 0)
    adapter = adapt(net)
    pictures = picture_batch(adapter, images, size)
    sides = pictures.shape[1:-1]
    wanted = (int(sides[0]), int(sides[1])) if len(sides) == 2 else None

    def explained(x: Array, what: Targets) -> Attribution:
        return attribute(
            adapter, x, method, what, layer, size=wanted, batch=batch, score=score, fuse=fuse,
            **options,
        )  # fmt: skip

    clean = explained(pictures, target)
    if all(one is not None for one in clean.target):
        each = len(clean.target) // len(pictures)
        rows = np.array(clean.target, np.intp).reshape(-1, each)
        target = [tuple(int(c) for c in row) for row in rows]
    axes = tuple(range(1, clean.raw.ndim))
    length = np.sqrt((clean.raw.astype(np.float64) ** 2).sum(axes))
    worst = np.zeros(len(clean.raw))
    for i in tracked(range(samples), f"sensitivity of {method} by {adapter.name}", samples):
        drawn = np.random.default_rng([seed, i]).uniform(-radius, radius, pictures.shape[1:])
        moved = (pictures + drawn).astype(pictures.dtype)
        if wanted is not None:
            moved = np.clip(moved, 0, 1)
        apart = explained(moved, target).raw.astype(np.float64) - clean.raw
        worst = np.maximum(worst, np.sqrt((apart**2).sum(axes)))
    return _over(worst, length)


def infidelity(
    net: Any,
    attribution: Attribution,
    *,
    perturbation: Literal["square", "gaussian"] = "square",
    samples: int = 100,
    noise: float = 0.1,
    baseline: str | float | Array = "black",
    scaled: bool = True,
    of: Literal["slopes", "contributions"] | None = None,
    seed: int = 0,
    target: Targets = None,
    score: ScoreKind | None = None,
    batch: int | None = None,
) -> Infidelity:
    """Compare what a map foretells with what the score does when the picture is perturbed [1]_.

    ``E (I . phi - (y(x) - y(x - I)))^2`` over perturbations I. A map of contributions, which
    count against a baseline b, foretells the sum of those that are taken away: there phi is
    ``contribution / (x - b)``, so that for the square ``I . phi`` is the sum of the map in it.

    Parameters
    ----------
    net : model or Adapter
    attribution : Attribution
        `Attribution.values` are taken where there are any, else `Attribution.raw`, enlarged.
    perturbation : {"square", "gaussian"}
        A square of random size, up to half of the shorter side, at a random place within which
        the picture becomes the baseline; or noise on each number.
    samples : int
        How many; the same for each picture.
    noise : float
        Standard deviation of the Gaussian, for pictures in [0, 1].
    baseline : {"black", "white", "mean", "blur"}, float or array
        What stands in place of the square; see `integrated_gradients`.
    scaled : bool
        Whether each map is multiplied by the factor that makes the infidelity smallest,
        ``E[I.phi dy] / E[(I.phi)^2]``, as maps are known but for their scale.
    of : {"slopes", "contributions"}, optional
        What the numbers of the map are; by default slopes for saliency, SmoothGrad and the rules
        for ReLU, contributions for all others.
    seed : int
    target : see `cnnviz.attribute`
        What was explained, where that was no class.
    score : {"logit", "probability"}, optional
        By default what was explained.
    batch : int, optional
        Variants at a time.

    Returns
    -------
    Infidelity

    Raises
    ------
    InvalidOption
        A setting cannot be meant, or the numbers of the map are for pixels and not for channels
        where those are needed: for slopes, and under Gaussian noise.

    References
    ----------
    .. [1] Yeh et al., "On the (In)fidelity and Sensitivity of Explanations", NeurIPS 2019,
       arXiv:1901.09392.
    """
    if perturbation not in ("square", "gaussian"):
        raise InvalidOption(f"perturbation is 'square' or 'gaussian', not {perturbation!r}")
    if of not in (None, "slopes", "contributions"):
        raise InvalidOption(f"of is 'slopes' or 'contributions', not {of!r}")
    require_count("samples", samples)
    require_count("seed", seed, 0)
    noise = require_positive("noise", noise)
    of = of or ("slopes" if attribution.method in _SLOPES else "contributions")
    judged = subject_of(
        net, attribution, "infidelity of", target=target, score=_kind(attribution, score),
        batch=batch,
    )  # fmt: skip
    x = judged.task.pictures
    weights = _numbers(attribution)
    if weights.shape[-1] != x.shape[-1] and (of == "slopes" or perturbation == "gaussian"):
        raise InvalidOption(
            f"{attribution.method} gives a number a pixel, and not for each channel: take"
            " perturbation='square' and of='contributions'"
        )
    starts = baseline_of(judged.task, baseline)
    masks = _squares(samples, x.shape[1:-1], seed)[..., None]
    clean = judged.clean()
    found = []
    for row in judged.rows():
        away = np.asarray(x[row] - starts[row], np.float64)
        numbers = weights[row].astype(np.float64)
        if perturbation == "gaussian" and of == "contributions":
            numbers = np.divide(numbers, away, out=np.zeros_like(numbers), where=away != 0)
        elif perturbation == "square" and of == "slopes":
            numbers = numbers * away
        foretold = np.zeros(samples)
        rng = np.random.default_rng(seed)

        def variants(
            first: int,
            stop: int,
            row: int = row,
            away: Array = away,
            numbers: Array = numbers,
            foretold: Array = foretold,
            rng: np.random.Generator = rng,
        ) -> Array:
            if perturbation == "square":
                moved, told = away * masks[first:stop], numbers * masks[first:stop]
            else:
                moved = noise * rng.standard_normal((stop - first, *x.shape[1:]))
                told = numbers * moved
            foretold[first:stop] = told.reshape(len(told), -1).sum(1)
            return np.asarray(x[row] - moved, x.dtype)

        change = clean[row] - judged.scores(row, samples, variants)
        square = float((foretold**2).mean())
        factor = float((foretold * change).mean()) / square if scaled and square > 0 else 1.0
        found.append((((factor * foretold - change) ** 2).mean(), factor, (change**2).mean()))
    values, factors, changes = np.array(found, np.float64).T
    return Infidelity(values, factors, changes)


def _numbers(attribution: Attribution) -> Array:
    """Give the numbers of each pixel, with an axis for channels, or for one number last."""
    if attribution.values is not None:
        return attribution.values
    raw, sides = attribution.raw, attribution.map.shape[1:]
    return (raw if raw.shape[1:] == sides else images.enlarge(raw, sides))[..., None]


def _squares(samples: int, sides: tuple[int, ...], seed: int) -> NDArray[np.bool_]:
    """Draw squares of random size and place, ``(samples, *sides)``."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((samples, *sides), bool)
    for mask in masks:
        length = int(rng.integers(1, max(1, min(sides) // 2) + 1))
        corner = [int(rng.integers(0, side - length + 1)) for side in sides]
        mask[tuple(slice(c, c + length) for c in corner)] = True
    return masks


def _kind(attribution: Attribution, score: ScoreKind | None) -> ScoreKind:
    if score is not None:
        return score
    return "probability" if attribution.score_kind == "probability" else "logit"


def completeness(
    net: Any,
    attribution: Attribution,
    *,
    baseline: str | float | Array = "black",
    target: Targets = None,
    score: ScoreKind | None = None,
    batch: int | None = None,
) -> NDArray[np.float64]:
    """Say how much of the change of the score a map does not account for [1]_.

    ``|y(x) - y(b) - sum phi| / |y(x) - y(b)|`` with phi the numbers of `Attribution.raw`.

    Parameters
    ----------
    net : model or Adapter
    attribution : Attribution
        Of a method whose numbers should add up, such as ``"integrated_gradients"``.
    baseline : {"black", "white", "mean", "blur"}, float or array
        That of the method.
    target : see `cnnviz.attribute`
        What was explained, where that was no class.
    score : {"logit", "probability"}, optional
        By default what was explained.
    batch : int, optional

    Returns
    -------
    array
        ``(N,)``; 0 is complete. Infinite where the score does not change and the map says so.

    Raises
    ------
    InvalidOption
        The baseline is none, or what was explained is not known.

    References
    ----------
    .. [1] Sundararajan et al., "Axiomatic Attribution for Deep Networks", ICML 2017,
       arXiv:1703.01365.
    """
    judged = subject_of(
        net, attribution, "completeness of", target=target, score=_kind(attribution, score),
        batch=batch,
    )  # fmt: skip
    task = judged.task
    starts, ends = baseline_of(task, baseline), []
    for chunk in task.chunks("completeness of"):
        x = task.ops.asarray(np.ascontiguousarray(starts[chunk.rows]))
        ends.append(task.values(x, chunk.rows)[: chunk.count, 0])
    change = judged.clean() - np.concatenate(ends)
    total = attribution.raw.sum(axis=tuple(range(1, attribution.raw.ndim)), dtype=np.float64)
    return _over(np.abs(change - total), np.abs(change))


def _over(upper: Array, lower: Array) -> NDArray[np.float64]:
    """Divide, so that nothing over nothing is 0, and something over it infinite."""
    some = lower > 0
    rest = np.where(upper > 0, np.inf, 0.0)
    return np.asarray(np.where(some, upper / np.where(some, lower, 1), rest))
