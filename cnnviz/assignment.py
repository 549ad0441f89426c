"""What may be written into the weights of a model, looked at before any of it is."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.errors import InvalidOption

__all__ = ["assigned"]


def assigned(
    name: str, known: Mapping[str, NDArray[Any]], given: Mapping[str, NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    """Give new weights in the dtypes of those that they replace.

    Parameters
    ----------
    name : str
        Of the network.
    known, given : mapping of str to array
        Those that there are, and those to come.

    Raises
    ------
    InvalidOption
        A name is not known, or a shape differs, or a finite number is none in that dtype.
    """
    found = {}
    for key, value in given.items():
        if key not in known:
            close = ", ".join(map(repr, get_close_matches(key, known, cutoff=0.4)))
            raise InvalidOption(
                f"{name} has no weight {key!r}" + (f"; the closest are {close}" if close else "")
            )
        array, old = np.asarray(value), known[key]
        if array.shape != old.shape:
            raise InvalidOption(
                f"{key!r} of {name} is {_by(old.shape)}; weights of {_by(array.shape)} do not fit"
            )
        if array.dtype.kind not in "fiub":
            raise InvalidOption(f"{key!r} of {name} takes numbers, not {array.dtype}")
        with np.errstate(over="ignore"):
            cast = array.astype(old.dtype)
        if np.isfinite(array).all() and not np.isfinite(cast).all():
            raise InvalidOption(f"{key!r} holds numbers that are too large for {old.dtype}")
        found[key] = cast
    return found


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) if shape else "a single number"
