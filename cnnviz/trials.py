"""What a pass over many images takes, by one batch of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from cnnviz.adapter import Adapter
from cnnviz.passes import Size, activations, no_image
from cnnviz.sources import Batch, Source, read_batches
from cnnviz.tables import text_table

__all__ = ["Trial", "in_words", "trial"]


@dataclass(frozen=True)
class Trial:
    """What a pass takes, by its first batch.

    Attributes
    ----------
    images : int
    batch : int
    seconds : float
        For all images, in one process; measured on one batch after another had warmed up.
    bytes : int
        What is written.
    layers : dict of str to tuple of int
        What each layer gives for an image.
    """

    images: int
    batch: int
    seconds: float
    bytes: int
    layers: Mapping[str, tuple[int, ...]]

    def to_json(self) -> dict[str, Any]:
        """Give everything, of what JSON knows."""
        layers = {name: list(shape) for name, shape in self.layers.items()}
        return {**vars(self), "layers": layers}

    def __str__(self) -> str:
        rows = [(name, " x ".join(map(str, shape))) for name, shape in self.layers.items()]
        minutes, seconds = divmod(self.seconds, 60)
        time_ = f"{minutes:.0f} min {seconds:.0f} s" if minutes else f"{seconds:.2g} s"
        footer = (
            f"{self.images:,} images in batches of {self.batch}",
            f"{in_words(self.bytes)} to be written before any compression",
            f"about {time_} in one process, by one batch",
        )
        return text_table(("layer", "for an image"), rows, footer=footer)


def in_words(size: float) -> str:
    """Write bytes for people: ``"1.4 GB"``."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def trial(
    net: Adapter[Any],
    source: Source,
    layers: Sequence[str],
    batch: int,
    size: Size,
    use: Callable[[Mapping[str, NDArray[Any]], Batch], int],
) -> Trial:
    """Run the first batch of images of which one can be read, twice, and take the time.

    Parameters
    ----------
    net : Adapter
    source : Source
        Of known length, and read from anywhere.
    layers : sequence of str
    batch : int
    size : int or (int, int), optional
    use : callable
        Does with a batch what the pass does, and gives the bytes that all images will take.

    Raises
    ------
    InvalidImage
        No image can be read.
    """
    count = source.end(None)
    broken: list[tuple[int, str, str]] = []
    for start in range(0, count, batch):
        ready = _read(net, source, start, batch, size)
        broken += [(one.index, one.reference, one.reason) for one in ready.broken]
        if ready.good.any():
            break
    else:
        raise no_image(source, broken)
    use(activations(net, ready, layers), ready)
    begun = time.perf_counter()
    ready = _read(net, source, start, batch, size)
    read = time.perf_counter() - begun
    found = activations(net, ready, layers)
    written = use(found, ready)
    run = time.perf_counter() - begun - read
    # Images are read while the network runs on those before.
    each = max(read, run) / min(batch, count - start)
    shapes = {name: values.shape[1:] for name, values in found.items()}
    return Trial(count, batch, each * count, written, shapes)


def _read(net: Adapter[Any], source: Source, start: int, batch: int, size: Size) -> Batch:
    found = read_batches(
        source, net, start, start + batch, batch, size=size, full=net.compiled, ahead=0
    )
    return next(iter(found))
