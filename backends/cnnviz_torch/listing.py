"""The layers of a model, found by running one blank picture through it."""

from __future__ import annotations

import threading
from collections import Counter, deque
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from cnnviz import fields, structures
from cnnviz.adapter import Layer
from cnnviz_torch.axes import place_of, space_in
from cnnviz_torch.facts import Facts
from cnnviz_torch.recording import ACTIVATIONS, FunctionCalls, Place, is_tensor
from cnnviz_torch.tensors import kind
from cnnviz_torch.tracing import Tracer

__all__ = ["Listing", "list_layers"]

_FINAL = {
    "Softmax": "softmax",
    "Softmax2d": "softmax",
    "LogSoftmax": "softmax",
    "Sigmoid": "sigmoid",
}


@dataclass
class Listing:
    """What a run has told of a model.

    Attributes
    ----------
    layers : tuple of Layer
    places : dict of str to Place
        Of each layer, by its name, and of every output, by its tap.
    output : Place or None
        The output that holds the class scores; None if the model returns no tensor.
    logits : Place or None
        Where they are before a final softmax.
    classes : int or None
    dense : bool
    final_activation : str or None
    changing : set of Place
        Of layers whose tensors are worked on in place by what comes after them.
    """

    layers: tuple[Layer, ...] = ()
    places: dict[str, Place] = field(default_factory=dict)
    output: Place | None = None
    logits: Place | None = None
    classes: int | None = None
    dense: bool = False
    final_activation: str | None = None
    changing: set[Place] = field(default_factory=set)


@dataclass(frozen=True)
class _Finished:
    """One call of one module that has ended; its tensors are kept only if they may be scores."""

    address: str
    number: int
    module: nn.Module
    parts: tuple[tuple[str, torch.Size], ...]
    facts: tuple[Facts | None, ...]
    kept: dict[str, Tensor]


@dataclass(frozen=True)
class _Activation:
    """One call of a softmax or its like."""

    after: int
    name: str
    number: int
    argument: Any
    given: Any


def list_layers(
    module: nn.Module, run: Any, blank: Tensor, wanted: str | int | None, name: str
) -> Listing:
    """Run a model once, as it is, and list what its layers gave.

    Parameters
    ----------
    module : torch.nn.Module
    run : callable
        ``run(picture)``: the model with all that it takes.
    blank : Tensor
        The picture, ``(1, C, *sides)``.
    wanted : str, int or None
        Which output, or which layer, holds the class scores.
    name : str
        What to call the model in an error.

    Raises
    ------
    InvalidOption
        There is no such output.
    """
    probe = _Probe(module, blank, wanted)
    try:
        output = probe.run(run)
    finally:
        # Again, since an interrupt may come in the clean-up itself.
        probe.remove()
    return _listed(probe, output, wanted, name)


class _Probe:
    """Hooks on every module, for one run."""

    def __init__(self, module: nn.Module, blank: Tensor, wanted: str | int | None) -> None:
        # The parts of TorchScript take no hooks, and it runs where nothing can be followed.
        scripted = isinstance(module, torch.jit.ScriptModule)
        parts = [] if scripted else module.named_modules()
        self.names = {part: address for address, part in parts if address}
        self.finished: list[_Finished] = []
        # Those of attention are many, and what ends a network comes last.
        self.activations: deque[_Activation] = deque(maxlen=4)
        self._wanted = str(wanted)
        self.blank = blank
        self.tracer = None if scripted else Tracer(blank)
        self._functions = FunctionCalls(self._note_activation)
        self._functions.restart()
        self._numbers: Counter[str] = Counter()
        self._thread = threading.get_ident()

    def run(self, run: Any) -> Any:
        try:
            for part in self.names:
                part.register_forward_hook(self._note)
            with ExitStack() as modes:
                if self.tracer is not None:
                    modes.enter_context(self._functions)
                    modes.enter_context(self.tracer)
                return run(self.blank)
        finally:
            self.remove()

    def remove(self) -> None:
        for part in self.names:
            ours = [k for k, hook in part._forward_hooks.items() if hook == self._note]
            for key in ours:
                del part._forward_hooks[key]

    def facts(self, x: Tensor) -> Facts | None:
        return self.tracer.facts(x) if self.tracer is not None else None

    def _note(self, module: nn.Module, args: Any, output: Any) -> None:
        # Another thread may run the same model meanwhile.
        if threading.get_ident() != self._thread:
            return
        address = self.names[module]
        number = self._numbers[address]
        self._numbers[address] += 1
        tensors = dict(structures.parts(output, is_tensor))
        if self.tracer is not None:
            for x in tensors.values():
                self.tracer.finish(x, len(self.finished))
        scores = kind(module) in _FINAL or self._wanted.startswith(address)
        self.finished.append(
            _Finished(
                address,
                number,
                module,
                tuple((keys, x.shape) for keys, x in tensors.items()),
                tuple(self.facts(x) for x in tensors.values()),
                tensors if scores else {},
            )
        )
        self._functions.restart()

    def _note_activation(self, name: str, number: int, argument: Any, given: Any) -> None:
        after = len(self.finished) - 1
        self.activations.append(_Activation(after, name, number, argument, given))


