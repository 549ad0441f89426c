"""A scan for exemplars against the bare forward passes over the same decoded images.

Images lie in memory as bytes. Ours is `cnnviz.find_exemplars`; the loop by hand normalises and
runs the network, in chunks of the size that is best for it. The ratios are those of
`benchmarks.ascent`; nothing is asserted.

    python -m benchmarks.scans torch --seconds 30
    python -m benchmarks.scans keras --seconds 30
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
import torch

import cnnviz
from benchmarks.timing import Row, fastest, interleaved, table
from cnnviz.pictures import picture_size, two_sides

CHUNKS = (4, 8, 16, 32, 64, 128, 256)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("framework", choices=("torch", "keras"))
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--threads", type=int, help="of the framework; its own by default")
    parser.add_argument("--only", help="networks whose name holds this")
    options = parser.parse_args()
    if options.threads:
        framework = import_module(f"benchmarks.ascent_{options.framework}")
        framework.use_threads(options.threads)
    rows = []
    for name, (make, layers, count) in works(options.framework).items():
        if options.only and options.only not in name:
            continue
        net = make()
        side = two_sides(picture_size(net) or 224)
        shape = (count, *side, net.input_shape[-1])
        x = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        by_hand = loop(net, x)
        best, least = CHUNKS[0], math.inf
        for chunk in CHUNKS:
            # Of so many large pictures the activations would fill the memory.
            if chunk > 64 and side[0] > 64:
                break
            took = fastest(partial(by_hand, chunk), 1)
            if took < least:
                best, least = chunk, took
        calls: dict[str, Callable[[], object]] = {
            "ours": partial(cnnviz.find_exemplars, net, x, layers),
            "theirs": partial(by_hand, best),
        }
        found = interleaved(calls, options.seconds, least=3)
        told = f"{name}, {layers or 'stages'}"
        rows.append(Row(told, found["ours"], f"{best} at once", found["theirs"]))
    print(table(rows))


def works(framework: str) -> dict[str, tuple[Callable[[], Any], str | None, int]]:
    """Name networks with how they are made, the layers to scan and the number of images."""
    lite0 = partial(cnnviz.load, "demo", framework=framework)
    if framework == "torch":
        resnet = partial(
            cnnviz.load,
            "torchvision:resnet50",
            weights="none",
            preprocessing="imagenet",
            input_size=224,
        )
    else:
        resnet = partial(cnnviz.load, "keras:ResNet50", weights="none")
    return {
        "lite0": (lite0, None, 512),
        "lite0 whole": (lite0, "all", 64),
        "resnet50": (resnet, None, 256),
        "small": (partial(small, framework), None, 16384),
        "small whole": (partial(small, framework), "all", 4096),
    }


def small(framework: str) -> Any:
    """Make the network of the tests on Fashion-MNIST, with random weights."""
    if framework == "torch":
        from torch import nn

        layers: list[nn.Module] = []
        for before, width in ((1, 16), (16, 32), (32, 64)):
            layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        model: Any = nn.Sequential(*layers, nn.Flatten(), nn.Linear(576, 10)).eval()
    else:
        import keras

        model = keras.Sequential([keras.Input((28, 28, 1))])
        for width in (16, 32, 64):
            model.add(keras.layers.Conv2D(width, 3, padding="same"))
            model.add(keras.layers.ReLU())
            model.add(keras.layers.MaxPooling2D(2))
        model.add(keras.layers.Flatten())
        model.add(keras.layers.Dense(10))
    return cnnviz.adapt(model, "identity", input_shape=(28, 28, 1))


def loop(net: Any, x: Any) -> Callable[[int], None]:
    """Give the leanest pass over images of bytes, for a number at once."""
    preprocessing, model = net.require_preprocessing(), net.model
    if net.framework == "torch":

        def run(chunk: int) -> None:
            for i in range(0, len(x), chunk):
                some = preprocessing.apply(x[i : i + chunk].astype(np.float32) / 255)
                with torch.inference_mode():
                    model(torch.from_numpy(np.ascontiguousarray(some)).movedim(-1, 1)).numpy()

        return run
    import tensorflow as tf

    traced = tf.function(lambda z: model(z, training=False), autograph=False)

    def run_keras(chunk: int) -> None:
        for i in range(0, len(x), chunk):
            some = preprocessing.apply(x[i : i + chunk].astype(np.float32) / 255)
            traced(tf.constant(some)).numpy()

    return run_keras


if __name__ == "__main__":
    main()
