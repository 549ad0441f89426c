"""Fashion-MNIST and a small network for it, in PyTorch and in Keras, trained in a minute."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import cnnviz
from cnnviz.sources import Source, as_source

__all__ = ["CLASSES", "accuracy", "pixels", "source", "trained"]

CLASSES = (
    *("T-shirt", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)
_FOLDER = Path(os.environ.get("FASHION_MNIST", "/usr/share/datasets/fashion-mnist"))
_WIDTHS = (16, 32, 64)
_BATCH, _EPOCHS, _RATE = 128, 2, 2e-3


def source(part: str = "train") -> Source:
    """Open the images; Debian has them in the package dataset-fashion-mnist."""
    path = _FOLDER / f"{part}-images-idx3-ubyte.gz"
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing: apt install dataset-fashion-mnist, or name its folder in"
            " FASHION_MNIST"
        )
    return as_source(str(path))


def pixels(part: str = "train") -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read all images ``(N, 28, 28, 1)`` and their classes."""
    images = source(part)
    count = images.length
    assert count is not None
    block = images.block(0, count)
    assert block is not None
    labels = np.array([images.label(i) for i in range(count)])
    return np.asarray(block).reshape(count, 28, 28, 1), labels


def trained(framework: str) -> Any:
    """Train the network from one seed, and adapt it."""
    x, y = pixels()
    order = np.random.default_rng(0)
    batches = [
        part for _ in range(_EPOCHS) for part in np.array_split(order.permutation(len(x)), 469)
    ]
    make = _torch if framework == "torch" else _keras
    return cnnviz.adapt(make(x, y, batches), "identity", input_shape=(28, 28, 1))


def accuracy(net: Any) -> float:
    """Give the share of the 10,000 test images that are classified rightly."""
    x, y = pixels("t10k")
    right = 0
    for i in range(0, len(x), 500):
        pictures = net.ops.asarray(x[i : i + 500].astype(np.float32) / 255)
        scores = net.forward(pictures, taps=[cnnviz.LOGITS])[cnnviz.LOGITS]
        right += int((net.ops.to_numpy(scores).argmax(axis=1) == y[i : i + 500]).sum())
    return right / len(x)


def _torch(x: NDArray[np.uint8], y: NDArray[np.int64], batches: list[NDArray[np.int64]]) -> Any:
    import torch
    from torch import nn

    torch.manual_seed(0)
    layers: list[nn.Module] = []
    before = 1
    for width in _WIDTHS:
        layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        before = width
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(_WIDTHS[-1] * 9, 10))
    optimizer = torch.optim.Adam(model.parameters(), _RATE)
    for some in batches:
        pictures = torch.from_numpy(x[some].transpose(0, 3, 1, 2).astype(np.float32) / 255)
        loss = nn.functional.cross_entropy(model(pictures), torch.from_numpy(y[some]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def _keras(x: NDArray[np.uint8], y: NDArray[np.int64], batches: list[NDArray[np.int64]]) -> Any:
    import keras

    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((28, 28, 1))])
    for width in _WIDTHS:
        model.add(keras.layers.Conv2D(width, 3, padding="same"))
        model.add(keras.layers.ReLU())
        model.add(keras.layers.MaxPooling2D(2))
    model.add(keras.layers.Flatten())
    model.add(keras.layers.Dense(10))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(_RATE), loss)
    # Whole batches only: another size would be traced anew.
    for some in (part[:127] for part in batches):
        model.train_on_batch(x[some].astype(np.float32) / 255, y[some])
    return model
