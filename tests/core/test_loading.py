"""What is told to `cnnviz.load` reaches the backend that opens the model."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from shell import run_here

import cnnviz
from cnnviz import discovery, photos
from cnnviz.errors import InvalidOption, UnknownModel
from cnnviz.testing import OracleAdapter

PHOTO = str(photos.path("coffee"))


class Backend(OracleAdapter):
    """A backend that keeps what it was told."""

    def __init__(self, model: Any, **options: Any) -> None:
        super().__init__()
        self.told = options

    @classmethod
    def accepts(cls, model: object) -> bool:
        return model == "the model"


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name a file whose function returns a model of a framework that is made up."""
    module = ModuleType("madeup")
    module.Backend = Backend  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "madeup", module)
    entry = EntryPoint("madeup", "madeup:Backend", "cnnviz.backends")
    found = {"cnnviz.backends": (entry,)}
    monkeypatch.setattr(discovery, "_entries", lambda group: found.get(group, ()))
    (tmp_path / "own.py").write_text("def build(): return 'the model'\n")
    return f"{tmp_path / 'own.py'}:build"


def test_what_is_not_given_is_not_told(spec: str) -> None:
    assert cnnviz.load(spec).told == {}


def test_output_and_other_inputs_are_told(spec: str) -> None:
    others = {"age": 40.0}
    assert cnnviz.load(spec, output=0, other_inputs=others, device="cpu").told == {
        "output": 0,
        "other_inputs": others,
        "device": "cpu",
    }


def test_the_size_comes_with_the_channels_of_the_network(spec: str) -> None:
    told = cnnviz.load(spec, input_size=(32, 48), output="aux").told
    assert told == {"input_shape": (32, 48, 3), "output": "aux"}
    assert cnnviz.load(spec, input_size=40).told == {"input_shape": (40, 40, 3)}
    with pytest.raises(InvalidOption, match="input_size is a number of pixels"):
        cnnviz.load(spec, input_size="40x40")  # type: ignore[arg-type]


@pytest.mark.parametrize(("text", "output"), [("aux", "aux"), ("1", 1), ("-1", -1)])
@pytest.mark.parametrize("command", ["layers", "weights", "features", "cam", "ascend"])
def test_every_command_takes_an_output(
    command: str,
    text: str,
    output: str | int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    told: list[Any] = []

    def load(spec: str, **options: Any) -> None:
        told.append(options["output"])
        raise UnknownModel("stop here")

    monkeypatch.setattr(cnnviz, "load", load)
    rest = {
        "features": [PHOTO],
        "cam": [PHOTO],
        "ascend": ["class:1", "--out", str(tmp_path / "x.png")],
    }
    run = run_here(capsys, command, "net", *rest.get(command, []), "--output", text)
    assert "stop here" in run.err
    assert told == [output]


def test_the_files_that_are_opened_are_named() -> None:
    with pytest.raises(UnknownModel, match=r"\.keras, \.h5, \.pt2 or \.pt file"):
        cnnviz.load("nosuch")
