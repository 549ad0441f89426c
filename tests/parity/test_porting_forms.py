"""Networks as people write them: without layers for what has no weights, in forms of their own."""

from __future__ import annotations

import json
from typing import Any

import keras
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import cnnviz
from cnnviz.adapter import OUTPUT
from cnnviz.errors import CannotPort

L = keras.layers
SIDE = 16
RTOL = 1e-12


class Functional(nn.Module):
    """What has no weights is a function here, as in the tutorials of PyTorch."""

    def __init__(self, view: bool = False) -> None:
        super().__init__()
        self.view = view
        self.conv1, self.conv2 = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 6, 3)
        self.fc1, self.fc2 = nn.Linear(6 * 2 * 2, 8), nn.Linear(8, 5)

    def forward(self, x: Any) -> Any:
        x = functional.max_pool2d(functional.relu(self.conv1(x)), 2)
        x = functional.max_pool2d(functional.relu(self.conv2(x)), 2)
        x = x.view(x.size(0), -1) if self.view else torch.flatten(x, 1)
        return self.fc2(functional.relu(self.fc1(x)))


def of_torch(model: Any) -> Any:
    return cnnviz.adapt(model.eval(), "identity", input_shape=(SIDE, SIDE, 3))


def of_keras(*layers: Any) -> Any:
    model = keras.Sequential([keras.Input((SIDE, SIDE, 3)), *layers])
    rng = np.random.default_rng(3)
    for weight in model.weights:
        # No weight is what a new layer has.
        weight.assign(rng.uniform(0.2, 0.9, weight.shape) * rng.choice([-1, 1], weight.shape))
        if weight.name == "moving_variance":
            weight.assign(rng.uniform(0.5, 2, weight.shape))
    return cnnviz.adapt(model, "identity")


def chain(*layers: Any, seed: int = 0) -> Any:
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.default_generator.manual_seed(seed)
        model = nn.Sequential(*layers)
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                value.uniform_(0.5, 1.5) if "var" in name else value.normal_(0, 0.3)
    return of_torch(model)


def written_out(relu: Any) -> Any:
    first = [L.Conv2D(4, 3, activation=relu), L.MaxPooling2D(2)]
    second = [L.Conv2D(6, 3, activation=relu), L.MaxPooling2D(2), L.Flatten()]
    return of_keras(*first, *second, L.Dense(8, activation=relu), L.Dense(5))


def assert_same_scores(one: Any, two: Any) -> None:
    x = np.random.default_rng(5).uniform(0, 1, (3, SIDE, SIDE, 3))
    with one.in_float64() as a, two.in_float64() as b:
        taken = [n.ops.to_numpy(n.forward(n.ops.asarray(x), taps=[OUTPUT])[OUTPUT]) for n in (a, b)]
    np.testing.assert_allclose(*taken, rtol=0, atol=RTOL * np.abs(taken[0]).max())


def kept(net: Any) -> dict[str, bytes]:
    return {name: value.tobytes() for name, value in net.weights().items()}


def there_and_back(source: Any, between: Any, back: Any) -> Any:
    there = cnnviz.port_weights(source, between)
    assert_same_scores(source, between)
    again = cnnviz.port_weights(between, back)
    assert_same_scores(between, back)
    assert kept(back) == kept(source)
    assert there.holds
    assert again.holds
    assert there.cautions == again.cautions == ()
    assert max(there.strong, again.strong) < RTOL
    return there


@pytest.mark.parametrize("view", [False, True])
def test_a_map_that_no_layer_gives_is_flattened_rightly(view: bool) -> None:
    found = there_and_back(
        of_torch(Functional(view)), written_out("relu"), of_torch(Functional(view))
    )
    assert found.turned == (found.layers[2].other,)
    assert [row.name for row in found.layers] == ["conv1", "conv2", "fc1", "fc2"]


@pytest.mark.parametrize("kind", ["one", "channels", "places"])
def test_slopes_of_a_prelu(kind: str) -> None:
    count = 1 if kind == "one" else 4
    ours = [
        chain(
            nn.Conv2d(3, 4, 3),
            nn.PReLU(count),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(4, 5),
            seed=seed,
        )
        for seed in (0, 1)
    ]
    shared = {"one": [1, 2, 3], "channels": [1, 2], "places": None}[kind]
    theirs = of_keras(
        L.Conv2D(4, 3), L.PReLU(shared_axes=shared), L.GlobalAveragePooling2D(), L.Dense(5)
    )
    there_and_back(ours[0], theirs, ours[1])


def test_slopes_of_places_do_not_fit_into_those_of_channels() -> None:
    source = of_keras(L.Conv2D(4, 3), L.PReLU(), L.GlobalAveragePooling2D(), L.Dense(5))
    layers = nn.Conv2d(3, 4, 3), nn.PReLU(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)
    target = chain(*layers)
    before = kept(target)
    with pytest.raises(CannotPort, match=r"the slope of .* is 14 x 14 x 4, that of '1' .* 4$"):
        cnnviz.port_weights(source, target)
    assert kept(target) == before


