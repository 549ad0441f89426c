"""float64 on Keras, whose own rules turn it into float32 on JAX and torch."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from keras.src.backend.common import dtypes

__all__ = ["float64_kept"]

_lock = threading.RLock()
_open: set[object] = set()
_rule = dtypes.BIT64_TO_BIT32_DTYPE.get("float64", "float64")


@contextmanager
def float64_kept() -> Iterator[None]:
    """Let Keras compute in float64 what it is given in float64, on every backend.

    Keras promotes float64 to float32 on JAX and torch: batch normalisation, means and matrix
    products of a float64 model go through float32 there. A model used outside of this
    context does so under cnnviz too, since a tap shows what the framework computes; proofs
    of parity open it. It holds for the whole process while it is open. JAX needs
    ``jax_enable_x64`` besides.
    """
    token = object()
    # Twice, since an interrupt may come within the first leaving; to leave again is harmless.
    try:
        try:
            with _lock:
                _open.add(token)
                dtypes.BIT64_TO_BIT32_DTYPE["float64"] = "float64"
            yield
        finally:
            _leave(token)
    finally:
        _leave(token)


def _leave(token: object) -> None:
    with _lock:
        _open.discard(token)
        if not _open:
            dtypes.BIT64_TO_BIT32_DTYPE["float64"] = _rule
