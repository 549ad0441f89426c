"""The activations of one layer for a batch, reduced in the order in which they lie in memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cnnviz.images.filters import opencv

__all__ = ["Activations"]

# Numbers that are reduced at once: with what is made of them they stay in the cache.
_NEAR = 2**17
# What numpy reduces in one row runs well from this length on.
_WIDE = 256
# An image of so many numbers is worth a call of its own.
_LARGE = 2**12
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
        ``(C,)``, over all images and places.
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
        self._flat = np.ascontiguousarray(values).reshape(self.images, self.places, self.channels)
        # Where channels are largest, of the images that were looked at as a whole.
        self._whole = np.zeros(self.images, np.bool_)
        self._table = np.empty((self.images, self.channels), np.int32)
        self._reduce()

    def _reduce(self) -> None:
        shape = self.images, self.channels
        self.missing = np.zeros(shape, np.int64)
        self.largest = np.empty(shape, self._flat.dtype)
        self.smallest = np.full(self.channels, np.inf, self._flat.dtype)
        self.zeros = np.zeros(self.channels, np.int64)
        totals = np.empty(shape)
        self.squares = np.zeros(self.channels)
        width = _width(self.places, self.channels)
        rows = self.places // width
        for span in self._spans():
            part = self._flat[span].reshape(-1, rows, width * self.channels)
            sums = self._of_images(part, "sum")
            if not np.isfinite(sums).all():
                part, sums = self._without(span, part)
            totals[span] = sums
            self.largest[span] = self._of_images(part, "max")
            self.smallest = np.minimum(self.smallest, self._of_all(part, "min"))
            self.squares += self._of_all(part, "squares")
            self.zeros += self._of_all(part == 0, "count").astype(np.int64)
        self.most = self.largest.max(axis=0)
        bad = self.missing > 0
        if bad.any():
            # What is not finite stands as zero in `part`, and is none.
            self.zeros -= self.missing.sum(axis=0)
            self._exclude(bad)
        self.sums = totals.sum(axis=0)
        self.means = np.where(bad, -np.inf, totals / self.places)

    def places_of_largest(
        self, images: NDArray[np.intp], channels: NDArray[np.intp]
    ) -> NDArray[np.int32]:
        """Say where some channels of some images are largest: the first place, row by row."""
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
            found[some] = self._flat[images[some], :, channels[some]].argmax(axis=1)
        return found

    def _places(self, image: int) -> NDArray[np.intp]:
        """Say where each channel of an image is largest, ``(C,)``."""
        # What is searched lies together then.
        rows = opencv().transpose(self._flat[image])
        found: NDArray[np.intp] = rows.reshape(self.channels, self.places).argmax(axis=1)
        return found

    def sampled(self, places: NDArray[np.intp]) -> NDArray[Any]:
        """Give the activations at some places of each image, ``(B, S)`` to ``(B, S, C)``."""
        return self._flat[np.arange(self.images)[:, None], places]

    def _spans(self) -> Iterator[slice]:
        step = max(1, _NEAR // max(1, self.places * self.channels))
        for start in range(0, self.images, step):
            yield slice(start, min(start + step, self.images))

    def _without(self, span: slice, part: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.float64]]:
        """Put zeros in the place of what is not finite."""
        bad = ~np.isfinite(part)
        self.missing[span] = self._of_images(bad.astype(np.float64), "sum")
        part = np.where(bad, part.dtype.type(0), part)
        return part, self._of_images(part, "sum")

    def _exclude(self, bad: NDArray[np.bool_]) -> None:
        self.largest[bad] = -np.inf
        flat = np.where(np.isfinite(self._flat), self._flat, np.inf)
        self.smallest = flat.min(axis=(0, 1))
        self.most = np.where(flat == np.inf, -np.inf, flat).max(axis=(0, 1))

    def _of_images(self, part: NDArray[Any], how: Literal["max", "sum"]) -> NDArray[Any]:
        """Reduce ``(N, R, W * C)`` over the places of each image, to ``(N, C)``."""
        cv = opencv()
        if part[0].size < _LARGE:
            # Calls would cost more than the work.
            wide = part.max(axis=1) if how == "max" else part.sum(axis=1, dtype=np.float64)
        elif how == "max":
            wide = np.concatenate([cv.reduce(one, 0, cv.REDUCE_MAX) for one in part])
        else:
            found = [cv.reduce(one, 0, cv.REDUCE_SUM, dtype=cv.CV_64F) for one in part]
            wide = np.concatenate(found)
        cube = wide.reshape(len(part), -1, self.channels)
        return np.asarray(cube.max(axis=1) if how == "max" else cube.sum(axis=1))

    def _of_all(self, part: NDArray[Any], how: Literal["min", "squares", "count"]) -> NDArray[Any]:
        """Reduce ``(N, R, W * C)`` over images and places, to ``(C,)``."""
        cv = opencv()
        rows = part.reshape(-1, part.shape[-1])
        if how == "min":
            wide = cv.reduce(rows, 0, cv.REDUCE_MIN)
            return np.asarray(wide.reshape(-1, self.channels).min(axis=0))
        if how == "squares":
            wide = cv.reduce(rows, 0, cv.REDUCE_SUM2, dtype=cv.CV_64F)
        else:
            wide = cv.reduce(rows.view(np.uint8), 0, cv.REDUCE_SUM, dtype=cv.CV_32S)
        return np.asarray(wide.reshape(-1, self.channels).sum(axis=0))


def _width(places: int, channels: int) -> int:
    """Say how many places are taken for one row, so that rows are long enough to run well."""
    fine = (n for n in range(1, places + 1) if places % n == 0 and n * channels >= _WIDE)
    found = next(fine, places)
    # A number of places that has no divisor would leave one row of them all.
    return found if found * channels <= 16 * _WIDE else 1
