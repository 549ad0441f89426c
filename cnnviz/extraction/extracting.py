"""Features of a data set written to one file, streamed and gone on with after a kill."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from cnnviz.adapter import Adapter
from cnnviz.discovery import adapt
from cnnviz.errors import CnnvizError, InvalidOption
from cnnviz.executor import Executor, as_executor
from cnnviz.extraction.formats import Format, format_of
from cnnviz.extraction.result import SCHEMA, Extraction
from cnnviz.extraction.rows import RowFiles, Table
from cnnviz.extraction.task import FeatureTask, Pool, Wanted, made
from cnnviz.files import sync_entries
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
from cnnviz.plan import Work, unlike
from cnnviz.sources import Batch, as_source
from cnnviz.trials import Trial, trial

__all__ = ["check_target", "extract", "extraction_trial"]

_DTYPES = ("float16", "float32", "float64")


def extract(
    net: Any,
    images: Any,
    layers: str | Sequence[str] | None = None,
    out: str | Path = "features.npz",
    *,
    pool: Pool | None = None,
    dtype: str | None = None,
    labels: Any = None,
    size: int | tuple[int, int] | None = None,
    batch: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    executor: str | Executor | None = None,
    shards: int | None = None,
) -> Extraction:
    """Write what layers make of every image to an ``.npz``, Zarr or Parquet file.

    The images pass through the network once, and memory does not grow with their number. The
    file appears when it is whole; until then the work lies in ``.NAME.work`` beside it, so the
    disk has to hold everything twice. A run that was killed is gone on with, and ends with the
    same bytes; so does one with any number of shards and on any executor, as long as the
    framework itself computes the same.

    Parameters
    ----------
    net : model or Adapter
    images : folder, files, arrays, dataset or stream
        See `cnnviz.sources.as_source`. Images that cannot be read have no row and are listed.
    layers : str or sequence of str, optional
        Names; the last layer of each stage by default, ``"all"`` for every layer that holds no
        others.
    out : path
        Ends in ``.npz``, ``.zarr`` (extra ``zarr``) or ``.parquet`` (extra ``parquet``). Beside
        a column for each layer there are ``index``, the numbers of the images; ``label``, if
        any is known; ``reference``, their paths; and the images that could not be read, in an
        ``.npz`` as ``broken``: rows of number, path and reason.
    pool : {"mean", "max"}, optional
        Over space: ``(N, C)`` instead of whole maps, ``(N, H, W, C)``.
    dtype : {"float16", "float32", "float64"}, optional
        The network's own by default.
    labels : sequence, optional
        The class of each image, where the source does not tell.
    size : int or (int, int), optional
        Height and width of the pictures; the network's own by default.
    batch : int, optional
        Images at once. A framework may give other last bits for another number.
    resume : bool
        Go on with work that was begun for `out`; a file that is whole is opened.
    overwrite : bool
        Replace a file that is there.
    executor : {"serial", "processes", "ray"} or Executor, optional
        Where to compute; see `cnnviz.executor`. In this process by default.
    shards : int, optional
        Into how many parts the images are divided; one for every 2048 by default. A run that is
        killed loses those it was at.

    Returns
    -------
    Extraction

    Raises
    ------
    UnknownLayer
        The network has no such layer.
    InvalidImage
        No image can be read, or they differ in size and none is given.
    InvalidOption
        An argument is out of range, `out` is there already or has unfinished work, the disk is
        too small, or the images cannot go to other processes.
    MissingDependency
        What the format needs is not installed.
    """
    kind = check_target(out, overwrite or resume)
    net = adapt(net)
    wanted = _wanted(net, images, layers, pool, dtype, labels, size, batch)
    if shards is not None:
        require_whole("shards", shards)
    target = Path(os.path.realpath(out))
    place, ours = as_executor(executor)
    try:
        require_portable(place, wanted.source)
        known = _identity(net, wanted)
        folder = target.with_name(f".{target.name}.work")
        if target.exists() and resume and _is_whole(kind, target, known, overwrite):
            # What was killed between the two is finished here.
            shutil.rmtree(folder, ignore_errors=True)
        else:
            _write(net, wanted, place, kind, target, folder, known, resume, shards)
        return Extraction.open(out)
    finally:
        if ours:
            place.close()


def extraction_trial(
    net: Any,
    images: Any,
    layers: str | Sequence[str] | None = None,
    *,
    pool: Pool | None = None,
    dtype: str | None = None,
    labels: Any = None,
    size: int | tuple[int, int] | None = None,
    batch: int | None = None,
) -> Trial:
    """Tell what `extract` would take, by one batch; nothing is written.

    The bytes are those of the features before any compression.

    Parameters
    ----------
    net, images, layers, pool, dtype, labels, size, batch
        As of `extract`; the images are of a known number.

    Returns
    -------
    Trial

    Raises
    ------
    UnknownLayer, InvalidImage, InvalidOption
    """
    net = adapt(net)
    wanted = _wanted(net, images, layers, pool, dtype, labels, size, batch)
    shapes: dict[str, tuple[int, ...]] = {}

    def use(found: Mapping[str, NDArray[Any]], ready: Batch) -> int:
        parts = {name: made(found[name], pool, dtype)[0] for name in wanted.layers}
        shapes.update({name: one.shape[1:] for name, one in parts.items()})
        return sum(one[:1].nbytes for one in parts.values()) * wanted.source.end(None)

    found = trial(net, wanted.source, wanted.layers, wanted.batch, size, use)
    return Trial(found.images, found.batch, found.seconds, found.bytes, shapes)


def check_target(out: str | Path, replace: bool) -> Format:
    """Give the format of a file that can be written, and whose needs are installed.

    Raises
    ------
    InvalidOption, MissingDependency
    """
    path = Path(out)
    kind = format_of(path)
    kind.require()
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise InvalidOption(f"there is no folder {str(target.parent)!r}; make it first")
    if target.exists():
        if kind.folder != target.is_dir():
            what = "a folder" if target.is_dir() else "a file"
            raise InvalidOption(f"{str(path)!r} is {what}; name another place")
        if not replace:
            raise InvalidOption(
                f"{str(path)!r} is there already; overwrite=True (--overwrite) replaces it, or"
                " name another file"
            )
        if kind.folder and not (target / "zarr.json").is_file() and any(target.iterdir()):
            raise InvalidOption(f"{str(path)!r} is a folder of other things; name another place")
    return kind


def _wanted(
    net: Adapter[Any],
    images: Any,
    layers: str | Sequence[str] | None,
    pool: Pool | None,
    dtype: str | None,
    labels: Any,
    size: int | tuple[int, int] | None,
    batch: int | None,
) -> Wanted:
    if pool not in (None, "mean", "max"):
        raise InvalidOption(f"pool is 'mean', 'max' or None, not {pool!r}")
    if dtype is not None and dtype not in _DTYPES:
        raise InvalidOption(f"dtype is {', '.join(map(repr, _DTYPES))} or None, not {dtype!r}")
    if batch is not None:
        require_whole("batch", batch)
    source = as_source(images, labels)
    names = asked_layers(net, layers)
    if not names:
        raise InvalidOption(f"{net.name} lists no layers to extract; name some")
    batch = batch or batch_for(net, names, size, source.length)
    return Wanted(source, names, batch, size, pool, dtype)


def _identity(net: Adapter[Any], wanted: Wanted) -> dict[str, Any]:
    common = identity_of(net, wanted.source, wanted.layers, wanted.batch, wanted.size)
    return {"features": SCHEMA, **common, "pool": wanted.pool, "dtype": wanted.dtype}


def _is_whole(kind: Format, target: Path, known: Mapping[str, Any], overwrite: bool) -> bool:
    """Say whether a file is what this run would make; refuse another, unless it is replaced."""
    about = kind.about(target)
    other = unlike(about.get("identity", {}) if isinstance(about, dict) else {}, known)
    if other and not overwrite:
        raise InvalidOption(
            f"{str(target)!r} holds something else (other {', '.join(other)}); overwrite=True"
            " (--overwrite) replaces it, or name another file"
        )
    return not other


def _write(
    net: Adapter[Any],
    wanted: Wanted,
    place: Executor,
    kind: Format,
    target: Path,
    folder: Path,
    known: Mapping[str, Any],
    resume: bool,
    shards: int | None,
) -> None:
    parts = parts_for(wanted.source, place, shards, wanted.batch)
    work = Work(folder, known, parts, resume, "remove it to begin anew")
    files = RowFiles(folder / "shards", work.mark)
    try:
        run_parts(
            net,
            place,
            lambda there: FeatureTask(there, wanted, files),
            work.pending(files),
            f"features of {wanted.source.name}",
        )
    except CnnvizError:
        # Nothing is lost, and the next run need not be told to go on with nothing.
        if not any(files.about(shard) for shard in work.shards):
            shutil.rmtree(folder)
        raise
    table = Table(files, work.shards, wanted.layers, wanted.source.classes)
    if not table.count:
        shutil.rmtree(folder)
        raise no_image(wanted.source, table.broken)
    draft = folder / f"draft{kind.suffix}"
    try:
        _removed(draft)
        kind.write(draft, table, _about(table, known))
        _synced(draft)
        _put(draft, target, folder / "replaced")
    except OSError as error:
        raise InvalidOption(
            f"cannot write {str(target)!r}: {error.strerror or error}; resume=True (--resume)"
            " goes on"
        ) from error
    shutil.rmtree(folder)


def _about(table: Table, known: Mapping[str, Any]) -> dict[str, Any]:
    layers = [
        {
            "layer": one.layer,
            "column": one.name,
            "shape": list(one.shape),
            "dtype": one.dtype.name,
        }
        for one in table.columns
        if one.layer is not None
    ]
    return {
        "schema": SCHEMA,
        "identity": json.loads(json.dumps(known)),
        "count": table.count,
        "layers": layers,
        "labelled": any(one.name == "label" for one in table.columns),
        "classes": None if table.classes is None else list(table.classes),
        "broken": [list(one) for one in table.broken],
        "infinite": table.infinite,
    }


def _put(draft: Path, target: Path, aside: Path) -> None:
    """Put a file or folder in its place; a folder that is there goes with the work."""
    if draft.is_dir() and target.exists():
        _removed(aside)
        target.rename(aside)
    os.replace(draft, target)
    sync_entries(target.parent)


def _removed(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _synced(path: Path) -> None:
    """Put a file, or all of a folder, on the disk."""
    for one in (path, *path.rglob("*")) if path.is_dir() else (path,):
        if one.is_dir():
            sync_entries(one)
        else:
            with one.open("rb+") as file:
                os.fsync(file.fileno())
