"""Why this prediction: which parts of a picture a class score rests on."""

from __future__ import annotations

from cnnviz.attribution.cam import attribute, cam, grad_cam
from cnnviz.attribution.result import Attribution

__all__ = ["Attribution", "attribute", "cam", "grad_cam"]
