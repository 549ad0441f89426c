"""A page of one comparison: its verdict, its figure, its table, in one file."""

from __future__ import annotations

import base64
import html
from typing import TYPE_CHECKING

from cnnviz.figures import figure_png
from cnnviz.tables import html_table

if TYPE_CHECKING:
    from cnnviz.comparison.result import Comparison

__all__ = ["page"]

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#111}
h1{font-size:1.4rem}.agree{color:#166534}.part{color:#b91c1c}img{max-width:100%}
table{border-collapse:collapse;font-size:13px;width:100%}td,th{padding:.15rem .5rem;text-align:left}
tr:nth-child(even){background:#f3f4f6}td:nth-child(n+4){font-variant-numeric:tabular-nums}
.fault{border-left:4px solid #b91c1c;padding:.3rem .8rem;background:#fef2f2;margin:.6rem 0}
"""


def page(found: Comparison) -> str:
    """Write a comparison as HTML that needs nothing beside it.

    Parameters
    ----------
    found : Comparison
    """
    one, two = (html.escape(name) for name in found.names)
    verdict = "agree" if found.agree else "part"
    told = "".join(f"<p>{html.escape(line)}</p>" for line in found.summary()[1:])
    for diagnosis in found.diagnoses:
        line = html.escape(f"diagnosis: {diagnosis}")
        told = told.replace(f"<p>{line}</p>", f'<p class="fault">{line}</p>')
    figure = ""
    if found.layers:
        data = base64.b64encode(figure_png(found.plot())).decode()
        figure = f'<img alt="differences over the depth" src="data:image/png;base64,{data}">'
    header, cells = found.cells()
    slopes = html_table(
        ("slope at", "in the other", "max diff", "cosine"),
        [(g.name, g.other, f"{g.relative:.1e}", f"{g.cosine:.6f}") for g in found.gradients],
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{one} and {two}</title>'
        f"<style>{_STYLE}</style><h1>{one} and {two}:"
        f' <span class="{verdict}">they {verdict}</span></h1>'
        f"{told}{figure}<h2>Layers</h2>{html_table(header, cells)}<h2>Slopes</h2>{slopes}"
        "</html>\n"
    )
