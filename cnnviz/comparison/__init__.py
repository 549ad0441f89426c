"""Two networks side by side: compared layer by layer, diagnosed, ported, and how alike they are."""

from __future__ import annotations

from cnnviz.comparison.certificates import Certificate
from cnnviz.comparison.comparing import compare
from cnnviz.comparison.doctor import Diagnosis
from cnnviz.comparison.kernels import linear_cka
from cnnviz.comparison.pictures import SideBySide, side_by_side
from cnnviz.comparison.porting import port_weights
from cnnviz.comparison.result import Comparison
from cnnviz.comparison.similarity import Similarity, similarity

__all__ = [
    "Certificate",
    "Comparison",
    "Diagnosis",
    "SideBySide",
    "Similarity",
    "compare",
    "linear_cka",
    "port_weights",
    "side_by_side",
    "similarity",
]
