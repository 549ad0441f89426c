"""Feature maps of several layers and photos as one picture."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from cnnviz.features import FeatureMaps
from cnnviz.figures import figure_png
from cnnviz.images import to_uint8

__all__ = ["feature_sheet"]

_BAR, _GAP = 24, 12


def feature_sheet(
    maps: FeatureMaps, names: Sequence[str], first: int, columns: int, mark: int | None
) -> NDArray[Any]:
    """Lay out the sheets of all layers and photos, and profiles if a channel is marked.

    Parameters
    ----------
    maps : FeatureMaps
    names : sequence of str
        What to call each photo.
    first, columns : int
        As for `FeatureMaps.sheet`.
    mark : int, optional
        A channel.

    Returns
    -------
    array of uint8
        ``(H, W, 3)``. A single sheet stands alone, pixel for pixel; several stand below each
        other, each under its title.
    """
    parts: list[tuple[str, NDArray[np.uint8]]] = []
    for layer in maps.layers:
        for image, name in enumerate(names):
            if maps.grid(layer).ndim == 4:
                sheet = to_uint8(maps.sheet(layer, image, first, columns))
                parts.append((_title(maps, layer, name if len(names) > 1 else "", first), sheet))
        if mark is not None or maps.grid(layer).ndim != 4:
            parts.append(("", _pixels(figure_png(maps.profile(layer).plot(mark)))))
    return parts[0][1] if len(parts) == 1 else _stacked(parts)


def _title(maps: FeatureMaps, layer: str, name: str, first: int) -> str:
    count = maps[layer].shape[-1]
    dead = len(maps.dead(layer))
    title = f"{layer}: {min(first, count)} of {count} channels"
    return title + (f", {dead} dead" if dead else "") + (f" ({Path(name).name})" if name else "")


def _stacked(parts: Sequence[tuple[str, NDArray[np.uint8]]]) -> NDArray[np.uint8]:
    bars = [_BAR if title else 0 for title, _ in parts]
    height = sum(len(part) + _GAP for _, part in parts) + sum(bars) - _GAP
    page = Image.new("RGB", (max(part.shape[1] for _, part in parts), height), "white")
    draw, top = ImageDraw.Draw(page), 0
    for (title, part), bar in zip(parts, bars, strict=True):
        draw.text((2, top + 4), title, fill="black", font=ImageFont.load_default(14))
        page.paste(Image.fromarray(part), (0, top + bar))
        top += bar + len(part) + _GAP
    return np.asarray(page)


def _pixels(png: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(png)) as picture:
        return np.asarray(picture.convert("RGB"))
