"""The command line as a shell sees it: a status, and what stands on stdout and stderr."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from cnnviz.cli import main

RUN = "import sys; from cnnviz.cli import main; sys.exit(main())"


class Run(NamedTuple):
    """What one command did."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def run_here(capture: pytest.CaptureFixture[str], *arguments: str) -> Run:
    """Run a command in this process; what libraries write past Python is seen too by `capfd`."""
    capture.readouterr()
    status = main(arguments)
    return Run(status, *capture.readouterr())


def in_a_process(*arguments: str, code: str = RUN, **options: Any) -> Run:
    """Run a command in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, **options
    )
    return Run(done.returncode, done.stdout, done.stderr)


def contents(folder: Path) -> dict[str, bytes]:
    """Everything that a folder holds."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b""
        for path in folder.rglob("*")
        if "__pycache__" not in path.parts
    }


def assert_refused(run: Run, *words: str) -> None:
    """Status 2, one line on stderr that says these words, and nothing else."""
    assert run.status == 2
    assert run.out == ""
    assert run.err.startswith("cnnviz: ")
    assert run.err.count("\n") == 1
    assert run.err.endswith("\n")
    for word in words:
        assert word in run.err
