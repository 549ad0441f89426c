"""A page of one layer: each channel's patches, its numbers and its histogram, in one file."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cnnviz import images
from cnnviz.exemplars.statistics import EDGES

if TYPE_CHECKING:
    from cnnviz.exemplars.result import Exemplars, LayerExemplars

__all__ = ["layer_page"]

_STYLE = """
body{font:14px/1.45 system-ui,sans-serif;max-width:74rem;margin:2rem auto;padding:0 1rem;color:#111}
h1{font-size:1.4rem}section{display:grid;grid-template-columns:15rem 1fr;gap:1rem;padding:.6rem 0;
border-top:1px solid #d1d5db;align-items:start}h2{font-size:1rem;margin:0}
p{margin:.15rem 0;color:#444}
img{max-width:100%}svg{display:block;margin-top:.3rem}.odd{color:#b91c1c}
"""
_WIDTH, _HEIGHT = 220, 40
# The bin about zero.
_ZERO = len(EDGES) // 2 - 1
_PALE = ' fill="#b9c7d8"'


def layer_page(whole: Exemplars, layer: LayerExemplars, channels: Sequence[int], side: int) -> str:
    """Write a layer's channels as HTML that needs nothing beside it.

    Parameters
    ----------
    whole : Exemplars
    layer : LayerExemplars
    channels : sequence of int
    side : int
        Pixels of each patch.
    """
    odd = {one.channel: one for one in whole.report().findings if one.layer == layer.layer}
    pictures = layer.pictures
    sections = []
    for channel in channels:
        sheet = pictures.sheet([channel], side=side)
        words = _words(whole, layer, channel)
        if channel in odd:
            found = odd[channel]
            words.append(f'<span class="odd">{html.escape(found.kind)}</span>: {found.activations}')
        lines = "".join(f"<p>{line}</p>" for line in words)
        data = base64.b64encode(images.png_bytes(sheet)).decode()
        sections.append(
            f'<section id="channel-{channel}"><div><h2>channel {channel}</h2>{lines}'
            f"{_histogram(layer.statistics.histogram[channel])}</div>"
            f'<img alt="patches of channel {channel}" src="data:image/png;base64,{data}"></section>'
        )
    title = html.escape(f"{layer.layer} of {whole.network} ({whole.framework})")
    about = f"{whole.seen:,} images, {layer.channels} channels, best first"
    about += "; bars on a logarithmic axis, pale and cut about zero"
    if whole.broken:
        about += f"; {len(whole.broken)} images could not be read"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style><h1>{title}</h1><p>{about}</p>{''.join(sections)}</html>\n"
    )


def _words(whole: Exemplars, layer: LayerExemplars, channel: int) -> list[str]:
    statistics = layer.statistics
    values = layer.values[channel][np.isfinite(layer.values[channel])]
    best = f"best {values[0]:.4g}" + (f" to {values[-1]:.4g}" if len(values) > 1 else "")
    lines = [
        best if len(values) else "no image",
        f"mean {statistics.mean[channel]:.3g}, std {statistics.std[channel]:.3g}",
        f"{statistics.min[channel]:.3g} to {statistics.max[channel]:.3g},"
        f" zero at {statistics.zero_share[channel]:.0%}",
    ]
    labels = layer.labels()[channel]
    known = labels[labels >= 0]
    if whole.classes and len(known):
        counts = np.bincount(known, minlength=len(whole.classes))
        first = int(counts.argmax())
        lines.append(f"{counts[first]} of {len(known)} are {html.escape(whole.classes[first])}")
    return lines


def _histogram(counts: NDArray[np.int64]) -> str:
    """Draw shares as bars of equal width, a quarter of a power of two each.

    That about zero, which after a ReLU is most of all, is cut where the others end.
    """
    used = np.flatnonzero(counts)
    if not len(used):
        return ""
    first, last = int(used[0]), int(used[-1])
    top = np.delete(counts, _ZERO).max() or counts.max()
    tall = np.minimum(counts[first : last + 1] / top, 1) * _HEIGHT
    width = _WIDTH / len(tall)
    bars = "".join(
        f'<rect x="{i * width:.1f}" y="{_HEIGHT - h:.1f}" width="{width:.1f}" height="{h:.1f}"'
        f"{_PALE if first + i == _ZERO else ''}/>"
        for i, h in enumerate(tall)
    )
    low = "0" if first == _ZERO else _edge(EDGES[first])
    high = "0" if last == _ZERO else _edge(EDGES[last + 1])
    return (
        f'<svg width="{_WIDTH}" height="{_HEIGHT + 14}" fill="#3b5b7e" role="img"'
        f' aria-label="histogram">{bars}<g font-size="10"><text y="{_HEIGHT + 12}">{low}</text>'
        f'<text x="{_WIDTH}" y="{_HEIGHT + 12}" text-anchor="end">{high}</text></g></svg>'
    )


def _edge(value: Any) -> str:
    return f"{value:.3g}" if np.isfinite(value) else "beyond"
