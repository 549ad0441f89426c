"""What sees every operation of a run, below autograd."""

from __future__ import annotations

import sys
from typing import Any

from torch._compile import _disable_dynamo
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["Operations"]


class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Calls `operation` for every operation while the ``with`` is open.

    Torch would import its whole compiler to leave that alone: seconds, for most in vain. It is
    left alone where the compiler is there.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        run = _not_compiled if "torch._dynamo" in sys.modules else _called
        return run(self, func, args, kwargs or {})

    def operation(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run an operation, and give what it gives."""
        raise NotImplementedError


def _called(mode: Operations, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return mode.operation(func, args, kwargs)


# It imports the compiler when it is first called.
_not_compiled = _disable_dynamo(_called)
