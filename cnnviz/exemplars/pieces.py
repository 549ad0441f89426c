"""What a batch comes to in one layer: all that a scan keeps is made of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.exemplars.activations import Activations

__all__ = ["Piece"]


@dataclass(frozen=True)
class Piece:
    """Some images in one layer.

    Attributes
    ----------
    numbers, labels : array of int64
        ``(N,)``: of the images, rising, and their classes (-1 for none).
    enters : array of bool
        ``(N,)``: which may belong to the sample.
    counts : array of int64
        ``(N,)``: places of each map.
    largest, means, sums, squares, missing : array
        ``(N, C)``, see `Activations`.
    places : array of int32
        ``(N, C)``: where they are largest; ``(N, 0)`` where that has to be looked for.
    smallest, most, zeros : array
        ``(M, C)``: of each batch.
    sampled : array of float32
        ``(S, C)``: activations at some places.
    """

    numbers: NDArray[np.int64]
    labels: NDArray[np.int64]
    enters: NDArray[np.bool_]
    counts: NDArray[np.int64]
    largest: NDArray[Any]
    means: NDArray[np.float64]
    sums: NDArray[np.float64]
    squares: NDArray[np.float64]
    missing: NDArray[np.int64]
    places: NDArray[np.int32]
    smallest: NDArray[Any]
    most: NDArray[Any]
    zeros: NDArray[np.int64]
    sampled: NDArray[np.float32]

    @classmethod
    def of(
        cls,
        found: Activations,
        numbers: NDArray[np.int64],
        labels: NDArray[np.int64],
        enters: NDArray[np.bool_],
        places: NDArray[np.intp],
    ) -> Piece:
        """Take a batch, and its activations at some `places` of each image, ``(N, S)``."""
        known = found.known
        return cls(
            numbers,
            labels,
            enters,
            np.full(found.images, found.places, np.int64),
            found.largest,
            found.means,
            found.sums,
            found.squares,
            found.missing,
            np.empty((found.images, 0), np.int32) if known is None else known,
            found.smallest[None],
            found.most[None],
            found.zeros[None],
            found.sampled(places).reshape(-1, found.channels).astype(np.float32, copy=False),
        )

    @classmethod
    def joined(cls, pieces: Sequence[Piece]) -> Piece:
        """Put several batches behind each other."""
        if len(pieces) == 1:
            return pieces[0]
        names = [field.name for field in fields(cls)]
        return cls(*(np.concatenate([getattr(piece, n) for piece in pieces]) for n in names))
