"""Checks of what only gradient ascent asks for: operations, a rule at ReLU, traced functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.adapter import INPUT, Adapter, Ops
from cnnviz.testing.oracle import OracleAdapter
from cnnviz.testing.small import small_pictures
from cnnviz.testing.subject import Subject, assert_close

__all__ = [
    "check_ops",
    "check_prepare_beside",
    "check_redirected",
    "check_sample",
    "check_traced",
]

# What an ascent is written in. By name: the operation and its derivative, between 0.1 and 0.9.
_ELEMENTWISE: Mapping[str, tuple[Callable[[Any, Any], Any], Callable[[Any], Any]]] = {
    "sqrt": (lambda ops, x: ops.sqrt(x), lambda x: 0.5 / np.sqrt(x)),
    "abs": (lambda ops, x: ops.abs(x - 0.5), lambda x: np.sign(x - 0.5)),
    "tanh": (lambda ops, x: ops.tanh(x), lambda x: 1 - np.tanh(x) ** 2),
    "exp": (lambda ops, x: ops.exp(x), np.exp),
    "log": (lambda ops, x: ops.log(x), lambda x: 1 / x),
    "sin": (lambda ops, x: ops.sin(3 * x), lambda x: 3 * np.cos(3 * x)),
    "cos": (lambda ops, x: ops.cos(3 * x), lambda x: -3 * np.sin(3 * x)),
    "atan": (lambda ops, x: ops.atan(x), lambda x: 1 / (1 + x * x)),
    "square": (lambda ops, x: x**2, lambda x: 2 * x),
    "power": (lambda ops, x: x**1.5, lambda x: 1.5 * np.sqrt(x)),
    "clip": (lambda ops, x: ops.clip(x, 0.3, 0.6), lambda x: (x > 0.3) * (x < 0.6) * 1.0),
    "maximum": (lambda ops, x: ops.maximum(x, 0.4), lambda x: (x > 0.4) * 1.0),
}

_OTHERS: Mapping[str, Callable[[Any, Any], Any]] = {
    "reshape": lambda ops, x: ops.reshape(x, (2, -1)),
    "permute_dims": lambda ops, x: ops.permute_dims(x, (0, 3, 1, 2)),
    "concat": lambda ops, x: ops.concat([x, x * 2], 2),
    "sum": lambda ops, x: ops.sum(x, axis=(1, 3)),
    "mean": lambda ops, x: ops.mean(x, axis=(1, 2), keepdims=True),
    "max": lambda ops, x: ops.max(x, axis=(2,)),
    "matmul": lambda ops, x: ops.matmul(ops.constant(np.linspace(-1, 1, 50).reshape(5, 10)), x),
    "roll": lambda ops, x: ops.roll(x, ops.asarray(np.array(-3)), 1),
}


def check_ops(subject: Subject) -> None:
    """Operations give what numpy gives, in the model's own dtype, and pass derivatives on."""
    net, oracle = subject.adapter, subject.oracle
    raw = small_pictures() * 0.8 + 0.1
    x = net.ops.asarray(raw)
    for name, function in {**{k: f for k, (f, _) in _ELEMENTWISE.items()}, **_OTHERS}.items():
        found = net.ops.to_numpy(function(net.ops, x))
        assert_close(found, function(oracle.ops, raw), 1e-12, name)
    count = net.ops.to_numpy(net.ops.asarray(np.arange(3)))
    assert count.dtype.kind == "i", "integers are kept"
    for name, (function, derivative) in _ELEMENTWISE.items():

        def prepare(x: Any, function: Callable[[Any, Any], Any] = function) -> Any:
            return function(net.ops, x)

        slope = net.gradient(_total(net), x, taps=[INPUT], prepare=prepare).gradients[INPUT]
        wanted = np.asarray(derivative(raw), np.float64)
        assert_close(net.ops.to_numpy(slope), wanted, max(1e-12, subject.tolerance), name)


