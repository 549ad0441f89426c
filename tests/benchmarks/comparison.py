"""A comparison of two networks against the two bare forward passes over the same pictures.

The demo network in PyTorch and in Keras on TensorFlow, over 64 pictures of its size that are
arrays already. Ours is `cnnviz.compare`: matching, four pictures layer by layer, slopes, and the
scores of all. The loops by hand normalise and run both networks, in chunks of the size that is
best for them. The ratios are those of `benchmarks.ascent`; nothing is asserted.

    python -m benchmarks.comparison --seconds 60
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import torchvision  # noqa: F401  # before TensorFlow
from cnnviz_torch import lite0 as torch_lite0

import cnnviz
from benchmarks.timing import Row, interleaved, table
from cnnviz import images, lite0, photos

CHUNKS = (4, 8, 16, 32)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--count", type=int, default=64, help="pictures (%(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of each framework (%(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    import tensorflow as tf
    from cnnviz_keras import lite0 as keras_lite0

    tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    of_torch, of_keras = torch_lite0.load_demo()[0], keras_lite0.load_demo()[0]
    nets = [cnnviz.adapt(model, lite0.PREPROCESSING) for model in (of_torch, of_keras)]
    x = pictures(options.count)
    traced = tf.function(lambda z: of_keras(z, training=False), autograph=False)

    def by_hand(chunk: int) -> None:
        for i in range(0, len(x), chunk):
            some = lite0.PREPROCESSING.apply(x[i : i + chunk])
            with torch.inference_mode():
                of_torch(torch.from_numpy(some).movedim(-1, 1)).numpy()
            traced(tf.constant(some)).numpy()

    # In turn, and more than once: what is chosen in one bad moment is not the best.
    took = interleaved({str(c): partial(by_hand, c) for c in CHUNKS}, 0, least=3)
    best = min(CHUNKS, key=lambda chunk: min(took[str(chunk)].cpu))
    calls: dict[str, Callable[[], object]] = {
        "ours": lambda: cnnviz.compare(*nets, x),
        "theirs": partial(by_hand, best),
    }
    found = interleaved(calls, options.seconds, least=3)
    name = f"compare over {options.count} pictures"
    print(table([Row(name, found["ours"], f"{best} at once", found["theirs"])]))


def pictures(count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Cut squares out of the photos at many places."""
    rng = np.random.default_rng(0)
    whole = [images.read_batch(str(path), size=(320, 400)) for path in photos.paths().values()]
    found = []
    for i in range(count):
        top, left = rng.integers(0, 320 - 224), rng.integers(0, 400 - 224)
        found.append(whole[i % len(whole)][0, top : top + 224, left : left + 224])
    return np.stack(found).astype(np.float32)


if __name__ == "__main__":
    main()
