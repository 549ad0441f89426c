"""The maps of photos or of folders of them: what they cost, their pictures, and their cards."""

from __future__ import annotations

import json as encoding
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import cnnviz
from cnnviz import images as pictures
from cnnviz.attribution.card import Card
from cnnviz.attribution.costs import Cost, cost
from cnnviz.attribution.drawing import require_alpha, require_interpolation, require_levels
from cnnviz.attribution.methods import check_fuse, check_options
from cnnviz.attribution.result import Attribution
from cnnviz.attribution.targets import numbers_differ
from cnnviz.cli.folders import names_for, openable, photos_of, readable, write_cards
from cnnviz.cli.opening import (
    PICTURES,
    check_images,
    check_out,
    check_out_folder,
    open_network,
)
from cnnviz.cli.options import parse_output, parse_targets
from cnnviz.cli.printing import Table, show, show_json, show_lines
from cnnviz.errors import InvalidImage, InvalidOption
from cnnviz.progress import tracked

__all__ = ["Drawing", "Opening", "budget", "run_maps"]

# Photos whose maps are held at once.
_AT_ONCE = 16


@dataclass(frozen=True)
class Drawing:
    """How overlays are drawn."""

    alpha: float | None = None
    interpolation: Any = "bilinear"
    signed: bool = False
    contour: Sequence[float] = ()

    def check(self) -> None:
        """Raise InvalidOption for what cannot be drawn, before any work is done."""
        if self.contour and (self.signed or self.alpha is not None):
            ignored = "signed" if self.signed else "alpha"
            raise InvalidOption(f"--contour draws outlines in place of heat; omit --{ignored}")
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


@dataclass(frozen=True)
class Opening:
    """What a network is opened by, once all else was looked at."""

    model: str
    framework: str | None
    weights: str | None
    preprocessing: str | None
    device: str | None
    output: str | None

    def open(self) -> Any:
        """Load the network."""
        return open_network(
            self.model,
            self.framework,
            self.weights,
            self.preprocessing,
            self.device,
            output=parse_output(self.output),
        )


def run_maps(
    opening: Opening,
    given: list[str],
    method: str,
    target: list[str] | None,
    options: dict[str, Any],
    setting: list[str] | None,
    out: Path | None,
    drawing: Drawing,
    dry_run: bool,
    json: bool,
) -> None:
    """Tell the cost, make the maps a few photos at a time, write and tell them."""
    settings = _settings(setting)
    check_options(method, settings)
    check_fuse(method, options["fuse"])
    drawing.check()
    options |= settings
    layers = options.pop("layer")
    options["layer"] = layers[0] if layers and len(layers) == 1 else layers or None
    photos, from_folder = photos_of(given)
    targets = parse_targets(target)
    if isinstance(targets, list) and len(targets) != len(photos):
        raise InvalidOption(numbers_differ(targets, len(photos), hint=False))
    folder = out if out is not None and not out.suffix else None
    file = out if folder is None else None
    if folder is not None:
        check_out_folder(folder)
    check_out(file, (*PICTURES, ".npz"), photos)
    names = photos if folder is None else names_for(photos, folder)
    check_images([photo for photo in photos if photo not in from_folder])
    if file is not None and len(photos) > 64:
        raise InvalidOption(f"{len(photos)} photos are too many for one file; name a folder")
    net = opening.open()
    at_once = _AT_ONCE if file is None else len(photos)
    what = f"{method} of {len(photos)} photo{'s' * (len(photos) != 1)}"
    told = _budget(net, photos, from_folder, at_once, method, targets, options)
    if dry_run:
        if json:
            show_json(
                {"network": net.name, "method": method, "photos": len(photos)} | told.to_json()
            )
        else:
            show_lines([f"{what} takes {told}"])
        return
    # A program that reads stderr finds one line there if the run fails, so it is told afterwards.
    watched = sys.stderr.isatty()
    if watched:
        print(f"{what} takes {told}", file=sys.stderr)
    cards: list[tuple[str, str, Card]] = []
    notes: dict[str, None] = {}
    broken: list[str] = []
    for some in _batches(len(photos), at_once, what):
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
    if not watched:
        print(f"{what} takes {told}", file=sys.stderr)
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
            "" if card.fuse else f"{card.negative:.0%}",
            " ".join(f"{key} {value:.3g}" for key, value in card.facts.items()),
        )
        for photo, _, card in cards
    ]
    head = ("image", "class", "name", cards[0][2].score_kind, "below zero", "")
    show(Table(head, lines, right=(1, 3, 4)))
    show_lines(said, out)


def _budget(
    net: Any,
    photos: list[str],
    from_folder: set[str],
    at_once: int,
    method: str,
    target: Any,
    options: dict[str, Any],
) -> Cost:
    """Say what the run takes if every photo can be read, by the first of them that can."""
    for row in range(len(photos)):
        read, _ = readable(net, photos, range(row, row + 1), from_folder, options["size"])
        if read:
            full, rest = divmod(len(photos), at_once)
            batches = [at_once] * full + [rest] * (rest > 0)
            told = budget(net, read[row], batches, method, target, options)
            # What is no picture is passed over, and takes nothing.
            fewer = row > 0 or not all(map(openable, from_folder))
            return replace(told, at_most=True) if fewer else told
    raise InvalidImage(f"none of {len(photos)} photos can be read")


def _settings(given: list[str] | None) -> dict[str, Any]:
    """Read settings of a method: numbers, true and false, null, or text."""
    found: dict[str, Any] = {}
    for one in given or []:
        name, equals, text = one.partition("=")
        if not equals or not name.isidentifier():
            raise InvalidOption(f"--set takes NAME=VALUE, not {one!r}")
        if name in found:
            raise InvalidOption(f"--set {name} is given twice; give it once")
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


def budget(
    net: Any,
    photo: Any,
    batches: list[int],
    method: str,
    target: Any,
    options: Mapping[str, Any],
) -> Cost:
    """Add up what batches of so many photos cost; nothing is run.

    Parameters
    ----------
    net : Adapter
    photo : array
        One of them, ``(H, W, C)``, as the network takes it; the others have its size.
    batches : list of int
        How many photos each has.
    method, target, options
        As for `cnnviz.attribute`; targets one a photo count as one.
    """
    told: dict[int, Cost] = {}
    for count in set(batches):
        some = np.broadcast_to(photo, (count, *np.shape(photo)))
        one = target[:1] * count if isinstance(target, list) else target
        told[count] = cost(net, some, method, one, **options)
    parts = [told[count] for count in batches]
    return Cost(
        sum(part.forwards for part in parts),
        sum(part.backwards for part in parts),
        max(part.bytes for part in parts),
        max(part.chunk for part in parts),
        any(part.at_most for part in parts),
    )
