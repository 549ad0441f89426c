"""One pass of a network over a span of images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from cnnviz.adapter import INPUT, LOGITS, OUTPUT, Adapter
from cnnviz.batches import at_most, chunk_for, layers_until, numbers
from cnnviz.errors import InvalidOption, UnsupportedModel
from cnnviz.exemplars.tally import Keep, ScanTally
from cnnviz.pictures import picture_size
from cnnviz.plan import Shard, ShardFiles
from cnnviz.portable import PortableNetwork
from cnnviz.progress import tracked
from cnnviz.sources import Batch, Source, read_batches
from cnnviz.stages import stage_ends

__all__ = ["Scan", "ScanTask", "asked_layers", "batch_for"]

# What the activations of a batch may take together, in bytes.
_HELD = 2**30
_SIZES = (64, 32, 16, 8, 4, 2, 1)
_SPECIAL = (INPUT, LOGITS, OUTPUT)


def asked_layers(net: Adapter[Any], layers: str | Sequence[str] | None) -> tuple[str, ...]:
    """Name the layers that are meant: the last of each stage by default, or ``"all"`` of them.

    Raises
    ------
    UnknownLayer, InvalidOption
    """
    if layers is None:
        return tuple(layer.name for layer in stage_ends(net))
    if isinstance(layers, str):
        layers = (layers,)
    try:
        names = tuple(dict.fromkeys(layers))
    except TypeError:
        names = ()
    if not names or not all(isinstance(name, str) for name in names):
        raise InvalidOption(f"layers are names, or 'all', not {layers!r}")
    try:
        known = list(net.layers())
    except UnsupportedModel:
        if not set(names) <= set(_SPECIAL):
            raise
        known = []
    if names == ("all",) and "all" not in {layer.name for layer in known}:
        return tuple(
            layer.name
            for layer in known
            if layer.leaf
            and layer.output_shape
            and len(layer.output_shape) > 1
            and layer.rows == 1
            and layer.leads_to_score is not False
        )
    return tuple(name if name in _SPECIAL else net.layer(name).name for name in names)


def batch_for(
    net: Adapter[Any], layers: Sequence[str], size: int | tuple[int, int] | None = None
) -> int:
    """Say how many images run at once: as many as run well, of which all layers fit in memory."""
    sides: tuple[int | None, ...] | None
    sides = picture_size(net, size) if len(net.input_shape) == 3 else None
    now = [n or 224 for n in sides or net.listed_size or net.input_shape[:-1]]
    wanted = set(layers)
    area = math.prod(now) / math.prod(net.listed_size or now)
    held = sum(numbers(layer) for layer in layers_until(net, layers) if layer.name in wanted)
    each = 4 * area * max(held, 1)
    return min(chunk_for(net, layers, now), at_most(_HELD / each, _SIZES))


@dataclass(frozen=True, eq=False)
class Scan:
    """What is looked for in which images.

    Attributes
    ----------
    source : Source
    layers : tuple of str
    keep : Keep
    batch : int
        Images at once; batches begin at its multiples, whatever the shard.
    size : (int, int), optional
        Of the pictures.
    """

    source: Source
    layers: tuple[str, ...]
    keep: Keep
    batch: int
    size: int | tuple[int, int] | None

    def run(self, net: Adapter[Any], shard: Shard, what: str) -> ScanTally:
        """Scan a span of images, behind a bar if it takes long.

        Raises
        ------
        InvalidOption
            A layer does not give numbers for each image.
        """
        classes = len(self.source.classes or ())
        tally = ScanTally(self.layers, self.keep, classes)
        batches = read_batches(
            self.source,
            net,
            shard.start,
            shard.stop,
            self.batch,
            size=self.size,
            full=net.compiled,
        )
        total = None if shard.stop is None else -(-(shard.stop - shard.start) // self.batch)
        with ThreadPoolExecutor(1, thread_name_prefix="cnnviz-scan") as beside:
            last: Future[None] | None = None
            for ready in tracked(batches, what, total):
                tally.broken += [(b.index, b.reference, b.reason) for b in ready.broken]
                if not ready.good.any():
                    continue
                found = self._activations(net, ready)
                # What is found in a batch is counted while the network runs the next.
                if last is not None:
                    last.result()
                rest = ready.indices, ready.good, ready.labels, ready.hashes
                last = beside.submit(tally.add, found, *rest)
            if last is not None:
                last.result()
        return tally

    def _activations(self, net: Adapter[Any], ready: Batch) -> dict[str, NDArray[Any]]:
        found = net.forward(net.ops.asarray(ready.pictures), taps=self.layers)
        activations = {}
        for name in self.layers:
            values = net.ops.to_numpy(found[name], copy=False)
            if values.ndim < 2 or len(values) != len(ready.pictures):
                raise InvalidOption(f"{name} of {net.name} does not give a row for each image")
            activations[name] = values
        return activations


@dataclass(frozen=True, eq=False)
class ScanTask:
    """Scans shards and writes what they hold, as an executor runs it.

    Attributes
    ----------
    scan : Scan
    net : PortableNetwork or Adapter
        The network itself where the work stays in this process.
    files : ShardFiles
    """

    scan: Scan
    net: PortableNetwork | Adapter[Any]
    files: ShardFiles

    @property
    def environment(self) -> Mapping[str, str]:
        """See `cnnviz.executor.Task`."""
        return self.net.environment

    def open(self) -> Adapter[Any]:
        """See `cnnviz.executor.Task`."""
        return self.net.open() if isinstance(self.net, PortableNetwork) else self.net

    def run(self, opened: Adapter[Any], item: Shard) -> int:
        """Scan a shard and write it; give how many images were seen."""
        tally = self.scan.run(opened, item, f"scanning images from number {item.start}")
        self.files.write(item, packed(tally))
        return tally.seen


def packed(tally: ScanTally) -> dict[str, Any]:
    """Give a tally as arrays by name, as `unpacked` takes them."""
    found = tally.arrays()
    for i, name in enumerate(tally.names):
        if name in tally.layers:
            parts = tally.layers[name].arrays()
            found |= {f"{i}/{key}": value for key, value in parts.items()}
    return found


def unpacked(arrays: Mapping[str, Any], names: Sequence[str], keep: Keep) -> ScanTally:
    """Take what `packed` gave."""
    layers: dict[str, dict[str, Any]] = {}
    for key, value in arrays.items():
        number, slash, rest = key.partition("/")
        if slash:
            layers.setdefault(names[int(number)], {})[rest] = value
    return ScanTally.of_arrays(arrays, layers, keep)
