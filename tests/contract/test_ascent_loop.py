"""The loop of an ascent stays on the device and traces its step once."""

from __future__ import annotations

from collections import Counter

import pytest

import cnnviz
from cnnviz.ascent import steps, transforms
from cnnviz.ascent.canvas import FourierCanvas, LaplacianCanvas, MacoCanvas, PixelCanvas
from cnnviz.ascent.optimizers import NAdam
from cnnviz.ascent.penalties import L2, TotalVariation
from cnnviz.ascent.projections import BilateralBlur, GaussianBlur
from contract.subjects import subjects

BARE = cnnviz.Recipe(size=(12, 11))
# Everything that is drawn or decided anew at each step.
SETTINGS = {
    "distill": {"canvas": FourierCanvas(), "transforms": transforms.distill()},
    "views": {
        "canvas": PixelCanvas(),
        "views": 2,
        "jitter": 2,
        "transforms": (
            transforms.RandomCrop(),
            transforms.Noise(0.1),
            transforms.Colour(),
            transforms.Flip(),
            transforms.Blur(0.7),
        ),
        "penalties": (L2(0.1), TotalVariation(0.01)),
        "projections": (BilateralBlur(every=2),),
    },
    "waves": {
        "canvas": FourierCanvas(decay=1.3),
        "optimizer": NAdam(0.05),
        "schedule": "cosine",
        "reveal": 0.8,
        "projections": (GaussianBlur(every=2),),
    },
    "phases": {"canvas": MacoCanvas(), "optimizer": NAdam(0.5)},
    "pyramid": {"canvas": LaplacianCanvas(levels=2)},
}
FORM = {"torch": "small", "keras": "functional"}


@pytest.fixture
def net(backend):
    return subjects(backend)[FORM[backend.partition("-")[0]]]().adapter


@pytest.fixture
def counted(monkeypatch):
    """Count how often the Python of a step runs."""
    counts = Counter()
    for kind in (steps.Show, steps.Score, steps.Move, steps.Project):
        original = kind.__call__

        def call(self, *args, original=original, name=kind.__name__, **kwargs):
            counts[name] += 1
            return original(self, *args, **kwargs)

        monkeypatch.setattr(kind, "__call__", call)
    return counts


@pytest.mark.parametrize("name", SETTINGS)
def test_a_step_is_traced_once(net, counted, name):
    settings = SETTINGS[name]
    cnnviz.ascend(net, ["conv2:1", "fc:2"], BARE, steps=4, **settings)
    first = Counter(counted)
    assert first["Show"] > 0
    assert first["Score"] > 0
    assert first["Move"] > 0
    cnnviz.ascend(net, ["conv2:3", "fc:0"], BARE, steps=9, seed=5, **settings)
    if net.compiled:
        # Other channels, more steps and other draws of the same settings are the same trace.
        assert counted == first
        assert first["Move"] == 1
    else:
        assert counted["Move"] == 4 + 9


@pytest.mark.parametrize("name", SETTINGS)
def test_nothing_is_copied_to_numpy_within_the_loop(net, monkeypatch, name):
    calls = []
    original = type(net.ops).to_numpy
    monkeypatch.setattr(
        type(net.ops), "to_numpy", lambda self, x: calls.append(x.shape) or original(self, x)
    )
    # What is looked up once, such as the layers, is looked up first.
    cnnviz.ascend(net, "conv2:1", BARE, steps=1, **SETTINGS[name])
    counts = []
    for count in (2, 7):
        calls.clear()
        cnnviz.ascend(net, "conv2:1", BARE, steps=count, **SETTINGS[name])
        # One number a step is read once the loop is over.
        counts.append(len(calls) - count)
    assert counts[0] == counts[1] > 0
