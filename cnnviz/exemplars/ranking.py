"""The images that excite each channel most, out of a stream, by a fixed order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.compiled import compiled, only_read
from cnnviz.exemplars.loops import offer

__all__ = ["NO_IMAGE", "Places", "Ranking"]

NO_IMAGE = -1
"""Stands where fewer images were seen than are kept."""

Places = NDArray[np.int32] | Callable[[NDArray[np.intp], NDArray[np.intp]], NDArray[np.int32]]
_KEYS = ("values", "images", "places")


class Ranking:
    """The k best of what was offered, for each channel: largest first, then the earlier image.

    Parameters
    ----------
    values : array
        ``(C, k)``, -inf where there is none yet: a channel below zero everywhere has its best too.
    images, places : array of int
        ``(C, k)``: which image, and where in its map.
    """

    def __init__(
        self, values: NDArray[Any], images: NDArray[np.int64], places: NDArray[np.int32]
    ) -> None:
        self.values, self.images, self.places = values, images, places

    @classmethod
    def empty(cls, channels: int, k: int, dtype: Any) -> Ranking:
        """Begin with nothing."""
        return cls(
            np.full((channels, k), -np.inf, dtype),
            np.full((channels, k), NO_IMAGE, np.int64),
            np.full((channels, k), NO_IMAGE, np.int32),
        )

    def offer(self, values: NDArray[Any], images: NDArray[np.int64], places: Places) -> None:
        """Offer one value a channel of each of some images.

        Parameters
        ----------
        values : array
            ``(B, C)``; -inf and NaN are no values.
        images : array of int
            ``(B,)``, each larger than any that was offered before.
        places : array of int32, or callable
            Where they are largest, ``(B, C)``; or what says it, of rows and channels of `values`:
            it is asked of the few that stay.
        """
        loop = compiled(offer)
        if isinstance(places, np.ndarray):
            if loop is not None:
                best = (self.values, self.images, self.places)
                loop(only_read(values), only_read(images), only_read(places), *best)
                return
            table = places
            places = lambda rows, channels: table[rows, channels]  # noqa: E731
        # Images come in order, so an equal value is a later one.
        better = values > self.values[:, -1]
        channels = np.flatnonzero(better.any(axis=0))
        if not len(channels):
            return
        k = self.values.shape[1]
        # Rows in which any channel is better; the others need not be sorted.
        rows = np.flatnonzero(better[:, channels].any(axis=1))
        new = np.where(better, values, -np.inf)[np.ix_(rows, channels)].T
        every = np.concatenate([self.values[channels], new], axis=1)
        order = np.argsort(-every, axis=1, kind="stable")[:, :k]
        kept = np.take_along_axis(every, order, axis=1)
        fresh = (order >= k) & (kept > -np.inf)
        which, slot = np.nonzero(fresh)
        row = rows[order[which, slot] - k]
        channel = channels[which]
        old = np.minimum(order, k - 1)
        number = np.take_along_axis(self.images[channels], old, axis=1)
        place = np.take_along_axis(self.places[channels], old, axis=1)
        # What is beyond the old ones and no value is an empty slot.
        number[order >= k], place[order >= k] = NO_IMAGE, NO_IMAGE
        number[which, slot] = images[row]
        place[which, slot] = places(row, channel)
        self.values[channels], self.images[channels], self.places[channels] = kept, number, place

    def merge(self, other: Ranking) -> None:
        """Take in what was kept of other images."""
        k = self.values.shape[1]
        values = np.concatenate([self.values, other.values], axis=1)
        images = np.concatenate([self.images, other.images], axis=1)
        places = np.concatenate([self.places, other.places], axis=1)
        # No image is last among equals, all of which are -inf.
        late = np.where(images == NO_IMAGE, np.iinfo(np.int64).max, images)
        order = np.lexsort((late, -values), axis=1)[:, :k]
        self.values = np.take_along_axis(values, order, axis=1)
        self.images = np.take_along_axis(images, order, axis=1)
        self.places = np.take_along_axis(places, order, axis=1)

    def arrays(self, prefix: str) -> dict[str, NDArray[Any]]:
        """Give what is kept, by name."""
        return {f"{prefix}_{key}": getattr(self, key) for key in _KEYS}

    @classmethod
    def of_arrays(cls, arrays: Any, prefix: str) -> Ranking:
        """Take what `arrays` gave."""
        return cls(*(np.array(arrays[f"{prefix}_{key}"]) for key in _KEYS))
