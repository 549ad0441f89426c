"""What a scan keeps of the images it has seen: of bounded size, and mergeable in any grouping."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.exemplars.activations import Activations
from cnnviz.exemplars.ranking import Places, Ranking
from cnnviz.exemplars.sampling import drawn, priorities
from cnnviz.exemplars.statistics import ChannelStatistics
from cnnviz.exemplars.sums import ExactSum
from cnnviz.sources import Batch

__all__ = ["Keep", "LayerTally", "ReducedBatch", "ScanTally"]

# Digits of 2^16, 2^-16 and 2^-48 for the sums of maxima by class, which are many.
_CLASS_UNIT, _CLASS_DIGITS = 16, 3

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Keep:
    """How much is kept for each channel.

    Attributes
    ----------
    k : int
        Images by maximum, and as many by mean.
    sample : int
        Images drawn at random, for quantiles and for what is not extreme.
    per_class : int
        Images of each class, by maximum; 0 for none.
    places : int
        Places of each image that are counted in the histogram.
    seed : int
        Of what is drawn.
    """

    k: int = 9
    sample: int = 256
    per_class: int = 1
    places: int = 16
    seed: int = 0


@dataclass(frozen=True)
class NewImages:
    """The images of a batch that are taken in.

    Attributes
    ----------
    numbers, labels : array of int64
        ``(N,)``: of the images, rising, and their classes (-1 for none).
    entering : array of int
        Which of the N may belong to the sample.
    """

    numbers: NDArray[np.int64]
    labels: NDArray[np.int64]
    entering: NDArray[np.intp]


@dataclass(frozen=True)
class ReducedLayer:
    """A layer's activations for the images of a batch, reduced.

    Attributes
    ----------
    found : Activations
    drawn : array
        ``(N, S, C)``: those that histograms are made of.
    """

    found: Activations
    drawn: NDArray[Any]


@dataclass(frozen=True)
class ReducedBatch:
    """The activations of a batch, reduced; see `ScanTally.reduced`.

    Attributes
    ----------
    ready : Batch
    rows : array of int
        Of the images that are good.
    keys : array of uint64
        Their `cnnviz.exemplars.sampling.priorities`.
    layers : dict of str to ReducedLayer
    """

    ready: Batch
    rows: NDArray[np.intp]
    keys: NDArray[np.uint64]
    layers: Mapping[str, ReducedLayer]


class LayerTally:
    """What is kept of one layer.

    Attributes
    ----------
    grid : tuple of int
        Height and width of its maps; empty for none.
    by_max, by_mean : Ranking
    statistics : ChannelStatistics
    by_class : list of Ranking
        One a class.
    class_sums : ExactSum
        ``(K, C)``: sums of the images' maxima.
    """

    def __init__(self, grid: tuple[int, ...], channels: int, dtype: Any, keep: Keep, classes: int):
        self.grid = grid
        self.by_max = Ranking.empty(channels, keep.k, dtype)
        self.by_mean = Ranking.empty(channels, keep.k, np.float64)
        self.statistics = ChannelStatistics.empty(channels, dtype)
        # In pieces until it is asked for.
        self._sample: list[dict[str, NDArray[Any]]] = [
            {
                "values": np.empty((0, channels), dtype),
                "means": np.empty((0, channels), np.float64),
                "places": np.empty((0, channels), np.int32),
            }
        ]
        some = max(keep.per_class, 1) if classes else 0
        self.by_class = [Ranking.empty(channels, some, dtype) for _ in range(classes)]
        self.class_sums = ExactSum.zeros((classes, channels), _CLASS_UNIT, _CLASS_DIGITS)

    def add(self, made: ReducedLayer, new: NewImages) -> None:
        """Take in a batch of activations."""
        found = made.found
        self.statistics.add(found, made.drawn)
        largest, means = found.largest, found.means
        places: Places = found.places_of_largest if found.known is None else found.known
        self.by_max.offer(largest, new.numbers, places)
        self.by_mean.offer(means, new.numbers, places)
        some = new.entering
        if len(some):
            at, channels = np.divmod(np.arange(len(some) * found.channels), found.channels)
            spots = found.places_of_largest(some[at], channels).reshape(len(some), -1)
            self._sample.append({"values": largest[some], "means": means[some], "places": spots})
        if self.by_class:
            self._by_class(found, new)

    def _by_class(self, found: Activations, new: NewImages) -> None:
        for label in np.unique(new.labels[new.labels >= 0]):
            rows = np.flatnonzero(new.labels == label)
            values = found.largest[rows]
            places: Places
            if found.known is None:
                places = lambda r, c, at=rows: found.places_of_largest(at[r], c)  # noqa: E731
            else:
                places = found.known[rows]
            self.by_class[label].offer(values, new.numbers[rows], places)
            self.class_sums.add(np.where(np.isfinite(values), values, 0), label)

    @property
    def sample(self) -> dict[str, NDArray[Any]]:
        """``values``, ``means`` and ``places``, each ``(S, C)``, as `ScanTally.sampled` is."""
        if len(self._sample) > 1:
            pieces = self._sample
            joined = {name: np.concatenate([one[name] for one in pieces]) for name in pieces[0]}
            self._sample = [joined]
        return self._sample[0]

    def keep_sampled(self, rows: NDArray[np.intp]) -> None:
        """Keep some rows of the sample, in this order."""
        self._sample = [{name: values[rows] for name, values in self.sample.items()}]

    def merge(self, other: LayerTally) -> None:
        """Take in what was kept of other images; the sample is put in order by the scan."""
        self.by_max.merge(other.by_max)
        self.by_mean.merge(other.by_mean)
        self.statistics.merge(other.statistics)
        for mine, theirs in zip(self.by_class, other.by_class, strict=True):
            mine.merge(theirs)
        self.class_sums.merge(other.class_sums)
        self._sample += other._sample

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Give everything by name."""
        found = {**self.by_max.arrays("max"), **self.by_mean.arrays("mean")}
        found |= {f"statistics_{k}": v for k, v in self.statistics.arrays().items()}
        found |= {f"sample_{k}": v for k, v in self.sample.items()}
        if self.by_class:
            parts = [one.arrays("class") for one in self.by_class]
            found |= {key: np.stack([part[key] for part in parts]) for key in parts[0]}
            found["class_sums"] = self.class_sums.digits
        found["grid"] = np.array(self.grid, np.int64)
        return found

    @classmethod
    def of_arrays(cls, arrays: Arrays) -> LayerTally:
        """Take what `arrays` gave."""
        new = cls.__new__(cls)
        new.grid = tuple(int(n) for n in arrays["grid"])
        new.by_max = Ranking.of_arrays(arrays, "max")
        new.by_mean = Ranking.of_arrays(arrays, "mean")
        parts = {k.removeprefix("statistics_"): v for k, v in arrays.items()}
        new.statistics = ChannelStatistics(parts)
        new._sample = [{k: arrays[f"sample_{k}"] for k in ("values", "means", "places")}]
        new.by_class = []
        sums = arrays.get("class_sums")
        if sums is None:
            sums = np.zeros((_CLASS_DIGITS, 0, len(new.by_max.values)), np.int64)
        else:
            keys = ("class_values", "class_images", "class_places")
            for parts_of in zip(*(arrays[key] for key in keys), strict=True):
                new.by_class.append(Ranking(*parts_of))
        new.class_sums = ExactSum(sums, _CLASS_UNIT)
        return new


