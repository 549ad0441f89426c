"""The exemplars that a scan found, layer by layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.adapter import Adapter
from cnnviz.discovery import adapt
from cnnviz.errors import ChannelOutOfRange, InvalidOption, UnknownLayer
from cnnviz.exemplars.channels import ChannelReport, reported
from cnnviz.exemplars.page import layer_page
from cnnviz.exemplars.pictures import Pictures
from cnnviz.exemplars.ranking import NO_IMAGE, Ranking
from cnnviz.exemplars.saving import read_folder, write_folder
from cnnviz.exemplars.statistics import ChannelStatistics
from cnnviz.exemplars.tally import LayerTally, ScanTally
from cnnviz.features import Profile
from cnnviz.files import write_text
from cnnviz.sources import Source, as_source

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Example", "Exemplars", "LayerExemplars"]


_NO_CLASSES = "no images were kept by class; the source tells none, or per_class is 0"


@dataclass(frozen=True)
class Example:
    """One image and where it excites a channel.

    Attributes
    ----------
    image : int
        Its number in the source.
    value : float
        The largest activation of the channel in it.
    position : tuple of int
        Row and column of that in the layer's map; empty for a layer without space.
    """

    image: int
    value: float
    position: tuple[int, ...]


class LayerExemplars:
    """The images that excite the channels of one layer, and what its activations are like.

    Attributes
    ----------
    layer : str
    values : array
        ``(C, k)``: the largest activation in each of the k best images, best first; -inf where
        there were fewer images.
    images : array of int
        ``(C, k)``: which images, by their number in the source; -1 for none.
    positions : array of int
        ``(C, k, 2)``: row and column of the largest activation in the layer's map; the last
        axis has a number for each axis of the map, none where it has no space.
    mean_values, mean_images : array
        ``(C, k)``: the same by the mean over the map.
    statistics : ChannelStatistics
    """

    def __init__(self, layer: str, tally: LayerTally, whole: Exemplars) -> None:
        self.layer, self._tally, self._whole = layer, tally, whole
        self.values, self.images = tally.by_max.values, tally.by_max.images
        self.positions = self._positions(tally.by_max.places)
        self.mean_values, self.mean_images = tally.by_mean.values, tally.by_mean.images
        self.statistics: ChannelStatistics = tally.statistics

    @property
    def channels(self) -> int:
        """How many there are."""
        return len(self.values)

    @property
    def pictures(self) -> Pictures:
        """Patches and sheets of this layer.

        Raises
        ------
        InvalidOption
            The exemplars were opened without the images or the network.
        """
        net, source = self._whole.require_pictures()
        return Pictures(net, source, self, self._whole.size, self._whole.hash_of)

    def top(self, channel: int, *, by: str = "max") -> list[Example]:
        """Give the images that excite a channel most, best first.

        Parameters
        ----------
        channel : int
        by : {"max", "mean"}
            By the largest activation or by the mean over the map, which is then the value.

        Raises
        ------
        ChannelOutOfRange, InvalidOption
        """
        if by not in ("max", "mean"):
            raise InvalidOption(f"by is 'max' or 'mean', not {by!r}")
        ranking = self._tally.by_max if by == "max" else self._tally.by_mean
        return self._ranked(ranking, self._checked(channel))

    def random(self, channel: int, count: int = 9) -> list[Example]:
        """Give images drawn at random, the same for every channel.

        Raises
        ------
        ChannelOutOfRange
        """
        return self._sampled(self._checked(channel), np.arange(len(self._sample))[:count])

    def quantiles(self, channel: int, ranges: int = 4, each: int = 3) -> list[list[Example]]:
        """Give images out of equal shares of a random sample, from the weakest to the strongest.

        Parameters
        ----------
        channel : int
        ranges : int
            How many shares: 4 are quartiles.
        each : int
            Images of each, about its middle.

        Raises
        ------
        ChannelOutOfRange, InvalidOption
        """
        channel = self._checked(channel)
        if ranges < 1 or each < 1:
            raise InvalidOption("ranges and each are above zero")
        order = np.lexsort((self._whole.sampled, self._sample[:, channel]))
        found = []
        for part in np.array_split(order, ranges):
            middle = max(0, (len(part) - each + 1) // 2)
            found.append(self._sampled(channel, part[middle : middle + each]))
        return found

    def of_class(self, channel: int, label: int) -> list[Example]:
        """Give the images of a class that excite a channel most, best first.

        Raises
        ------
        ChannelOutOfRange
        InvalidOption
            The images had no labels, or none was kept by class.
        """
        if not self._tally.by_class:
            raise InvalidOption(_NO_CLASSES)
        if not 0 <= label < len(self._tally.by_class):
            raise ChannelOutOfRange("class", label, len(self._tally.by_class))
        return self._ranked(self._tally.by_class[label], self._checked(channel))

    @property
    def class_means(self) -> NDArray[np.float64]:
        """``(classes, C)``: the images' largest activations, averaged over each class.

        NaN for a class of no image.

        Raises
        ------
        InvalidOption
            As in `of_class`.
        """
        if not self._tally.by_class:
            raise InvalidOption(_NO_CLASSES)
        counts = self._whole.class_counts[:, None]
        found = np.full((len(counts), self.channels), np.nan)
        means: NDArray[np.float64]
        means = np.divide(self._tally.class_sums.value, counts, out=found, where=counts > 0)
        return means

    def labels(self, *, by: str = "max") -> NDArray[np.int64]:
        """Give the class of each exemplar, ``(C, k)``; -1 for none."""
        images = self.images if by == "max" else self.mean_images
        return self._whole.label_of(images)

    def profile(self) -> Profile:
        """Give the mean of each channel over all images and places, as for one picture."""
        return Profile(self.layer, self.statistics.mean)

    def image_means(self, quantiles: tuple[float, ...]) -> NDArray[np.float64]:
        """Give quantiles over a random sample of images of each channel's mean, ``(Q, C)``."""
        found = np.quantile(self._tally.sample["means"], quantiles, axis=0)
        return np.asarray(found, np.float64)

    def plot(self, channel: int) -> Figure:
        """Draw a channel: its patches, the images about them, images of each quartile, histogram.

        Raises
        ------
        ChannelOutOfRange
        InvalidOption
            As in `pictures`.
        """
        return self.pictures.plot(self._checked(channel))

    def page(self, path: str | Path, channels: Sequence[int] | None = None, side: int = 96) -> Path:
        """Write a page with a row for each channel: patches, numbers and histogram.

        Parameters
        ----------
        path : path
            An ``.html`` file; it needs nothing beside it.
        channels : sequence of int, optional
            All of them by default.
        side : int
            Pixels of each patch.

        Raises
        ------
        ChannelOutOfRange, InvalidOption
        """
        if Path(path).suffix.lower() not in (".html", ".htm"):
            raise InvalidOption(f"a page is an .html file, not {str(path)!r}")
        chosen = range(self.channels) if channels is None else [self._checked(c) for c in channels]
        return write_text(path, layer_page(self._whole, self, chosen, side))

    def _ranked(self, ranking: Ranking, channel: int) -> list[Example]:
        rows = zip(
            ranking.images[channel],
            ranking.values[channel],
            self._positions(ranking.places[channel]),
            strict=True,
        )
        return [_example(*row) for row in rows if row[0] != NO_IMAGE]

    def _sampled(self, channel: int, rows: NDArray[np.intp]) -> list[Example]:
        places = self._positions(self._tally.sample["places"][rows, channel])
        values = self._sample[rows, channel]
        return [
            _example(*row) for row in zip(self._whole.sampled[rows], values, places, strict=True)
        ]

    @property
    def _sample(self) -> NDArray[Any]:
        return self._tally.sample["values"]

    def _positions(self, places: NDArray[np.int32]) -> NDArray[np.int64]:
        grid = self._tally.grid
        if not grid:
            return np.empty((*places.shape, 0), np.int64)
        return np.stack(np.unravel_index(np.maximum(places, 0), grid), axis=-1).astype(np.int64)

    def _checked(self, channel: int) -> int:
        if not 0 <= channel < self.channels:
            raise ChannelOutOfRange(f"channel of {self.layer}", channel, self.channels)
        return int(channel)


