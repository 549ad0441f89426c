"""The receptive fields of a trained network, whose ReLUs are silent now and then."""

from __future__ import annotations

import numpy as np

import cnnviz
from cnnviz.fields import Window
from cnnviz.measured_fields import seen_boxes
from cnnviz.testing import assert_fields


def test_a_trained_network_sees_nearly_all_of_its_fields_and_nothing_else(backend):
    net = cnnviz.load("demo", framework=backend.partition("-")[0])
    size = (128, 160)
    listed = [layer for layer in net.layers_at(*size) if layer.spatial]
    assert all(isinstance(layer.field, Window) and layer.field.start for layer in listed)
    some = [*listed[::12], listed[-1]]
    held = assert_fields(
        net, size, layers=[layer.name for layer in some], exact=lambda layer: False, pictures=2
    )
    assert held == len({layer.name for layer in some})
    compared = 0
    for layer in some:
        place = tuple(n // 2 for n in layer.spatial)
        told = np.array(layer.patch(place, size))
        if (told < 0).any() or (told > [*size, *size]).any():
            continue
        (seen,) = seen_boxes(net, layer, [place], size, pictures=6)
        missing = np.abs(told - seen)
        assert (missing <= 0.1 * np.array(layer.receptive_field * 2)).all(), (layer.name, seen)
        compared += 1
    assert compared >= 3
