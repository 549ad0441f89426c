"""What the doctor may and may not say: guesses that fit by chance are none."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import cnnviz
from cnnviz.adapter import Layer
from cnnviz.comparison.activations import FORMS, forms, forms_within
from cnnviz.comparison.doctor import Diagnosis
from cnnviz.comparison.matching import match_layers
from cnnviz.comparison.probes import Probe
from cnnviz.comparison.reference import activate
from cnnviz.comparison.resizing import interpolation
from cnnviz.fields import Window
from cnnviz.images.resampling import resize
from cnnviz.testing import OracleAdapter, small_pictures, small_weights

Array = NDArray[Any]
Function = Callable[[Array], Array]

WEIGHTS = small_weights()
BATCH_NORM = ("bn1.mean", "bn1.variance")


class Net(OracleAdapter):
    """The small network, made otherwise.

    Parameters
    ----------
    after : mapping of str to function
        What is done to the output of layers by no layer.
    instead : mapping of str to function
        What layers compute.
    told : mapping of str to mapping
        What layers say of themselves, beside what they always say.
    without : sequence of str
        Layers that are left out.
    weights : mapping
    """

    def __init__(
        self,
        *,
        after: Mapping[str, Function] | None = None,
        instead: Mapping[str, Callable[[Function], Function]] | None = None,
        told: Mapping[str, Mapping[str, Any]] | None = None,
        without: Sequence[str] = (),
        weights: Mapping[str, Array] | None = None,
    ) -> None:
        self._after, self._instead = after or {}, instead or {}
        self._more, self._without = told or {}, without
        super().__init__({**WEIGHTS, **(weights or {})})

    def _chain(self) -> Any:
        chain = []
        for name, kind, function in super()._chain():
            if name in self._without:
                continue
            made = self._instead[name](function) if name in self._instead else function
            chain.append((name, kind, made))
            if name in self._after:
                chain.append((f"_{name}", "Function", self._after[name]))
        return chain

    def layers(self) -> Sequence[Layer]:
        return [layer for layer in super().layers() if not layer.name.startswith("_")]

    def settings(self, layer: str) -> Mapping[str, Any]:
        return {**super().settings(layer), **self._more.get(layer, {})}


def relu(x: Array) -> Array:
    return np.maximum(x, 0)


def then(function: Function) -> Callable[[Function], Function]:
    """Put a function behind a layer's own."""
    return lambda own: lambda x: function(own(x))


def fused(activation: tuple[Any, ...]) -> Net:
    """Give a network whose second convolution has an activation within."""
    return Net(
        instead={"conv2": then(lambda x: activate(x, activation))},
        told={"conv2": {"activation": activation}},
        without=["relu:1"],
    )


def compared(one: OracleAdapter, two: OracleAdapter, count: int = 1, **options: Any) -> Any:
    return cnnviz.compare(one, two, small_pictures(count), **options)


def told(one: OracleAdapter, two: OracleAdapter) -> Diagnosis:
    found = compared(one, two)
    assert len(found.diagnoses) == 1, str(found)
    return found.diagnoses[0]


def proved(one: OracleAdapter, two: OracleAdapter) -> tuple[str, str]:
    found = told(one, two)
    assert found.sure == "proved", str(found)
    assert found.repaired <= 1e-9
    return found.other, found.cause


# Activations that are functions


@pytest.mark.parametrize("activation", [("relu",), ("gelu",), ("leaky relu", 0.2)])
def test_an_activation_that_is_a_function_belongs_to_its_layer(activation: Any) -> None:
    function = Net(after={"conv2": lambda x: activate(x, activation)}, without=["relu:1"])
    for one, two in ((function, fused(activation)), (fused(activation), function)):
        found = compared(one, two)
        assert found.agree, str(found)
        assert [row.relative for row in found.layers if row.name == "conv2"] == [0]
    probes = [Probe.of(net, small_pictures(1)) for net in (function, fused(activation))]
    pair = next(p for p in match_layers(*probes).pairs if p.main == "conv2")
    assert (pair.activation, pair.other_activation) == (activation, None)
    assert not pair.as_tapped
    pair = next(p for p in match_layers(*probes[::-1]).pairs if p.main == "conv2")
    assert (pair.activation, pair.other_activation) == (None, activation)


