"""Why this prediction: ``cam`` and ``attribute``, for photos or for folders of them."""

from __future__ import annotations

import json as encoding
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

import cnnviz
from cnnviz import images as pictures
from cnnviz.attribution.card import Card
from cnnviz.attribution.drawing import require_alpha, require_interpolation, require_levels
from cnnviz.attribution.methods import check_options
from cnnviz.attribution.result import Attribution
from cnnviz.cli.folders import names_for, photos_of, readable, write_cards
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
    Images,
    Json,
    Model,
    Output,
    Preprocess,
    Size,
    Weights,
    parse_output,
    parse_size,
    parse_targets,
)
from cnnviz.cli.printing import Table, show, show_json, show_lines
from cnnviz.errors import InvalidImage, InvalidOption
from cnnviz.progress import tracked

__all__ = ["attribute", "cam"]

# Photos whose maps are held at once.
_AT_ONCE = 16
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


@dataclass(frozen=True)
class Drawing:
    """How overlays are drawn."""

    alpha: float | None = None
    interpolation: Any = "bilinear"
    signed: bool = False
    contour: Sequence[float] = ()

    def check(self) -> None:
        """Raise InvalidOption for what cannot be drawn, before any work is done."""
        require_interpolation(self.interpolation)
        if self.contour:
            require_levels(self.contour)
        if self.alpha is not None:
            require_alpha(self.alpha)

    def __call__(self, found: Attribution) -> Any:
        """Give the overlays, ``(N, H, W, 3)``."""
        if self.contour:
            return found.contour(self.contour, interpolation=self.interpolation)
        return found.overlay(alpha=self.alpha, interpolation=self.interpolation, signed=self.signed)


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
    json: Json = False,
) -> None:
    """Show where a class was seen in photos, or in folders of them."""
    net = _Opening(model, framework, weights, preprocessing, device, output)
    drawing = Drawing(alpha, interpolation, signed, contour or ())
    options = {"layer": layer, "score": score, "fuse": fuse, "size": parse_size(size)}
    _run(net, images, method, target, options, setting, out, drawing, json)


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
    json: Json = False,
) -> None:
    """Show which parts of photos a score rests on, by any method, for photos or folders."""
    net = _Opening(model, framework, weights, preprocessing, device, output)
    drawing = Drawing(alpha, interpolation, signed, contour or ())
    options = {"layer": layer, "score": score, "fuse": fuse, "size": parse_size(size)}
    _run(net, images, method, target, options, setting, out, drawing, json)


@dataclass(frozen=True)
class _Opening:
    """What a network is opened by, once all else was looked at."""

    model: str
    framework: str | None
    weights: str | None
    preprocessing: str | None
    device: str | None
    output: str | None

    def open(self) -> Any:
        return open_network(
            self.model,
            self.framework,
            self.weights,
            self.preprocessing,
            self.device,
            output=parse_output(self.output),
        )


def _run(
    opening: _Opening,
    given: list[str],
    method: str,
    target: list[str] | None,
    options: dict[str, Any],
    setting: list[str] | None,
    out: Path | None,
    drawing: Drawing,
    json: bool,
) -> None:
    settings = _settings(setting)
    check_options(method, settings)
    drawing.check()
    options |= settings
    layers = options.pop("layer")
    options["layer"] = layers[0] if layers and len(layers) == 1 else layers or None
    photos, from_folder = photos_of(given)
    targets = parse_targets(target)
    if isinstance(targets, list) and len(targets) != len(photos):
        raise InvalidOption(
            f"{len(targets)} targets for {len(photos)} pictures; give one for all, or one for each"
        )
    folder = out if out is not None and not out.suffix else None
    file = out if folder is None else None
    if folder is not None:
        check_out_folder(folder)
    check_out(file, (*PICTURES, ".npz"))
    names = photos if folder is None else names_for(photos, folder)
    check_images([photo for photo in photos if photo not in from_folder])
    if file is not None and len(photos) > 64:
        raise InvalidOption(f"{len(photos)} photos are too many for one file; name a folder")
    net = opening.open()
    cards: list[tuple[str, str, Card]] = []
    notes: dict[str, None] = {}
    broken: list[str] = []
    at_once = _AT_ONCE if file is None else len(photos)
    for some in _batches(len(photos), at_once, f"{method} of {len(photos)} photos"):
        read, refused = readable(net, photos, some, from_folder, options["size"])
        broken += refused
        if not read:
            continue
        rows = list(read)
        chosen = [targets[row] for row in rows] if isinstance(targets, list) else targets
        fine = [photos[row] for row in rows]
        found = cnnviz.attribute(net, list(read.values()), method, chosen, **options)
        notes |= dict.fromkeys(found.notes)
        written = [names[row] for row in rows]
        cards += zip(fine, written, found.cards, strict=True)
        if folder is not None:
            folder.mkdir(exist_ok=True)
            for name, picture in zip(written, drawing(found), strict=True):
                pictures.save(folder / name, picture)
        if file is not None:
            _write_one(file, found, drawing)
    if not cards:
        raise InvalidImage(f"none of {len(photos)} photos can be read")
    if folder is not None:
        write_cards(folder, cards)
    said = [*notes, *(f"passed over: {line}" for line in broken)]
    if json:
        maps = [{"image": photo, **card.to_json()} for photo, _, card in cards]
        first = cards[0][2]
        about = {"network": net.name, "framework": net.framework, "method": method}
        show_json({**about, "layer": first.layer, "maps": maps, "notes": said, "out": out})
        return
    lines = [
        (
            photo,
            "" if card.target is None else str(card.target),
            card.name,
            f"{card.score:.4g}",
            f"{card.negative:.0%}",
            " ".join(f"{key} {value:.3g}" for key, value in card.facts.items()),
        )
        for photo, _, card in cards
    ]
    head = ("image", "class", "name", cards[0][2].score_kind, "below zero", "")
    show(Table(head, lines, right=(1, 3, 4)))
    show_lines(said, out)


def _settings(given: list[str] | None) -> dict[str, Any]:
    """Read settings of a method: numbers, true and false, null, or text."""
    found: dict[str, Any] = {}
    for one in given or []:
        name, equals, text = one.partition("=")
        if not equals or not name.isidentifier():
            raise InvalidOption(f"--set takes NAME=VALUE, not {one!r}")
        try:
            found[name] = encoding.loads(text)
        except ValueError:
            found[name] = text
    return found


def _batches(count: int, size: int, what: str) -> Iterator[range]:
    starts = range(0, count, size)
    for start in tracked(starts, what, len(starts)):
        yield range(start, min(start + size, count))


def _write_one(out: Path, found: Attribution, drawing: Drawing) -> None:
    if out.suffix.lower() == ".npz":
        found.save(out)
        return
    overlays = drawing(found)
    pictures.save(out, overlays[0] if len(overlays) == 1 else pictures.grid(overlays))
