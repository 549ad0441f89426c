"""The layers of a network as a table."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from cnnviz.adapter import Layer
from cnnviz.discovery import adapt
from cnnviz.fields import Field, Window
from cnnviz.stages import last_spatial
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

_HEADER = ("name", "kind", "output shape", "parameters", "receptive field")


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
                "grid": list(layer.spatial),
                "class_tokens": layer.class_tokens,
                "rows": layer.rows,
                "receptive_field": _listed(layer.receptive_field),
                **_placed(layer.field),
                "leads_to_score": layer.leads_to_score,
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
                _shape_text(layer),
                f"{layer.parameters:,}" if layer.leaf else f"({layer.parameters:,})",
                _field_text(layer.receptive_field),
            )
            for layer in self.rows
        ]

    def _footer(self) -> list[str]:
        lines = [f"{self.network}: {len(self.rows)} layers, {self.total:,} parameters"]
        if not all(layer.leaf for layer in self.rows):
            lines.append("in parentheses: layers that hold some of those above them")
        several = next((layer.rows for layer in self.rows if layer.rows != 1), None)
        if several is not None:
            lines.append(f"{several}?: so many rows a picture, such as windows or proposals")
        return lines


def layers(net: Any) -> LayerTable:
    """List the layers of a network: name, kind, output shape, parameters, receptive field.

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


def _shape_text(layer: Layer) -> str:
    if layer.output_shape is None:
        return "no tensor"
    batch = "?" if layer.rows == 1 else f"{layer.rows}?"
    sides = [batch if i == 0 else str(n or "?") for i, n in enumerate(layer.output_shape)]
    text = " x ".join(sides)
    if layer.tokens:
        extra = f" + {layer.other_tokens}" if layer.other_tokens > 0 else ""
        text += f" ({' x '.join(map(str, layer.spatial))}{extra} tokens)"
    return text


def _field_text(field: Any) -> str:
    if field is None:
        return ""
    return field if isinstance(field, str) else " x ".join(map(str, field))


def _placed(field: Field) -> dict[str, Any]:
    window = field if isinstance(field, Window) else None
    start = window.start if window is not None else None
    return {
        "field_start": None if start is None else list(start),
        "field_step": None if window is None else list(window.step),
    }


def _listed(field: Any) -> Any:
    return list(field) if isinstance(field, tuple) else field
