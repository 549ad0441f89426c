"""One pass of a network over many images: which layers and batches, in which parts, and where."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeVar

from numpy.typing import NDArray

from cnnviz.adapter import INPUT, LOGITS, OUTPUT, Adapter
from cnnviz.batches import at_most, chunk_for, layers_until, numbers
from cnnviz.beside import beside
from cnnviz.errors import InvalidImage, InvalidOption, UnsupportedModel
from cnnviz.executor import Executor, Task
from cnnviz.images.filters import one_thread
from cnnviz.pictures import picture_size, two_sides
from cnnviz.plan import Shard, spread
from cnnviz.portable import PortableNetwork, weights_fingerprint
from cnnviz.progress import tracked
from cnnviz.sources import Batch, Source, read_batches
from cnnviz.stages import stage_ends
from cnnviz.streams import side_by_side

__all__ = [
    "NetworkTask",
    "Pass",
    "activations",
    "asked_layers",
    "batch_for",
    "identity_of",
    "no_image",
    "parts_for",
    "require_portable",
    "require_whole",
    "run_parts",
]

# What the activations of a batch may take together, in bytes.
_HELD = 2**30
_SIZES = (512, 256, 128, 64, 32, 16, 8, 4, 2, 1)
_SPECIAL = (INPUT, LOGITS, OUTPUT)
# Images of a shard where nothing else is asked for: what is lost at most when a run is killed.
_SHARD = 2048
# From so many images on, batches may be large: there are enough of them for many workers.
_MANY = 8192
# Threads that run the network at once, where it can be; each holds a batch.
_STREAMS = 4
# Fewer batches are done before it is known whether it can.
_FEW = 16

Size = int | tuple[int, int] | None
Made = TypeVar("Made")


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
    net: Adapter[Any], layers: Sequence[str], size: Size = None, count: int | None = None
) -> int:
    """Say how many of `count` images run at once: as many as run well and fit in memory."""
    chunk = chunk_for(net, layers, _sides(net, size), many=count is not None and count >= _MANY)
    return min(chunk, at_most(_HELD / _held_by(net, layers, size), _SIZES))


def _held_by(net: Adapter[Any], layers: Sequence[str], size: Size = None) -> float:
    """Say how many bytes the activations of some layers for one image take."""
    now = _sides(net, size)
    wanted = set(layers)
    area = math.prod(now) / math.prod(net.listed_size or now)
    held = sum(numbers(layer) for layer in layers_until(net, layers) if layer.name in wanted)
    return 4 * area * max(held, 1)


def _sides(net: Adapter[Any], size: Size) -> list[int]:
    sides: tuple[int | None, ...] | None
    sides = picture_size(net, size) if len(net.input_shape) == 3 else None
    return [n or 224 for n in sides or net.listed_size or net.input_shape[:-1]]


@dataclass(frozen=True, eq=False)
class Pass:
    """Which layers are read off which images.

    Attributes
    ----------
    source : Source
    layers : tuple of str
    batch : int
        Images at once; batches begin at its multiples, whatever the shard.
    size : (int, int), optional
        Of the pictures.
    """

    source: Source
    layers: tuple[str, ...]
    batch: int
    size: Size

    def each(
        self,
        net: Adapter[Any],
        shard: Shard,
        what: str,
        make: Callable[[Mapping[str, NDArray[Any]], Batch], Made],
        take: Callable[[Made], None],
    ) -> list[tuple[int, str, str]]:
        """Run a span of images, behind a bar if it takes long, and use what each batch gives.

        Parameters
        ----------
        net : Adapter
        shard : Shard
        what : str
            For the bar.
        make : callable
            Makes something of the activations of a batch; called beside the network, or for
            several batches at once.
        take : callable
            Takes what was made, of one batch after the other.

        Returns
        -------
        list of (int, str, str)
            Number, reference and reason of the images that could not be read.

        Raises
        ------
        InvalidOption
            A layer does not give numbers for each image. What the callables raise comes through.
        """
        total = None if shard.stop is None else -(-(shard.stop - shard.start) // self.batch)
        batches = read_batches(
            self.source,
            net,
            shard.start,
            shard.stop,
            self.batch,
            size=self.size,
            full=net.compiled,
        )
        broken: list[tuple[int, str, str]] = []

        def readable() -> Generator[Batch, None, None]:
            for ready in tracked(batches, what, total):
                broken.extend((b.index, b.reference, b.reason) for b in ready.broken)
                if ready.good.any():
                    yield ready

        def run(opened: Adapter[Any], ready: Batch) -> Made:
            return make(activations(opened, ready, self.layers), ready)

        # An error may be looked at for long; the bar and the threads that read are not to stay.
        with one_thread(), closing(batches), closing(readable()) as waiting:
            first = next(waiting, None)
            if first is None:
                return broken
            everything = chain([first], waiting)
            openers = self._streams(net, first)
            if len(openers) > 1:
                side_by_side(openers, everything, run, take)
                return broken
            with beside() as thread:
                for ready in everything:
                    found = activations(net, ready, self.layers)
                    thread.do(lambda *batch: take(make(*batch)), found, ready)
        return broken

    def _streams(self, net: Adapter[Any], first: Batch) -> Sequence[Callable[[], Adapter[Any]]]:
        """Open the network for several threads, as far as images and memory go."""
        count = self.source.length
        # The same for all parts of the images.
        if count is not None and count < _FEW * self.batch:
            return [lambda: net]
        held = self.batch * _held_by(net, self.layers, self.size)
        most = min(_STREAMS, max(2, int(2 * _HELD / held)))
        return net.streams(net.ops.asarray(first.pictures), taps=self.layers, most=most)


@dataclass(frozen=True, eq=False)
class NetworkTask:
    """What tasks have that need a network; see `cnnviz.executor.Task`.

    Attributes
    ----------
    net : PortableNetwork or Adapter
        The network itself where the work stays in this process.
    """

    net: PortableNetwork | Adapter[Any]

    @property
    def environment(self) -> Mapping[str, str]:
        """See `cnnviz.executor.Task`."""
        return self.net.environment

    def open(self) -> Adapter[Any]:
        """See `cnnviz.executor.Task`."""
        return self.net.open() if isinstance(self.net, PortableNetwork) else self.net


def activations(net: Adapter[Any], ready: Batch, layers: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Run a batch, and give what each layer makes of it, ``(B, ..., C)``; not copied.

    Raises
    ------
    InvalidOption
        A layer does not give numbers for each image.
    """
    found = net.borrow(net.ops.asarray(ready.pictures), taps=layers)
    values = {name: net.ops.to_numpy(found[name], copy=False) for name in layers}
    for name, one in values.items():
        if one.ndim < 2 or len(one) != len(ready.pictures):
            raise InvalidOption(f"{name} of {net.name} does not give a row for each image")
    return values


