"""Checks of what goes beyond running a model: other rules, activations and weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.adapter import INPUT, LOGITS, Adapter, Evaluation, ReluRule
from cnnviz.errors import InvalidImage, InvalidOption, UnknownLayer
from cnnviz.testing.oracle import OracleAdapter
from cnnviz.testing.small import small_pictures
from cnnviz.testing.subject import Subject, assert_close, assert_raises

__all__ = [
    "check_assign",
    "check_curvature",
    "check_jacobian",
    "check_offsets",
    "check_relu_rules",
    "check_resume",
]

Score = Callable[..., Any]


def _mixed(net: Adapter[Any], tap: str) -> Score:
    """Score ``(N, 3)``: weighted sums of one tap, and of its squares."""
    weights = np.random.default_rng(5).normal(0, 1, (2, 5))

    def score(activations: Mapping[str, Any]) -> Any:
        ops, x = net.ops, activations[tap]
        one, two = (ops.asarray(w) for w in weights)
        columns = (
            ops.sum(x * one, axis=(1,)),
            ops.sum(x * x * two, axis=(1,)),
            ops.max(x, axis=(1,)),
        )
        return ops.concat([ops.reshape(c, (-1, 1)) for c in columns], 1)

    return score


def _column(net: Adapter[Any], tap: str, k: int) -> Score:
    whole = _mixed(net, tap)
    return lambda activations: whole(activations)[:, k]


@cache
def _ruled(rule: ReluRule, wrt: tuple[str, ...]) -> Evaluation[NDArray[Any]]:
    oracle = OracleAdapter()
    score = _column(oracle, "fc", 0)
    return oracle.gradient(score, small_pictures(), taps=["fc"], wrt=wrt, relu=rule)


def check_relu_rules(subject: Subject) -> None:
    """Guided backpropagation and deconvnet change the derivative of every ReLU, for one call."""
    net = subject.adapter
    tap = subject.name("fc")
    score = _column(net, tap, 0)
    before = subject.snapshot(net.model)
    seen = []
    rules: tuple[ReluRule, ...] = ("guided", "deconvnet", "guided", "plain")
    for rule in rules:
        # Of equal numbers, such as zeros, a pooling may pass the derivative to any; only the
        # deconvnet lets it pass through a unit that is zero.
        wrt = ("conv2", "pool") if rule == "deconvnet" else ("conv2", "conv1", INPUT)
        found = net.gradient(
            score,
            subject.pictures(),
            taps=[tap],
            wrt=[subject.name(t) for t in wrt],
            relu=rule,
        )
        wanted = _ruled(rule, wrt)
        assert_close(net.ops.to_numpy(found.value), wanted.value, 1e-12, f"{rule}: value")
        for name in wrt:
            actual = net.ops.to_numpy(found.gradients[subject.name(name)])
            assert_close(actual, wanted.gradients[name], 1e-7, f"{rule} at {name}")
            if name == "conv2":
                seen.append(actual)
    assert not np.allclose(seen[0], seen[1]), "two rules give the same: this proves nothing"
    assert subject.snapshot(net.model) == before, "the rule was left in the model"


@cache
def _judged(score: str, wrt: tuple[str, ...], softmax: bool) -> Evaluation[NDArray[Any]]:
    oracle = OracleAdapter(softmax=softmax)
    x = small_pictures()
    if score == "mixed":
        function = _mixed(oracle, LOGITS)
        return oracle.gradient(function, x, taps=[LOGITS], wrt=wrt, jacobian=True)
    return oracle.gradient(_bent(oracle, LOGITS), x, taps=[LOGITS], wrt=wrt, curvature=True)


def check_jacobian(subject: Subject) -> None:
    """Each column of a score is differentiated by itself, in one call."""
    net, wrt = subject.adapter, (INPUT, "conv2", "pool")
    names = [subject.name(t) for t in wrt]
    score = _mixed(net, LOGITS)
    found = net.gradient(score, subject.pictures(), taps=[LOGITS], wrt=names, jacobian=True)
    wanted = _judged("mixed", wrt, subject.softmax)
    assert_close(net.ops.to_numpy(found.value), wanted.value, 1e-12, "value")
    for tap, name in zip(wrt, names, strict=True):
        actual = net.ops.to_numpy(found.gradients[name])
        assert_close(actual, wanted.gradients[tap], 1e-7, f"jacobian at {tap}")
    alone = net.gradient(_column(net, LOGITS, 1), subject.pictures(), taps=[LOGITS], wrt=names)
    for name in names:
        assert_close(
            net.ops.to_numpy(found.gradients[name])[1],
            net.ops.to_numpy(alone.gradients[name]),
            max(1e-12, subject.tolerance),
            f"one column at {name}",
        )


def _bent(net: Adapter[Any], tap: str) -> Score:
    """Score that bends: the logarithm of a softmax."""

    def score(activations: Mapping[str, Any]) -> Any:
        ops, x = net.ops, activations[tap]
        return x[:, 1] - ops.log(ops.sum(ops.exp(x), axis=(1,)))

    return score


def check_curvature(subject: Subject) -> None:
    """The second derivative times the activation, at the picture and at layers."""
    net, wrt = subject.adapter, ("conv2", "pool", INPUT)
    names = [subject.name(t) for t in wrt]
    score = _bent(net, LOGITS)
    before = subject.snapshot(net.model)
    found = net.gradient(score, subject.pictures(), taps=[LOGITS], wrt=names, curvature=True)
    wanted = _judged("bent", wrt, subject.softmax)
    for tap, name in zip(wrt, names, strict=True):
        slope = net.ops.to_numpy(found.gradients[name])
        assert_close(slope, wanted.gradients[tap], 1e-7, f"gradient at {tap}")
        actual = net.ops.to_numpy(found.curvatures[name])
        assert_close(actual, wanted.curvatures[tap], 1e-5, f"curvature at {tap}")
    assert subject.snapshot(net.model) == before, "the model was changed"
    plain = net.gradient(score, subject.pictures(), taps=[LOGITS], wrt=names)
    assert not plain.curvatures
    # What is linear does not bend, and has zeros rather than nothing.
    linear = net.gradient(
        _column(net, subject.name("fc"), 0),
        subject.pictures(),
        taps=[subject.name("fc")],
        wrt=[subject.name("gap")],
        curvature=True,
    )
    bend = net.ops.to_numpy(linear.curvatures[subject.name("gap")])
    assert bend.shape == (2, 6)
    assert np.abs(bend).max() < 1e-5, "a linear score has a curvature"


def check_resume(subject: Subject) -> None:
    """A run goes on from a layer with other activations, any number of them, again and again."""
    net, oracle = subject.adapter, subject.oracle
    x = small_pictures(1)
    before = subject.snapshot(net.model)
    for at in ("conv1", "bn1", "relu:0", "pool", "relu:1", "gap"):
        taps = [LOGITS, at] if at == "gap" else [LOGITS, "gap", at]
        names = [LOGITS if t == LOGITS else subject.name(t) for t in taps]
        judge = oracle.resume(x, at=at, taps=taps)
        own = oracle.forward(x, taps=[at])[at]
        go_on = net.resume(net.ops.asarray(x), at=subject.name(at), taps=names)
        for count, seed in ((3, 0), (1, 1), (3, 2)):
            noise = np.random.default_rng(seed).normal(1, 0.5, (count, *own.shape[1:]))
            given = own * noise
            found = go_on(net.ops.asarray(given))
            wanted = judge(given)
            assert set(found) == set(names)
            for tap, name in zip(taps, names, strict=True):
                assert_close(net.ops.to_numpy(found[name]), wanted[tap], 1e-12, f"{at} to {tap}")
        plain = go_on(net.ops.asarray(own))[LOGITS]
        whole = net.forward(net.ops.asarray(x), taps=[LOGITS])[LOGITS]
        assert_close(net.ops.to_numpy(plain), net.ops.to_numpy(whole), 1e-12, "its own")
    assert subject.snapshot(net.model) == before, "the model was changed"
    assert_raises(
        InvalidImage,
        "one picture",
        lambda: net.resume(subject.pictures(), at=subject.name("pool"), taps=[LOGITS]),
    )
    assert_raises(
        UnknownLayer,
        "no such layer",
        lambda: net.resume(net.ops.asarray(x), at="no such layer", taps=[LOGITS]),
    )
    assert subject.snapshot(net.model) == before, "an error changed the model"


def check_offsets(subject: Subject) -> None:
    """What each affine layer adds."""
    found, wanted = subject.adapter.offsets(), subject.oracle.offsets()
    assert set(found) == {subject.name(layer) for layer in wanted}
    for layer, value in wanted.items():
        assert_close(np.asarray(found[subject.name(layer)]), value, 1e-12, layer)


def check_assign(subject: Subject) -> None:
    """Weights can be written, all of them or none, and written back bit by bit."""
    net = subject.adapter
    x = subject.pictures()
    before, model = net.weights(), subject.snapshot(net.model)
    first = net.ops.to_numpy(net.forward(x, taps=[LOGITS])[LOGITS])
    rng = np.random.default_rng(0)
    others = {k: v * rng.uniform(0.5, 1.5, v.shape) for k, v in before.items()}
    for wrong, words in (
        ({**others, "no such weight": np.zeros(3)}, "no such weight"),
        ({**others, list(others)[-1]: np.zeros((7, 7))}, "do not fit"),
    ):
        assert_raises(InvalidOption, words, partial(net.assign, wrong))
        assert subject.snapshot(net.model) == model, "what was refused was partly written"
    try:
        net.assign(others)
        for name, value in net.weights().items():
            assert (value == others[name]).all(), f"{name} was not written"
        second = net.ops.to_numpy(net.forward(x, taps=[LOGITS])[LOGITS])
        assert not np.allclose(first, second), "the run does not see what was written"
    finally:
        net.assign(before)
    assert subject.snapshot(net.model) == model, "what was written back is not what was there"
    again = net.ops.to_numpy(net.forward(x, taps=[LOGITS])[LOGITS])
    assert (again == first).all()
    one = next(iter(before))
    net.assign({one: before[one]})
    assert subject.snapshot(net.model) == model
