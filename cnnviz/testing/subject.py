"""What the checks are given, and how they compare."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.adapter import Adapter
from cnnviz.testing.oracle import OracleAdapter
from cnnviz.testing.small import small_pictures

__all__ = ["Subject", "assert_close", "assert_raises"]


@dataclass(frozen=True)
class Subject:
    """An adapter under judgement.

    Attributes
    ----------
    adapter : Adapter
        Of the small network, in float64.
    snapshot : callable
        ``snapshot(model)``: everything that a call must leave as it was, as values that
        compare by ``==``.
    names : mapping of str to str
        From the oracle's names of layers to the adapter's; those left out are the same.
    softmax : bool
        Whether the model ends in one.
    tolerance : float
        How far two gradients of the adapter's own may be apart, relative to the largest.
    """

    adapter: Adapter[Any]
    snapshot: Callable[[Any], Any]
    names: Mapping[str, str] = field(default_factory=dict)
    softmax: bool = False
    tolerance: float = 1e-12

    @property
    def oracle(self) -> OracleAdapter:
        """The judge, with the same weights."""
        return OracleAdapter(softmax=self.softmax)

    def name(self, layer: str) -> str:
        """What the adapter calls one of the oracle's layers."""
        return self.names.get(layer, layer)

    def pictures(self) -> Any:
        """Two pictures as native tensors."""
        return self.adapter.ops.asarray(small_pictures())


def assert_close(actual: NDArray[Any], wanted: NDArray[Any], tolerance: float, what: str) -> None:
    """Compare relative to the largest magnitude wanted."""
    assert actual.shape == wanted.shape, f"{what}: shape {actual.shape}, not {wanted.shape}"
    assert actual.dtype == wanted.dtype, f"{what}: {actual.dtype}, not {wanted.dtype}"
    scale = float(np.abs(wanted).max())
    assert scale > 0, f"{what}: nothing but zeros is wanted, which proves nothing"
    worst = float(np.abs(actual - wanted).max()) / scale
    assert worst <= tolerance, f"{what}: off by {worst:.2e} of its largest value"


def assert_raises(kind: type[Exception], text: str, run: Callable[[], object]) -> None:
    """Hold a call to an error, and to words in it."""
    raised: Exception | None = None
    try:
        run()
    except kind as error:
        raised = error
    assert raised is not None, f"{kind.__name__} was not raised"
    assert text in str(raised), str(raised)
