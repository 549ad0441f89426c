"""Pictures out of noise: ``ascend``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

import cnnviz
from cnnviz.adapter import Adapter
from cnnviz.ascent.objectives import as_objectives
from cnnviz.ascent.recipes import as_recipe
from cnnviz.cli.opening import (
    PICTURES,
    check_images,
    check_out,
    check_out_folder,
    open_network,
)
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
from cnnviz.errors import InvalidOption
from cnnviz.images.animation import ANIMATED

__all__ = ["ascend"]

_PANEL = "In place of the recipe's own"


def ascend(
    model: Model,
    objectives: Annotated[
        list[str],
        typer.Argument(
            metavar="OBJECTIVE...",
            help="LAYER:CHANNEL, LAYER:CHANNEL@ROW,COLUMN, layer:LAYER, class:INDEX or class:NAME;"
            " a picture for each. Or LAYER:* or LAYER:0-63 alone, for a sheet of channels.",
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
    best_of: Annotated[
        int, typer.Option(min=1, metavar="NUMBER", help="Seeds to choose the best from.")
    ] = 1,
    start: Annotated[
        Path | None,
        typer.Option(metavar="PHOTO", help="To begin with, in place of noise.", show_default=False),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="For a sheet of channels: keep each picture there, and go on where it stopped.",
            show_default=False,
        ),
    ] = None,
    keep: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="STEPS",
            help="Keep a picture each so many steps, for a film.",
            rich_help_panel=_PANEL,
        ),
    ] = None,
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
    """Make pictures that a channel or a class answers to most.

    --out takes .png, .jpg or .webp, or .gif or .mp4 for a film of the pictures on the way.
    """
    sheet = parse_sheet(objectives)
    check_out(out, PICTURES if sheet else (*PICTURES, *ANIMATED), [start] if start else [])
    if folder is not None:
        if sheet is None:
            raise InvalidOption("--folder is for a sheet of channels: LAYER:* or LAYER:0-63")
        check_out_folder(folder)
    if sheet and (best_of > 1 or start is not None):
        raise InvalidOption("--best-of and --start are not for a sheet of channels")
    if start is not None:
        check_images([str(start)])
    height_width = parse_size(size)
    settings = {
        "steps": steps,
        "octaves": octaves,
        "octave_scale": octave_scale,
        "jitter": jitter,
        "blur": blur,
        "blur_every": blur_every,
        "l2": l2,
        "keep": keep,
    }
    chosen = as_recipe(recipe, {k: v for k, v in settings.items() if v is not None})
    if out.suffix.lower() in ANIMATED and not chosen.keep and chosen.octaves == 1:
        raise InvalidOption("a film has at least two pictures; keep some on the way: --keep 8")
    wanted = [] if sheet else as_objectives(objectives)
    net = open_network(
        model, framework, weights, preprocessing, device, output=parse_output(output)
    )
    if height_width is not None:
        # Before the usual 224 is tried on a network that tells no size.
        net.settle(*height_width)
    if sheet:
        _sheet(net, sheet, chosen, height_width, seed, folder, out, json)
        return
    found = cnnviz.ascend(net, wanted, chosen, height_width, seed, start=start, best_of=best_of)
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
                    {"objective": name, "start": begin, "octaves": octave, "clean": clean}
                    for (name, begin, octave), clean in zip(
                        climbs, found.clean.tolist(), strict=True
                    )
                ],
                "notes": list(found.notes),
                "out": out,
            }
        )
        return
    rows = [
        (name, f"{begin:.4g}", " ".join(f"{value:.4g}" for value in octave), f"{clean:.4g}")
        for (name, begin, octave), clean in zip(climbs, found.clean.tolist(), strict=True)
    ]
    head = ("objective", "at the start", "at the end of each octave", "of the picture itself")
    show(Table(head, rows, right=(1, 3)))
    show_lines(found.notes, out)


def parse_sheet(objectives: list[str]) -> tuple[str, range | None] | None:
    """Read ``LAYER:*`` or ``LAYER:0-63``; None if it is something else.

    Raises
    ------
    InvalidOption
        Others stand beside it.
    """
    found = [re.fullmatch(r"(.+):(?:\*|(\d+)-(\d+))", text) for text in objectives]
    first = next((one for one in found if one), None)
    if first is None:
        return None
    if len(found) > 1:
        raise InvalidOption("a sheet of channels is made alone; give one LAYER:* or LAYER:0-63")
    layer, low, high = first.groups()
    return layer, None if low is None else range(int(low), int(high) + 1)


def _sheet(
    net: Adapter[Any],
    asked: tuple[str, range | None],
    recipe: cnnviz.Recipe,
    size: tuple[int, int] | None,
    seed: int,
    folder: Path | None,
    out: Path,
    json: bool,
) -> None:
    found = cnnviz.ascend_layer(net, asked[0], asked[1], recipe, size, seed, folder=folder)
    found.save(out)
    values = found.clean.tolist()
    if json:
        show_json(
            {
                "network": net.name,
                "framework": net.framework,
                "layer": found.layer,
                "seed": seed,
                "shape": list(found.images.shape),
                "channels": list(found.channels),
                "clean": values,
                "notes": list(found.notes),
                "out": out,
            }
        )
        return
    rows = [(str(c), f"{v:.4g}") for c, v in zip(found.channels, values, strict=True)]
    show(Table((f"channel of {found.layer}", "of the picture itself"), rows, right=(0, 1)))
    show_lines(found.notes, out)
