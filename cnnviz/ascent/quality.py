"""How good a picture by gradient ascent is, in numbers that do not depend on taste."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.adapter import LOGITS, Adapter
from cnnviz.ascent.objectives import BatchScore, Objective
from cnnviz.ascent.objectives.base import Tap
from cnnviz.ascent.objectives.units import ChannelTerm
from cnnviz.classes import class_index, class_name
from cnnviz.discovery import adapt
from cnnviz.errors import InvalidOption
from cnnviz.images import ImagesLike
from cnnviz.pictures import picture_batch
from cnnviz.scores import class_scores

if TYPE_CHECKING:
    from cnnviz.ascent.result import Ascent

__all__ = ["Card", "Transfer", "high_frequency_share", "quality", "transfer"]

_BATCH = 8


@dataclass(frozen=True)
class Card:
    """What can be said of one picture.

    Attributes
    ----------
    objective : str
        What it was made for.
    clean : float
        The objective of the finished picture, without transforms and penalties.
    largest : float or None
        The largest that any of the given images reaches.
    high_frequency : float
        Share of the picture's energy above half the Nyquist frequency, a quarter cycle a
        pixel. Photos have a few per cent; grain has much more.
    agreement : float or None
        Mean correlation, over the channels at the objective's layer, of what pictures from
        different seeds make the network do: 1 is the same, whatever they look like.
    """

    objective: str
    clean: float
    largest: float | None
    high_frequency: float
    agreement: float | None

    def __str__(self) -> str:
        parts = [f"{self.objective}: {self.clean:.4g}"]
        if self.largest is not None:
            parts.append(f"largest on images {self.largest:.4g}")
        parts.append(f"{self.high_frequency:.1%} of its energy is fine grain")
        if self.agreement is not None:
            parts.append(f"seeds agree to {self.agreement:.2f}")
        return ", ".join(parts)


@dataclass(frozen=True)
class Transfer:
    """What another classifier says of pictures that were made for a class.

    Attributes
    ----------
    network : str
        The other classifier.
    classes : tuple of int
        What each picture was made for, as the other classifier numbers it.
    ranks : array of int
        ``(N,)``: 1 if it gives that class the highest score of all.
    names : tuple of str
        What it takes each picture for.
    """

    network: str
    classes: tuple[int, ...]
    ranks: NDArray[np.int64]
    names: tuple[str, ...]

    def within(self, count: int) -> int:
        """Count the pictures whose class is among the first `count`."""
        return int((self.ranks <= count).sum())

    def __str__(self) -> str:
        return (
            f"{self.network}: {self.within(1)} of {len(self.ranks)} in its top 1,"
            f" {self.within(5)} in its top 5"
        )


def quality(made: Ascent, images: ImagesLike | None = None, seeds: int = 0) -> tuple[Card, ...]:
    """Judge pictures by what can be measured; see `Card`.

    Parameters
    ----------
    made : Ascent
    images : path, Pillow image, array, or a list of these, optional
        Real images to compare the objective with.
    seeds : int
        How many more seeds to make each picture with, to see whether they agree.
    """
    net = _network(made)
    largest = _largest(net, made.objectives, images) if images is not None else None
    agreement = _agreement(net, made, seeds) if seeds else None
    return tuple(
        Card(
            objective,
            float(made.clean[row]),
            None if largest is None else float(largest[row]),
            high_frequency_share(made.images[row]),
            None if agreement is None else float(agreement[row]),
        )
        for row, objective in enumerate(made.objective)
    )


def high_frequency_share(picture: NDArray[Any]) -> float:
    """Give the share of energy above a quarter cycle a pixel, of ``(H, W)`` or ``(H, W, C)``.

    Of brightness, less its mean, through a window that hides the jump at the border.
    """
    grey = np.asarray(picture, dtype=np.float64)
    grey = grey.mean(-1) if grey.ndim == 3 else grey
    height, width = grey.shape
    window = np.hanning(height + 2)[1:-1, None] * np.hanning(width + 2)[None, 1:-1]
    mean = np.sum(grey * window) / np.sum(window)
    energy = np.abs(np.fft.fft2((grey - mean) * window)) ** 2
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None])
    total = energy.sum()
    return float(energy[radius > 0.25].sum() / total) if total > 0 else 0.0


def transfer(made: Ascent, other: Any) -> Transfer:
    """Show pictures that were made for a class to another classifier; see `Ascent.transfer`."""
    own, judge = _network(made), adapt(other)
    batch = picture_batch(judge, list(made.images))
    classes = [_class_of(own, judge, objective) for objective in made.objectives]
    scores = np.concatenate(
        [
            judge.ops.to_numpy(
                class_scores(
                    judge.ops,
                    judge.forward(judge.ops.asarray(batch[k : k + _BATCH]), taps=[LOGITS])[LOGITS],
                )
            )
            for k in range(0, len(batch), _BATCH)
        ]
    )
    wanted = scores[np.arange(len(scores)), classes]
    return Transfer(
        judge.name,
        tuple(classes),
        1 + (scores > wanted[:, None]).sum(1),
        tuple(class_name(judge, int(one)) for one in scores.argmax(1)),
    )


def _network(made: Ascent) -> Adapter[Any]:
    if made.net is None:
        raise InvalidOption("these pictures no longer know their network; make them again")
    return made.net


def _class_of(own: Adapter[Any], judge: Adapter[Any], objective: Objective) -> int:
    """Give the class that a picture was made for, as another classifier numbers it."""
    asked = [t for t in objective.terms if isinstance(t, ChannelTerm) and t.tap == LOGITS]
    if not asked:
        raise InvalidOption(f"{objective} asks for no class; another classifier can only rank one")
    chosen = max(asked, key=lambda term: term.weight)
    own = chosen.net or own
    index = class_index(own, chosen.index)
    if own.labels is not None and judge.labels is not None:
        return class_index(judge, own.labels[index])
    if judge.classes is None:
        judge.layers()
    if own.classes != judge.classes:
        raise InvalidOption(
            f"{judge.name} has {judge.classes} classes and {own.name} {own.classes}, and nothing"
            " tells which are the same; set the labels of both"
        )
    return index


def _largest(
    net: Adapter[Any], objectives: Sequence[Objective], images: ImagesLike
) -> NDArray[np.float64]:
    """Give the largest value of each objective over images, one forward for each batch."""
    batch = picture_batch(net, images)
    size = (batch.shape[1], batch.shape[2])
    found = np.full(len(objectives), -np.inf)
    networks = dict.fromkeys(t.net or net for o in objectives for t in o.terms)
    for begin in range(0, len(batch), _BATCH):
        pictures = batch[begin : begin + _BATCH]
        values = np.zeros((len(objectives), len(pictures)))
        for asked in networks:
            own = asked is net
            scores = [BatchScore.of(asked, [o] * len(pictures), size, own) for o in objectives]
            taps = tuple(dict.fromkeys(tap for score, _ in scores for tap in score.taps))
            activations = asked.forward(asked.ops.asarray(pictures), taps=taps)
            for row, (score, args) in enumerate(scores):
                if score.rules:
                    value = score(activations, *(asked.ops.asarray(a) for a in args))
                    values[row] += asked.ops.to_numpy(value)
        found = np.maximum(found, values.max(1))
    return found


def _agreement(net: Adapter[Any], made: Ascent, seeds: int) -> NDArray[np.float64]:
    from cnnviz.ascent.rendering import ascend

    profiles = [_profiles(net, made)]
    for k in range(1, seeds + 1):
        again = ascend(net, made.objectives, made.recipe, seed=max(made.seeds) + k)
        profiles.append(_profiles(net, again))
    found = []
    for row in range(len(made.objective)):
        each = np.atleast_2d(np.corrcoef(np.stack([one[row] for one in profiles])))
        found.append(each[np.triu_indices(len(profiles), 1)].mean())
    return np.array(found)


def _profiles(net: Adapter[Any], made: Ascent) -> list[NDArray[np.float64]]:
    """Give the mean over places of each channel at the first layer of each objective."""
    pictures = picture_batch(net, list(made.images))
    found = []
    for picture, objective in zip(pictures, made.objectives, strict=True):
        asked = objective.terms[0].net or net
        tap = Tap.of(asked, objective.terms[0].rule(asked).taps[0])
        activations = asked.forward(asked.ops.asarray(picture[None]), taps=[tap.name])
        found.append(np.ravel(asked.ops.to_numpy(tap.means(asked.ops, activations))))
    return found
