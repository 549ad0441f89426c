"""The score of each class for each picture, whatever the shape in which a network gives it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cnnviz.adapter import LOGITS, Ops

__all__ = ["ClassScore", "ScoreKind", "class_scores", "places_note"]

ScoreKind = Literal["logit", "probability"]
"""The score of a class before any softmax or sigmoid, or after it."""


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
    """The score of a class for each picture; of the predicted one if no weights are given.

    Attributes
    ----------
    ops : Ops
    link : {"identity", "softmax", "sigmoid"}
        What the scores go through before they are weighted.
    """

    ops: Ops[Any]
    link: Literal["identity", "softmax", "sigmoid"] = "identity"

    def __call__(self, activations: Mapping[str, Any], *weights: Any) -> Any:
        """Give ``(N,)`` for weights ``(N, C)``, such as one-hot; ``(N, K)`` for ``(N, K, C)``."""
        ops = self.ops
        scores = self._linked(class_scores(ops, activations[LOGITS]))
        if not weights:
            # The derivative of the maximum is that of the predicted class: one forward serves.
            return ops.max(scores, axis=(1,))
        if len(weights[0].shape) == 3:
            scores = ops.reshape(scores, (int(scores.shape[0]), 1, int(scores.shape[1])))
            return ops.sum(scores * weights[0], axis=(2,))
        return ops.sum(scores * weights[0], axis=(1,))

    def _linked(self, scores: Any) -> Any:
        ops = self.ops
        if self.link == "sigmoid":
            # By tanh, which does not overflow.
            return ops.tanh(scores * 0.5) * 0.5 + 0.5
        if self.link == "softmax":
            powers = ops.exp(scores - ops.max(scores, axis=(1,), keepdims=True))
            return powers / ops.sum(powers, axis=(1,), keepdims=True)
        return scores
