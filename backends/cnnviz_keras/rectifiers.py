"""Other derivatives for ReLU, each a rule from what went in and what came back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras

from cnnviz.adapter import ReluRule

__all__ = ["RULES", "Rule"]

Tensor = Any
Rule = Callable[[Tensor, Tensor, float], Tensor]
"""``rule(x, slope, high)``: the derivative at what went into a ReLU up to a limit."""


def _redirected(x: Tensor, slope: Tensor, high: float) -> Tensor:
    """Pass a derivative through ReLU, redirected where all of a picture's would be zero."""
    ops, zero = keras.ops, slope * 0
    inside = (x > 0) & (x < high)
    plain = ops.where(inside, slope, zero)
    # Up from below, or down from above: what brings a unit back to where it answers.
    towards = inside | ((x <= 0) & (slope > 0)) | ((x >= high) & (slope < 0))
    axes = tuple(range(1, len(x.shape)))
    silent = ops.all(ops.equal(plain, zero), axis=axes, keepdims=True)
    return ops.where(silent, ops.where(towards, slope, zero), plain)


def _guided(x: Tensor, slope: Tensor, high: float) -> Tensor:
    """Pass what is positive of a derivative, where the unit is active."""
    return keras.ops.where((x > 0) & (x < high) & (slope > 0), slope, slope * 0)


def _deconvnet(x: Tensor, slope: Tensor, high: float) -> Tensor:
    """Pass what is positive of a derivative."""
    return keras.ops.where(slope > 0, slope, slope * 0)


RULES: Mapping[ReluRule, Rule] = {
    "redirected": _redirected,
    "guided": _guided,
    "deconvnet": _deconvnet,
}
"""See `cnnviz.adapter.Adapter.gradient`."""
