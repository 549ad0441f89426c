"""Passes over data sets: ``exemplars`` and ``extract``."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

import cnnviz
from cnnviz import executor as executors
from cnnviz import images as pictures
from cnnviz.adapter import Adapter
from cnnviz.cli.opening import PICTURES, check_out, check_out_folder, open_network
from cnnviz.cli.options import (
    Device,
    Framework,
    Json,
    Model,
    Output,
    Preprocess,
    Size,
    Weights,
    parse_output,
    parse_size,
)
from cnnviz.cli.printing import Table, show, show_json, show_lines
from cnnviz.errors import ChannelOutOfRange, InvalidImage, InvalidOption
from cnnviz.exemplars import exemplars_trial
from cnnviz.extraction import check_target, extraction_trial
from cnnviz.sources import Source, as_source
from cnnviz.trials import Trial

__all__ = ["exemplars", "extract"]

_RUN, _SHEET = "The run", "The sheet"
_SHOWN = 16

Images = Annotated[
    list[str],
    typer.Argument(
        metavar="IMAGES...",
        help="A folder (its subfolders are classes), files, a pattern, tar archives or an idx"
        " file.",
        show_default=False,
    ),
]
Layers = Annotated[
    str | None,
    typer.Option(
        metavar="NAMES",
        help="A,B or all; the last layer of each stage by default.",
        show_default=False,
    ),
]
Batch = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Images at once.", rich_help_panel=_RUN),
]
Resume = Annotated[
    bool,
    typer.Option("--resume", help="Go on with a run that was ended.", rich_help_panel=_RUN),
]
Place = Annotated[
    str | None,
    typer.Option(
        metavar="WHERE",
        help="serial (the default), processes or ray.",
        show_default=False,
        rich_help_panel=_RUN,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="How many processes.", rich_help_panel=_RUN),
]
Shards = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Parts, of which those are lost that a run is ended in; one for 2048 images by"
        " default.",
        rich_help_panel=_RUN,
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Only tell the images, bytes and seconds, by one batch.",
        rich_help_panel=_RUN,
    ),
]


def extract(
    model: Model,
    images: Images,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="A .npz, .zarr or .parquet, which appears when it is whole.",
        ),
    ] = Path("features.npz"),
    layers: Layers = None,
    pool: Annotated[
        str | None,
        typer.Option(
            metavar="HOW", help="mean or max over space; whole maps by default.", show_default=False
        ),
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="float16, float32 or float64; the network's own by default."
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a file that is there.")
    ] = False,
    resume: Resume = False,
    executor: Place = None,
    workers: Workers = None,
    shards: Shards = None,
    batch: Batch = None,
    dry_run: DryRun = False,
    size: Size = None,
    framework: Framework = None,
    weights: Weights = None,
    preprocessing: Preprocess = None,
    device: Device = None,
    output: Output = None,
    json: Json = False,
) -> None:
    """Write what layers make of every image of a data set, streamed, to one file."""
    if pool not in (None, "mean", "max"):
        raise InvalidOption(f"--pool is mean or max, not {pool!r}")
    side = parse_size(size)
    where = _where(executor, workers)
    if not dry_run:
        check_target(out, overwrite or resume)
    source = _source(images)
    net = open_network(
        model, framework, weights, preprocessing, device, output=parse_output(output)
    )
    options: dict[str, Any] = {"pool": pool, "dtype": dtype, "size": side, "batch": batch}
    if dry_run:
        _told(net, extraction_trial(net, source, _names(layers), **options), json)
        return
    target = Path(os.path.realpath(out))
    with _resumable(target.with_name(f".{target.name}.work")), _made(where, workers) as place:
        found = cnnviz.extract(
            net,
            source,
            _names(layers),
            out,
            **options,
            resume=resume,
            overwrite=overwrite,
            executor=place,
            shards=shards,
        )
    if json:
        show_json(found.to_json())
    else:
        show(found)
        show_lines((), out)


def exemplars(
    model: Model,
    images: Images,
    layers: Layers = None,
    k: Annotated[int, typer.Option("--k", min=1, metavar="N", help="Images a channel.")] = 9,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FOLDER",
            help="For the result; a run that writes there can be gone on with.",
            show_default=False,
        ),
    ] = None,
    sample: Annotated[
        int, typer.Option(min=0, metavar="N", help="Images drawn at random, for quantiles.")
    ] = 256,
    per_class: Annotated[
        int, typer.Option(min=0, metavar="N", help="Images of each class a channel.")
    ] = 1,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Of what is drawn.")] = 0,
    sheet: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A .png of the patches that excite channels most, a row for each.",
            show_default=False,
            rich_help_panel=_SHEET,
        ),
    ] = None,
    layer: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Whose channels are shown; the last by default.",
            rich_help_panel=_SHEET,
        ),
    ] = None,
    channels: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBERS",
            help=f"Such as 0-15 or 3,7; the first {_SHOWN} by default.",
            show_default=False,
            rich_help_panel=_SHEET,
        ),
    ] = None,
    resume: Resume = False,
    executor: Place = None,
    workers: Workers = None,
    shards: Shards = None,
    batch: Batch = None,
    dry_run: DryRun = False,
    size: Size = None,
    framework: Framework = None,
    weights: Weights = None,
    preprocessing: Preprocess = None,
    device: Device = None,
    output: Output = None,
    json: Json = False,
) -> None:
    """Find the images of a data set that excite each channel most, and where in them."""
    side = parse_size(size)
    where = _where(executor, workers)
    wanted = _numbers(channels)
    check_out(sheet, PICTURES, images)
    if out is not None:
        check_out_folder(out)
    elif resume:
        raise InvalidOption("--resume goes on with what --out names; name it")
    source = _source(images)
    net = open_network(
        model, framework, weights, preprocessing, device, output=parse_output(output)
    )
    options: dict[str, Any] = {"sample": sample, "per_class": per_class, "seed": seed}
    options |= {"size": side, "batch": batch}
    if layer is not None:
        layer = net.layer(layer).name if not layer.startswith("<") else layer
    if dry_run:
        _told(net, exemplars_trial(net, source, _names(layers), k, **options), json)
        return
    with _resumable(out), _made(where, workers) as place:
        found = cnnviz.find_exemplars(
            net,
            source,
            _names(layers),
            k,
            **options,
            out=out,
            resume=resume,
            executor=place,
            shards=shards,
        )
    shown = found[layer or found.layers[-1]]
    if wanted and max(wanted) >= shown.channels:
        raise ChannelOutOfRange(f"channel of {shown.layer}", max(wanted), shown.channels)
    numbers = wanted or list(range(min(_SHOWN, shown.channels)))
    if sheet is not None:
        pictures.save(sheet, shown.pictures.sheet(numbers))
    if json:
        show_json(found.to_json() | {"out": out, "sheet": sheet})
        return
    rows = []
    for channel in numbers:
        best = shown.top(channel)
        if best:
            rows.append((str(channel), f"{best[0].value:.4g}", found.references[best[0].image]))
    show(Table((f"channel of {shown.layer}", "largest", "in"), rows, right=(0, 1)))
    show_lines(str(found).splitlines(), out, sheet)


def _source(given: list[str]) -> Source:
    """Take one thing that holds images, or several files."""
    if len(given) == 1:
        return as_source(given[0])
    for one in given:
        if os.path.isdir(one):
            raise InvalidOption(f"{one!r} is a folder; give one folder, or files alone")
        if not os.path.exists(one):
            raise InvalidImage(f"there is no file {one!r}")
    return as_source(given)


def _names(layers: str | None) -> list[str] | None:
    if layers is None:
        return None
    return [name.strip() for name in layers.split(",") if name.strip()]


def _numbers(text: str | None) -> list[int]:
    """Read ``0-15`` or ``3,7``."""
    found: list[int] = []
    for part in (text or "").split(",") if text is not None else []:
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        span = range(int(match[1]), int(match[2] or match[1]) + 1) if match else range(0)
        if not span:
            raise InvalidOption(f"--channels is such as 0-15 or 3,7, not {text!r}")
        found += span
    return found


def _where(name: str | None, workers: int | None) -> str:
    """Name the executor that is meant."""
    if name is None:
        return "serial" if workers is None else "processes"
    if name not in executors.EXECUTORS:
        known = ", ".join(executors.EXECUTORS)
        raise InvalidOption(f"--executor is one of {known}, not {name!r}")
    if name == "serial" and workers is not None:
        raise InvalidOption("--workers is for --executor processes or ray")
    return name


def _made(name: str, workers: int | None) -> executors.Executor:
    if name == "serial":
        return executors.serial()
    maker = executors.processes if name == "processes" else executors.ray
    return maker(workers)


@contextmanager
def _resumable(work: Path | None) -> Iterator[None]:
    """Say of a run that is interrupted how to go on with it, if that can be."""
    try:
        yield
    except KeyboardInterrupt:
        if work is None or not (work / "plan.json").is_file():
            raise
        raise KeyboardInterrupt(
            "interrupted; the same command with --resume goes on with it"
        ) from None


def _told(net: Adapter[Any], found: Trial, json: bool) -> None:
    if json:
        show_json({"network": net.name, "framework": net.framework, **found.to_json()})
    else:
        show(found)