def _total(net: Adapter[Any]) -> Callable[..., Any]:
    def score(activations: Mapping[str, Any], *args: Any) -> Any:
        value = activations[INPUT]
        for weight in args:
            value = value * weight
        return net.ops.sum(value, axis=(1, 2, 3))

    return score


def check_sample(subject: Subject) -> None:
    """Reading between pixels is what the oracle reads, and its derivative is the adjoint."""
    net, oracle = subject.adapter, subject.oracle
    rng = np.random.default_rng(0)
    x, y = rng.normal(0, 1, (2, 7, 5, 3)), rng.normal(0, 1, (2, 4, 6, 3))
    # Beyond all four borders, upon them, and at whole pixels.
    rows, columns = rng.uniform(-2, 8, (2, 4, 6)), rng.uniform(-2, 6, (2, 4, 6))
    rows[0, 0], columns[1, 1] = (-1, -0.5, 0, 3, 6, 6.5), (-1, 0, 2, 4, 4.5, 5)
    places = (net.ops.asarray(rows), net.ops.asarray(columns))
    read = oracle.ops.sample(x, rows, columns)
    found = net.ops.to_numpy(net.ops.sample(net.ops.asarray(x), *places))
    assert_close(found, read, 1e-12, "what is read")

    def prepare(x: Any, rows: Any, columns: Any) -> Any:
        return net.ops.sample(x, rows, columns)

    slope = net.gradient(
        _total(net),
        net.ops.asarray(x),
        taps=[INPUT],
        prepare=prepare,
        prepare_args=places,
        score_args=(net.ops.asarray(y),),
    ).gradients[INPUT]
    adjoint = net.ops.to_numpy(slope)
    # Reading is linear: its matrix, from each pixel to each place, can be written out.
    pixels = np.eye(7 * 5).reshape(-1, 1, 7, 5, 1)
    for row in range(2):
        one = (rows[row : row + 1], columns[row : row + 1])
        matrix = np.stack([oracle.ops.sample(pixel, *one).ravel() for pixel in pixels], axis=1)
        wanted = (matrix.T @ y[row].reshape(-1, 3)).reshape(7, 5, 3)
        assert_close(adjoint[row], wanted, max(1e-10, subject.tolerance), "the adjoint")
    apart = abs(float(np.sum(read * y)) - float(np.sum(x * adjoint)))
    assert apart <= max(1e-10, 100 * subject.tolerance), f"<Ax, y> is not <x, A'y>: {apart:.2e}"


def check_prepare_beside(subject: Subject) -> None:
    """What `prepare` gives beside the picture reaches the score, and the derivative goes back."""
    net, oracle = subject.adapter, subject.oracle
    raw = small_pictures(seed=4)

    def prepare(x: Any) -> Any:
        return x * 0.5 + 0.2, {"beside": x * x}

    def score_of(ops: Ops[Any], tap: str) -> Callable[..., Any]:
        def score(activations: Mapping[str, Any]) -> Any:
            beside = ops.mean(activations["beside"] * activations["beside"], axis=(1, 2, 3))
            return ops.sum(activations[tap], axis=(1,)) + 20 * beside

        return score

    tap = subject.name("gap")
    score = score_of(net.ops, tap)
    found = net.gradient(score, net.ops.asarray(raw), taps=[tap], prepare=prepare)
    wanted = oracle.gradient(score_of(oracle.ops, "gap"), raw, taps=["gap"], prepare=prepare)
    assert set(found.activations) == {tap}
    assert_close(net.ops.to_numpy(found.value), wanted.value, 1e-12, "value")
    assert_close(net.ops.to_numpy(found.gradients[INPUT]), wanted.gradients[INPUT], 1e-7, "raw")


