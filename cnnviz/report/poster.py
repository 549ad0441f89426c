"""The picture of the README: Grad-CAM and ascended pictures of every framework on one sheet.

``python -m cnnviz.report.poster docs/images/demo.webp`` makes it anew.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from cnnviz import images, photos
from cnnviz.figures import figure_png
from cnnviz.report.findings import FULL, Channel, Findings, Portrait, Results, examine
from cnnviz.report.formats import scientific
from cnnviz.report.networks import open_sides
from cnnviz.report.plates import signed_picture

__all__ = ["poster"]

_PHOTOS = ("chelsea", "coffee")
# So that there are as many pictures as above them.
_LEFT_OUT = Channel("block10_expand_act", 136)
_DPI = 130
_INK, _SOFT = "#1d2530", "#5b6675"


def poster(results: Results) -> NDArray[Any]:
    """Draw Grad-CAM of two photos and the pictures by gradient ascent, ``(H, W, 3)``, uint8."""
    columns = max(
        len(_PHOTOS) * (1 + len(results.findings) + len(results.others)),
        len(_shown(results.reference)),
    )
    heights = [2.1, 0.5 + 1.5 * len(results.findings)]
    figure = Figure(figsize=(1.5 * columns, sum(heights)), layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=heights)
    _cams(parts[0], results, columns)
    _ascents(parts[1], results, columns)
    with Image.open(io.BytesIO(figure_png(figure, _DPI))) as drawn:
        return np.asarray(drawn.convert("RGB"))


def main(arguments: Sequence[str]) -> int:
    """Run the networks and write the poster to the path given."""
    if len(arguments) != 1:
        print("python -m cnnviz.report.poster FILE.webp", file=sys.stderr)
        return 2
    sides, missing = open_sides()
    results = examine(
        sides, photos.paths(), FULL, missing=missing, step=lambda what: print(what, file=sys.stderr)
    )
    images.save(Path(arguments[0]), poster(results))
    return 0


def _cams(figure: Any, results: Results, columns: int) -> None:
    _heading(figure, "Where did it look?  Grad-CAM, and how far the two frameworks differ")
    panels = iter(figure.subplots(1, columns, squeeze=False).ravel())
    overlays = [findings.cam.overlay() for findings in results.findings]
    for photo in _PHOTOS:
        i = results.photos.index(photo)
        reference = results.reference.cam.raw[i].astype(np.float64)
        _show(next(panels), results.reference.cam.images[i], photo)
        for findings, heat in zip(results.findings, overlays, strict=True):
            _show(next(panels), heat[i], findings.side.short)
        for other in results.others:
            difference = (other.cam.raw[i] - reference) / np.abs(reference).max()
            reach = float(np.abs(difference).max())
            text = f"differ by {scientific(reach)}"
            _show(next(panels), signed_picture(difference, reach, 32), text)
    for axes in panels:
        axes.set_axis_off()


def _ascents(figure: Any, results: Results, columns: int) -> None:
    _heading(figure, "What is it looking for?  Channels and classes, ascended from the same noise")
    panels = figure.subplots(len(results.findings), columns, squeeze=False)
    for k, (row, findings) in enumerate(zip(panels, results.findings, strict=True)):
        shown = _shown(findings)
        for axes in row[len(shown) :]:
            axes.set_axis_off()
        for axes, portrait in zip(row, shown, strict=False):
            _show(axes, portrait.image, "" if k else _name(portrait))
        row[0].set_ylabel(findings.side.short, fontsize=9, color=_SOFT)


def _shown(findings: Findings) -> list[Portrait]:
    return [portrait for portrait in findings.portraits if portrait.target != _LEFT_OUT]


def _name(portrait: Portrait) -> str:
    target = portrait.target
    if isinstance(target, Channel):
        return f"{target.layer.partition('_')[0]}, channel {target.index}"
    return target.name


def _heading(figure: Any, text: str) -> None:
    figure.suptitle(text, fontsize=11, color=_INK, x=0.008, ha="left")


def _show(axes: Axes, picture: NDArray[Any], title: str) -> None:
    axes.imshow(np.clip(picture, 0, 1), interpolation="antialiased")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.set_title(title, fontsize=8.5, color=_SOFT, pad=3)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
