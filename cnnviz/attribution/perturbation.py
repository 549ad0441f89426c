"""Attribution by hiding parts of the picture: occlusion, RISE and superpixels."""

from __future__ import annotations

import itertools
import math
from collections.abc import Generator
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from cnnviz import images
from cnnviz.attribution.integrated import baseline_of
from cnnviz.attribution.settings import require_count
from cnnviz.attribution.task import Maps, Task
from cnnviz.batches import evenly, spans
from cnnviz.errors import InvalidOption, MissingDependency
from cnnviz.progress import worked

__all__ = ["occlusion", "rise", "superpixels", "windows"]

Array = NDArray[Any]
Fill = str | float | Array


def occlusion(
    task: Task, patch: int | None = None, stride: int | None = None, fill: Fill = "mean"
) -> Maps:
    """Show how much of the score is lost where a patch hides the picture.

    Parameters
    ----------
    task : Task
    patch : int, optional
        Side of the patch in pixels; a seventh of the shorter side by default.
    stride : int, optional
        Distance of patches; half the patch by default. The last are moved to the border, so
        that each pixel is covered.
    fill : see `baseline_of`
        What the patch shows.

    Returns
    -------
    Maps
        The mean of ``y(x) - y(x with patch)`` over the patches that cover a pixel.
    """
    places = windows(task.sides, patch, stride)
    fills = baseline_of(task, fill)
    task.fix()
    each = task.goal.each
    whole = task.scores().reshape(task.count, each)
    batch = evenly(len(places), task.batch(task.goal.taps))

    def work() -> Generator[None, None, Array]:
        total = np.zeros((task.count, each, *task.sides))
        for i in range(task.count):
            picture, shown = task.pictures[i], fills[i]
            for some, count in spans(len(places), batch, task.net.compiled):
                # Copied here: a patch is little of what a product would touch.
                variants = np.repeat(picture[None], len(some), 0)
                for variant, place in zip(variants, some, strict=True):
                    variant[places[place]] = shown[places[place]]
                rows = np.full(len(some), i)
                lost = whole[i] - task.values(task.ops.asarray(variants), rows)[:count]
                for place, loss in zip(some[:count], lost, strict=True):
                    total[i][:, *places[place]] += loss.reshape(-1, *(1,) * len(task.sides))
                yield
        return total

    chunks = math.ceil(len(places) / batch)
    total = worked(work(), f"occlusion {task.net.name}", task.count * chunks)
    covered = np.zeros(task.sides)
    for place in places:
        covered[place] += 1
    return _maps(task, total / covered)


