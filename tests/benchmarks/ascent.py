"""Gradient ascent against the leanest loop that can be written by hand for the same work.

The work: a Fourier canvas with decorrelated colours at 224 pixels; the transforms of Distill
as one warp, or none; a network with random weights and frozen parameters that is run to the
layer and no further; the mean of one channel; Adam. Networks are ResNet-50 and VGG16 at a
shallow, a middle and a deep layer. Ours is driven step by step through `Climb`, as `ascend`
does. The loop by hand is the fastest of several ways to write it.

A row tells how many times slower than the loop by hand ours is: by the fastest steps on the
clock, by the fastest in processor seconds, and by the median of processor seconds, round by
round. "16 channels" is per picture: ours in the batches that `ascend` chooses, theirs in those
that are best. Nothing is asserted: these are numbers to look at.

    python -m benchmarks.ascent torch --seconds 8 --only vgg16
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any

import cnnviz
from benchmarks.leanest import SIZE
from benchmarks.timing import Row, fastest, interleaved, table
from cnnviz.ascent.climbing import Climb
from cnnviz.ascent.rendering import batch_for

Step = Callable[[], object]
BATCHES = (1, 2, 4, 8, 16)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_Plain)
    parser.add_argument("framework", choices=("torch", "keras"))
    parser.add_argument("--seconds", type=float, default=4.0, help="for each row (%(default)s)")
    parser.add_argument("--only", default="", help="rows that have this in their name")
    parser.add_argument("--threads", type=int, default=1, help="of the framework (%(default)s)")
    parser.add_argument("--batch", type=int, help="ours, in place of what ascend would choose")
    options = parser.parse_args()
    framework = import_module(f"benchmarks.ascent_{options.framework}")
    framework.use_threads(options.threads)
    rows: list[Row] = []
    for network, layers in framework.LAYERS.items():
        works = [
            (f"{network} {layer}, {what}", layer, what)
            for layer in layers
            for what in ("transforms", "plain", "16 channels")
        ]
        works = [work for work in works if options.only in work[0]]
        if not works:
            continue
        model = framework.model(network)
        net = framework.adapted(model)
        for name, layer, what in works:
            begun = time.perf_counter()
            if what == "16 channels":
                row = many(framework, net, model, layer, name, options)
            else:
                row = one(framework, net, model, layer, name, what == "plain", options)
            rows.append(row)
            took = time.perf_counter() - begun
            print(f"{table([row]).splitlines()[-1]}  [{took:.0f} s]", flush=True)
    print(f"\n{framework.versions()}\n\n{table(rows)}")


def one(
    framework: Any, net: Any, model: Any, layer: str, name: str, plain: bool, options: Any
) -> Row:
    """Time single pictures."""
    part = framework.cut(model, layer)
    loops: dict[str, Step] = {
        str(variant): framework.Loop(part, [0], variant)
        for variant in framework.VARIANTS
        if (variant.warp == "none") == plain
    }
    took = {key: fastest(loop, 3) for key, loop in loops.items()}
    best = min(took, key=took.__getitem__)
    calls = {"ours": ours(net, layer, [0], plain), "theirs": loops[best]}
    found = interleaved(calls, options.seconds)
    return Row(name, found["ours"], best, found["theirs"])


def many(framework: Any, net: Any, model: Any, layer: str, name: str, options: Any) -> Row:
    """Time sixteen channels at once, per picture."""
    part = framework.cut(model, layer)
    channels = list(range(16))
    objectives = [cnnviz.objectives.channel(layer, c) for c in channels]
    batch = options.batch or batch_for(net, objectives, _recipe(False), (SIZE, SIZE))
    batch = min(batch, len(channels))
    best, least = 1, math.inf
    for size in BATCHES:
        took = fastest(framework.Loop(part, channels[:size], framework.BEST)) / size
        if took < least:
            best, least = size, took
        if took > 1.1 * least:
            break
    theirs = framework.Loop(part, channels[:best], framework.BEST)
    calls: dict[str, Step] = {"ours": ours(net, layer, channels[:batch], False), "theirs": theirs}
    found = interleaved(calls, options.seconds)
    limit = f"{framework.BEST}, {best} at once"
    return Row(f"{name}, {batch} at once", found["ours"], limit, found["theirs"], batch, best)


def ours(net: Any, layer: str, channels: Sequence[int], plain: bool) -> Step:
    """Give one step after another of our own loop."""
    objectives = [cnnviz.objectives.channel(layer, c) for c in channels]
    seeds = [[0, c] for c in channels]
    size = (SIZE, SIZE)
    climb = Climb(net, _recipe(plain), objectives, seeds, first=size, last=None, whole=size)
    steps: Iterator[None] = climb.run()
    return lambda: next(steps)


def _recipe(plain: bool) -> cnnviz.Recipe:
    # Redirected steps are other work.
    recipe = replace(cnnviz.RECIPES["distill"], size=SIZE, steps=10**6, redirect=0)
    return replace(recipe, transforms=()) if plain else recipe


class _Plain(argparse.RawDescriptionHelpFormatter):
    pass


if __name__ == "__main__":
    main()
