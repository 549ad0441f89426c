"""What several commands take, and how it is read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from cnnviz.errors import InvalidOption

__all__ = [
    "Device",
    "Framework",
    "Images",
    "Json",
    "Model",
    "Out",
    "Output",
    "Preprocess",
    "Size",
    "Weights",
    "parse_output",
    "parse_size",
    "parse_targets",
]

_NETWORK = "The network"

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="demo, torchvision:NAME, timm:NAME, keras:NAME, a .keras, .h5, .pt2 or TorchScript"
        " file, or module.py:function that returns a model.",
        show_default=False,
    ),
]
Images = Annotated[
    list[str], typer.Argument(metavar="IMAGES...", help="Photos.", show_default=False)
]
Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", metavar="FILE", help="Where to write.", show_default=False),
]
Framework = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="For MODEL demo: torch or keras; the first installed by default.",
        rich_help_panel=_NETWORK,
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="Or pretrained (the default), or none for random ones; not for files and demo.",
        rich_help_panel=_NETWORK,
    ),
]
Preprocess = Annotated[
    str | None,
    typer.Option(
        "--preprocessing",
        metavar="NAME",
        help="imagenet, caffe, tf or identity, where the network does not tell.",
        rich_help_panel=_NETWORK,
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="In the framework's words; the model's own by default.",
        rich_help_panel=_NETWORK,
    ),
]
Size = Annotated[
    str | None,
    typer.Option(
        metavar="PIXELS",
        help="Side of the pictures, or HEIGHTxWIDTH; the network's own by default.",
        rich_help_panel=_NETWORK,
    ),
]
Output = Annotated[
    str | None,
    typer.Option(
        metavar="KEY",
        help="Which of several outputs holds the class scores: its key, its place, or a layer.",
        rich_help_panel=_NETWORK,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Write what a program can read on stdout.")]


def parse_size(text: str | None) -> tuple[int, int] | None:
    """Read ``224`` or ``224x320``, height and width in pixels.

    Raises
    ------
    InvalidOption
        It is neither.
    """
    if text is None:
        return None
    found = re.fullmatch(r"(\d+)(?:x(\d+))?", text)
    height, width = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if min(height, width) < 1:
        raise InvalidOption(f"cannot read the size {text!r}; write 224 or HEIGHTxWIDTH, 224x320")
    return height, width


def parse_output(text: str | None) -> str | int | None:
    """Read an output by its place or its key."""
    return int(text) if text is not None and re.fullmatch(r"-?\d+", text) else text


def parse_targets(given: list[str] | None) -> int | str | list[int | str] | None:
    """Read classes by index or name: none, one for all pictures, or one each."""
    targets = [int(one) if re.fullmatch(r"-?\d+", one) else one for one in given or []]
    return (targets[0] if len(targets) == 1 else targets) if targets else None
