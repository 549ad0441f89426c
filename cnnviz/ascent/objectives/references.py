"""Objectives that take a given picture as their measure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnviz.adapter import Adapter, Ops
from cnnviz.ascent.held import Held
from cnnviz.ascent.objectives.base import Array, Objective, Rule, Size, Tap, TapRule, Term, sum_of
from cnnviz.ascent.objectives.rules import powered_cosine
from cnnviz.images import ImageLike, read, resize
from cnnviz.pictures import picture_batch

__all__ = ["accentuation", "caricature", "inversion"]


@dataclass(frozen=True)
class DistanceRule(TapRule):
    """Minus the squared distance to given activations, as a share of their squared length."""

    def __call__(self, ops: Ops[Any], activations: Mapping[str, Any], *data: Any) -> Any:
        """See `Rule`."""
        value, wanted = self.tap.map(ops, activations), data[0]
        apart = value - wanted
        length = ops.sum(wanted * wanted, axis=(1, 2, 3)) + 1e-12
        return -ops.sum(apart * apart, axis=(1, 2, 3)) / length


@dataclass(frozen=True)
class CaricatureRule(TapRule):
    """The dot product with given activations, times a power of the cosine."""

    power: float

    def __call__(self, ops: Ops[Any], activations: Mapping[str, Any], *data: Any) -> Any:
        """See `Rule`."""
        value, wanted = self.tap.map(ops, activations), data[0]
        axes = (1, 2, 3)
        dot = ops.sum(value * wanted, axis=axes)
        length = ops.sum(wanted * wanted, axis=axes) + 1e-12
        return dot * powered_cosine(ops, dot, value, wanted, axes, self.power) / length


@dataclass(frozen=True)
class ReferenceTerm(Term):
    """A comparison with what a picture gives at a layer."""

    tap: str
    picture: Held
    power: float | None = None

    def rule(self, net: Adapter[Any]) -> Rule:
        """See `Term.rule`."""
        tap = Tap.of(net, self.tap)
        tap.channels(net)
        return DistanceRule(tap) if self.power is None else CaricatureRule(tap, self.power)

    def data(self, net: Adapter[Any], size: Size) -> tuple[Array, ...]:
        """See `Term.data`; the network runs once on the picture at that size."""
        # Cubic resizing overshoots.
        resized = np.clip(resize(self.picture.array, size, "bicubic"), 0, 1)
        picture = picture_batch(net, resized, size)
        tap = Tap.of(net, self.tap)
        activations = net.forward(net.ops.asarray(picture), taps=[tap.name])
        found = tap.map(net.ops, activations)
        return (np.asarray(net.ops.to_numpy(found)[0], dtype=np.float64),)

    def identity(self, net: Adapter[Any]) -> tuple[Any, ...]:
        """See `Term.identity`."""
        return ("reference", repr(self.picture), self.power)

    def describe(self) -> str:
        """See `Term.describe`."""
        if self.power is None:
            return f"inversion:{self.tap}"
        return f"caricature:{self.tap}" + (f"^{self.power:g}" if self.power else "")


def inversion(layer: str, image: ImageLike) -> Objective:
    """Find another picture that looks the same to a layer as the given one [1]_.

    Minus the squared distance of the activations, as a share of their squared length: 0 is
    a perfect copy, -1 is a layer that gives nothing.

    Parameters
    ----------
    layer : str
    image : path, Pillow image or array
        Brought to the size of the picture that is made.

    References
    ----------
    .. [1] Mahendran and Vedaldi, "Understanding Deep Image Representations by Inverting
       Them", CVPR 2015, arXiv:1412.0035.
    """
    return sum_of(ReferenceTerm(layer, _held(image)))


def caricature(layer: str, image: ImageLike, power: float = 1.0) -> Objective:
    """Exaggerate what a layer sees in a picture.

    ``dot * max(0.1, cosine) ** power`` with the activations of the picture, over their
    squared length: 1 is the picture itself, more is a caricature.

    Parameters
    ----------
    layer : str
    image : path, Pillow image or array
        Brought to the size of the picture that is made.
    power : float
        Of the true cosine, from 0 to about 2: how far what the picture lacks is kept out.
    """
    return sum_of(ReferenceTerm(layer, _held(image), float(power)))


def accentuation(
    objective: Objective, image: ImageLike, layer: str, weight: float = 1.0
) -> Objective:
    """Begin with a picture and bring out where it answers, while a layer still sees it [1]_.

    Parameters
    ----------
    objective : Objective
        What to bring out.
    image : path, Pillow image or array
        The ascent begins with it.
    layer : str
        An early layer, at which the picture must stay like the image.
    weight : float
        How much that counts, for each unit of `inversion`.

    References
    ----------
    .. [1] Hamblin et al., "Feature Accentuation: Revealing 'What' Features Respond to in
       Natural Images", 2024, arXiv:2402.10039.
    """
    held = _held(image)
    kept = sum_of(ReferenceTerm(layer, held), held.array)
    return kept * weight + objective if weight else Objective(objective.terms, held.array)


def _held(image: Any) -> Held:
    own = isinstance(image, np.ndarray) and image.ndim == 3
    return Held(read(image, image.shape[-1] if own else 3))
