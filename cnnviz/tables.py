"""Cells as a table, in plain text, for a terminal or in HTML."""

from __future__ import annotations

import html
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Group

__all__ = ["html_table", "rich_table", "text_table"]


def text_table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Collection[int] = (),
    footer: Sequence[str] = (),
) -> str:
    """Align cells into plain text; the columns of the indices `right` end together."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    lines = [
        "  ".join(
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (header, *rows)
    ]
    lines.insert(1, "  ".join("-" * width for width in widths).rstrip())
    return "\n".join([*lines, *footer])


def rich_table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Collection[int] = (),
    footer: Sequence[str] = (),
) -> Group:
    """Fit cells to the width of a terminal; the columns of the indices `right` end together."""
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for i, name in enumerate(header):
        if i in right:
            table.add_column(Text(name), justify="right", no_wrap=True)
        else:
            # Names are cut by lines, never by dots: they are typed again.
            table.add_column(Text(name), overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    return Group(table, *map(Text, footer))


def html_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], footer: Sequence[str] = ()
) -> str:
    """Write cells as a table of HTML, with every name escaped."""

    def row(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(c)}</{tag}>" for c in cells) + "</tr>"

    body = "".join(row(cells, "td") for cells in rows)
    below = "<br>".join(html.escape(line) for line in footer)
    return f"<table><thead>{row(header, 'th')}</thead><tbody>{body}</tbody></table><p>{below}</p>"
