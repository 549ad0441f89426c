"""How alike the layers of two networks see pictures: linear centred kernel alignment (CKA)."""

from __future__ import annotations

import base64
import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cnnviz.attribution.settings import require_count
from cnnviz.comparison.kernels import Matrix, alignment, least_examples, linear_cka
from cnnviz.comparison.streams import Reader, asked_layers, minibatches, pictures_for
from cnnviz.discovery import adapt
from cnnviz.errors import InvalidOption
from cnnviz.figures import figure_png
from cnnviz.files import write_arrays, write_bytes, write_json
from cnnviz.images import ImageLike, ImagesLike
from cnnviz.progress import tracked
from cnnviz.tables import html_table, text_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Similarity", "linear_cka", "similarity"]

Features = Literal["flat", "mean"]

_BATCH = 32
_HEADER = ("layer", "most alike", "CKA")
_SHOWN = 24


@dataclass(frozen=True, eq=False)
class Similarity:
    """How alike each layer of one network is to each of another: linear CKA.

    Attributes
    ----------
    matrix : array
        ``(La, Lb)``, float64: 1 where two layers are equal but for a rotation and a scale. The
        unbiased estimate may lie below 0, of few images far. A constant layer has 0.
    layers, other_layers : tuple of str
        The rows and the columns, in the order of the networks or as asked for.
    names : tuple of str
        What the two networks are called.
    images : int
        How many were compared.
    left_out : int
        Images at the end that were too few for a minibatch.
    constant : tuple of tuple of str
        For each network its layers that are the same for every image.
    features : {"flat", "mean"}
        Whether all places were compared or their mean.
    unbiased : bool
        Which estimate it is.
    batch : int
        Images in a minibatch.
    """

    matrix: Matrix
    layers: tuple[str, ...]
    other_layers: tuple[str, ...]
    names: tuple[str, str]
    images: int
    left_out: int = 0
    constant: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
    features: Features = "flat"
    unbiased: bool = True
    batch: int = _BATCH

    def best(self) -> dict[str, tuple[str, float]]:
        """Give for each layer the most alike of the other network, and its CKA.

        The first of equals; constant layers are left out on both sides.
        """
        fixed, other_fixed = map(set, self.constant)
        columns = [j for j, name in enumerate(self.other_layers) if name not in other_fixed]
        found = {}
        for name, row in zip(self.layers, self.matrix, strict=True):
            if columns and name not in fixed:
                j = columns[int(np.argmax(row[columns]))]
                found[name] = self.other_layers[j], float(row[j])
        return found

    def plot(self) -> Figure:
        """Draw the matrix from 0 to 1; constant layers are grey."""
        from cnnviz.comparison.similarity_plot import similarity_figure

        return similarity_figure(self)

    def to_json(self) -> dict[str, Any]:
        """Give everything, of what JSON knows."""
        return {
            "names": list(self.names),
            "layers": list(self.layers),
            "other_layers": list(self.other_layers),
            "matrix": self.matrix.tolist(),
            "images": self.images,
            "left_out": self.left_out,
            "constant": [list(names) for names in self.constant],
            "features": self.features,
            "unbiased": self.unbiased,
            "batch": self.batch,
        }

    def save(self, path: str | Path) -> Path:
        """Write everything (``.json``), matrix and names (``.npz``) or the figure (``.png``).

        Raises
        ------
        InvalidOption
            The suffix is none of these.
        """
        path = Path(path)
        match path.suffix.lower():
            case ".json":
                return write_json(path, self.to_json())
            case ".npz":
                parts = {key: getattr(self, key) for key in ("layers", "other_layers", "names")}
                arrays = {key: np.asarray(names, np.str_) for key, names in parts.items()}
                return write_arrays(path, {"matrix": self.matrix, **arrays})
            case ".png":
                return write_bytes(path, figure_png(self.plot()))
            case suffix:
                raise InvalidOption(f"a similarity is saved as .json, .npz or .png, not {suffix!r}")

    def __str__(self) -> str:
        return text_table(_HEADER, self._cells(), right=(2,), footer=self._footer())

    def __repr__(self) -> str:
        return f"<Similarity {self.names[0]} {self.matrix.shape} {self.names[1]}>"

    def _repr_png_(self) -> bytes:
        return figure_png(self.plot())

    def _repr_html_(self) -> str:
        data = base64.b64encode(self._repr_png_()).decode("ascii")
        picture = f'<img alt="linear CKA" src="data:image/png;base64,{data}">'
        return f"{picture}\n{html_table(_HEADER, self._cells(), self._footer())}"

    def _cells(self) -> list[tuple[str, str, str]]:
        best = self.best()
        rows = [(name, *best.get(name, ("", np.nan))) for name in self.layers]
        cells = [(a, b, f"{cka:.3f}" if b else "constant") for a, b, cka in rows]
        if len(cells) > _SHOWN:
            some = np.rint(np.linspace(0, len(cells) - 1, _SHOWN)).astype(int)
            cells = [cells[i] for i in some]
        return cells

    def _footer(self) -> list[str]:
        kind = "unbiased" if self.unbiased else "biased"
        left = f", {self.left_out} left out" if self.left_out else ""
        lines = [
            f"{self.names[0]} against {self.names[1]}: {kind} linear CKA, {self.images} images"
        ]
        if len(self.layers) > _SHOWN:
            lines.append(f"{_SHOWN} of {len(self.layers)} layers are shown; .best() has them all")
        return [lines[0] + left, *lines[1:]]


