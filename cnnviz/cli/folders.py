"""Folders of photos in, folders of pictures and cards out."""

from __future__ import annotations

import csv
import io
import json as encoding
import warnings
from pathlib import Path
from typing import Any

from PIL import Image

from cnnviz.attribution.card import Card
from cnnviz.errors import InvalidImage, InvalidOption
from cnnviz.files import write_text
from cnnviz.pictures import picture_batch
from cnnviz.sources.files import READABLE

__all__ = ["names_for", "openable", "photos_of", "readable", "write_cards"]


def photos_of(given: list[str]) -> tuple[list[str], set[str]]:
    """List photos, those of folders by name; and which of them came from a folder."""
    photos: list[str] = []
    found: set[str] = set()
    for one in given:
        path = Path(one)
        if not path.is_dir():
            photos.append(one)
            continue
        inside = sorted(
            str(file)
            for file in path.iterdir()
            if file.is_file() and file.suffix.lower() in READABLE
        )
        if not inside:
            raise InvalidOption(f"there are no photos in the folder {one!r}")
        photos += inside
        found |= set(inside)
    return photos, found


def names_for(photos: list[str], out: Path) -> list[str]:
    """Name a picture for each photo; two photos of one name keep what tells them apart."""
    stems = [Path(photo).stem for photo in photos]
    names: list[str] = []
    for photo, stem in zip(photos, stems, strict=True):
        name = stem if stems.count(stem) == 1 else Path(photo).name
        number = 1
        while f"{name}.png" in names:
            number += 1
            name = f"{Path(photo).name}-{number}"
        names.append(f"{name}.png")
    sources = {Path(photo).resolve() for photo in photos}
    for name in names:
        if (out / name).resolve() in sources:
            raise InvalidOption(f"{str(out / name)!r} would be written over; name another folder")
    return names


def openable(photo: str) -> bool:
    """Say whether a file begins as a picture does; whether all of it is there is not looked at."""
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(photo):
            return True
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False


def readable(
    net: Any,
    photos: list[str],
    rows: range,
    from_folder: set[str],
    size: tuple[int, int] | None,
) -> tuple[dict[int, Any], list[str]]:
    """Read photos as the network takes them; what is none, and came from a folder, is left out."""
    read, broken = {}, []
    for row in rows:
        try:
            read[row] = picture_batch(net, photos[row], size)[0]
        except InvalidImage as error:
            if photos[row] not in from_folder:
                raise
            broken.append(str(error))
    return read, broken


def write_cards(out: Path, cards: list[tuple[str, str, Card]]) -> None:
    """Write cards.csv and cards.json: a row a photo, with the name of its picture."""
    rows = [{"image": photo, "picture": name, **card.to_json()} for photo, name, card in cards]
    header = list(dict.fromkeys(key for row in rows for key in row))
    table = io.StringIO()
    writer = csv.DictWriter(table, header, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(out / "cards.csv", table.getvalue())
    write_text(out / "cards.json", encoding.dumps(rows, indent=1) + "\n")
