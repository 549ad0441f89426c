"""The errors of cnnviz: one family, each also the builtin that a caller would catch."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = [
    "CannotPort",
    "ChannelOutOfRange",
    "CnnvizError",
    "InvalidImage",
    "InvalidOption",
    "MissingDependency",
    "TapNotReached",
    "UnknownField",
    "UnknownLayer",
    "UnknownModel",
    "UnknownPreprocessing",
    "UnsupportedModel",
]


class CnnvizError(Exception):
    """Base of every error that cnnviz raises on purpose: one line that says what to do."""

    def __str__(self) -> str:
        # KeyError would show the repr of its argument, quotes and all.
        return str(self.args[0]) if self.args else ""


class CannotPort(CnnvizError, ValueError):
    """Weights cannot be carried over, or the networks part with them; nothing was changed."""


class InvalidImage(CnnvizError, ValueError):
    """An image cannot be read, or is not what the network takes."""


class InvalidOption(CnnvizError, ValueError):
    """An argument has a value that cannot be meant."""


class UnknownLayer(CnnvizError, KeyError):
    """The network has no layer of that name."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        self.name = name
        known = list(known)
        close = get_close_matches(name, known, n=3, cutoff=0.4) or known[-3:]
        # Of a layer that is called twice, or gives several tensors, the plain name is no tap.
        exact = [k for k in known if k.startswith((f"{name}:", f"{name}["))]
        close = exact or close
        super().__init__(
            f"no layer {name!r}; the closest names are {', '.join(map(repr, close))}"
            " (cnnviz.layers lists them all)"
        )


class ChannelOutOfRange(CnnvizError, IndexError):
    """The layer has no channel, or the network no class, of that index."""

    def __init__(self, what: str, index: int, count: int) -> None:
        super().__init__(f"{what} {index} is out of range: it must be in 0..{count - 1}")


class UnknownField(CnnvizError, ValueError):
    """Nothing tells where in the picture the places of a layer look."""


class TapNotReached(CnnvizError, RuntimeError):
    """The network ran without passing through a layer that was asked for."""


class UnknownModel(CnnvizError, ValueError):
    """A model spec names nothing that can be loaded."""


class UnsupportedModel(CnnvizError, TypeError):
    """The object is not a model that an installed backend can open."""


class UnknownPreprocessing(CnnvizError, ValueError):
    """Nothing says what range and colours the network was trained on."""


class MissingDependency(CnnvizError, ImportError):
    """A package that this needs is not installed."""
