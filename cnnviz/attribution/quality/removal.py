"""What becomes of the score when the pixels that a map points at are taken away, or brought in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.attribution.integrated import baseline_of
from cnnviz.attribution.quality.imputation import imputed
from cnnviz.attribution.quality.subject import (
    Subject,
    fitted,
    subject_of,
)
from cnnviz.attribution.result import Attribution
from cnnviz.attribution.settings import require_count
from cnnviz.attribution.targets import Targets
from cnnviz.errors import InvalidOption
from cnnviz.scores import ScoreKind

__all__ = ["Curve", "Drop", "Road", "average_drop_increase", "deletion", "insertion", "road"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Curve:
    """The score along the removal, or the return, of the pixels of a map.

    Attributes
    ----------
    shares : array
        ``(steps + 1,)``: which share of the pixels is changed, from 0 to 1.
    scores : array
        ``(N, steps + 1)``.
    area : array
        ``(N,)``: the mean of the score over the shares, by trapezoids; in units of the score.
    """

    shares: NDArray[np.float64]
    scores: NDArray[np.float64]
    area: NDArray[np.float64]


@dataclass(frozen=True)
class Road:
    """The score without the most, and without the least relevant pixels.

    Attributes
    ----------
    percentiles : tuple of float
        Which shares of the pixels were removed, in per cent.
    clean : array
        ``(N,)``: the score of the pictures themselves.
    most, least : array
        ``(N, len(percentiles))``: the score without those of the highest values, and without
        those of the lowest.
    """

    percentiles: tuple[float, ...]
    clean: NDArray[np.float64]
    most: NDArray[np.float64]
    least: NDArray[np.float64]

    @property
    def most_drop(self) -> NDArray[np.float64]:
        """``(N,)``: what the score falls by without the most relevant, on average; high is good."""
        return np.asarray(self.clean - self.most.mean(1))

    @property
    def least_drop(self) -> NDArray[np.float64]:
        """``(N,)``: what it falls by without the least relevant, on average; low is good."""
        return np.asarray(self.clean - self.least.mean(1))

    @property
    def gap(self) -> NDArray[np.float64]:
        """``(N,)``: half of what lies between the two; above zero if the order is of any use."""
        return np.asarray((self.least.mean(1) - self.most.mean(1)) / 2)


@dataclass(frozen=True)
class Drop:
    """The score of pictures of which only what the map shows is left.

    Attributes
    ----------
    clean, kept : array
        ``(N,)``: the score of the picture, and of what is left of it.
    """

    clean: NDArray[np.float64]
    kept: NDArray[np.float64]

    @property
    def drops(self) -> NDArray[np.float64]:
        """``(N,)``: the share of the score that is lost, in per cent; 0 where there was none."""
        some = self.clean > 0
        lost = np.maximum(self.clean - self.kept, 0)
        return np.asarray(100 * np.where(some, lost / np.where(some, self.clean, 1), 0))

    @property
    def average_drop(self) -> float:
        """``100 mean(max(0, Y - O) / Y)``, in per cent; low is good."""
        return float(self.drops.mean())

    @property
    def increase(self) -> float:
        """``100 mean(O > Y)``, in per cent; high is good."""
        return float(100 * (self.kept > self.clean).mean())


def deletion(
    net: Any,
    attribution: Attribution,
    *,
    maps: Array | None = None,
    steps: int = 50,
    baseline: str | float | Array = "black",
    target: Targets = None,
    score: ScoreKind = "probability",
    batch: int | None = None,
) -> Curve:
    """Remove the pixels of pictures in the order of their maps, and follow the score [1]_.

    With ``P`` pixels ordered by value, then row, then column, the variant ``k`` has the first
    ``round(k P / steps)`` replaced by the baseline; the area is the trapezoid sum over the
    share of pixels. Low is good: what the map points at was needed.

    Parameters
    ----------
    net : model or Adapter
    attribution : Attribution
        Whose pictures, classes and signed maps are taken.
    maps : array, optional
        ``(N, h, w)``: other maps of the same pictures to be judged.
    steps : int
        In how many equal shares.
    baseline : {"black", "white", "mean", "blur"}, float or array
        What stands in place of a pixel; see `integrated_gradients`.
    target : see `cnnviz.attribute`
        What was explained, where that was no class.
    score : {"logit", "probability"}
        Of a class; the probability by default.
    batch : int, optional
        Variants at a time.

    Returns
    -------
    Curve
        It begins at the score of the picture and ends at that of the baseline.

    Raises
    ------
    InvalidOption
        There are fewer pixels than steps, the maps do not fit the pictures, or a setting cannot
        be meant.

    References
    ----------
    .. [1] Petsiuk et al., "RISE", BMVC 2018, arXiv:1806.07421.
    """
    judged = subject_of(
        net, attribution, "deletion of", maps=maps, target=target, score=score, batch=batch
    )
    return _curve(judged, judged.task.pictures, baseline_of(judged.task, baseline), steps)


def insertion(
    net: Any,
    attribution: Attribution,
    *,
    maps: Array | None = None,
    steps: int = 50,
    baseline: str | float | Array = "blur",
    target: Targets = None,
    score: ScoreKind = "probability",
    batch: int | None = None,
) -> Curve:
    """Bring the pixels of pictures back in the order of their maps, and follow the score [1]_.

    As `deletion`, from the baseline, by default the picture out of focus, to the picture. High
    is good: what the map points at is enough.

    Parameters
    ----------
    net, attribution, maps, steps, baseline, target, score, batch
        As for `deletion`.

    Returns
    -------
    Curve
        It begins at the score of the baseline and ends at that of the picture.

    Raises
    ------
    InvalidOption
        As `deletion`.

    References
    ----------
    .. [1] Petsiuk et al., "RISE", BMVC 2018, arXiv:1806.07421.
    """
    judged = subject_of(
        net, attribution, "insertion of", maps=maps, target=target, score=score, batch=batch
    )
    return _curve(judged, baseline_of(judged.task, baseline), judged.task.pictures, steps)


def _curve(judged: Subject, begin: Array, end: Array, steps: int) -> Curve:
    """Replace the pixels of one picture by those of another, in the order of the map."""
    pixels = judged.maps[0].size
    if require_count("steps", steps) > pixels:
        raise InvalidOption(f"{pixels} pixels cannot be changed in {steps} steps")
    counts = np.round(np.arange(steps + 1) * (pixels / steps)).astype(np.intp)
    found = []
    for row in judged.rows():
        rank = _ranks(judged.maps[row])[..., None]
        before, after = begin[row], end[row]

        def variants(
            first: int, stop: int, rank: Array = rank, before: Array = before, after: Array = after
        ) -> Array:
            changed = rank < counts[first:stop].reshape(-1, *(1,) * rank.ndim)
            return np.where(changed, after, before)

        found.append(judged.scores(row, steps + 1, variants))
    shares, scores = counts / pixels, np.stack(found)
    area = ((scores[:, 1:] + scores[:, :-1]) / 2 * np.diff(shares)).sum(1)
    return Curve(shares, scores, area)


def _ranks(values: Array) -> NDArray[np.intp]:
    """Say at which place each pixel comes: by value from above, then row, then column."""
    order = np.argsort(-values.ravel(), kind="stable")
    ranks = np.empty(len(order), np.intp)
    ranks[order] = np.arange(len(order))
    return ranks.reshape(values.shape)


def road(
    net: Any,
    attribution: Attribution,
    *,
    maps: Array | None = None,
    percentiles: Sequence[float] = (20, 40, 60, 80),
    noise: float = 0.01,
    seed: int = 0,
    target: Targets = None,
    score: ScoreKind = "probability",
    batch: int | None = None,
) -> Road:
    """Remove the most and the least relevant pixels so that their shape gives nothing away [1]_.

    A removed pixel becomes the weighted mean of its neighbours, 1/6 each beside and 1/12 across
    corners, which is a system of linear equations, and a little Gaussian noise.

    Parameters
    ----------
    net, attribution, maps, target, score, batch
        As for `deletion`.
    percentiles : sequence of float
        Which shares are removed, in per cent, above 0 and below 100.
    noise : float
        Its standard deviation, for pictures in [0, 1].
    seed : int
        Of the noise, which is the same for each picture.

    Returns
    -------
    Road

    Raises
    ------
    InvalidOption
        A percentile is none, the network takes no pictures, or as `deletion`.
    MissingDependency
        OpenCV cannot be imported.

    References
    ----------
    .. [1] Rong et al., "A Consistent and Efficient Evaluation Strategy for Attribution
       Methods", ICML 2022, arXiv:2202.00449.
    """
    shares = tuple(float(p) for p in percentiles)
    if not shares or not all(0 < p < 100 for p in shares):
        raise InvalidOption(f"percentiles lie between 0 and 100, not {percentiles!r}")
    if not isinstance(noise, (int, float)) or not 0 <= noise < np.inf:
        raise InvalidOption(f"noise is a number from zero on, not {noise!r}")
    require_count("seed", seed, 0)
    judged = subject_of(
        net, attribution, "ROAD of", maps=maps, target=target, score=score, batch=batch
    )
    pictures = judged.task.pictures
    if pictures.ndim != 4:
        raise InvalidOption("road fills pictures in; a signal or a volume it does not")
    pixels = judged.maps[0].size
    counts = [min(max(1, round(p / 100 * pixels)), pixels - 1) for p in shares]
    drawn = np.random.default_rng(seed).standard_normal(pictures.shape[1:]) * noise
    found = []
    for row in judged.rows():
        rank = _ranks(judged.maps[row])
        removed = [rank < n for n in counts] + [rank >= pixels - n for n in counts]

        def variants(first: int, stop: int, row: int = row, removed: Any = removed) -> Array:
            made = [
                imputed(pictures[row], gone) + drawn * gone[..., None]
                for gone in removed[first:stop]
            ]
            return np.stack(made).astype(pictures.dtype)

        found.append(judged.scores(row, 2 * len(shares), variants))
    scores = np.stack(found)
    return Road(shares, judged.clean(), scores[:, : len(shares)], scores[:, len(shares) :])


def average_drop_increase(
    net: Any,
    attribution: Attribution,
    *,
    maps: Array | None = None,
    baseline: str | float | Array = "black",
    target: Targets = None,
    score: ScoreKind = "probability",
    batch: int | None = None,
) -> Drop:
    """Leave of pictures only what their maps show, and compare the scores [1]_.

    With ``Y`` the score of a picture x and ``O`` that of ``m x + (1 - m) b``, m the map in
    [0, 1] and b the baseline: ``average_drop = 100 mean(max(0, Y - O) / Y)`` and
    ``increase = 100 mean(O > Y)``.

    Parameters
    ----------
    net, attribution, target, score, batch
        As for `deletion`.
    maps : array, optional
        ``(N, h, w)`` in [0, 1]: other maps of the same pictures to be judged.
    baseline : {"black", "white", "mean", "blur"}, float or array
        Black in the paper.

    Returns
    -------
    Drop

    Raises
    ------
    InvalidOption
        A picture scores below zero, of which there is no share; maps are not in [0, 1]; or as
        `deletion`.

    References
    ----------
    .. [1] Chattopadhay et al., "Grad-CAM++", WACV 2018, arXiv:1710.11063.
    """
    judged = subject_of(
        net, attribution, "drop of", maps=maps, target=target, score=score, batch=batch
    )
    task = judged.task
    masks = attribution.map if maps is None else fitted(maps, task.count, task.sides)
    if masks.min() < 0 or masks.max() > 1 + 1e-6:
        raise InvalidOption(f"masks lie in [0, 1], not in {masks.min():.3g}..{masks.max():.3g}")
    clean = judged.clean()
    if clean.min() < 0:
        raise InvalidOption("a score below zero has no share to lose; take score='probability'")
    begin, kept = baseline_of(task, baseline), []
    for chunk in task.chunks("drop of"):
        rows = chunk.rows
        mask = masks[rows][..., None].astype(task.pictures.dtype)
        x = task.pictures[rows] * mask + begin[rows] * (1 - mask)
        kept.append(task.values(task.ops.asarray(x), rows)[: chunk.count, 0].astype(np.float64))
    return Drop(clean, np.concatenate(kept))
