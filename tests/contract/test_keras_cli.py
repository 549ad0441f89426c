"""Files of Keras on the command line: archives, and what safe mode keeps out."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from nets.keras_small import Subclassed, called, functional, nested, settle
from shell import assert_refused, run_here

import cnnviz
from cnnviz import photos

CHELSEA = str(photos.path("chelsea"))


@pytest.fixture
def cli(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: run_here(capfd, *arguments)


def save(model):
    with warnings.catch_warnings():
        # Keras's variables do not know numpy 2's way of asking for an array.
        warnings.simplefilter("ignore", DeprecationWarning)
        model.save("net.keras")


class Nothing(keras.layers.Layer):
    """A layer that nobody has registered."""

    def call(self, x):
        return x


@pytest.mark.parametrize(
    ("make", "layer"),
    [(functional, "conv2"), (nested, "head/conv2"), (lambda: called(Subclassed()), "conv2")],
    ids=["functional", "nested", "subclassed"],
)
def test_an_archive_is_the_model_that_was_saved(make, layer, cli):
    model = settle(make())
    save(model)
    rows = cli("layers", "net.keras", "--json").json
    assert [row["name"] for row in rows] == list(cnnviz.layers(model).names)
    assert rows[0]["output_shape"] is not None
    given = ["net.keras", CHELSEA, "--preprocessing", "tf"]
    assert cli("features", *given, "--layer", layer, "--out", "f.npz").status == 0
    expected = cnnviz.feature_maps(cnnviz.adapt(model, preprocessing="tf"), CHELSEA, layer)[layer]
    with np.load("f.npz") as maps:
        np.testing.assert_allclose(maps[layer], expected, rtol=1e-9)


def test_code_within_an_archive_is_not_run(cli):
    x = keras.Input((8, 8, 3))
    save(keras.Model(x, keras.layers.Lambda(lambda t: t * 2)(x)))
    assert_refused(cli("layers", "net.keras"), "net.keras", "Lambda", "safe mode")


def test_a_class_that_is_not_known_is_named(cli):
    x = keras.Input((8, 8, 3))
    save(keras.Model(x, Nothing()(x)))
    assert_refused(cli("layers", "net.keras"), "needs the code of 'Nothing'", "module.py:function")


@pytest.mark.parametrize("what", ["junk", "nothing", "zip", "cut"])
def test_other_files_are_refused(what, cli):
    path = Path("net.keras")
    if what == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("readme.txt", "not a model")
    elif what == "cut":
        save(functional())
        path.write_bytes(path.read_bytes()[:2000])
    else:
        path.write_bytes(b"junk" * 100 if what == "junk" else b"")
    assert_refused(cli("layers", "net.keras"), "net.keras")


def test_an_archive_brings_its_weights(cli):
    save(functional())
    assert_refused(cli("layers", "net.keras", "--weights", "none"), "leave --weights out")
