"""All numbers of a report, for programs."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import numpy as np

import cnnviz
from cnnviz.comparison.tallies import relative_difference
from cnnviz.layers import layers
from cnnviz.report.findings import Findings, Results
from cnnviz.report.networks import how_to_get

__all__ = ["TOP", "as_json", "top_classes"]

TOP = 5


def as_json(results: Results) -> dict[str, Any]:
    """Gather the numbers, of what JSON knows; the manifest's list of files is not among them."""
    report: dict[str, Any] = {
        "kind": "cnnviz report",
        "schema": 1,
        "cnnviz": cnnviz.__version__,
        "photos": list(results.photos),
        "frameworks": {f.side.framework: _of_one(f, results.photos) for f in results.findings},
        "missing": {name: how_to_get([name]) for name in results.missing},
    }
    if results.others:
        report["reference"] = results.reference.side.framework
        report["differences"] = {
            other.side.framework: _between(results, k) for k, other in enumerate(results.others)
        }
    return report


def top_classes(findings: Findings, photo: int, count: int = TOP) -> list[int]:
    """Name the classes that a network holds most likely, the likeliest first."""
    order = np.argsort(-findings.logits[photo].astype(np.float64), kind="stable")
    return [int(c) for c in order[:count]]


def _of_one(findings: Findings, photos: tuple[str, ...]) -> dict[str, Any]:
    side, shares = findings.side, findings.probabilities
    names = side.net.labels
    return {
        "title": side.title,
        "versions": side.versions,
        "network": side.net.name,
        "device": side.net.device,
        "parameters": layers(side.net).total,
        "predictions": {
            photo: [
                {
                    "class": c,
                    "name": names[c] if names else None,
                    "logit": float(findings.logits[k, c]),
                    "probability": float(shares[k, c]),
                }
                for c in top_classes(findings, k)
            ]
            for k, photo in enumerate(photos)
        },
        "grad_cam": {
            "layer": findings.cam.layer,
            "target": dict(zip(photos, findings.cam.target, strict=True)),
            "raw": dict(zip(photos, findings.cam.raw.tolist(), strict=True)),
        },
        "profiles": {
            layer: findings.maps.profile(layer).values.tolist() for layer in findings.maps.layers
        },
        "ascent": [
            {
                "target": str(portrait.target.objective(side)),
                "scores": dict(portrait.scores),
            }
            for portrait in findings.portraits
        ],
        "weights": [
            {k: v for k, v in row.items() if k != "edges"} for row in findings.weights.to_json()
        ],
    }


def _between(results: Results, k: int) -> dict[str, Any]:
    one, two = results.reference, results.others[k]
    return {
        "logits": {
            photo: float(np.abs(two.logits[i] - one.logits[i]).max())
            for i, photo in enumerate(results.photos)
        },
        "grad_cam": {
            photo: relative_difference(one.cam.raw[i], two.cam.raw[i])
            for i, photo in enumerate(results.photos)
        },
        "feature_maps": {
            layer: relative_difference(one.maps[layer], two.maps[layer])
            for layer in one.maps.layers
        },
        "weights": asdict(results.weights[k]),
        "layers": [
            # JSON has no infinity: what a layer of zeros differs by is no part of it.
            asdict(row) | {"relative": row.relative if math.isfinite(row.relative) else None}
            for row in results.layers[k]
        ],
    }
