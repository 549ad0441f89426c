"""The activations of one layer for a batch, whatever order its numbers lie in."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cnnviz.images.filters import opencv

__all__ = ["Activations"]

# Places whose squares are added in the layer's own dtype before float64 takes over.
_RUN = 1024
# Where the mean's share of the squares is larger, their difference would lose what is left.
_CANCELS = 0.9
# Numbers of a copy at once.
_AT_ONCE = 2**20


class Activations:
    """Reductions over the places of a layer's activations for a batch.

    PyTorch keeps the places of a channel together, Keras the channels of a place; each is read
    in the order in which it lies. What is not finite is left out of all but its own count.

    Parameters
    ----------
    values : array
        ``(B, ..., C)``, channels last as the adapter gives them.

    Attributes
    ----------
    grid : tuple of int
        The axes between the first and the last.
    batch, places, channels : int
    finite : array of bool
        ``(B, C)``: whether all of an image's activations in a channel are.
    missing : array of int64
        ``(B, C)``, places that are not finite.
    """

    def __init__(self, values: NDArray[Any]) -> None:
        if values.dtype.kind != "f":
            values = values.astype(np.float32)
        self.grid = tuple(values.shape[1:-1])
        self.batch, self.channels = len(values), values.shape[-1]
        self.places = int(np.prod(self.grid))
        self._flat: NDArray[Any]
        first = np.moveaxis(values, -1, 1)
        # Whether a channel's places lie together.
        self._by_channel = first.flags.c_contiguous and self.places > 1
        if self._by_channel:
            self._flat = first.reshape(self.batch * self.channels, self.places)
        else:
            flat = np.ascontiguousarray(values)
            self._flat = flat.reshape(self.batch, self.places, self.channels)
        self.missing = np.zeros((self.batch, self.channels), np.int64)
        self.sums = self._sums(self._flat)
        if not np.isfinite(self.sums).all():
            self._leave_out()
        self.finite = self.missing == 0

    @cached_property
    def largest(self) -> NDArray[Any]:
        """``(B, C)``, in the layer's own dtype; -inf where a place is not finite."""
        return np.where(self.finite, self._extreme("max"), -np.inf)

    @cached_property
    def smallest(self) -> NDArray[Any]:
        """``(B, C)``, of the finite ones."""
        return self._extreme("min")

    @cached_property
    def means(self) -> NDArray[np.float64]:
        """``(B, C)``; -inf where a place is not finite."""
        return np.where(self.finite, self.sums / self.places, -np.inf)

    @cached_property
    def squares(self) -> NDArray[np.float64]:
        """``(B, C)``, summed over places, to eight digits of what the variance leaves of them."""
        if not self._by_channel:
            if self.places == 1:
                return np.asarray(np.square(self._flat[:, 0], dtype=np.float64))
            return self._by_image("squares")
        rows = self._flat
        total = np.zeros(len(rows))
        for i in range(0, self.places, _RUN):
            part = rows[:, i : i + _RUN]
            total += np.einsum("rp,rp->r", part, part)
        mean = np.square(self.sums.ravel()) / self.places
        for row in np.flatnonzero(mean > _CANCELS * total):
            total[row] = np.square(rows[row], dtype=np.float64).sum()
        return self._shaped(total)

    @cached_property
    def zeros(self) -> NDArray[np.int64]:
        """``(B, C)``, places that are exactly zero."""
        # What is not finite stands as zero here, and is none.
        if self.places == 1 or not self._by_channel:
            flat = self._flat == 0
            if self.places == 1:
                return np.asarray(flat[:, 0].astype(np.int64) - self.missing)
            return self._by_image("zeros").astype(np.int64) - self.missing
        cv = opencv()
        flat = (self._flat == 0).view(np.uint8)
        count = cv.reduce(flat, 1, cv.REDUCE_SUM, dtype=cv.CV_32S)
        return self._shaped(count).astype(np.int64) - self.missing

    def places_of_largest(
        self, images: NDArray[np.intp], channels: NDArray[np.intp]
    ) -> NDArray[np.int32]:
        """Say where some channels of some images are largest: the first place, row by row."""
        found = np.empty(len(images), np.int32)
        step = max(1, _AT_ONCE // self.places)
        for i in range(0, len(images), step):
            n, c = images[i : i + step], channels[i : i + step]
            some = self._flat[n * self.channels + c] if self._by_channel else self._flat[n, :, c]
            found[i : i + step] = some.argmax(axis=1)
        return found

    def sampled(self, places: NDArray[np.intp]) -> NDArray[Any]:
        """Give the activations at some places of each image, ``(B, S)`` to ``(B, S, C)``."""
        rows = np.arange(self.batch)[:, None]
        if self._by_channel:
            cube = self._flat.reshape(self.batch, self.channels, self.places)
            return cube[rows, :, places]
        return self._flat[rows, places]

    def _leave_out(self) -> None:
        axis = 1
        bad = ~np.isfinite(self._flat)
        self.missing = self._shaped(bad.sum(axis))
        self._lacking = bad
        self._flat = np.where(bad, self._flat.dtype.type(0), self._flat)
        self.sums = self._sums(self._flat)

    def _sums(self, flat: NDArray[Any]) -> NDArray[np.float64]:
        cv = opencv()
        if self.places == 1:
            return self._shaped(flat).astype(np.float64)
        if self._by_channel:
            return self._shaped(cv.reduce(flat, 1, cv.REDUCE_SUM, dtype=cv.CV_64F))
        found = [cv.reduce(one, 0, cv.REDUCE_SUM, dtype=cv.CV_64F)[0] for one in flat]
        return np.stack(found)

    def _extreme(self, how: Literal["max", "min"]) -> NDArray[Any]:
        flat = self._flat
        if self.missing.any():
            flat = np.where(self._lacking, -np.inf if how == "max" else np.inf, flat)
        if self.places == 1:
            return self._shaped(flat)
        if self._by_channel:
            return self._shaped(flat.max(1) if how == "max" else flat.min(1))
        return self._by_image(how, flat)

    def _by_image(self, how: str, flat: NDArray[Any] | None = None) -> NDArray[Any]:
        cv = opencv()
        flat = self._flat if flat is None else flat
        if how == "zeros":
            whole = (flat == 0).view(np.uint8)
            kind, dtype = cv.REDUCE_SUM, {"dtype": cv.CV_32S}
        elif how == "squares":
            whole, kind, dtype = flat, cv.REDUCE_SUM2, {"dtype": cv.CV_64F}
        else:
            whole, kind, dtype = flat, cv.REDUCE_MAX if how == "max" else cv.REDUCE_MIN, {}
        return np.stack([cv.reduce(one, 0, kind, **dtype)[0] for one in whole])

    def _shaped(self, flat: Any) -> NDArray[Any]:
        return np.asarray(flat).reshape(self.batch, self.channels)
