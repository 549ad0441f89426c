"""What is in the weights: statistics of every tensor, and the first kernels as pictures."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from cnnviz import images
from cnnviz.adapter import Adapter
from cnnviz.discovery import adapt
from cnnviz.errors import CnnvizError, InvalidOption
from cnnviz.figures import figure_png, histogram_figure
from cnnviz.files import write_bytes, write_text
from cnnviz.layers import Role, tensor_role
from cnnviz.tables import html_table, rich_table, text_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Group

__all__ = ["TensorStats", "WeightStats", "weight_stats"]

BINS = 50
_FIGURE_LIMIT = 60

_HEADER = ("name", "role", "shape", "count", "mean", "std", "min", "max", "")


@dataclass(frozen=True, eq=False)
class TensorStats:
    """One tensor of a network in numbers, computed in float64.

    Attributes
    ----------
    name : str
        The framework's own full name.
    role : str
        kernel, bias, scale, offset, running mean, running variance or parameter.
    is_statistic : bool
        Whether batch norm counted it instead of training it.
    shape : tuple of int
        Kernels are ``(kh, kw, in, out)``, dense ones ``(in, out)``.
    count : int
        Entries, finite or not.
    non_finite : int
        Entries that are infinite or not a number; everything below leaves them out.
    mean, std, min, max : float
        `std` divides by the count less one; of a single entry it is 0. All are 0 where there
        is no finite entry.
    histogram : array of int
        ``(50,)``, entries in each bin.
    edges : array of float
        ``(51,)``, from min to max; one wide about the value where all entries are the same.
    """

    name: str
    role: Role
    is_statistic: bool
    shape: tuple[int, ...]
    count: int
    non_finite: int
    mean: float
    std: float
    min: float
    max: float
    histogram: NDArray[np.int64]
    edges: NDArray[np.float64]

    @classmethod
    def of(cls, name: str, values: NDArray[Any], role: Role) -> TensorStats:
        """Compute the row of one tensor."""
        flat = np.asarray(values, dtype=np.float64).ravel()
        finite = flat if (mask := np.isfinite(flat)).all() else flat[mask]
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
        # Numpy refuses bins narrower than two neighbouring floats.
        narrow = high - low <= 4 * BINS * np.spacing(max(abs(low), abs(high)))
        limits = ((low + high) / 2 - 0.5, (low + high) / 2 + 0.5) if narrow else (low, high)
        histogram, edges = np.histogram(finite, bins=BINS, range=limits)
        return cls(
            name=name,
            role=role,
            is_statistic=role in ("running mean", "running variance"),
            shape=tuple(np.shape(values)),
            count=flat.size,
            non_finite=flat.size - finite.size,
            mean=float(finite.mean()) if finite.size else 0.0,
            std=float(finite.std(ddof=1)) if finite.size > 1 else 0.0,
            min=low,
            max=high,
            histogram=histogram,
            edges=edges,
        )

    def to_json(self) -> dict[str, Any]:
        """Give the row as a dictionary of what JSON knows."""
        row = {field.name: getattr(self, field.name) for field in fields(self)}
        return row | {
            "shape": list(self.shape),
            "histogram": self.histogram.tolist(),
            "edges": self.edges.tolist(),
        }


@dataclass(frozen=True, eq=False)
class WeightStats:
    """The weights of a network in numbers.

    Attributes
    ----------
    network : str
        Name of the network.
    table : tuple of TensorStats
        One row a tensor, in the network's order.
    first_kernel : array or None
        ``(kh, kw, in, out)`` of the first convolution, its input channels in the order RGB;
        None if the network does not begin with a convolution of a grey or colour picture.
    first_kernel_name : str or None
        Its name in the table.
    """

    network: str
    table: tuple[TensorStats, ...]
    first_kernel: NDArray[Any] | None = None
    first_kernel_name: str | None = None

    def __getitem__(self, name: str) -> TensorStats:
        """Give the row of one tensor by its full name."""
        for row in self.table:
            if row.name == name:
                return row
        raise InvalidOption(f"{self.network} has no tensor {name!r}; .table lists them all")

    @property
    def non_finite(self) -> tuple[str, ...]:
        """Names of the tensors that hold infinities or what is not a number."""
        return tuple(row.name for row in self.table if row.non_finite)

    def kernels(self, *, normalise: Literal["zero", "minmax"] = "zero") -> NDArray[Any]:
        """Give the kernels of the first layer as colour tiles.

        Parameters
        ----------
        normalise : {"zero", "minmax"}
            ``"zero"``: a weight of 0 is mid grey (0.5) and the largest magnitude of the tile
            reaches 0 or 1. ``"minmax"``: each tile is stretched from its least to its most.

        Returns
        -------
        array
            ``(out, kh, kw, 3)``, RGB in [0, 1]; the kernels of a grey network are grey.

        Raises
        ------
        CnnvizError
            The network does not begin with a convolution of a grey or colour picture.
        InvalidOption
            `normalise` is none of the two.
        """
        if self.first_kernel is None:
            raise CnnvizError(
                f"{self.network} has no first-layer kernels to draw: no convolution takes its"
                " pictures with 1 or 3 channels"
            )
        tiles = np.moveaxis(np.asarray(self.first_kernel), -1, 0)
        axes = (1, 2, 3)
        if normalise == "zero":
            reach = np.abs(tiles).max(axis=axes, keepdims=True)
            tiles = 0.5 + 0.5 * tiles / np.where(reach > 0, reach, 1)
        elif normalise == "minmax":
            low = tiles.min(axis=axes, keepdims=True)
            reach = tiles.max(axis=axes, keepdims=True) - low
            tiles = (tiles - low) / np.where(reach > 0, reach, 1)
        else:
            raise InvalidOption(f"normalise must be 'zero' or 'minmax', not {normalise!r}")
        return np.repeat(tiles, 3, axis=-1) if tiles.shape[-1] == 1 else tiles

    def kernel_sheet(
        self,
        *,
        scale: int | None = None,
        columns: int | None = None,
        normalise: Literal["zero", "minmax"] = "zero",
    ) -> NDArray[Any]:
        """Lay the kernels of the first layer out as one picture.

        Parameters
        ----------
        scale : int, optional
            Pixels of the sheet for each weight along a side; by default as many as make a
            tile about 48 pixels wide.
        columns : int, optional
            Tiles in a row; about as many as rows by default.
        normalise
            As for `kernels`.

        Returns
        -------
        array
            ``(H, W, 3)``, RGB in [0, 1].
        """
        tiles = self.kernels(normalise=normalise)
        if scale is None:
            scale = max(1, round(48 / max(tiles.shape[1:3])))
        if scale < 1:
            raise InvalidOption(f"scale must be at least 1, not {scale}")
        tiles = tiles.repeat(scale, axis=1).repeat(scale, axis=2)
        return images.grid(tiles, columns=columns)

    def plot(self, names: Iterable[str] | None = None) -> Figure:
        """Draw the histograms of the tensors named, or of the first 60."""
        rows = self.table[:_FIGURE_LIMIT] if names is None else [self[name] for name in names]
        title = f"{self.network}: weights"
        if len(rows) < len(self.table):
            title += f" ({len(rows)} of {len(self.table)} tensors)"
        return histogram_figure(rows, title=title)

    def to_json(self) -> list[dict[str, Any]]:
        """Give one dictionary a tensor, of what JSON knows."""
        return [row.to_json() for row in self.table]

    def save(self, path: str | Path) -> Path:
        """Write the table (``.json``, ``.csv`` without histograms) or the figure (``.png``).

        Raises
        ------
        InvalidOption
            The suffix is none of these.
        """
        path = Path(path)
        match path.suffix.lower():
            case ".json":
                write_text(path, json.dumps(self.to_json(), indent=1) + "\n")
            case ".csv":
                write_text(path, self._csv())
            case ".png":
                write_bytes(path, figure_png(self.plot()))
            case suffix:
                raise InvalidOption(f"weights are saved as .json, .csv or .png, not {suffix!r}")
        return path

    def __str__(self) -> str:
        return text_table(_HEADER, self._cells(), right=range(3, 8), footer=self._footer())

    def __rich__(self) -> Group:
        return rich_table(_HEADER, self._cells(), right=range(3, 8), footer=self._footer())

    def _repr_html_(self) -> str:
        return html_table(_HEADER, self._cells(), self._footer())

    def _cells(self) -> list[tuple[str, ...]]:
        return [
            (
                row.name,
                row.role,
                " x ".join(map(str, row.shape)) or "scalar",
                f"{row.count:,}",
                *(f"{value:.4g}" for value in (row.mean, row.std, row.min, row.max)),
                f"{row.non_finite} not finite" if row.non_finite else "",
            )
            for row in self.table
        ]

    def _footer(self) -> list[str]:
        trained = sum(row.count for row in self.table if not row.is_statistic)
        counted = sum(row.count for row in self.table if row.is_statistic)
        lines = [f"{self.network}: {len(self.table)} tensors, {trained:,} parameters"]
        if counted:
            lines[0] += f" and {counted:,} running statistics"
        if self.non_finite:
            lines.append(f"not finite: {', '.join(self.non_finite)}")
        return lines

    def _csv(self) -> str:
        names = [f.name for f in fields(TensorStats) if f.name not in ("histogram", "edges")]
        text = io.StringIO()
        writer = csv.DictWriter(text, names, extrasaction="ignore")
        writer.writeheader()
        for row in self.table:
            writer.writerow(row.to_json() | {"shape": "x".join(map(str, row.shape))})
        return text.getvalue()


def weight_stats(net: Any) -> WeightStats:
    """Describe every weight tensor of a network: mean, spread, range, histogram of 50 bins.

    Parameters
    ----------
    net : model or Adapter
        The network. Counters and random states are left out; running statistics of batch
        norm are told apart from what is trained.

    Returns
    -------
    WeightStats
        Printed, it is a table; entries that are not finite are counted and told.
    """
    net = adapt(net)
    weights = net.weights()
    table = tuple(
        TensorStats.of(name, values, tensor_role(name, weights)) for name, values in weights.items()
    )
    name = _first_kernel(net, table)
    kernel = None if name is None else np.array(weights[name])
    if kernel is not None and net.preprocessing and net.preprocessing.order == "bgr":
        kernel = kernel[:, :, ::-1]
    return WeightStats(net.name, table, kernel, name)


def _first_kernel(net: Adapter[Any], table: Sequence[TensorStats]) -> str | None:
    """Name the kernel that sees the picture itself, if it is one of 1 or 3 channels."""
    channels = net.input_shape[-1]
    if channels not in (1, 3):
        return None
    return next(
        (
            row.name
            for row in table
            # A depthwise kernel further in has one channel too, but is not the picture's.
            if row.role == "kernel" and len(row.shape) == 4 and row.shape[2] == channels
        ),
        None,
    )
