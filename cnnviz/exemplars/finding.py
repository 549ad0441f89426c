"""The images that excite each channel most, out of a stream of any length."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cnnviz.adapter import Adapter
from cnnviz.discovery import adapt
from cnnviz.errors import InvalidOption
from cnnviz.executor import Executor, as_executor
from cnnviz.exemplars.result import Exemplars
from cnnviz.exemplars.saving import is_saved, require_own
from cnnviz.exemplars.scanning import Scan, ScanTask, unpacked
from cnnviz.exemplars.tally import Keep, ScanTally
from cnnviz.passes import (
    asked_layers,
    batch_for,
    identity_of,
    no_image,
    parts_for,
    require_portable,
    require_whole,
    run_parts,
)
from cnnviz.plan import Shard, Work
from cnnviz.sources import Source, as_source

__all__ = ["find_exemplars"]

# Activations of each channel that a histogram is made of, unless the images are more than half.
_COUNTED = 16384


def find_exemplars(
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
    out: str | Path | None = None,
    resume: bool = False,
    executor: str | Executor | None = None,
    shards: int | None = None,
) -> Exemplars:
    """Find the images that excite each channel most, and what its activations are like.

    The images pass through the network once, and memory does not grow with their number. Kept
    of each channel are the best images by maximum and by mean, some drawn at random, the best of
    each class, and statistics of all activations. The result is the same to the last bit for
    any number of shards and on any executor, as long as the framework itself computes the same.

    Parameters
    ----------
    net : model or Adapter
    images : folder, files, arrays, dataset or stream
        See `cnnviz.sources.as_source`. Images that cannot be read are passed over and listed.
    layers : str or sequence of str, optional
        Names; the last layer of each stage by default, ``"all"`` for every layer that holds no
        others. ``cnnviz.LOGITS`` gives the images that excite each class most.
    k : int
        Images for each channel.
    labels : sequence, optional
        The class of each image, where the source does not tell.
    per_class : int
        Images of each class that are kept for each channel; 0 for none.
    sample : int
        Images drawn at random, of which quantiles and random examples are made.
    size : int or (int, int), optional
        Height and width of the pictures; the network's own by default.
    batch : int, optional
        Images at once. A framework may give other last bits for another number.
    seed : int
        Of the sample and of the places that histograms are made of.
    out : path, optional
        A folder for the result, and for the work until it is done. It is made.
    resume : bool
        Go on with work that was begun in `out`.
    executor : {"serial", "processes", "ray"} or Executor, optional
        Where to compute; see `cnnviz.executor`. In this process by default.
    shards : int, optional
        Into how many parts the images are divided; one for every 2048 by default. A run that is
        killed loses those it was at.

    Returns
    -------
    Exemplars

    Raises
    ------
    UnknownLayer
        The network has no such layer.
    InvalidImage
        No image can be read.
    InvalidOption
        A number is out of range, `out` holds something else or unfinished work, or the images
        or the network cannot go to other processes.

    References
    ----------
    .. [1] Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks",
           arXiv:1311.2901.
    .. [2] Borowski et al., "Exemplary Natural Images Explain CNN Activations Better than
           State-of-the-Art Feature Visualization", arXiv:2010.12606.
    """
    net = adapt(net)
    source = as_source(images, labels)
    keep = Keep(k, sample, per_class, places_of(source.length), seed)
    scan = scan_for(net, source, layers, keep, size, batch)
    if shards is not None:
        require_whole("shards", shards)
    place, ours = as_executor(executor)
    try:
        folder = None if out is None else Path(out).absolute()
        return _found(net, scan, place, folder, resume, shards)
    finally:
        if ours:
            place.close()


def places_of(count: int | None) -> int:
    """Say how many places of each image are counted in histograms: many where images are few."""
    return 4 if count is None else min(64, max(2, _COUNTED // max(count, 1)))


def scan_for(
    net: Adapter[Any],
    source: Source,
    layers: str | Sequence[str] | None,
    keep: Keep,
    size: int | tuple[int, int] | None,
    batch: int | None,
) -> Scan:
    """Check what is asked for, and say what is scanned.

    Raises
    ------
    InvalidOption
        A number is out of range.
    """
    least = {"k": 1, "sample": 0, "per_class": 0, "seed": 0}
    for name, low in least.items():
        require_whole(name, getattr(keep, name), low)
    if batch is not None:
        require_whole("batch", batch)
    names = asked_layers(net, layers)
    if not names:
        raise InvalidOption(f"{net.name} lists no layers to scan; name some")
    batch = batch or batch_for(net, names, size, source.length)
    return Scan(source, names, batch, size, keep)


def identity(net: Adapter[Any], scan: Scan) -> dict[str, Any]:
    """Give all that the bytes of a result depend on, in words and numbers that JSON knows."""
    common = identity_of(net, scan.source, scan.layers, scan.batch, scan.size)
    return {**common, "keep": asdict(scan.keep)}


def _found(
    net: Adapter[Any],
    scan: Scan,
    place: Executor,
    out: Path | None,
    resume: bool,
    shards: int | None,
) -> Exemplars:
    source = scan.source
    require_portable(place, source)
    known = identity(net, scan)
    if out is None and not place.elsewhere:
        tally = scan.run(net, Shard(0, 0, source.length), "scanning images")
        return Exemplars.of(_some(tally, source), known, net, source)
    parts = parts_for(source, place, shards, scan.batch)
    if out is None:
        with tempfile.TemporaryDirectory(prefix="cnnviz-") as folder:
            tally = _merged(net, scan, place, Work(Path(folder), known, parts, False))
        return Exemplars.of(tally, known, net, source)
    require_own(out, known)
    if is_saved(out):
        found = Exemplars.open(out, net=net, images=source)
    else:
        tally = _merged(net, scan, place, Work(out, known, parts, resume))
        found = Exemplars.of(tally, known, net, source)
        found.save(out)
    # What was killed between the two is finished here.
    Work.clear(out)
    return found


def _merged(net: Adapter[Any], scan: Scan, place: Executor, work: Work) -> ScanTally:
    run_parts(
        net,
        place,
        lambda there: ScanTask(there, scan, work.files),
        work.pending(),
        f"scanning {scan.source.name}",
    )
    tally = ScanTally(scan.layers, scan.keep, len(scan.source.classes or ()))
    for shard in work.shards:
        arrays = work.files.read(shard)
        if arrays is None:
            raise InvalidOption(f"{work.files.path(shard)} was changed during the run; resume it")
        tally.merge(unpacked(arrays, scan.layers, scan.keep))
    return _some(tally, scan.source)


def _some(tally: ScanTally, source: Source) -> ScanTally:
    if not tally.seen:
        raise no_image(source, tally.broken)
    return tally
