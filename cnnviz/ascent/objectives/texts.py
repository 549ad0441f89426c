"""Objectives as the command line writes them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from cnnviz.ascent.objectives.base import Objective
from cnnviz.ascent.objectives.units import channel, class_logit, class_odds, layer, neuron
from cnnviz.errors import InvalidOption

__all__ = ["as_objectives", "parse"]


_CLASSES = {"class": class_logit, "odds": class_odds}


def parse(text: str) -> Objective:
    """Read an objective.

    ``LAYER:CHANNEL``, ``LAYER:CHANNEL@ROW,COLUMN``, ``layer:LAYER``, ``class:INDEX`` or
    ``class:NAME``, and ``odds:`` in place of ``class:``.

    Raises
    ------
    InvalidOption
        It is none of these.
    """
    head, _, tail = text.rpartition(":")
    if head in _CLASSES and tail:
        return _CLASSES[head](int(tail) if re.fullmatch(r"-?\d+", tail) else tail)
    whole = text.removeprefix("layer:")
    # A layer that is called twice has a number in its name, as in layer:relu:1.
    if whole != text and re.fullmatch(r".*[^\d@,:-].*", whole):
        return layer(whole)
    if head and re.fullmatch(r"-?\d+", tail):
        return channel(head, int(tail))
    placed = re.fullmatch(r"(\d+)@(\d+),(\d+)", tail)
    if head and placed:
        return neuron(head, *map(int, placed.groups()))
    raise InvalidOption(
        f"cannot read the objective {text!r}; write LAYER:CHANNEL, LAYER:CHANNEL@ROW,COLUMN,"
        " layer:LAYER, class:INDEX or class:NAME (or odds: for it)"
    )


def as_objectives(objective: Objective | str | Sequence[Objective | str]) -> list[Objective]:
    """Make a list of one or several objectives, given as objects or as text."""
    given = [objective] if isinstance(objective, (Objective, str)) else list(objective)
    if not given:
        raise InvalidOption("there is no objective; give at least one")
    found = []
    for one in given:
        one = parse(one) if isinstance(one, str) else one
        if not isinstance(one, Objective):
            raise InvalidOption(
                "an objective is made by cnnviz.objectives or written as LAYER:CHANNEL,"
                f" not a {type(one).__name__}"
            )
        found.append(one)
    return found
