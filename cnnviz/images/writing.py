"""Pictures to 8 bits and to files."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from cnnviz.errors import InvalidImage, InvalidOption
from cnnviz.files import write_bytes
from cnnviz.images.arrays import as_unit

__all__ = ["png_bytes", "save", "to_uint8"]

_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}


def to_uint8(x: NDArray[Any]) -> NDArray[np.uint8]:
    """Turn [0, 1] into 0..255, each number to the nearest; uint8 is copied.

    Parameters
    ----------
    x : array
        Float in [0, 1] or uint8, of any shape.

    Returns
    -------
    array of uint8
        Of the same shape.

    Raises
    ------
    InvalidImage
        `x` has another dtype, is empty, or has floats outside [0, 1], NaN or infinity.
    """
    if np.asarray(x).dtype == np.uint8 and np.size(x):
        return np.array(x)
    return np.asarray(np.rint(as_unit(x, "the picture") * 255), dtype=np.uint8)


def png_bytes(x: NDArray[Any], metadata: Mapping[str, str] | None = None) -> bytes:
    """Encode a picture as PNG; the same picture and texts give the same bytes.

    Parameters
    ----------
    x : array
        ``(H, W)`` or ``(H, W, C)`` with 1, 3 or 4 channels; float in [0, 1] or uint8.
    metadata : mapping of str to str, optional
        Written as text chunks, which ``PIL.Image.open(path).text`` reads again.

    Returns
    -------
    bytes
        A whole PNG file.

    Raises
    ------
    InvalidImage
        `x` is no such picture.
    InvalidOption
        A key of `metadata` is not 1 to 79 Latin-1 characters, or a value is no string.
    """
    return _encoded(x, "PNG", metadata)


def save(
    path: str | os.PathLike[str],
    image: NDArray[Any],
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Write a picture as PNG, JPEG or WebP, by the suffix of `path`.

    The file appears when it is whole: where writing fails, nothing is left behind, and a file
    that was there before stays as it was.

    Parameters
    ----------
    path : str or path
        Ends in ``.png``, ``.jpg``, ``.jpeg`` or ``.webp``; its folder must exist. JPEG and
        WebP are written with losses, at quality 95.
    image : array
        ``(H, W)`` or ``(H, W, C)`` with 1 or 3 channels, or 4 but for JPEG; float in [0, 1]
        or uint8.
    metadata : mapping of str to str, optional
        Texts to write into a PNG.

    Returns
    -------
    Path
        The path that was given.

    Raises
    ------
    InvalidImage
        `image` is no such picture, or too large for the format.
    InvalidOption
        The suffix is another one, the folder is missing or cannot be written, or the metadata
        cannot be kept.
    """
    given = Path(path)
    suffix = given.suffix.lower()
    if suffix not in _FORMATS:
        raise InvalidOption(
            f"cannot tell the format of {str(given)!r}; end it in {', '.join(_FORMATS)}"
        )
    if metadata and suffix != ".png":
        raise InvalidOption(f"only a PNG keeps metadata; end {str(given)!r} in .png")
    # Encoded only once it is known that there is a place for it.
    if not Path(os.path.realpath(given)).parent.is_dir():
        raise InvalidOption(f"there is no folder {str(given.parent)!r}; make it first")
    return write_bytes(given, _encoded(image, _FORMATS[suffix], metadata))


def _encoded(x: NDArray[Any], kind: str, metadata: Mapping[str, str] | None) -> bytes:
    pixels = to_uint8(x)
    if pixels.ndim == 3 and pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    allowed = (3,) if kind == "JPEG" else (3, 4)
    if pixels.ndim != 2 and (pixels.ndim != 3 or pixels.shape[-1] not in allowed):
        more = " or 4" if 4 in allowed else ""
        raise InvalidImage(
            f"a {kind} needs shape (H, W) or (H, W, C) with 1 or 3{more} channels,"
            f" not {np.shape(x)}"
        )
    options: dict[str, Any] = {"quality": 95}
    if kind == "PNG":
        options = {"pnginfo": _texts(metadata or {})}
    elif kind == "JPEG":
        # Colour at half resolution, the default, smears thin saturated lines.
        options["subsampling"] = 0
    buffer = io.BytesIO()
    try:
        Image.fromarray(pixels).save(buffer, kind, **options)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InvalidImage(
            f"a picture {pixels.shape} cannot be written as {kind}: {reason}"
        ) from error
    return buffer.getvalue()


def _texts(metadata: Mapping[str, str]) -> PngInfo:
    info = PngInfo()
    for key, value in metadata.items():
        if not isinstance(key, str) or not re.fullmatch(r"[ -~\xa1-\xff]{1,79}", key):
            raise InvalidOption(
                f"a key of PNG metadata is 1 to 79 printable Latin-1 characters, not {key!r}"
            )
        if not isinstance(value, str):
            raise InvalidOption(
                f"PNG metadata {key!r} must be a string, not {type(value).__name__}"
            )
        info.add_text(key, value)
    return info
