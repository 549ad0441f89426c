"""Hashes of decoded pictures: the same pixels give the same one, whatever held them."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnnviz.images.arrays import as_unit

__all__ = ["block_hashes", "digest", "picture_hash"]


def picture_hash(picture: Any) -> int:
    """Give the 64-bit BLAKE2b of a picture's pixels, their shape and dtype.

    Parameters
    ----------
    picture : Pillow image or array
        The image upright, see `cnnviz.sources.files.decoded`.
    """
    array = _pixels(picture) if isinstance(picture, Image.Image) else np.asarray(picture)
    return int(block_hashes(array[None])[0])


def block_hashes(block: NDArray[Any]) -> NDArray[np.uint64]:
    """Give the hash of each picture of an array, ``(N,)``; see `picture_hash`."""
    shape = block.shape[1:]
    if len(shape) == 2:
        # A grey picture is the same with its axis of channels or without.
        shape = (*shape, 1)
    kind = blake2b(f"{shape} {block.dtype.str}".encode(), digest_size=8)
    rows = np.ascontiguousarray(block).reshape(len(block), -1).view(np.uint8)
    found = []
    for row in rows:
        one = kind.copy()
        one.update(row.data)
        found.append(one.digest())
    return np.frombuffer(b"".join(found), dtype="<u8").astype(np.uint64)


def digest(*parts: Any) -> str:
    """Give 16 hexadecimal digits of some texts, numbers, or bytes, in their order."""
    found = blake2b(digest_size=8)
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode("utf-8", "surrogateescape")
        found.update(len(data).to_bytes(8, "little"))
        found.update(data)
    return found.hexdigest()


def _pixels(image: Image.Image) -> NDArray[Any]:
    """Give the numbers of an image: 8-bit ones as they are, of a palette its colours."""
    if image.mode == "F":
        return as_unit(np.asarray(image), "the image")
    if image.mode in ("L", "RGB", "RGBA") and "transparency" not in image.info:
        return np.asarray(image)
    if image.mode.startswith("I"):
        return np.asarray(image)
    if image.has_transparency_data:
        return np.asarray(image.convert("RGBA"))
    return np.asarray(image.convert("L" if image.mode == "1" else "RGB"))
