"""What a network is made of: ``layers`` and ``weights``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import cnnviz
from cnnviz import images
from cnnviz.cli.opening import PICTURES, check_out, open_network
from cnnviz.cli.options import (
    Device,
    Framework,
    Json,
    Model,
    Out,
    Output,
    Preprocess,
    Size,
    Weights,
    parse_output,
    parse_size,
)
from cnnviz.cli.printing import show, show_json, show_lines

__all__ = ["layers", "weights"]


def layers(
    model: Model,
    size: Size = None,
    framework: Framework = None,
    weights: Weights = None,
    preprocessing: Preprocess = None,
    device: Device = None,
    output: Output = None,
    json: Json = False,
) -> None:
    """List the layers of a network: name, kind, output shape, parameters, receptive field."""
    height_width = parse_size(size)
    net = open_network(
        model, framework, weights, preprocessing, device, height_width, parse_output(output)
    )
    table = cnnviz.layers(net)
    if json:
        show_json(table.to_json())
    else:
        show(table)


def weights(
    model: Model,
    out: Out = None,
    kernels: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw the kernels of the first layer as colour tiles."),
    ] = None,
    framework: Framework = None,
    weights: Weights = None,
    preprocessing: Preprocess = None,
    device: Device = None,
    output: Output = None,
    json: Json = False,
) -> None:
    """Describe every weight tensor; --out takes .json, .csv or .png (histograms)."""
    check_out(out, (".json", ".csv", ".png"))
    check_out(kernels, PICTURES)
    net = open_network(
        model, framework, weights, preprocessing, device, output=parse_output(output)
    )
    stats = cnnviz.weight_stats(net)
    if kernels is not None:
        images.save(kernels, stats.kernel_sheet())
    if out is not None:
        stats.save(out)
    if json:
        show_json(stats.to_json())
    else:
        show(stats)
        show_lines((), kernels, out)
