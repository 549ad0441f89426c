"""The doctor finds every fault that is planted, and none where there is none."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from faults import FAULTS, Fault, opened, sound

from cnnviz import photos
from cnnviz.comparison.comparing import compare

# All of them on one engine: what a layer does is not the engine's to choose.
PLANTED = FAULTS if keras.config.backend() == "tensorflow" else FAULTS[::6]
PHOTO = photos.path("coffee")
# Named by another cause than that which was planted; the layer is right.
OTHERWISE: set[str] = set()


@pytest.mark.parametrize("fault", PLANTED, ids=str)
def test_a_planted_fault(fault: Fault) -> None:
    one, two = fault.plant()
    before = {name: np.array(value) for name, value in two.weights().items()}
    found = compare(one, two, PHOTO)
    assert not found.agree
    assert found.diagnosis is not None, str(found)
    assert found.diagnosis.other == fault.layer, str(found)
    if str(fault) not in OTHERWISE:
        assert found.diagnosis.cause == fault.cause, str(found)
        assert found.diagnosis.sure == "proved"
        assert found.diagnosis.repaired <= found.diagnosis.apart / 10
    after = two.weights()
    assert all(np.array_equal(after[name], value) for name, value in before.items())


def test_the_table_is_large_enough() -> None:
    assert len({fault.name for fault in FAULTS}) >= 16
    assert {fault.side for fault in FAULTS} == {"PyTorch", "Keras"}
    assert len(OTHERWISE) <= 2


@pytest.mark.parametrize("network", ["demo", "resnet18", "mixed", "loose"])
@pytest.mark.parametrize("first", [0, 1])
def test_no_fault(network: str, first: int) -> None:
    pair = [opened(model, network) for model in sound(network)]
    found = compare(pair[first], pair[1 - first], list(photos.paths().values()))
    assert found.agree, str(found)
    assert found.diagnosis is None
    assert found.first_divergence is None
    assert found.predictions.same == 3
