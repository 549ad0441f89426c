"""Datasets of Keras and TensorFlow as sources: files where they are known, streams else."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from PIL import Image

from cnnviz.errors import InvalidOption
from cnnviz.pictures import picture_batch
from cnnviz.sources import as_source, read_batches
from cnnviz.testing import OracleAdapter

tf = pytest.importorskip("tensorflow", reason="tf.data is TensorFlow's")

NET = OracleAdapter()
PICTURES = np.random.default_rng(0).integers(0, 256, (10, 12, 12, 3), np.uint8)


def read(images):
    found = list(read_batches(as_source(images), NET, 0, None, 4))
    return (
        np.concatenate([one.pictures for one in found]),
        np.concatenate([one.labels for one in found]),
    )


def slices(x, y):
    return tf.data.Dataset.from_tensor_slices((x, y))


@pytest.mark.parametrize(
    ("make", "length"),
    [
        (lambda: slices(PICTURES, np.arange(10)), 10),
        (lambda: slices(PICTURES, np.arange(10)).batch(3), None),
        (lambda: slices(PICTURES.astype(np.float32), np.eye(10)).batch(3), None),
        (lambda: slices(PICTURES / np.float32(255), np.arange(10)[:, None]).batch(3), None),
        (lambda: tf.data.Dataset.from_tensor_slices({"image": PICTURES, "label": range(10)}), 10),
    ],
)
def test_each_form_gives_the_same_pictures(make, length):
    dataset = make()
    assert as_source(dataset).length == length
    pictures, labels = read(dataset)
    np.testing.assert_allclose(pictures, picture_batch(NET, PICTURES), atol=1e-6)
    np.testing.assert_array_equal(labels, range(10))


def test_a_dataset_that_is_shuffled_each_time_is_refused():
    source = as_source(slices(PICTURES, np.arange(10)).shuffle(10, seed=1).batch(4))
    source.fingerprint()
    with pytest.raises(InvalidOption, match="shuffle=False"):
        list(read_batches(source, NET, 0, None, 4))


def test_a_dataset_of_a_directory_is_its_files(tmp_path):
    for number, picture in enumerate(PICTURES):
        file = tmp_path / ["cat", "dog"][number // 5] / f"{number}.png"
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(picture).save(file)
    dataset = keras.utils.image_dataset_from_directory(
        str(tmp_path), image_size=(12, 12), verbose=False, seed=3
    )
    source = as_source(dataset)
    assert source.parallel
    assert source.classes == ("cat", "dog")
    assert source.fingerprint() == as_source(tmp_path).fingerprint()
    pictures, labels = read(source)
    np.testing.assert_array_equal(labels, [0] * 5 + [1] * 5)
    np.testing.assert_array_equal(pictures, picture_batch(NET, PICTURES))


def test_a_dataset_that_gives_batches_by_number():
    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 5

        def __getitem__(self, number):
            rows = slice(number * 2, number * 2 + 2)
            return PICTURES[rows].astype(np.float32), np.arange(10)[rows]

    pictures, labels = read(Batches())
    np.testing.assert_allclose(pictures, picture_batch(NET, PICTURES), atol=1e-6)
    np.testing.assert_array_equal(labels, range(10))