def windows(
    sides: tuple[int, ...], patch: int | None = None, stride: int | None = None
) -> list[tuple[slice, ...]]:
    """Give patches, all within the picture, that cover it to its borders.

    Raises
    ------
    InvalidOption
        A patch does not fit, or patches are too far apart to cover the picture.
    """
    shorter = min(sides)
    side = max(1, round(shorter / 7)) if patch is None else patch
    require_count("patch", side)
    if side > shorter:
        raise InvalidOption(f"a patch of {side} does not fit a picture of {_by(sides)}")
    step = max(1, side // 2) if stride is None else stride
    require_count("stride", step)
    if step > side:
        raise InvalidOption(f"patches of {side} at a stride of {step} leave pixels out")
    starts = [dict.fromkeys((*range(0, n - side, step), n - side)) for n in sides]
    return [tuple(slice(a, a + side) for a in at) for at in itertools.product(*starts)]


def rise(
    task: Task, masks: int = 1000, cells: int | None = 7, keep: float = 0.5, seed: int = 0
) -> Maps:
    """Average random masks, each weighted by the score of the picture seen through it.

    Parameters
    ----------
    task : Task
    masks : int
        How many; the same ones for every picture.
    cells : int or None
        Cells of a mask along each side, enlarged linearly and shifted at random; None draws
        each pixel for itself.
    keep : float
        How probable a cell is to be seen.
    seed : int

    Returns
    -------
    Maps
        ``sum_i y(x * M_i) M_i / (keep * masks)``, what is hidden being black. The picture of a
        map begins at its least number, as in the paper.
    """
    require_count("masks", masks)
    require_count("seed", seed, 0)
    if cells is not None:
        require_count("cells", cells)
    if isinstance(keep, bool) or not isinstance(keep, (int, float)) or not 0 < keep < 1:
        raise InvalidOption(f"keep is a probability between 0 and 1, not {keep!r}")
    task.fix()
    each = task.goal.each
    batch = evenly(masks, task.batch(task.goal.taps))
    drawn = _Masks(task.sides, masks, cells, keep, seed, task.pictures.dtype)

    def work() -> Generator[None, None, Array]:
        total = np.zeros((task.count, each, *task.sides))
        for some, count in spans(masks, batch, task.net.compiled):
            # Drawn once for all pictures.
            shown = drawn.next(count)
            filled = np.pad(shown, ((0, len(some) - count), *((0, 0),) * len(task.sides)))
            native = task.ops.asarray((filled if len(some) > count else shown)[..., None])
            flat = shown.reshape(count, -1)
            for i in range(task.count):
                x = task.x(np.array([i]))
                value = task.values(x * native, np.full(len(some), i))[:count]
                total[i] += (value.T.astype(flat.dtype) @ flat).reshape(total.shape[1:])
                yield
        return total

    chunks = math.ceil(masks / batch)
    total = worked(work(), f"rise {task.net.name}", task.count * chunks)
    found = _maps(task, total / (keep * masks))
    # A pixel has the mean score for being there at all; only what is beyond the least tells.
    found.base = found.raw.reshape(len(found.raw), -1).min(1)
    return found


class _Masks:
    """Random masks, one after another, the same however many are taken at once."""

    def __init__(
        self,
        sides: tuple[int, ...],
        count: int,
        cells: int | None,
        keep: float,
        seed: int,
        dtype: np.dtype[Any],
    ) -> None:
        self._rng = np.random.default_rng(seed)
        self._sides, self._keep, self._dtype = sides, keep, dtype
        self._cells, self._done = cells, 0
        if cells is None:
            return
        large = [math.ceil(side / cells) for side in sides]
        self._grids = self._rng.random((count, *(cells,) * len(sides))) < keep
        self._shifts = self._rng.integers(0, large, (count, len(sides)))
        # Linear along each axis, so two small products enlarge a mask: ten times as fast.
        self._views = []
        for side, cell in zip(sides, large, strict=True):
            whole = images.enlarge(np.eye(cells, dtype=dtype)[None], ((cells + 1) * cell, cells))
            self._views.append(sliding_window_view(whole[0], side, axis=0))

    def next(self, count: int) -> Array:
        """Give the masks ``(count, *sides)`` that come next, from 0 to 1."""
        if self._cells is None:
            drawn = self._rng.random((count, *self._sides), dtype=np.float32)
            return (drawn < self._keep).astype(self._dtype)
        here = slice(self._done, self._done + count)
        self._done += count
        found = self._grids[here].astype(self._dtype)
        for axis, view in enumerate(self._views):
            # The axis at the front is enlarged at the end, so all come back to their places.
            found = np.moveaxis(found, 1, -1)
            shape = found.shape
            flat = found.reshape(count, -1, shape[-1])
            enlarged = np.matmul(flat, view[self._shifts[here, axis]])
            found = enlarged.reshape(*shape[:-1], -1)
        # Products may round to a little more than all.
        return np.asarray(np.minimum(found, 1, out=found))


def superpixels(
    task: Task,
    segments: int = 50,
    samples: int = 1000,
    fill: Fill = "mean",
    seed: int = 0,
    kernel: float = 0.25,
    penalty: float = 1.0,
) -> Maps:
    """Show what each segment of the picture adds to the score, by a local linear model.

    Parameters
    ----------
    task : Task
    segments : int
        About how many there are; SLIC finds them by colour and place.
    samples : int
        Pictures with random segments hidden, the picture itself among them.
    fill : see `baseline_of`
        What a hidden segment shows.
    seed : int
    kernel : float
        Width, in cosine distance, of the weight of samples about the picture.
    penalty : float
        Of the squared coefficients; 0 for none.

    Returns
    -------
    Maps
        The coefficient of each pixel's segment. The fact ``fit`` is the weighted share of the
        score's variance that the linear model explains, ``segments`` how many there were.

    Raises
    ------
    MissingDependency
        scikit-image is not installed.
    """
    require_count("segments", segments, 2)
    require_count("samples", samples, 2)
    require_count("seed", seed, 0)
    for name, width in (("kernel", kernel), ("penalty", penalty)):
        least = 0 if name == "penalty" else np.finfo(np.float64).tiny
        if isinstance(width, bool) or not isinstance(width, (int, float)):
            raise InvalidOption(f"{name} is a number, not {width!r}")
        if not least <= width < np.inf:
            raise InvalidOption(f"{name} is a number {'above' if least else 'from'} 0, not {width}")
    if task.pictures.ndim != 4:
        raise InvalidOption("superpixels are segments of pictures; take occlusion or rise")
    fills = baseline_of(task, fill)
    found = [_segments(picture, segments) for picture in task.pictures]
    for i, labels in enumerate(found):
        if not labels.any():
            task.notes.append(f"picture {i} has but one segment: nothing in it hangs together")
    task.fix()
    batch = evenly(samples, task.batch(task.goal.taps))

    def work() -> Generator[None, None, tuple[list[Array], list[Array]]]:
        raws, fits = [], []
        for i, labels in enumerate(found):
            rng = np.random.default_rng(seed)
            seen = rng.random((samples, int(labels.max()) + 1)) < 0.5
            seen[0] = True
            base = task.ops.asarray(np.ascontiguousarray(fills[i])[None])
            way = task.x(np.array([i])) - base
            scores = []
            for some, count in spans(samples, batch, task.net.compiled):
                shown = seen[some].astype(task.pictures.dtype)[:, labels]
                variants = base + way * task.ops.asarray(shown[..., None])
                scores.append(task.values(variants, np.full(len(some), i))[:count])
                yield
            coefficients, fit = linear_model(
                seen.astype(np.float64), np.concatenate(scores), kernel, penalty
            )
            raws.append(np.moveaxis(coefficients[labels], -1, 0))
            fits.append(fit)
        return raws, fits

    chunks = math.ceil(samples / batch)
    raws, fits = worked(work(), f"superpixels {task.net.name}", task.count * chunks)
    counts = np.repeat([float(labels.max() + 1) for labels in found], task.goal.each)
    facts = {"fit": np.concatenate(fits), "segments": counts}
    return _maps(task, np.stack(raws), **facts)


def linear_model(seen: Array, scores: Array, kernel: float, penalty: float) -> tuple[Array, Array]:
    """Fit scores by weighted ridge regression on what was seen, the intercept free.

    Parameters
    ----------
    seen : array
        ``(samples, S)``, 1 where a segment is seen.
    scores : array
        ``(samples, K)``.
    kernel, penalty : float

    Returns
    -------
    array, array
        Coefficients ``(S, K)``, and the weighted R^2 ``(K,)``.
    """
    distance = 1 - np.sqrt(seen.mean(1))
    # The square root that LIME takes of its kernel.
    weight = np.exp(-((distance / kernel) ** 2) / 2)[:, None]
    share = weight / weight.sum()
    centred = seen - (share * seen).sum(0)
    moved = scores - (share * scores).sum(0)
    gram = centred.T @ (weight * centred) + penalty * np.eye(seen.shape[1])
    right = centred.T @ (weight * moved)
    # Without a penalty, segments that were always seen together have no solution of their own.
    coefficients = np.linalg.lstsq(gram, right, rcond=None)[0]
    left = (weight * (moved - centred @ coefficients) ** 2).sum(0)
    variance = (weight * moved**2).sum(0)
    # Of a score that changes by no more than rounding, all is explained.
    least = (8 * np.finfo(np.float32).eps * np.abs(scores).max(0)) ** 2 * weight.sum()
    changes = variance > least
    return coefficients, np.where(changes, 1 - left / np.where(changes, variance, 1), 1.0)


def _segments(picture: Array, count: int) -> NDArray[np.intp]:
    """Number the segments of a picture from 0 on."""
    try:
        from skimage.segmentation import slic
    except ImportError as error:
        raise MissingDependency(
            "superpixels are found by scikit-image; pip install 'cnnviz[superpixels]'"
        ) from error
    labels = slic(picture, n_segments=count, compactness=10, start_label=0, channel_axis=-1)
    return np.unique(labels, return_inverse=True)[1].reshape(labels.shape)


def _maps(task: Task, raw: Array, **facts: Array) -> Maps:
    """Lay out ``(N, K, *sides)`` a row a map, in the dtype of the pictures."""
    raw = raw.reshape(-1, *task.sides).astype(task.pictures.dtype)
    same = [i for i, one in enumerate(raw) if not one.any()]
    empty = dict.fromkeys(same, "the score is the same whatever is hidden")
    return Maps(raw, empty=empty, facts=facts)


def _by(sides: tuple[int, ...]) -> str:
    return " x ".join(map(str, sides))
