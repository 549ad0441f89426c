"""What a layer was told when it was made, in words that all frameworks share.

``Adapter.settings`` gives a mapping with the key ``"family"``, one of `FAMILIES`, and:

- ``"convolution"``, ``"transposed convolution"``: ``strides``, ``dilation``, ``groups``,
  ``padding`` (a pair of numbers for each axis, before and after, or ``"same"``; left out where
  a class of the user's may pad as it likes), ``mode`` of padding, ``activation``;
- ``"dense"``: ``activation``;
- ``"batch norm"``, ``"layer norm"``, ``"group norm"``: ``eps``; for batch norms ``momentum`` (that
  of PyTorch; Keras's is one less it) and ``statistics``, ``"running"`` or ``"batch"``; ``groups``;
- ``"max pool"``, ``"average pool"``: ``window``, ``strides``, ``padding``, ``ceil``, and whether
  zeros around the picture count in the mean, ``count_padding``;
- ``"activation"``: ``activation``;
- ``"dropout"``: ``rate``; ``"resize"``: ``interpolation``, ``antialias``;
- ``"padding"``: ``padding``, ``mode``; ``"flatten"``.

An activation is a tuple: its name and its numbers, such as ``("leaky relu", 0.01)``. Layers with
weights have ``dtype``, in which they compute.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["FAMILIES", "differences", "in_words"]

FAMILIES = (
    "convolution",
    "transposed convolution",
    "dense",
    "batch norm",
    "layer norm",
    "group norm",
    "max pool",
    "average pool",
    "global average pool",
    "activation",
    "dropout",
    "flatten",
    "padding",
    "resize",
    "add",
    "concatenate",
    "identity",
)

# What matters in training alone, or is no setting.
_NO_DIFFERENCE = {"momentum", "rate", "family"}


def differences(one: Mapping[str, Any], two: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Give the settings in which two layers differ, of those that both tell and that matter."""
    return {
        key: (one[key], two[key])
        for key in one
        if key in two and key not in _NO_DIFFERENCE and not _alike(one[key], two[key])
    }


def in_words(value: Any) -> str:
    """Write a setting: ``leaky relu of 0.01``, ``1 + 1, 1 + 1``, ``2 x 2``."""
    if isinstance(value, tuple) and value and isinstance(value[0], str):
        name, *numbers = value
        return f"{name} of {', '.join(f'{n:g}' for n in numbers)}" if numbers else str(name)
    if isinstance(value, tuple) and value and isinstance(value[0], tuple):
        return ", ".join(f"{before} + {after}" for before, after in value)
    if isinstance(value, tuple):
        return " x ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _alike(one: Any, two: Any) -> bool:
    if isinstance(one, tuple) and isinstance(two, tuple):
        return len(one) == len(two) and all(map(_alike, one, two))
    if isinstance(one, float) and isinstance(two, (int, float)):
        return abs(one - two) <= 1e-6 * max(abs(one), abs(two))
    return bool(one == two)
