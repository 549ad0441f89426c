"""The classes of a network, by index or by name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

import numpy as np

from cnnviz.adapter import Adapter
from cnnviz.errors import ChannelOutOfRange, InvalidOption

__all__ = ["class_index", "class_name", "in_words"]


def class_index(net: Adapter[Any], target: int | np.integer[Any] | str) -> int:
    """Give the index of a class by its name or number, checked against the network.

    Of a name, capitals do not count, and underscores are spaces; a number may be a text.

    Raises
    ------
    ChannelOutOfRange
        The network has no such class.
    InvalidOption
        The name is not known, or stands for several classes.
    """
    if net.classes is None:
        net.layers()
    if isinstance(target, str):
        target = _named(net.name, net.labels, target)
    if isinstance(target, bool) or not isinstance(target, (int, np.integer)):
        raise InvalidOption(f"a class is an index or a name, not {in_words(target)}")
    if net.classes is not None and not 0 <= target < net.classes:
        raise ChannelOutOfRange("class", int(target), net.classes)
    return int(target)


def _named(network: str, labels: Sequence[str] | None, name: str) -> int:
    """Find the index of a class by its name, or the number that the name is."""
    if not name.strip():
        raise InvalidOption("the name of the class is empty; give a name or an index")
    known = [*map(_plain, labels or ())]
    plain = _plain(name)
    exact = [i for i, label in enumerate(labels or ()) if label.lower() == name.lower()]
    found = exact or [i for i, label in enumerate(known) if label == plain]
    if len(found) == 1:
        return found[0]
    if found:
        indices = ", ".join(map(str, found))
        raise InvalidOption(
            f"several classes are called {name!r}; give one of the indices {indices}"
        )
    if re.fullmatch(r"-?\d+", name.strip()):
        return int(name)
    if labels is None:
        raise InvalidOption(f"{network} knows no names of classes; give the index")
    within = sorted((label for label in known if plain in label), key=len)
    close = get_close_matches(plain, known, n=3) if len(within) < 3 else []
    near = [
        f"{labels[i]} ({i})"
        for label in dict.fromkeys((*within, *close))
        for i, other in enumerate(known)
        if other == label
    ][:5]
    hint = f"; did you mean {', '.join(near)}?" if near else "; give the index"
    raise InvalidOption(f"no class is called {name!r}{hint}")


def _plain(name: str) -> str:
    return " ".join(name.lower().replace("_", " ").split())


def in_words(value: Any) -> str:
    """Give the kind of a value with its article: ``an int``, ``a str``."""
    kind = type(value).__name__
    return f"{'an' if kind[0].lower() in 'aeio' else 'a'} {kind}"


def class_name(net: Adapter[Any], index: int) -> str:
    """Give the name of a class, or its index in words where no names are known."""
    if net.labels is not None and index < len(net.labels):
        return net.labels[index]
    return f"class {index}"
