"""Two networks that are scored at once give what each gives by itself."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from nets import keras_small, torch_small

import cnnviz
from cnnviz.adapter import LOGITS
from cnnviz.comparison.scoring import scoring
from cnnviz.testing import SMALL_PREPROCESSING, small_pictures


class Watched:
    """Notes which threads run a network, and on how many pictures."""

    def __init__(self, net, monkeypatch):
        self.net, self.calls = net, []
        forward = net.forward

        def watched(x, *, taps):
            self.calls.append((threading.current_thread().name, len(x)))
            return forward(x, taps=taps)

        monkeypatch.setattr(net, "forward", watched)

    def scores(self, pictures):
        net = self.net
        found = type(net).forward(net, net.ops.asarray(pictures), taps=[LOGITS])[LOGITS]
        return net.ops.to_numpy(found)


@pytest.fixture
def pair(monkeypatch):
    torch_net = cnnviz.adapt(torch_small.settle(torch_small.Small()), SMALL_PREPROCESSING)
    keras_net = cnnviz.adapt(keras_small.settle(keras_small.functional()), SMALL_PREPROCESSING)
    return Watched(torch_net, monkeypatch), Watched(keras_net, monkeypatch)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("steps", [[29], [4, 8, 8, 8, 1], [1] * 29, [3, 0, 26]])
def test_scores_are_those_of_each_by_itself(pair, turned, steps):
    one, two = reversed(pair) if turned else pair
    pictures = small_pictures(29)
    found = []
    with scoring(one.net, two.net, lambda a, b: found.append((a, b))) as scores:
        start = 0
        for step in steps:
            some = pictures[start : start + step]
            # So that each is seen to be given its own.
            scores.add(some, 1 - some)
            start += step
        scores.finish()
    assert start == 29
    for watched, values, given in zip(
        (one, two), zip(*found, strict=True), (pictures, 1 - pictures), strict=True
    ):
        values = np.concatenate(values)
        assert values.shape == (29, 5)
        assert values == pytest.approx(watched.scores(given), rel=1e-9, abs=1e-12)
    of_torch, of_keras = pair
    main = threading.current_thread().name
    assert {name for name, _ in of_torch.calls} == {main}
    away = [name for name, _ in of_keras.calls if name != main]
    if of_keras.net.framework == "keras-tensorflow":
        assert of_keras.net.any_thread
        assert len(away) == len(of_keras.calls) - 1 > 1
        # One trace does for all.
        assert {count for _, count in of_keras.calls} == {8}
    else:
        assert not of_keras.net.any_thread
        assert not away


def test_one_network_beside_itself_stays_where_it_is(pair):
    main = threading.current_thread().name
    for watched in pair:
        with scoring(watched.net, watched.net, lambda a, b: None) as scores:
            scores.add(small_pictures(24), small_pictures(24))
        assert {name for name, _ in watched.calls} == {main}


def test_what_goes_wrong_in_the_other_thread_is_told(pair, monkeypatch):
    of_torch, of_keras = pair
    with scoring(of_torch.net, of_keras.net, lambda a, b: None) as scores:
        scores.add(small_pictures(8), small_pictures(8))

        def broken(x, *, taps):
            raise ZeroDivisionError(threading.current_thread().name)

        monkeypatch.setattr(of_keras.net, "forward", broken)
        with pytest.raises(ZeroDivisionError) as told:
            scores.add(small_pictures(8), small_pictures(8))
    moved = of_keras.net.any_thread
    assert (str(told.value) == threading.current_thread().name) != moved


def test_eager_tensorflow_stays_where_it_is(pair):
    _, of_keras = pair
    if of_keras.net.framework != "keras-tensorflow":
        return
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    try:
        assert not of_keras.net.any_thread
    finally:
        tf.config.run_functions_eagerly(False)
    assert of_keras.net.any_thread
