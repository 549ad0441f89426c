"""Precisions, files and what is refused by name."""

from __future__ import annotations

import warnings

import keras
import numpy as np
import pytest
from cnnviz_keras.specs import find_preprocessing, load_keras
from nets.keras_small import numbers

import cnnviz
from cnnviz.adapter import INPUT, LOGITS
from cnnviz.errors import UnknownModel, UnsupportedModel

L = keras.layers


def small(dtype="float32"):
    x = keras.Input((16, 16, 3))
    y = L.Conv2D(4, 3, name="conv", dtype=dtype)(x)
    y = L.GlobalAveragePooling2D(dtype=dtype)(y)
    return keras.Model(x, L.Dense(3, activation="softmax", name="fc", dtype=dtype)(y))


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "bfloat16", "mixed_float16"])
def test_short_floats_come_out_as_float32(dtype):
    model = small(dtype)
    net = cnnviz.adapt(model, "identity")
    x = net.ops.asarray(np.random.default_rng(0).uniform(0, 1, (2, 16, 16, 3)))
    found = net.gradient(lambda a: a[LOGITS][:, 0], x, taps=[LOGITS, "conv"], wrt=[INPUT, "conv"])
    for value in (*found.activations.values(), *found.gradients.values()):
        assert net.ops.to_numpy(value).dtype == np.float32
        assert np.abs(net.ops.to_numpy(value)).max() > 0
    part = keras.Model(model.inputs, model.get_layer("conv").output)
    wanted = net.ops.to_numpy(part([x]))
    np.testing.assert_array_equal(net.ops.to_numpy(found.activations["conv"]), wanted)


def test_a_model_that_is_compiled():
    model = small()
    model.compile(optimizer="sgd", loss="mse", jit_compile=True)
    assert cnnviz.adapt(model, "identity").layer("conv").spatial == (14, 14)


def test_low_rank_adapters_are_refused_by_name():
    model = small()
    model.get_layer("fc").enable_lora(2)
    with pytest.raises(UnsupportedModel, match=r"LoRA \(Dense 'fc'\).*save_weights"):
        cnnviz.adapt(model, "identity")


def test_quantised_layers_are_refused_by_name():
    x = keras.Input((6,))
    model = keras.Model(x, L.Dense(3, name="fc", dtype="int8_from_float32")(x))
    with pytest.raises(UnsupportedModel, match=r"quantised \(Dense 'fc', int8\)"):
        cnnviz.adapt(model, "identity")


@pytest.mark.parametrize("suffix", ["h5", "hdf5"])
def test_files_of_earlier_versions(suffix, tmp_path):
    model = small()
    path = tmp_path / f"net.{suffix}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save(path)
        opened = load_keras(str(path))[0]
    for wanted, found in zip(model.variables, opened.variables, strict=True):
        np.testing.assert_array_equal(numbers(found), numbers(wanted))
    path.write_bytes(b"junk")
    with pytest.raises(UnknownModel, match="is not an HDF5 file"):
        load_keras(str(path))


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("nasnet_mobile", "nasnet"),
        ("MobilenetV3small", "mobilenet_v3"),
        ("mobilenetv2_1.00_224", "mobilenet_v2"),
        ("convnext_tiny", "convnext"),
        ("efficientnetv2-s", "efficientnet_v2"),
    ],
)
def test_families_by_their_own_names(name, family):
    x = keras.Input((8, 8, 3))
    found = find_preprocessing(keras.Model(x, L.ReLU()(x), name=name))
    assert found is not None
    assert found.source == f"keras.applications.{family}"


def test_the_converter_of_keras_hub_is_read():
    class Converter:
        scale = (1 / 58.0, 1 / 57.0, 1 / 57.5)
        offset = (-2.0, -1.9, -1.8)
        image_size = (20, 30)
        interpolation = "bicubic"

    class Preprocessor:
        image_converter = Converter()

    model = small()
    object.__setattr__(model, "preprocessor", Preprocessor())
    found = find_preprocessing(model)
    pictures = np.random.default_rng(0).uniform(0, 1, (2, 4, 4, 3))
    wanted = pictures * 255 * np.array(Converter.scale) + np.array(Converter.offset)
    np.testing.assert_allclose(found.apply(pictures), wanted, atol=1e-9)
    assert (found.size, found.interpolation) == ((20, 30), "bicubic")
