"""Results on stdout: tables for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnviz.files import plain_json
from cnnviz.tables import rich_table, text_table

if TYPE_CHECKING:
    from rich.console import Group

__all__ = ["Table", "show", "show_json", "show_lines"]


@dataclass(frozen=True)
class Table:
    """Cells with a header; the columns of the indices `right` end together."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    right: Collection[int] = ()

    def __str__(self) -> str:
        return text_table(self.header, self.rows, right=self.right)

    def __rich__(self) -> Group:
        return rich_table(self.header, self.rows, right=self.right)


def show(table: object) -> None:
    """Print a table, fitted to the terminal; whole lines where a program reads them."""
    if sys.stdout.isatty():
        from rich.console import Console

        Console().print(table)
    else:
        print(table)


def show_lines(notes: Sequence[str], *written: Path | None) -> None:
    """Print what a reader must know, and the files that were written."""
    for line in (*notes, *(f"wrote {path}" for path in written if path is not None)):
        print(line)


def show_json(value: Any) -> None:
    """Print JSON; what is not finite becomes null, since JSON has no word for it."""
    print(json.dumps(plain_json(value), indent=1, allow_nan=False))
