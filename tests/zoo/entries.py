"""What an entry of the zoo says: how to build a network, and what must be seen of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

CHECKS = (
    "opened",
    "layers",
    "taps",
    "gradients",
    "scores",
    "cam",
    "preprocessing",
    "leaks",
    # Last: what the other checks leave behind is seen too.
    "untouched",
)


@dataclass(frozen=True)
class Entry:
    """One network.

    `truth` makes of the built model what the framework itself runs, such as the network within
    a wrapper. `given` is a preprocessing for `adapt`; where it is None it must be found, and be
    `found` if that says something. `logits` is the layer whose output the class scores are
    where the model ends in a softmax or has no output of scores, `part` their place in what the
    model (or that layer) gives. `cam` is a pattern for the default layer of Grad-CAM. `swapped`
    is a pattern for dense layers that mix tokens, so that channels are not their last axis.
    """

    group: str
    name: str
    build: Callable[[], Any]
    input_shape: tuple[int, ...] = (96, 96, 3)
    truth: Callable[[Any], Any] | None = None
    output: str | int | None = None
    other_inputs: Mapping[str, Any] | None = None
    given: Any = None
    found: Any = None
    # Its own map from [0, 255] to what it takes.
    seen: Callable[[Any], Any] | None = None
    # Whether the rows of some layers are what it found in a picture.
    proposals: bool = False
    part: str = ""
    logits: str | None = None
    class_axis: int | None = None
    final: str | None = None
    cam: str | None = None
    batch: int = 2
    swapped: str | None = None
    # torch's own backward is wrong for one network unless pictures lie with channels last.
    channels_last: bool = False
    dtype: str = "float64"
    tolerance: float = 1e-6
    refused: str | None = None
    # On what Keras runs.
    engine: str = "tensorflow"
    # Not told what the network tells by itself.
    tells_shape: bool = False
    skip: Mapping[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return f"{self.group}:{self.name}".replace(" ", "_")

    def options(self) -> dict[str, Any]:
        """What `cnnviz.adapt` is told."""
        told = {
            "preprocessing": self.given,
            "input_shape": None if self.tells_shape else self.input_shape,
            "output": self.output,
            "other_inputs": self.other_inputs,
        }
        return {key: value for key, value in told.items() if value is not None}


@dataclass
class TrueCall:
    """One call of one layer that the framework ran, and the tensors that it gave."""

    address: str
    number: int
    parts: dict[str, Any]
    leaf: bool
    axes: dict[str, int | None] = field(default_factory=dict)
    """Where the channels of each part are; a missing one could not be decided."""
    gradients: dict[str, Any] = field(default_factory=dict)


@dataclass
class Truth:
    """What the framework itself computes for one picture and one class."""

    calls: list[TrueCall]
    scores: Any
    """As the framework lays them, the class axis last."""
    input_gradient: Any
    target: int

    def names(self) -> list[tuple[str, TrueCall, str | None]]:
        """The names that the layers must have, with the call and the part of each."""
        counts: dict[str, int] = {}
        for call in self.calls:
            counts[call.address] = counts.get(call.address, 0) + 1
        names: list[tuple[str, TrueCall, str | None]] = []
        for call in self.calls:
            plain = call.address if counts[call.address] == 1 else f"{call.address}:{call.number}"
            if len(call.parts) < 2:
                names.append((plain, call, next(iter(call.parts), None)))
            else:
                names += [(plain + keys, call, keys) for keys in call.parts]
        return names


def tensors(value: Any, is_tensor: Callable[[Any], bool], keys: str = "") -> dict[str, Any]:
    """Every tensor in what a layer gave, by the keys that lead to it."""
    if is_tensor(value):
        return {keys: value}
    if isinstance(value, Mapping):
        items = list(value.items())
    elif hasattr(value, "_fields"):
        items = [(name, getattr(value, name)) for name in value._fields]
    elif isinstance(value, (list, tuple)):
        items = list(enumerate(value))
    elif hasattr(value, "__dataclass_fields__"):
        items = [(name, getattr(value, name)) for name in value.__dataclass_fields__]
    else:
        items = []
    found: dict[str, Any] = {}
    for key, inner in items:
        found |= tensors(inner, is_tensor, f"{keys}[{key}]")
    return found
