"""Tensors of a run that are handed out as they lie in memory, where that is safe."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cnnviz_torch.recording import Place

__all__ = ["Loans", "lent_by"]

# So many numbers of a tensor tell whether it was changed.
_SAMPLE = 16


@dataclass(frozen=True)
class _Loan:
    value: Tensor
    version: int
    sample: Tensor


class Loans:
    """What one run hands out without a copy.

    Parameters
    ----------
    changing : collection of Place
        Where a tensor is known to be worked on in place later in the run; these are copied.
    """

    def __init__(self, changing: Collection[Place] = ()) -> None:
        self._changing = changing
        self._loans: dict[Place, _Loan] = {}

    def take(self, place: Place, value: Tensor) -> Tensor:
        """Give a tensor itself, or a copy where it could not be seen whether it was changed."""
        if place in self._changing or not _plain(value):
            return value.clone()
        self._loans[place] = _Loan(value, value._version, _sample(value))
        return value

    def changed(self) -> set[Place]:
        """Say where the run went on to work in place on what was handed out."""
        # A change by way of `.data` has no version.
        return {
            place
            for place, loan in self._loans.items()
            if loan.value._version != loan.version or not loan.sample.equal(_sample(loan.value))
        }

    def kept(self, model: nn.Module) -> set[Place]:
        """Say where the model holds what was handed out, and may write to it in its next run."""
        held = {tensor.untyped_storage().data_ptr() for tensor in _tensors(model)}
        return {
            place
            for place, loan in self._loans.items()
            if loan.value.untyped_storage().data_ptr() in held
        }


def lent_by(
    model: nn.Module,
    run: Callable[[Loans], dict[str, Tensor]],
    places: Mapping[str, Place],
    changing: set[Place],
    keeping: bool = True,
) -> dict[str, Tensor]:
    """Run a model, and give its tensors at places, uncopied where that is safe.

    Parameters
    ----------
    model : torch.nn.Module
    run : callable
        Runs it once, and gives the tensors by name.
    places : mapping of str to Place
    changing : set of Place
        Where the model is known to work in place afterwards; what is found is added.
    keeping : bool
        Whether it may hold what it gave.
    """
    while True:
        loans = Loans(changing)
        found = run(loans)
        changed = loans.changed()
        if not changed:
            break
        changing |= changed
    kept = loans.kept(model) if keeping else set()
    held = [tap for tap, place in places.items() if tap in found and place in kept]
    return found | {tap: found[tap].clone() for tap in held}


def _plain(value: Tensor) -> bool:
    """Say whether a tensor lies in memory of the host, without holes, and its changes count."""
    if type(value) is not Tensor or value.is_inference() or value.device.type != "cpu":
        return False
    if value.layout is not torch.strided or value.is_quantized or not value.numel():
        return False
    return value.is_contiguous() or (
        value.ndim == 4 and value.is_contiguous(memory_format=torch.channels_last)
    )


def _sample(value: Tensor) -> Tensor:
    count = min(value.numel(), _SAMPLE)
    step = value.numel() // count
    return value.as_strided((count,), (step,), value.storage_offset()).clone()


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    """Give the tensors that are kept in a model: parameters, buffers and attributes."""
    for part in model.modules():
        for value in vars(part).values():
            if isinstance(value, Tensor):
                yield value
            elif isinstance(value, (list, tuple, dict)):
                inner = value.values() if isinstance(value, dict) else value
                yield from (one for one in inner if isinstance(one, Tensor))
