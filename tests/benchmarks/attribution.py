"""Attribution against the leanest loops that can be written by hand for the same work.

The works, on ResNet-50 with random weights at 224 pixels: Grad-CAM of sixteen pictures at the last
stage, enlarged and scaled; integrated gradients of one picture by 50 nodes; SmoothGrad of one by
50 samples; RISE of one by 1000 masks (or as many as `--masks` says). Ours is what `attribute`
does from the picture as an array to the result. The loops by hand begin with the same array,
run in chunks of the size that is best for them, and end with the map in numpy.

The ratios are those of `benchmarks.ascent`; nothing is asserted.

    python -m benchmarks.attribution torch --seconds 20 --only rise
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np

import cnnviz
from benchmarks.timing import Row, fastest, interleaved, table

SIZE, STEPS = 224, 50
CHUNKS = (4, 8, 16, 32)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("framework", choices=("torch", "keras"))
    parser.add_argument("--seconds", type=float, default=10.0, help="for each row (%(default)s)")
    parser.add_argument("--only", default="", help="rows that have this in their name")
    parser.add_argument("--threads", type=int, default=1, help="of the framework (%(default)s)")
    parser.add_argument("--masks", type=int, default=1000, help="of RISE (%(default)s)")
    options = parser.parse_args()
    framework = import_module(f"benchmarks.attribution_{options.framework}")
    framework.use_threads(options.threads)
    model = framework.model("resnet50")
    net = framework.adapted(model)
    loops = framework.Loops(model)
    rng = np.random.default_rng(0)
    many = rng.uniform(0, 1, (16, SIZE, SIZE, 3)).astype(np.float32)
    one = many[:1]
    nodes, weights = np.polynomial.legendre.leggauss(STEPS)
    noise = rng.standard_normal((STEPS, SIZE, SIZE, 3), dtype=np.float32) * 0.15
    count = options.masks
    works: dict[str, tuple[Callable[[], Any], Callable[[int], Any]]] = {
        "grad_cam, 16 pictures": (
            lambda: cnnviz.attribute(net, many, "grad_cam", 7, framework.LAYER),
            lambda chunk: loops.grad_cam(many, 7, chunk),
        ),
        "integrated_gradients, 50 steps": (
            lambda: cnnviz.attribute(net, one, "integrated_gradients", 7, steps=STEPS),
            lambda chunk: loops.integrated(one, 7, (nodes + 1) / 2, weights / 2, chunk),
        ),
        "smoothgrad, 50 samples": (
            lambda: cnnviz.attribute(net, one, "smoothgrad", 7, samples=STEPS),
            lambda chunk: loops.smoothed(one, 7, noise, chunk),
        ),
        f"rise, {count} masks": (
            lambda: cnnviz.attribute(net, one, "rise", 7, masks=count),
            lambda chunk: loops.rise(one, 7, count, chunk),
        ),
    }
    rows = []
    for name, (ours, by_hand) in works.items():
        if options.only not in name:
            continue
        best, least = CHUNKS[0], math.inf
        for chunk in CHUNKS:
            took = fastest(partial(by_hand, chunk), 1)
            if took < least:
                best, least = chunk, took
        calls = {"ours": ours, "theirs": partial(by_hand, best)}
        found = interleaved(calls, options.seconds, least=3)
        row = Row(name, found["ours"], f"{best} at once", found["theirs"])
        rows.append(row)
        print(table([row]).splitlines()[-1], flush=True)
    print(f"\n{framework.versions()}\n\n{table(rows)}")


if __name__ == "__main__":
    main()
