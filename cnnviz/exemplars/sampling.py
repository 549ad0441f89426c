"""Images drawn at random out of a stream of any length, the same whatever its shards."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["drawn", "mixed", "places_for", "priorities"]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def mixed(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Spread numbers over all of 64 bits.

    References
    ----------
    .. [1] Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
    """
    with np.errstate(over="ignore"):
        x = x + _GOLDEN
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def priorities(images: NDArray[np.int64], seed: int) -> NDArray[np.uint64]:
    """Give each image a random number of its own; those with the least are the sample."""
    start = mixed(np.array([seed], np.uint64))
    return mixed(images.astype(np.uint64) ^ start)


def places_for(keys: NDArray[np.uint64], places: int, count: int) -> NDArray[np.intp]:
    """Draw places of each image's map, ``(B, count)``; all of them where there are no more.

    `keys` are the images' `priorities`. One place is drawn from each of `count` stretches of
    equal length, so none is drawn twice.
    """
    if places <= count:
        return np.broadcast_to(np.arange(places), (len(keys), places))
    edges = np.arange(count + 1, dtype=np.uint64) * np.uint64(places) // np.uint64(count)
    own = keys[:, None] ^ np.arange(count, dtype=np.uint64)
    return (edges[:-1] + mixed(own) % np.diff(edges)).astype(np.intp)


def drawn(maps: NDArray[Any], keys: NDArray[np.uint64], count: int) -> NDArray[Any]:
    """Give ``(B, P, C)`` at the places of `places_for`, ``(B, S, C)``."""
    images, places = maps.shape[:2]
    found: NDArray[Any] = maps[np.arange(images)[:, None], places_for(keys, places, count)]
    return found
