"""What is found out about each network, and what of it they share: numbers, not yet pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

import cnnviz
from cnnviz.adapter import LOGITS
from cnnviz.ascent import Ascent, Objective, objectives
from cnnviz.ascent.objectives import BatchScore
from cnnviz.attribution import Attribution
from cnnviz.features import FeatureMaps
from cnnviz.report.differences import (
    LayerDifference,
    WeightDifference,
    layer_differences,
    weight_differences,
)
from cnnviz.report.networks import Side
from cnnviz.weights import WeightStats

__all__ = ["FULL", "QUICK", "Channel", "Findings", "Goal", "Plan", "Portrait", "Results", "examine"]

Step = Callable[[str], None]


@dataclass(frozen=True)
class Channel:
    """One channel of a layer, by the name that all sides share."""

    layer: str
    index: int

    def objective(self, side: Side) -> Objective:
        """Say it in the names of one side."""
        return objectives.channel(side.names[self.layer], self.index)


@dataclass(frozen=True)
class Goal:
    """A class that a picture is made for."""

    name: str

    def objective(self, side: Side) -> Objective:
        """Say it in the names of one side, which are the same."""
        return objectives.class_logit(self.name)


@dataclass(frozen=True)
class Plan:
    """What a report shows.

    Attributes
    ----------
    layers : tuple of str
        Whose feature maps: an early one, a middle one, a late one.
    maps, maps_photo
        How many maps of each, and of which photo.
    channels, classes
        What pictures are made for.
    profile, profile_photo
        The channel that is marked in its layer's profile, and the photo that it is of.
    ascent : mapping
        Options of `cnnviz.ascend`.
    tensors : tuple of (str, str)
        Whose histograms are drawn: layer and role.
    """

    layers: tuple[str, ...]
    maps: int
    maps_photo: str
    channels: tuple[Channel, ...]
    classes: tuple[Goal, ...]
    profile: Channel
    profile_photo: str
    ascent: Mapping[str, Any]
    tensors: tuple[tuple[str, str], ...]


# It answers to the cat three times as strongly as to the other photos, and its picture says why.
_CAT = Channel("block14_expand_act", 198)

FULL = Plan(
    layers=("stem_act", "block5_expand_act", "block14_expand_act"),
    maps=16,
    maps_photo="coffee",
    channels=(
        Channel("block2_expand_act", 11),
        Channel("block6_expand_act", 10),
        Channel("block8_expand_act", 9),
        Channel("block10_expand_act", 626),
        Channel("block10_expand_act", 136),
        _CAT,
    ),
    classes=(Goal("daisy"), Goal("strawberry"), Goal("tarantula")),
    profile=_CAT,
    profile_photo="chelsea",
    # Small and short, for a page in a minute or two.
    ascent={"size": 112, "steps": 160, "seed": 3},
    tensors=(
        ("stem_conv", "kernel"),
        ("block2_depthwise_conv", "kernel"),
        ("block8_expand_conv", "kernel"),
        ("head_conv", "kernel"),
        ("head_bn", "scale"),
        ("fc", "kernel"),
    ),
)
QUICK = replace(
    FULL,
    maps=4,
    channels=(_CAT,),
    classes=(Goal("daisy"),),
    ascent={"size": 48, "steps": 8, "octaves": 1, "seed": 3},
)


@dataclass(frozen=True, eq=False)
class Portrait:
    """A picture made for a channel or a class.

    Attributes
    ----------
    target : Channel or Goal
        What it was made for.
    image : array
        ``(H, W, 3)`` in [0, 1].
    scores : mapping of str to float
        How strongly each framework's network answers to the finished picture.
    """

    target: Channel | Goal
    image: NDArray[Any]
    scores: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Findings:
    """What one network shows.

    Attributes
    ----------
    side : Side
        The network.
    logits : array
        ``(N, classes)``, of the photos.
    cam : Attribution
        Grad-CAM of the predicted classes.
    maps : FeatureMaps
        Of the plan's layers, under the names that all sides share.
    weights : WeightStats
        Of every tensor.
    portraits : tuple of Portrait
        The pictures made, channels first.
    """

    side: Side
    logits: NDArray[Any]
    cam: Attribution
    maps: FeatureMaps
    weights: WeightStats
    portraits: tuple[Portrait, ...]

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """``(N, classes)``, adding up to one for each photo."""
        shifted = np.exp(self.logits - self.logits.max(axis=1, keepdims=True), dtype=np.float64)
        return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


@dataclass(frozen=True, eq=False)
class Results:
    """All that a report is made of.

    Attributes
    ----------
    plan : Plan
        What was asked for.
    photos : tuple of str
        Names of the photos.
    findings : tuple of Findings
        One a framework; the first is the reference of the others.
    layers : tuple of list of LayerDifference
        For each framework but the first.
    weights : tuple of WeightDifference
        For each framework but the first.
    steps : int
        Of gradient ascent, for each picture.
    missing : tuple of str
        Frameworks that are not installed.
    """

    plan: Plan
    photos: tuple[str, ...]
    findings: tuple[Findings, ...]
    layers: tuple[list[LayerDifference], ...] = ()
    weights: tuple[WeightDifference, ...] = ()
    steps: int = 0
    missing: tuple[str, ...] = ()

    @property
    def reference(self) -> Findings:
        """What the first framework shows."""
        return self.findings[0]

    @property
    def others(self) -> tuple[Findings, ...]:
        """What the other frameworks show; empty if there is only one."""
        return self.findings[1:]


def examine(
    sides: Sequence[Side],
    photos: Mapping[str, Any],
    plan: Plan,
    *,
    missing: Sequence[str] = (),
    step: Step = lambda what: None,
) -> Results:
    """Find out all that a report shows.

    Parameters
    ----------
    sides : sequence of Side
        The networks, the reference first.
    photos : mapping of str to image
        By name.
    plan : Plan
        What to show.
    missing : sequence of str
        Frameworks that are not installed, to be told.
    step : callable
        Called with what begins.
    """
    ascents: list[list[tuple[Sequence[Channel | Goal], Ascent]]] = []
    found = []
    for side in sides:
        step(f"{side.short}: predictions, Grad-CAM, feature maps, weights")
        found.append(_look(side, list(photos.values()), plan))
        groups = [group for group in (plan.channels, plan.classes) if group]
        step(f"{side.short}: {sum(map(len, groups))} pictures by gradient ascent")
        ascents.append(
            [(group, cnnviz.ascend(side.net, [t.objective(side) for t in group], **plan.ascent))
             for group in groups]
        )  # fmt: skip
    findings = [
        Findings(side, *looked, _portraits(sides, made))
        for side, looked, made in zip(sides, found, ascents, strict=True)
    ]
    layers, weights = [], []
    for other in sides[1:]:
        step(f"{sides[0].short} and {other.short}: every layer compared")
        layers.append(layer_differences(sides[0], other, findings[0].cam.images))
        weights.append(weight_differences(sides[0], other))
    return Results(
        plan=plan,
        photos=tuple(photos),
        findings=tuple(findings),
        layers=tuple(layers),
        weights=tuple(weights),
        steps=len(ascents[0][0][1].trace),
        missing=tuple(missing),
    )


def _look(
    side: Side, photos: list[Any], plan: Plan
) -> tuple[NDArray[Any], Attribution, FeatureMaps, WeightStats]:
    layers = dict.fromkeys((*plan.layers, plan.profile.layer))
    taps = [side.names[name] for name in layers]
    seen = cnnviz.feature_maps(side.net, photos, [LOGITS, *taps])
    maps = {name: seen[tap] for name, tap in zip(layers, taps, strict=True)}
    return (
        seen[LOGITS],
        cnnviz.grad_cam(side.net, photos),
        FeatureMaps(maps, seen.images),
        cnnviz.weight_stats(side.net),
    )


def _portraits(
    sides: Sequence[Side], made: Sequence[tuple[Sequence[Channel | Goal], Ascent]]
) -> tuple[Portrait, ...]:
    """Let every network judge the finished pictures of one."""
    portraits = []
    for targets, ascent in made:
        scores = {side.framework: answers(side, targets, ascent.images) for side in sides}
        portraits += [
            Portrait(target, image, {name: values[k] for name, values in scores.items()})
            for k, (target, image) in enumerate(zip(targets, ascent.images, strict=True))
        ]
    return tuple(portraits)


def answers(side: Side, targets: Sequence[Channel | Goal], pictures: NDArray[Any]) -> list[float]:
    """Say how strongly a network answers to each picture where it was made to."""
    net = side.net
    score, weights = BatchScore.of(net, [target.objective(side) for target in targets])
    seen = net.forward(net.ops.asarray(pictures), taps=score.taps)
    values = score(seen, *(net.ops.asarray(weight) for weight in weights))
    return [float(value) for value in net.ops.to_numpy(values)]
