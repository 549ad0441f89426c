"""The classes of a network, by index or by name."""

from __future__ import annotations

from typing import Any

import numpy as np

from cnnviz.adapter import Adapter
from cnnviz.errors import ChannelOutOfRange, InvalidOption

__all__ = ["class_index", "class_name"]


def class_index(net: Adapter[Any], target: int | np.integer[Any] | str) -> int:
    """Give the index of a class by its name or number, checked against the network.

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
        if net.labels is None:
            raise InvalidOption(f"{net.name} knows no names of classes; give the index")
        names = [label.lower() for label in net.labels]
        found = [i for i, name in enumerate(names) if name == target.lower()]
        if len(found) != 1:
            near = [net.labels[i] for i, name in enumerate(names) if target.lower() in name][:5]
            hint = f"; did you mean {', '.join(near)}?" if near else "; give the index"
            count = "several classes are" if found else "no class is"
            raise InvalidOption(f"{count} called {target!r}{hint}")
        return found[0]
    if isinstance(target, bool) or not isinstance(target, (int, np.integer)):
        raise InvalidOption(f"a class is an index or a name, not a {type(target).__name__}")
    if net.classes is not None and not 0 <= target < net.classes:
        raise ChannelOutOfRange("class", int(target), net.classes)
    return int(target)


def class_name(net: Adapter[Any], index: int) -> str:
    """Give the name of a class, or its index in words where no names are known."""
    if net.labels is not None and index < len(net.labels):
        return net.labels[index]
    return f"class {index}"
