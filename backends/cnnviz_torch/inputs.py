"""What a model takes besides the picture."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cnnviz.errors import InvalidOption

__all__ = ["OtherInputs"]


class OtherInputs:
    """The arguments of a model's forward besides the picture, one example each.

    Parameters
    ----------
    module : torch.nn.Module
    examples : mapping of str to array, or None
        By the name of the argument, without the axis of the batch.
    name : str
        What to call the model in an error.

    Raises
    ------
    InvalidOption
        An argument is missing or there is no such argument.
    """

    def __init__(self, module: nn.Module, examples: Mapping[str, Any] | None, name: str) -> None:
        self._examples = {key: np.asarray(value) for key, value in (examples or {}).items()}
        self._picture: str | None = None
        self._by_name = False
        if isinstance(module, (torch.jit.ScriptModule, torch.export.UnflattenedModule)):
            wanted: list[inspect.Parameter] = []
        else:
            wanted = list(inspect.signature(module.forward).parameters.values())
        named = [p for p in wanted if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        free = any(p.kind == p.VAR_KEYWORD for p in wanted)
        unknown = [k for k in self._examples if k not in {p.name for p in named} and not free]
        if unknown:
            raise InvalidOption(
                f"{name} takes no input {unknown[0]!r}; it takes {', '.join(p.name for p in named)}"
            )
        pictures = [p for p in named if p.name not in self._examples]
        if pictures and not any(p.kind == p.VAR_POSITIONAL for p in wanted):
            self._picture = pictures[0].name
            self._by_name = (
                bool(self._examples) or pictures[0].kind == inspect.Parameter.KEYWORD_ONLY
            )
        missing = [p.name for p in pictures[1:] if p.default is p.empty]
        if missing:
            example = f"{{{missing[0]!r}: array}}"
            raise InvalidOption(
                f"{name} takes more than a picture: {', '.join(missing)}; give an example of each"
                f" without the batch axis: cnnviz.adapt(model, other_inputs={example})"
            )

    def call(self, module: nn.Module, picture: Tensor) -> Any:
        """Run a model on pictures, with each example repeated for every one."""
        if not self._by_name or self._picture is None:
            return module(picture)
        others = {
            key: torch.as_tensor(
                np.repeat(value[None], len(picture), axis=0), device=picture.device
            )
            for key, value in self._examples.items()
        }
        others = {k: x.to(picture.dtype) if x.is_floating_point() else x for k, x in others.items()}
        return module(**{self._picture: picture}, **others)
