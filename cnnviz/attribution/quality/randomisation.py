"""Whether a map depends on what the network has learned: its weights are redrawn to see."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.adapter import Adapter
from cnnviz.attribution.methods import known_method, run_method
from cnnviz.attribution.quality.likeness import spearman, ssim
from cnnviz.attribution.quality.subject import fitted
from cnnviz.attribution.settings import require_count
from cnnviz.attribution.targets import Targets
from cnnviz.attribution.task import Task, as_maps
from cnnviz.discovery import adapt
from cnnviz.errors import CnnvizError, InvalidOption, UnsupportedModel
from cnnviz.images import ImagesLike
from cnnviz.progress import tracked

__all__ = ["Randomisation", "randomisation", "redrawn", "weight_groups"]

Array = NDArray[Any]
MapMaker = Callable[[Adapter[Any], Array], Array]
"""From a network and pictures ``(N, H, W, C)`` to maps ``(N, h, w)``."""

# Uncorrelated noise is at 0 +- 0.15 on a grid of 7 x 7, and a map that is always the same at 1.
_THRESHOLD = 0.5
_VARIANCE = re.compile(r"(?:^|_)var(?:iance)?$")


@dataclass(frozen=True)
class Randomisation:
    """How alike the maps of a network are to its own once its weights are gone.

    Attributes
    ----------
    methods : tuple of str
    layers : tuple of str
        ``(S,)``: the layer down to which, from the last, the weights of each stage were redrawn.
    shares : array
        ``(S,)``: which share of the layers that is; the last is 1.
    spearman, absolute, ssim : array
        ``(len(methods), S)``: averaged over pictures, the rank correlation with the map of the
        network itself, that of the magnitudes, and the structural similarity of the maps in
        [0, 1] at the size of the pictures.
    threshold : float
        Of the verdict.
    """

    methods: tuple[str, ...]
    layers: tuple[str, ...]
    shares: NDArray[np.float64]
    spearman: NDArray[np.float64]
    absolute: NDArray[np.float64]
    ssim: NDArray[np.float64]
    threshold: float

    @property
    def passed(self) -> Mapping[str, bool]:
        """Whether each method depends on the weights.

        It does if, with all of them redrawn, the rank correlation of the magnitudes is below
        the threshold.
        """
        last = np.abs(self.absolute[:, -1])
        return {
            name: bool(at < self.threshold) for name, at in zip(self.methods, last, strict=True)
        }

    def __str__(self) -> str:
        lines = [
            f"{name}: rank correlation {self.absolute[i, -1]:.2f} with all weights redrawn,"
            f" SSIM {self.ssim[i, -1]:.2f}; {'passes' if self.passed[name] else 'fails'}"
            for i, name in enumerate(self.methods)
        ]
        return "\n".join(lines)


def weight_groups(net: Any) -> list[tuple[str, tuple[str, ...]]]:
    """Sort the weights of a network by the layer that has them, in the order in which layers run.

    A weight belongs to the layer with the longest address that its name begins with; else to
    what stands before the last separator of its name. Layers that `Adapter.layers` does not
    list come after the one that is defined before them.

    Parameters
    ----------
    net : model or Adapter

    Returns
    -------
    list of (str, tuple of str)
        The layer, and the names of its weights as in `Adapter.weights` of the whole network.
    """
    adapter = adapt(net)
    names = list(adapter.weights())
    try:
        addresses = [layer.address for layer in adapter.layers()]
    except UnsupportedModel:
        addresses = []
    order: dict[str, int] = {}
    for i, address in enumerate(addresses):
        order.setdefault(address, i)
    groups: dict[str, list[str]] = {}
    places: dict[str, int] = {}
    last = -1
    for name in names:
        parts = [name[: cut.start()] for cut in re.finditer(r"[./]", name)]
        owner = next((p for p in reversed(parts) if p in order), parts[-1] if parts else name)
        last = order.get(owner, last)
        groups.setdefault(owner, []).append(name)
        places.setdefault(owner, last)
    return [(owner, tuple(groups[owner])) for owner in sorted(groups, key=places.__getitem__)]


def redrawn(name: str, values: Array, rng: np.random.Generator) -> Array:
    """Give other weights of the same mean and spread, in place of learned ones.

    Kernels, biases, scales and offsets are drawn from a normal distribution of the mean and
    the standard deviation of the numbers that they replace; running variances, which must stay
    above zero, are permuted. A tensor whose numbers are all equal stays.

    Parameters
    ----------
    name : str
        By its end a variance is known: ``running_var``, ``moving_variance``.
    values : array
    rng : Generator
    """
    if _VARIANCE.search(re.split(r"[./]", name)[-1]):
        return rng.permutation(values.ravel()).reshape(values.shape)
    wide = values.astype(np.float64)
    drawn = rng.normal(wide.mean(), wide.std(), values.shape)
    return np.asarray(drawn).astype(values.dtype)


@contextmanager
def restored(net: Adapter[Any]) -> Iterator[Mapping[str, Array]]:
    """Give the weights of a network that are floats, and write them back whatever happens.

    Raises
    ------
    CnnvizError
        They could not be written back bit by bit.
    """
    kept = {
        name: np.array(value)
        for name, value in net.weights().items()
        if np.asarray(value).dtype.kind == "f" and np.size(value)
    }
    try:
        yield kept
    finally:
        net.assign(kept)
        now = net.weights()
        changed = [name for name, value in kept.items() if not _same(value, np.asarray(now[name]))]
        if changed:
            raise CnnvizError(
                f"{len(changed)} weights of {net.name} were not written back, {changed[0]!r}"
                " among them; load it anew"
            )


def _same(a: Array, b: Array) -> bool:
    return a.dtype == b.dtype and a.tobytes() == b.tobytes()


def randomisation(
    net: Any,
    images: ImagesLike,
    methods: Sequence[str | MapMaker] = ("grad_cam",),
    target: Targets = None,
    layer: str | Sequence[str] | None = None,
    *,
    stages: int = 6,
    threshold: float = _THRESHOLD,
    seed: int = 0,
    size: int | tuple[int, int] | None = None,
    batch: int | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
) -> Randomisation:
    """Redraw the weights from the last layer to the first, and see how the maps change [1]_.

    The weights of the user's own model are written, and written back bit by bit at the end,
    also when a method raises or the work is interrupted. The class is that which the network
    itself predicts throughout. What is compared is `Attribution.raw`, at its own resolution.

    Parameters
    ----------
    net : model or Adapter
        Not to be used by others meanwhile.
    images, target, size, batch
        As for `cnnviz.attribute`.
    methods : sequence of str or callable
        Names of `cnnviz.METHODS`, or ``function(adapter, pictures)`` to maps ``(N, h, w)``.
    layer : str or sequence of str, optional
        Of the methods that are taken at a layer.
    stages : int
        At how many points of the cascade maps are taken, evenly over the layers that have
        weights; the last of them has none of its weights left.
    threshold : float
        What rank correlation of the magnitudes fails, once all weights are redrawn. Chance is
        at 0 and a map that does not see the weights at 1; 0.5 lies between.
    seed : int
        Of the weights.
    options : mapping of str to mapping, optional
        Settings by the name of the method.

    Returns
    -------
    Randomisation

    Raises
    ------
    InvalidOption
        A setting cannot be meant, the network has no weights, or a map is not finite.
    CnnvizError
        The weights could not be written back.

    References
    ----------
    .. [1] Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018, arXiv:1810.03292.
    """
    require_count("stages", stages)
    require_count("seed", seed, 0)
    if not isinstance(threshold, (int, float)) or not 0 < threshold <= 1:
        raise InvalidOption(f"threshold is a correlation above 0, up to 1, not {threshold!r}")
    if not methods or isinstance(methods, str):
        raise InvalidOption("methods is a list with one name or more")
    adapter = adapt(net)
    maker = _Maker(adapter, images, target, layer, size, batch, options or {})
    names = tuple(one if isinstance(one, str) else _named(one) for one in methods)
    originals = [maker.maps(one) for one in methods]
    groups = weight_groups(adapter)
    with restored(adapter) as kept:
        groups = [(owner, tuple(n for n in some if n in kept)) for owner, some in groups]
        groups = [(owner, some) for owner, some in groups[::-1] if some]
        if not groups:
            raise InvalidOption(f"{adapter.name} has no weights to redraw")
        ends = np.unique(np.ceil(np.arange(1, stages + 1) * (len(groups) / stages)).astype(int))
        found = np.zeros((3, len(methods), len(ends)))
        begin = 0
        what = f"randomisation of {adapter.name}"
        for i, end in enumerate(tracked(ends.tolist(), what, len(ends))):
            new = {}
            for number, (_, some) in enumerate(groups[begin:end], begin):
                rng = np.random.default_rng([seed, number])
                new.update({name: redrawn(name, kept[name], rng) for name in some})
            adapter.assign(new)
            begin = end
            for k, one in enumerate(methods):
                found[:, k, i] = _alike(originals[k], maker.maps(one), maker.task.sides)
    return Randomisation(
        names,
        tuple(groups[end - 1][0] for end in ends),
        ends / len(groups),
        found[0],
        found[1],
        found[2],
        float(threshold),
    )


def _named(method: MapMaker) -> str:
    return str(getattr(method, "__name__", type(method).__name__))


class _Maker:
    """What gives the maps of the same pictures and classes time and again."""

    def __init__(
        self,
        net: Adapter[Any],
        images: ImagesLike,
        target: Targets,
        layer: str | Sequence[str] | None,
        size: int | tuple[int, int] | None,
        batch: int | None,
        options: Mapping[str, Mapping[str, Any]],
    ) -> None:
        self._net, self._batch, self._options, self._layer = net, batch, options, layer
        self.task = Task(net, images, target, size, batch)
        self.task.fix()
        classes = self.task.goal.classes
        self._target = target if classes is None else [tuple(map(int, row)) for row in classes]
        sides = self.task.sides
        self._size = (sides[0], sides[1]) if len(sides) == 2 else None

    def maps(self, method: str | MapMaker) -> Array:
        """Give signed maps ``(M, h, w)``."""
        pictures = self.task.pictures
        if not isinstance(method, str):
            found = np.asarray(method(self._net, pictures))
            fitted(found, self.task.count, self.task.sides)
            return found
        known = known_method(method)
        at_layer = known.at != "picture" and not known.stages
        task = Task(self._net, pictures, self._target, self._size, self._batch, known.score)
        if at_layer and self._layer is None:
            # The default is looked for in slopes, which are others once weights are.
            self._layer = self.task.layer(None).name
        layer = self._layer if at_layer else None
        return run_method(task, method, layer, None, self._options.get(method, {})).raw


def _alike(before: Array, after: Array, sides: tuple[int, ...]) -> tuple[float, float, float]:
    """Compare maps, and average over them."""
    shown = as_maps(before, sides), as_maps(after, sides)
    pairs = list(zip(before, after, strict=True))
    return (
        float(np.mean([spearman(a, b) for a, b in pairs])),
        float(np.mean([spearman(np.abs(a), np.abs(b)) for a, b in pairs])),
        float(np.mean([ssim(a, b) for a, b in zip(*shown, strict=True)])),
    )
