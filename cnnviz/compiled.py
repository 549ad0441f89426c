"""Loops that numba compiles where it is installed: once for each type, and kept on disk."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from typing import Any

__all__ = ["compiled"]

Loop = Callable[..., None]


@cache
def compiled(loop: Loop) -> Loop | None:
    """Compile a loop over arrays that writes into some of them; None where numba is missing.

    It runs without Python's lock.
    """
    try:
        numba: Any = importlib.import_module("numba")
    except ImportError:
        return None
    settings = {"nogil": True, "error_model": "numpy"}
    try:
        found: Loop = numba.njit(cache=True, **settings)(loop)
    except RuntimeError:
        # No folder can be written in which to keep it.
        found = numba.njit(**settings)(loop)
    return found
