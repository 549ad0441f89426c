"""A picture for every channel of a layer, which can be stopped and gone on with."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnnviz import images
from cnnviz.adapter import Adapter
from cnnviz.ascent.objectives import channel
from cnnviz.ascent.objectives.base import Tap
from cnnviz.ascent.recipes import Recipe, as_recipe
from cnnviz.ascent.rendering import batch_for, rendered, require_ascent, require_whole
from cnnviz.discovery import adapt
from cnnviz.errors import ChannelOutOfRange, InvalidOption
from cnnviz.pictures import picture_size
from cnnviz.progress import tracked

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["LayerSheet", "ascend_layer"]


@dataclass(frozen=True)
class LayerSheet:
    """A picture for each of some channels of a layer.

    Attributes
    ----------
    images : array
        ``(N, H, W, C)`` in [0, 1], of 8 bits.
    layer : str
    channels : tuple of int
    clean : array
        ``(N,)``: the mean activation of each picture's channel.
    notes : tuple of str
        Which channels are dead.
    files : tuple of Path
        Where the pictures lie, if they were written.
    recipe : Recipe
    seed : int
    network, framework : str
    """

    images: NDArray[Any]
    layer: str
    channels: tuple[int, ...]
    clean: NDArray[Any]
    notes: tuple[str, ...]
    files: tuple[Path, ...] = field(repr=False)
    recipe: Recipe = field(repr=False)
    seed: int
    network: str
    framework: str

    def sheet(self, columns: int | None = None, margin: int = 5) -> NDArray[Any]:
        """Lay the pictures out on one, ``(H, W, C)``."""
        return images.grid(self.images, columns, margin)

    def plot(self) -> Figure:
        """Draw the pictures with their channels."""
        from cnnviz import figures

        titles = [f"{c}  {v:.3g}" for c, v in zip(self.channels, self.clean, strict=True)]
        return figures.images_figure(self.images, titles, columns=8)

    def save(self, path: str | Path, columns: int | None = None, margin: int = 5) -> Path:
        """Write the sheet, with how it was made in a PNG's metadata."""
        about = {
            "Software": "cnnviz",
            "cnnviz:network": f"{self.network} ({self.framework})",
            "cnnviz:objective": f"{self.layer}: channels {', '.join(map(str, self.channels))}",
            "cnnviz:seed": str(self.seed),
            "cnnviz:recipe": repr(self.recipe),
        }
        metadata = about if Path(path).suffix.lower() == ".png" else None
        return images.save(path, self.sheet(columns, margin), metadata)

    def _repr_png_(self) -> bytes:
        return images.png_bytes(self.sheet())