def _listed(probe: _Probe, output: Any, wanted: str | int | None, name: str) -> Listing:
    found = Listing()
    axes = _Channels(probe)
    calls = Counter(call.address for call in probe.finished)
    rows: list[tuple[Layer, int]] = []
    for i, call in enumerate(probe.finished):
        address = call.address if calls[call.address] == 1 else f"{call.address}:{call.number}"
        parts: list[Any] = [*zip(call.parts, call.facts, strict=True)]
        for (keys, shape), facts in parts or [(("", None), None)]:
            row = address + (keys if len(parts) > 1 else "")
            axis, grid, before = axes.of(call.module, shape, facts) if parts else (None, (), 0)
            place = Place("layer", call.address, call.number, keys, axis)
            found.places[row] = place
            if probe.tracer is not None and i in probe.tracer.changed:
                found.changing.add(place)
            layer = Layer(
                row,
                kind(call.module),
                None if shape is None else (None, *_moved(shape, axis)[1:]),
                sum(p.numel() for p in call.module.parameters()),
                leaf=next(call.module.children(), None) is None,
                grid=grid,
                class_tokens=before,
                rows=shape[0] if shape else 1,
                field=None if facts is None else _placed(facts, grid),
            )
            rows.append((layer, i))
    score = _choose_output(found, probe, axes, output, wanted, name)
    bits = 0
    if score is not None:
        facts = probe.facts(score)
        bits = facts.layers if facts is not None else 0
        _find_activation(found, probe, score)
    # Where the way was lost, as in what is computed outside of torch, it stays unknown.
    found.layers = tuple(
        replace(layer, leads_to_score=True) if bits >> i & 1 else layer for layer, i in rows
    )
    return found


def _placed(facts: Facts, grid: tuple[int, ...] | None) -> fields.Field:
    """Give a field whose places are those of the grid, or whose places are not known."""
    _, laid, _ = place_of(facts.axes)
    whole = not any(map(space_in, facts.axes[:1]))
    return facts.field if grid and laid == grid and whole else fields.unplaced(facts.field)


def _choose_output(
    found: Listing,
    probe: _Probe,
    axes: _Channels,
    output: Any,
    wanted: str | int | None,
    name: str,
) -> Tensor | None:
    """Find the tensor of class scores, and a tap for every output."""
    outputs = dict(structures.parts(output, is_tensor))
    for keys, x in outputs.items():
        axis, _, _ = axes.of(None, x.shape, probe.facts(x))
        found.places[f"<output>{keys}"] = Place("output", part=keys, axis=axis)
    tap = structures.chosen_tap(output, is_tensor, wanted, layers=found.places, model=name)
    if tap is None:
        return None
    place = found.output = found.places[tap]
    if place.source == "output":
        score: Tensor = outputs[place.part]
    else:
        score = next(
            call.kept[place.part]
            for call in probe.finished
            if (call.address, call.number) == (place.address, place.call)
        )
    found.logits = place
    found.dense = score.ndim > 2 or (score.ndim == 2 and len(score) > 1)
    found.classes = _moved(score.shape, place.axis)[-1] if score.ndim > 1 else 1
    return score


def _find_activation(found: Listing, probe: _Probe, score: Tensor) -> None:
    """Step over a softmax or a sigmoid that made the scores, be it a layer or a function."""
    for call in reversed(probe.finished):
        name = kind(call.module)
        if name in _FINAL and any(_same(x, score) for x in call.kept.values()):
            found.final_activation = _FINAL[name]
            axis = found.logits.axis if found.logits else None
            found.logits = Place("argument", call.address, call.number, axis=axis)
            return
    for made in reversed(probe.activations):
        if isinstance(made.argument, Tensor) and _same(made.given, score):
            found.final_activation = ACTIVATIONS[made.name]
            after = probe.finished[made.after] if made.after >= 0 else None
            axis = found.logits.axis if found.logits else None
            found.logits = Place(
                "function",
                after.address if after else "",
                after.number if after else 0,
                axis=axis if made.argument.ndim == score.ndim else None,
                function=made.name,
                number=made.number,
            )
            return


def _same(a: Any, b: Tensor) -> bool:
    """Say whether two tensors are one, or one is a view of all of the other."""
    return isinstance(a, Tensor) and a.data_ptr() == b.data_ptr() and a.numel() == b.numel()


class _Channels:
    """Where the channels of each tensor are: by how it was made, else by who made it."""

    def __init__(self, probe: _Probe) -> None:
        self._rank = probe.blank.ndim
        self._told: dict[torch.Size, tuple[int, tuple[int, ...], int]] = {}

    def of(
        self, module: nn.Module | None, shape: torch.Size, facts: Facts | None
    ) -> tuple[int | None, tuple[int, ...] | None, int]:
        """Give the axis of the channels (None if last), the grid and the tokens before it."""
        if len(shape) < 3:
            return None, (), 0
        axis, grid, before = place_of(facts.axes) if facts is not None else (None, None, 0)
        if axis is not None and grid is not None:
            if grid:
                self._told[shape] = axis, grid, before
            elif shape in self._told and self._told[shape][0] == axis:
                # The way through was lost; what came before had the same shape.
                _, grid, before = self._told[shape]
        elif shape in self._told:
            axis, grid, before = self._told[shape]
        else:
            axis, grid = self._by_module(module, len(shape)), ()
            if axis == 1 and len(shape) == self._rank:
                grid = tuple(shape[2:])
            elif module is not None:
                # What follows a dense layer on something else than the picture, such as a
                # table of positions.
                self._told[shape] = axis, (), 0
        return (None if axis == len(shape) - 1 else axis), grid, before

    def _by_module(self, module: nn.Module | None, rank: int) -> int:
        """Guess as torch's own layers lay their axes."""
        if isinstance(module, (nn.Linear, nn.LayerNorm, nn.Embedding, nn.MultiheadAttention)):
            return rank - 1
        if isinstance(module, (nn.modules.batchnorm._BatchNorm, nn.modules.conv._ConvNd)):
            return 1
        return 1 if rank == self._rank else rank - 1


def _moved(shape: torch.Size, axis: int | None) -> tuple[int, ...]:
    sides = list(shape)
    if axis is not None:
        sides.append(sides.pop(axis))
    return tuple(sides)
