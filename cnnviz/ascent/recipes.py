"""Settings that are known to give good pictures, by name, each with its source."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any, Literal

from cnnviz.ascent.canvas import Canvas, FourierCanvas, MacoCanvas, MaskedCanvas, PixelCanvas
from cnnviz.ascent.optimizers import Adam, NAdam, NormalisedGradient, Optimizer
from cnnviz.ascent.penalties import Penalty
from cnnviz.ascent.projections import BilateralBlur, GaussianBlur, Projection
from cnnviz.ascent.transforms import (
    Colour,
    Jitter,
    Noise,
    RandomCrop,
    Roll,
    Rotate,
    Scale,
    Transform,
    distill,
)
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
    schedule : {"constant", "linear", "cosine"}
        How the length of a step falls towards the end of each octave.
    canvas : Canvas
        Where a picture starts and in what units it is written.
    transforms : tuple of Transform
        What happens to the picture before the network sees it, in this order.
    jitter : int
        Largest shift of each step round the border, before the transforms; in pixels, never
        more than a quarter of the picture.
    views : int
        How many differently transformed pictures each step sees; their mean counts.
    penalties : tuple of Penalty
        What is taken off the score.
    l2 : float
        Weight of the squared length of the canvas that is taken off the score.
    clamp : bool
        Keep the picture within [0, 1] after each step (else only at the end of an octave).
    projections : tuple of Projection
        What is done to the canvas after a step.
    blur, blur_every
        Standard deviation in pixels of a Gaussian blur, and after how many steps it comes;
        short for a `GaussianBlur` among the projections.
    octaves, octave_scale
        How often the picture is enlarged and optimised again, and by how much.
    octave_blur : int
        Side of the box blur after enlarging; 0 for none.
    enlarge_last : bool
        Whether the picture is enlarged once more at the end.
    reveal : float
        Share of an octave's steps after which all waves are free; the long ones come first.
        0 frees all at once. For a `FourierCanvas`.
    redirect : int
        For how many steps the ReLUs of a picture without any gradient are redirected.
    plateau : int
        A picture is done when its objective has risen by less than `tolerance` of its size
        from one such number of steps to the next; 0 for never.
    tolerance : float
        See `plateau`.
    soften : float
        Standard deviation of a Gaussian blur of the finished picture, in pixels; less for
        pictures below 224 pixels, as they are smaller.
    keep : tuple of int, or int
        Steps after which the picture is kept in `Ascent.intermediates`, or each how many; with
        several octaves, the end of each is kept too.
    source : str
        Where the settings come from.
    """

    size: int | tuple[int, int] | None = None
    steps: int = 256
    optimizer: Optimizer = field(default_factory=Adam)
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    canvas: Canvas = field(default_factory=PixelCanvas)
    transforms: tuple[Transform, ...] = ()
    jitter: int = 0
    views: int = 1
    penalties: tuple[Penalty, ...] = ()
    l2: float = 0.0
    clamp: bool = True
    projections: tuple[Projection, ...] = ()
    blur: float = 0.0
    blur_every: int = 0
    octaves: int = 1
    octave_scale: float = 1.2
    octave_blur: int = 0
    enlarge_last: bool = False
    reveal: float = 0.0
    redirect: int = 16
    plateau: int = 0
    tolerance: float = 0.01
    soften: float = 0.0
    keep: tuple[int, ...] | int = ()
    source: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        kept = self.keep if isinstance(self.keep, tuple) else (self.keep,)
        if not all(isinstance(k, int) and k >= 1 for k in kept):
            raise InvalidOption(
                f"keep takes steps, (1, 25), or each how many, 8, not {self.keep!r}"
            )
        for name in ("steps", "octaves", "views", "jitter", "plateau", "redirect"):
            if isinstance(getattr(self, name), float):
                raise InvalidOption(f"{name} is a whole number, not {getattr(self, name)}")
        if self.plateau and self.octaves > 1:
            raise InvalidOption(
                "plateau ends a picture, and an octave goes on from it; set octaves=1 or plateau=0"
            )
        for name in ("steps", "octaves", "views"):
            if getattr(self, name) < 1:
                raise InvalidOption(f"{name} must be at least 1, not {getattr(self, name)}")
        low = ("jitter", "l2", "blur", "blur_every", "octave_blur", "redirect", "plateau")
        for name in (*low, "tolerance", "soften"):
            if getattr(self, name) < 0:
                raise InvalidOption(f"{name} must not be below zero, not {getattr(self, name)}")
        if self.octave_scale < 1:
            raise InvalidOption(f"octave_scale must be at least 1, not {self.octave_scale}")
        if not 0 <= self.reveal <= 1:
            raise InvalidOption(f"reveal is a share of the steps, in [0, 1], not {self.reveal}")
        if self.schedule not in ("constant", "linear", "cosine"):
            raise InvalidOption("schedule must be 'constant', 'linear' or 'cosine'")
        for name, kind in _KINDS.items():
            value = getattr(self, name)
            each = value if isinstance(value, tuple) else (value,)
            if not all(isinstance(one, kind) for one in each):
                raise InvalidOption(f"{name} takes {_wanted(name)}, not {value!r}")
            if (name in _SEVERAL) != isinstance(value, tuple):
                raise InvalidOption(f"{name} takes {_wanted(name)}, not {value!r}")
        for projection in self.all_projections:
            projection.check(self.canvas)
        inner = self.canvas
        while isinstance(inner, MaskedCanvas):
            inner = inner.inner
        if self.octaves > 1 and type(inner).from_picture is Canvas.from_picture:
            raise InvalidOption(
                f"a {type(inner).__name__} cannot begin with a picture, so there are no"
                " octaves; set octaves=1 or choose FourierCanvas or PixelCanvas"
            )

    @property
    def kept_steps(self) -> Collection[int]:
        """The steps after which the picture is kept."""
        if isinstance(self.keep, int):
            return range(self.keep, self.steps * self.octaves + 1, self.keep)
        return self.keep

    @property
    def all_projections(self) -> tuple[Projection, ...]:
        """The projections, that of `blur` and `blur_every` included."""
        if not (self.blur and self.blur_every):
            return self.projections
        return (*self.projections, GaussianBlur(self.blur_every, self.blur))

    @property
    def all_transforms(self) -> tuple[Transform, ...]:
        """The transforms, that of `jitter` included."""
        return (Roll(self.jitter), *self.transforms) if self.jitter else self.transforms

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


