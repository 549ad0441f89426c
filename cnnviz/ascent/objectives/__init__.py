"""What a picture is pushed towards; sums, differences and multiples make new objectives."""

from __future__ import annotations

from cnnviz.ascent.objectives.base import Objective, Term
from cnnviz.ascent.objectives.references import accentuation, caricature, inversion
from cnnviz.ascent.objectives.scoring import BatchScore, seed_of
from cnnviz.ascent.objectives.sets import alignment, diversity, interpolate
from cnnviz.ascent.objectives.texts import as_objectives, parse
from cnnviz.ascent.objectives.units import (
    attribute,
    channel,
    class_logit,
    class_odds,
    direction,
    layer,
    neuron,
    spatial,
)

__all__ = [
    "BatchScore",
    "Objective",
    "Term",
    "accentuation",
    "alignment",
    "as_objectives",
    "attribute",
    "caricature",
    "channel",
    "class_logit",
    "class_odds",
    "direction",
    "diversity",
    "interpolate",
    "inversion",
    "layer",
    "neuron",
    "parse",
    "seed_of",
    "spatial",
]
