"""Every method of attribution on the backend says what it says on the oracle."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from attributions import AT, OPTIONS

import cnnviz
from cnnviz.attribution.quality import randomisation
from cnnviz.errors import InvalidOption
from cnnviz.testing import OracleAdapter, small_pictures
from contract.subjects import subjects

PLAIN = {"torch": "small", "keras": "functional"}
# The same network in forms that must not make a difference, not even in the last bit.
FORMS = {"torch": ("frozen", "out-of-place", "training"), "keras": ("frozen",)}
# Zeros that a pooling meets side by side, and which of them it takes, differ by framework; it
# is the one rule that lets a slope pass through a unit that is zero.
TIED = {"deconvnet"}


@cache
def judged(method):
    return cnnviz.attribute(
        OracleAdapter(), small_pictures(), method, [1, 4], AT.get(method), **OPTIONS.get(method, {})
    )


@pytest.fixture(scope="module")
def subject(backend):
    return subjects(backend)[PLAIN[backend.partition("-")[0]]]()


@pytest.fixture(scope="module")
def same_in_other_forms(backend):
    makers = subjects(backend)
    return {form: makers[form]() for form in FORMS[backend.partition("-")[0]]}


def run(subject, method, target, pictures=None, **more):
    layer = AT.get(method)
    return cnnviz.attribute(
        subject.adapter,
        small_pictures() if pictures is None else pictures,
        method,
        target,
        layer and subject.name(layer),
        **OPTIONS.get(method, {}),
        **more,
    )


@pytest.mark.parametrize("method", sorted(set(cnnviz.METHODS) - TIED))
def test_as_the_oracle(subject, method):
    wanted = judged(method)
    before = subject.snapshot(subject.adapter.model)
    found = run(subject, method, [1, 4])
    assert subject.snapshot(subject.adapter.model) == before
    scale = np.abs(wanted.raw).max()
    assert scale > 0
    assert found.raw.dtype == np.float64
    np.testing.assert_allclose(found.raw, wanted.raw, atol=2e-5 * scale)
    np.testing.assert_allclose(found.score, wanted.score, rtol=1e-10)
    for name, fact in wanted.facts.items():
        np.testing.assert_allclose(found.facts[name], fact, atol=1e-5, err_msg=name)
    assert (found.forwards, found.backwards) == (wanted.forwards, wanted.backwards)


@pytest.mark.parametrize("method", sorted(cnnviz.METHODS))
def test_batches_and_several_classes(subject, method):
    """A picture alone, and a class alone, say what they say beside others."""
    pictures = small_pictures(3)
    whole = run(subject, method, [0, 1, 2], pictures, batch=2)
    alone = run(subject, method, 1, pictures[1:2])
    scale = np.abs(whole.raw).max()
    np.testing.assert_allclose(whole.raw[1], alone.raw[0], atol=1e-9 * scale)
    if method != "shapley_cam":
        several = run(subject, method, [(3, 1)], pictures[1:2])
        np.testing.assert_allclose(several.raw[1], alone.raw[0], atol=1e-9 * scale)


@pytest.mark.parametrize("method", sorted(cnnviz.METHODS))
def test_frozen_in_place_or_in_training(subject, same_in_other_forms, method):
    """What is frozen, done in place or left in training has the same maps."""
    wanted = run(subject, method, [1, 4])
    for form, other in same_in_other_forms.items():
        before = other.snapshot(other.adapter.model)
        found = run(other, method, [1, 4])
        assert other.snapshot(other.adapter.model) == before, form
        np.testing.assert_array_equal(found.raw, wanted.raw, err_msg=form)
        np.testing.assert_array_equal(found.score, wanted.score, err_msg=form)


def test_predicted_classes_and_objectives(subject):
    net = subject.adapter
    found = cnnviz.attribute(net, small_pictures(), "grad_cam", cnnviz.top(2))
    again = cnnviz.attribute(net, small_pictures(), "grad_cam")
    assert found.target[::2] == again.target
    np.testing.assert_allclose(found.raw[::2], again.raw, rtol=1e-9)
    contrast = cnnviz.objectives.class_logit(1) - cnnviz.objectives.class_logit(3)
    found = run(subject, "grad_cam", contrast)
    one, two = (run(subject, "grad_cam", c).raw for c in (1, 3))
    np.testing.assert_allclose(found.raw, one - two, atol=1e-10)
    unit = cnnviz.objectives.neuron(subject.name("conv2"), 3, 0, 1)
    with pytest.raises(InvalidOption, match="comes after"):
        cnnviz.attribute(net, small_pictures(), "hires_cam", unit, subject.name("relu:1"))


def test_the_layer_is_by_default_before_what_is_explained(subject):
    unit = cnnviz.objectives.channel(subject.name("conv2"), 3)
    found = cnnviz.attribute(subject.adapter, small_pictures(), "hires_cam", unit)
    unit = cnnviz.objectives.channel("conv2", 3)
    wanted = cnnviz.attribute(OracleAdapter(), small_pictures(), "hires_cam", unit)
    assert found.layer == subject.name("relu:0")
    np.testing.assert_allclose(found.raw, wanted.raw, atol=1e-5 * np.abs(wanted.raw).max())


def test_cam_in_short_floats(backend):
    """What is checked on the numbers is held to what such numbers can tell."""
    if backend == "torch":
        import torch

        conv, dense = torch.nn.Conv2d(3, 64, 3), torch.nn.Linear(64, 9)
        pool = (torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
        model = torch.nn.Sequential(conv, *pool, dense).eval().to(torch.bfloat16)
    else:
        import keras

        how = {"dtype": "bfloat16"}
        x = keras.Input((16, 16, 3))
        y = keras.layers.Conv2D(64, 3, activation="relu", **how)(x)
        y = keras.layers.GlobalAveragePooling2D(**how)(y)
        model = keras.Model(x, keras.layers.Dense(9, **how)(y))
    net = cnnviz.adapt(model, "identity", input_shape=(16, 16, 3))
    pictures = small_pictures(3, 16)
    found = cnnviz.cam(net, pictures, 1)
    assert found.raw.shape == (3, 14, 14)
    np.testing.assert_allclose(
        found.map, cnnviz.grad_cam(net, pictures, 1, found.layer).map, atol=0.05
    )


def test_functions_of_the_native_scores(subject):
    found = run(subject, "saliency", lambda scores: scores[:, 1] * 2)
    np.testing.assert_allclose(found.values, 2 * run(subject, "saliency", 1).values, rtol=1e-9)
    with pytest.raises(InvalidOption, match="constant"):
        run(subject, "saliency", lambda scores: scores[:, 1] * 0)
    for method in ("saliency", "rise"):
        with pytest.raises(InvalidOption, match="numbers of numpy"):
            run(subject, method, lambda scores: np.zeros(int(scores.shape[0])))


def test_randomised_weights_are_put_back(subject):
    before = subject.snapshot(subject.adapter.model)
    report = randomisation(subject.adapter, small_pictures(), ["grad_cam", "saliency"], 1)
    assert subject.snapshot(subject.adapter.model) == before
    assert report.absolute.shape == (2, len(report.layers))
    # Before anything was redrawn the maps would be the same; redrawn they are not.
    assert (report.spearman[:, -1] < 0.999).all()
