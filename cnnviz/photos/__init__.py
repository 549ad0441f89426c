"""Three photos to try things on; ``CREDITS.md`` beside them says whose they are."""

from __future__ import annotations

from pathlib import Path

from cnnviz.errors import InvalidOption

__all__ = ["path", "paths"]

_FILES = ("chelsea.png", "coffee.png", "rocket.jpg")


def paths() -> dict[str, Path]:
    """Give the file of each photo by its name: ``chelsea``, ``coffee`` and ``rocket``."""
    folder = Path(__file__).resolve().parent
    return {Path(name).stem: folder / name for name in _FILES}


def path(name: str) -> Path:
    """Give the file of one photo.

    Raises
    ------
    InvalidOption
        There is no photo of that name.
    """
    known = paths()
    if name not in known:
        raise InvalidOption(f"no photo {name!r}; there are {', '.join(map(repr, known))}")
    return known[name]
