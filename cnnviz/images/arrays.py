"""The numbers of a picture: which dtypes and ranges are taken, and the errors for the others."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.errors import InvalidImage

__all__ = ["as_floats", "as_unit", "require_picture"]

# A white pixel that went through float32 arithmetic may come out at 1.0000001.
_ROUNDING = 1e-6


def as_floats(x: Any, name: str) -> NDArray[Any]:
    """Copy real floats: float64 stays, any other becomes float32.

    Parameters
    ----------
    x : array
        Of any shape.
    name : str
        What the error calls it.

    Returns
    -------
    array
        In C order, of the machine's byte order, sharing no memory with `x`.

    Raises
    ------
    InvalidImage
        `x` is no array of floats.
    """
    array = np.asarray(x)
    if array.dtype.kind != "f":
        raise InvalidImage(f"{name} must be an array of floats, not of {array.dtype}")
    dtype = np.float64 if array.dtype.itemsize >= 8 else np.float32
    return np.array(array, dtype=dtype, order="C")


def as_unit(x: Any, name: str, *, allow_uint8: bool = True) -> NDArray[Any]:
    """Copy a picture's numbers as floats in [0, 1]; uint8 is divided by 255.

    Floats outside by less than 1e-6 are taken for rounding, and clipped.

    Parameters
    ----------
    x : array
        Of any shape, float in [0, 1] or uint8.
    name : str
        What the error calls it.
    allow_uint8 : bool
        Whether uint8 is taken.

    Returns
    -------
    array
        float64 if `x` is, else float32; in C order, sharing no memory with `x`.

    Raises
    ------
    InvalidImage
        `x` has another dtype, is empty, or holds NaN, infinity or floats outside [0, 1].
    """
    array = np.asarray(x)
    if array.size == 0:
        raise InvalidImage(f"{name} is empty: its shape is {array.shape}")
    if allow_uint8 and array.dtype == np.uint8:
        return np.ascontiguousarray(array).astype(np.float32) / 255
    if array.dtype.kind != "f":
        wanted = "float in [0, 1] or uint8" if allow_uint8 else "float in [0, 1]"
        raise InvalidImage(f"{name} has dtype {array.dtype}; give {wanted}")
    array = as_floats(array, name)
    low, high = float(array.min()), float(array.max())
    if not np.isfinite([low, high]).all():
        raise InvalidImage(f"{name} holds NaN or infinity; give finite floats in [0, 1]")
    if low < -_ROUNDING or high > 1 + _ROUNDING:
        if low < -_ROUNDING:
            advice = "if it was normalised undo that, if it overshoots clip it"
        else:
            advice = "clip it" if high < 1.5 else f"divide by {65535 if high > 255 else 255}"
        raise InvalidImage(
            f"{name} has floats from {low:.4g} to {high:.4g}; give them in [0, 1]: {advice}"
        )
    if low < 0 or high > 1:
        np.clip(array, 0, 1, out=array)
    return array


def require_picture(x: NDArray[Any], name: str) -> None:
    """Refuse what is neither ``(H, W, C)`` nor ``(N, H, W, C)``, or has no pixel.

    Raises
    ------
    InvalidImage
        The shape is another one; the error says how to make it right.
    """
    if x.ndim not in (3, 4):
        more = "; add a last axis: x[..., None]" if x.ndim == 2 else ""
        raise InvalidImage(f"{name} must have shape (H, W, C) or (N, H, W, C), not {x.shape}{more}")
    if x.size == 0:
        raise InvalidImage(f"{name} is empty: its shape is {x.shape}")
