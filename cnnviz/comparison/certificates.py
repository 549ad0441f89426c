"""Proof that two networks do the same: their outputs and slopes, in float64."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.adapter import INPUT, LOGITS, Adapter
from cnnviz.comparison.cautions import constant_layers, constants_in_words
from cnnviz.comparison.differences import (
    GradientDifference,
    LayerDifference,
    Run,
    gradient_differences,
    outputs_of,
)
from cnnviz.comparison.flattening import IN_PLACE
from cnnviz.comparison.matching import Pair
from cnnviz.comparison.predictions import predicted_classes
from cnnviz.comparison.tallies import relative_difference
from cnnviz.errors import InvalidImage, UnsupportedModel
from cnnviz.files import plain_json, write_json

__all__ = ["Certificate", "certify", "strengthened"]

Array = NDArray[Any]

# What two right ports of one network may be apart, below any fault: two that compute alike are
# 1e-13 apart in float64, but TensorFlow keeps the slope of a leaky ReLU in float32.
_BOUNDS = {"float64": (5e-7, 5e-6), "float32": (1e-4, 1e-2), "float16": (1e-2, 1e-1)}
# On pictures whose contrast is so many times what it was, activations come to their limits: a
# ReLU6 to its 6. Rounding grows there; what is another function is apart by much more.
_STRENGTH = 1000.0
_STRONG_BOUND = {"float64": 1e-4, "float32": 1e-2, "float16": math.inf}


@dataclass(frozen=True)
class Certificate:
    """How far two networks are apart after one was given the weights of the other.

    Attributes
    ----------
    source, target : str
        Names of the networks and their frameworks.
    dtype : str
        In which both were run: ``"float64"``, where both can be copied to it.
    forward, gradient : float
        max|difference| / max|reference| of the class scores, and of the slopes at the picture.
    bounds : (float, float)
        Up to which these hold.
    layers : tuple of LayerDifference
    tensors, numbers : int
        How many weights were carried over, and the numbers in them.
    turned : tuple of str
        Dense layers whose rows were put into another order, since their map was flattened so.
    pictures : int
        How many were run.
    strong : float
        max|difference| / max|reference| of the layer that is farthest apart on a picture of a
        thousand times the contrast, at which activations come to their limits; NaN where none
        could be run.
    strong_bound : float
        Up to which this holds.
    cautions : tuple of str
        What the numbers cannot tell: settings in which matched layers differ though no
        difference was seen, and layers that gave the same whatever the picture.
    """

    source: str
    target: str
    dtype: str
    forward: float
    gradient: float
    bounds: tuple[float, float]
    layers: tuple[LayerDifference, ...]
    tensors: int = 0
    numbers: int = 0
    turned: tuple[str, ...] = ()
    pictures: int = 2
    strong: float = math.nan
    strong_bound: float = math.inf
    cautions: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether all numbers, and every layer, are within their bounds."""
        # A comparison with what is no number is false.
        return (
            self.forward <= self.bounds[0]
            and all(row.relative <= self.bounds[0] for row in self.layers)
            and self.gradient <= self.bounds[1]
            # Where none could be run, a caution says so.
            and not self.strong > self.strong_bound
        )

    def to_json(self) -> dict[str, Any]:
        """Give it as numbers, a dictionary for each layer; what is no number is null."""
        found: dict[str, Any] = plain_json(
            {
                "source": self.source,
                "target": self.target,
                "holds": self.holds,
                "dtype": self.dtype,
                "forward": self.forward,
                "gradient": self.gradient,
                "bounds": list(self.bounds),
                "tensors": self.tensors,
                "numbers": self.numbers,
                "turned": list(self.turned),
                "pictures": self.pictures,
                "strong": self.strong,
                "strong_bound": self.strong_bound,
                "cautions": list(self.cautions),
                "layers": [row.to_json() for row in self.layers],
            }
        )
        return found

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write it as JSON; what is no number becomes null."""
        return write_json(path, self.to_json())

    def __str__(self) -> str:
        verdict = "the same" if self.holds else "NOT the same"
        cautions = f"; caution: {'; '.join(self.cautions)}" if self.cautions else ""
        return (
            f"{self.source} and {self.target} are {verdict} in {self.dtype}: scores apart by"
            f" {self.forward:.1e}, slopes by {self.gradient:.1e} of their largest, over"
            f" {len(self.layers)} layers ({self.tensors} tensors, {self.numbers:,} numbers)"
            f"{cautions}"
        )


def certify(
    one: Adapter[Any],
    two: Adapter[Any],
    pairs: Sequence[Pair],
    pictures: tuple[Array, Array],
    rows: Mapping[str, NDArray[np.intp]] | None = None,
    cautions: Sequence[str] = (),
    **more: Any,
) -> Certificate:
    """Compare two networks layer by layer and by their slopes, in float64 where they can be.

    Parameters
    ----------
    one, two : Adapter
    pairs : sequence of Pair
    pictures : (array, array)
        As each network takes them.
    rows : mapping of str to array, optional
        See `cnnviz.comparison.flattening.turned_pairs`.
    cautions : sequence of str
        What is known already.
    **more
        Further attributes of the certificate.
    """
    rows = rows or {}
    with ExitStack() as stack:
        try:
            nets = [stack.enter_context(net.in_float64()) for net in (one, two)]
            dtype = "float64"
        except UnsupportedModel:
            nets = [one, two]
            kinds = [net.ops.to_numpy(net.ops.asarray(np.zeros(1))).dtype.name for net in nets]
            dtype = min(kinds, key=lambda kind: int(kind.lstrip("float") or 32))
        x = pictures[0].astype(np.float64), pictures[1].astype(np.float64)
        run = Run(nets[0], nets[1], pairs)
        first, second = _outputs(nets, x, pairs, rows)
        constant = constant_layers(first, pairs)
        run.count(first, second, cka=False)
        scores = first[LOGITS], second[LOGITS]
        classes = predicted_classes(scores[0])
        slopes: list[GradientDifference] = gradient_differences(nets[0], nets[1], x, classes, {})
        del first, second
        strong, still, told = math.nan, constant, []
        try:
            first, second = _outputs(nets, strengthened(x), pairs, rows)
        except InvalidImage:
            told.append(
                "pictures beyond [0, 1] were refused, so no activation was brought to its limits"
            )
        else:
            strong = _farthest(pairs, first, second)
            still = constant_layers(first, pairs)
    slope = next((row.relative for row in slopes if row.name == INPUT), math.nan)
    alike = scores[0].shape == scores[1].shape
    return Certificate(
        source=one.title,
        target=two.title,
        dtype=dtype,
        forward=relative_difference(*scores) if alike else math.nan,
        gradient=slope,
        bounds=_BOUNDS[dtype],
        layers=tuple(run.rows()),
        pictures=len(x[0]),
        strong=strong,
        strong_bound=_STRONG_BOUND[dtype],
        cautions=(*cautions, *constants_in_words(constant, still, one.title), *told),
        **more,
    )


def strengthened(pictures: tuple[Array, Array]) -> tuple[Array, Array]:
    """Give two pictures for each network at a contrast that brings activations to limits."""
    one, two = ((x[:2] - 0.5) * _STRENGTH + 0.5 for x in pictures)
    return one, two


def _outputs(
    nets: Sequence[Adapter[Any]],
    pictures: tuple[Array, Array],
    pairs: Sequence[Pair],
    rows: Mapping[str, NDArray[np.intp]],
) -> tuple[dict[str, Array], dict[str, Array]]:
    names = [pair.name for pair in pairs], [pair.other for pair in pairs]
    first, second = (
        outputs_of(net, x, taps) for net, x, taps in zip(nets, pictures, names, strict=True)
    )
    for pair in pairs:
        # What comes out of a dense layer has one order again.
        if pair.family in IN_PLACE and pair.name in rows:
            first[pair.name] = first[pair.name][:, rows[pair.name]]
    return first, second


def _farthest(
    pairs: Sequence[Pair], first: Mapping[str, Array], second: Mapping[str, Array]
) -> float:
    """Give how far the layer is apart that is farthest; what is no number is left out."""
    found = 0.0
    for pair in pairs:
        a, b = pair.ours(first), pair.theirs(second)
        if a.size == b.size and np.isfinite(a).all() and np.isfinite(b).all():
            found = max(found, relative_difference(a.reshape(-1), b.reshape(-1)))
    return found
