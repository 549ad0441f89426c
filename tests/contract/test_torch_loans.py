"""What a network lends out without a copy is what it gives away as one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import cnnviz


class InPlace(nn.Module):
    """Every way to write to what a layer gave."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.same = nn.Identity()
        self.relu = nn.ReLU(inplace=True)
        self.second = nn.Conv2d(4, 4, 1)
        self.third = nn.Conv2d(4, 4, 1)
        self.fourth = nn.Conv2d(4, 4, 1)
        self.last = nn.Conv2d(4, 2, 1)

    def forward(self, x: Any) -> Any:
        x = self.relu(self.same(self.conv(x)))
        skip = self.second(x)
        skip += x
        hidden = self.third(skip)
        hidden.data.mul_(3)
        late = self.fourth(hidden)
        if x.max() > 0.3:
            # Not so for a blank picture.
            late.data.clamp_(min=0)
        return self.last(late).mean((2, 3))


class Buffered(nn.Module):
    """A layer that gives the same piece of memory again and again."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.room: Any = None

    def forward(self, x: Any) -> Any:
        given = self.conv(x)
        if self.room is None or self.room.shape != given.shape:
            self.room = torch.empty_like(given)
        self.room.copy_(given)
        return self.room


def adapted(*layers: Any) -> Any:
    torch.manual_seed(0)
    model = nn.Sequential(*layers) if len(layers) > 1 else layers[0]
    return cnnviz.adapt(model.eval(), "identity", input_shape=(8, 8, 3))


def pictures(seed: int) -> Any:
    return torch.from_numpy(np.random.default_rng(seed).random((2, 8, 8, 3), np.float32))


def test_what_is_worked_on_in_place_is_lent_as_it_was():
    torch.manual_seed(0)
    net = adapted(InPlace())
    names = [layer.name for layer in net.layers()]
    for seed in (1, 2):
        copied = net.forward(pictures(seed), taps=names)
        lent = net.borrow(pictures(seed), taps=names)
        for name in names:
            assert torch.equal(copied[name], lent[name]), name
    # Copies are made where they must be, and only there.
    assert not torch.equal(copied["conv"], copied["relu"])
    assert lent["conv"].data_ptr() != lent["relu"].data_ptr()


def test_what_nothing_changes_is_not_copied():
    net = adapted(nn.Conv2d(3, 4, 1), nn.Identity(), nn.Conv2d(4, 4, 1), nn.ReLU())
    copied = net.forward(pictures(1), taps=["0", "1", "3"])
    lent = net.borrow(pictures(1), taps=["0", "1", "3"])
    assert copied["0"].data_ptr() != copied["1"].data_ptr()
    assert lent["0"].data_ptr() == lent["1"].data_ptr()


def test_what_the_model_keeps_is_not_overwritten_by_its_next_run():
    net = adapted(Buffered(), nn.Conv2d(4, 4, 1))
    first = net.borrow(pictures(1), taps=["0", "1"])
    before = first["0"].clone()
    second = net.borrow(pictures(2), taps=["0", "1"])
    assert torch.equal(first["0"], before)
    assert not torch.equal(second["0"], before)


def test_weights_that_a_layer_gives_are_not_lent():
    class Table(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.ones(1, 4, 8, 8))

        def forward(self, x: Any) -> Any:
            return self.table

    net = adapted(Table(), nn.Conv2d(4, 4, 1))
    lent = net.borrow(pictures(1)[:1], taps=["0", "1"])
    assert lent["0"].data_ptr() != net.model[0].table.data_ptr()


def test_what_goes_into_layers_is_as_it_was_before_them():
    net = adapted(InPlace())
    x = pictures(1)
    inputs = net.entering(x, layers=[layer.name for layer in net.layers()])
    given = net.forward(x, taps=["conv", "relu", "third"])
    assert torch.equal(inputs["relu"], given["conv"])
    assert torch.equal(inputs["second"], given["relu"])
    assert torch.equal(inputs["fourth"], given["third"] * 3)
    # The weights are not lent either: nothing that was given is written to by another run.
    before = inputs["last"].clone()
    net.entering(pictures(2), layers=["last"])
    assert torch.equal(inputs["last"], before)


@pytest.mark.filterwarnings(
    "ignore:`torch.jit:DeprecationWarning", "ignore:`torch.jit:FutureWarning"
)
def test_scores_of_torchscript_are_lent():
    """Its parts have no length, nor say that they have none."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    pictures = np.random.default_rng(0).random((6, 8, 8, 3)).astype(np.float32)
    given = [model, torch.jit.script(model)]
    found = [
        net.ops.to_numpy(net.borrow(net.ops.asarray(pictures), taps=[cnnviz.LOGITS])[cnnviz.LOGITS])
        for net in (cnnviz.adapt(m, "identity", input_shape=(8, 8, 3)) for m in given)
    ]
    assert np.array_equal(*found)
