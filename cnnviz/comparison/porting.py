"""Weights of one network carried over to another, of the same or of another framework."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.adapter import Adapter
from cnnviz.comparison.cautions import setting_cautions
from cnnviz.comparison.certificates import Certificate, certify, strengthened
from cnnviz.comparison.comparing import opened, require_layers
from cnnviz.comparison.doctor import diagnose
from cnnviz.comparison.flattening import turned_pairs
from cnnviz.comparison.matching import Matching, Pair, match_layers
from cnnviz.comparison.probes import Probe, weights_by_role
from cnnviz.errors import CannotPort
from cnnviz.images import ImagesLike
from cnnviz.pictures import picture_batch
from cnnviz.preprocessing import Preprocessing

__all__ = ["port_weights"]

Array = NDArray[Any]

# What a weight is where a layer goes without it.
_NEUTRAL = {"bias": 0.0, "offset": 0.0, "scale": 1.0}
_SIDE = 64
# In the networks' own precision.
_ROUNDING = {"float64": 1e-4, "float32": 1e-4, "float16": 2e-2}


def port_weights(
    source: Any,
    target: Any,
    *,
    layers: Mapping[str, str] | None = None,
    images: ImagesLike | None = None,
) -> Certificate:
    """Give a network the weights of another, and prove that both then do the same.

    Layers are matched by kind, weights, place and order; kernels go from one layout to the
    other, dense layers behind a flattened map change the order of their rows where the map
    does. Then both networks are copied to float64, where they can be, and compared layer by
    layer. All weights are carried over, or the target is left as it was.

    Parameters
    ----------
    source, target : model or Adapter
        Of the same or of different frameworks. The target is written to. Where nothing tells
        the preprocessing of one, it is taken to have that of the other.
    layers : mapping of str to str, optional
        From layers of the source to layers of the target, where they are not found rightly.
    images : path, Pillow image, array or list of these, optional
        What is compared on; noise by default.

    Returns
    -------
    Certificate
        Printed, it is one line; ``to_json()`` has every layer.

    Raises
    ------
    CannotPort
        A layer with weights has no counterpart, weights do not fit, or the networks part
        though they have the same weights: then the first layer where they do is named.
    UnknownLayer, InvalidImage, InvalidOption
        An argument is wrong.

    Examples
    --------
    >>> print(cnnviz.port_weights(torch_model, keras_model))
    """
    require_layers(layers)
    one, two = opened(source, target, spare=Preprocessing())
    pictures = _pictures(one, two, images)
    probes = Probe.of(one, pictures[0][:1]), Probe.of(two, pictures[1][:1])
    matching = match_layers(*probes, layers)
    _refuse_unmatched(probes, matching)
    rows = turned_pairs(*probes, matching.pairs)
    new, turned = _carried(probes, matching.pairs, rows)
    old = {name: np.array(value) for name, value in two.weights().items()}
    missing = [name for name in old if name not in new]
    if missing:
        raise CannotPort(
            f"{missing[0]!r} of {two.name} belongs to no layer that takes one tensor; such"
            " weights cannot be carried over"
        )
    try:
        two.assign(new)
        found = certify(
            one,
            two,
            matching.pairs,
            pictures,
            rows,
            setting_cautions(*probes, matching.pairs),
            tensors=len(new),
            numbers=sum(value.size for value in new.values()),
            turned=tuple(turned),
        )
        if not found.holds:
            raise CannotPort(_reason(one, two, matching, pictures, found))
    except BaseException:
        # An interrupt too: half a port is none.
        two.assign(old)
        raise
    return found


def _pictures(
    one: Adapter[Any], two: Adapter[Any], images: ImagesLike | None
) -> tuple[Array, Array]:
    if images is not None:
        return picture_batch(one, images)[:2], picture_batch(two, images)[:2]
    fixed = [net.input_shape for net in (one, two)]
    trained = [net.require_preprocessing().size or () for net in (one, two)]
    told = [
        next((n for n in (*(s[i] for s in fixed), *(s[i] for s in trained if s)) if n), _SIDE)
        for i in range(len(fixed[0]) - 1)
    ]
    noise = np.random.default_rng(0).uniform(0, 1, (2, *told, fixed[0][-1])).astype(np.float32)
    return noise, noise


def _refuse_unmatched(probes: tuple[Probe, Probe], matching: Matching) -> None:
    sides = (matching.only, matching.only_other)
    for probe, names in zip(probes, sides, strict=True):
        lonely = [name for name in names if probe.net.weights(name)]
        if lonely:
            more = f" and {len(lonely) - 1} more" if len(lonely) > 1 else ""
            raise CannotPort(
                f"{lonely[0]!r}{more} of {probe.net.name} has weights and no counterpart; name"
                " it in layers={'of the source': 'of the target'}, if there is one"
            )


def _carried(
    probes: tuple[Probe, Probe], pairs: Iterable[Pair], rows: Mapping[str, NDArray[np.intp]]
) -> tuple[dict[str, Array], list[str]]:
    """Give all weights of the target by its names for them, and the layers that were turned."""
    one, two = probes
    new: dict[str, Array] = {}
    turned = []
    for pair in pairs:
        names = two.net.weight_names(pair.other_main)
        if not names:
            continue
        ours = weights_by_role(one.net, pair.main)
        theirs = weights_by_role(two.net, pair.other_main)
        where = f"{pair.main!r} of {one.net.name}"
        for role, (_, value) in ours.items():
            if not np.isfinite(value).all():
                raise CannotPort(
                    f"the {role} of {where} holds NaN or infinite numbers, of which nothing can"
                    " be proved"
                )
            if role not in theirs and not (role in _NEUTRAL and (value == _NEUTRAL[role]).all()):
                raise CannotPort(
                    f"{where} has a {role}, and {pair.other_main!r} of {two.net.name} has none"
                )
        index = rows.get(pair.name)
        if index is not None:
            turned.append(pair.other_main)
        for role, (name, old) in theirs.items():
            if role in ours:
                value = ours[role][1]
            elif role in _NEUTRAL:
                value = np.full_like(old, _NEUTRAL[role])
            else:
                raise CannotPort(
                    f"{where} has no {role}, which {pair.other_main!r} of {two.net.name} takes"
                )
            if role == "slope":
                value = _spread(value, old.shape)
            if index is not None and len(value) == len(index):
                value = value[index]
            if value.shape != old.shape:
                raise CannotPort(
                    f"the {role} of {where} is {_by(value)}, that of {pair.other_main!r} of"
                    f" {two.net.name} {_by(old)}"
                )
            full = names[name]
            if full in new and not np.array_equal(new[full], value):
                raise CannotPort(f"{full!r} of {two.net.name} serves layers that differ in {where}")
            new[full] = value
    return new, turned


def _reason(
    one: Adapter[Any],
    two: Adapter[Any],
    matching: Matching,
    pictures: tuple[Array, Array],
    found: Certificate,
) -> str:
    """Say where and why the networks part, though they have the same weights."""
    probes = [Probe.of(net, x[:1]) for net, x in zip((one, two), pictures, strict=True)]
    told = diagnose(probes[0], probes[1], matching, _ROUNDING[found.dtype])
    if not told and found.strong > found.strong_bound:
        strong = strengthened(pictures)
        probes = [Probe.of(net, x[:1]) for net, x in zip((one, two), strong, strict=True)]
        told = diagnose(probes[0], probes[1], matching, found.strong_bound)
    if told:
        return f"{two.name} was left as it was: with the same weights {told[0]}"
    first = next((row for row in found.layers if not row.relative <= found.bounds[0]), None)
    where = "" if first is None else f" first at {first.name!r} ({first.other!r})"
    return (
        f"{two.name} was left as it was: with the same weights it parts from {one.name}{where};"
        f" scores are apart by {found.forward:.1e}, slopes by {found.gradient:.1e}, and a layer by"
        f" {found.strong:.1e} on a picture of strong contrast"
    )


def _spread(slopes: Array, shape: tuple[int, ...]) -> Array:
    """Give slopes of a PReLU one for each channel, each place or all, as the other has them."""
    whole = slopes.reshape((1,) * (len(shape) - slopes.ndim) + slopes.shape)
    wanted = (1,) * (whole.ndim - len(shape)) + shape
    if not all(1 in (n, m) or n == m for n, m in zip(whole.shape, wanted, strict=True)):
        return slopes
    kept = whole[tuple(slice(0, 1) if n == 1 else slice(None) for n in wanted)]
    # What differs from place to place is not kept by one number.
    if not np.array_equal(np.broadcast_to(kept, whole.shape), whole):
        return slopes
    return np.array(np.broadcast_to(kept, wanted).reshape(shape))


def _by(value: Array) -> str:
    return " x ".join(map(str, value.shape)) or "one number"
