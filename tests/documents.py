"""The documents of the project, as the tests read them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def blocks(page: Path, language: str = "") -> list[str]:
    """Give the code blocks of a page that are in a language; without one, the plain ones."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text("utf-8"), re.M | re.S)
    return [block for said, block in found if said == language]


def python_blocks() -> dict[str, str]:
    """Give every block of Python under a name."""
    return {
        f"{page.name}-{number}": block
        for page in PAGES
        for number, block in enumerate(blocks(page, "python"))
    }


def links(page: Path) -> list[str]:
    """Give where a page points within the project."""
    found = re.findall(r"\]\(([^)#]+)\)", page.read_text("utf-8"))
    return [link for link in found if "://" not in link]
