"""A network in plain numpy whose gradients come from central differences.

It is slow and has no framework, so what it says does not depend on any: it judges both
backends, and the tests of the core run on it alone.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from cnnviz import fields
from cnnviz.adapter import INPUT, LOGITS, OUTPUT, Adapter, Evaluation, Layer, ReluRule
from cnnviz.assignment import assigned
from cnnviz.errors import InvalidImage, InvalidOption, UnknownLayer, UnsupportedModel
from cnnviz.preprocessing import Preprocessing
from cnnviz.testing.small import BN_EPS, SMALL_PREPROCESSING, small_weights

__all__ = ["NumpyOps", "OracleAdapter"]

Array = NDArray[Any]


class NumpyOps:
    """`cnnviz.adapter.Ops` on numpy arrays in float64."""

    def asarray(self, x: Array) -> Array:
        """See `cnnviz.adapter.Ops.asarray`."""
        x = np.asarray(x)
        return x.astype(np.float64) if x.dtype.kind == "f" else x

    def constant(self, x: NDArray[Any]) -> Array:
        """See `cnnviz.adapter.Ops.constant`."""
        return self.asarray(x)

    def to_numpy(self, x: Array, copy: bool = True) -> Array:
        """See `cnnviz.adapter.Ops.to_numpy`."""
        return np.array(x) if copy else np.asarray(x)

    def reshape(self, x: Array, shape: tuple[int, ...]) -> Array:
        """See `cnnviz.adapter.Ops.reshape`."""
        return x.reshape(shape)

    def permute_dims(self, x: Array, axes: tuple[int, ...]) -> Array:
        """See `cnnviz.adapter.Ops.permute_dims`."""
        return x.transpose(axes)

    def concat(self, xs: Sequence[Array], axis: int) -> Array:
        """See `cnnviz.adapter.Ops.concat`."""
        return np.concatenate(xs, axis=axis)

    def sum(self, x: Array, axis: tuple[int, ...] | None = None, keepdims: bool = False) -> Array:
        """See `cnnviz.adapter.Ops.sum`."""
        return np.asarray(x.sum(axis=axis, keepdims=keepdims))

    def mean(self, x: Array, axis: tuple[int, ...] | None = None, keepdims: bool = False) -> Array:
        """See `cnnviz.adapter.Ops.mean`."""
        return np.asarray(x.mean(axis=axis, keepdims=keepdims))

    def max(self, x: Array, axis: tuple[int, ...] | None = None, keepdims: bool = False) -> Array:
        """See `cnnviz.adapter.Ops.max`."""
        return np.asarray(x.max(axis=axis, keepdims=keepdims))

    def sqrt(self, x: Array) -> Array:
        """See `cnnviz.adapter.Ops.sqrt`."""
        return np.asarray(np.sqrt(x))

    def abs(self, x: Array) -> Array:
        """See `cnnviz.adapter.Ops.abs`."""
        return np.asarray(np.abs(x))

    def tanh(self, x: Array) -> Array:
        """See `cnnviz.adapter.Ops.tanh`."""
        return np.asarray(np.tanh(x))

    def exp(self, x: Array) -> Array:
        """See `cnnviz.adapter.Ops.exp`."""
        return np.asarray(np.exp(x))

    def log(self, x: Array) -> Array:
        """See `cnnviz.adapter.Ops.log`."""
        return np.asarray(np.log(x))

    def sin(self, x: Array) -> Array:
        """See `cnnviz.adapter.Ops.sin`."""
        return np.asarray(np.sin(x))

    def cos(self, x: Array) -> Array:
        """See `cnnviz.adapter.Ops.cos`."""
        return np.asarray(np.cos(x))

    def atan(self, x: Array) -> Array:
        """See `cnnviz.adapter.Ops.atan`."""
        return np.asarray(np.arctan(x))

    def clip(self, x: Array, low: Array | float, high: Array | float) -> Array:
        """See `cnnviz.adapter.Ops.clip`."""
        return np.asarray(np.clip(x, low, high))

    def maximum(self, x: Array, y: Array | float) -> Array:
        """See `cnnviz.adapter.Ops.maximum`."""
        return np.asarray(np.maximum(x, y))

    def matmul(self, x: Array, y: Array) -> Array:
        """See `cnnviz.adapter.Ops.matmul`."""
        return np.asarray(np.matmul(x, y))

    def roll(self, x: Array, shift: Array, axis: int) -> Array:
        """See `cnnviz.adapter.Ops.roll`."""
        return np.asarray(np.roll(x, int(shift), axis))

    def sample(self, x: Array, rows: Array, columns: Array) -> Array:
        """See `cnnviz.adapter.Ops.sample`; by products with matrices of hat functions."""
        down = np.maximum(1 - np.abs(rows[..., None] - np.arange(x.shape[1])), 0)
        across = np.maximum(1 - np.abs(columns[..., None] - np.arange(x.shape[2])), 0)
        return np.asarray(np.einsum("nhwi,nhwj,nijc->nhwc", down, across, x, optimize=True))


def _convolve(x: Array, kernel: Array, bias: Array) -> Array:
    windows = sliding_window_view(x, kernel.shape[:2], axis=(1, 2))
    return np.asarray(np.einsum("nhwckl,klco->nhwo", windows, kernel, optimize=True) + bias)


def _max_pool(x: Array) -> Array:
    n, h, w, c = x.shape
    x = x[:, : h // 2 * 2, : w // 2 * 2].reshape(n, h // 2, 2, w // 2, 2, c)
    return np.asarray(x.max(axis=(2, 4)))


def _softmax(x: Array) -> Array:
    x = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.asarray(x / x.sum(axis=-1, keepdims=True))


def _bn_factor(weights: Mapping[str, Array]) -> Array:
    return np.asarray(weights["bn1.scale"] / np.sqrt(weights["bn1.variance"] + BN_EPS))


def redirected(x: Array, slope: Array, high: float) -> Array:
    """Pass a derivative through ReLU, redirected where all of a picture's would be zero."""
    inside = (x > 0) & (x < high)
    plain = np.where(inside, slope, 0)
    towards = inside | ((x <= 0) & (slope > 0)) | ((x >= high) & (slope < 0))
    silent = (plain == 0).all(axis=tuple(range(1, x.ndim)), keepdims=True)
    return np.where(silent, np.where(towards, slope, 0), plain)


