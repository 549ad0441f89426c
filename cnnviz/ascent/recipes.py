"""Settings that are known to give good pictures, by name, each with its source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any

from cnnviz.ascent.canvas import Canvas, FourierCanvas, PixelCanvas
from cnnviz.ascent.optimizers import Adam, NormalisedGradient, Optimizer
from cnnviz.errors import InvalidOption

__all__ = ["RECIPES", "Recipe", "as_recipe"]


@dataclass(frozen=True)
class Recipe:
    """Everything that `cnnviz.ascend` needs to know besides the objective.

    Attributes
    ----------
    size : int or (int, int) or None
        Height and width at the start, in pixels; None for a last octave at what the network
        takes.
    steps : int
        Steps in each octave.
    optimizer : Optimizer
        In units of the canvas.
    canvas : Canvas
        Where a picture starts and in what units it is written.
    jitter : int
        Largest shift of each step, in pixels; never more than a quarter of the picture.
    l2 : float
        Weight of the squared length of the canvas that is taken off the score.
    clamp : bool
        Keep the picture within [0, 1] after each step (else only at the end of an octave).
    blur, blur_every
        Standard deviation in pixels of a Gaussian blur, and after how many steps it comes.
    octaves, octave_scale
        How often the picture is enlarged and optimised again, and by how much.
    octave_blur : int
        Side of the box blur after enlarging; 0 for none.
    enlarge_last : bool
        Whether the picture is enlarged once more at the end.
    keep : tuple of int
        Steps after which the picture is kept in `Ascent.intermediates`; with several octaves,
        the end of each is kept too.
    source : str
        Where the settings come from.
    """

    size: int | tuple[int, int] | None = None
    steps: int = 256
    optimizer: Optimizer = field(default_factory=Adam)
    canvas: Canvas = field(default_factory=PixelCanvas)
    jitter: int = 0
    l2: float = 0.0
    clamp: bool = True
    blur: float = 0.0
    blur_every: int = 0
    octaves: int = 1
    octave_scale: float = 1.2
    octave_blur: int = 0
    enlarge_last: bool = False
    keep: tuple[int, ...] = ()
    source: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        for name in ("steps", "octaves"):
            if getattr(self, name) < 1:
                raise InvalidOption(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("jitter", "l2", "blur", "blur_every", "octave_blur"):
            if getattr(self, name) < 0:
                raise InvalidOption(f"{name} must not be below zero, not {getattr(self, name)}")
        if self.octave_scale < 1:
            raise InvalidOption(f"octave_scale must be at least 1, not {self.octave_scale}")

    def sides(self, first: int | None = None, last: int | None = None) -> list[int]:
        """List one side of the picture octave by octave, from the first or up to the last.

        One more stands at the end if the picture is enlarged once it is done.
        """
        if first is None:
            assert last is not None
            shrinks = [self.octave_scale**k for k in reversed(range(self.octaves))]
            found = [max(1, round(last / shrink)) for shrink in shrinks]
        else:
            found = [first]
            for _ in range(self.octaves - 1):
                found.append(int(found[-1] * self.octave_scale))
        return [*found, int(found[-1] * self.octave_scale)] if self.enlarge_last else found


RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        # Chosen by eye on classes of EfficientNet-Lite0: less blur brings grain, less decay
        # greyness, fewer octaves lose the whole for the parts.
        "default": Recipe(
            steps=80,
            optimizer=Adam(0.05),
            canvas=FourierCanvas(decay=1.35),
            jitter=12,
            blur=0.5,
            blur_every=2,
            octaves=3,
            octave_scale=1.4,
            source="after Olah et al., Feature Visualization, Distill, 2017, with octaves",
        ),
        "octaves": Recipe(
            size=56,
            steps=25,
            optimizer=Adam(0.1, weight_decay=1e-6),
            canvas=PixelCanvas(start="uniform", low=150 / 255, high=180 / 255),
            clamp=False,
            octaves=13,
            octave_scale=1.2,
            octave_blur=3,
            enlarge_last=True,
            source="Graetz, How to visualize convolutional features in 40 lines of code, 2019",
        ),
        "cs231n": Recipe(
            size=224,
            steps=100,
            optimizer=NormalisedGradient(25.0, "l2"),
            jitter=16,
            l2=1e-3,
            blur=0.5,
            blur_every=10,
            keep=(1, 25, 50, 75, 100),
            source="Stanford CS231n, assignment 3, network visualization",
        ),
    }
)


def as_recipe(recipe: Recipe | str, options: Mapping[str, Any]) -> Recipe:
    """Find a recipe by name and change some of its settings.

    Raises
    ------
    InvalidOption
        There is no such recipe or setting, or a value cannot be meant.
    """
    if isinstance(recipe, str):
        if recipe not in RECIPES:
            raise InvalidOption(f"no recipe {recipe!r}; there are {', '.join(map(repr, RECIPES))}")
        recipe = RECIPES[recipe]
    known = [f.name for f in fields(Recipe) if f.name != "source"]
    unknown = [name for name in options if name not in known]
    if unknown:
        raise InvalidOption(f"no setting {unknown[0]!r}; a recipe has {', '.join(known)}")
    try:
        return replace(recipe, **options)
    except TypeError as error:
        raise InvalidOption(f"a setting of the recipe is of the wrong kind: {error}") from error
