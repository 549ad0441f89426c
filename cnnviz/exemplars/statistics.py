"""What the activations of each channel are like: moments, range, zeros, histogram."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.compiled import compiled, only_read
from cnnviz.exemplars.activations import Activations
from cnnviz.exemplars.loops import tally_bins
from cnnviz.exemplars.sums import ExactSum

__all__ = ["EDGES", "ChannelStatistics"]

# Bins are as wide as a quarter of a power of two, so no range need be known beforehand: from
# 2^-16 to 2^12 on either side, one about zero, and one beyond at each end.
_LEAST, _MOST, _PARTS = -16, 12, 4
_STEPS = (_MOST - _LEAST) * _PARTS
_POWERS = 2.0 ** np.arange(_LEAST, _MOST)
_SIDE = np.append((_POWERS[:, None] * (1 + np.arange(_PARTS) / _PARTS)).ravel(), 2.0**_MOST)
EDGES: NDArray[np.float64] = np.concatenate([[-np.inf], -_SIDE[::-1], _SIDE, [np.inf]])
"""``(228,)``, the edges of the bins of every histogram, the same for all."""
_BINS = len(EDGES) - 1
_CENTRE = _STEPS + 1
# The last step of a quarter that counts as zero.
_ZERO = (127 + _LEAST) * _PARTS - 1


class ChannelStatistics:
    """Statistics of each channel of a layer over images and places.

    Attributes
    ----------
    count : array of int
        ``(C,)``, activations that are finite; everything else is of these.
    missing : array of int
        ``(C,)``, activations that are not.
    zeros : array of int
        ``(C,)``, activations that are exactly zero.
    min, max : array
        ``(C,)``.
    histogram : array of int
        ``(C, 227)``, between `EDGES`, over some random places of each image (all places where
        the map has no more than these).
    """

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self.count, self.missing = arrays["count"], arrays["missing"]
        self.zeros, self.histogram = arrays["zeros"], arrays["histogram"]
        self.min, self.max = arrays["min"], arrays["max"]
        self._sum = ExactSum(arrays["sum"], 160)
        self._squares = ExactSum(arrays["squares"], 160)

    @classmethod
    def empty(cls, channels: int, dtype: Any) -> ChannelStatistics:
        """Begin with nothing."""
        whole = {k: np.zeros(channels, np.int64) for k in ("count", "missing", "zeros")}
        sums = {k: ExactSum.zeros((channels,)).digits for k in ("sum", "squares")}
        return cls(
            {
                **whole,
                **sums,
                "histogram": np.zeros((channels, _BINS), np.int64),
                "min": np.full(channels, np.inf, dtype),
                "max": np.full(channels, -np.inf, dtype),
            }
        )

    def add(self, found: Activations, drawn: NDArray[Any]) -> None:
        """Count those of some images; the histogram is of what was drawn, ``(..., C)``."""
        missing = found.missing.sum(axis=0)
        self.count += found.images * found.places - missing
        self.missing += missing
        self.zeros += found.zeros
        self._sum.add(found.sums)
        self._squares.add(found.squares)
        self.min = np.minimum(self.min, found.smallest)
        self.max = np.maximum(self.max, found.most)
        self._tally(drawn.reshape(-1, found.channels).astype(np.float32, copy=False))

    def merge(self, other: ChannelStatistics) -> None:
        """Take in those of other images."""
        for name in ("count", "missing", "zeros", "histogram"):
            getattr(self, name).__iadd__(getattr(other, name))
        self._sum.merge(other._sum)
        self._squares.merge(other._squares)
        self.min = np.minimum(self.min, other.min)
        self.max = np.maximum(self.max, other.max)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Give everything by name, as the constructor takes it."""
        names = ("count", "missing", "zeros", "histogram", "min", "max")
        found = {name: getattr(self, name) for name in names}
        return {**found, "sum": self._sum.digits, "squares": self._squares.digits}

    @property
    def mean(self) -> NDArray[np.float64]:
        """``(C,)``; NaN where nothing was finite."""
        return self._over(self._sum.value)

    @property
    def variance(self) -> NDArray[np.float64]:
        """``(C,)``, the mean squared distance from the mean."""
        total = self._sum.value
        return np.maximum(self._over(self._squares.value - total * self._over(total)), 0.0)

    @property
    def std(self) -> NDArray[np.float64]:
        """``(C,)``, the square root of the variance."""
        return np.sqrt(self.variance)

    @property
    def zero_share(self) -> NDArray[np.float64]:
        """``(C,)``, in [0, 1]: how many of the activations are exactly zero."""
        return self._over(self.zeros)

    def _over(self, values: NDArray[Any]) -> NDArray[np.float64]:
        found = np.full(len(self.count), np.nan)
        means: NDArray[np.float64]
        means = np.divide(values, self.count, out=found, where=self.count > 0)
        return means

    def _tally(self, values: NDArray[np.float32]) -> None:
        """Count values ``(N, C)`` into bins by their leading bits."""
        bits = only_read(values).view(np.int32)
        loop = compiled(tally_bins)
        if loop is not None:
            loop(bits, _ZERO, _STEPS, self.histogram)
            return
        finite = np.isfinite(values)
        # Eight bits of exponent and the first two of the fraction.
        size = ((bits & 0x7FFFFFFF) >> 21) - _ZERO
        np.clip(size, 0, _STEPS + 1, out=size)
        bins = np.where(bits < 0, _CENTRE - size, _CENTRE + size)
        bins += np.arange(values.shape[-1], dtype=np.int32) * _BINS
        bins = bins.ravel() if finite.all() else bins[finite]
        if bins.size < self.histogram.size:
            # All bins of all channels are many more than the numbers of a few images.
            np.add.at(self.histogram.reshape(-1), bins, 1)
        else:
            counted = np.bincount(bins, minlength=self.histogram.size)
            self.histogram += counted.reshape(self.histogram.shape)