def test_an_activation_that_is_really_missing_is_found() -> None:
    bare = Net(without=["relu:1"])
    assert proved(fused(("relu",)), bare) == ("conv2", "missing activation")
    assert proved(bare, fused(("relu",))) == ("conv2", "an activation too many")


def test_another_function_for_an_activation_is_found() -> None:
    other = Net(after={"conv2": lambda x: activate(x, ("silu",))}, without=["relu:1"])
    found = told(fused(("relu",)), other)
    assert (found.other, found.cause, found.sure) == ("conv2", "activation", "proved")
    assert "its activation is silu, where the other has relu" in found.what
    assert proved(other, fused(("relu",))) == ("conv2", "activation")


def test_where_nothing_takes_the_numbers_the_counterpart_is_believed() -> None:
    # A pooling without a layer: no layer gets what the activation gives.
    def pooled(x: Array) -> Array:
        return x[:, :1]

    for function, same in ((relu, True), (lambda x: x, False)):
        net = Net(after={"conv2": lambda x, f=function: pooled(f(x))}, without=["relu:1"])
        within = Net(
            instead={"conv2": then(relu)},
            told={"conv2": {"activation": ("relu",)}},
            after={"conv2": pooled},
            without=["relu:1"],
        )
        found = compared(within, net)
        assert found.agree is same
        if not same:
            assert proved(within, net) == ("gap", "missing activation")


def test_the_output_of_a_network_is_taken_as_it_is() -> None:
    whole = Net(
        instead={"fc": then(lambda x: activate(x, ("softmax",)))},
        told={"fc": {"activation": ("softmax",)}},
    )
    assert proved(whole, Net()) == ("fc", "missing activation")


# What happens between layers


def test_a_relu_too_many_is_no_dropout() -> None:
    for factor in (1.0, 2.0):
        found = told(Net(), Net(after={"conv1": lambda x, k=factor: k * relu(x)}))
        assert found.other == "bn1"
        assert found.cause != "train/eval"
    assert proved(Net(), Net(after={"conv1": relu})) == ("bn1", "an activation too many")
    assert proved(Net(after={"conv1": relu}), Net()) == ("bn1", "missing activation")

    def dropped(x: Array) -> Array:
        return np.where(np.random.default_rng(0).uniform(size=x.shape) < 0.3, 0, x / 0.7)

    assert proved(Net(), Net(after={"conv1": dropped})) == ("bn1", "train/eval")


@pytest.mark.parametrize("factor", [2.0, 0.5, -1.0])
def test_a_factor_is_no_skip_connection(factor: float) -> None:
    found = told(Net(), Net(after={"pool": lambda x: factor * x}))
    assert (found.other, found.cause, found.sure) == ("conv2", "scale", "proved")
    assert f"{factor:.4g} times" in found.what
    found = told(Net(), Net(instead={"conv2": then(lambda x: factor * x)}))
    assert (found.other, found.cause, found.sure) == ("conv2", "scale", "proved")
    assert f"{factor:.4g} times" in found.what


def test_a_factor_of_a_kernel_is_told_as_one() -> None:
    bare = {"conv2.bias": np.zeros(6)}
    two = Net(weights={**bare, "conv2.kernel": WEIGHTS["conv2.kernel"] * 2})
    assert told(Net(weights=bare), two).what == "its kernel is 2 times the other"


def flat(axes: tuple[int, ...], shuffled: bool = False) -> Net:
    kernel = np.random.default_rng(0).normal(0, 0.6, (24, 5))
    order = np.random.default_rng(1).permutation(24) if shuffled else np.arange(24)
    return Net(
        after={"relu:1": lambda x: x.transpose(axes).reshape(len(x), -1)[:, order]},
        without=["gap"],
        weights={"fc.kernel": kernel},
    )


