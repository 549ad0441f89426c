"""Tokens laid out in space: the grid of a layer, whether its places lie along one axis or two."""

from __future__ import annotations

import math
from typing import Any

from cnnviz.adapter import Adapter, Layer
from cnnviz.errors import InvalidOption

__all__ = ["extent_in_words", "on_grid", "token_grid"]


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
        if layer.rows != 1:
            raise InvalidOption(
                f"layer {layer.name!r} gives {layer.rows} rows for each picture, such as windows"
                " or proposals, whose places are not known; choose a layer around it"
            )
        raise InvalidOption(
            f"layer {layer.name!r} has no {extent_in_words(net)} (its output is"
            f" {layer.output_shape}); choose one before the pooling"
        )
    if not layer.tokens:
        return x
    before, grid = token_grid(net, layer, x.shape[1], size)
    places = x[:, before : before + math.prod(grid)]
    return net.ops.reshape(places, (x.shape[0], *grid, x.shape[2]))


def token_grid(
    net: Adapter[Any], layer: Layer, count: int, size: tuple[int, ...]
) -> tuple[int, tuple[int, ...]]:
    """Say how many of `count` tokens come before the grid, and what the grid is at this size.

    Raises
    ------
    InvalidOption
        So many tokens are no grid.
    """
    grid = layer.spatial
    extra = layer.other_tokens
    if net.listed_size is not None and tuple(size) != net.listed_size:
        # A patch has the same size in pixels in every picture.
        grid = tuple(g * n // m for g, n, m in zip(grid, size, net.listed_size, strict=True))
    if count != math.prod(grid) + extra:
        raise InvalidOption(
            f"the {count} tokens of {layer.name!r} are no grid of {_by(grid)} and {extra} more;"
            f" adapt the network for this size: input_shape=({_commas(size)},"
            f" {net.input_shape[-1]})"
        )
    return layer.class_tokens, grid


def extent_in_words(net: Adapter[Any]) -> str:
    """Name the axes in space of what a network takes."""
    return {2: "length", 4: "depth, height and width"}.get(len(net.input_shape), "height and width")


def _by(sides: tuple[int, ...]) -> str:
    return " x ".join(map(str, sides))


def _commas(sides: tuple[int, ...]) -> str:
    return ", ".join(map(str, sides))