def guided(x: Array, slope: Array, high: float) -> Array:
    """Pass what is positive of a derivative, where the unit is active."""
    return np.where((x > 0) & (x < high) & (slope > 0), slope, 0)


def deconvnet(x: Array, slope: Array, high: float) -> Array:
    """Pass what is positive of a derivative."""
    return np.maximum(slope, 0)


RULES: Mapping[ReluRule, Callable[[Array, Array, float], Array]] = {
    "redirected": redirected,
    "guided": guided,
    "deconvnet": deconvnet,
}


_PLAIN = {
    "strides": (1, 1),
    "dilation": (1, 1),
    "groups": 1,
    "padding": ((0, 0), (0, 0)),
    "mode": "zeros",
    "activation": ("linear",),
    "dtype": "float64",
}
_SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "Conv": {"family": "convolution", **_PLAIN},
    "BatchNorm": {
        "family": "batch norm",
        "eps": BN_EPS,
        "statistics": "running",
        "dtype": "float64",
    },
    "ReLU": {"family": "activation", "activation": ("relu",)},
    "MaxPool": {
        "family": "max pool",
        "window": (2, 2),
        "strides": (2, 2),
        "padding": ((0, 0), (0, 0)),
        "ceil": False,
    },
    "GlobalAveragePool": {"family": "global average pool"},
    "Dense": {"family": "dense", "activation": ("linear",), "dtype": "float64"},
    "Softmax": {"family": "activation", "activation": ("softmax",)},
}


# Kernel and stride of what looks at more than one place.
_WINDOWS = {"Conv": ((3, 3), (1, 1)), "MaxPool": ((2, 2), (2, 2))}


