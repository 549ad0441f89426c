"""What finding exemplars takes, told before it is done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from cnnviz.discovery import adapt
from cnnviz.exemplars.finding import places_of, scan_for
from cnnviz.exemplars.tally import Keep, ScanTally
from cnnviz.sources import Batch, as_source
from cnnviz.trials import Trial, trial

__all__ = ["exemplars_trial"]


def exemplars_trial(
    net: Any,
    images: Any,
    layers: str | Sequence[str] | None = None,
    k: int = 9,
    *,
    labels: Any = None,
    per_class: int = 1,
    sample: int = 256,
    size: int | tuple[int, int] | None = None,
    batch: int | None = None,
    seed: int = 0,
) -> Trial:
    """Tell what `find_exemplars` would take, by one batch; nothing is written.

    The bytes are those of the result before it is compressed.

    Parameters
    ----------
    net, images, layers, k, labels, per_class, sample, size, batch, seed
        As of `find_exemplars`; the images are of a known number.

    Returns
    -------
    Trial

    Raises
    ------
    UnknownLayer, InvalidImage, InvalidOption
    """
    net = adapt(net)
    source = as_source(images, labels)
    keep = Keep(k, sample, per_class, places_of(source.length), seed)
    scan = scan_for(net, source, layers, keep, size, batch)

    def use(found: Mapping[str, NDArray[Any]], ready: Batch) -> int:
        tally = ScanTally(scan.layers, keep, len(source.classes or ()))
        tally.add(tally.reduced(found, ready))
        return _expected(tally, source.end(None))

    return trial(net, source, scan.layers, scan.batch, size, use)


def _expected(tally: ScanTally, count: int) -> int:
    """Give the bytes of a tally once so many images were added; all but these is full already."""
    sampled = min(tally.keep.sample, count)
    total = 0
    for name, values in tally.arrays().items():
        rows = {"numbers": count, "hashes": count, "labels": count}
        rows |= {"sampled": sampled, "keys": sampled}
        total += values.itemsize * rows[name] if name in rows else values.nbytes
    for layer in tally.layers.values():
        for name, values in layer.arrays().items():
            grows = name.startswith("sample_")
            each = values.itemsize * values.shape[-1] if grows else 0
            total += each * sampled if grows else values.nbytes
    return total
