"""Tokens laid out in space: the grid of a layer, whether its places lie along one axis or two."""

from __future__ import annotations

import math
from typing import Any

from cnnviz.adapter import Adapter, Layer
from cnnviz.errors import InvalidOption

__all__ = ["on_grid"]


def on_grid(net: Adapter[Any], layer: Layer, x: Any, size: tuple[int, ...]) -> Any:
    """View a layer's tensor as ``(N, *grid, C)``; class tokens and registers are left out.

    Parameters
    ----------
    net : Adapter
    layer : Layer
        With spatial extent.
    x : tensor
        Native, as a tap gives it; maps are given back as they are.
    size : tuple of int
        Height and width of the pictures that went in.

    Raises
    ------
    InvalidOption
        The layer has no spatial extent, or its tokens do not fill a grid at this size.
    """
    if not layer.spatial:
        raise InvalidOption(
            f"layer {layer.name!r} has no {_extent(net)} (its output is {layer.output_shape});"
            " choose one before the pooling"
        )
    if not layer.tokens:
        return x
    grid = layer.spatial
    extra = (layer.output_shape or ())[1] or 0
    extra -= math.prod(grid)
    if net.listed_size is not None and tuple(size) != net.listed_size:
        # A patch has the same size in pixels in every picture.
        grid = tuple(g * n // m for g, n, m in zip(grid, size, net.listed_size, strict=True))
    count = math.prod(grid)
    if x.shape[1] != count + extra:
        raise InvalidOption(
            f"the {x.shape[1]} tokens of {layer.name!r} are no grid of {_by(grid)} and {extra}"
            f" more; adapt the network for this size: input_shape=({_commas(size)},"
            f" {net.input_shape[-1]})"
        )
    places = x[:, layer.class_tokens : layer.class_tokens + count]
    return net.ops.reshape(places, (x.shape[0], *grid, x.shape[2]))


def _extent(net: Adapter[Any]) -> str:
    return {2: "length", 4: "depth, height and width"}.get(len(net.input_shape), "height and width")


def _by(sides: tuple[int, ...]) -> str:
    return " x ".join(map(str, sides))


def _commas(sides: tuple[int, ...]) -> str:
    return ", ".join(map(str, sides))
