"""One pass of a network over a span of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cnnviz.adapter import Adapter
from cnnviz.exemplars.tally import Keep, ScanTally
from cnnviz.passes import NetworkTask, Pass
from cnnviz.plan import Shard, ShardFiles

__all__ = ["Scan", "ScanTask"]


@dataclass(frozen=True, eq=False)
class Scan(Pass):
    """What is looked for in which images.

    Attributes
    ----------
    keep : Keep
    """

    keep: Keep

    def run(self, net: Adapter[Any], shard: Shard, what: str) -> ScanTally:
        """Scan a span of images, behind a bar if it takes long.

        Raises
        ------
        InvalidOption
            A layer does not give numbers for each image.
        """
        tally = ScanTally(self.layers, self.keep, len(self.source.classes or ()))
        tally.broken = self.each(net, shard, what, tally.reduced, tally.add)
        tally.settle()
        return tally


@dataclass(frozen=True, eq=False)
class ScanTask(NetworkTask):
    """Scans shards and writes what they hold, as an executor runs it.

    Attributes
    ----------
    scan : Scan
    files : ShardFiles
    """

    scan: Scan
    files: ShardFiles

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
