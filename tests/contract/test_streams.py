"""A network in several threads gives what it gives in one."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

import cnnviz
from cnnviz import passes
from cnnviz.testing import small_pictures
from contract.subjects import subjects

NAMES = {
    "torch": ("small", "nested", "training", "mixed", "parallel"),
    "keras": ("functional", "nested", "subclassed", "mixed", "sequential"),
}
# JAX's calls and torch's under Keras ask what is set for their thread.
STREAMS = {"torch": 2, "keras-tensorflow": 2}
LAYERS = ("conv1", "relu:0", "gap", "fc")


@pytest.fixture(params=range(5))
def subject(request, backend):
    made = subjects(backend)[NAMES[backend.partition("-")[0]][request.param]]()
    before = made.snapshot(made.adapter.model)
    yield made
    assert made.snapshot(made.adapter.model) == before


def bytes_in(folder: Path) -> dict[str, bytes]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    assert files
    return {path.name: path.read_bytes() for path in files}


def test_there_are_as_many_as_there_are_threads(subject, backend, two_threads):
    net = subject.adapter
    taps = [subject.name("conv1")]
    x = net.ops.asarray(small_pictures(4))
    for most in (1, 2, 8):
        openers = net.streams(x, taps=taps, most=most)
        assert len(openers) == min(STREAMS.get(backend, 1), most)


def test_all_of_them_give_the_same_at_the_same_time(subject, two_threads):
    net = subject.adapter
    taps = [subject.name(layer) for layer in LAYERS]
    x = net.ops.asarray(small_pictures(4))
    wanted = {tap: net.ops.to_numpy(y) for tap, y in net.forward(x, taps=taps).items()}
    wrong: list[str] = []

    def run(opener) -> None:
        opened = opener()
        for _ in range(10):
            found = opened.borrow(x, taps=taps)
            for tap in taps:
                if not np.array_equal(opened.ops.to_numpy(found[tap]), wanted[tap]):
                    wrong.append(tap)

    openers = net.streams(x, taps=taps, most=2)
    if len(openers) == 1:
        run(*openers)
    else:
        threads = [threading.Thread(target=run, args=(one,)) for one in openers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


def test_a_scan_gives_the_same_bytes(subject, two_threads, monkeypatch, tmp_path):
    pictures, names = small_pictures(30), [subject.name(layer) for layer in LAYERS]
    labels = np.arange(30) % 3
    for threads in (1, 2):
        monkeypatch.setattr(passes, "_STREAMS", threads)
        cnnviz.find_exemplars(
            subject.adapter,
            pictures,
            names,
            k=4,
            sample=8,
            labels=labels,
            batch=4,
            out=tmp_path / str(threads),
        )
    assert bytes_in(tmp_path / "1") == bytes_in(tmp_path / "2")


def test_features_are_the_same_bytes(subject, two_threads, monkeypatch, tmp_path):
    pictures, name = small_pictures(30), subject.name("conv1")
    for threads in (1, 2):
        monkeypatch.setattr(passes, "_STREAMS", threads)
        out = tmp_path / f"{threads}.npz"
        cnnviz.extract(subject.adapter, pictures, name, out, batch=4)
    assert (tmp_path / "1.npz").read_bytes() == (tmp_path / "2.npz").read_bytes()
