"""Two networks compared layer by layer over images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.adapter import LOGITS, Adapter
from cnnviz.attribution.settings import require_count, require_positive
from cnnviz.beside import beside
from cnnviz.comparison.differences import (
    GradientDifference,
    Run,
    gradient_differences,
    outputs_of,
)
from cnnviz.comparison.matching import Matching, match_layers
from cnnviz.comparison.predictions import PredictionsSoFar, predicted_classes
from cnnviz.comparison.probes import Probe, leaves
from cnnviz.comparison.result import Comparison
from cnnviz.comparison.scoring import scoring
from cnnviz.comparison.streams import minibatches, pictures_for
from cnnviz.comparison.suspects import Suspects
from cnnviz.discovery import adapt
from cnnviz.errors import CnnvizError, InvalidImage, InvalidOption
from cnnviz.pictures import picture_size
from cnnviz.preprocessing import Preprocessing
from cnnviz.progress import tracked
from cnnviz.stages import stage_ends

__all__ = ["compare", "opened", "require_layers", "require_limits"]

Array = NDArray[Any]

_BATCH = 8
# By how much the same network is apart from itself in another framework.
_TOLERANCES = {"float64": 1e-9, "float32": 1e-4, "float16": 2e-2}


# What is not finite is told in the result.
@np.errstate(invalid="ignore", over="ignore")
def compare(
    a: Any,
    b: Any,
    images: Any,
    *,
    layers: Mapping[str, str] | None = None,
    tolerance: float | None = None,
    layer_images: int = 4,
    size: int | tuple[int, int] | None = None,
    doctor: bool = True,
) -> Comparison:
    """Say whether two networks do the same, where they part, and why.

    Layers are matched by kind, weights, place and order. Over the first images all of them are
    compared, with the slopes of the class; over all images the class scores are. If the
    networks part, each layer of the second is fed what goes into its counterpart, and known
    causes are tried as repairs.

    Parameters
    ----------
    a, b : model or Adapter
        Of any framework; `a` is the reference. Where nothing tells the preprocessing of one, it
        is taken to have that of the other.
    images : path, Pillow image, array, or any iterable of these
        A stream of any length; each network reads them by its own preprocessing.
    layers : mapping of str to str, optional
        From layers of `a` to layers of `b`, where they are not matched rightly.
    tolerance : float, optional
        Up to which max|difference| / max|reference| is rounding: 1e-4 in float32, 1e-9 in
        float64.
    layer_images : int
        How many images, the first ones, are compared layer by layer.
    size : int or (int, int), optional
        Height and width of the pictures for both, in place of their own.
    doctor : bool
        Whether the cause is looked for if they part.

    Returns
    -------
    Comparison

    Raises
    ------
    InvalidImage, UnknownLayer, UnknownPreprocessing, InvalidOption
        An argument is wrong.

    Examples
    --------
    >>> print(cnnviz.compare(torch_model, keras_model, "photos/cat.jpg"))
    """
    require_layers(layers)
    require_limits(tolerance, layer_images)
    one, two = opened(a, b)
    nets = (one, two)
    if size is None and all(len(net.input_shape) == 3 for net in nets):
        # A network that takes any size takes that of the other.
        sizes = [picture_size(net) for net in nets]
        size = (sizes[0] or sizes[1]) if None in sizes else None
    seen = PredictionsSoFar()
    run: Run | None = None
    first: tuple[Array, Array] | None = None
    suspects, limit = Suspects(0.0), 0.0
    matching = Matching((), (), ())
    top: Array = np.empty(0)
    count = 0
    with beside() as thread, scoring(one, two, seen.add) as scores:
        for some in tracked(
            minibatches(images, one, _BATCH), f"{one.name} beside {two.name}", None
        ):
            x, y = pictures_for(nets, some, size, count)
            part = min(len(x), max(0, layer_images - count))
            if part:
                pictures = x[:part], y[:part]
                if run is None:
                    given = _whole(one, pictures[0]), _whole(two, pictures[1])
                    probes = _probe(one, x, given[0], part), _probe(two, y, given[1], part)
                    matching = match_layers(*probes, layers)
                    run = Run(one, two, matching.pairs)
                    limit = _tolerance(probes) if tolerance is None else float(tolerance)
                    suspects = Suspects(limit)
                    first, top = (x[:1], y[:1]), given[0][LOGITS]
                    del probes
                else:
                    given = run.outputs(pictures)
                seen.add(given[0][LOGITS], given[1][LOGITS])
                thread.do(_count, run, given, suspects, pictures)
                # All layers of several pictures are much to hold; what parts is looked at again.
                del given
            x, y = x[part:], y[part:]
            if len(x):
                scores.add(x, y)
            count += len(some)
        scores.finish()
    if first is None or run is None:
        raise InvalidImage("there are no images to compare the networks on")
    found = Comparison(
        names=(one.title, two.title),
        layers=tuple(run.rows()),
        only=matching.only,
        only_other=matching.only_other,
        gradients=tuple(_slopes(one, two, first, top, matching)),
        predictions=seen.result(),
        preprocessing=_preprocessing(one, two),
        images=count,
        layer_images=min(count, layer_images),
        tolerance=limit,
    )
    if doctor and not found.agree:
        ours = Probe.of(one, first[0])
        told = suspects.diagnose((ours, Probe.of(two, first[1])), matching)
        lost = [pair for pair in matching.pairs if not _finite(ours.outputs[pair.name])]
        # Of a layer whose reference is no number, nothing can be proved.
        told = tuple(d for d in told if d.layer not in {pair.main for pair in lost})
        notes = [f"{one.title} gives what is not finite, first at {p.name!r}" for p in lost[:1]]
        found = replace(found, diagnoses=told, notes=tuple(notes))
    return found


def require_layers(layers: Any) -> None:
    """Raise InvalidOption unless it is None, or names layers of one network by those of another."""
    if layers is None:
        return
    told = "layers is a mapping, such as {'layer of the first': 'layer of the second'}"
    if not isinstance(layers, Mapping):
        raise InvalidOption(f"{told}, not {layers!r}")
    for name in (*layers, *layers.values()):
        if not isinstance(name, str):
            raise InvalidOption(f"{told}; {name!r} is no name of a layer")


def require_limits(tolerance: float | None, layer_images: int) -> None:
    """Raise InvalidOption unless the tolerance is above 0 or None, and the images are counted."""
    require_count("layer_images", layer_images)
    if tolerance is not None:
        require_positive("tolerance", tolerance)


def opened(a: Any, b: Any, spare: Preprocessing | None = None) -> tuple[Adapter[Any], Adapter[Any]]:
    """Open two networks; where one has no preprocessing that is known, it gets the other's.

    Parameters
    ----------
    a, b : model or Adapter
    spare : Preprocessing, optional
        For both, where that of neither is known.

    Raises
    ------
    UnknownPreprocessing
        That of neither is known.
    """
    nets = [adapt(a), adapt(b)]
    for i, model in enumerate((a, b)):
        other = nets[1 - i].preprocessing or spare
        if nets[i].preprocessing is None and other is not None and not isinstance(model, Adapter):
            nets[i] = adapt(model, preprocessing=other)
        nets[i].require_preprocessing()
    return nets[0], nets[1]


def _whole(net: Adapter[Any], pictures: Array) -> dict[str, Array]:
    """Give what comes out of all layers for some pictures."""
    net.settle(*pictures.shape[1:-1])
    return outputs_of(net, pictures, [layer.name for layer in leaves(net)])


def _probe(net: Adapter[Any], pictures: Array, outputs: dict[str, Array], count: int) -> Probe:
    """Give the first picture in a network; of windows and the like, all rows of it."""
    first = {
        name: value[: len(value) // count] for name, value in outputs.items() if name != LOGITS
    }
    return Probe.of(net, pictures[:1], first)


# What is set for one thread is not for another.
@np.errstate(invalid="ignore", over="ignore")
def _count(
    run: Run,
    given: tuple[dict[str, Array], dict[str, Array]],
    suspects: Suspects,
    pictures: tuple[Array, Array],
) -> None:
    run.count(*given)
    suspects.see(run.rows(), pictures)


def _slopes(
    one: Adapter[Any],
    two: Adapter[Any],
    pictures: tuple[Array, Array],
    scores: Array,
    matching: Matching,
) -> list[GradientDifference]:
    try:
        ends = [layer.name for layer in stage_ends(one)]
    except CnnvizError:
        # No layer has maps.
        ends = []
    # Before a function that is no layer the slopes are others.
    counterparts = {pair.name: pair.other for pair in matching.pairs if pair.as_tapped}
    ends = [name for name in ends if name in counterparts]
    x = pictures[0][: len(scores)], pictures[1][: len(scores)]
    classes = predicted_classes(scores[: len(x[0])])
    if (two.classes or 0) <= max(classes):
        return []
    return gradient_differences(one, two, x, classes, {name: counterparts[name] for name in ends})


def _finite(output: Array) -> bool:
    return bool(np.isfinite(output).all())


def _tolerance(probes: tuple[Probe, Probe]) -> float:
    found = 0.0
    for probe in probes:
        kinds = {value.dtype.name for value in probe.outputs.values()}
        found = max(found, *(_TOLERANCES.get(kind, 1e-4) for kind in kinds))
    return found


def _preprocessing(one: Adapter[Any], two: Adapter[Any]) -> tuple[tuple[str, str, str], ...]:
    ours, theirs = one.require_preprocessing(), two.require_preprocessing()
    rows = []
    for part in fields(Preprocessing):
        mine, other = getattr(ours, part.name), getattr(theirs, part.name)
        if part.compare and not _alike(mine, other):
            rows.append((part.name, _text(mine), _text(other)))
    return tuple(rows)


def _alike(a: Any, b: Any) -> bool:
    if isinstance(a, tuple) and isinstance(b, tuple) and 1 in (len(a), len(b)):
        # One value for all channels, or one a channel.
        return all(x == y for x in a for y in b)
    return bool(a == b)


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return "(" + ", ".join(f"{n:g}" for n in value) + ")"
    return "any" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
