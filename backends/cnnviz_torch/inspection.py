"""One module of a network by itself: what goes into it, and what it makes of something else."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from cnnviz import structures
from cnnviz.errors import InvalidOption, TapNotReached, UnsupportedModel
from cnnviz_torch.recording import Lender, Place, Stop, is_tensor
from cnnviz_torch.tensors import channels_last, channels_native

__all__ = ["applied", "entering", "in_float64"]


def entering(
    module: nn.Module,
    run: Callable[[], Any],
    places: Mapping[str, Place],
    ranks: Mapping[str, int],
    lender: Lender,
) -> dict[str, Tensor]:
    """Run a network, and give what goes into layers, channels last.

    Parameters
    ----------
    module : torch.nn.Module
    run : callable
        Runs it.
    places : mapping of str to Place
        Of each layer, by its name.
    ranks : mapping of str to int
        How many axes each of them gives.
    lender : Lender
        Says what is kept of the tensors.
    """
    wanted: dict[str, dict[int, list[str]]] = {}
    for name, place in places.items():
        wanted.setdefault(place.address, {}).setdefault(place.call, []).append(name)
    counts: Counter[str] = Counter()
    waiting = set(places)
    seen: dict[str, Tensor] = {}

    def watch(address: str) -> Callable[..., None]:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
            given = (*args, *kwargs.values())
            # By keyword, it may come after numbers.
            tensors = [x for x in given if isinstance(x, Tensor)]
            several = len(list(structures.parts(given, is_tensor))) > 1
            for name in wanted[address].get(counts[address], ()):
                if tensors and not several:
                    axis = _axis(places[name], tensors[0].ndim, ranks[name])
                    kept = lender.take(places[name], tensors[0])
                    seen[name] = channels_last(kept, axis)
                waiting.discard(name)
            counts[address] += 1
            if not waiting:
                raise Stop

        return hook

    handles = []
    try:
        for address in wanted:
            part = module.get_submodule(address)
            handles.append(part.register_forward_pre_hook(watch(address), with_kwargs=True))
        with suppress(Stop):
            run()
    finally:
        for handle in handles:
            handle.remove()
    if waiting:
        missing = ", ".join(sorted(map(repr, waiting)))
        raise TapNotReached(f"the network ran without passing through {missing}")
    return seen


def applied(module: nn.Module, name: str, place: Place, rank: int, x: Tensor) -> Tensor:
    """Run one layer on a tensor as `entering` gives it, and give what its tap would."""
    native = channels_native(x, _axis(place, x.ndim, rank))
    try:
        # Contiguous as torch has it, for layers that use view().
        given = native.clone(memory_format=torch.contiguous_format)
        output = module.get_submodule(place.address)(given)
    except Exception as error:
        shape = " x ".join(map(str, x.shape))
        raise InvalidOption(
            f"{name!r} does not take a tensor of {shape}: {_line(error)}"
        ) from error
    found: Tensor = structures.part_of(output, place.part)
    return channels_last(found, place.axis)


def in_float64(module: nn.Module, name: str) -> nn.Module:
    """Copy a network to the processor in float64.

    Raises
    ------
    UnsupportedModel
        It cannot be copied.
    """
    try:
        # What is made in inference mode can never be differentiated.
        with torch.inference_mode(False), torch.no_grad():
            return copy.deepcopy(module).to("cpu").double()
    except Exception as error:
        raise UnsupportedModel(f"{name} cannot be copied to float64: {_line(error)}") from error


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _axis(place: Place, rank: int, given: int) -> int | None:
    """Say where the channels of what goes in are; a layer that keeps its axes keeps them."""
    if rank == given:
        return place.axis
    return 1 if rank > 3 else None
