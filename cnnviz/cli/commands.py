"""The commands; each checks what it was given, opens the network, and tells what it found."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import cnnviz
from cnnviz import images as pictures
from cnnviz.ascent.objectives import as_objectives
from cnnviz.ascent.recipes import as_recipe
from cnnviz.cli.opening import PICTURES, check_images, check_out, check_out_folder, open_network
from cnnviz.cli.options import (
    Device,
    Framework,
    Images,
    Json,
    Model,
    Out,
    Preprocess,
    Size,
    Weights,
    parse_size,
    parse_targets,
)
from cnnviz.cli.printing import Table, show, show_json, show_lines
from cnnviz.cli.sheets import feature_sheet
from cnnviz.features import FeatureMaps

__all__ = ["app"]

app = typer.Typer(add_completion=False, context_settings={"help_option_names": ["-h", "--help"]})

_CHANNELS_NAMED = 5


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


@app.command()
def layers(
    model: Model,
    size: Size = None,
    framework: Framework = None,
    weights: Weights = None,
    preprocessing: Preprocess = None,
    device: Device = None,
    json: Json = False,
) -> None:
    """List the layers of a network: name, kind, output shape, parameters."""
    net = open_network(
        model,
        framework=framework,
        weights=weights,
        preprocessing=preprocessing,
        device=device,
        input_size=parse_size(size),
    )
    table = cnnviz.layers(net)
    show_json(table.to_json()) if json else show(table)


@app.command()
def features(
    model: Model,
    images: Images,
    layer: Annotated[
        list[str] | None,
        typer.Option(help="Of which layer; may be repeated. The last with maps by default."),
    ] = None,
    out: Out = None,
    first: Annotated[int, typer.Option(min=1, help="How many channels to draw.")] = 64,
    columns: Annotated[int, typer.Option(min=1, help="Maps in a row.")] = 8,
    mark: Annotated[
        int | None,
        typer.Option(metavar="CHANNEL", help="Say its rank, and draw the profile of all channels."),
    ] = None,
    size: Size = None,
    framework: Framework = None,
    weights: Weights = None,
    preprocessing: Preprocess = None,
    device: Device = None,
    json: Json = False,
) -> None:
    """Show what layers respond to in photos; --out takes .png (sheets) or .npz (all numbers)."""
    check_out(out, (*PICTURES, ".npz"))
    height_width = parse_size(size)
    check_images(images)
    net = open_network(
        model, framework=framework, weights=weights, preprocessing=preprocessing, device=device
    )
    maps = cnnviz.feature_maps(net, images, layer or None, size=height_width)
    found = [_response(maps, name, mark) for name in maps.layers]
    if out is not None:
        if out.suffix.lower() == ".npz":
            maps.save(out)
        else:
            sheet = feature_sheet(maps, images, first, columns, mark)
            pictures.save(out, sheet)
    if json:
        about = {"network": net.name, "framework": net.framework, "images": images}
        show_json(about | {"layers": found, "out": out})
        return
    rows = [
        (
            one["layer"],
            " x ".join(map(str, one["shape"])),
            f"{one['mean']:.4g}",
            " ".join(map(str, one["strongest"])),
            str(len(one["dead"])),
        )
        for one in found
    ]
    show(Table(("layer", "shape", "mean", "strongest channels", "dead"), rows, right=(2, 4)))
    marks = [
        f"{one['layer']} channel {mark}: mean {one['values'][mark]:.4g},"
        f" rank {one['rank']} of {len(one['values'])}"
        for one in found
        if mark is not None
    ]
    show_lines(marks, out)


def _response(maps: FeatureMaps, layer: str, mark: int | None) -> dict[str, Any]:
    profile = maps.profile(layer)
    return profile.to_json() | {
        "shape": list(maps[layer].shape),
        "mean": float(profile.values.mean()),
        "strongest": profile.strongest(_CHANNELS_NAMED),
        "dead": maps.dead(layer),
        **({} if mark is None else {"mark": mark, "rank": profile.rank(mark)}),
    }


@app.command()
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
    json: Json = False,
) -> None:
    """Describe every weight tensor; --out takes .json, .csv or .png (histograms)."""
    check_out(out, (".json", ".csv", ".png"))
    check_out(kernels, PICTURES)
    net = open_network(
        model, framework=framework, weights=weights, preprocessing=preprocessing, device=device
    )
    stats = cnnviz.weight_stats(net)
    if kernels is not None:
        pictures.save(kernels, stats.kernel_sheet())
    if out is not None:
        stats.save(out)
    if json:
        show_json(stats.to_json())
        return
    show(stats)
    show_lines((), kernels, out)


@app.command()
def cam(
    model: Model,
    images: Images,
    target: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CLASS",
            help="By index or name; once for all photos or once each. The predicted by default.",
        ),
    ] = None,
    layer: Annotated[
        str | None, typer.Option(help="Where; the last layer with maps by default.")
    ] = None,
    method: Annotated[str, typer.Option(metavar="grad_cam|cam")] = "grad_cam",
    out: Out = None,
    size: Size = None,
    framework: Framework = None,
    weights: Weights = None,
    preprocessing: Preprocess = None,
    device: Device = None,
    json: Json = False,
) -> None:
    """Show where a class was seen in photos; --out takes .png (overlays) or .npz (the maps)."""
    check_out(out, (*PICTURES, ".npz"))
    height_width = parse_size(size)
    check_images(images)
    net = open_network(
        model, framework=framework, weights=weights, preprocessing=preprocessing, device=device
    )
    found = cnnviz.attribute(net, images, method, parse_targets(target), layer, size=height_width)
    if out is not None:
        found.save(out)
    maps = [
        {"image": image, "target": index, "name": name, "score": float(score)}
        for image, index, name, score in zip(
            images, found.target, found.names, found.score, strict=True
        )
    ]
    if json:
        about = {"network": net.name, "framework": net.framework, "method": found.method}
        notes = list(found.notes)
        show_json(about | {"layer": found.layer, "maps": maps, "notes": notes, "out": out})
        return
    rows = [(one["image"], str(one["target"]), one["name"], f"{one['score']:.4g}") for one in maps]
    show(Table(("image", "class", "name", "score"), rows, right=(1, 3)))
    show_lines(found.notes, out)


@app.command()
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
    recipe: Annotated[str, typer.Option(metavar="default|octaves|cs231n")] = "default",
    size: Annotated[
        str | None,
        typer.Option(metavar="PIXELS", help="Side of the picture at the start, or HEIGHTxWIDTH."),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Steps in each octave.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the noise at the start.")] = 0,
    octaves: Annotated[int | None, typer.Option(help="How often to enlarge and go on.")] = None,
    octave_scale: Annotated[float | None, typer.Option(help="And by how much.")] = None,
    jitter: Annotated[int | None, typer.Option(help="Largest shift of a step, in pixels.")] = None,
    blur: Annotated[float | None, typer.Option(help="Sigma of the Gaussian, in pixels.")] = None,
    blur_every: Annotated[int | None, typer.Option(help="Steps between two blurs.")] = None,
    l2: Annotated[float | None, typer.Option(help="Weight of the squared length.")] = None,
    framework: Framework = None,
    weights: Weights = None,
    preprocessing: Preprocess = None,
    device: Device = None,
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
        model, framework=framework, weights=weights, preprocessing=preprocessing, device=device
    )
    if height_width is not None:
        net.settle(*height_width)
    found = cnnviz.ascend(net, wanted, chosen, height_width, seed)
    found.save(out)
    climbs = [
        {"objective": name, "start": float(trace[0]), "octaves": [float(v) for v in octave]}
        for name, trace, octave in zip(found.objective, found.trace.T, found.octaves.T, strict=True)
    ]
    if json:
        about = {"network": net.name, "framework": net.framework, "recipe": recipe, "seed": seed}
        shape = list(found.images.shape)
        notes = list(found.notes)
        show_json(about | {"shape": shape, "pictures": climbs, "notes": notes, "out": out})
        return
    rows = [
        (
            one["objective"],
            f"{one['start']:.4g}",
            " ".join(f"{value:.4g}" for value in one["octaves"]),
        )
        for one in climbs
    ]
    show(Table(("objective", "at the start", "at the end of each octave"), rows, right=(1,)))
    show_lines(found.notes, out)


@app.command()
def demo(
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="The folder to write.")
    ] = Path("cnnviz-demo"),
    quick: Annotated[bool, typer.Option("--quick", help="Fewer and smaller pictures.")] = False,
    json: Json = False,
) -> None:
    """Run one network in both frameworks on three photos, and write a page to look at."""
    check_out_folder(out)
    from cnnviz.report import demo as write_report

    page = write_report(out, quick=quick)
    show_json({"out": page}) if json else show_lines((), page)
