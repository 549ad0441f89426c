"""What was opened of what was tried, for each group: printed, and written into the docs.

Run as ``python -m zoo.coverage RESULTS... [--docs docs/networks.md] [--date YYYY-MM-DD]``.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

# All of a group by default.
WANTED = {"timm": 23}
LIBRARIES = ("torch", "torchvision", "timm", "transformers", "tensorflow", "keras", "keras-hub")
BEGIN, END = "<!-- the table begins -->", "<!-- the table ends -->"


def read(paths: Iterable[Path]) -> list[dict[str, Any]]:
    """Read results; of a network that was judged twice the last counts."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for path in paths:
        for line in path.read_text("utf-8").splitlines():
            report = json.loads(line)
            found[report["group"], report["name"]] = report
    return list(found.values())


def groups(reports: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for report in reports:
        found.setdefault(report["group"], []).append(report)
    return found


def table(reports: Sequence[dict[str, Any]]) -> list[tuple[str, int, int, int, int, str]]:
    """Give for each group: opened, tried, refused by design, layers, and the names."""
    rows = []
    for group, members in groups(reports).items():
        refused = [r for r in members if r["refusal"] is not None and not r["failures"]]
        opened = [r for r in members if r["opened"]]
        names = ", ".join(r["name"] for r in opened)
        layers = sum(r["layers"] for r in opened)
        tried = len(members) - len(refused)
        rows.append((group, len(opened), tried, len(refused), layers, names))
    return rows


def missed(reports: Sequence[dict[str, Any]]) -> list[str]:
    """Say what of the aims is not reached."""
    return [
        f"{group}: {opened} of {tried} opened, {WANTED.get(group, tried)} are wanted"
        for group, opened, tried, _, _, _ in table(reports)
        if opened < WANTED.get(group, tried)
    ]


def markdown(reports: Sequence[dict[str, Any]], date: str) -> str:
    lines = [f"As of {date}, with {', '.join(_versions())}:", ""]
    lines += ["| group | opened | tried | layers compared | networks |", "|---|---|---|---|---|"]
    for group, opened, tried, _, layers, names in table(reports):
        lines.append(f"| {group} | {opened} | {tried} | {layers:,} | {names} |")
    refused = [r for r in reports if r["refusal"] is not None and not r["failures"]]
    lines += ["", "Refused by design, each in one line that says what to do:", ""]
    lines += [f"- {r['group']}, {r['name']}: `{r['refusal']}`" for r in refused]
    failed = [r for r in reports if r["failures"]]
    if failed:
        lines += ["", "Not right yet:", ""]
        lines += [f"- {r['group']}, {r['name']}: {', '.join(r['failures'])}" for r in failed]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("results", nargs="+", type=Path)
    parser.add_argument("--docs", type=Path)
    parser.add_argument("--date", default=datetime.date.today().isoformat())
    given = parser.parse_args(arguments)
    reports = read(given.results)
    for group, opened, tried, refused, layers, _ in table(reports):
        also = f", {refused} refused by name" if refused else ""
        print(f"{group:28} {opened:3} of {tried:3} opened{also} ({layers:,} layers)")
    for report in reports:
        for check, reason in report["failures"].items():
            print(f"  {report['group']}, {report['name']}: {check}: {reason}")
    if given.docs is not None:
        page = given.docs.read_text("utf-8")
        head, _, rest = page.partition(BEGIN)
        tail = rest.partition(END)[2]
        body = markdown(reports, given.date)
        given.docs.write_text(f"{head}{BEGIN}\n\n{body}\n{END}{tail}", "utf-8")
    short = missed(reports)
    print("\n".join(short), end="\n" if short else "")
    return 1 if short else 0


def _versions() -> list[str]:
    found = []
    for name in LIBRARIES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    sys.exit(main())