def similarity(
    a: Any,
    b: Any,
    images: ImagesLike | Iterable[ImageLike],
    *,
    layers: str | Sequence[str] | None = None,
    other_layers: str | Sequence[str] | None = None,
    features: Features = "flat",
    unbiased: bool = True,
    batch: int | None = None,
    size: int | tuple[int, int] | None = None,
) -> Similarity:
    """Compare every layer of one network with every layer of another by linear CKA [1]_.

    HSIC is averaged over minibatches, each by its number of images, then divided [2]_: images
    are a stream, of which one minibatch is held at a time.

    Parameters
    ----------
    a, b : model or Adapter
        The networks, of any framework; they may be one. Each is given the images at its own
        size and by its own preprocessing.
    images : iterable of path, Pillow image or array
        Also a generator, a single array ``(N, H, W, C)``, or what `feature_maps` takes.
    layers, other_layers : str or sequence of str, optional
        Names of layers of `a` and of `b`, or `cnnviz.INPUT`, `cnnviz.OUTPUT`, `cnnviz.LOGITS`.
        By default those that hold no others, give numbers for each image and may lead to the
        scores.
    features : {"flat", "mean"}
        Compare all numbers of a layer, or their mean over all axes between the first and the
        last: over places or tokens.
    unbiased : bool
        Average the unbiased estimate HSIC_1, which does not depend on `batch` but for its
        noise. The biased one grows as minibatches get smaller.
    batch : int, optional
        Images in a minibatch, 32 by default; at least 4, or 2 for the biased estimate. Fewer
        than that at the end of the stream are left out.
    size : int or (int, int), optional
        Height and width for both networks, in place of their own.

    Returns
    -------
    Similarity

    Raises
    ------
    UnknownLayer, TapNotReached
        A network has no such layer, or does not run through it.
    InvalidImage, UnknownPreprocessing
        See `cnnviz.pictures.picture_batch`.
    InvalidOption
        There are too few images, a layer gives numbers that are not finite or none for each
        image, or an option is wrong.

    References
    ----------
    .. [1] Kornblith et al., "Similarity of Neural Network Representations Revisited", ICML
       2019, arXiv:1905.00414.
    .. [2] Nguyen et al., "Do Wide and Deep Networks Learn the Same Things?", ICLR 2021,
       arXiv:2010.15327.
    """
    if features not in ("flat", "mean"):
        raise InvalidOption(f"features must be 'flat' or 'mean', not {features!r}")
    least = least_examples(unbiased)
    batch = require_count("batch", _BATCH if batch is None else batch, least)
    settings = features == "mean", unbiased, batch
    one = Reader(adapt(a), asked_layers(layers), *settings)
    other = Reader(one.net if b is a else adapt(b), asked_layers(other_layers), *settings)
    same = other.net is one.net and other.asked == one.asked
    if same:
        other = one
    sums: tuple[Any, Any, Any] = (0.0, 0.0, 0.0)
    used = left_out = 0
    # Of a generator nobody knows how long it is.
    length = operator.length_hint(images, 0)
    total: Any = -(-length // batch) or None
    for some in tracked(minibatches(images, one.net, batch), "similarity", total):
        if len(some) < least:
            left_out = len(some)
            break
        pictures = pictures_for((one.net, other.net), some, size, used)
        rows = one.kernels(pictures[0])
        columns = rows if same else other.kernels(pictures[1])
        n = len(some)
        share = 1 / (n - 3) if unbiased else n / (n - 1) ** 2
        found = rows @ columns.T, (rows**2).sum(axis=1), (columns**2).sum(axis=1)
        sums = (sums[0] + share * found[0], sums[1] + share * found[1], sums[2] + share * found[2])
        used += n
    if not used:
        kind = "unbiased" if unbiased else "biased"
        raise InvalidOption(f"{kind} CKA takes at least {least} images, not {left_out}")
    names = [one.net.name, other.net.name]
    if names[0] == names[1] and one.net.framework != other.net.framework:
        names = [reader.net.title for reader in (one, other)]
    return Similarity(
        matrix=alignment(*sums),
        layers=tuple(one.taps),
        other_layers=tuple(other.taps),
        names=(names[0], names[1]),
        images=used,
        left_out=left_out,
        constant=(one.constant, other.constant),
        features=features,
        unbiased=unbiased,
        batch=batch,
    )
