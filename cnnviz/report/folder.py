"""A folder that appears when it is whole, and takes the place of none but its own kind."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cnnviz.errors import InvalidOption

__all__ = ["MANIFEST", "check_replaceable", "files_below", "replaced"]

MANIFEST = "report.json"
"""The file that tells a report from a folder of somebody's own: its "files" lists the others."""


@contextmanager
def replaced(out: Path) -> Iterator[Path]:
    """Give a new folder to write into; it takes the place of `out` once all has gone well.

    Raises
    ------
    InvalidOption
        `out` is a file, holds what no report wrote, or cannot be written.
    """
    target = Path(os.path.realpath(out))
    check_replaceable(target)
    draft = _sibling(target)
    try:
        try:
            # Not tempfile: its folders can be opened by their owner alone.
            draft.mkdir()
            yield draft
            # What has been put there while the networks ran is nobody's to delete either.
            check_replaceable(target)
            _put(draft, target)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    except OSError as error:
        raise InvalidOption(f"cannot write {str(out)!r}: {error.strerror or error}") from error


def check_replaceable(out: Path) -> None:
    """Raise InvalidOption unless `out` is missing, empty, or a report with nothing added."""
    if not out.parent.is_dir():
        raise InvalidOption(f"there is no folder {str(out.parent)!r}; make it first")
    if not out.exists():
        return
    if not out.is_dir():
        raise InvalidOption(f"{str(out)!r} is a file; name a folder")
    there = files_below(out)
    foreign = sorted(set(there) - _written(out))
    if foreign:
        more = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
        raise InvalidOption(
            f"{str(out)!r} holds {foreign[0]!r}{more}, which no report wrote;"
            " name an empty or a new folder"
        )


def files_below(folder: Path) -> list[str]:
    """List what is in a folder and below by its path from there, folders only if empty."""
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_symlink() or not path.is_dir() or not any(path.iterdir())
    )


def _written(out: Path) -> set[str]:
    """Read off the manifest what an earlier report wrote; nothing if there is none."""
    try:
        known = json.loads((out / MANIFEST).read_text(encoding="utf-8"))
        files = known["files"] if known["kind"] == "cnnviz report" else []
        return {MANIFEST, *files}
    except (OSError, ValueError, LookupError, TypeError):
        return set()


def _put(draft: Path, target: Path) -> None:
    if not target.exists():
        draft.rename(target)
        return
    old = _sibling(target)
    try:
        target.rename(old)
    except OSError:
        # What a file system is mounted on can be filled, but not renamed.
        for path in target.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        for path in draft.iterdir():
            shutil.move(path, target / path.name)
        return
    try:
        draft.rename(target)
    except OSError:
        old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _sibling(target: Path) -> Path:
    return target.with_name(f".{target.name}.{secrets.token_hex(8)}.tmp")