class Exemplars:
    """The images that excite each channel most, for some layers of a network.

    ``exemplars[layer]`` gives a `LayerExemplars`.

    Attributes
    ----------
    layers : tuple of str
    network, framework : str
    seen : int
        Images that passed through the network.
    broken : list of (int, str, str)
        Number, reference and reason of the images that could not be read.
    classes : tuple of str or None
    class_counts : array of int
        ``(K,)``, images of each class.
    sampled : array of int
        ``(S,)``, the images that were drawn at random.
    references : dict of int to str
        The path, or what there is in its place, of each image that is named in the result.
    """

    def __init__(
        self,
        tally: ScanTally,
        identity: Mapping[str, Any],
        references: Mapping[int, str],
        net: Adapter[Any] | None,
        source: Source | None,
    ) -> None:
        self._tally, self._identity = tally, dict(identity)
        self.references = dict(references)
        self._net, self._source = net, source
        self.layers = tally.names
        self.network, self.framework = identity["network"], identity["framework"]
        self.seen, self.broken = tally.seen, tally.broken
        classes = identity["classes"]
        self.classes = None if classes is None else tuple(classes)
        self.class_counts, self.sampled = tally.class_counts, tally.sampled
        size = identity["size"]
        self.size = None if size is None else (int(size[0]), int(size[1]))

    @classmethod
    def of(
        cls, tally: ScanTally, identity: Mapping[str, Any], net: Adapter[Any], source: Source
    ) -> Exemplars:
        """Make the result of a scan."""
        named = [tally.sampled]
        for layer in tally.layers.values():
            named += [layer.by_max.images.ravel(), layer.by_mean.images.ravel()]
            named += [one.images.ravel() for one in layer.by_class]
        numbers = np.unique(np.concatenate(named))
        references = {int(n): source.reference(int(n)) for n in numbers if n != NO_IMAGE}
        return cls(tally, identity, references, net, source)

    @classmethod
    def open(cls, folder: str | Path, *, net: Any = None, images: Any = None) -> Exemplars:
        """Read exemplars that were written.

        Parameters
        ----------
        folder : path
        net, images : optional
            The network and the images, for patches and pictures.

        Raises
        ------
        InvalidOption
            It holds none, or what it holds is damaged.
        """
        tally, identity, references = read_folder(Path(folder))
        source = None if images is None else as_source(images)
        return cls(tally, identity, references, None if net is None else adapt(net), source)

    def save(self, folder: str | Path) -> Path:
        """Write the numbers, not the images, into a folder, which is made.

        Raises
        ------
        InvalidOption
            It cannot be written.
        """
        write_folder(Path(folder), self._tally, self._identity, self.references)
        return Path(folder)

    def __getitem__(self, layer: str) -> LayerExemplars:
        if layer not in self._tally.layers:
            raise UnknownLayer(layer, self.layers)
        return LayerExemplars(layer, self._tally.layers[layer], self)

    def __iter__(self) -> Iterator[str]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def report(self) -> ChannelReport:
        """List the channels that are dead, constant, or the same as another.

        Where the network is at hand its weights are looked at as well.
        """
        return reported(self, self._net)

    def label_of(self, images: NDArray[Any]) -> NDArray[np.int64]:
        """Give the class of images by their numbers, in their shape; -1 for none."""
        numbers = self._tally.numbers
        at = np.searchsorted(numbers, images).clip(0, len(numbers) - 1)
        return np.where(numbers[at] == images, self._tally.labels[at], -1)

    def hash_of(self, image: int) -> int | None:
        """Give the hash of an image as it was when it was scanned."""
        numbers = self._tally.numbers
        at = int(np.searchsorted(numbers, image))
        found = at < len(numbers) and numbers[at] == image
        return int(self._tally.hashes[at]) if found else None

    def require_pictures(self) -> tuple[Adapter[Any], Source]:
        """Give the network and the images.

        Raises
        ------
        InvalidOption
            One of them is not at hand.
        """
        if self._net is None or self._source is None:
            raise InvalidOption(
                "pictures need the network and the images: Exemplars.open(folder, net=...,"
                " images=...)"
            )
        return self._net, self._source

    def sample_of(self, layer: str) -> NDArray[Any]:
        """Give each channel's largest activation in the sampled images, ``(S, C)``."""
        return self._tally.layers[layer].sample["values"]

    def to_json(self) -> dict[str, Any]:
        """Give all exemplars and statistics, of what JSON knows."""
        return {
            "network": self.network,
            "framework": self.framework,
            "seen": self.seen,
            "broken": [list(one) for one in self.broken],
            "classes": None if self.classes is None else list(self.classes),
            "layers": {name: _layer_json(self[name], self.references) for name in self},
        }

    def __str__(self) -> str:
        lines = [f"{self.network} ({self.framework}): {self.seen:,} images"]
        if self.broken:
            _, reference, reason = self.broken[0]
            count = len(self.broken)
            lines.append(f"{count} could not be read; the first is {reference}: {reason}")
        for name in self:
            layer = self[name]
            lines.append(f"{name}: {layer.channels} channels, {layer.values.shape[1]} images each")
        return "\n".join(lines)


def _example(image: Any, value: Any, position: NDArray[np.int64]) -> Example:
    return Example(int(image), float(value), tuple(int(n) for n in position))


def _layer_json(layer: LayerExemplars, references: Mapping[int, str]) -> dict[str, Any]:
    statistics = layer.statistics
    return {
        "channels": layer.channels,
        "exemplars": [
            [
                {
                    "image": one.image,
                    "reference": references[one.image],
                    "value": one.value,
                    "position": list(one.position),
                }
                for one in layer.top(channel)
            ]
            for channel in range(layer.channels)
        ],
        "statistics": {
            name: getattr(statistics, name).tolist()
            for name in ("count", "mean", "std", "min", "max", "zero_share", "missing")
        },
    }
