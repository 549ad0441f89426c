"""Variants of one picture under noise, in chunks of one size."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.attribution.settings import require_noise
from cnnviz.attribution.task import Task
from cnnviz.batches import evenly, spans

__all__ = ["noisy_batches"]


def noisy_batches(
    task: Task, row: int, samples: int, noise: float, seed: int
) -> Iterator[tuple[Any, NDArray[np.intp], NDArray[np.float64]]]:
    """Give a picture under Gaussian noise, chunk by chunk.

    Noise is drawn from the seed alone, so a map does not depend on what is explained beside it.

    Parameters
    ----------
    task : Task
    row : int
        Which picture.
    samples : int
    noise : float
        Standard deviation over the range of the picture.
    seed : int

    Yields
    ------
    tensor, array of int, array
        The variants ``(B, H, W, C)``, the number of their picture ``(B,)``, and a weight for
        each ``(B,)``: 1, or 0 for those that only fill the chunk up.
    """
    require_noise(samples, noise, seed)
    picture = task.pictures[row]
    sigma = noise * float(picture.max() - picture.min())
    rng = np.random.default_rng(seed)
    batch = evenly(samples, task.batch())
    base = task.ops.asarray(picture[None])
    for some, count in spans(samples, batch, task.net.compiled):
        # Half as many bits cost half the time, and are more than noise needs.
        drawn = rng.standard_normal((count, *picture.shape), dtype=np.float32)
        if count < len(some):
            drawn = np.pad(drawn, ((0, len(some) - count), *((0, 0),) * picture.ndim))
        weight = (np.arange(len(some)) < count).astype(np.float64)
        yield base + task.ops.asarray(drawn * sigma), np.full(len(some), row), weight
