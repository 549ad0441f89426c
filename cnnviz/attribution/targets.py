"""What an attribution explains: a class, a region, any objective, or a function of the output."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.adapter import LOGITS, Adapter
from cnnviz.ascent.objectives import Objective
from cnnviz.ascent.objectives.scoring import BatchScore
from cnnviz.attribution.settings import require_count
from cnnviz.classes import class_index, class_name, in_words
from cnnviz.errors import InvalidOption
from cnnviz.scores import ClassScore, ScoreKind

__all__ = ["Goal", "Region", "Target", "Targets", "TopClasses", "chosen_goal", "region", "top"]


@dataclass(frozen=True)
class TopClasses:
    """The classes to which a network gives the highest scores."""

    count: int


@dataclass(frozen=True, eq=False)
class Region:
    """A class at some places of a network that scores every place or proposal."""

    target: int | str
    mask: NDArray[np.float64]


Target = int | str | Region | Objective | Callable[[Any], Any]
"""A class by index or name, a region, an objective, or a function of the class scores.

A function is given native scores: ``(N, C)``; of a network that scores every place
``(N, H, W, C)``, channels last in every framework.
"""

Targets = Target | TopClasses | None | Sequence[Target | Sequence[int | str] | None]
"""One for all pictures or one each; several classes for each picture; None for the predicted."""

_WHAT = (
    "a target is a class by index or name, several of these, a region, an objective or a"
    " function, not {}"
)


def top(count: int) -> TopClasses:
    """Explain the classes of the highest scores, each by a map of its own.

    Raises
    ------
    InvalidOption
        There are none to explain.
    """
    return TopClasses(require_count("the count of classes", count))


def region(target: int | str, mask: NDArray[Any]) -> Region:
    """Explain a class where a mask is, for networks that score every place, as in segmentation.

    Parameters
    ----------
    target : int or str
        The class.
    mask : array
        ``(H, W)`` at the resolution of the class scores, ``(A,)`` for proposals of a detector:
        the weight of each place; the score is the weighted mean. One proposal is one box.

    Raises
    ------
    InvalidOption
        The mask is empty or holds numbers below zero.
    """
    weight = np.asarray(mask, np.float64)
    if not weight.size or not np.isfinite(weight).all() or weight.min() < 0 or not weight.any():
        raise InvalidOption("the mask of a region holds weights from 0 on, and not only zeros")
    return Region(target, weight / weight.sum())


@dataclass(frozen=True)
class _RegionScore:
    """The weighted sum of the class scores of all places."""

    ops: Any

    def __call__(self, activations: Mapping[str, Any], weights: Any) -> Any:
        scores = activations[LOGITS]
        places = tuple(int(n) for n in scores.shape[1:-1])
        if places != tuple(int(n) for n in weights.shape[1:-1]):
            raise InvalidOption(
                f"the network scores {places or 'no'} places and the mask of the region has"
                f" {tuple(int(n) for n in weights.shape[1:-1])}"
            )
        return self.ops.sum(scores * weights, axis=tuple(range(1, len(scores.shape))))


@dataclass(frozen=True)
class _FunctionScore:
    """The user's own function of the class scores, ``(N, C)`` or ``(N, H, W, C)``."""

    function: Callable[[Any], Any]

    def __call__(self, activations: Mapping[str, Any]) -> Any:
        scores = activations[LOGITS]
        value = self.function(scores)
        if isinstance(value, (np.ndarray, np.generic)) and not isinstance(scores, np.ndarray):
            raise InvalidOption(
                "the function that is explained gave numbers of numpy, which have no derivative;"
                " compute them by the framework's own operations"
            )
        if tuple(getattr(value, "shape", ())) != (int(scores.shape[0]),):
            raise InvalidOption(
                "the function that is explained gives one number for each picture, (N,), from"
                f" class scores {tuple(scores.shape)}; this one gave"
                f" {tuple(getattr(value, 'shape', ())) or type(value).__name__}"
            )
        return value


@dataclass(frozen=True)
class Goal:
    """The score of each map.

    Attributes
    ----------
    score : callable
        ``score(activations, *args)``, as `Adapter.gradient` takes it.
    taps : tuple of str
        What it reads.
    args : tuple of array
        With an axis for the pictures first; empty for the predicted classes.
    classes : array or None
        ``(N, K)``: the classes of each picture, if classes are explained and known.
    names : tuple of str or None
        Of other scores, one for each picture.
    kind : str
        What the score is, in words.
    """

    score: Callable[..., Any]
    taps: tuple[str, ...]
    args: tuple[NDArray[Any], ...] = ()
    classes: NDArray[np.intp] | None = None
    names: tuple[str, ...] | None = None
    kind: str = "logit"

    @property
    def each(self) -> int:
        """How many maps each picture has."""
        return 1 if self.classes is None else self.classes.shape[1]

    @property
    def of_classes(self) -> bool:
        """Whether it is the score of a class."""
        return self.names is None


