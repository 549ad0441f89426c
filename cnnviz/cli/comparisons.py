"""Two networks side by side: ``compare`` and ``port``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import cnnviz
from cnnviz.adapter import Adapter
from cnnviz.cli.bringing import torch_first
from cnnviz.cli.folders import photos_of
from cnnviz.cli.opening import check_images, check_out, open_model, open_network
from cnnviz.cli.options import Images, Json, Preprocess, Size, Weights, parse_size
from cnnviz.cli.printing import show, show_json, show_lines
from cnnviz.comparison.comparing import opened, require_limits
from cnnviz.errors import InvalidOption
from cnnviz.preprocessing import Preprocessing

__all__ = ["compare", "port"]

Second = Annotated[
    str | None, typer.Option(metavar="NAME", help="Of the second network, if it is another.")
]
SecondWeights = Annotated[
    str | None, typer.Option(metavar="FILE", help="Of the second network: a file, or none.")
]
Pairs = Annotated[
    list[str] | None,
    typer.Option(
        "--layer",
        metavar="A=B",
        help="A layer of the first and its counterpart in the second; may be repeated.",
    ),
]


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="The reference; see layers --help.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The other network.")],
    images: Images,
    tolerance: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="Up to which max|difference| / max|reference| is rounding; 1e-4 in float32.",
        ),
    ] = None,
    layer_images: Annotated[
        int, typer.Option(metavar="N", help="Images that are compared layer by layer.")
    ] = 4,
    layer: Pairs = None,
    out: Annotated[
        list[Path] | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="A .html page, the .png figure over depth, or .json; may be repeated.",
        ),
    ] = None,
    pictures: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A .png of both side by side, as --show says."),
    ] = None,
    show_: Annotated[
        str,
        typer.Option(
            "--show", metavar="WHAT", help="grad_cam or another method, or weights; see --pictures."
        ),
    ] = "grad_cam",
    size: Size = None,
    weights: Weights = None,
    weights_b: SecondWeights = None,
    preprocessing: Preprocess = None,
    preprocessing_b: Second = None,
    json: Json = False,
) -> None:
    """Say whether two networks do the same, and the layer where they part. Status 1 if they part.

    Networks are demo:torch, demo:keras, torchvision:NAME, timm:NAME, keras:NAME, a file, or
    module.py:function.
    """
    given = _pairs(layer)
    require_limits(tolerance, layer_images)
    side = parse_size(size)
    photos, _ = photos_of(images)
    for file in out or []:
        check_out(file, (".html", ".png", ".json"), photos)
    check_out(pictures, (".png",), photos)
    known = ("weights", "feature_maps", "ascent", *cnnviz.METHODS)
    if show_ not in known or show_ in ("feature_maps", "ascent"):
        raise InvalidOption(f"--show is weights, or a method of attribution, not {show_!r}")
    check_images(photos)
    one, two = _opened((a, weights, preprocessing), (b, weights_b or weights, preprocessing_b))
    found = cnnviz.compare(
        one,
        two,
        photos,
        layers=given,
        tolerance=tolerance,
        layer_images=layer_images,
        size=side,
    )
    for file in out or []:
        found.save(file)
    if pictures is not None:
        some = None if show_ == "weights" else photos[:4]
        cnnviz.side_by_side(one, two, some, show_, layers=given, size=side).save(pictures)
    if json:
        show_json(found.to_json())
    else:
        show(found)
        show_lines([], *(out or []), pictures)
    if not found.agree:
        raise typer.Exit(1)


def port(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="Whose weights are taken.")],
    target: Annotated[str, typer.Argument(metavar="TARGET", help="The network that gets them.")],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="Where the target is written: .keras or .weights.h5, or .pt (its state_dict).",
        ),
    ],
    certificate: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A .json of the proof: differences of every layer."),
    ] = None,
    layer: Pairs = None,
    weights: Weights = None,
    preprocessing: Preprocess = None,
    json: Json = False,
) -> None:
    """Carry the weights of a network over to another framework, and prove that they do the same.

    TARGET is made with random weights: module.py:function, torchvision:NAME or keras:NAME.
    """
    given = _pairs(layer)
    check_out(certificate, (".json",))
    check_out(out, (".keras", ".h5", ".pt", ".pth"), [source, target])
    scheme = target.partition(":")[0]
    fresh = "none" if scheme in ("torchvision", "timm", "keras") else None
    one, two = _opened(
        (source, weights, preprocessing), (target, fresh, preprocessing), Preprocessing()
    )
    two.require_savable(out)
    found = cnnviz.port_weights(one, two, layers=given)
    two.save(out)
    if certificate is not None:
        found.save(certificate)
    if json:
        show_json(found.to_json())
    else:
        show_lines([str(found)], out, certificate)


def _opened(
    first: tuple[Any, ...], second: tuple[Any, ...], spare: Preprocessing | None = None
) -> tuple[Adapter[Any], Adapter[Any]]:
    torch_first((first[0], second[0]))
    models = []
    for spec, weights, preprocessing in (first, (*second[:2], second[2] or first[2])):
        path, _, function = spec.partition(":")
        by_hand = path.endswith(".py") and bool(function)
        if by_hand and preprocessing is None:
            models.append(open_model(spec))
            continue
        brings = by_hand or path == "demo"
        net = open_network(spec, None, None if brings else weights, preprocessing, None)
        # A bare model gets what is known of the other's pictures.
        models.append(net if net.preprocessing is not None else net.model)
    return opened(models[0], models[1], spare)


def _pairs(given: list[str] | None) -> dict[str, str] | None:
    found = {}
    for one in given or []:
        ours, equals, theirs = one.partition("=")
        if not (ours and equals and theirs):
            raise InvalidOption(f"--layer takes A=B, a layer of each network, not {one!r}")
        found[ours] = theirs
    return found or None
