"""Networks, photos and places to write, checked before the work begins."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from contextlib import (
    AbstractContextManager,
    contextmanager,
    nullcontext,
    redirect_stderr,
    redirect_stdout,
)
from pathlib import Path
from typing import Any, TextIO

import cnnviz
from cnnviz.adapter import Adapter
from cnnviz.discovery import made_by_hand
from cnnviz.errors import InvalidOption
from cnnviz.images import read
from cnnviz.preprocessing import as_preprocessing

__all__ = [
    "PICTURES",
    "check_images",
    "check_out",
    "check_out_folder",
    "open_model",
    "open_network",
]

PICTURES = (".png", ".jpg", ".jpeg", ".webp")


def open_network(
    spec: str,
    framework: str | None,
    weights: str | None,
    preprocessing: str | None,
    device: str | None,
    input_size: tuple[int, int] | None = None,
    output: str | int | None = None,
) -> Adapter[Any]:
    """Load a network without letting its framework talk between the lines of a result."""
    # Known to be wrong sooner than a framework is imported.
    chosen = None if preprocessing is None else as_preprocessing(preprocessing)
    with _hushed(f"loading {spec}"):
        return cnnviz.load(
            spec,
            framework=framework,
            weights=weights,
            preprocessing=chosen,
            device=device,
            input_size=input_size,
            output=output,
        )


def open_model(spec: str) -> Any:
    """Call ``module.py:function``, with the same silence, and give what it returns."""
    with _hushed(f"loading {spec}"):
        return made_by_hand(spec)


def check_images(paths: Sequence[str]) -> None:
    """Read each photo once, so that a bad one is told before a network is loaded or fetched."""
    for path in paths:
        read(path)


def check_out(
    path: Path | None, suffixes: Sequence[str], sources: Sequence[str | Path] = ()
) -> None:
    """Raise InvalidOption unless a file of one of the suffixes, and no source, can be written."""
    if path is None:
        return
    if path.suffix.lower() not in suffixes:
        known = ", ".join(suffixes[:-1]) + " or " + suffixes[-1]
        raise InvalidOption(f"cannot tell the format of {str(path)!r}; end it in {known}")
    if path.is_dir():
        raise InvalidOption(f"{str(path)!r} is a folder; name a file in it")
    if path.resolve() in {Path(source).resolve() for source in sources}:
        raise InvalidOption(f"{str(path)!r} would be written over; name another file")
    _check_folder(Path(os.path.realpath(path)).parent)


def check_out_folder(path: Path) -> None:
    """Raise InvalidOption unless a folder is there that can be written, or can be made."""
    if path.exists() and not path.is_dir():
        raise InvalidOption(f"{str(path)!r} is a file; name a folder")
    _check_folder(path if path.is_dir() else Path(os.path.realpath(path)).parent)


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise InvalidOption(f"there is no folder {str(folder)!r}; make it first")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InvalidOption(f"the folder {str(folder)!r} cannot be written")


@contextmanager
def _hushed(what: str) -> Iterator[None]:
    """Drop what is said meanwhile: one line shall tell an error. A terminal sees a spinner."""
    said = io.StringIO()
    with (
        _stderr_of_libraries_closed() as terminal,
        _spinner(what, terminal),
        redirect_stdout(said),
        redirect_stderr(said),
    ):
        yield


@contextmanager
def _stderr_of_libraries_closed() -> Iterator[TextIO]:
    """Send file descriptor 2 nowhere, and give what it was: TensorFlow's C++ obeys nothing else."""
    with os.fdopen(os.dup(2), "w") as real, open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            yield real
        finally:
            os.dup2(real.fileno(), 2)


def _spinner(what: str, terminal: TextIO) -> AbstractContextManager[object]:
    if not terminal.isatty():
        return nullcontext()
    from rich.console import Console

    return Console(file=terminal).status(what)
