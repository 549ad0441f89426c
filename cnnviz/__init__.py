"""See what a convolutional network has learned, the same way in PyTorch and in Keras."""

from __future__ import annotations

from cnnviz import photos
from cnnviz.adapter import INPUT, LOGITS, OUTPUT, Adapter, Evaluation, Layer
from cnnviz.ascent import (
    RECIPES,
    Ascent,
    LayerSheet,
    Recipe,
    ascend,
    ascend_layer,
    canvas,
    fit_prior,
    objectives,
    optimizers,
    penalties,
    projections,
    transforms,
)
from cnnviz.attribution import (
    METHODS,
    Attribution,
    AttributionSheet,
    attribute,
    attribution_sheet,
    cam,
    cost,
    grad_cam,
    region,
    top,
)
from cnnviz.comparison import (
    Certificate,
    Comparison,
    Diagnosis,
    SideBySide,
    Similarity,
    compare,
    linear_cka,
    port_weights,
    side_by_side,
    similarity,
)
from cnnviz.discovery import adapt, load
from cnnviz.errors import CnnvizError
from cnnviz.exemplars import Exemplars, find_exemplars
from cnnviz.extraction import Extraction, extract
from cnnviz.features import FeatureMaps, feature_maps
from cnnviz.layers import LayerTable, layers
from cnnviz.measured_fields import measured_window
from cnnviz.preprocessing import Preprocessing
from cnnviz.weights import WeightStats, weight_stats

__version__ = "0.1.0"

__all__ = [
    "INPUT",
    "LOGITS",
    "METHODS",
    "OUTPUT",
    "RECIPES",
    "Adapter",
    "Ascent",
    "Attribution",
    "AttributionSheet",
    "Certificate",
    "CnnvizError",
    "Comparison",
    "Diagnosis",
    "Evaluation",
    "Exemplars",
    "Extraction",
    "FeatureMaps",
    "Layer",
    "LayerSheet",
    "LayerTable",
    "Preprocessing",
    "Recipe",
    "SideBySide",
    "Similarity",
    "WeightStats",
    "adapt",
    "ascend",
    "ascend_layer",
    "attribute",
    "attribution_sheet",
    "cam",
    "canvas",
    "compare",
    "cost",
    "extract",
    "feature_maps",
    "find_exemplars",
    "fit_prior",
    "grad_cam",
    "layers",
    "linear_cka",
    "load",
    "measured_window",
    "objectives",
    "optimizers",
    "penalties",
    "photos",
    "port_weights",
    "projections",
    "region",
    "side_by_side",
    "similarity",
    "top",
    "transforms",
    "weight_stats",
]
