"""The check of receptive fields: what a gradient reaches lies within them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from cnnviz.adapter import Adapter, Layer
from cnnviz.fields import Window
from cnnviz.measured_fields import seen_boxes
from cnnviz.testing.subject import Subject

__all__ = ["assert_fields", "check_fields"]


def check_fields(subject: Subject) -> None:
    """Where a layer tells which pixels its places depend on, gradients reach those alone.

    And all of them, as long as there is no maximum on the way.
    """
    net = subject.adapter
    own = [subject.name(name) for name in ("conv1", "pool", "conv2")]
    size = (11, 13) if None in net.input_shape[:-1] else (10, 10)
    # One picture: the oracle takes its time.
    assert_fields(net, size, layers=own, exact=lambda layer: layer.name == own[0], pictures=1)


def assert_fields(
    net: Adapter[Any],
    size: Sequence[int],
    *,
    layers: Sequence[str] | None = None,
    exact: Callable[[Layer], bool] = lambda layer: True,
    pictures: int = 4,
) -> int:
    """Hold the fields of layers to gradients, at corners and in the middle.

    Parameters
    ----------
    net : Adapter
    size : (int, int)
        Height and width of the random pictures.
    layers : sequence of str, optional
        All that tell where they look, by default.
    exact : callable
        Says of which layers the gradient must reach all of the field: of those that have
        positive weights, say, and no maximum before them. Pixels at the far edges that a stride
        leaves over need not be reached.
    pictures : int
        How many; what any of them shows counts.

    Returns
    -------
    int
        How many layers were held to it.

    Raises
    ------
    AssertionError
        A gradient reaches another part of the picture than the layer tells.
    """
    held, steps = 0, [1] * len(size)
    for layer in net.layers_at(*size):
        window = layer.field
        if not isinstance(window, Window) or window.places is None or not layer.spatial:
            continue
        steps = [max(a, math.ceil(b)) for a, b in zip(steps, window.step, strict=True)]
        if layers is not None and layer.name not in layers:
            continue
        held += 1
        grid = layer.spatial
        middle = tuple(n // 2 for n in grid)
        # The axes do not depend on each other, so a corner tells of its two edges.
        places = [
            (0,) * len(grid),
            tuple(n - 1 for n in grid),
            middle,
            tuple(max(n - 1, 0) for n in middle),
            (0, *middle[1:]),
        ]
        boxes = seen_boxes(net, layer, places, size, pictures=pictures)
        for place, seen in zip(places, boxes, strict=True):
            told = layer.patch(place, size)
            what = f"place {place} of {layer.name} at {tuple(size)}: told {told}, seen {seen}"
            _judge(told, seen, size, steps if exact(layer) else None, what)
    return held


def _judge(
    told: Sequence[int],
    seen: Sequence[int] | None,
    size: Sequence[int],
    steps: Sequence[int] | None,
    what: str,
) -> None:
    """Compare a box with that which was seen, exactly if steps are given."""
    axes = len(size)
    clipped = [min(max(n, 0), side) for n, side in zip(told, (*size, *size), strict=True)]
    starts, ends = clipped[:axes], clipped[axes:]
    empty = any(a >= b for a, b in zip(starts, ends, strict=True))
    if seen is None or empty:
        # A place made of padding alone.
        assert seen is None, what
        assert empty or steps is None, what
        return
    for k in range(axes):
        assert starts[k] <= seen[k], what
        assert seen[axes + k] <= ends[k], what
        if steps is not None:
            # The last pixels may be left over by a stride before padding that is looked at.
            spare = steps[k] - 1 if told[axes + k] > size[k] else 0
            assert seen[k] == starts[k], what
            assert seen[axes + k] >= ends[k] - spare, what