@cache
def _asleep() -> tuple[NDArray[Any], NDArray[Any]]:
    """Ask units that are asleep in the first picture and awake in the second, and how it goes."""
    oracle, x = OracleAdapter(), small_pictures()
    activation = oracle.forward(x, taps=["relu:1"])["relu:1"]
    asked = np.zeros_like(activation)
    asked[0] = np.where(activation[0] == 0, 1.0, 0.0)
    # Some of those asleep shall sink, which no rule may turn into rising.
    asked[0, ..., ::2] *= -1
    asked[1] = np.where(activation[1] > 0, 1.0, 0.0)
    found = oracle.gradient(
        lambda acts, weights: np.sum(acts["relu:1"] * weights, axis=(1, 2, 3)),
        x,
        taps=["relu:1"],
        score_args=(asked,),
        relu="redirected",
    )
    return asked, found.gradients[INPUT]


def check_redirected(subject: Subject) -> None:
    """A ReLU without any gradient passes on what would wake it; one that has some is as it is."""
    net = subject.adapter
    asked, wanted = _asleep()
    tap = subject.name("relu:1")

    def score(activations: Mapping[str, Any], weights: Any) -> Any:
        return net.ops.sum(activations[tap] * weights, axis=(1, 2, 3))

    before = subject.snapshot(net.model)
    plain, other = (
        net.gradient(
            score,
            subject.pictures(),
            taps=[tap],
            score_args=(net.ops.asarray(asked),),
            relu=rule,
        )
        for rule in ("plain", "redirected")
    )
    for kind in (plain, other):
        value = net.ops.to_numpy(kind.activations[tap])
        judged = subject.oracle.forward(small_pictures(), taps=["relu:1"])["relu:1"]
        assert_close(value, judged, 1e-12, "a rule for the derivative changes no activation")
    slopes = [net.ops.to_numpy(kind.gradients[INPUT]) for kind in (plain, other)]
    assert not slopes[0][0].any(), "a ReLU that is asleep has no gradient of its own"
    assert_close(slopes[1], wanted, 1e-7, "redirected")
    assert_close(slopes[1][1], slopes[0][1], max(1e-12, subject.tolerance), "what is awake")
    assert subject.snapshot(net.model) == before, "the rule was left in the model"
    again = net.gradient(
        score, subject.pictures(), taps=[tap], score_args=(net.ops.asarray(asked),)
    )
    assert not net.ops.to_numpy(again.gradients[INPUT])[0].any(), "the rule stayed"


@dataclass(frozen=True)
class _Counted:
    """A function that is equal to another of the same factor, and counts how often it runs."""

    factor: float
    calls: list[int] = field(compare=False)

    def __call__(self, x: Any, more: Any, nothing: Any = None) -> Any:
        self.calls.append(1)
        assert nothing is None
        return x * self.factor + more[0] * more[1], (x * 2, more[1])


def check_traced(subject: Subject) -> None:
    """`traced` gives what the function gives; equal functions share a trace."""
    net = subject.adapter
    raw = small_pictures()
    calls: list[int] = []
    seen = []
    for i in range(6):
        more = (net.ops.asarray(np.array(float(i))), net.ops.asarray(np.full(3, 0.5)))
        total, (twice, _) = net.traced(_Counted(3.0, calls))(subject.pictures(), more, None)
        assert_close(net.ops.to_numpy(total), raw * 3 + i * 0.5, 1e-12, "traced")
        assert_close(net.ops.to_numpy(twice), raw * 2, 1e-12, "traced")
        seen.append(len(calls))
    if net.compiled:
        assert seen[-1] == seen[0], f"traced {seen[-1] - seen[0]} more times over 5 calls"
    other, _ = net.traced(_Counted(2.0, calls))(subject.pictures(), more, None)
    assert_close(net.ops.to_numpy(other), raw * 2 + 2.5, 1e-12, "another function")
    # Another size is another trace, and gives its own numbers.
    small = small_pictures(1, side=8)
    other, _ = net.traced(_Counted(2.0, calls))(net.ops.asarray(small), more, None)
    assert_close(net.ops.to_numpy(other), small * 2 + 2.5, 1e-12, "another size")