def ascend_layer(
    net: Any,
    layer: str,
    channels: Sequence[int] | None = None,
    recipe: Recipe | str = "default",
    size: int | tuple[int, int] | None = None,
    seed: int = 0,
    *,
    folder: str | Path | None = None,
    batch: int | None = None,
    **options: Any,
) -> LayerSheet:
    """Make a picture for every channel of a layer, in batches of one fixed size.

    The picture of a channel does not depend on which others are asked for, on their order, or
    on whether the work was interrupted: batches are always full.

    Parameters
    ----------
    net : model or Adapter
    layer : str
        An address as `cnnviz.layers` lists it.
    channels : sequence of int, optional
        All by default.
    recipe, size, seed, **options
        As for `ascend`.
    folder : path, optional
        Where each picture is written as soon as it is made, as PNG with how it was made; made
        if it is not there. What lies there already is not made again.
    batch : int, optional
        Pictures at once; by default what runs well, and the same for every channel.

    Returns
    -------
    LayerSheet

    Raises
    ------
    UnknownLayer, ChannelOutOfRange
        The network has no such layer or channel.
    InvalidOption
        As for `ascend`; or the folder holds pictures that were made with other settings.
    """
    net = adapt(net)
    if size is not None:
        options["size"] = size
    chosen = as_recipe(recipe, options)
    if batch is not None:
        require_whole("batch", batch, 1)
    if chosen.canvas.coupled:
        raise InvalidOption(
            f"a {type(chosen.canvas).__name__} ties pictures together, so that none is a channel's"
            " own; use ascend"
        )
    if folder is not None and "GeneratorCanvas" in repr(chosen.canvas):
        raise InvalidOption(
            "nothing tells whether the pictures in a folder came from the same generator; leave"
            " folder away"
        )
    require_ascent(net)
    whole = picture_size(net) or (224, 224)
    net.settle(*whole)
    count = Tap.of(net, layer).channels(net)
    wanted = list(range(count)) if channels is None else [int(c) for c in channels]
    if not wanted:
        raise InvalidOption("there is no channel; give at least one, or None for all")
    for one in wanted:
        if not 0 <= one < count:
            raise ChannelOutOfRange(f"channel of {layer!r}", one, count)
    if len(set(wanted)) != len(wanted):
        raise InvalidOption("a channel is asked for twice; give each once")
    given = picture_size(net, chosen.size) if chosen.size is not None else whole
    assert given is not None
    if batch is None:
        # No larger than the layer asks for; still the same for every channel.
        fits = batch_for(net, [channel(layer, 0)], chosen, given)
        batch = min(fits, 4 * math.ceil(count / 4))
    store = None
    if folder is not None:
        # A size may be written as one number or as two, and decides what is made either way.
        sized = replace(chosen, size=given if chosen.size is not None else None)
        store = _Store(folder, _key(net, layer, sized, whole, seed, batch))
    made: dict[int, _Unit] = {}
    for one in wanted:
        unit = store.load(one) if store is not None else None
        if unit is not None:
            made[one] = unit
    missing = [one for one in wanted if one not in made]
    chunks = [missing[k : k + batch] for k in range(0, len(missing), batch)]
    for chunk in tracked(chunks, f"ascend {layer}", len(chunks)):
        # A batch that is not full would compute a little differently.
        full = [*chunk, *[chunk[-1]] * (batch - len(chunk))]
        asked = [channel(layer, one) for one in full]
        found = rendered(net, asked, chosen, seed, batch=batch, strict=False)
        for row, one in enumerate(chunk):
            pixels = images.to_uint8(found.images[row])
            unit = _Unit(pixels, float(found.clean[row]), found.verdicts[row])
            made[one] = unit
            if store is not None:
                store.write(one, unit, net, chosen)
    units = [made[one] for one in wanted]
    return LayerSheet(
        np.stack([unit.pixels for unit in units]) / np.float32(255),
        layer,
        tuple(wanted),
        np.array([unit.clean for unit in units]),
        tuple(unit.note for unit in units if unit.note),
        tuple(store.path(one) for one in wanted) if store is not None else (),
        chosen,
        seed,
        net.name,
        net.framework,
    )


@dataclass(frozen=True)
class _Unit:
    pixels: NDArray[np.uint8]
    clean: float
    note: str


class _Store:
    """Pictures in a folder, each with the key of the settings that it was made with."""

    def __init__(self, folder: str | Path, key: str) -> None:
        self._folder, self._key = Path(folder), key
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidOption(f"cannot make the folder {str(folder)!r}: {error}") from error

    def path(self, one: int) -> Path:
        """Give the file of a channel."""
        return self._folder / f"{one:05d}.png"

    def load(self, one: int) -> _Unit | None:
        """Read what was made; None if there is nothing whole.

        Raises
        ------
        InvalidOption
            It was made with other settings, or by somebody else.
        """
        path = self.path(one)
        if not path.exists():
            return None
        try:
            with Image.open(path) as picture:
                picture.load()
                texts = dict(getattr(picture, "text", {}))
                pixels = np.array(picture)
        except (OSError, SyntaxError, ValueError):
            # A file that was cut off is made again.
            return None
        if texts.get("cnnviz:key") != self._key:
            raise InvalidOption(
                f"{str(path)!r} was made with other settings or weights; choose another folder,"
                " or move it away"
            )
        pixels = pixels if pixels.ndim == 3 else pixels[..., None]
        clean = float(texts["cnnviz:clean"])
        return _Unit(pixels, clean, texts.get("cnnviz:note", ""))

    def write(self, one: int, unit: _Unit, net: Adapter[Any], recipe: Recipe) -> None:
        """Write a picture; the file appears when it is whole."""
        about = {
            "Software": "cnnviz",
            "cnnviz:network": net.title,
            "cnnviz:recipe": repr(recipe),
            "cnnviz:key": self._key,
            "cnnviz:clean": repr(unit.clean),
            "cnnviz:note": unit.note,
        }
        images.save(self.path(one), unit.pixels, about)


def _key(
    net: Adapter[Any], layer: str, recipe: Recipe, whole: tuple[int, int], seed: int, batch: int
) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(net.weights().items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensor).tobytes())
    told = (net.framework, net.preprocessing, layer, repr(recipe), whole, seed, batch)
    digest.update(repr(told).encode())
    return digest.hexdigest()
