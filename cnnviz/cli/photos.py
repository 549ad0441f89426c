"""What a network makes of photos: ``features``."""

from __future__ import annotations

from typing import Annotated

import typer

import cnnviz
from cnnviz import images as pictures
from cnnviz.cli.opening import PICTURES, check_images, check_out, open_network
from cnnviz.cli.options import (
    Device,
    Framework,
    Images,
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
from cnnviz.cli.printing import Table, show, show_json, show_lines
from cnnviz.cli.sheets import feature_sheet

__all__ = ["features"]

_CHANNELS_NAMED = 5


def features(
    model: Model,
    images: Images,
    layer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Of which layer; may be repeated. The last with maps by default."
        ),
    ] = None,
    out: Out = None,
    first: Annotated[
        int, typer.Option(min=1, metavar="CHANNELS", help="How many channels to draw.")
    ] = 64,
    columns: Annotated[int, typer.Option(min=1, metavar="MAPS", help="Maps in a row.")] = 8,
    mark: Annotated[
        int | None,
        typer.Option(metavar="CHANNEL", help="Say its rank, and draw the profile of all channels."),
    ] = None,
    size: Size = None,
    framework: Framework = None,
    weights: Weights = None,
    preprocessing: Preprocess = None,
    device: Device = None,
    output: Output = None,
    json: Json = False,
) -> None:
    """Show what layers respond to in photos; --out takes .png (sheets) or .npz (all numbers)."""
    check_out(out, (*PICTURES, ".npz"), images)
    height_width = parse_size(size)
    check_images(images)
    net = open_network(
        model, framework, weights, preprocessing, device, output=parse_output(output)
    )
    maps = cnnviz.feature_maps(net, images, layer or None, size=height_width)
    profiles = [maps.profile(name) for name in maps.layers]
    ranks = [None if mark is None else profile.rank(mark) for profile in profiles]
    if out is not None:
        if out.suffix.lower() == ".npz":
            maps.save(out)
        else:
            pictures.save(out, feature_sheet(maps, images, first, columns, mark))
    if json:
        found = [
            profile.to_json()
            | {
                "shape": list(maps[profile.layer].shape),
                "strongest": profile.strongest(),
                "dead": maps.dead(profile.layer),
                "mark": mark,
                "rank": rank,
            }
            for profile, rank in zip(profiles, ranks, strict=True)
        ]
        about = {"network": net.name, "framework": net.framework, "images": images}
        show_json(about | {"layers": found, "notes": list(maps.notes), "out": out})
        return
    rows = [
        (
            profile.layer,
            " x ".join(map(str, maps[profile.layer].shape)),
            f"{profile.values.mean():.4g}",
            " ".join(map(str, profile.strongest(_CHANNELS_NAMED))),
            str(len(maps.dead(profile.layer))),
        )
        for profile in profiles
    ]
    show(Table(("layer", "shape", "mean", "strongest channels", "dead"), rows, right=(2, 4)))
    marks = [
        f"{profile.layer} channel {mark}: mean {profile.values[mark]:.4g},"
        f" rank {rank} of {len(profile.values)}"
        for profile, rank in zip(profiles, ranks, strict=True)
        if rank is not None
    ]
    show_lines((*maps.notes, *marks), out)
