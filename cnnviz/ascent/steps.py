"""What one step of an ascent does on native tensors: show, score, move."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.adapter import INPUT, Ops
from cnnviz.ascent.canvas import Canvas, FourierCanvas, TransparentCanvas
from cnnviz.ascent.objectives import BatchScore
from cnnviz.ascent.optimizers import Optimizer
from cnnviz.ascent.penalties import Penalty
from cnnviz.ascent.projections import Projection
from cnnviz.ascent.transforms import Chain

__all__ = ["Along", "Move", "Paint", "Project", "Score", "Show"]

Shape = tuple[int, int, int]
_PICTURE = "<picture>"
_COVER = "<cover>"


@dataclass(frozen=True)
class Show:
    """From values to what the network sees; equal for equal settings, so a trace is shared.

    Attributes
    ----------
    canvas : Canvas or None
        None if the values are pictures already.
    shape : (int, int, int)
        ``(H, W, C)`` of one picture.
    chain : Chain or None
    views : int
        How many of each picture the network sees.
    penalised : bool
        Whether the score wants the picture as well.
    """

    ops: Ops[Any]
    canvas: Canvas | None
    shape: Shape
    chain: Chain | None = None
    views: int = 1
    penalised: bool = False

    def draw(self, rng: np.random.Generator, done: float) -> list[NDArray[Any]]:
        """Draw what one picture's call takes besides the values, all views stacked first."""
        found: list[NDArray[Any]] = []
        if self.canvas is not None and self.canvas.alpha:
            found.append(rng.standard_normal((1, *self.shape), np.float32))
        if self.chain is not None:
            views = [self.chain.draw(rng, done, self.shape[-1]) for _ in range(self.views)]
            found.extend(np.stack(each) for each in zip(*views, strict=True))
        return found

    def __call__(self, values: Any, *drawn: Any) -> Any:
        """Give pictures, view after view, and what the score sees beside them."""
        picture = values
        if self.canvas is not None:
            picture = self.canvas.to_picture(self.ops, values, self.shape)
        beside: dict[str, Any] = {}
        if self.canvas is not None and self.canvas.alpha:
            assert isinstance(self.canvas, TransparentCanvas)
            noise, *drawn_left = drawn
            drawn = tuple(drawn_left)
            cover = picture[..., -1:]
            ground = FourierCanvas().to_picture(
                self.ops, noise * self.canvas.background, self.shape
            )
            picture = picture[..., :-1] * cover + ground * (1 - cover)
            beside[_COVER] = cover
        if self.penalised:
            beside[_PICTURE] = picture
        if self.views > 1:
            picture = self.ops.concat([picture] * self.views, 0)
        if self.chain is not None:
            picture = self.chain.apply(self.ops, picture, drawn)
        return (picture, beside) if beside else picture


@dataclass(frozen=True)
class Paint:
    """From values to pictures, as they are."""

    ops: Ops[Any]
    canvas: Canvas
    shape: Shape

    def __call__(self, values: Any) -> Any:
        """Give pictures ``(N, H, W, C)``."""
        return self.canvas.to_picture(self.ops, values, self.shape)


@dataclass(frozen=True)
class Along:
    """The dot product with a gradient at the picture, which takes it back to the values."""

    ops: Ops[Any]

    def __call__(self, activations: Mapping[str, Any], slope: Any) -> Any:
        """Give ``(N,)``."""
        return self.ops.sum(activations[INPUT] * slope, axis=(1, 2, 3))


@dataclass(frozen=True)
class Score:
    """The objective of each picture less its penalties."""

    ops: Ops[Any]
    inner: BatchScore
    penalties: tuple[Penalty, ...] = ()
    views: int = 1

    def __call__(self, activations: Mapping[str, Any], *args: Any) -> Any:
        """Give ``(N,)``."""
        if self.views == 1:
            total = self.inner(activations, *args)
        else:
            total = 0.0
            for view in range(self.views):
                seen = {}
                for tap in self.inner.taps:
                    count = int(activations[tap].shape[0]) // self.views
                    seen[tap] = activations[tap][view * count : (view + 1) * count]
                total = total + self.inner(seen, *args)
            total = total * (1 / self.views)
        if _COVER in activations:
            # What covers little counts more, so that only what matters is painted.
            total = total * (1 - self.ops.mean(activations[_COVER], axis=(1, 2, 3)))
        for penalty in self.penalties:
            total = total - penalty(self.ops, activations[_PICTURE])
        return total


@dataclass(frozen=True)
class Move:
    """One step of the optimizer."""

    ops: Ops[Any]
    canvas: Canvas
    optimizer: Optimizer
    l2: float
    clamp: bool

    def __call__(
        self, values: Any, slope: Any, state: Any, rates: Any, mask: Any = None, moving: Any = None
    ) -> Any:
        """Give the next values and state.

        Parameters
        ----------
        mask : tensor, optional
            Which waves are free yet.
        moving : tensor, optional
            ``(N, 1, ...)``: one for pictures that are not done, else zero.
        """
        if self.l2:
            slope = slope - values * (2 * self.l2)
        if mask is not None:
            slope = slope * mask
        stepped, state = self.optimizer.step(self.ops, values, slope, state, rates)
        if self.clamp:
            stepped = self.canvas.clamp(self.ops, stepped)
        if moving is not None:
            stepped = stepped * moving + values * (1 - moving)
        return stepped, state


@dataclass(frozen=True)
class Project:
    """One projection of a canvas."""

    ops: Ops[Any]
    canvas: Canvas
    projection: Projection

    def __call__(self, values: Any, moving: Any = None) -> Any:
        """Give the changed values; those of pictures that are done stay."""
        changed = self.projection(self.ops, self.canvas, values)
        return changed if moving is None else changed * moving + values * (1 - moving)
