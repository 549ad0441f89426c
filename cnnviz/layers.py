"""The layers of a network as a table, and the one that pictures are made of by default."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from cnnviz.adapter import Layer
from cnnviz.discovery import adapt
from cnnviz.errors import CnnvizError
from cnnviz.tables import html_table, rich_table, text_table

if TYPE_CHECKING:
    from rich.console import Group

__all__ = [
    "LayerTable",
    "Role",
    "last_spatial",
    "layers",
    "tensor_role",
]

Role = Literal["kernel", "bias", "scale", "offset", "running mean", "running variance", "parameter"]

_ROLES: Mapping[str, Role] = {
    "gamma": "scale",
    "scale": "scale",
    "beta": "offset",
    "offset": "offset",
    "moving_mean": "running mean",
    "running_mean": "running mean",
    "mean": "running mean",
    "moving_variance": "running variance",
    "running_var": "running variance",
    "variance": "running variance",
}

# Kinds whose maps are only those of another layer, moved, thinned out or copied.
_NOT_SHOWN = (
    "pool",
    "dropout",
    "flatten",
    "identity",
    "pad",
    "crop",
    "permute",
    "reshape",
    "upsampling",
)
# Kinds that do nothing at inference; a block may end in one and still end in what is before it.
_INERT = ("dropout", "identity", "droppath", "stochasticdepth")

_HEADER = ("name", "kind", "output shape", "parameters")


@dataclass(frozen=True)
class LayerTable(Sequence[Layer]):
    """The calls of the layers of a network, in the order in which they finish.

    Attributes
    ----------
    network : str
        Name of the network.
    rows : tuple of Layer
        Layers that hold others come after those that they hold.
    total : int
        Parameters of the whole network, none counted twice; running statistics are none.
    """

    network: str
    rows: tuple[Layer, ...]
    total: int

    @overload
    def __getitem__(self, index: int) -> Layer: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Layer, ...]: ...

    def __getitem__(self, index: int | slice) -> Layer | tuple[Layer, ...]:
        return self.rows[index]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.rows)

    @property
    def names(self) -> tuple[str, ...]:
        """The addresses, as every function of cnnviz takes them."""
        return tuple(layer.name for layer in self.rows)

    def to_json(self) -> list[dict[str, Any]]:
        """Give one dictionary a layer, of what JSON knows; the batch axis is None."""
        return [
            {
                "name": layer.name,
                "kind": layer.kind,
                "output_shape": None if layer.output_shape is None else list(layer.output_shape),
                "channels": layer.channels,
                "parameters": layer.parameters,
                "leaf": layer.leaf,
            }
            for layer in self.rows
        ]

    def __str__(self) -> str:
        return text_table(_HEADER, self._cells(), right=(3,), footer=self._footer())

    def __rich__(self) -> Group:
        return rich_table(_HEADER, self._cells(), right=(3,), footer=self._footer())

    def _repr_html_(self) -> str:
        return html_table(_HEADER, self._cells(), self._footer())

    def _cells(self) -> list[tuple[str, ...]]:
        return [
            (
                layer.name,
                layer.kind,
                _shape_text(layer.output_shape),
                f"{layer.parameters:,}" if layer.leaf else f"({layer.parameters:,})",
            )
            for layer in self.rows
        ]

    def _footer(self) -> list[str]:
        lines = [f"{self.network}: {len(self.rows)} layers, {self.total:,} parameters"]
        if not all(layer.leaf for layer in self.rows):
            lines.append("in parentheses: layers that hold some of those above them")
        return lines


def layers(net: Any) -> LayerTable:
    """List the layers of a network: name, kind, output shape, parameters.

    Parameters
    ----------
    net : model or Adapter
        The network.

    Returns
    -------
    LayerTable
        A sequence of `cnnviz.Layer`; printed, it is a table.
    """
    net = adapt(net)
    weights = net.weights()
    total = sum(
        np.size(value)
        for name, value in weights.items()
        if not tensor_role(name, weights).startswith("running")
    )
    return LayerTable(net.name, tuple(net.layers()), total)


def last_spatial(net: Any) -> Layer:
    """Find the layer that CAM and feature pictures take by default: the last stage of maps.

    That is the last layer that still has height and width and is no pooling, dropout, padding
    or reshaping, widened to the outermost block that ends in it with maps of the same height
    and width: ``layer4`` of a ResNet, but ``features.42`` of a VGG16 with batch norm, whose
    ``features`` end in a pooling.

    Raises
    ------
    CnnvizError
        No layer has maps.
    """
    net = adapt(net)
    table: list[Layer] = list(net.layers())
    found = next(
        (
            i
            for i in reversed(range(len(table)))
            if table[i].leaf and table[i].spatial and not _is(table[i], _NOT_SHOWN)
        ),
        None,
    )
    if found is None:
        raise CnnvizError(
            f"{net.name} has no layer with height and width; cnnviz.layers lists what it has"
        )
    leaf = table[found]
    widest = leaf
    for i in range(found + 1, len(table)):
        block = table[i]
        if block.leaf or not _holds(block, leaf) or block.spatial != leaf.spatial:
            continue
        # A block finishes after its parts, so what else it holds after the leaf stands between.
        between = (t for t in table[found + 1 : i] if t.leaf and _holds(block, t))
        if all(_is(part, _INERT) for part in between):
            widest = block
    return widest


def tensor_role(name: str, weights: Mapping[str, NDArray[Any]]) -> Role:
    """Say what a tensor does, by its framework's name for it and its number of axes.

    Parameters
    ----------
    name : str
        One of the keys of `weights`.
    weights : mapping of str to array
        As `Adapter.weights` gives them. PyTorch calls a convolution's bias and a batch norm's
        offset alike; they are told apart by the tensor beside them.
    """
    *_, tail = re.split(r"[./]", name)
    prefix = name.removesuffix(tail)
    if tail in _ROLES:
        return _ROLES[tail]
    if "bias" in tail:
        beside = weights.get(prefix + tail.replace("bias", "weight"))
        return "offset" if beside is not None and np.ndim(beside) == 1 else "bias"
    if "kernel" in tail:
        return "kernel"
    if "weight" in tail:
        return "kernel" if np.ndim(weights[name]) >= 2 else "scale"
    return "parameter"


def _is(layer: Layer, kinds: Sequence[str]) -> bool:
    return any(kind in layer.kind.lower() for kind in kinds)


def _holds(block: Layer, part: Layer) -> bool:
    return part.address.startswith((f"{block.address}.", f"{block.address}/"))


def _shape_text(shape: tuple[int | None, ...] | None) -> str:
    if shape is None:
        return "several"
    return " x ".join("?" if side is None else str(side) for side in shape)
