"""The page: everything that was found, in HTML that opens from disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from cnnviz.files import write_text
from cnnviz.report import sections, summary
from cnnviz.report.depth import depths
from cnnviz.report.findings import Results
from cnnviz.report.plates import Album

__all__ = ["PAGE", "render", "write_page"]

PAGE = "index.html"


def write_page(results: Results, folder: Path) -> Path:
    """Write the page and its pictures into a folder that is there and empty."""
    album = Album(folder)
    context = {
        "sides": [{"title": f.side.title, "short": f.side.short} for f in results.findings],
        "verdict": summary.verdict(results),
        "facts": summary.facts(results),
        "missing": summary.missing(results),
        "predictions": sections.predictions(results, album),
        "grad_cams": sections.grad_cams(results, album),
        "cam_layer": results.reference.cam.layer,
        "features": sections.feature_sheets(results, album),
        "profile": sections.profiles(results, album),
        "weights": sections.weights(results, album),
        "portraits": sections.portraits(results, album),
        "maps_photo": results.plan.maps_photo,
        "steps": results.steps,
        "judged": sections.judged_apart(results),
        "depths": depths(results),
    }
    return write_text(folder / PAGE, render(context))


def render(context: dict[str, Any]) -> str:
    """Fill the template; every text is escaped, and one that is missing raises."""
    environment = Environment(
        loader=PackageLoader("cnnviz.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2").render(context)
