"""A stream of images through networks: one minibatch at a time, of which Gram matrices remain."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnnviz.adapter import INPUT, LOGITS, OUTPUT, Adapter, Layer
from cnnviz.batches import chunk_for, evenly, numbers, spans
from cnnviz.comparison.kernels import Matrix, centred, gram
from cnnviz.errors import InvalidImage, InvalidOption, UnsupportedModel
from cnnviz.pictures import picture_batch, picture_size

__all__ = ["Reader", "asked_layers", "minibatches", "pictures_for"]

# What the activations of a minibatch may take; where all layers take more, the network runs
# again for the rest of them.
_HELD = 2**30


def minibatches(images: Any, net: Adapter[Any], batch: int) -> Iterator[list[Any]]:
    """Take single images from a stream, so many at once; the last are fewer.

    Raises
    ------
    InvalidImage
        Nothing can be taken from it.
    """
    alone = isinstance(images, str | os.PathLike | Image.Image)
    # An array is one picture, or as many as its first axis is long.
    if alone or 0 <= getattr(images, "ndim", -1) <= len(net.input_shape):
        images = [images]
    try:
        stream = iter(images)
    except TypeError as error:
        kind = type(images).__name__
        raise InvalidImage(f"images are paths, Pillow images or arrays, not {kind}") from error
    while some := list(islice(stream, batch)):
        yield some


def pictures_for(
    nets: Sequence[Adapter[Any]],
    some: list[Any],
    size: int | tuple[int, int] | None,
    first: int,
) -> list[NDArray[Any]]:
    """Read images for each network as it takes them; those that take the same, read once.

    Parameters
    ----------
    nets : sequence of Adapter
    some : list of path, Pillow image or array
    size : int or (int, int), optional
        As for `cnnviz.pictures.picture_batch`.
    first : int
        How many images came before, for the error.
    """
    read: dict[Any, NDArray[Any]] = {}
    found = []
    for net in nets:
        wanted = (picture_size(net, size), net.require_preprocessing().interpolation)
        key = (*wanted, len(net.input_shape), net.input_shape[-1])
        try:
            if key not in read or len(net.input_shape) != 3:
                read[key] = picture_batch(net, some, size)
        except InvalidImage as error:
            if not first:
                raise
            raise InvalidImage(f"of the images from number {first} on: {error}") from error
        net.settle(*read[key].shape[1:-1])
        found.append(read[key])
    return found


def asked_layers(layers: str | Sequence[str] | None) -> tuple[str, ...] | None:
    """Give each name that is asked for once; None for the default.

    Raises
    ------
    InvalidOption
        The sequence is empty.
    """
    if layers is None:
        return None
    names = (layers,) if isinstance(layers, str) else tuple(dict.fromkeys(layers))
    if not names:
        raise InvalidOption("no layer is asked for")
    return names


class Reader:
    """The layers of one network, read minibatch by minibatch.

    Parameters
    ----------
    net : Adapter
    asked : tuple of str, optional
        Names of layers; by default those that hold no others and may lead to the scores.
    mean : bool
        Whether their features are averaged over all but the first and the last axis.
    unbiased : bool
        How the Gram matrices are centred.
    batch : int
        Images in a minibatch; the last may have fewer.

    Attributes
    ----------
    taps : dict of str to str
        From the names asked for to those that the adapter lists, once a minibatch was read.
    """

    def __init__(
        self,
        net: Adapter[Any],
        asked: tuple[str, ...] | None,
        mean: bool,
        unbiased: bool,
        batch: int,
    ) -> None:
        self.net, self.asked = net, asked
        self.taps: dict[str, str] = {}
        self._mean, self._unbiased, self._batch = mean, unbiased, batch
        self._constant: dict[str, bool] = {}
        self._table: dict[str, Layer] = {}

    @property
    def constant(self) -> tuple[str, ...]:
        """The layers that were the same for every image of each minibatch."""
        return tuple(name for name, tap in self.taps.items() if self._constant[tap])

    def kernels(self, x: NDArray[Any]) -> Matrix:
        """Run pictures ``(n, H, W, C)`` and give the centred Gram matrices, ``(L, n * n)``.

        Raises
        ------
        UnknownLayer, TapNotReached
            The network has no such layer, or does not run through it.
        InvalidOption
            A layer gives numbers that are not finite, or none for each picture.
        """
        first = not self.taps
        if first:
            self._find()
        found: dict[str, Matrix] = {}
        for group in self._groups(x):
            for tap, parts in self._run(x, group).items():
                what = f"{tap} of {self.net.name}"
                if any(part.ndim != 2 for part in parts):
                    if first and self.asked is None:
                        continue
                    raise InvalidOption(f"{what} does not give as many rows for each picture")
                kernel, constant = gram(parts, what)
                self._constant[tap] = self._constant.get(tap, True) and constant
                found[tap] = centred(kernel, self._unbiased).ravel()
        # What stands for no picture, such as a table of positions, is no layer to compare.
        self.taps = {name: tap for name, tap in self.taps.items() if tap in found}
        if not found:
            raise InvalidOption(f"{self.net.name} lists no layers to compare; name some")
        return np.stack([found[tap] for tap in self.taps.values()])

    def _find(self) -> None:
        special = (INPUT, OUTPUT, LOGITS)
        try:
            layers = list(self.net.layers())
        except UnsupportedModel:
            # One that hides its layers has its rim.
            if self.asked is None or not set(self.asked) <= set(special):
                raise
            layers = []
        self._table = {layer.name: layer for layer in layers}
        names = self.asked
        if names is None:
            fine = (
                x for x in layers if x.leaf and x.output_shape and x.leads_to_score is not False
            )
            names = tuple(layer.name for layer in fine)
        self.taps = {n: n if n in special else self.net.layer(n).name for n in names}

    def _groups(self, x: NDArray[Any]) -> Iterator[list[str]]:
        """Part the layers so that what a minibatch holds of each part fits into memory."""
        order = {name: i for i, name in enumerate(self._table)}
        taps = sorted(set(self.taps.values()), key=lambda tap: order.get(tap, len(order)))
        area = np.prod(x.shape[1:-1]) / np.prod(self.net.listed_size or x.shape[1:-1])
        # All are held in float64 at most, with what the framework has of them.
        each = 8 * len(x) * float(area)
        group: list[str] = []
        held = 0.0
        for tap in taps:
            layer = self._table.get(tap)
            count = (layer.channels or 1) if layer and self._mean else layer and numbers(layer)
            if group and held + each * (count or 0) > _HELD:
                yield group
                group, held = [], 0.0
            group.append(tap)
            held += each * (count or 0)
        yield group

    def _run(self, x: NDArray[Any], group: list[str]) -> dict[str, list[NDArray[Any]]]:
        """Give the features of each layer in pieces ``(m, P)``; others than these, unshaped."""
        parts: dict[str, list[NDArray[Any]]] = {tap: [] for tap in group}
        chunk = evenly(self._batch, chunk_for(self.net, group, x.shape[1:-1]))
        for some, count in spans(len(x), chunk, self.net.compiled):
            found = self.net.forward(self.net.ops.asarray(x[some]), taps=group)
            for tap in group:
                values = self.net.ops.to_numpy(found[tap])
                parts[tap].append(self._features(tap, values, len(some))[:count])
        return parts

    def _features(self, tap: str, values: NDArray[Any], count: int) -> NDArray[Any]:
        layer = self._table.get(tap)
        rows = layer.rows if layer else 1
        if values.ndim < 1 or len(values) != count * rows:
            return np.zeros((1, 1, 1))
        if self._mean and values.size and values.ndim + (rows > 1) > 2:
            flat = values.reshape(count, -1, values.shape[-1])
            mean = flat.mean(axis=1, dtype=np.float64)
            # In the network's own dtype, which says what of it is rounding.
            return np.asarray(mean.astype(values.dtype) if values.dtype.kind == "f" else mean)
        return values.reshape(count, int(np.prod(values.shape[1:])) * rows)
