"""The page that shows a network in both frameworks: ``demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cnnviz.cli.opening import check_out_folder
from cnnviz.cli.options import Json
from cnnviz.cli.printing import show_json, show_lines

__all__ = ["demo"]


def demo(
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FOLDER", help="Where to write.")
    ] = Path("cnnviz-demo"),
    quick: Annotated[bool, typer.Option("--quick", help="Fewer and smaller pictures.")] = False,
    json: Json = False,
) -> None:
    """Run one network in both frameworks on three photos, and write a page to look at."""
    check_out_folder(out)
    # It draws with jinja2 and matplotlib, which the other commands can do without.
    from cnnviz.report import demo as write_report

    page = write_report(out, quick=quick)
    if json:
        show_json({"out": page})
    else:
        show_lines((), page)
