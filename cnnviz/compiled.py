"""Loops that numba compiles where it is installed: once for each type, and kept on disk."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["compiled", "only_read"]

Loop = Callable[..., None]


# Several threads may ask first: what one compiles is the others' too.
_lock = Lock()


def compiled(loop: Loop, any_order: bool = False) -> Loop | None:
    """Compile a loop over arrays that writes into some of them; None where numba is missing.

    It runs without Python's lock.

    Parameters
    ----------
    loop : function
        It gives nothing back, and reads no globals that change.
    any_order : bool
        Whether sums may be taken in any order, as several at once are.
    """
    with _lock:
        return _compiled(loop, any_order)


@cache
def _compiled(loop: Loop, any_order: bool) -> Loop | None:
    try:
        numba: Any = importlib.import_module("numba")
    except ImportError:
        return None
    # What is not finite is still to come through.
    order = {"reassoc", "contract", "nsz"} if any_order else False
    settings = {"nogil": True, "error_model": "numpy", "fastmath": order}
    try:
        found: Loop = numba.njit(cache=True, **settings)(loop)
    except RuntimeError:
        # No folder can be written in which to keep it.
        found = numba.njit(**settings)(loop)
    return found


def only_read(x: NDArray[Any]) -> NDArray[Any]:
    """Give an array as one that is not written to and lies in one piece, a view where it does.

    What may be written to, and what lies otherwise, would be compiled once more.
    """
    found = np.ascontiguousarray(x).view()
    found.flags.writeable = False
    return found
