"""Features that are written are those of a forward of the backend."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

import cnnviz
from cnnviz.testing import SMALL_PREPROCESSING, small_pictures
from contract.subjects import subjects

PLAIN = {"torch": "small", "keras": "functional"}
LAYERS = ("conv1", "relu:0", "pool", "gap", "fc")


@pytest.fixture
def subject(backend):
    return subjects(backend)[PLAIN[backend.partition("-")[0]]]()


@pytest.mark.parametrize("shards", [1, 3])
def test_features_are_those_of_a_forward(subject, tmp_path, shards):
    net, pictures = subject.adapter, small_pictures(10)
    names = [subject.name(layer) for layer in LAYERS]
    found = cnnviz.extract(net, pictures, names, tmp_path / "f.npz", batch=4, shards=shards)
    assert tuple(found) == tuple(names)
    for start in range(0, 10, 4):
        # The last batch is filled up where another size would be traced anew.
        some = pictures[start : start + 4]
        full = np.zeros((4, *some.shape[1:]), some.dtype)
        full[: len(some)] = some
        given = full if net.compiled else some
        wanted = net.forward(net.ops.asarray(given), taps=names)
        for name in names:
            values = net.ops.to_numpy(wanted[name])[: len(some)]
            assert found[name].dtype == values.dtype
            assert np.array_equal(found[name][start : start + 4], values)


def test_what_a_batch_gave_goes_without_a_collection(subject):
    """Else the features of many batches would lie in memory until one comes."""
    net, names = subject.adapter, [subject.name("conv1"), subject.name("pool")]
    x = net.ops.asarray(small_pictures(4))
    net.forward(x, taps=names)
    gc.collect()
    gc.disable()
    try:
        found = net.forward(x, taps=names)
        left = [weakref.ref(found[name]) for name in names]
        assert all(one() is not None for one in left)
        del found
        assert [one() for one in left] == [None, None]
    finally:
        gc.enable()


def test_pooled_features_are_the_means_of_maps(subject, tmp_path):
    net, pictures = subject.adapter, small_pictures(6)
    name = subject.name("conv1")
    maps = cnnviz.extract(net, pictures, name, tmp_path / "maps.npz", batch=4)
    means = cnnviz.extract(net, pictures, name, tmp_path / "means.npz", batch=4, pool="mean")
    wanted = np.asarray(maps[name], np.float64).mean(axis=(1, 2))
    assert means[name] == pytest.approx(wanted.astype(means[name].dtype), rel=1e-6)


def test_processes_write_the_same_bytes(subject, tmp_path):
    # What goes to workers is the model, and how it was adapted.
    net = cnnviz.adapt(subject.adapter.model, preprocessing=SMALL_PREPROCESSING)
    pictures, name = small_pictures(10), subject.name("conv1")
    for place in ("serial", "processes"):
        out = tmp_path / f"{place}.npz"
        cnnviz.extract(net, pictures, name, out, batch=4, executor=place, shards=2)
    assert (tmp_path / "serial.npz").read_bytes() == (tmp_path / "processes.npz").read_bytes()