_KINDS: Mapping[str, type] = {
    "optimizer": Optimizer,
    "canvas": Canvas,
    "transforms": Transform,
    "penalties": Penalty,
    "projections": Projection,
}

_SEVERAL = ("transforms", "penalties", "projections")


def _wanted(name: str) -> str:
    kind = _KINDS[name].__name__
    return f"a tuple of {kind}s" if name in _SEVERAL else f"one {kind}"


RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        # Chosen by what another classifier makes of its pictures; docs/recipes.md has the table.
        "default": Recipe(
            steps=256,
            optimizer=Adam(0.15),
            schedule="cosine",
            canvas=FourierCanvas(decay=1.5),
            transforms=(Jitter(28), Scale(0.5, 2.0), Rotate(15.0), Colour(0.2, 0.1), Noise(0.1)),
            soften=0.5,
            source="after Olah et al., Feature Visualization, Distill, 2017, with larger changes",
        ),
        "distill": Recipe(
            steps=512,
            optimizer=Adam(0.05),
            canvas=FourierCanvas(),
            transforms=distill(),
            source="Olah, Mordvintsev and Schubert, Feature Visualization, Distill, 2017",
        ),
        "distill-paper": Recipe(
            steps=2560,
            optimizer=Adam(0.05),
            canvas=FourierCanvas(),
            transforms=distill(),
            keep=(1, 32, 128, 256, 2560),
            source="Olah, Mordvintsev and Schubert, Feature Visualization, Distill, 2017",
        ),
        # The source's rate of 1 and boxes down to 5 % are for pictures of 1280 pixels; at 512
        # and less they ended in clouds, on classes of EfficientNet-Lite0.
        "maco": Recipe(
            size=512,
            steps=256,
            optimizer=NAdam(0.2),
            canvas=MacoCanvas(),
            transforms=(RandomCrop(0.5, 0.25, 0.05), Noise(0.08)),
            views=16,
            source="Fel et al., Unlocking Feature Visualization, NeurIPS 2023",
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
        "bilateral": Recipe(
            size=150,
            steps=300,
            optimizer=NormalisedGradient(1 / 255, "rms", epsilon=1e-5),
            canvas=PixelCanvas(
                unit="pixel",
                start="uniform",
                low=108 / 255,
                high=148 / 255,
                finish="standardise",
            ),
            clamp=False,
            projections=(BilateralBlur(),),
            source="the Keras notebooks on VGG16 filters, with OpenCV's bilateral filter",
        ),
        "deepdream": Recipe(
            steps=10,
            optimizer=NormalisedGradient(0.02, "std"),
            canvas=PixelCanvas(unit="pixel", deviation=0.05),
            jitter=32,
            octaves=4,
            octave_scale=1.4,
            source="Mordvintsev, Olah and Tyka, Inceptionism, 2015",
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
