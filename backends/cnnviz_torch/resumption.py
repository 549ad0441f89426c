"""A run that was left at a layer, and goes on from there with other activations."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn

from cnnviz import structures
from cnnviz.errors import CnnvizError, InvalidImage
from cnnviz_torch.recording import Place, Recording, is_tensor
from cnnviz_torch.replicas import Forward, around, replica
from cnnviz_torch.tensors import channels_native

__all__ = ["Resumption"]

Run = Callable[[nn.Module, Tensor], Any]


class Resumption:
    """One picture's run up to a layer, and as many runs from there as are asked for.

    What modules before the layer gave is kept, only that of the outermost of them, and given
    again in place of calling them. This is done in a replica, so the model itself is not
    touched, and several threads may go on at once.

    Parameters
    ----------
    module : torch.nn.Module
    run : callable
        ``run(module, pictures)``: the model with all that it takes.
    at : Place
        Of a layer.
    places : mapping of str to Place
        Of each tap.
    picture : Tensor
        ``(1, H, W, C)``.
    name : str
        What to call the model and the layer in an error, as in ``ResNet ... 'layer4'``.
    """

    def __init__(
        self,
        module: nn.Module,
        run: Run,
        at: Place,
        places: Mapping[str, Place],
        picture: Tensor,
        name: str,
    ) -> None:
        self._module, self._run, self._at, self._places = module, run, at, places
        self._picture = picture.detach().clone()
        self._name = name
        self._script = _Script()
        self._numbers: Counter[str] = Counter()
        # Whether modules are spared, and whether the way around the layer has a row for each
        # activation; the first that works. One row is least, but some join rows to rows, and
        # a module that cannot be replaced by its copy is to run itself.
        self._ways = [(True, False), (True, True), (False, True)]
        self._first()

    def go_on(self, activation: Tensor) -> tuple[dict[str, Tensor], int]:
        """Give the tensor at each tap, channels last, and how many pictures they stand for.

        Raises
        ------
        InvalidImage
            The activations are not such as the layer gives, or the model does not take them.
        """
        rows, *shape = self._shape
        if list(activation.shape[1:]) != shape or not len(activation) or len(activation) % rows:
            raise InvalidImage(
                f"{self._name} has activations (N, {', '.join(map(str, shape))}),"
                f" not {tuple(activation.shape)}"
            )
        copies = len(activation) // rows
        new = channels_native(activation.detach(), self._at.axis)
        while True:
            way = self._ways[0]
            last = len(self._ways) == 1
            try:
                found = self._attempt(new, copies, *way)
                if last or all(x.ndim and len(x) % copies == 0 for x in found.values()):
                    return found, copies
            except Exception as error:
                if last:
                    if isinstance(error, CnnvizError):
                        raise
                    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                    raise InvalidImage(
                        f"{self._name} does not go on with {copies} activations: {reason}"
                    ) from error
            # Another thread may have gone this step already.
            self._ways = [other for other in self._ways if other != way] or [way]

    def _first(self) -> None:
        """Run the picture up to the layer; the model itself if its replica does not get there."""
        self._twin = replica(self._module)
        undo = around(self._twin, self._script.recorded)
        try:
            self._reach(self._twin)
        except Exception:  # noqa: BLE001 - the model itself then tells whose fault it is
            self._ways = [(False, False), (False, True)]
            self._reach(self._module)
        undo()

    def _reach(self, module: nn.Module) -> None:
        counted = {self._at.address, *(p.address for p in self._places.values() if p.address)}
        recording = Recording(module, {"": self._at}, (), counted)
        own = recording.run(lambda: self._run(module, self._picture))[""]
        self._shape = tuple(own.shape)
        native = channels_native(own, self._at.axis)
        self._layout = torch.contiguous_format
        if native.ndim == 4 and not native.is_contiguous():
            self._layout = torch.channels_last
        assert recording.numbers is not None
        # As they were when the layer was about to be noted.
        self._numbers = recording.numbers - Counter([self._at.address])

    def _attempt(self, new: Tensor, copies: int, spared: bool, wide: bool) -> dict[str, Tensor]:
        picture = self._picture.expand(copies if wide else 1, *self._picture.shape[1:])
        module, replay = self._module, None
        if spared:
            module = replica(self._twin)
            replay = _Replay(self._script, copies if wide else 1)
            around(module, replay.replayed)
        # What follows may work in place.
        new = new.clone(memory_format=self._layout)
        recording = _Resumed(module, self._places, self._at, new, self._numbers, replay)
        return recording.run(lambda: self._run(module, picture))


class _Resumed(Recording):
    """Record from where what a layer gives is replaced; what came before is not recorded."""

    def __init__(
        self,
        module: nn.Module,
        places: Mapping[str, Place],
        at: Place,
        new: Tensor,
        numbers: Counter[str],
        replay: _Replay | None,
    ) -> None:
        super().__init__(module, places, ())
        self.numbers = None
        self._at, self._new, self._before, self._replay = at, new, numbers, replay
        self._calls = 0

    def __enter__(self) -> Recording:
        # Before the others, which are to see what is given in its place.
        self._attach(self._at.address, self._replace)
        return super().__enter__()

    def _replace(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        if threading.get_ident() != self._thread or self.numbers is not None:
            return None
        if self._replay is not None:
            reached = self._replay.finish()
        else:
            reached = self._calls == self._at.call
            self._calls += 1
        if not reached:
            return None
        self.numbers = self._before.copy()
        return structures.with_part(output, self._at.part, self._new)


@dataclass
class _Step:
    """One call of a module: what it gave, or nothing if it is to be run again."""

    address: str
    given: Any = None


class _Script:
    """The calls before a layer, each before those within it; what is kept has none within it."""

    def __init__(self) -> None:
        self.steps: list[_Step] = []

    def recorded(self, address: str, forward: Forward) -> Forward:
        """Give a forward that notes its calls."""

        @wraps(forward)
        def noted(*args: Any, **kwargs: Any) -> Any:
            step = _Step(address)
            self.steps.append(step)
            within = len(self.steps)
            taken = _tensors((args, kwargs))
            versions = [_version(x) for x in taken]
            output = forward(*args, **kwargs)
            after = _tensors((args, kwargs))
            # A module that changes what it was given, or hands it on, is to do so again: a way
            # around it may lead through the same tensor.
            same = [id(x) for x in taken] == [id(x) for x in after]
            if same and versions == [_version(x) for x in taken] and _apart(output, taken):
                step.given = _copied(output)
                del self.steps[within:]
            return output

        return noted


class _Replay:
    """Give again what modules gave, in one run up to the end of the script.

    Parameters
    ----------
    script : _Script
    copies : int
        How often to repeat what has one row.
    """

    def __init__(self, script: _Script, copies: int) -> None:
        self._steps, self._copies = script.steps, copies
        self._next = 0
        self._finished = False

    def finish(self) -> bool:
        """Say whether all calls of the script were made; those that follow run as they are."""
        self._finished = self._next == len(self._steps)
        return self._finished

    def replayed(self, address: str, forward: Forward) -> Forward:
        """Give a forward that gives what the script says."""

        @wraps(forward)
        def spared(*args: Any, **kwargs: Any) -> Any:
            if self._finished:
                return forward(*args, **kwargs)
            step = self._steps[self._next] if self._next < len(self._steps) else None
            if step is None or step.address != address:
                raise RuntimeError(f"the run went another way than before: to {address!r}")
            self._next += 1
            if step.given is None:
                return forward(*args, **kwargs)
            return _copied(step.given, self._copies)

        return spared


def _tensors(value: Any) -> list[Tensor]:
    return [x for _, x in structures.parts(value, is_tensor)]


def _version(x: Tensor) -> int | None:
    return None if x.is_inference() else x._version


def _apart(output: Any, taken: list[Tensor]) -> bool:
    """Say whether an output is made of tensors, none of which shares memory."""
    given = [x.untyped_storage().data_ptr() for x in _tensors(output)]
    others = {x.untyped_storage().data_ptr() for x in taken}
    return bool(given) and len({*given} - others) == len(given)


def _copied(output: Any, copies: int = 1) -> Any:
    """Copy the tensors of a structure, since what follows may work in place."""
    for keys, x in structures.parts(output, is_tensor):
        if copies > 1 and x.ndim and len(x) == 1:
            repeated = x.expand(copies, *x.shape[1:]).clone(memory_format=_layout(x))
            output = structures.with_part(output, keys, repeated)
        else:
            output = structures.with_part(output, keys, x.clone())
    return output


def _layout(x: Tensor) -> torch.memory_format:
    last = x.ndim == 4 and not x.is_contiguous()
    return torch.channels_last if last else torch.contiguous_format
