"""The activations of one layer for a batch, reduced in the order in which they lie in memory."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.exemplars.reductions import reduced
from cnnviz.images.filters import opencv

__all__ = ["Activations"]

# One channel in so many is worth looking at all of them.
_MANY = 8
# Numbers of a copy at once.
_COPY = 2**20


class Activations:
    """Reductions over the places of a layer's activations for a batch.

    What is not finite is left out of all but its own count.

    Parameters
    ----------
    values : array
        ``(B, ..., C)``, channels last as the adapter gives them.
    good : array of int
        The rows that count; everything below is of these, in this order.

    Attributes
    ----------
    grid : tuple of int
        The axes between the first and the last.
    images, places, channels : int
    missing : array of int64
        ``(B, C)``, places that are not finite.
    largest : array
        ``(B, C)``, in the layer's own dtype; -inf where a place is not finite.
    means : array of float64
        ``(B, C)``; -inf where a place is not finite.
    smallest, most : array
        ``(C,)``, over all images; inf and -inf where nothing is finite.
    zeros : array of int64
        ``(C,)``, places that are exactly zero.
    sums, squares : array of float64
        ``(B, C)``, over all places.
    maps : array
        ``(B, P, C)``, all places in one row.
    known : array of int32, optional
        ``(B, C)``, where they are largest, if that came out with the rest.
    """

    def __init__(self, values: NDArray[Any], good: NDArray[np.intp]) -> None:
        # What else there is OpenCV does not reduce.
        if values.dtype not in (np.float32, np.float64):
            values = values.astype(np.float32)
        if len(good) < len(values):
            values = values[good]
        self.grid = tuple(values.shape[1:-1])
        self.images, self.channels = len(values), values.shape[-1]
        self.places = math.prod(self.grid)
        self.maps = np.ascontiguousarray(values).reshape(self.images, self.places, self.channels)
        self.known: NDArray[np.int32] | None = None
        self._table: NDArray[np.int32] | None = None
        self._reduce()

    def _reduce(self) -> None:
        found = reduced(self.maps)
        finite = bool(np.isfinite(found.sums).all())
        if finite:
            self.known = found.places
            self.missing = np.zeros((self.images, self.channels), np.int64)
        else:
            bad = ~np.isfinite(self.maps)
            self.missing = bad.sum(axis=1)
            # What is not finite stands as zero, and is none.
            found = reduced(np.where(bad, self.maps.dtype.type(0), self.maps))
        self.largest, self.smallest, self.zeros = found.largest, found.smallest, found.zeros
        self.sums, self.squares = found.sums, found.squares
        self.means = found.sums / self.places
        self.most = self.largest.max(axis=0)
        if not finite:
            self._exclude()

    def places_of_largest(
        self, images: NDArray[np.intp], channels: NDArray[np.intp]
    ) -> NDArray[np.int32]:
        """Say where some channels of some images are largest: the first place, row by row."""
        if self.known is not None:
            return self.known[images, channels]
        if self._table is None:
            # Where channels are largest, of the images that were looked at as a whole.
            self._table = np.empty((self.images, self.channels), np.int32)
            self._whole = np.zeros(self.images, np.bool_)
        found = np.empty(len(images), np.int32)
        # An image of which many channels are asked for is looked at as a whole, and once.
        many = np.bincount(images, minlength=self.images) * _MANY >= self.channels
        for n in np.flatnonzero(many & ~self._whole):
            self._table[n] = self._places(int(n))
        self._whole |= many
        known = self._whole[images]
        found[known] = self._table[images[known], channels[known]]
        few = np.flatnonzero(~known)
        step = max(1, _COPY // self.places)
        for i in range(0, len(few), step):
            some = few[i : i + step]
            found[some] = self.maps[images[some], :, channels[some]].argmax(axis=1)
        return found

    def _places(self, image: int) -> NDArray[np.intp]:
        """Say where each channel of an image is largest, ``(C,)``."""
        # What is searched lies together then.
        rows = opencv().transpose(self.maps[image])
        found: NDArray[np.intp] = rows.reshape(self.channels, self.places).argmax(axis=1)
        return found

    def _exclude(self) -> None:
        """Take out what is not finite, where anything may be."""
        bad = self.missing > 0
        self.zeros = self.zeros - self.missing.sum(axis=0)
        self.largest[bad], self.means[bad] = -np.inf, -np.inf
        flat = np.where(np.isfinite(self.maps), self.maps, np.inf)
        self.smallest = flat.min(axis=(0, 1))
        self.most = np.where(flat == np.inf, -np.inf, flat).max(axis=(0, 1))