def chosen_goal(
    net: Adapter[Any],
    target: Targets,
    count: int,
    size: tuple[int, ...],
    kind: ScoreKind = "logit",
) -> Goal:
    """Read what the user wants explained, for `count` pictures.

    Raises
    ------
    InvalidOption
        Targets and pictures differ in number, kinds of targets are mixed, or the score has no
        such kind.
    ChannelOutOfRange, UnknownLayer
        The network has no such class, channel or layer.
    """
    if kind not in ("logit", "probability"):
        raise InvalidOption(f"a score is 'logit' or 'probability', not {kind!r}")
    if target is None:
        return Goal(_class_score(net, kind), (LOGITS,), kind=kind)
    if isinstance(target, (int, np.integer, str, Region, Objective)) or callable(target):
        given: list[Any] = [target] * count
    elif isinstance(target, TopClasses):
        raise InvalidOption("the classes of the highest scores are known once the network ran")
    else:
        if not isinstance(target, (Sequence, np.ndarray)):
            raise InvalidOption(_WHAT.format(in_words(target)))
        given = list(target)
        if len(given) != count:
            raise InvalidOption(numbers_differ(given, count))
    if any(one is None for one in given):
        raise InvalidOption("give every picture its class, or none of them any")
    if all(isinstance(one, Objective) for one in given):
        return _of_objectives(net, given, size)
    if all(isinstance(one, Region) for one in given):
        return _of_regions(net, given)
    if all(callable(one) for one in given):
        if any(one is not given[0] for one in given):
            raise InvalidOption("a function of the class scores is one for all pictures")
        name = getattr(given[0], "__name__", type(given[0]).__name__)
        return Goal(_FunctionScore(given[0]), (LOGITS,), names=(name,) * count, kind="function")
    if any(isinstance(one, (Objective, Region)) or callable(one) for one in given):
        raise InvalidOption(
            "targets are of one kind for all pictures, not"
            f" {' and '.join(dict.fromkeys(map(in_words, given)))}"
        )
    return class_goal(net, [_classes(net, one) for one in given], kind)


def numbers_differ(targets: Sequence[Any], count: int, hint: bool = True) -> str:
    """Say in words that targets and pictures differ in number; with a hint what may be meant."""
    told = (
        f"{len(targets)} target{'s' * (len(targets) != 1)} for {count}"
        f" picture{'s' * (count != 1)}; give one for all, or one for each"
    )
    if hint and count == 1 and all(isinstance(one, (int, np.integer, str)) for one in targets):
        shown = ", ".join(repr(one) if isinstance(one, str) else str(one) for one in targets[:3])
        more = ", ..." * (len(targets) > 3)
        which = "both" if len(targets) == 2 else "all"
        told += f"; [({shown}{more})] explains {which} classes of the one picture"
    return told


def class_goal(net: Adapter[Any], rows: Sequence[Sequence[int]], kind: str = "logit") -> Goal:
    """Explain classes, as many for each picture.

    Raises
    ------
    InvalidOption
        Pictures have different numbers of classes.
    """
    if len({len(row) for row in rows}) > 1:
        raise InvalidOption("give each picture as many classes as the others")
    classes = np.array(rows, np.intp)
    if net.classes is None:
        net.layers()
    weights = np.eye(net.classes or int(classes.max()) + 1)[classes]
    weights = weights[:, 0] if classes.shape[1] == 1 else weights
    return Goal(_class_score(net, kind), (LOGITS,), (weights,), classes, kind=kind)


def _class_score(net: Adapter[Any], kind: str) -> ClassScore:
    if kind == "logit":
        return ClassScore(net.ops)
    net.layers()
    return ClassScore(net.ops, "sigmoid" if net.final_activation == "sigmoid" else "softmax")


def _classes(net: Adapter[Any], target: Any) -> list[int]:
    if isinstance(target, (int, np.integer, str)):
        return [class_index(net, target)]
    if isinstance(target, Sequence):
        if not target:
            raise InvalidOption("a picture without any class has nothing to explain")
        return [class_index(net, one) for one in target]
    raise InvalidOption(_WHAT.format(in_words(target)))


def _of_objectives(
    net: Adapter[Any], objectives: Sequence[Objective], size: tuple[int, ...]
) -> Goal:
    for objective in objectives:
        for term in objective.terms:
            if term.net is not None and term.net is not net:
                raise InvalidOption(f"{objective} asks another network; explain that one by itself")
            if term.rule(net).coupled:
                raise InvalidOption(f"{objective} is no score of one picture")
    score, args = BatchScore.of(net, objectives, (int(size[0]), int(size[-1])))
    names = tuple(map(str, objectives))
    return Goal(score, score.taps, tuple(args), names=names, kind="objective")


def _of_regions(net: Adapter[Any], regions: Sequence[Region]) -> Goal:
    if len({one.mask.shape for one in regions}) > 1:
        raise InvalidOption("the masks of all regions have one size")
    indices = [class_index(net, one.target) for one in regions]
    weights = np.stack([one.mask for one in regions])[..., None]
    weights = weights * np.eye(net.classes or max(indices) + 1)[indices].reshape(
        len(regions), *(1,) * regions[0].mask.ndim, -1
    )
    names = tuple(f"{class_name(net, index)} in the region" for index in indices)
    return Goal(_RegionScore(net.ops), (LOGITS,), (weights,), names=names, kind="region")
