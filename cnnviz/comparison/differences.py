"""How far the layers, the slopes and the scores of two networks are apart."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.adapter import INPUT, LOGITS, Adapter
from cnnviz.comparison.kernels import alignment, centred
from cnnviz.comparison.matching import Pair
from cnnviz.comparison.tallies import Tally, products_of
from cnnviz.scores import ClassScore

__all__ = [
    "GradientDifference",
    "LayerDifference",
    "Run",
    "gradient_differences",
    "outputs_of",
]

Array = NDArray[Any]


@dataclass(frozen=True)
class LayerDifference:
    """How far the outputs of one layer are apart.

    Attributes
    ----------
    name, other : str
        What each network calls it.
    family : str
    shape : tuple of int
        Of one picture's output, in the first network.
    relative : float
        max|difference| / max|reference|; NaN where the shapes differ or it is not finite.
    mean : float
        Mean of |difference|, in the units of the layer.
    cosine, correlation : float
        Of all numbers of the one with those of the other.
    cka : float
        Linear CKA, unbiased, over the pictures; NaN of fewer than four.
    other_shape : tuple of int
        As `shape`, in the second network.
    """

    name: str
    other: str
    family: str
    shape: tuple[int, ...]
    relative: float
    mean: float
    cosine: float
    correlation: float
    cka: float = math.nan
    other_shape: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Give it as numbers."""
        shapes = {"shape": list(self.shape), "other_shape": list(self.other_shape)}
        return {**asdict(self), **shapes}


@dataclass(frozen=True)
class GradientDifference:
    """How far the slopes of one class score are apart, at the picture or at a layer."""

    name: str
    other: str
    relative: float
    cosine: float

    def to_json(self) -> dict[str, Any]:
        """Give it as numbers."""
        return asdict(self)


class Run:
    """Outputs of matched layers, compared as pictures come.

    Parameters
    ----------
    one, two : Adapter
    pairs : sequence of Pair
    """

    def __init__(self, one: Adapter[Any], two: Adapter[Any], pairs: Sequence[Pair]) -> None:
        self._nets = one, two
        self._pairs = pairs
        self._tallies = {pair.name: Tally() for pair in pairs}
        self._shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {}
        self._kernels: dict[str, NDArray[np.float64]] = {}

    def outputs(self, pictures: tuple[Array, Array]) -> tuple[dict[str, Array], dict[str, Array]]:
        """Run both networks on some pictures, and give what `count` compares.

        Parameters
        ----------
        pictures : (array, array)
            ``(N, H, W, C)`` in [0, 1], as each network takes them.
        """
        names = [pair.name for pair in self._pairs], [pair.other for pair in self._pairs]
        first, second = (
            outputs_of(net, x, taps)
            for net, x, taps in zip(self._nets, pictures, names, strict=True)
        )
        return first, second

    def count(
        self, first: Mapping[str, Array], second: Mapping[str, Array], cka: bool = True
    ) -> None:
        """Compare all layers by what both networks gave, as `outputs_of` has it.

        Parameters
        ----------
        first, second : mapping of str to array
        cka : bool
            Whether these pictures count for CKA too.
        """
        for pair in self._pairs:
            a, b = _alike(pair.ours(first), pair.theirs(second))
            self._shapes[pair.name] = a.shape[1:], b.shape[1:]
            tally, alike = self._tallies[pair.name], a.shape == b.shape
            if cka and len(a) >= 4 and len(a) == len(b):
                products = tally.add_examples(a, b) if alike else (products_of(a), products_of(b))
                kernels = [centred(x, True) for x in products]
                flat = np.array([np.vdot(x, y) for x in kernels for y in kernels])
                # As in `similarity`: HSIC_1 of each minibatch counts by its images.
                self._kernels[pair.name] = self._kernels.get(pair.name, 0) + flat / (len(a) - 3)
            elif alike:
                tally.add(a, b)

    def rows(self) -> list[LayerDifference]:
        """Give what was found so far, in the order of the first network."""
        return [self._row(pair) for pair in self._pairs if pair.name in self._shapes]

    def _row(self, pair: Pair) -> LayerDifference:
        ours, theirs = self._shapes[pair.name]
        tally = self._tallies[pair.name]
        alike = ours == theirs
        cka = math.nan
        if np.isfinite(self._kernels.get(pair.name, math.nan)).all():
            own, cross, _, other = self._kernels[pair.name]
            cka = float(alignment(np.array([[cross]]), np.array([own]), np.array([other]))[0, 0])
        return LayerDifference(
            name=pair.name,
            other=pair.other,
            family=pair.family,
            shape=ours,
            relative=tally.relative if alike else math.nan,
            mean=tally.mean if alike else math.nan,
            cosine=tally.cosine if alike else math.nan,
            correlation=tally.correlation if alike else math.nan,
            cka=cka,
            other_shape=theirs,
        )


def outputs_of(net: Adapter[Any], pictures: Array, taps: Iterable[str]) -> dict[str, Array]:
    """Run pictures, and give what layers and the class scores are; not to be written to."""
    taken = net.borrow(net.ops.asarray(pictures), taps=[*dict.fromkeys(taps), LOGITS])
    return {name: net.ops.to_numpy(y, copy=False) for name, y in taken.items()}


def gradient_differences(
    one: Adapter[Any],
    two: Adapter[Any],
    pictures: tuple[Array, Array],
    classes: Sequence[int],
    layers: Mapping[str, str],
) -> list[GradientDifference]:
    """Compare the slopes of one class score a picture, at the picture and at layers.

    Parameters
    ----------
    one, two : Adapter
    pictures : (array, array)
        As each network takes them.
    classes : sequence of int
        Of each picture.
    layers : mapping of str to str
        From layers of the first to those of the second.
    """
    names = {INPUT: INPUT, **layers}
    found = []
    for net, x, wrt in zip((one, two), pictures, (list(names), list(names.values())), strict=True):
        taken = net.gradient(
            ClassScore(net.ops),
            net.ops.asarray(x),
            taps=[LOGITS],
            wrt=wrt,
            score_args=(net.ops.asarray(_one_hot(classes, net)),),
        )
        found.append({name: net.ops.to_numpy(y) for name, y in taken.gradients.items()})
    rows = []
    for name, other in names.items():
        a, b = found[0][name], found[1][other]
        if a.shape == b.shape:
            tally = Tally()
            tally.add(a, b)
            rows.append(GradientDifference(name, other, tally.relative, tally.cosine))
    return rows


def _one_hot(classes: Sequence[int], net: Adapter[Any]) -> Array:
    found = np.zeros((len(classes), net.classes or 1), np.float64)
    found[np.arange(len(classes)), list(classes)] = 1
    return found


def _alike(a: Array, b: Array) -> tuple[Array, Array]:
    """Drop axes of one place, as a mean over all places has in one framework and not the other."""
    if a.shape == b.shape or a.size != b.size or len(a) != len(b):
        return a, b
    one, two = (x.reshape(len(x), *(n for n in x.shape[1:] if n != 1)) for x in (a, b))
    return (one, two) if one.shape == two.shape else (a, b)
