"""The commands, put together."""

from __future__ import annotations

from typing import Annotated

import typer

import cnnviz
from cnnviz.cli.ascents import ascend
from cnnviz.cli.attributions import attribute, cam
from cnnviz.cli.comparisons import compare, port
from cnnviz.cli.networks import layers, weights
from cnnviz.cli.photos import features
from cnnviz.cli.reports import demo
from cnnviz.cli.scans import exemplars, extract

__all__ = ["app"]

app = typer.Typer(add_completion=False, context_settings={"help_option_names": ["-h", "--help"]})


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"cnnviz {cnnviz.__version__}")
        raise typer.Exit


@app.callback()
def about(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Say the version."),
    ] = False,
) -> None:
    """See what a convolutional network has learned, the same way in PyTorch and in Keras."""


for command in (
    layers,
    features,
    weights,
    cam,
    attribute,
    ascend,
    exemplars,
    extract,
    compare,
    port,
    demo,
):
    app.command()(command)
