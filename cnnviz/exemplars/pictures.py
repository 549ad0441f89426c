"""Exemplars as pictures: patches cut at the receptive field, and the images that they are of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cnnviz import images
from cnnviz.adapter import Adapter, Layer
from cnnviz.errors import InvalidImage, InvalidOption, UnknownField
from cnnviz.pictures import picture_batch, require_pictures
from cnnviz.preprocessing import Interpolation
from cnnviz.sources import Source
from cnnviz.sources.hashing import picture_hash

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from cnnviz.exemplars.result import Example, LayerExemplars

__all__ = ["Pictures"]

# Beyond the picture, where a place sees padding: no colour that photos have much of.
_BEYOND = (0.72, 0.78, 0.86)
_BOX = (1.0, 0.85, 0.1)
_SIDE = 96

Box = tuple[int, int, int, int]


class Pictures:
    """Pictures of the exemplars of one layer, read again from their source.

    Parameters
    ----------
    net : Adapter
    source : Source
    layer : LayerExemplars
    size : (int, int), optional
        Height and width at which the images were scanned, where that was given.
    hash_of : callable
        The hash of an image as it was scanned.
    """

    def __init__(
        self,
        net: Adapter[Any],
        source: Source,
        layer: LayerExemplars,
        size: tuple[int, int] | None,
        hash_of: Callable[[int], int | None],
    ) -> None:
        require_pictures(net, "a sheet of patches")
        self._net, self._source, self._of = net, source, layer
        self._size, self._hash_of = size, hash_of
        self._read: dict[int, NDArray[Any]] = {}

    def image(self, number: int) -> NDArray[Any]:
        """Read an image as the network saw it, ``(H, W, C)`` in [0, 1].

        Raises
        ------
        InvalidImage
            It cannot be read any more, or is another than when it was scanned.
        """
        if number not in self._read:
            picture = self._source.read(number)
            known = self._hash_of(number)
            if known is not None and picture_hash(picture) != known:
                raise InvalidImage(
                    f"{self._source.reference(number)} is another image than the one that was"
                    " scanned; find the exemplars again"
                )
            # A sheet shows some images many times, but not all of a data set.
            if len(self._read) > 256:
                self._read.clear()
            self._read[number] = picture_batch(self._net, picture, self._size)[0]
        return self._read[number]

    def box(self, example: Example) -> Box:
        """Say what the place that is excited can see: top, left, bottom, right, not clipped.

        Where that is not known, or the layer has no space, it is the whole image.
        """
        height, width = self.image(example.image).shape[:2]
        layer = self._layer(height, width)
        if layer is None or len(example.position) != 2:
            return 0, 0, height, width
        try:
            top, left, bottom, right = layer.patch(example.position, (height, width))
        except UnknownField:
            return 0, 0, height, width
        return top, left, bottom, right

    def patch(self, example: Example) -> NDArray[Any]:
        """Cut out what the place that is excited can see, as large as its receptive field.

        What lies beyond the image, where the network saw padding, is a pale blue. Where the
        field is larger than the image in height or width, that is not shown beyond the image.
        """
        whole = self.image(example.image)
        top, left, bottom, right = self.box(example)
        height, width = whole.shape[:2]
        if bottom - top >= height:
            top, bottom = 0, height
        if right - left >= width:
            left, right = 0, width
        rgb = np.repeat(whole, 3, axis=-1) if whole.shape[-1] == 1 else whole[..., :3]
        found = np.empty((bottom - top, right - left, 3), whole.dtype)
        found[:] = _BEYOND
        inside = (slice(max(top, 0), min(bottom, height)), slice(max(left, 0), min(right, width)))
        y, x = inside[0].start - top, inside[1].start - left
        part = rgb[inside]
        found[y : y + part.shape[0], x : x + part.shape[1]] = part
        return found

    def patches(self, channel: int, *, by: str = "max") -> list[NDArray[Any]]:
        """Cut the patches of a channel's exemplars, best first, each ``(h, w, 3)`` in [0, 1]."""
        return [self.patch(one) for one in self._of.top(channel, by=by)]

    def whole(self, example: Example) -> NDArray[Any]:
        """Give the image of an example with what the place can see in a yellow frame."""
        picture = self.image(example.image)
        rgb = np.array(np.repeat(picture, 3, axis=-1) if picture.shape[-1] == 1 else picture)
        height, width = rgb.shape[:2]
        top, left, bottom, right = self.box(example)
        if top <= 0 and left <= 0 and bottom >= height and right >= width:
            return rgb
        thick = max(1, round(min(height, width) / 100))
        top, left = max(top, 0), max(left, 0)
        bottom, right = min(bottom, height), min(right, width)
        for part in (
            (slice(top, top + thick), slice(left, right)),
            (slice(bottom - thick, bottom), slice(left, right)),
            (slice(top, bottom), slice(left, left + thick)),
            (slice(top, bottom), slice(right - thick, right)),
        ):
            rgb[part] = _BOX
        return rgb

    def sheet(
        self, channels: Sequence[int] | None = None, *, by: str = "max", side: int = _SIDE
    ) -> NDArray[Any]:
        """Lay out patches as a sheet: a row for each channel, best first.

        Parameters
        ----------
        channels : sequence of int, optional
            By default the first 16.
        by : {"max", "mean"}
        side : int
            Pixels of each patch; all are resized to squares of it.

        Returns
        -------
        array
            ``(H, W, 3)`` in [0, 1].

        Raises
        ------
        ChannelOutOfRange, InvalidOption
        """
        if channels is None:
            channels = range(min(16, self._of.channels))
        if not len(channels) or side < 1:
            raise InvalidOption("a sheet needs channels and a side above zero")
        columns = self._of.values.shape[1]
        tiles = []
        for channel in channels:
            row = [_squared(one, side) for one in self.patches(channel, by=by)]
            blank = np.ones((side, side, 3), np.float32)
            tiles += [*row, *[blank] * (columns - len(row))]
        return images.grid(np.stack(tiles), columns, margin=3)

    def plot(self, channel: int) -> Figure:
        """Draw a channel: patches, their images, images of each quartile, and the histogram."""
        from cnnviz.exemplars.figures import channel_figure

        return channel_figure(self, self._of, channel)

    def beside(self, channel: int, picture: NDArray[Any], count: int = 8) -> Figure:
        """Draw the picture that was ascended for a channel beside its photos.

        Parameters
        ----------
        channel : int
        picture : array
            ``(H, W, C)`` in [0, 1], as `cnnviz.ascend` gives it.
        count : int
            Photos.
        """
        from cnnviz.figures import images_figure

        top = self._of.top(channel)[:count]
        titles = [f"{self._of.layer} {channel}: ascended", *(f"{e.value:.3g}" for e in top)]
        return images_figure([picture, *(self.patch(one) for one in top)], titles, columns=3)

    @cached_property
    def _tables(self) -> dict[tuple[int, int], Layer | None]:
        return {}

    def _layer(self, height: int, width: int) -> Layer | None:
        """Find the layer as it is listed for pictures of a size; None if it is not listed."""
        if (height, width) not in self._tables:
            table = {layer.name: layer for layer in self._net.layers_at(height, width)}
            self._tables[height, width] = table.get(self._of.layer)
        return self._tables[height, width]


def _squared(patch: NDArray[Any], side: int) -> NDArray[Any]:
    """Resize a patch to a square, the shorter of its sides filled up."""
    height, width = patch.shape[:2]
    most = max(height, width)
    full = np.empty((most, most, 3), patch.dtype)
    full[:] = _BEYOND
    y, x = (most - height) // 2, (most - width) // 2
    full[y : y + height, x : x + width] = patch
    # A few pixels enlarged are pixels, not a blur.
    how: Interpolation = "nearest" if most < side // 2 else "bilinear"
    return images.resize(full, (side, side), how)
