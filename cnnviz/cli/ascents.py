"""Pictures out of noise: ``ascend``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import cnnviz
from cnnviz.ascent.objectives import as_objectives
from cnnviz.ascent.recipes import as_recipe
from cnnviz.cli.opening import PICTURES, check_out, open_network
from cnnviz.cli.options import (
    Device,
    Framework,
    Json,
    Model,
    Output,
    Preprocess,
    Weights,
    parse_output,
    parse_size,
)
from cnnviz.cli.printing import Table, show, show_json, show_lines

__all__ = ["ascend"]

_PANEL = "In place of the recipe's own"


def ascend(
    model: Model,
    objectives: Annotated[
        list[str],
        typer.Argument(
            metavar="OBJECTIVE...",
            help="LAYER:CHANNEL, class:INDEX or class:NAME; a picture for each.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="FILE", help="Where to write.", show_default=False),
    ],
    recipe: Annotated[
        str, typer.Option(metavar="NAME", help=f"One of {', '.join(cnnviz.RECIPES)}.")
    ] = "default",
    seed: Annotated[int, typer.Option(min=0, metavar="NUMBER", help="Of the first noise.")] = 0,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="PIXELS",
            help="Side of the picture at the start, or HEIGHTxWIDTH.",
            rich_help_panel=_PANEL,
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(metavar="NUMBER", help="Steps in each octave.", rich_help_panel=_PANEL),
    ] = None,
    octaves: Annotated[
        int | None,
        typer.Option(
            metavar="NUMBER",
            help="How often to climb, each time enlarged.",
            rich_help_panel=_PANEL,
        ),
    ] = None,
    octave_scale: Annotated[
        float | None,
        typer.Option(metavar="FACTOR", help="By how much.", rich_help_panel=_PANEL),
    ] = None,
    jitter: Annotated[
        int | None,
        typer.Option(metavar="PIXELS", help="Largest shift before a step.", rich_help_panel=_PANEL),
    ] = None,
    blur: Annotated[
        float | None,
        typer.Option(metavar="PIXELS", help="Sigma of the Gaussian blur.", rich_help_panel=_PANEL),
    ] = None,
    blur_every: Annotated[
        int | None,
        typer.Option(metavar="STEPS", help="From blur to blur.", rich_help_panel=_PANEL),
    ] = None,
    l2: Annotated[
        float | None,
        typer.Option(
            metavar="WEIGHT", help="Of the picture's squared length.", rich_help_panel=_PANEL
        ),
    ] = None,
    framework: Framework = None,
    weights: Weights = None,
    preprocessing: Preprocess = None,
    device: Device = None,
    output: Output = None,
    json: Json = False,
) -> None:
    """Make pictures that a channel or a class answers to most; --out takes .png, .jpg or .webp."""
    check_out(out, PICTURES)
    height_width = parse_size(size)
    settings = {
        "steps": steps,
        "octaves": octaves,
        "octave_scale": octave_scale,
        "jitter": jitter,
        "blur": blur,
        "blur_every": blur_every,
        "l2": l2,
    }
    chosen = as_recipe(recipe, {k: v for k, v in settings.items() if v is not None})
    wanted = as_objectives(objectives)
    net = open_network(
        model, framework, weights, preprocessing, device, output=parse_output(output)
    )
    if height_width is not None:
        # Before the usual 224 is tried on a network that tells no size.
        net.settle(*height_width)
    found = cnnviz.ascend(net, wanted, chosen, height_width, seed)
    found.save(out)
    climbs = list(
        zip(found.objective, found.trace[0].tolist(), found.octaves.T.tolist(), strict=True)
    )
    if json:
        show_json(
            {
                "network": net.name,
                "framework": net.framework,
                "recipe": recipe,
                "seed": seed,
                "shape": list(found.images.shape),
                "pictures": [
                    {"objective": name, "start": start, "octaves": octave}
                    for name, start, octave in climbs
                ],
                "notes": list(found.notes),
                "out": out,
            }
        )
        return
    rows = [
        (name, f"{start:.4g}", " ".join(f"{value:.4g}" for value in octave))
        for name, start, octave in climbs
    ]
    show(Table(("objective", "at the start", "at the end of each octave"), rows, right=(1,)))
    show_lines(found.notes, out)
