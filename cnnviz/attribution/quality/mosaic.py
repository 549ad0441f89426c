"""Mosaics of pictures of different classes, and whether a map of a class lies in its cell."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cnnviz import images
from cnnviz.adapter import Adapter
from cnnviz.attribution.methods import attribute, known_method
from cnnviz.attribution.quality.localisation import positive_maps, shares_within
from cnnviz.attribution.settings import require_count
from cnnviz.batches import spans
from cnnviz.classes import class_index
from cnnviz.discovery import adapt
from cnnviz.errors import InvalidOption
from cnnviz.images import ImagesLike
from cnnviz.pictures import require_pictures
from cnnviz.progress import tracked
from cnnviz.scores import ScoreKind

__all__ = ["GridPointing", "Mosaics", "grid_pointing", "grid_shares", "mosaics"]

Array = NDArray[Any]

_AT_ONCE = 8
_CHANCE = 0.25
# The pictures of a set of four, in reading order of the cells.
_ORDERS: dict[str, tuple[tuple[int, ...], ...]] = {
    "rotations": ((0, 1, 2, 3), (1, 2, 3, 0), (2, 3, 0, 1), (3, 0, 1, 2)),
    "all": tuple(permutations(range(4))),
    "one": ((0, 1, 2, 3),),
}


@dataclass(frozen=True)
class Mosaics:
    """Four pictures of four classes each, two by two.

    Attributes
    ----------
    pictures : array
        ``(M, 2 h, 2 w, C)``.
    classes : tuple of tuple
        Of the cells of each mosaic in reading order: top left, top right, bottom left, bottom
        right.
    sources : array of int
        ``(M, 4)``: which of the given pictures is in each cell.
    """

    pictures: Array
    classes: tuple[tuple[int | str, ...], ...]
    sources: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.pictures)


@dataclass(frozen=True)
class GridPointing:
    """Which share of the map of each class lies in the cell of its picture.

    Attributes
    ----------
    method : str
    shares : array
        ``(M, 4)`` in [0, 1]; 0 for a map that is nowhere positive.
    chance : float
        What a map that is the same everywhere has: 0.25.
    """

    method: str
    shares: NDArray[np.float64]
    chance: float = _CHANCE

    @property
    def mean(self) -> float:
        """Over all classes of all mosaics."""
        return float(self.shares.mean())

    @property
    def std(self) -> float:
        """The standard deviation over all classes of all mosaics."""
        return float(self.shares.std())

    @property
    def count(self) -> int:
        """How many maps were judged."""
        return self.shares.size

    def __str__(self) -> str:
        return (
            f"{self.method}: {self.mean:.3f} +- {self.std:.3f} in the right cell, over"
            f" {self.count} maps (chance {self.chance})"
        )


def mosaics(
    pictures: ImagesLike,
    classes: Sequence[int | str],
    *,
    size: int | tuple[int, int] | None = None,
    placements: Literal["rotations", "all", "one"] = "rotations",
    count: int | None = None,
    seed: int = 0,
) -> Mosaics:
    """Lay pictures of different classes out two by two, in every choice of four.

    Four pictures can lie in 24 ways; the four rotations of their order, in reading order of
    the cells, put every picture once into every cell, so a liking for a place averages out.

    Parameters
    ----------
    pictures : path, Pillow image, array or list of these
        Such that the network gives each its class with confidence.
    classes : sequence of int or str
        Of each picture. Pictures of one class never share a mosaic.
    size : int or (int, int), optional
        Height and width of a cell; by default that of the pictures, so that a mosaic is twice
        as high and wide. A network of fixed size takes cells of half that size.
    placements : {"rotations", "all", "one"}
        Whether each four is laid out in four rotations, in all 24 orders, or once.
    count : int, optional
        At most so many mosaics, drawn from all of them; 20 pictures have 19380, too many to hold.
    seed : int
        Of that draw.

    Returns
    -------
    Mosaics

    Raises
    ------
    InvalidImage
        A picture cannot be read.
    InvalidOption
        There are fewer than four classes, classes and pictures differ in number, or a setting
        cannot be meant.
    """
    if placements not in _ORDERS:
        raise InvalidOption(f"placements is one of {', '.join(_ORDERS)}, not {placements!r}")
    require_count("seed", seed, 0)
    cell = (size, size) if isinstance(size, int) else size
    singles = images.read_batch(pictures, size=cell)
    if len(classes) != len(singles):
        raise InvalidOption(f"{len(classes)} classes for {len(singles)} pictures")
    sources = [
        [four[i] for i in order]
        for four in combinations(range(len(singles)), 4)
        if len({classes[i] for i in four}) == 4
        for order in _ORDERS[placements]
    ]
    if not sources:
        raise InvalidOption("a mosaic takes pictures of four different classes")
    chosen = np.array(sources, np.intp)
    if count is not None and require_count("count", count) < len(chosen):
        drawn = np.random.default_rng(seed).choice(len(chosen), count, replace=False)
        chosen = chosen[np.sort(drawn)]
    cells = singles[chosen]
    rows = [np.concatenate([cells[:, i], cells[:, i + 1]], 2) for i in (0, 2)]
    return Mosaics(
        np.concatenate(rows, 1), tuple(tuple(classes[i] for i in four) for four in chosen), chosen
    )


def grid_shares(maps: Array) -> NDArray[np.float64]:
    """Give the share of each map that lies in the cell of its class.

    Parameters
    ----------
    maps : array
        ``(M, 4, H, W)``: of the four classes of each mosaic, in reading order of the cells; H
        and W even. What is below zero does not count.

    Returns
    -------
    array
        ``(M, 4)``.

    Raises
    ------
    InvalidOption
        The maps are not such.
    """
    shape = np.shape(maps)
    if len(shape) != 4 or shape[1] != 4 or shape[2] % 2 or shape[3] % 2:
        raise InvalidOption(f"maps of mosaics are (M, 4, H, W), H and W even, not {shape}")
    height, width = shape[2] // 2, shape[3] // 2
    cells = np.zeros((4, *shape[2:]), bool)
    for i, cell in enumerate(cells):
        top, left = (i // 2) * height, (i % 2) * width
        cell[top : top + height, left : left + width] = True
    flat = positive_maps(np.asarray(maps).reshape(-1, *shape[2:]))
    return shares_within(flat, np.tile(cells, (shape[0], 1, 1))).reshape(shape[:2])


def grid_pointing(
    net: Any,
    mosaics: Mosaics,
    method: str = "grad_cam",
    layer: str | Sequence[str] | None = None,
    *,
    together: bool = True,
    batch: int | None = None,
    score: ScoreKind | None = None,
    fuse: str | None = None,
    **options: Any,
) -> GridPointing:
    """Say which share of the map of each class lies in the cell of its picture [1]_.

    Of class activation maps the positive part is enlarged to the mosaic; of methods at the
    picture it is taken as it is.

    Parameters
    ----------
    net : model or Adapter
    mosaics : Mosaics
        See `cnnviz.attribution.quality.mosaics`.
    method, layer, batch, score, fuse
        As for `cnnviz.attribute`.
    together : bool
        Whether the four classes of a mosaic are explained from one forward; False for methods
        that explain one class at a time, such as ``"shapley_cam"``.
    **options
        Settings of the method.

    Returns
    -------
    GridPointing

    Raises
    ------
    InvalidImage
        The network does not take pictures of the size of the mosaics.
    InvalidOption
        As `attribute`.

    References
    ----------
    .. [1] Böhle et al., "Convolutional Dynamic Alignment Networks for Interpretable
       Classifications", CVPR 2021, arXiv:2104.00032.
    """
    adapter: Adapter[Any] = adapt(net)
    known_method(method)
    require_pictures(adapter, "a mosaic")
    sides = (int(mosaics.pictures.shape[1]), int(mosaics.pictures.shape[2]))
    targets = [tuple(class_index(adapter, one) for one in four) for four in mosaics.classes]
    found = []
    for rows, meant in _chunks(len(mosaics), adapter, method):
        pictures = mosaics.pictures[rows]
        columns = [slice(0, 4)] if together else [slice(k, k + 1) for k in range(4)]
        parts = []
        for column in columns:
            result = attribute(
                adapter,
                pictures,
                method,
                [targets[i][column] for i in rows],
                layer,
                size=sides,
                batch=batch,
                score=score,
                fuse=fuse,
                **options,
            )
            maps = positive_maps(result)
            parts.append(maps.reshape(len(rows), -1, *maps.shape[1:]))
        found.append(grid_shares(np.concatenate(parts, 1))[:meant])
    return GridPointing(method, np.concatenate(found))


def _chunks(count: int, net: Adapter[Any], method: str) -> Iterator[tuple[NDArray[np.intp], int]]:
    """Give mosaics a few at a time: the maps of four classes of each are large."""
    batch = min(count, _AT_ONCE)
    parts = spans(count, batch, net.compiled)
    total = math.ceil(count / batch)
    yield from tracked(parts, f"{method} of mosaics by {net.name}", total)
