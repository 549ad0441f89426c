"""One pass of a network over a span of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from cnnviz.adapter import Adapter
from cnnviz.exemplars.tally import Keep, ScanTally
from cnnviz.passes import activations
from cnnviz.plan import Shard, ShardFiles
from cnnviz.portable import PortableNetwork
from cnnviz.progress import tracked
from cnnviz.sources import Source, read_batches

__all__ = ["Scan", "ScanTask"]


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
                found = activations(net, ready, self.layers)
                # What is found in a batch is counted while the network runs the next.
                if last is not None:
                    last.result()
                rest = ready.indices, ready.good, ready.labels, ready.hashes
                last = beside.submit(tally.add, found, *rest)
            if last is not None:
                last.result()
        return tally


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
