"""Canvases that contradict themselves, their recipe or their network, refused in one line."""

from __future__ import annotations

import numpy as np
import pytest

import cnnviz
from cnnviz.ascent.canvas import (
    CPPNCanvas,
    FourierCanvas,
    GeneratorCanvas,
    LaplacianCanvas,
    MacoCanvas,
    PixelCanvas,
    SharedCanvas,
    TransparentCanvas,
    masked,
)
from cnnviz.ascent.projections import BilateralBlur, BoxBlur, GaussianBlur
from cnnviz.errors import InvalidOption, UnsupportedModel
from cnnviz.testing import OracleAdapter

GREY = np.full((8, 8, 3), 0.5)
REFUSED = {
    "shared-without-own": (lambda: SharedCanvas(), "own=FourierCanvas"),
    "shared-of-shared": (
        lambda: SharedCanvas(own=SharedCanvas(own=FourierCanvas())),
        "own=FourierCanvas",
    ),
    "shared-of-pixels": (lambda: SharedCanvas(own=PixelCanvas()), "own=FourierCanvas"),
    "shared-larger": (lambda: SharedCanvas(own=FourierCanvas(), factor=0), "factor 0"),
    "no-level": (lambda: LaplacianCanvas(levels=0), "at least one level"),
    "no-layer": (lambda: CPPNCanvas(layers=0), "at least one layer"),
    "unit": (lambda: PixelCanvas("inch"), "'normalised' or 'pixel'"),
    "finish": (lambda: PixelCanvas(finish="none"), "'clip' or 'standardise'"),
    "percentiles": (lambda: MacoCanvas(low=60, high=40), "60 to 40"),
    "see-through-twice": (lambda: TransparentCanvas(TransparentCanvas()), "two plain ones"),
    "see-through-pixels": (lambda: TransparentCanvas(PixelCanvas()), "FourierCanvas"),
    "see-through-mask": (
        lambda: TransparentCanvas(cover=masked(GREY, np.ones((8, 8)))),
        "FourierCanvas",
    ),
    "mask-of-nothing": (lambda: masked(GREY, np.zeros((8, 8))), "nothing free"),
    "mask-of-another-size": (lambda: masked(GREY, np.ones((8, 9))), r"\(8, 9\)"),
    "mask-beyond": (lambda: masked(GREY, np.full((8, 8), 2.0)), r"\[0, 1\]"),
    "mask-nan": (lambda: masked(GREY, np.full((8, 8), np.nan)), r"\[0, 1\]"),
    "mask-shared": (
        lambda: masked(GREY, np.ones((8, 8)), SharedCanvas(own=FourierCanvas())),
        "in part only",
    ),
    "mask-see-through": (
        lambda: masked(GREY, np.ones((8, 8)), TransparentCanvas()),
        "in part only",
    ),
    "generator-range": (lambda: GeneratorCanvas(abs, (3,), low=1, high=0), "above black"),
    "octaves-of-maco": (
        lambda: cnnviz.Recipe(canvas=MacoCanvas(), octaves=2),
        "octaves=1 or choose FourierCanvas",
    ),
    "bilateral-of-waves": (
        lambda: cnnviz.Recipe(canvas=FourierCanvas(), projections=(BilateralBlur(),)),
        "PixelCanvas or a GaussianBlur",
    ),
    "box-of-waves": (
        lambda: cnnviz.Recipe(canvas=FourierCanvas(), projections=(BoxBlur(),)),
        "PixelCanvas or a GaussianBlur",
    ),
    "blur-of-phases": (
        lambda: cnnviz.Recipe(canvas=MacoCanvas(), projections=(GaussianBlur(),)),
        "blur=0 or choose",
    ),
    "blur-of-masked-phases": (
        lambda: cnnviz.Recipe(
            canvas=masked(GREY, np.ones((8, 8)), MacoCanvas()), projections=(GaussianBlur(),)
        ),
        "blur=0 or choose",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_combined(name):
    make, text = REFUSED[name]
    with pytest.raises(InvalidOption, match=text) as caught:
        make()
    assert "\n" not in str(caught.value)


ASCENTS = {
    "generator-channels": (
        {"canvas": GeneratorCanvas(lambda code: code, (8, 8, 2))},
        InvalidOption,
        r"\(N, H, W, 3\)",
    ),
    "generator-rank": (
        {"canvas": GeneratorCanvas(lambda code: code, (8, 8))},
        InvalidOption,
        r"\(N, H, W, 3\)",
    ),
    "generator-of-nothing": ({"canvas": GeneratorCanvas(3, (8,))}, UnsupportedModel, "not a int"),
    "mask-channels": (
        {"canvas": masked(np.full((8, 8, 5), 0.5), np.ones((8, 8)))},
        InvalidOption,
        "5 channels, the network takes 3",
    ),
    "start-of-phases": (
        {"canvas": MacoCanvas(), "start": GREY},
        InvalidOption,
        "cannot begin with a picture",
    ),
    "reveal-of-pixels": ({"canvas": PixelCanvas(), "reveal": 0.5}, InvalidOption, "no waves"),
    "best-of-shared": (
        {"canvas": SharedCanvas(own=FourierCanvas()), "best_of": 2},
        InvalidOption,
        "best_of=1",
    ),
}


@pytest.mark.parametrize("name", ASCENTS)
def test_what_a_network_cannot_be_shown(name):
    options, error, text = ASCENTS[name]
    quick = {"recipe": cnnviz.Recipe(), "size": 8, "steps": 1}
    with pytest.raises(error, match=text) as caught:
        cnnviz.ascend(OracleAdapter(), "conv1:1", **(quick | options))
    assert "\n" not in str(caught.value)
