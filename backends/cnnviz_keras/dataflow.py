"""How one tensor of a run depends on others, as far as calls hand on the very same tensors.

What is computed between layers by a framework's own operators cannot be seen. Such a tensor
is taken to be made of what finished last before it was used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras

from cnnviz import fields, structures
from cnnviz.fields import Field
from cnnviz_keras.calls import Call, is_tensor
from cnnviz_keras.windows import WHOLE, field_after

__all__ = ["Dataflow"]

Tensor = Any


class Dataflow:
    """What is known of each tensor of a run.

    Parameters
    ----------
    calls : sequence of Call
        In the order in which they finished; those within a call come before it.
    picture : tensor
    first : bool
        Whether the channels of the picture come before its places.
    """

    def __init__(self, calls: Sequence[Call], picture: Tensor, first: bool) -> None:
        self._rank = len(picture.shape)
        self._formats = first
        self._fields: dict[int, Field] = {id(picture): fields.first(self._rank - 2)}
        self._first: dict[int, bool] = {id(picture): first}
        self._turned: dict[int, bool] = {}
        # What a tensor was made of for certain, and what perhaps.
        self._made: dict[int, tuple[list[Tensor], list[Tensor]]] = {id(picture): ([], [])}
        # What follows from a tensor of which it could not be seen how it was made.
        self._guessed: set[int] = set()
        # Tensors are told apart by id, so none may be freed meanwhile.
        self._kept = [picture]
        last = picture
        within = _within_leaves(calls)
        for i, call in enumerate(calls):
            if i in within:
                continue
            outputs = [x for _, x in structures.parts(call.output, is_tensor)]
            inner = [c for c in calls[call.inner : i] if c.source == "layer"]
            fresh = [x for x in outputs if id(x) not in self._made]
            inputs = self._inputs(call, last)
            for x in fresh:
                self._follow(call, inputs, inner, x)
            if isinstance(call.layer, WHOLE):
                for x in self._given(inner):
                    if id(x) in self._guessed:
                        self._fields[id(x)] = fields.ALL
            if outputs and call.source == "layer":
                last = outputs[0]

    def field(self, x: Tensor) -> Field:
        """Give the receptive field of one place of a tensor."""
        return self._fields.get(id(x))

    def channels_first(self, x: Tensor) -> bool:
        """Say whether the channels of a tensor come before its places."""
        return self._first.get(id(x), self._formats) and len(x.shape) == self._rank

    def turned(self, x: Tensor) -> bool:
        """Say whether a permutation has put the tokens of a tensor on its last axis."""
        return self._turned.get(id(x), False)

    def way_to(self, score: Tensor) -> Callable[[Tensor | None], bool | None]:
        """Give a function that says whether the scores depend on a tensor, None if unknown."""
        certain, perhaps = self._reached([score], False), self._reached([score], True)
        whole = certain == perhaps and certain <= self._made.keys()

        def leads(x: Tensor | None) -> bool | None:
            if x is None:
                return None
            if id(x) in certain:
                return True
            return False if whole and id(x) not in perhaps else None

        return leads

    def _reached(self, waiting: list[Tensor], guesses: bool) -> set[int]:
        """Give all that tensors were made of, with or without what is only guessed."""
        found: set[int] = set()
        while waiting:
            x = waiting.pop()
            if id(x) not in found:
                found.add(id(x))
                certain, perhaps = self._made.get(id(x), ([], []))
                waiting.extend([*certain, *perhaps] if guesses else certain)
        return found

    def _inputs(self, call: Call, last: Tensor) -> list[Tensor]:
        """Give the tensors that went into a call; what nobody is known to have made is guessed."""
        inputs = [x for x in keras.tree.flatten(call.args) if is_tensor(x)]
        for x in inputs:
            if id(x) in self._made:
                continue
            self._kept.append(x)
            self._guessed.add(id(x))
            self._made[id(x)] = [], [last]
            alike = len(x.shape) == len(last.shape)
            self._fields[id(x)] = (
                # Whatever came between, places may have been moved.
                fields.ALL
                if len(x.shape) <= 2
                else fields.unplaced(self._fields.get(id(last)))
                if alike
                else None
            )
            self._first[id(x)] = self._first.get(id(last), self._formats)
            self._turned[id(x)] = alike and self._turned.get(id(last), False)
        return inputs

    def _follow(
        self, call: Call, inputs: Sequence[Tensor], inner: Sequence[Call], x: Tensor
    ) -> None:
        """Note how a call has made a tensor that none before it gave."""
        # A layer that holds others and computes besides them is made of what it was given and
        # of what they gave.
        parts = self._given(inner)
        known = [(y, self._fields.get(id(y))) for y in (*inputs, *parts) if len(y.shape) > 1]
        self._first[id(x)] = self._format_of(call, inputs, x)
        if parts and not isinstance(call.layer, WHOLE):
            before = fields.unplaced(fields.union([field for _, field in known]))
            self._fields[id(x)] = fields.ALL if len(x.shape) <= 2 else before
        else:
            first = self._first[id(x)]
            self._fields[id(x)] = field_after(call.layer, known, x, self._rank, first)
        self._made[id(x)] = list(inputs), parts
        self._turned[id(x)] = self._turned_by(call, inputs, x)
        if any(id(y) in self._guessed for y in inputs):
            self._guessed.add(id(x))
        self._kept.append(x)

    def _given(self, calls: Sequence[Call]) -> list[Tensor]:
        return [x for call in calls for _, x in structures.parts(call.output, is_tensor)]

    def _format_of(self, call: Call, inputs: Sequence[Tensor], x: Tensor) -> bool:
        told = getattr(call.layer, "data_format", None)
        if told in ("channels_first", "channels_last"):
            return bool(told == "channels_first")
        before = next(
            (self._first[id(y)] for y in inputs if len(y.shape) == len(x.shape)), self._formats
        )
        if len(x.shape) != self._rank:
            return before
        order = _order(call.layer)
        if order is None:
            return before
        return order.index(1 if before else self._rank - 1) == 1

    def _turned_by(self, call: Call, inputs: Sequence[Tensor], x: Tensor) -> bool:
        before = any(self._turned.get(id(y), False) for y in inputs if len(y.shape) == 3)
        if len(x.shape) != 3 or self._rank == 3:
            return False
        return before != (_order(call.layer) == (0, 2, 1))


def _order(layer: Any) -> tuple[int, ...] | None:
    """Give the order into which a layer or an operation puts axes."""
    if isinstance(layer, keras.layers.Permute):
        return (0, *layer.dims)
    axes = getattr(layer, "axes", None) if type(layer).__name__ == "Transpose" else None
    return None if axes is None else tuple(axes)


def _within_leaves(calls: Sequence[Call]) -> set[int]:
    """Give the functions called within layers that hold no other: they are part of those."""
    found: set[int] = set()
    for i, call in enumerate(calls):
        inner = range(call.inner, i)
        if call.source == "layer" and all(calls[k].source != "layer" for k in inner):
            found.update(inner)
    return found
