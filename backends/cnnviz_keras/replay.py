"""A run cut at a tap: what had been computed by then, to go on from there again and again.

Only the outermost calls that had finished are kept, for those within them are not made again.
A trace made once serves every picture: tensors go in and out of it beside what is said here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from cnnviz import structures
from cnnviz_keras.calls import Answer, Call, Key, Place, is_tensor

__all__ = ["Cut", "cut", "repeated"]

Tensor = Any


@dataclass(frozen=True)
class _Kept:
    """What one call gave, without its tensors: where these go, and what was within it."""

    key: Key
    output: Any
    parts: tuple[str, ...]
    within: tuple[Key, ...]


@dataclass(frozen=True, eq=False)
class Cut:
    """What is known, but for tensors, of a run up to a tap.

    Attributes
    ----------
    place : Place
        Of the tap.
    passed : frozenset of Key
        Every call that had finished before, that of the tap left out.
    shape : tuple of int
        Of the tensor at the tap, as the model has it.
    dtype : str
    """

    place: Place
    passed: frozenset[Key]
    shape: tuple[int, ...]
    dtype: str
    _kept: tuple[_Kept, ...]

    def answers(
        self, tensors: Sequence[Tensor], count: int, activation: Tensor
    ) -> dict[Key, Answer]:
        """Give what calls are answered with, for so many activations in place of one.

        Parameters
        ----------
        tensors : sequence of tensor
            As `cut` gave them, or those of another picture.
        count : int
        activation : tensor
            As the model has it.
        """
        left = iter(tensors)
        found = {}
        for kept in self._kept:
            output, at = kept.output, kept.key == self.place.key
            for part in kept.parts:
                given = at and part == self.place.part
                value = activation if given else repeated(next(left), count)
                output = structures.with_part(output, part, value)
            found[kept.key] = Answer(output, kept.within)
        return found


def cut(
    calls: Sequence[Call], place: Place, at: Tensor, output: Any
) -> tuple[Cut, tuple[Tensor, ...]]:
    """Cut a run that ended at a tap into what is known of it and its tensors.

    Parameters
    ----------
    calls : sequence of Call
        All that had finished, in that order.
    place : Place
        Of the tap.
    at : tensor
        What the tap gave.
    output : object
        What the model returned, if it came to that.
    """
    kept, tensors = [], []
    whole = {"activation": at, "output": output}
    outermost = [(call.key, call.output, within) for call, within in _outermost(calls)]
    if place.source in whole:
        outermost.append((place.key, whole[place.source], ()))
    for key, value, within in outermost:
        parts = dict(structures.parts(value, is_tensor))
        for part, tensor in parts.items():
            value = structures.with_part(value, part, None)
            if key != place.key or part != place.part:
                tensors.append(tensor)
        kept.append(_Kept(key, value, tuple(parts), within))
    told = Cut(
        place,
        frozenset(call.key for call in calls) - {place.key},
        tuple(at.shape),
        keras.backend.standardize_dtype(at.dtype),
        tuple(kept),
    )
    return told, tuple(tensors)


def repeated(x: Tensor, count: int) -> Tensor:
    """Give what one picture has to each of many; what has no axis of one picture stays."""
    if len(x.shape) and x.shape[0] == 1 and count != 1:
        return keras.ops.broadcast_to(x, (count, *x.shape[1:]))
    return x


def _outermost(calls: Sequence[Call]) -> Iterator[tuple[Call, tuple[Key, ...]]]:
    """Yield the calls that are within no other that had finished, with those within them."""
    outermost: list[int] = []
    for i, call in enumerate(calls):
        while outermost and outermost[-1] >= call.inner:
            outermost.pop()
        outermost.append(i)
    for i in outermost:
        call = calls[i]
        # What goes into a softmax is answered, not what it gives: it is computed again.
        if call.source != "activation":
            yield call, tuple(inner.key for inner in calls[call.inner : i])