class OracleAdapter(Adapter[Array]):
    """The small network of `cnnviz.testing.small` behind the contract, in float64.

    Parameters
    ----------
    weights : mapping of str to array, optional
        As `small_weights` gives them.
    softmax : bool
        Whether the network ends in a softmax.
    preprocessing : Preprocessing or None
        As for any adapter.
    step : float
        Half the distance of the central differences; their error is about its square.
    """

    framework = "numpy"
    name = "oracle"

    def __init__(
        self,
        weights: Mapping[str, Array] | None = None,
        *,
        softmax: bool = False,
        preprocessing: Preprocessing | None = SMALL_PREPROCESSING,
        step: float = 1e-6,
    ) -> None:
        self.model = dict(weights if weights is not None else small_weights())
        self.ops = NumpyOps()
        self._preprocessing = preprocessing
        self._step = step
        self.final_activation = "softmax" if softmax else None
        self.classes = 5
        self.evaluations: list[str] = []
        """The layers that ran, in order; tests of early stopping read it."""
        self._graph = self._small = self._chain()

    def _chain(self) -> list[tuple[str, str, Callable[[Array], Array]]]:
        """Name the layers and their kinds, with functions that read the weights of this oracle."""
        w = self.model
        chain: list[tuple[str, str, Callable[[Array], Array]]] = [
            ("conv1", "Conv", lambda x: _convolve(x, w["conv1.kernel"], w["conv1.bias"])),
            (
                "bn1",
                "BatchNorm",
                lambda x: (x - w["bn1.mean"]) * _bn_factor(w) + w["bn1.offset"],
            ),
            ("relu:0", "ReLU", lambda x: np.maximum(x, 0)),
            ("pool", "MaxPool", _max_pool),
            ("conv2", "Conv", lambda x: _convolve(x, w["conv2.kernel"], w["conv2.bias"])),
            ("relu:1", "ReLU", lambda x: np.maximum(x, 0)),
            ("gap", "GlobalAveragePool", lambda x: x.mean(axis=(1, 2))),
            ("fc", "Dense", lambda x: x @ w["fc.kernel"] + w["fc.bias"]),
        ]
        return chain + [("softmax", "Softmax", _softmax)] * (self.final_activation is not None)

    @classmethod
    def accepts(cls, model: object) -> bool:
        """Take nothing by itself; an oracle is made by hand."""
        return False

    @property
    def input_shape(self) -> tuple[int | None, int | None, int]:
        """Any size of at least 8 x 8, three channels."""
        return (None, None, 3)

    @property
    def device(self) -> str:
        """Numpy computes on the processor."""
        return "cpu"

    def layers(self) -> Sequence[Layer]:
        """See `cnnviz.adapter.Adapter.layers`."""
        return self.layers_at(*((self._preprocessing and self._preprocessing.size) or (10, 10)))

    def layers_at(self, *size: int) -> Sequence[Layer]:
        """See `cnnviz.adapter.Adapter.layers_at`."""
        counts = {
            name: sum(v.size for k, v in self.model.items() if k.startswith(f"{name}."))
            for name, _, _ in self._graph
        }
        # Running statistics are no parameters.
        counts["bn1"] = self.model["bn1.scale"].size + self.model["bn1.offset"].size
        found = []
        x = np.zeros((1, *size, 3))
        seen = fields.first(2)
        for name, kind, function in self._graph:
            x = function(x)
            if kind in _WINDOWS:
                seen = fields.enlarged(seen, *_WINDOWS[kind])
            seen = fields.ALL if x.ndim == 2 else seen
            found.append(Layer(name, kind, (None, *x.shape[1:]), counts[name], field=seen))
        return found

    def weights(self, layer: str | None = None) -> Mapping[str, Array]:
        """See `cnnviz.adapter.Adapter.weights`."""
        if layer is None:
            return dict(self.model)
        prefix = f"{self.layer(layer).address}."
        return {k.removeprefix(prefix): v for k, v in self.model.items() if k.startswith(prefix)}

    def _indices(self, taps: Iterable[str]) -> dict[str, int]:
        """Where each tap stands in the graph; the input is -1."""
        names = [name for name, _, _ in self._graph]
        last = len(names) - 1
        places = {INPUT: -1, OUTPUT: last, LOGITS: last - (self.final_activation is not None)}
        places |= {name: i for i, name in enumerate(names)}
        for tap in taps:
            if tap not in places:
                raise UnknownLayer(tap, names)
        return {tap: places[tap] for tap in taps}

    def _steps(self, start: int, x: Array, end: int) -> Iterator[tuple[int, Array]]:
        """Run from the activation `x` after place `start`; the picture is after place -1."""
        yield start, x
        if start == -1:
            x = self.require_preprocessing().apply(x)
        for i in range(start + 1, end + 1):
            name, _, function = self._graph[i]
            self.evaluations.append(name)
            x = function(x)
            yield i, x

    def _activations(self, places: Mapping[str, int], start: int, x: Array) -> dict[str, Array]:
        by_place: dict[int, Array] = dict(self._steps(start, x, max(places.values())))
        return {tap: by_place[i] for tap, i in places.items() if i in by_place}

    def forward(self, x: Array, *, taps: Iterable[str]) -> Mapping[str, Array]:
        """See `cnnviz.adapter.Adapter.forward`."""
        places = self._indices(list(taps))
        return self._activations(places, -1, np.asarray(x, np.float64)) if places else {}

    def gradient(
        self,
        score: Callable[..., Array],
        x: Array,
        *,
        taps: Iterable[str],
        wrt: Sequence[str] = (INPUT,),
        prepare: Callable[..., Array] | None = None,
        score_args: Sequence[Array] = (),
        prepare_args: Sequence[Array] = (),
        relu: ReluRule = "plain",
        jacobian: bool = False,
        curvature: bool = False,
    ) -> Evaluation[Array]:
        """See `cnnviz.adapter.Adapter.gradient`; one element at a time."""
        taps = list(taps)
        if jacobian:
            return self._each(score, x, taps, wrt, prepare, score_args, prepare_args, relu)
        places = self._indices(taps)
        x = np.asarray(x, np.float64)

        def picture(raw: Array) -> tuple[Array, Mapping[str, Array]]:
            made = prepare(raw, *prepare_args) if prepare else raw
            return made if isinstance(made, tuple) else (made, {})

        first, beside = picture(x)
        base = self._activations(places, -1, first)
        value = np.asarray(score({**beside, **base}, *score_args))
        # Where a rule cuts the way back; what passes it is then a number like the score.
        cuts = [i for i, (_, kind, _) in enumerate(self._graph) if kind == "ReLU"]
        if relu == "plain":
            cuts = []
        deepest = max([*places.values(), -1])
        whole = dict(self._steps(-1, first, max(deepest, *self._indices(wrt).values())))

        def slope_at(place: int, bend: float = 0.0) -> Array:
            at = x if place == -1 else whole[place]
            cut = next((i for i in cuts if place < i <= deepest), None)
            ruled = None
            if cut is not None:
                ruled = RULES[relu](whole[cut - 1], slope_at(cut), np.inf)
            end = deepest if cut is None else cut - 1

            def shifted(changed: Array) -> float:
                resumed, more = picture(changed) if place == -1 else (changed, beside)
                later = {t: i for t, i in places.items() if place <= i <= end}
                reached = dict(self._steps(place, resumed, max(end, place)))
                after = {t: reached[i] for t, i in later.items()}
                total = float(np.sum(score({**more, **base, **after}, *score_args)))
                return total if ruled is None else total + float(np.sum(ruled * reached[end]))

            if bend:
                # How the total changes along the activation itself.
                return _central_differences(
                    lambda a: (shifted(a + bend * at) - shifted(a - bend * at)) / (2 * bend),
                    at,
                    bend,
                )
            return _central_differences(shifted, at, self._step)

        wanted = self._indices(wrt)
        gradients = {tap: slope_at(place) for tap, place in wanted.items()}
        bends = {tap: slope_at(i, _BEND) for tap, i in wanted.items()} if curvature else {}
        return Evaluation(value, base, gradients, bends)

    def _each(
        self,
        score: Callable[..., Array],
        x: Array,
        taps: Sequence[str],
        wrt: Sequence[str],
        prepare: Callable[..., Array] | None,
        score_args: Sequence[Array],
        prepare_args: Sequence[Array],
        relu: ReluRule,
    ) -> Evaluation[Array]:
        """Differentiate each column of a score by itself."""

        def column(k: int) -> Evaluation[Array]:
            return self.gradient(
                lambda *args: score(*args)[:, k],
                x,
                taps=taps,
                wrt=wrt,
                prepare=prepare,
                score_args=score_args,
                prepare_args=prepare_args,
                relu=relu,
            )

        picture = prepare(x, *prepare_args) if prepare else x
        beside: Mapping[str, Array] = {}
        if isinstance(picture, tuple):
            picture, beside = picture
        value = score({**beside, **self.forward(picture, taps=taps)}, *score_args)
        found = [column(k) for k in range(value.shape[1])]
        gradients = {tap: np.stack([one.gradients[tap] for one in found]) for tap in wrt}
        return Evaluation(value, found[0].activations, gradients)

    def resume(
        self, x: Array, *, at: str, taps: Iterable[str]
    ) -> Callable[[Array], Mapping[str, Array]]:
        """See `cnnviz.adapter.Adapter.resume`."""
        if len(x) != 1:
            raise InvalidImage(f"a run is resumed for one picture, not for {len(x)}")
        places = self._indices(list(taps))
        (place,) = self._indices([at]).values()
        self.forward(x, taps=[at])

        def go_on(activation: Array) -> Mapping[str, Array]:
            return self._activations(places, place, np.asarray(activation, np.float64))

        return go_on

    def offsets(self) -> Mapping[str, Array]:
        """See `cnnviz.adapter.Adapter.offsets`."""
        w = self.model
        return {
            "conv1": w["conv1.bias"],
            "bn1": w["bn1.offset"] - w["bn1.mean"] * _bn_factor(w),
            "conv2": w["conv2.bias"],
            "fc": w["fc.bias"],
        }

    def assign(self, weights: Mapping[str, Array]) -> None:
        """See `cnnviz.adapter.Adapter.assign`."""
        self.model.update(assigned(self.name, self.model, weights))

    def weight_names(self, layer: str) -> Mapping[str, str]:
        """See `cnnviz.adapter.Adapter.weight_names`."""
        address = self.layer(layer).address
        return {name: f"{address}.{name}" for name in self.weights(layer)}

    def settings(self, layer: str) -> Mapping[str, Any]:
        """See `cnnviz.adapter.Adapter.settings`."""
        return _SETTINGS[self.layer(layer).kind]

    def entering(self, x: Array, *, layers: Iterable[str]) -> Mapping[str, Array]:
        """See `cnnviz.adapter.Adapter.entering`."""
        # By the layers' own names: a tap that is none, such as the output, has nothing enter it.
        names = {name: self.layer(name).name for name in layers}
        places = self._indices(names.values())
        start = self.require_preprocessing().apply(np.asarray(x, np.float64))
        before = {-1: start}
        for i, value in self._steps(-1, np.asarray(x, np.float64), max(places.values(), default=0)):
            before[i] = start if i == -1 else value
        return {name: before[places[own] - 1] for name, own in names.items()}

    def apply(self, layer: str, x: Array) -> Array:
        """See `cnnviz.adapter.Adapter.apply`."""
        (place,) = self._indices([self.layer(layer).name]).values()
        try:
            return self._graph[place][2](np.asarray(x, np.float64))
        except ValueError as error:
            raise InvalidOption(f"{layer!r} does not take a tensor of {np.shape(x)}") from error

    @contextmanager
    def in_float64(self) -> Iterator[OracleAdapter]:
        """Give a copy with weights of its own; both compute in float64."""
        made = copy.copy(self)
        made.model = {name: value.copy() for name, value in self.model.items()}
        made.evaluations = []
        if self._graph is self._small:
            made._graph = made._small = made._chain()
        yield made

    def decoder(self, model: Any) -> Callable[[Array], Array]:
        """Take any function of arrays for a model."""
        if not callable(model):
            raise UnsupportedModel(
                f"a generator for the oracle is a function, not a {type(model).__name__}"
            )
        return model  # type: ignore[no-any-return]


# Half the distance of second differences: their rounding goes by its inverse square.
_BEND = 1e-4


def _central_differences(function: Callable[[Array], float], at: Array, step: float) -> Array:
    at = np.array(at, dtype=np.float64)
    slope = np.zeros_like(at)
    for index in np.ndindex(at.shape):
        original = at[index]
        at[index] = original + step
        above = function(at)
        at[index] = original - step
        below = function(at)
        at[index] = original
        slope[index] = (above - below) / (2 * step)
    return slope