def test_only_the_orders_of_a_map_are_flatten_orders() -> None:
    plain = flat((0, 1, 2, 3))
    assert compared(plain, flat((0, 1, 2, 3))).agree
    for axes in ((0, 2, 1, 3), (0, 3, 2, 1), (0, 2, 3, 1)):
        assert proved(plain, flat(axes)) == ("fc", "flatten order")
        assert proved(flat(axes), plain) == ("fc", "flatten order")
    found = told(plain, flat((0, 1, 2, 3), shuffled=True))
    assert (found.other, found.cause, found.sure) == ("fc", "order", "likely")
    assert "it could not be tried" in str(found)


def test_channels_that_are_shuffled_are_no_flatten_order() -> None:
    found = told(Net(), Net(after={"gap": lambda x: x[:, [2, 0, 1, 5, 3, 4]]}))
    assert (found.other, found.cause, found.sure) == ("fc", "order", "likely")


def test_maps_of_unlike_content_are_not_fitted_by_padding() -> None:
    def pad(x: Array) -> Array:
        return np.pad(x, ((0, 0), (1, 1), (2, 0), (0, 0)))

    assert proved(Net(), Net(after={"pool": pad})) == ("conv2", "padding")

    def unlike(x: Array) -> Array:
        return resize(x, (x.shape[1] + 2, x.shape[2] + 2))

    found = told(Net(), Net(after={"pool": unlike}))
    assert (found.other, found.cause, found.sure) == ("conv2", "shape", "unknown")


class Extra(Net):
    """A network with a layer more, which has weights, and a function behind it."""

    def __init__(self, behind: Function = lambda x: x) -> None:
        self._behind = behind
        super().__init__()

    def _chain(self) -> Any:
        chain = super()._chain()
        mixed = np.random.default_rng(0).normal(0, 1, (4, 4))
        self.model["extra.kernel"] = mixed
        place = [name for name, _, _ in chain].index("pool") + 1
        more = [("extra", "Dense", lambda x: x @ mixed), ("_behind", "Function", self._behind)]
        return [*chain[:place], *more, *chain[place:]]


def test_a_layer_without_a_counterpart_is_told() -> None:
    assert proved(Net(), Extra()) == ("conv2", "a layer too many")
    assert proved(Extra(), Net()) == ("conv2", "missing layer")
    # With something else besides, it is not the whole truth.
    for one, two in ((Net(), Extra(np.sin)), (Extra(np.sin), Net())):
        found = told(one, two)
        assert (found.other, found.cause, found.sure) == ("conv2", "unmatched layer", "likely")
        assert "'extra' of oracle is without a counterpart" in found.what
        assert "all layers" not in found.what


# One layer


def test_half_precision_is_what_its_numbers_are() -> None:
    kernel = WEIGHTS["conv2.kernel"]
    bits = np.float32(kernel).view(np.uint32)
    upper = (bits & np.uint32(0xFFFF0000)).view(np.float32)
    noise = np.random.default_rng(0).uniform(-1, 1, kernel.shape)
    for changed, cause in (
        (kernel.astype(np.float16), "dtype"),
        (upper, "dtype"),
        (kernel * (1 + 2e-3 * noise), "wrong weights"),
        (kernel * (1 + 2e-4 * noise), "wrong weights"),
        # Numbers that half precision has, but of others.
        ((kernel * (1 + 0.1 * noise)).astype(np.float16), "wrong weights"),
    ):
        two = Net(weights={"conv2.kernel": np.float64(changed)})
        assert proved(Net(), two) == ("conv2", cause)


class Batch(Net):
    """A network whose batch norm takes the statistics of what it gets, and has none."""

    def _chain(self) -> Any:
        scale, offset = self.model["bn1.scale"], self.model["bn1.offset"]

        def norm(x: Array) -> Array:
            spread = np.sqrt(x.var((0, 1, 2)) + 1e-3)
            return np.asarray((x - x.mean((0, 1, 2))) / spread * scale + offset)

        return [(n, k, norm if n == "bn1" else f) for n, k, f in super()._chain()]

    def weights(self, layer: str | None = None) -> Mapping[str, Array]:
        hidden = {*BATCH_NORM, "mean", "variance"} if layer in (None, "bn1") else set()
        return {k: v for k, v in super().weights(layer).items() if k not in hidden}


