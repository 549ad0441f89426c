"""The differences of all layers as a table, and as a drawing over the depth of the network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from cnnviz.report.differences import LayerDifference, worst
from cnnviz.report.findings import Results
from cnnviz.report.formats import power_of_ten, scientific, times

__all__ = ["depths", "drawing"]

WIDTH, HEIGHT = 1000, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 12, 12, 34

_GROUPS = {
    "convolution": ("conv", "dense", "linear"),
    "batch norm": ("batchnorm",),
    "activation": ("relu",),
}


def depths(results: Results) -> list[dict[str, Any]]:
    """Give for each framework but the first the table and the drawing of its differences."""
    return [
        {
            "side": other.side.short,
            "plot": drawing(rows),
            "count": len(rows),
            "worst": worst(rows).name,
            "largest": scientific(worst(rows).relative),
            "rows": [
                {
                    "name": row.name,
                    "other": row.other,
                    "kind": row.kind,
                    "shape": times(row.shape),
                    "relative": scientific(row.relative),
                    "mean": scientific(row.mean),
                    # One less the cosine: the cosine itself would be 1.000000 in every row.
                    "angle": scientific(max(0.0, 1 - row.cosine)),
                }
                for row in rows
            ],
        }
        for other, rows in zip(results.others, results.layers, strict=True)
    ]


def drawing(rows: Sequence[LayerDifference]) -> dict[str, Any]:
    """Place the relative differences over the depth, on a logarithmic scale, for inline SVG.

    A layer without any difference is drawn on the lowest line.
    """
    above = [row.relative for row in rows if 0 < row.relative < math.inf]
    low = math.floor(math.log10(min(above))) if above else -8
    high = math.ceil(math.log10(max(above))) if above else -7
    high = max(high, low + 1)

    def across(i: int) -> float:
        return round(_LEFT + (WIDTH - _LEFT - _RIGHT) * (i + 0.5) / len(rows), 1)

    def down(value: float) -> float:
        power = math.log10(value) if 0 < value < math.inf else (high if value > 0 else low)
        return round(_TOP + (HEIGHT - _TOP - _BOTTOM) * (high - power) / (high - low), 1)

    points = [
        {
            "x": across(i),
            "y": down(row.relative),
            "group": group(row.kind),
            "title": f"{row.name}: {scientific(row.relative)}",
        }
        for i, row in enumerate(rows)
    ]
    return {
        "width": WIDTH,
        "height": HEIGHT,
        "left": _LEFT,
        "right": WIDTH - _RIGHT,
        "bottom": HEIGHT - _BOTTOM,
        "points": points,
        "ticks": [
            {"y": down(10.0**power), "text": power_of_ten(power)} for power in range(low, high + 1)
        ],
        "names": [
            {"x": across(i), "text": rows[i].name, "anchor": anchor}
            for i, anchor in ((0, "start"), (len(rows) // 2, "middle"), (len(rows) - 1, "end"))
        ],
        "groups": [name for name in (*_GROUPS, "other") if any(p["group"] == name for p in points)],
    }


def group(kind: str) -> str:
    """Sort a kind of layer into one of few that are drawn in a colour each."""
    lowered = kind.lower()
    # Batch norm first: none of its names holds another's.
    for name in ("batch norm", "activation", "convolution"):
        if any(word in lowered for word in _GROUPS[name]):
            return name
    return "other"