@pytest.mark.parametrize("relu", [True, False])
def test_a_batch_norm_of_a_flattened_map(relu: bool) -> None:
    def ours(seed: int) -> Any:
        middle = (nn.ReLU(),) if relu else ()
        return chain(nn.Conv2d(3, 4, 5, 2), nn.Flatten(), nn.BatchNorm1d(144), *middle,
                     nn.Linear(144, 5), seed=seed)  # fmt: skip

    middle = (L.ReLU(),) if relu else ()
    norm = L.BatchNormalization(epsilon=1e-5)
    theirs = of_keras(L.Conv2D(4, 5, 2), L.Flatten(), norm, *middle, L.Dense(5))
    found = there_and_back(ours(0), theirs, ours(1))
    assert len(found.turned) == 2


# What noise does not tell


def small(middle: Any, seed: int = 0) -> Any:
    return chain(nn.Conv2d(3, 4, 3), middle, nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                 nn.Linear(4, 5), seed=seed)  # fmt: skip


def small_keras(middle: Any) -> Any:
    return of_keras(L.Conv2D(4, 3), middle, L.GlobalAveragePooling2D(), L.Dense(5))


def test_a_relu_is_no_relu6_though_nothing_came_to_six() -> None:
    target = small_keras(L.ReLU(6))
    before = kept(target)
    match = r"left as it was: .* activation: it has relu6, where the other has relu; make it relu"
    with pytest.raises(CannotPort, match=match):
        cnnviz.port_weights(small(nn.ReLU()), target)
    assert kept(target) == before


def test_a_function_is_no_relu6_either() -> None:
    target = written_out("relu6")
    before = kept(target)
    with pytest.raises(CannotPort, match="left as it was") as caught:
        cnnviz.port_weights(of_torch(Functional()), target)
    assert "nan" not in str(caught.value)
    assert kept(target) == before


def dead(bias: float) -> Any:
    net = small(nn.ReLU())
    net.assign({"0.bias": np.full(4, bias, np.float32)})
    return net


@pytest.mark.parametrize(
    ("bias", "words"),
    [(-50, "a thousand times the contrast alone"), (-1e9, "which proves nothing")],
)
def test_what_is_dead_proves_nothing(bias: float, words: str) -> None:
    found = cnnviz.port_weights(dead(bias), small_keras(L.ReLU()))
    (caution,) = found.cautions
    assert words in caution
    assert caution.startswith("'1' and 2 more layers of Sequential (torch) gave the same")
    assert str(found).endswith(f"; caution: {caution}")
    assert "\n" not in str(found)
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["cautions"] == [caution]


def test_settings_that_no_number_tells_apart_are_told() -> None:
    # Behind a layer that is dead nothing shows.
    found = cnnviz.port_weights(dead(-1e9), small_keras(L.ReLU(6)))
    assert (
        found.cautions[0] == f"activation of '1' is relu, that of {found.layers[1].other!r} relu6"
    )


def test_padding_that_is_the_same_at_this_size_alone() -> None:
    def ours() -> Any:
        model = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                              nn.Linear(4, 5))  # fmt: skip
        return cnnviz.adapt(model.eval(), "identity")

    def theirs(side: int | None) -> Any:
        inputs = keras.Input((side, side, 3))
        x = L.Conv2D(4, 3, 2, padding="same")(inputs)
        model = keras.Model(inputs, L.Dense(5)(L.GlobalAveragePooling2D()(x)))
        return cnnviz.adapt(model, "identity")

    odd = np.random.default_rng(0).uniform(0, 1, (2, 17, 17, 3))
    found = cnnviz.port_weights(ours(), theirs(None), images=odd)
    assert [c.partition(" of ")[0] for c in found.cautions] == ["padding at other sizes"]
    assert cnnviz.port_weights(ours(), theirs(17)).cautions == ()


def test_a_pool_on_zeros_around() -> None:
    def ours(*before: Any) -> Any:
        layers = nn.Conv2d(3, 4, 3), *before, nn.MaxPool2d(3, 2, 1), nn.AdaptiveAvgPool2d(1)
        return chain(*layers, nn.Flatten(), nn.Linear(4, 5))

    def theirs(*before: Any) -> Any:
        layers = L.Conv2D(4, 3), *before, L.ZeroPadding2D(1), L.MaxPooling2D(3, 2)
        return of_keras(*layers, L.GlobalAveragePooling2D(), L.Dense(5))

    assert cnnviz.port_weights(ours(nn.ReLU()), theirs(L.ReLU())).cautions == ()
    # All is far above zero, so that neither is seen.
    source = ours()
    source.assign({"0.bias": np.full(4, 1e6, np.float32)})
    with pytest.raises(CannotPort, match="left as it was"):
        cnnviz.port_weights(ours(), theirs())
    found = cnnviz.port_weights(source, theirs())
    assert "what is around the map of '1' is minus infinity" in found.cautions[0]


def test_weights_that_are_no_numbers() -> None:
    source, target = small(nn.ReLU()), small_keras(L.ReLU())
    before = kept(target)
    kernel = source.weights()["4.weight"].copy()
    for wrong in (np.nan, np.inf):
        kernel[0, 0] = wrong
        source.assign({"4.weight": kernel})
        with pytest.raises(CannotPort, match="the kernel of '4' of Sequential holds NaN"):
            cnnviz.port_weights(source, target)
        assert kept(target) == before
