"""Why this prediction: ``cam`` and ``attribute``, for photos or for folders of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import cnnviz
from cnnviz.cli.maps import Drawing, Opening, run_maps
from cnnviz.cli.options import (
    Device,
    Framework,
    Images,
    Json,
    Model,
    Output,
    Preprocess,
    Size,
    Weights,
    parse_size,
)

__all__ = ["attribute", "cam"]

_DRAWING = "The picture"

Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        metavar="PATH",
        help="A .png of all overlays, .npz with the numbers, or a folder: a picture for each"
        " photo, and cards.csv and cards.json.",
        show_default=False,
    ),
]
Targets = Annotated[
    list[str] | None,
    typer.Option(
        "--target",
        metavar="CLASS",
        help="By index or name; once for all photos or once each. The predicted by default.",
    ),
]
Layers = Annotated[
    list[str] | None,
    typer.Option(
        "--layer",
        metavar="NAME",
        help="Where; repeated ones are fused. The last layer with maps by default.",
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", help="A setting of the method, such as samples=100."
    ),
]
Score = Annotated[
    str | None,
    typer.Option(metavar="KIND", help="logit or probability; the method's own by default."),
]
Fuse = Annotated[
    str | None,
    typer.Option(metavar="HOW", help="mean, max, product or tanh, of several layers."),
]
Alpha = Annotated[
    float | None,
    typer.Option(metavar="SHARE", help="Share of the heat.", rich_help_panel=_DRAWING),
]
Interpolated = Annotated[
    str,
    typer.Option(metavar="HOW", help="bilinear, bicubic or nearest.", rich_help_panel=_DRAWING),
]
Signed = Annotated[
    bool,
    typer.Option("--signed", help="Draw what speaks against it as well.", rich_help_panel=_DRAWING),
]
Contour = Annotated[
    list[float] | None,
    typer.Option(
        metavar="LEVEL",
        help="Draw outlines at a share of the maximum in place of heat; may be repeated.",
        rich_help_panel=_DRAWING,
    ),
]


DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Only tell what it takes: forwards, backwards and memory."),
]


def cam(
    model: Model,
    images: Images,
    target: Targets = None,
    layer: Layers = None,
    method: Annotated[
        str, typer.Option(metavar="METHOD", help="grad_cam, layer_cam, ...; see attribute.")
    ] = "grad_cam",
    out: Out = None,
    setting: Settings = None,
    score: Score = None,
    fuse: Fuse = None,
    alpha: Alpha = None,
    interpolation: Interpolated = "bilinear",
    signed: Signed = False,
    contour: Contour = None,
    size: Size = None,
    framework: Framework = None,
    weights: Weights = None,
    preprocessing: Preprocess = None,
    device: Device = None,
    output: Output = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Show where a class was seen in photos, or in folders of them."""
    net = Opening(model, framework, weights, preprocessing, device, output)
    drawing = Drawing(alpha, interpolation, signed, contour or ())
    options = {"layer": layer, "score": score, "fuse": fuse, "size": parse_size(size)}
    run_maps(net, images, method, target, options, setting, out, drawing, dry_run, json)


def attribute(
    model: Model,
    images: Images,
    method: Annotated[
        str,
        typer.Option(metavar="METHOD", help=f"One of {', '.join(cnnviz.METHODS)}."),
    ] = "integrated_gradients",
    target: Targets = None,
    layer: Layers = None,
    out: Out = None,
    setting: Settings = None,
    score: Score = None,
    fuse: Fuse = None,
    alpha: Alpha = None,
    interpolation: Interpolated = "bilinear",
    signed: Signed = False,
    contour: Contour = None,
    size: Size = None,
    framework: Framework = None,
    weights: Weights = None,
    preprocessing: Preprocess = None,
    device: Device = None,
    output: Output = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Show which parts of photos a score rests on, by any method, for photos or folders."""
    net = Opening(model, framework, weights, preprocessing, device, output)
    drawing = Drawing(alpha, interpolation, signed, contour or ())
    options = {"layer": layer, "score": score, "fuse": fuse, "size": parse_size(size)}
    run_maps(net, images, method, target, options, setting, out, drawing, dry_run, json)
