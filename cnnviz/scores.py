"""The score of each class for each picture, whatever the shape in which a network gives it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cnnviz.adapter import LOGITS, Ops

__all__ = ["ClassScore", "class_scores", "places_note"]


def class_scores(ops: Ops[Any], logits: Any) -> Any:
    """Give ``(N, C)``: the mean over places or proposals where a network scores each of them."""
    middle = tuple(range(1, len(logits.shape) - 1))
    return ops.mean(logits, axis=middle) if middle else logits


def places_note(logits: Any) -> str | None:
    """Say in words over what the mean is taken; None where there is one score a class."""
    middle = tuple(int(n) for n in logits.shape[1:-1])
    if math.prod(middle) == 1:
        return None
    return f"the score is the mean over {' x '.join(map(str, middle))} places"


@dataclass(frozen=True)
class ClassScore:
    """The score of a class for each picture; of the predicted one if no weights are given."""

    ops: Ops[Any]

    def __call__(self, activations: Mapping[str, Any], *weights: Any) -> Any:
        """Give ``(N,)``; weights are one-hot, ``(N, C)``."""
        scores = class_scores(self.ops, activations[LOGITS])
        if not weights:
            # The derivative of the maximum is that of the predicted class: one forward serves.
            return self.ops.max(scores, axis=(1,))
        return self.ops.sum(scores * weights[0], axis=(1,))
