"""What the documents and the examples say is so: names, options, links, commands."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from documents import EXAMPLES, PAGES, ROOT, blocks, links, python_blocks

import cnnviz
from cnnviz.cli.app import app

SOURCES = python_blocks() | {path.name: path.read_text("utf-8") for path in EXAMPLES}
SETTINGS = {field.name for field in dataclasses.fields(cnnviz.Recipe)}


def dotted(node: ast.expr) -> list[str]:
    """Give ``["cnnviz", "photos", "path"]`` for ``cnnviz.photos.path``; empty for all else."""
    if isinstance(node, ast.Name):
        return [node.id]
    if isinstance(node, ast.Attribute) and (before := dotted(node.value)):
        return [*before, node.attr]
    return []


def problems(source: str) -> Iterator[str]:
    """Name what a piece of code uses of cnnviz that is not there."""
    known: dict[str, Any] = {"cnnviz": cnnviz}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "cnnviz":
            module = importlib.import_module(node.module or "")
            for alias in node.names:
                if not hasattr(module, alias.name):
                    yield f"{node.module} has no {alias.name}"
                known[alias.asname or alias.name] = getattr(module, alias.name, None)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and (path := dotted(node)) and path[0] in known:
            found = known[path[0]]
            for part in path[1:]:
                if not hasattr(found, part):
                    yield f"{'.'.join(path)}: no {part}"
                    break
                found = getattr(found, part)
        if isinstance(node, ast.Call) and (path := dotted(node.func)) and path[0] in known:
            yield from unknown_arguments(node, path, known[path[0]])


def unknown_arguments(node: ast.Call, path: list[str], found: Any) -> Iterator[str]:
    for part in path[1:]:
        found = getattr(found, part, None)
    if not callable(found):
        return
    taken = {
        name
        for name, parameter in inspect.signature(found).parameters.items()
        if parameter.kind is not parameter.VAR_KEYWORD
    }
    taken |= SETTINGS if found in (cnnviz.ascend, cnnviz.ascend_layer) else set()
    for keyword in node.keywords:
        if keyword.arg is not None and keyword.arg not in taken:
            yield f"{'.'.join(path)} takes no {keyword.arg}"


@pytest.mark.parametrize("name", SOURCES)
def test_code_uses_what_there_is(name: str) -> None:
    assert list(problems(SOURCES[name])) == []


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("cnnviz.grad_cams(net)", "no grad_cams"),
        ("cnnviz.photos.paths().x; cnnviz.photos.kitten", "no kitten"),
        ("from cnnviz.testing import Checks", "has no Checks"),
        ("from cnnviz import photos; photos.pathe('x')", "no pathe"),
        ("cnnviz.grad_cam(net, photo, layers='x')", "takes no layers"),
        ("cnnviz.ascend(net, 'class:1', stepz=3)", "takes no stepz"),
    ],
)
def test_a_wrong_name_would_be_noticed(source: str, told: str) -> None:
    assert any(told in problem for problem in problems(f"import cnnviz\n{source}"))


def command_lines() -> list[str]:
    lines = [line for page in PAGES for block in blocks(page) for line in block.splitlines()]
    return [line for line in lines if line.startswith("cnnviz ")]


@pytest.mark.parametrize("line", sorted(set(command_lines())))
def test_command_lines_are_understood(line: str) -> None:
    _, name, *arguments = shlex.split(line)
    group = typer.main.get_command(app)
    group.commands[name].make_context(name, arguments)  # type: ignore[attr-defined]


def test_every_command_is_shown_in_the_readme() -> None:
    lines = [line for block in blocks(PAGES[0]) for line in block.splitlines()]
    shown = {line.split()[1] for line in lines if line.startswith("cnnviz ")}
    assert shown == set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        target = (page.parent / link).resolve()
        if target.is_relative_to(ROOT / "cnnviz"):
            # The tests of the wheel have no source beside them.
            target = Path(cnnviz.__file__).parent / target.relative_to(ROOT / "cnnviz")
        assert target.exists(), link


def test_ci_runs_what_the_readme_says() -> None:
    commands = [block.strip() for block in blocks(PAGES[0]) if block.startswith("python3 -m venv")]
    assert commands[1] == (ROOT / ".ci" / "run").read_text("utf-8").splitlines()[-1]
    assert commands[0] == f"{commands[1]} -s demo"


def test_every_recipe_is_in_the_table() -> None:
    text = (ROOT / "docs" / "recipes.md").read_text("utf-8")
    table = text[text.index("| recipe |") :].partition("\n\n")[0].splitlines()[2:]
    assert [row.split("|")[1].strip(" `") for row in table] == list(cnnviz.RECIPES)