def require_whole(name: str, value: Any, least: int = 1) -> None:
    """Refuse what is no whole number, or too small.

    Raises
    ------
    InvalidOption
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        words = "above zero" if least == 1 else f"from {least} on"
        raise InvalidOption(f"{name} is a whole number {words}, not {value!r}")


def identity_of(
    net: Adapter[Any], source: Source, layers: Sequence[str], batch: int, size: Size
) -> dict[str, Any]:
    """Give what the bytes of any pass depend on, in words and numbers that JSON knows."""
    classes = source.classes
    return {
        "network": net.name,
        "framework": net.framework,
        "weights": weights_fingerprint(net),
        "preprocessing": repr(net.require_preprocessing()),
        "layers": list(layers),
        "images": source.fingerprint(),
        "labels": source.labels_fingerprint(),
        "count": source.length,
        "classes": None if classes is None else list(classes),
        "size": None if size is None else list(two_sides(size)),
        "batch": batch,
    }


def require_portable(place: Executor, source: Source) -> None:
    """Refuse other processes for images that cannot be read there.

    Raises
    ------
    InvalidOption
    """
    if place.elsewhere and not source.parallel:
        raise InvalidOption(
            f"{source.name} cannot be read in other processes; use the serial executor, or give a"
            " folder or files"
        )


def parts_for(source: Source, place: Executor, shards: int | None, batch: int) -> list[Shard]:
    """Share images out: into as many parts as are asked for, else one for every 2048 images."""
    wanted = shards or max(place.workers, (source.length or 0) // _SHARD)
    return spread(source.length, wanted, batch)


def run_parts(
    net: Adapter[Any],
    place: Executor,
    task_for: Callable[[PortableNetwork | Adapter[Any]], Task],
    pending: Sequence[Shard],
    what: str,
) -> None:
    """Do the parts that are not done yet, behind a bar if it takes long.

    Raises
    ------
    UnsupportedModel
        The network cannot be sent where the work is done.
    """
    there = PortableNetwork.of(net) if place.elsewhere and pending else net
    done = place.map_shards(task_for(there), pending)
    # Here each part has a bar of its own, which says more.
    for _ in tracked(done, what, len(pending)) if place.elsewhere else done:
        continue


def no_image(source: Source, broken: Sequence[tuple[int, str, str]]) -> InvalidImage:
    """Give the error for images of which none can be read."""
    first = f": {broken[0][1]}: {broken[0][2]}" if broken else ""
    return InvalidImage(f"no image of {source.name} can be read{first}")
