"""The gradient of a batch: of one network or several, and for pictures that have none at first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.adapter import INPUT, Adapter
from cnnviz.ascent.canvas import Canvas
from cnnviz.ascent.objectives import BatchScore, Objective
from cnnviz.ascent.recipes import Recipe
from cnnviz.ascent.steps import Along, Paint, Score, Show
from cnnviz.errors import CnnvizError, InvalidOption

__all__ = ["NOT_FINITE", "Slopes", "independent"]

NOT_FINITE = (
    "the score or its gradient is not finite; check the weights of the network and take smaller"
    " steps"
)

Part = tuple[Adapter[Any], Score, tuple[Any, ...]]
"""A network that objectives ask, its score, and what that takes."""


def independent(objectives: Sequence[Objective]) -> InvalidOption:
    """Give the error that no objective depends on the picture."""
    names = "; ".join(sorted({str(o) for o in objectives}))
    return InvalidOption(
        f"{names} does not depend on the picture, so there is nothing to climb; choose a layer"
        " after the input and a unit with weights"
    )


class Slopes:
    """Where a batch of canvases goes up.

    Parameters
    ----------
    net : Adapter
    recipe : Recipe
    canvas : Canvas
        As it is for the network.
    objectives : sequence of Objective

    Attributes
    ----------
    scores : list of Part
        Those that are climbed now; see `parts`.
    strict : bool
        Whether it is an error that no picture matters to its objective.
    independent : bool
        Whether that is so.
    """

    def __init__(
        self, net: Adapter[Any], recipe: Recipe, canvas: Canvas, objectives: Sequence[Objective]
    ) -> None:
        self.scores: list[Part] = []
        self._net, self._recipe, self._canvas = net, recipe, canvas
        self._objectives = objectives
        self._others = list(
            dict.fromkeys(t.net for o in objectives for t in o.terms if t.net not in (None, net))
        )
        self._asleep: NDArray[np.bool_] = np.zeros(len(objectives), bool)
        self._constant: NDArray[np.bool_] = np.zeros(len(objectives), bool)
        self._mattered: Any = None
        self._done = 0
        self.strict = True
        self.independent = False

    def parts(self, size: tuple[int, int]) -> list[Part]:
        """Give the score of each network that objectives ask, for pictures of that size."""
        recipe = self._recipe
        found: list[Part] = []
        for net in (self._net, *self._others):
            own = net is self._net
            inner, args = BatchScore.of(net, self._objectives, size, own=own)
            if not inner.rules and not (own and recipe.penalties):
                continue
            if recipe.views > 1 and any(rule.coupled for rule in inner.rules):
                raise InvalidOption(
                    "pictures that are compared with each other are seen once a step; set views=1"
                )
            score = Score(net.ops, inner, recipe.penalties if own else (), recipe.views)
            found.append((net, score, tuple(net.ops.asarray(a) for a in args)))
        return found

    def of(self, show: Show, values: Any, drawn: Sequence[NDArray[Any]]) -> tuple[Any, Any]:
        """Give the score of each picture and its gradient at the values, for the next step."""
        canvas, painted = self._canvas, values
        if canvas.weighs:
            # The gradient is wanted at the picture too, so it is taken there first.
            show = replace(show, canvas=None)
            paint = Paint(show.ops, canvas, show.shape)
            painted = self._net.traced(paint)(values)
        value, slope = self._awake(show, painted, drawn)
        if canvas.weighs:
            ops = self._net.ops
            mattered = ops.mean(ops.abs(slope), axis=(3,))
            same = self._mattered is not None and self._mattered.shape == mattered.shape
            self._mattered = self._mattered + mattered if same else mattered
            along = self._net.gradient(
                Along(ops), values, taps=(INPUT,), prepare=paint, score_args=(slope,)
            )
            slope = along.gradients[INPUT]
        self._done += 1
        return value, slope

    def _awake(
        self,
        show: Show,
        values: Any,
        drawn: Sequence[NDArray[Any]],
    ) -> tuple[Any, Any]:
        """Give the score and its gradient, redirected for pictures that have none."""
        value, slope = self._gradient(show, values, drawn)
        redirect = self._recipe.redirect
        if self._done == 0 and redirect:
            self._asleep = self._without_gradient(value, slope)
        if self._done < redirect and self._asleep.any():
            _, other = self._gradient(show, values, drawn, redirected=True)
            if self._done == 0:
                self._constant = self._without_gradient(value, other)
                self._require_one(show, values)
            asleep = self._asleep.astype(float).reshape(-1, *(1,) * (len(values.shape) - 1))
            mask = self._net.ops.asarray(asleep)
            slope = slope * (1 - mask) + other * mask
        return value, slope

    def _gradient(
        self,
        show: Show,
        values: Any,
        drawn: Sequence[NDArray[Any]],
        redirected: bool = False,
    ) -> tuple[Any, Any]:
        value: Any = None
        slope: Any = None
        mine = self._net.ops
        for net, score, args in self.scores:
            other = net.ops is not mine
            # The same framework's tensors need no copy, whichever adapter made them.
            foreign = other and _kind(net) != _kind(self._net)
            given = net.ops.asarray(mine.to_numpy(values)) if foreign else values
            found = net.gradient(
                score,
                given,
                taps=score.inner.taps or (INPUT,),
                prepare=replace(show, ops=net.ops) if other else show,
                score_args=args,
                prepare_args=tuple(net.ops.asarray(one) for one in drawn),
                relu="redirected" if redirected else "plain",
            )
            v, s = found.value, found.gradients[INPUT]
            if foreign:
                v, s = (mine.asarray(net.ops.to_numpy(x)) for x in (v, s))
            value = v if value is None else value + v
            slope = s if slope is None else slope + s
        return value, slope

    def _without_gradient(self, value: Any, slope: Any) -> NDArray[np.bool_]:
        """Say which pictures have none; looked at before the loop begins, and once only."""
        ops = self._net.ops
        axes = tuple(range(1, len(slope.shape)))
        largest = ops.to_numpy(ops.max(ops.abs(slope), axis=axes))
        if not (np.isfinite(largest).all() and np.isfinite(ops.to_numpy(value)).all()):
            raise CnnvizError(NOT_FINITE)
        return np.asarray(largest == 0)

    def _require_one(self, show: Show, values: Any) -> None:
        """See whether no objective depends on the picture at all."""
        if not self._constant.all():
            return
        plain = Show(show.ops, show.canvas, show.shape)
        if self._canvas.alpha or show.penalised:
            return
        ops = self._net.ops
        here, there = (self._gradient(plain, v, ())[0] for v in (values, values * 3))
        if np.array_equal(ops.to_numpy(here), ops.to_numpy(there)):
            self.independent = True
            if self.strict:
                raise independent(self._objectives)

    def verdicts(self, trace: NDArray[Any], slope: NDArray[Any]) -> tuple[str, ...]:
        """Say of each unit in words that it is dead, by its scores and its last gradient."""
        notes = []
        for row, objective in enumerate(self._objectives):
            # One that rose and has no gradient left is as high as it can be; that of one that
            # is asleep may be redirected still.
            if np.ptp(trace[:, row]) > 0 or (slope[row].any() and not self._asleep[row]):
                notes.append("")
                continue
            if self._constant[row]:
                why = "no gradient leads to it, even through its ReLUs: it is constant"
            elif self._asleep[row]:
                steps = min(self._recipe.redirect, len(trace))
                why = (
                    f"it never answered, though its ReLUs were redirected for {steps} steps: its"
                    " picture says nothing of it"
                )
            else:
                why = "its gradient is zero, so its picture says nothing of it"
            notes.append(f"{objective} is dead: {why}")
        return tuple(notes)

    def alpha(self) -> NDArray[Any] | None:
        """Give how much each pixel mattered, the upper fifth of them as 1; None if unknown."""
        if self._mattered is None:
            return None
        mattered = self._net.ops.to_numpy(self._mattered)
        top = np.percentile(mattered, 80, (1, 2), keepdims=True)
        low = mattered.min((1, 2), keepdims=True)
        return np.asarray(np.clip((mattered - low) / np.maximum(top - low, 1e-30), 0, 1))


def _kind(net: Adapter[Any]) -> tuple[Any, ...]:
    """Say what tensors it takes."""
    return type(net.ops), net.framework, net.device, str(getattr(net.ops, "dtype", None))