def test_statistics_of_the_batch_are_no_missing_weight() -> None:
    batch = Batch(told={"bn1": {"statistics": "batch"}})
    own = Net(told={"bn1": {"statistics": "running"}})
    found = told(own, batch)
    assert (found.other, found.cause, found.sure) == ("bn1", "train/eval", "proved")
    assert "statistics of the pictures" in found.what
    assert proved(batch, own) == ("bn1", "train/eval")


AVERAGE = {"family": "average pool", "count_padding": False}


def averaged(own: Function) -> Function:
    return lambda x: x.reshape(len(x), x.shape[1] // 2, 2, x.shape[2] // 2, 2, -1).mean((2, 4))


def test_kinds_of_pooling_are_told_apart() -> None:
    mean = Net(instead={"pool": averaged}, told={"pool": AVERAGE})
    assert proved(Net(), mean) == ("pool", "pool kind")
    assert proved(mean, Net()) == ("pool", "pool kind")
    found = told(Net(), mean)
    assert "it is an average pool, where the other is a max pool" in found.what
    whole = Net(instead={"gap": lambda own: lambda x: x.max((1, 2))})
    assert proved(Net(), whole) == ("gap", "pool kind")
    assert proved(whole, Net()) == ("gap", "pool kind")


@pytest.mark.parametrize("form", FORMS[1:], ids=str)
def test_activations_are_told_by_what_they_do(form: tuple[Any, ...]) -> None:
    x = np.random.default_rng(0).normal(0, 3, (1, 6, 6, 5))
    for other in FORMS:
        found = forms(x, activate(x, other), activate(x, form), "here", 1e-9)
        if other == form:
            assert found is None
            continue
        assert found is not None
        assert found.what.startswith("after 'here' it has ")
        assert str(form[0]) in found.what
        # A shortcut besides does not hide it.
        sums = x**2 + activate(x, other), x**2 + activate(x, form)
        within = forms_within(x, *sums, "here", 1e-9)
        assert within is not None
        assert within[1] <= 1e-12
        # Of a sum only the difference of two slopes is seen.
        if {form[0], other[0]} <= {"linear", "relu", "leaky relu"}:
            assert within[0] == found or within[0].what.endswith(
                "(or others that are as far apart)"
            )
        else:
            assert within[0] == found
    assert forms(x, activate(x, form), x**2, "", 1e-9) is None
    assert forms_within(x, activate(x, form), x**2, "", 1e-9) is None


def test_interpolations_are_told_by_what_they_do() -> None:
    x = np.random.default_rng(0).normal(0, 1, (1, 5, 4, 3))
    made = {k: resize(x, (10, 12), k, antialias=False) for k in ("nearest", "bilinear", "bicubic")}
    for first, ours in made.items():
        for second, theirs in made.items():
            found = interpolation(x, ours, theirs, "", 1e-9)
            if first == second:
                assert found is None
                continue
            assert found is not None
            assert found[0].cause == "interpolation"
            assert found[0].what == f"it interpolates by {second}, where the other does by {first}"
        assert interpolation(x, ours, ours**2, "", 1e-9) is None


def test_what_was_tried_in_vain_is_told_so() -> None:
    def own(share: float) -> Net:
        # Its output is that of no convolution.
        bent = then(lambda x: x + share * np.sin(9 * x))
        return Net(instead={"conv2": bent})

    far = {"conv2.bias": WEIGHTS["conv2.bias"] + 5}
    found = told(own(0.01), Net(weights=far))
    assert (found.cause, found.sure) == ("wrong weights", "likely")
    assert 0 < found.repaired < found.apart / 2
    assert "it was tried" in str(found)
    assert f"{found.repaired:.1e}" in str(found)
    near = {"conv2.bias": WEIGHTS["conv2.bias"] + 1e-4}
    found = told(own(1.0), Net(weights=near))
    assert (found.cause, found.sure) == ("unknown", "unknown")
    assert "wrong weights tried, in vain" in found.what
    # Nothing here computes a convolution that reflects at the borders.
    reflects = {"conv2": {"mode": "reflect"}}
    found = told(Net(told=reflects), Net(told=reflects, weights=far))
    assert (found.cause, found.sure) == ("wrong weights", "likely")
    assert math.isnan(found.repaired)
    assert "it could not be tried" in str(found)


def test_a_padding_that_is_not_told_is_found_by_trial() -> None:
    class Silent(Net):
        def settings(self, layer: str) -> Mapping[str, Any]:
            return {k: v for k, v in super().settings(layer).items() if k != "padding"}

    two = Silent(weights={"conv2.bias": np.zeros(6)})
    assert proved(Net(), two) == ("conv2", "missing weight")
    assert compared(Net(), Silent()).agree


# Which layer is which


class Moved(OracleAdapter):
    """A network of two convolutions of one kernel, with receptive fields as they are given."""

    def __init__(self, fields: tuple[int, int]) -> None:
        self._fields = dict(zip(("conv1", "conv2"), fields, strict=True))
        rng = np.random.default_rng(0)
        three = {k: v[..., :3] for k, v in WEIGHTS.items() if k.startswith("bn1")}
        conv = {f"conv{i}.kernel": rng.normal(0, 0.4, (3, 3, 3, 3)) for i in (1, 2)}
        bias = {f"conv{i}.bias": rng.normal(0, 0.4, 3) for i in (1, 2)}
        super().__init__(
            {**WEIGHTS, **three, **conv, **bias, "fc.kernel": WEIGHTS["fc.kernel"][:3]}
        )

    def layers(self) -> Sequence[Layer]:
        return [
            replace(layer, field=Window((float(self._fields[layer.name]),) * 2, (1.0, 1.0)))
            if layer.name in self._fields
            else layer
            for layer in super().layers()
        ]


def test_names_that_all_agree_come_before_the_place() -> None:
    x = small_pictures(1)
    one, two = (Probe.of(Moved(fields), x) for fields in ((3, 8), (8, 3)))
    pairs = match_layers(one, two).pairs
    assert [p.other_main for p in pairs if p.main in ("conv1", "conv2")] == ["conv1", "conv2"]


# Which image


def limited(top: float) -> Net:
    return Net(
        instead={"relu:0": then(lambda x: np.minimum(x, top))},
        told={"relu:0": {"activation": ("relu to", top)}},
    )


@pytest.mark.parametrize("place", [0, 2, 9])
def test_the_image_that_shows_it_is_looked_at(place: int) -> None:
    x = small_pictures(11) * 0.5
    x[0 if place else 1] = 0
    x[place] = small_pictures(1, seed=5)[0] * np.array([3.0, 0.1, 2.0]) / 3
    net = Net()
    tops = net.forward(x, taps=["relu:0"])["relu:0"].max((1, 2, 3))
    x = x[np.argsort(tops)]
    tops = np.sort(tops)
    # Only the brightest is cut off.
    x[[place, -1]] = x[[-1, place]]
    two = limited(float(tops[-1] + tops[-2]) / 2)
    found = cnnviz.compare(net, two, x, layer_images=11)
    assert [(d.other, d.cause, d.sure) for d in found.diagnoses] == [
        ("relu:0", "activation", "proved")
    ]
    if place:
        first = cnnviz.compare(net, two, x, layer_images=place)
        assert not first.agree
        assert first.first_divergence is None
        assert "raise layer_images" in str(first)
        assert "by itself" not in str(first)


def test_what_comes_after_the_last_layer_is_told() -> None:
    found = compared(Net(), Net(after={"fc": lambda x: x + np.arange(5)}))
    assert not found.agree
    assert found.first_divergence is None
    assert "what differs comes after the last of them" in str(found)
