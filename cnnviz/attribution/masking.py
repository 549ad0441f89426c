"""Score-CAM and its kin: channels weighted by the score of the picture seen through each."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz import images
from cnnviz.adapter import Layer
from cnnviz.attribution.settings import require_channels, require_count, require_noise
from cnnviz.attribution.task import Maps, Task
from cnnviz.batches import evenly, spans
from cnnviz.progress import worked

__all__ = ["is_cam", "most_varied", "score_cam", "ss_cam", "strongest"]

Array = NDArray[Any]
Variants = Callable[[Any, Any], Iterator[Any]]
"""From a picture ``(1, H, W, C)`` and masks ``(B, H, W, 1)`` to what is scored, native."""


def score_cam(task: Task, layers: list[Layer], channels: int | None = None) -> list[Maps]:
    """Weight channels by the score of the picture where each is active.

    Parameters
    ----------
    task : Task
    layers : list of Layer
    channels : int, optional
        Only so many: those that vary most over space. By default all that vary at all.

    Returns
    -------
    list of Maps
        ``sum_k softmax(C)_k A_k`` with ``C_k = y(x * M_k) - y(black)``; the fact ``black`` is
        what the network gives a black picture.
    """

    def variants(x: Any, masks: Any) -> Iterator[Any]:
        yield x * masks

    return _masked(task, layers, "score_cam", channels, 1, lambda row: variants)


def ss_cam(
    task: Task,
    layers: list[Layer],
    samples: int = 8,
    noise: float = 0.15,
    seed: int = 0,
    channels: int | None = None,
) -> list[Maps]:
    """Weight channels as Score-CAM does, by the mean score under Gaussian noise.

    Parameters
    ----------
    task, layers, channels
        As for `score_cam`.
    samples : int
    noise : float
        Standard deviation over the range of the picture.
    seed : int
        The noise is the same for every channel, so that it does not rank them.
    """
    require_noise(samples, noise, seed)

    def prepared(row: int) -> Variants:
        picture = task.pictures[row]
        sigma = noise * float(picture.max() - picture.min())
        rng = np.random.default_rng(seed)
        drawn = rng.standard_normal((samples, 1, *picture.shape), dtype=np.float32) * sigma

        def variants(x: Any, masks: Any) -> Iterator[Any]:
            seen = x * masks
            for one in drawn:
                yield seen + task.ops.asarray(one)

        return variants

    return _masked(task, layers, "ss_cam", channels, samples, prepared)


def is_cam(
    task: Task, layers: list[Layer], samples: int = 10, channels: int | None = None
) -> list[Maps]:
    """Weight channels as Score-CAM does, by the mean score on the way from black.

    Parameters
    ----------
    task, layers, channels
        As for `score_cam`.
    samples : int
        Steps of the way: each mask is multiplied by 1/n, 2/n, ..., 1.
    """
    require_count("samples", samples)

    def variants(x: Any, masks: Any) -> Iterator[Any]:
        seen = x * masks
        for step in range(1, samples + 1):
            yield seen * (step / samples)

    return _masked(task, layers, "is_cam", channels, samples, lambda row: variants)


def _masked(
    task: Task,
    layers: list[Layer],
    name: str,
    channels: int | None,
    samples: int,
    prepared: Callable[[int], Variants],
) -> list[Maps]:
    """Run any of the family; `prepared` gives the variants of a picture by its number."""
    require_channels(channels)
    task.fix()
    task.scores()
    black = _black(task, name)
    each, batch = task.goal.each, task.batch(task.goal.taps)
    taps = [layer.name for layer in layers]
    raws: dict[str, list[Array]] = {tap: [] for tap in taps}
    empty: dict[str, dict[int, str]] = {tap: {} for tap in taps}

    def scores(row: int, x: Any, a: Array, live: Array, most: int) -> Generator[None, None, Array]:
        variants = prepared(row)
        found = np.zeros((len(live), each))
        for some, count in spans(len(live), evenly(most, batch), task.net.compiled):
            masks = task.ops.asarray(_masks(a[..., live[some]], task.sides)[..., None])
            total = np.zeros((count, each))
            for variant in variants(x, masks):
                total += task.values(variant, np.full(len(some), row))[:count]
                yield
            found[some[:count]] = total / samples
        return found

    def work() -> Generator[None, None, None]:
        for i in range(task.count):
            x = task.x(np.array([i]))
            activations = task.net.forward(x, taps=taps)
            task.forwards += 1
            for layer in layers:
                a = task.ops.to_numpy(task.on_grid(layer, activations[layer.name]))[0]
                live = strongest(a, channels)
                if not len(live):
                    raws[layer.name].append(np.zeros((each, *a.shape[:-1]), a.dtype))
                    why = "no channel of the layer varies over the picture"
                    empty[layer.name].update({i * each + k: why for k in range(each)})
                    continue
                most = min(channels or a.shape[-1], a.shape[-1])
                gained = yield from scores(i, x, a, live, most)
                gained = gained - black[i]
                share = np.exp(gained - gained.max(0))
                share /= share.sum(0)
                raw = np.moveaxis(a[..., live] @ share.astype(a.dtype), -1, 0)
                raws[layer.name].append(raw)

    chunks = sum(-(-(channels or layer.channels or 1) // batch) for layer in layers)
    worked(work(), f"{name} {task.net.name}", task.count * chunks * samples)
    facts = {"black": black.ravel()}
    return [Maps(np.concatenate(raws[tap]), tap, empty[tap], facts=facts) for tap in taps]


def _black(task: Task, name: str) -> Array:
    """Give the score of black pictures, ``(N, K)``."""
    found = []
    for chunk in task.chunks(name):
        black = task.ops.asarray(np.zeros_like(task.pictures[chunk.rows]))
        found.append(task.values(black, chunk.rows)[: chunk.count])
    return np.concatenate(found)


def _masks(a: Array, sides: tuple[int, ...]) -> Array:
    """Enlarge activations ``(*grid, B)`` to masks ``(B, *sides)``, each from 0 to 1."""
    masks = images.enlarge(np.moveaxis(a, -1, 0), sides)
    axes = tuple(range(1, masks.ndim))
    masks -= masks.min(axis=axes, keepdims=True)
    top = masks.max(axis=axes, keepdims=True)
    masks /= np.where(top > 0, top, 1)
    return masks


def strongest(a: Array, channels: int | None) -> NDArray[np.intp]:
    """Give the channels of activations ``(*grid, C)`` that vary over space, or the first of them.

    Parameters
    ----------
    a : array
    channels : int, optional
        How many, those of the highest standard deviation.
    """
    flat = a.reshape(-1, a.shape[-1])
    spread = flat.max(0) - flat.min(0)
    # What rounding leaves of a constant is no shape.
    live = np.flatnonzero(~(spread <= 8 * np.finfo(flat.dtype).eps * np.abs(flat).max(0)))
    return most_varied(flat, live, channels)


def most_varied(flat: Array, some: NDArray[np.intp], channels: int | None) -> NDArray[np.intp]:
    """Give so many of some channels of ``(places, C)``, those of the highest standard deviation."""
    if channels is None or channels >= len(some):
        return some
    order = np.argsort(-flat[:, some].std(0), kind="stable")[:channels]
    return np.sort(some[order])
