"""How far an explanation can be trusted: measures that need no eye."""

from __future__ import annotations

from cnnviz.attribution.quality.explanation import CHECKS, explain
from cnnviz.attribution.quality.imputation import imputed
from cnnviz.attribution.quality.likeness import spearman, ssim
from cnnviz.attribution.quality.localisation import (
    centre_box,
    energy_pointing,
    pointing_game,
    random_map,
)
from cnnviz.attribution.quality.mosaic import (
    GridPointing,
    Mosaics,
    grid_pointing,
    grid_shares,
    mosaics,
)
from cnnviz.attribution.quality.randomisation import (
    Randomisation,
    randomisation,
    redrawn,
    weight_groups,
)
from cnnviz.attribution.quality.removal import (
    Curve,
    Drop,
    Road,
    average_drop_increase,
    deletion,
    insertion,
    road,
)
from cnnviz.attribution.quality.robustness import (
    Infidelity,
    completeness,
    infidelity,
    sensitivity,
)

__all__ = [
    "CHECKS",
    "Curve",
    "Drop",
    "GridPointing",
    "Infidelity",
    "Mosaics",
    "Randomisation",
    "Road",
    "average_drop_increase",
    "centre_box",
    "completeness",
    "deletion",
    "energy_pointing",
    "explain",
    "grid_pointing",
    "grid_shares",
    "imputed",
    "infidelity",
    "insertion",
    "mosaics",
    "pointing_game",
    "random_map",
    "randomisation",
    "redrawn",
    "road",
    "sensitivity",
    "spearman",
    "ssim",
    "weight_groups",
]
