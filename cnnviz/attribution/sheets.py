"""Attributions side by side: methods, pictures and networks on one sheet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from cnnviz import images as pictures
from cnnviz.adapter import Adapter
from cnnviz.attribution.methods import attribute, check_options, known_method
from cnnviz.attribution.result import Attribution
from cnnviz.attribution.targets import Targets
from cnnviz.discovery import adapt
from cnnviz.errors import InvalidOption
from cnnviz.images import ImagesLike

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["AttributionSheet", "attribution_sheet"]

Scale = Literal["own", "shared"]
# What `attribute` takes beside the settings of a method.
_ARGUMENTS = {"layer", "size", "batch", "score", "fuse"}


@dataclass(frozen=True)
class AttributionSheet:
    """What several methods say of several networks on the same pictures.

    Attributes
    ----------
    attributions : mapping of (str, str) to Attribution
        By the label of the network and the name of the method; a row a picture.
    networks, methods : tuple of str
    scale : {"own", "shared"}
        Whether each map is drawn over its own maximum, or all maps that a method made of a
        picture over the largest of them.
    """

    attributions: Mapping[tuple[str, str], Attribution]
    networks: tuple[str, ...]
    methods: tuple[str, ...]
    scale: Scale = "own"

    def __repr__(self) -> str:
        count = len(self.attributions[self.networks[0], self.methods[0]].raw)
        return (
            f"<AttributionSheet {', '.join(self.methods)} of {', '.join(self.networks)}:"
            f" {count} map{'s' * (count != 1)} each>"
        )

    def __getitem__(self, key: tuple[str, str]) -> Attribution:
        return self.attributions[key]

    def tiles(self) -> list[list[NDArray[Any]]]:
        """Give the pictures of the sheet row by row: the photo, then an overlay a method."""
        columns = {key: self._overlays(*key) for key in self.attributions}
        photos = {
            network: _rgb(self.attributions[network, self.methods[0]]._shown)
            for network in self.networks
        }
        return [
            [photos[network][i], *(columns[network, method][i] for method in self.methods)]
            for i in range(len(photos[self.networks[0]]))
            for network in self.networks
        ]

    def _overlays(self, network: str, method: str) -> NDArray[Any]:
        """Give the overlays of one method on one network, ``(N, H, W, 3)``."""
        found = self.attributions[network, method]
        heat = found.heat()
        if self.scale == "shared":
            tops = {other: _tops(self.attributions[other, method]) for other in self.networks}
            top = np.max(list(tops.values()), axis=0)
            share = np.divide(tops[network], top, out=np.zeros_like(top), where=top > 0)
            heat = heat * share[:, None, None]
        return pictures.overlay(_rgb(found._shown), heat, 0.5)

    def plot(self) -> Figure:
        """Draw the sheet with names: a column a method, a row a picture and network."""
        from cnnviz import figures

        labels = []
        first = self.attributions[self.networks[0], self.methods[0]]
        for i in range(len(first.raw)):
            for network in self.networks:
                name = self.attributions[network, self.methods[0]].names[i]
                labels.append(f"{network}: {name}" if len(self.networks) > 1 else name)
        return figures.table_figure(self.tiles(), ("", *self.methods), labels)

    def save(self, path: str | Path) -> Path:
        """Write the sheet as a picture."""
        from cnnviz import figures
        from cnnviz.files import write_bytes

        return write_bytes(Path(path), figures.figure_png(self.plot()))

    def _repr_png_(self) -> bytes:
        from cnnviz import figures

        return figures.figure_png(self.plot())


def attribution_sheet(
    nets: Any,
    images: ImagesLike,
    methods: Sequence[str] = ("grad_cam", "layer_cam", "integrated_gradients"),
    target: Targets = None,
    *,
    scale: Scale = "own",
    options: Mapping[str, Mapping[str, Any]] | None = None,
) -> AttributionSheet:
    """Put methods beside each other, on several pictures and for one network or more.

    Parameters
    ----------
    nets : model, Adapter, sequence or mapping of these
        A mapping gives them labels.
    images : path, Pillow image, array or list of these
    methods : sequence of str
        Names of `cnnviz.METHODS`.
    target
        As for `attribute`; of classes one for each picture.
    scale : {"own", "shared"}
        See `AttributionSheet`.
    options : mapping of str to mapping, optional
        Settings by method.

    Raises
    ------
    InvalidOption
        There is no such method or scale, or nothing to show.
    """
    if scale not in ("own", "shared"):
        raise InvalidOption(f"scale is 'own' or 'shared', not {scale!r}")
    if isinstance(methods, str):
        methods = [methods]
    if not methods:
        raise InvalidOption("name at least one method")
    for method in methods:
        known_method(method)
    labelled = _labelled(nets)
    given = options or {}
    for method, settings in given.items():
        if method not in methods:
            raise InvalidOption(
                f"there are settings of {method!r}, which is not on the sheet; its methods are"
                f" {', '.join(map(repr, methods))}"
            )
        check_options(method, settings.keys() - _ARGUMENTS)
    found = {
        (label, method): attribute(net, images, method, target, **given.get(method, {}))
        for label, net in labelled.items()
        for method in methods
    }
    return AttributionSheet(found, tuple(labelled), tuple(methods), scale)


def _labelled(nets: Any) -> dict[str, Adapter[Any]]:
    if isinstance(nets, Mapping):
        return {str(label): adapt(net) for label, net in nets.items()}
    listed = [adapt(net) for net in (nets if isinstance(nets, (list, tuple)) else [nets])]
    if not listed:
        raise InvalidOption("name at least one network")
    labels: dict[str, Adapter[Any]] = {}
    for net in listed:
        label, number = net.title, 1
        while label in labels:
            number += 1
            label = f"{net.title} {number}"
        labels[label] = net
    return labels


def _tops(found: Attribution) -> NDArray[Any]:
    """Give the largest number of each map, at least zero, ``(N,)``."""
    return np.asarray(np.maximum(found.raw.reshape(len(found.raw), -1).max(1), 0))


def _rgb(pictures: NDArray[Any]) -> NDArray[Any]:
    return pictures if pictures.shape[-1] == 3 else np.repeat(pictures[..., :1], 3, -1)
