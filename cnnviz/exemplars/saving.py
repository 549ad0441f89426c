"""Exemplars in a folder: one file a layer, and one that says what they are of, written last."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from cnnviz.errors import InvalidOption
from cnnviz.exemplars.tally import Keep, ScanTally
from cnnviz.files import plain_json, write_arrays, write_text
from cnnviz.plan import unlike

__all__ = ["is_saved", "read_folder", "require_own", "write_folder"]

_SCHEMA = 1
_ABOUT, _SCAN, _LAYERS = "exemplars.json", "scan.npz", "layers"


def is_saved(folder: Path) -> bool:
    """Say whether a folder holds a whole result."""
    return (folder / _ABOUT).is_file()


def require_own(folder: Path, identity: Mapping[str, Any]) -> None:
    """Refuse a folder that holds what is none of this run's.

    Raises
    ------
    InvalidOption
    """
    if folder.exists() and not folder.is_dir():
        raise InvalidOption(f"{str(folder)!r} is a file; name a folder")
    if is_saved(folder):
        other = unlike(_about(folder)["identity"], identity)
        if other:
            raise InvalidOption(
                f"{str(folder)!r} holds the exemplars of another run (other {', '.join(other)});"
                " name another folder"
            )
        return
    if folder.is_dir() and not (folder / "plan.json").exists():
        foreign = [one.name for one in folder.iterdir() if not one.name.startswith(".")]
        if foreign:
            raise InvalidOption(
                f"the folder {str(folder)!r} is not empty; name another for the exemplars"
            )


def write_folder(
    folder: Path,
    tally: ScanTally,
    identity: Mapping[str, Any],
    references: Mapping[int, str],
) -> None:
    """Write a result; it counts once its last file is there."""
    layers = folder / _LAYERS
    layers.mkdir(parents=True, exist_ok=True)
    files = {name: _file(i, name) for i, name in enumerate(tally.names)}
    for name, file in files.items():
        write_arrays(layers / file, tally.layers[name].arrays(), durable=True)
    write_arrays(folder / _SCAN, tally.arrays(), durable=True)
    about = {
        "schema": _SCHEMA,
        "identity": plain_json(dict(identity)),
        "seen": tally.seen,
        "broken": [list(one) for one in tally.broken],
        "files": files,
        "references": {str(number): text for number, text in references.items()},
    }
    write_text(folder / _ABOUT, json.dumps(about, indent=1) + "\n", durable=True)


def read_folder(folder: Path) -> tuple[ScanTally, dict[str, Any], dict[int, str]]:
    """Read what `write_folder` wrote: the tally, the identity, the references of images.

    Raises
    ------
    InvalidOption
        It is no such folder, or a file of it is damaged.
    """
    if not is_saved(folder):
        unfinished = (
            " yet; the run that makes them is not finished" * (folder / "plan.json").is_file()
        )
        raise InvalidOption(f"{str(folder)!r} holds no exemplars{unfinished}")
    about = _about(folder)
    identity: dict[str, Any] = about["identity"]
    layers = {}
    for name, file in about["files"].items():
        layers[name] = _arrays(folder / _LAYERS / file)
    tally = ScanTally.of_arrays(_arrays(folder / _SCAN), layers, Keep(**identity["keep"]))
    return tally, identity, {int(n): text for n, text in about["references"].items()}


def _about(folder: Path) -> dict[str, Any]:
    path = folder / _ABOUT
    try:
        about: dict[str, Any] = json.loads(path.read_text())
        known = about["schema"] == _SCHEMA
    except (OSError, ValueError, KeyError, TypeError):
        known = False
    if not known:
        raise InvalidOption(f"{str(path)!r} was not written by this version of cnnviz")
    return about


def _arrays(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except Exception as error:  # whatever zip, zlib and numpy say of what is damaged
        raise InvalidOption(f"{str(path)!r} cannot be read: {error}") from error


def _file(number: int, layer: str) -> str:
    """Name a file after a layer; the number tells apart what a file system does not."""
    return f"{number:03d}-{quote(layer, safe='')[:80]}.npz"
