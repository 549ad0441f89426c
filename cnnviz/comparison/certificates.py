"""Proof that two networks do the same: their outputs and slopes, in float64."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.adapter import INPUT, Adapter
from cnnviz.comparison.differences import (
    GradientDifference,
    LayerDifference,
    Run,
    gradient_differences,
)
from cnnviz.comparison.matching import Pair
from cnnviz.comparison.predictions import predicted_classes
from cnnviz.comparison.tallies import relative_difference
from cnnviz.errors import UnsupportedModel
from cnnviz.files import plain_json, write_json

__all__ = ["Certificate", "certify"]

Array = NDArray[Any]

# What two right ports of one network may be apart, below any fault: two that compute alike are
# 1e-13 apart in float64, but TensorFlow keeps the slope of a leaky ReLU in float32.
_BOUNDS = {"float64": (5e-7, 5e-6), "float32": (1e-4, 1e-2), "float16": (1e-2, 1e-1)}


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

    @property
    def holds(self) -> bool:
        """Whether both numbers, and every layer, are within their bounds."""
        # A comparison with what is no number is false.
        return (
            self.forward <= self.bounds[0]
            and all(row.relative <= self.bounds[0] for row in self.layers)
            and self.gradient <= self.bounds[1]
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
                "layers": [row.to_json() for row in self.layers],
            }
        )
        return found

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write it as JSON; what is no number becomes null."""
        return write_json(path, self.to_json())

    def __str__(self) -> str:
        verdict = "the same" if self.holds else "NOT the same"
        return (
            f"{self.source} and {self.target} are {verdict} in {self.dtype}: scores apart by"
            f" {self.forward:.1e}, slopes by {self.gradient:.1e} of their largest, over"
            f" {len(self.layers)} layers ({self.tensors} tensors, {self.numbers:,} numbers)"
        )


def certify(
    one: Adapter[Any],
    two: Adapter[Any],
    pairs: Sequence[Pair],
    pictures: tuple[Array, Array],
    **more: Any,
) -> Certificate:
    """Compare two networks layer by layer and by their slopes, in float64 where they can be.

    Parameters
    ----------
    one, two : Adapter
    pairs : sequence of Pair
    pictures : (array, array)
        As each network takes them.
    **more
        Further attributes of the certificate.
    """
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
        scores = run.add(x, cka=False)
        classes = predicted_classes(scores[0])
        slopes: list[GradientDifference] = gradient_differences(nets[0], nets[1], x, classes, {})
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
        **more,
    )
