"""Checks of what is asked of single layers: their weights, settings, inputs, and runs alone."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.adapter import LOGITS, Adapter
from cnnviz.comparison.settings import FAMILIES, differences
from cnnviz.errors import InvalidOption, UnknownLayer, UnsupportedModel
from cnnviz.testing.small import small_pictures
from cnnviz.testing.subject import Subject, assert_close, assert_raises

__all__ = [
    "check_apply",
    "check_entering",
    "check_in_float64",
    "check_settings",
    "check_weight_names",
]

_NONE = "no such layer"
_LAYERS = ("conv1", "bn1", "relu:0", "pool", "conv2", "relu:1", "gap", "fc")
# People write it as a layer of their own, of which nobody knows what it is.
_NAMELESS = ("gap",)
# Layers that hold weights do not take other channels.
_WRONG = {"conv1": (2, 10, 10, 5), "bn1": (2, 8, 8, 7), "conv2": (2, 4, 4, 3), "fc": (2, 7)}


def _layers(subject: Subject) -> tuple[str, ...]:
    return (*_LAYERS, "softmax") if subject.softmax else _LAYERS


def check_weight_names(subject: Subject) -> None:
    """Each weight of a layer has the name, and so the numbers, that it has in the whole model."""
    net, oracle = subject.adapter, subject.oracle
    before = subject.snapshot(net.model)
    whole = net.weights()
    told: set[str] = set()
    for name in [known.name for known in net.layers()]:
        own, names = net.weights(name), net.weight_names(name)
        shapes = {short: value.shape for short, value in own.items()}
        assert net.weight_shapes(name) == shapes, f"{name}: {net.weight_shapes(name)} of {shapes}"
        assert set(names) == set(own), f"{name} holds {set(own)}, named are {set(names)}"
        assert len(set(names.values())) == len(names), f"{name}: one name for two weights"
        for short, full in names.items():
            assert full in whole, f"the model has no weight {full!r}, which is of {name}"
            assert np.array_equal(whole[full], own[short]), f"{full!r} is not {short!r} of {name}"
        told |= set(names.values())
    assert told == set(whole), f"of no layer: {set(whole) - told}"
    for layer in _layers(subject):
        names = net.weight_names(subject.name(layer))
        assert len(names) == len(oracle.weight_names(layer)), f"{layer} has {sorted(names)}"
    assert_raises(UnknownLayer, _NONE, lambda: net.weight_names(_NONE))
    assert subject.snapshot(net.model) == before, "the model was changed"


def check_settings(subject: Subject) -> None:
    """A layer tells its family and its numbers, in the words that all frameworks share."""
    net, oracle = subject.adapter, subject.oracle
    before = subject.snapshot(net.model)
    for layer in _layers(subject):
        found, wanted = net.settings(subject.name(layer)), oracle.settings(layer)
        if layer in _NAMELESS and not found:
            continue
        assert found.get("family") in FAMILIES, f"{layer} is of no known family: {found}"
        assert found["family"] == wanted["family"], f"{layer}: {found}"
        assert set(wanted) <= set(found), f"{layer} does not tell {set(wanted) - set(found)}"
        other = differences(found, wanted)
        assert not other, f"{layer}: {other}"
    for known in net.layers():
        family = net.settings(known.name).get("family")
        assert family is None or family in FAMILIES, f"{known.name} is of no family: {family!r}"
    assert_raises(UnknownLayer, _NONE, lambda: net.settings(_NONE))
    assert subject.snapshot(net.model) == before, "the model was changed"


def check_entering(subject: Subject) -> None:
    """What goes into a layer, before the layer or what follows works on it in place."""
    net, oracle = subject.adapter, subject.oracle
    before = subject.snapshot(net.model)
    layers = _layers(subject)
    wanted = oracle.entering(small_pictures(), layers=layers)
    together = net.entering(subject.pictures(), layers=[subject.name(t) for t in layers])
    assert set(together) == {subject.name(t) for t in layers}
    for layer in layers:
        name = subject.name(layer)
        alone = net.entering(subject.pictures(), layers=[name])
        assert set(alone) == {name}
        for found in (together, alone):
            assert_close(net.ops.to_numpy(found[name]), wanted[layer], 1e-12, f"into {layer}")
    assert not net.entering(subject.pictures(), layers=[])
    assert subject.snapshot(net.model) == before, "the model was changed"
    for given in ([_NONE], [subject.name("conv1"), _NONE]):
        assert_raises(UnknownLayer, _NONE, partial(net.entering, subject.pictures(), layers=given))
    assert subject.snapshot(net.model) == before, "an error changed the model"


def check_apply(subject: Subject) -> None:
    """A layer runs alone as in the network, on what enters it and on anything of its shape."""
    net, oracle = subject.adapter, subject.oracle
    before = subject.snapshot(net.model)
    layers = _layers(subject)
    entering = oracle.entering(small_pictures(), layers=layers)
    rng = np.random.default_rng(7)
    for layer in layers:
        name, own = subject.name(layer), entering[layer]
        # Also for another count of pictures, and as the network itself gives it.
        native = net.entering(subject.pictures(), layers=[name])[name]
        noise = [rng.normal(0, 1, (3, *own.shape[1:])) for _ in range(2)]
        tensors = [native, *(net.ops.asarray(given) for given in (own, *noise))]
        for given, x in zip((own, own, *noise), tensors, strict=True):
            kept = net.ops.to_numpy(x)
            found = net.ops.to_numpy(net.apply(name, x))
            assert_close(found, oracle.apply(layer, given), 1e-12, layer)
            assert (net.ops.to_numpy(x) == kept).all(), f"{layer} changed what it was given"
    assert subject.snapshot(net.model) == before, "the model was changed"
    for layer, shape in _WRONG.items():
        wrong = net.ops.asarray(rng.normal(0, 1, shape))
        error = _caught(InvalidOption, partial(net.apply, subject.name(layer), wrong))
        assert error is not None, f"{layer} takes a tensor of {shape}"
        assert subject.name(layer) in str(error), f"{layer} is not named: {error}"
        assert "\n" not in str(error), f"more than one line: {error}"
    assert_raises(UnknownLayer, _NONE, lambda: net.apply(_NONE, subject.pictures()))
    assert subject.snapshot(net.model) == before, "an error changed the model"


def check_in_float64(subject: Subject) -> None:
    """A copy computes in float64, under the same names, and shares nothing with the model."""
    net = subject.adapter
    before = subject.snapshot(net.model)
    first = _scores(net)

    def opened(error: Exception | None = None) -> None:
        with net.in_float64():
            if error is not None:
                raise error

    refusal = _caught(UnsupportedModel, opened)
    if refusal is not None:
        assert _left_to_keras(net), f"there is no copy: {refusal}"
        assert "\n" not in str(refusal), f"more than one line: {refusal}"
        assert subject.snapshot(net.model) == before, "a refusal changed the model"
        return
    with net.in_float64() as copy:
        _judge_copy(subject, copy)
        numbers = copy.weights()
        own = net.weights()
        assert set(numbers) == set(own), "the weights of the copy have other names"
        for name, value in numbers.items():
            assert value.dtype == np.float64, f"{name} of the copy is {value.dtype}"
            assert np.array_equal(value, own[name]), f"{name} of the copy is another"
        second = _scores(copy)
        copy.assign({name: value * 1.5 for name, value in numbers.items()})
        assert not np.allclose(_scores(copy), second), "the copy does not see what was written"
        assert subject.snapshot(net.model) == before, "the copy shares its weights with the model"
        assert (_scores(net) == first).all(), "the run of the model sees what the copy was given"
    assert subject.snapshot(net.model) == before, "the model was changed"
    assert (_scores(net) == first).all()
    with net.in_float64() as again:
        assert_close(_scores(again), second, 1e-12, "a second copy")
    assert_raises(ZeroDivisionError, "on purpose", lambda: opened(ZeroDivisionError("on purpose")))
    assert subject.snapshot(net.model) == before, "an error changed the model"


def _judge_copy(subject: Subject, copy: Adapter[Any]) -> None:
    net = subject.adapter
    listed, own = copy.layers(), net.layers()
    assert [layer.name for layer in listed] == [layer.name for layer in own], "other layers"
    assert copy.preprocessing == net.preprocessing
    taps = [*_layers(subject), LOGITS]
    names = [LOGITS if t == LOGITS else subject.name(t) for t in taps]
    found = copy.forward(copy.ops.asarray(small_pictures()), taps=names)
    wanted = subject.oracle.forward(small_pictures(), taps=taps)
    for tap, name in zip(taps, names, strict=True):
        assert_close(copy.ops.to_numpy(found[name]), wanted[tap], 1e-12, f"{tap} of the copy")


def _scores(net: Adapter[Any]) -> NDArray[Any]:
    x = net.ops.asarray(small_pictures())
    return net.ops.to_numpy(net.forward(x, taps=[LOGITS])[LOGITS])


def _left_to_keras(net: Adapter[Any]) -> bool:
    """Say whether a model is a class of the user's that Keras cannot be told how to make again."""
    kind = type(net.model)
    told = inspect.getattr_static(kind, "get_config", None)
    mine = not kind.__module__.startswith("keras.")
    return net.framework.startswith("keras") and mine and _home(told).startswith("keras.")


def _home(function: object) -> str:
    return str(getattr(function, "__module__", ""))


def _caught(kind: type[Exception], run: Callable[[], object]) -> Exception | None:
    """Give the error that a call raises, if it does."""
    try:
        run()
    except kind as error:
        return error
    return None
