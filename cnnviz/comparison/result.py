"""What a comparison of two networks found: a table, a figure, JSON and a page."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnviz.comparison.differences import GradientDifference, LayerDifference
from cnnviz.comparison.doctor import Diagnosis
from cnnviz.comparison.predictions import Predictions
from cnnviz.errors import InvalidOption
from cnnviz.figures import figure_png
from cnnviz.files import plain_json, write_bytes, write_json, write_text
from cnnviz.tables import html_table, rich_table, text_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Group

__all__ = ["Comparison"]

_HEADER = ("layer", "in the other", "family", "max diff", "mean diff", "1 - cos", "corr", "CKA")
_OTHER_SHAPE, _NOT_FINITE = "other shape", "not finite"


@dataclass(frozen=True)
class Comparison:
    """Two networks, compared layer by layer.

    Attributes
    ----------
    names : (str, str)
        Of the networks, with their frameworks.
    layers : tuple of LayerDifference
        In the order of the first network.
    only, only_other : tuple of str
        Layers without a counterpart.
    gradients : tuple of GradientDifference
        Of the score of the first network's class, at the picture and at the ends of stages.
    predictions : Predictions
    preprocessing : tuple of (str, str, str)
        Settings in which the preprocessing differs, with both values; empty if it is the same.
    images, layer_images : int
        How many images were run, and how many of them compared layer by layer.
    tolerance : float
        Up to which max|difference| / max|reference| is rounding.
    diagnoses : tuple of Diagnosis
        What is wrong with the second network, in the order of the first.
    """

    names: tuple[str, str]
    layers: tuple[LayerDifference, ...]
    only: tuple[str, ...]
    only_other: tuple[str, ...]
    gradients: tuple[GradientDifference, ...]
    predictions: Predictions
    preprocessing: tuple[tuple[str, str, str], ...]
    images: int
    layer_images: int
    tolerance: float
    diagnoses: tuple[Diagnosis, ...] = ()
    notes: tuple[str, ...] = field(default=())

    @property
    def first_divergence(self) -> LayerDifference | None:
        """The first layer that is apart by more than the tolerance; None if there is none."""
        # What is no number is apart as well.
        return next((row for row in self.layers if not row.relative <= self.tolerance), None)

    @property
    def diagnosis(self) -> Diagnosis | None:
        """The first fault; None if none was found."""
        return self.diagnoses[0] if self.diagnoses else None

    @property
    def worst(self) -> LayerDifference | None:
        """The layer that is farthest apart."""
        return max(
            self.layers,
            key=lambda row: math.inf if math.isnan(row.relative) else row.relative,
            default=None,
        )

    @property
    def agree(self) -> bool:
        """Whether all layers and the scores are within the tolerance, and no fault was found."""
        scores = self.predictions.relative <= self.tolerance
        return scores and self.first_divergence is None and not self.diagnoses

    @property
    def table(self) -> str:
        """One row a layer, in plain text."""
        return text_table(*self.cells(), right=(3, 4, 5, 6, 7), footer=self._footer())

    def plot(self) -> Figure:
        """Draw the difference of each layer over the depth."""
        from cnnviz.comparison.plots import depth_figure

        return depth_figure(self)

    def to_json(self) -> dict[str, Any]:
        """Give everything, of what JSON knows; what is no number is null."""
        found = {
            "names": list(self.names),
            "agree": self.agree,
            "tolerance": self.tolerance,
            "images": self.images,
            "layer_images": self.layer_images,
            "first_divergence": self.first_divergence and self.first_divergence.name,
            "diagnoses": [one.to_json() for one in self.diagnoses],
            "predictions": self.predictions.to_json(),
            "preprocessing": [list(row) for row in self.preprocessing],
            "gradients": [row.to_json() for row in self.gradients],
            "layers": [row.to_json() for row in self.layers],
            "only": list(self.only),
            "only_other": list(self.only_other),
            "notes": list(self.notes),
        }
        cleaned: dict[str, Any] = plain_json(found)
        return cleaned

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write everything (``.json``), the figure (``.png``) or a page of both (``.html``).

        Raises
        ------
        InvalidOption
            The suffix is none of these.
        """
        target = Path(path)
        match target.suffix.lower():
            case ".json":
                return write_json(target, self.to_json())
            case ".png":
                return write_bytes(target, figure_png(self.plot()))
            case ".html":
                from cnnviz.comparison.page import page

                return write_text(target, page(self))
            case suffix:
                raise InvalidOption(
                    f"a comparison is saved as .json, .png or .html, not {suffix!r}"
                )

    def __str__(self) -> str:
        return "\n".join(self.summary())

    def summary(self) -> list[str]:
        """Say in a few lines what was found."""
        one, two = self.names
        worst = self.worst
        lines = [f"{one} and {two}: {'they agree' if self.agree else 'THEY PART'}"]
        if worst is not None:
            apart = _apart(worst)
            told = f"the largest difference is {apart} of its layer"
            if apart in (_OTHER_SHAPE, _NOT_FINITE):
                told = f"the worst is {apart}"
            lines.append(
                f"{len(self.layers)} layers compared over {self.layer_images} images;"
                f" {told}, at {worst.name!r} (tolerance {self.tolerance:g})"
            )
        lines.append(str(self.predictions))
        first = self.first_divergence
        if first is not None:
            lines.append(
                f"they part first at {first.name!r} ({first.other!r} in the other): {_apart(first)}"
            )
        lines += [f"diagnosis: {one}" for one in self.diagnoses]
        lost = first is not None and _apart(first) == _NOT_FINITE
        if not self.agree and not self.diagnoses and not lost:
            lines.append(self._unexplained())
        for name, ours, theirs in self.preprocessing:
            lines.append(f"preprocessing: {name} is {ours} and {theirs}")
        for names, network in ((self.only, one), (self.only_other, two)):
            if names:
                more = f" and {len(names) - 4} more" if len(names) > 4 else ""
                lines.append(f"only in {network}: {', '.join(names[:4])}{more}")
        return [*lines, *self.notes]

    def _unexplained(self) -> str:
        if self.first_divergence is not None:
            return (
                "each layer by itself does the same: what is apart is rounding that grew, or lies"
                " where no layer is"
            )
        if self.images > self.layer_images:
            return (
                f"no layer is apart over the first {self.layer_images} images; to see on which of"
                " the others one is, raise layer_images"
            )
        return "no layer is apart: what differs comes after the last of them"

    def __rich__(self) -> Group:
        return rich_table(*self.cells(), right=(3, 4, 5, 6, 7), footer=self._footer())

    def __repr__(self) -> str:
        verdict = "agree" if self.agree else "part"
        return f"<Comparison of {self.names[0]} and {self.names[1]}: they {verdict}>"

    def _repr_html_(self) -> str:
        return html_table(*self.cells(), self._footer())

    def cells(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Give the header and the rows of the table."""
        rows: list[tuple[str, ...]] = [
            (
                row.name,
                row.other,
                row.family,
                _apart(row),
                "" if row.shape != row.other_shape else _number(row.mean),
                "" if math.isnan(row.cosine) else _number(max(0.0, 1 - row.cosine)),
                "" if math.isnan(row.correlation) else f"{row.correlation:.6f}",
                "" if math.isnan(row.cka) else f"{row.cka:.4f}",
            )
            for row in self.layers
        ]
        return _HEADER, rows

    def _footer(self) -> list[str]:
        slopes = [
            f"gradient at {row.name}: "
            + (
                _NOT_FINITE
                if math.isnan(row.cosine)
                else f"{_number(row.relative)} apart, cosine {row.cosine:.6f}"
            )
            for row in self.gradients
        ]
        return [*self.summary(), *slopes]


def _apart(row: LayerDifference) -> str:
    if row.shape != row.other_shape:
        return _OTHER_SHAPE
    # Where the reference is zero the share of it is infinite; the mean is not.
    return _number(row.relative) if math.isfinite(row.mean) else _NOT_FINITE


def _number(value: float) -> str:
    return _NOT_FINITE if math.isnan(value) else f"{value:.1e}"
