"""Why this prediction: which parts of a picture a score rests on."""

from __future__ import annotations

from cnnviz.attribution import quality
from cnnviz.attribution.card import Card
from cnnviz.attribution.costs import Cost, cost
from cnnviz.attribution.methods import METHODS, Method, attribute
from cnnviz.attribution.named import cam, grad_cam
from cnnviz.attribution.result import Attribution
from cnnviz.attribution.sheets import AttributionSheet, attribution_sheet
from cnnviz.attribution.targets import region, top

__all__ = [
    "METHODS",
    "Attribution",
    "AttributionSheet",
    "Card",
    "Cost",
    "Method",
    "attribute",
    "attribution_sheet",
    "cam",
    "cost",
    "grad_cam",
    "quality",
    "region",
    "top",
]