class ScanTally:
    """What is kept of all layers.

    Attributes
    ----------
    layers : dict of str to LayerTally
        By name; filled with the first batch.
    seen : int
        Images that were run.
    broken : list of (int, str, str)
        Number, reference and reason of those that could not be read.
    sampled, keys : array
        ``(S,)``: numbers of the images of the sample, and their priorities, the least first.
    class_counts : array of int
        ``(K,)``.
    numbers, hashes, labels : array
        ``(seen,)``: which images were run, the hash of each and its class (-1 for none).
    """

    def __init__(self, names: Sequence[str], keep: Keep, classes: int) -> None:
        self.names, self.keep, self.classes = tuple(names), keep, classes
        self.layers: dict[str, LayerTally] = {}
        self.seen = 0
        self.broken: list[tuple[int, str, str]] = []
        self.sampled = np.empty(0, np.int64)
        self.keys = np.empty(0, np.uint64)
        self.class_counts = np.zeros(classes, np.int64)
        # In pieces until they are asked for.
        self._run: list[tuple[NDArray[np.int64], NDArray[np.uint64], NDArray[np.int64]]] = []

    @property
    def numbers(self) -> NDArray[np.int64]:
        """``(seen,)``, rising."""
        return self._joined()[0]

    @property
    def hashes(self) -> NDArray[np.uint64]:
        """``(seen,)``, see `cnnviz.sources.Batch`."""
        return self._joined()[1]

    @property
    def labels(self) -> NDArray[np.int64]:
        """``(seen,)``, -1 for none."""
        return self._joined()[2]

    def _joined(self) -> tuple[NDArray[np.int64], NDArray[np.uint64], NDArray[np.int64]]:
        if len(self._run) != 1:
            empty = (np.empty(0, np.int64), np.empty(0, np.uint64), np.empty(0, np.int64))
            numbers, hashes, labels = (
                np.concatenate(parts) for parts in zip(empty, *self._run, strict=True)
            )
            order = np.argsort(numbers, kind="stable")
            self._run = [(numbers[order], hashes[order], labels[order])]
        return self._run[0]

    def reduced(self, activations: Mapping[str, NDArray[Any]], ready: Batch) -> ReducedBatch:
        """Reduce a batch of activations ``(B, ..., C)`` by layer, of the images that are good.

        Nothing is taken in, so several threads may do so at once.
        """
        rows = np.flatnonzero(ready.good)
        keys = priorities(ready.indices[rows], self.keep.seed)
        layers = {}
        for name, values in activations.items():
            found = Activations(values, rows)
            layers[name] = ReducedLayer(found, drawn(found.maps, keys, self.keep.places))
        return ReducedBatch(ready, rows, keys, layers)

    def add(self, made: ReducedBatch) -> None:
        """Take in a batch, of images later than those before."""
        rows = made.rows
        self.seen += len(rows)
        if not len(rows):
            return
        numbers, labels = made.ready.indices[rows], made.ready.labels[rows]
        self._run.append((numbers, made.ready.hashes[rows], labels))
        known = labels[labels >= 0]
        self.class_counts += np.bincount(known, minlength=self.classes)[: self.classes]
        new = NewImages(numbers, labels, self._entering(numbers, made.keys))
        for name, layer in made.layers.items():
            if name not in self.layers:
                values = layer.found
                self.layers[name] = LayerTally(
                    values.grid,
                    values.channels,
                    values.maps.dtype,
                    self.keep,
                    self.classes if self.keep.per_class else 0,
                )
            self.layers[name].add(layer, new)
        if len(self.keys) > 2 * self.keep.sample:
            self.settle()

    def merge(self, other: ScanTally) -> None:
        """Take in what was kept of other images."""
        self.seen += other.seen
        self.broken = sorted([*self.broken, *other.broken])
        self._run += other._run
        self.class_counts = self.class_counts + other.class_counts
        self.sampled = np.concatenate([self.sampled, other.sampled])
        self.keys = np.concatenate([self.keys, other.keys])
        for name, tally in other.layers.items():
            if name in self.layers:
                self.layers[name].merge(tally)
            else:
                self.layers[name] = tally
        self.settle()

    def _entering(self, images: NDArray[np.int64], keys: NDArray[np.uint64]) -> NDArray[np.intp]:
        """Say which rows may belong to the sample, and put them at its end."""
        limit = self.keep.sample
        rows = np.arange(len(images))
        if len(self.keys) >= limit:
            rows = rows[keys < np.partition(self.keys, limit - 1)[limit - 1]] if limit else rows[:0]
        elif len(rows) > limit:
            rows = np.sort(np.argsort(keys, kind="stable")[:limit])
        self.sampled = np.concatenate([self.sampled, images[rows]])
        self.keys = np.concatenate([self.keys, keys[rows]])
        return rows

    def settle(self) -> None:
        """Put the sample in order, without what others have driven out.

        To be called once all is taken in; what lies in the sample until then is up to twice
        as large, for each time costs a copy of it all.
        """
        order = np.argsort(self.keys, kind="stable")[: self.keep.sample]
        if len(order) == len(self.keys) and (np.diff(order) == 1).all():
            return
        self.sampled, self.keys = self.sampled[order], self.keys[order]
        for tally in self.layers.values():
            tally.keep_sampled(order)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Give everything that is not of one layer, by name."""
        text = np.array([f"{reference}\n{reason}" for _, reference, reason in self.broken], str)
        return {
            "seen": np.array(self.seen),
            "broken": np.array([number for number, _, _ in self.broken], np.int64),
            "broken_text": text,
            "sampled": self.sampled,
            "keys": self.keys,
            "class_counts": self.class_counts,
            "numbers": self.numbers,
            "hashes": self.hashes,
            "labels": self.labels,
        }

    @classmethod
    def of_arrays(cls, arrays: Arrays, layers: Mapping[str, Arrays], keep: Keep) -> ScanTally:
        """Take what `arrays` gave, and that of each layer."""
        new = cls(tuple(layers), keep, len(arrays["class_counts"]))
        new.seen = int(arrays["seen"])
        for number, text in zip(arrays["broken"], arrays["broken_text"], strict=True):
            reference, _, reason = str(text).partition("\n")
            new.broken.append((int(number), reference, reason))
        new.sampled, new.keys = arrays["sampled"], arrays["keys"]
        new.class_counts = np.array(arrays["class_counts"])
        new._run = [(arrays["numbers"], arrays["hashes"], arrays["labels"])]
        new.layers = {name: LayerTally.of_arrays(one) for name, one in layers.items()}
        return new
