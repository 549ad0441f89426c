"""Pictures made by gradient ascent: objective x canvas x transforms x optimizer."""

from __future__ import annotations

from cnnviz.ascent import canvas, objectives, optimizers, penalties, projections, transforms
from cnnviz.ascent.canvas import fit_prior
from cnnviz.ascent.objectives import Objective, channel, class_logit
from cnnviz.ascent.recipes import RECIPES, Recipe
from cnnviz.ascent.rendering import ascend
from cnnviz.ascent.result import Ascent
from cnnviz.ascent.sheets import LayerSheet, ascend_layer

__all__ = [
    "RECIPES",
    "Ascent",
    "LayerSheet",
    "Objective",
    "Recipe",
    "ascend",
    "ascend_layer",
    "canvas",
    "channel",
    "class_logit",
    "fit_prior",
    "objectives",
    "optimizers",
    "penalties",
    "projections",
    "transforms",
]
