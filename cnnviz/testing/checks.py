"""The checks that any adapter must pass, for our backends and for those of others.

Each takes a `Subject`: an adapter that holds the small network of `cnnviz.testing.small`,
and raises AssertionError with what is wrong. `CHECKS` lists them all for
``pytest.mark.parametrize``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.adapter import INPUT, LOGITS, OUTPUT, Adapter, Evaluation, Ops
from cnnviz.errors import UnknownLayer, UnknownPreprocessing
from cnnviz.testing.inspecting import (
    check_apply,
    check_entering,
    check_in_float64,
    check_settings,
    check_weight_names,
)
from cnnviz.testing.operations import (
    check_ops,
    check_prepare_beside,
    check_redirected,
    check_sample,
    check_traced,
)
from cnnviz.testing.oracle import OracleAdapter
from cnnviz.testing.replacing import (
    check_assign,
    check_curvature,
    check_jacobian,
    check_offsets,
    check_relu_rules,
    check_resume,
)
from cnnviz.testing.seeing import check_fields
from cnnviz.testing.small import small_pictures
from cnnviz.testing.subject import Subject, assert_close, assert_raises

__all__ = ["CHECKS", "Subject"]


LAYERS = ("conv1", "bn1", "relu:0", "pool", "conv2", "relu:1", "gap", "fc")


def check_layers(subject: Subject) -> None:
    """Every layer is listed in the order of execution, with shape and parameters."""
    listed = {layer.name: layer for layer in subject.adapter.layers()}
    places = [list(listed).index(subject.name(name)) for name in LAYERS]
    assert places == sorted(places), f"not in the order of execution: {list(listed)}"
    for wanted in subject.oracle.layers():
        if wanted.name in LAYERS:
            found = listed[subject.name(wanted.name)]
            assert found.output_shape == wanted.output_shape, found
            assert found.parameters == wanted.parameters, found
            assert found.leaf, found


def check_activations(subject: Subject) -> None:
    """A tap gives what the layer computed, before anything worked on it in place."""
    taps = [*LAYERS, OUTPUT, LOGITS, INPUT]
    wanted = subject.oracle.forward(small_pictures(), taps=taps)
    for run in (subject.adapter.forward, subject.adapter.borrow):
        found = run(subject.pictures(), taps=[subject.name(t) for t in taps])
        for tap in taps:
            actual = subject.adapter.ops.to_numpy(found[subject.name(tap)])
            assert_close(actual, wanted[tap], 1e-12, tap)


def check_single_taps(subject: Subject) -> None:
    """A tap alone gives what it gives beside others."""
    wanted = subject.oracle.forward(small_pictures(), taps=LAYERS)
    for tap in LAYERS:
        name = subject.name(tap)
        found = subject.adapter.forward(subject.pictures(), taps=[name])
        assert set(found) == {name}
        assert_close(subject.adapter.ops.to_numpy(found[name]), wanted[tap], 1e-12, tap)


def _score(net: Adapter[Any], tap: str) -> Callable[..., Any]:
    """Score that no symmetry helps: a weighted sum of squares of one tap, per picture."""

    def score(activations: Mapping[str, Any], *args: Any) -> Any:
        value = activations[tap]
        axes = tuple(range(1, len(value.shape)))
        return net.ops.sum(value * value * 0.5 + value, axis=axes)

    return score


@cache
def _judged(
    softmax: bool, score_at: str, taps: tuple[str, ...], wrt: tuple[str, ...]
) -> Evaluation[NDArray[Any]]:
    """Ask the oracle once for all forms of the network: central differences take their time."""
    oracle = OracleAdapter(softmax=softmax)
    return oracle.gradient(_score(oracle, score_at), small_pictures(), taps=taps, wrt=wrt)


def check_gradients(subject: Subject) -> None:
    """Gradients at the input and at layers agree with central differences."""
    net = subject.adapter
    score_at = LOGITS if subject.softmax else "fc"
    for wrt in ([INPUT], ["conv1"], ["bn1"], ["pool"], ["conv2"], ["bn1", "conv2", INPUT]):
        found = net.gradient(
            _score(net, subject.name(score_at)),
            subject.pictures(),
            taps=[subject.name(score_at), subject.name("pool")],
            wrt=[subject.name(t) for t in wrt],
        )
        wanted = _judged(subject.softmax, score_at, (score_at, "pool"), tuple(wrt))
        assert_close(net.ops.to_numpy(found.value), wanted.value, 1e-12, "value")
        pool = net.ops.to_numpy(found.activations[subject.name("pool")])
        assert_close(pool, wanted.activations["pool"], 1e-12, "activation")
        for tap in wrt:
            actual = net.ops.to_numpy(found.gradients[subject.name(tap)])
            assert_close(actual, wanted.gradients[tap], 1e-7, f"gradient at {tap} of {wrt}")


def check_inner_score(subject: Subject) -> None:
    """A score in the middle of the network stops there and still has its gradient."""
    net = subject.adapter
    tap = subject.name("conv2")
    found = net.gradient(_score(net, tap), subject.pictures(), taps=[tap])
    wanted = _judged(subject.softmax, "conv2", ("conv2",), (INPUT,))
    assert_close(net.ops.to_numpy(found.gradients[INPUT]), wanted.gradients[INPUT], 1e-7, "input")


def check_gradient_at_scored_tap(subject: Subject) -> None:
    """The derivative at the very tap that is scored, and zero where the score ignores a tap."""
    net = subject.adapter
    conv, relu = subject.name("conv1"), subject.name("relu:0")
    found = net.gradient(_score(net, conv), subject.pictures(), taps=[conv], wrt=[conv, relu])
    value = net.ops.to_numpy(found.activations[conv])
    assert_close(
        net.ops.to_numpy(found.gradients[conv]),
        value + 1,
        max(1e-12, subject.tolerance),
        "at the tap",
    )
    assert not net.ops.to_numpy(found.gradients[relu]).any(), "the score ignores what comes later"


def check_prepare(subject: Subject) -> None:
    """`prepare` is part of what is differentiated, and both sides take arguments."""
    net, oracle = subject.adapter, subject.oracle
    raw = small_pictures(seed=3) * 2 - 1
    gain, weight = np.array(0.4), np.array([2.0, -1.0])

    def prepare(x: Any, factor: Any) -> Any:
        return x * factor + 0.5

    def score_of(ops: Ops[Any], tap: str) -> Callable[..., Any]:
        def score(activations: Mapping[str, Any], weights: Any) -> Any:
            return ops.sum(activations[tap], axis=(1,)) * weights

        return score

    found = net.gradient(
        score_of(net.ops, subject.name("gap")),
        net.ops.asarray(raw),
        taps=[subject.name("gap")],
        prepare=prepare,
        score_args=(net.ops.asarray(weight),),
        prepare_args=(net.ops.asarray(gain),),
    )
    wanted = oracle.gradient(
        score_of(oracle.ops, "gap"),
        raw,
        taps=["gap"],
        prepare=prepare,
        score_args=(weight,),
        prepare_args=(gain,),
    )
    assert_close(net.ops.to_numpy(found.value), wanted.value, 1e-12, "value")
    assert_close(net.ops.to_numpy(found.gradients[INPUT]), wanted.gradients[INPUT], 1e-7, "raw")


def check_traced_once(subject: Subject) -> None:
    """Twenty steps with one score trace it as often as one step does."""
    net = subject.adapter
    tap = subject.name("conv2")
    calls = 0

    def score(activations: Mapping[str, Any], weight: Any) -> Any:
        nonlocal calls
        calls += 1
        return net.ops.mean(activations[tap] * weight, axis=(1, 2, 3))

    def prepare(x: Any, shift: Any) -> Any:
        return x + shift

    def step(i: int) -> Any:
        args = (net.ops.asarray(np.array(1.0 + i)),)
        shift = (net.ops.asarray(np.array(i / 100)),)
        x = subject.pictures()
        return net.gradient(
            score, x, taps=[tap], prepare=prepare, score_args=args, prepare_args=shift
        )

    step(0)
    first = calls
    values = [float(net.ops.to_numpy(step(i).value)[0]) for i in range(1, 20)]
    assert len(set(values)) == 19, "the arguments of a step are baked into the trace"
    if net.compiled:
        assert calls == first, f"traced {calls - first} more times over 19 steps"


def check_no_trace(subject: Subject) -> None:
    """A model is bit for bit what it was, also after a score, a tap or a prepare that raises."""
    net = subject.adapter
    # Before anything else: what the first call breaks would look like the model's own state.
    before = subject.snapshot(net.model)
    net.layers()
    x = subject.pictures()
    fc = subject.name("fc")
    net.forward(x, taps=[subject.name("conv1"), OUTPUT])
    net.gradient(_score(net, fc), x, taps=[fc], wrt=[INPUT, subject.name("conv1")])
    net.weights()
    assert subject.snapshot(net.model) == before, "a call changed the model"

    def broken(*args: Any) -> Any:
        raise ZeroDivisionError("on purpose")

    for options in ({"score": broken}, {"score": _score(net, fc), "prepare": broken}):
        wrt = [INPUT, subject.name("pool")]
        run = partial(net.gradient, x=x, taps=[fc], wrt=wrt, **options)
        assert_raises(ZeroDivisionError, "on purpose", run)
        assert subject.snapshot(net.model) == before, "a call that raised changed the model"
    assert_raises(UnknownLayer, "no such layer", lambda: net.forward(x, taps=["no such layer"]))
    assert subject.snapshot(net.model) == before, "an unknown tap changed the model"
    # And it still works.
    check_activations(subject)


def check_batch_equals_singles(subject: Subject) -> None:
    """A picture does not depend on those beside it."""
    net = subject.adapter
    tap = subject.name("fc")
    pictures = small_pictures(3)
    score = _score(net, tap)
    both = net.gradient(score, net.ops.asarray(pictures), taps=[tap])
    for i in range(3):
        one = net.gradient(score, net.ops.asarray(pictures[i : i + 1]), taps=[tap])
        actual = net.ops.to_numpy(both.gradients[INPUT])[i : i + 1]
        assert_close(
            actual, net.ops.to_numpy(one.gradients[INPUT]), subject.tolerance, f"picture {i}"
        )


def check_weights(subject: Subject) -> None:
    """Weights are those of the small network, kernels as (kh, kw, in, out)."""
    net, oracle = subject.adapter, subject.oracle
    for layer in ("conv1", "bn1", "conv2", "fc"):
        found = sorted(net.weights(subject.name(layer)).values(), key=_order)
        wanted = sorted(oracle.weights(layer).values(), key=_order)
        assert len(found) == len(wanted), f"{layer} has {len(found)} tensors"
        for actual, reference in zip(found, wanted, strict=True):
            assert_close(actual, reference, 0.0, layer)
    assert len(net.weights()) == len(oracle.weights())
    total = sum(float(v.sum()) for v in net.weights().values())
    assert abs(total - sum(float(v.sum()) for v in oracle.weights().values())) < 1e-9


def _order(x: NDArray[Any]) -> tuple[int, float]:
    return (x.ndim, float(x.ravel()[0]))


def check_preprocessing_needed(subject: Subject) -> None:
    """Without preprocessing a picture is refused in words; layers and weights still work."""
    net = subject.adapter
    known = net._preprocessing
    net._preprocessing = None
    x, tap = subject.pictures(), subject.name("conv1")
    try:
        net.weights()
        assert_raises(UnknownPreprocessing, "preprocessing=", lambda: net.forward(x, taps=[tap]))
    finally:
        net._preprocessing = known


CHECKS: tuple[Callable[[Subject], None], ...] = (
    check_layers,
    check_fields,
    check_activations,
    check_single_taps,
    check_gradients,
    check_inner_score,
    check_gradient_at_scored_tap,
    check_prepare,
    check_traced_once,
    check_no_trace,
    check_batch_equals_singles,
    check_weights,
    check_preprocessing_needed,
    check_ops,
    check_sample,
    check_prepare_beside,
    check_redirected,
    check_traced,
    check_relu_rules,
    check_jacobian,
    check_curvature,
    check_resume,
    check_offsets,
    check_assign,
    check_weight_names,
    check_settings,
    check_entering,
    check_apply,
    check_in_float64,
)
