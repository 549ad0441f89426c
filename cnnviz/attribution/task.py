"""What every attribution begins and ends with: pictures, targets, chunks, and the result."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz import images
from cnnviz.adapter import INPUT, LOGITS, OUTPUT, Adapter, Evaluation, Layer, ReluRule
from cnnviz.attribution.before import last_before, stage_ends_before
from cnnviz.attribution.result import Attribution, above
from cnnviz.attribution.targets import Targets, TopClasses, chosen_goal, class_goal
from cnnviz.batches import chunk_for, spans
from cnnviz.classes import class_name
from cnnviz.discovery import adapt
from cnnviz.errors import InvalidOption
from cnnviz.grids import on_grid
from cnnviz.images import ImagesLike
from cnnviz.pictures import picture_batch
from cnnviz.progress import tracked
from cnnviz.scores import ScoreKind, class_scores, places_note
from cnnviz.stages import last_spatial, stage_ends, why_last

__all__ = ["Chunk", "Maps", "Task"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Chunk:
    """Some of the pictures, to be run at once.

    Attributes
    ----------
    rows : array of int
        Which pictures; the last may be there again and again, to fill a chunk up.
    count : int
        How many of them are meant.
    """

    rows: NDArray[np.intp]
    count: int


@dataclass
class Maps:
    """What a method computed, a row a map.

    Attributes
    ----------
    raw : array
        ``(M, *sides)``, signed.
    layer : str
        Where; empty for the picture itself.
    empty : mapping of int to str
        Why a map is empty, for those of which the method knows.
    values : array, optional
        ``(M, H, W, C)``: the numbers of each pixel and channel that `raw` sums up.
    facts : mapping of str to array
        Further numbers of each map, such as the residue.
    base : array, optional
        ``(M,)``: the number of each map that says nothing, where that is not zero.
    fuse : str
        How the maps of several layers became one; empty for one layer.
    """

    raw: Array
    layer: str = ""
    empty: Mapping[int, str] = field(default_factory=dict)
    values: Array | None = None
    facts: Mapping[str, Array] = field(default_factory=dict)
    base: Array | None = None
    fuse: str = ""


class Task:
    """The pictures of one network, what is explained of each, and how they are run.

    Parameters
    ----------
    net : model or Adapter
    pictures : path, Pillow image, array or list of these
    target : see `cnnviz.attribute`
    size : int or (int, int), optional
    batch : int, optional
        Pictures at a time.
    score : {"logit", "probability"}
    """

    def __init__(
        self,
        net: Any,
        pictures: ImagesLike,
        target: Targets = None,
        size: int | tuple[int, int] | None = None,
        batch: int | None = None,
        score: ScoreKind = "logit",
    ) -> None:
        self.net: Adapter[Any] = adapt(net)
        self.ops = self.net.ops
        self.pictures = picture_batch(self.net, pictures, size)
        self.net.settle(*self.pictures.shape[1:-1])
        if batch is not None and (not isinstance(batch, (int, np.integer)) or batch < 1):
            raise InvalidOption(f"batch must be at least 1, not {batch}")
        self._batch = batch
        self.notes: list[str] = []
        self.forwards = self.backwards = 0
        wanted = target
        if isinstance(target, TopClasses):
            wanted = None
        self.goal = chosen_goal(
            self.net, wanted, len(self.pictures), self.pictures.shape[1:-1], score
        )
        self._values: dict[int, Array] = {}
        self._logits: dict[int, Array] = {}
        if isinstance(target, TopClasses):
            logits = self.logits()
            if target.count > logits.shape[1]:
                raise InvalidOption(f"{self.net.name} has {logits.shape[1]} classes")
            rows = np.argsort(-logits, axis=1, kind="stable")[:, : target.count]
            self.goal = class_goal(self.net, rows.tolist(), score)
        if self.pictures.ndim == 4 and self.pictures.shape[-1] not in (1, 3):
            channels = self.pictures.shape[-1]
            self.notes.append(f"pictures are drawn as the mean of their {channels} channels")
        if self.goal.of_classes and score == "logit" and self.net.final_activation is not None:
            self.notes.append(f"the score is that before the final {self.net.final_activation}")

    @property
    def count(self) -> int:
        """How many pictures there are."""
        return len(self.pictures)

    @property
    def sides(self) -> tuple[int, ...]:
        """Height and width of the pictures."""
        return tuple(self.pictures.shape[1:-1])

    def layer(self, name: str | None) -> Layer:
        """Find the layer to take maps at; by default the last with space before what is explained.

        Raises
        ------
        InvalidOption
            It has no space, or the score does not depend on it.
        UnknownLayer
            There is none.
        """
        if name is None:
            found, why = self._last()
            self.notes.append(f"taken at {found.name!r}, {why}")
            return found
        found = self.net.layer(name)
        if not found.spatial:
            # Raises what is wrong with it.
            on_grid(self.net, found, None, ())
        order, inside = self._explained()
        if inside and order.index(found.name) > max(inside):
            raise InvalidOption(
                f"layer {found.name!r} comes after {order[max(inside)]!r}, which is what is"
                " explained; take one before it"
            )
        return found

    def stages(self, count: int) -> list[Layer]:
        """Find the ends of the last stages; by default those before what is explained."""
        last, _ = self._last()
        ends = stage_ends(self.net)
        return (ends if last == ends[-1] else stage_ends_before(self.net, last))[-count:]

    def _last(self) -> tuple[Layer, str]:
        """Find the last layer with space before what is explained, and say why it is taken."""
        last = last_spatial(self.net)
        order, inside = self._explained()
        if not inside or order.index(last.name) < min(inside):
            return last, why_last(last)
        first = self.net.layer(order[min(inside)])
        found = last_before(self.net, first, self.sides)
        return found, f"the last with space before {first.name!r}"

    def _explained(self) -> tuple[list[str], list[int]]:
        """Name all layers in order, and say which are explained; none for the class scores."""
        order, taps = [layer.name for layer in self.net.layers()], self.goal.taps
        inside = not set(taps) & {LOGITS, OUTPUT} and all(tap in order for tap in taps)
        return order, [order.index(tap) for tap in taps] if inside else []

    def on_grid(self, layer: Layer, x: Any) -> Any:
        """Give a tensor at a layer as ``(N, *grid, C)``."""
        return on_grid(self.net, layer, x, self.sides)

    def batch(self, taps: Sequence[str] = (LOGITS,), begins: Layer | None = None) -> int:
        """Say how many pictures are run at once, up to some taps and from a layer on."""
        return self._batch or chunk_for(self.net, taps, self.sides, begins)

    def chunks(self, what: str, batch: int | None = None) -> Iterator[Chunk]:
        """Give the pictures chunk by chunk, behind a bar."""
        batch = min(batch or self.batch(), self.count)
        parts = spans(self.count, batch, self.net.compiled)
        total = math.ceil(self.count / batch)
        for rows, meant in tracked(parts, f"{what} {self.net.name}", total):
            yield Chunk(rows, meant)

    def args(self, rows: NDArray[np.intp]) -> tuple[Any, ...]:
        """Give what the score takes for some pictures, as native tensors."""
        return tuple(self.ops.asarray(one[rows]) for one in self.goal.args)

    def x(self, rows: NDArray[np.intp]) -> Any:
        """Give some pictures as a native tensor."""
        return self.ops.asarray(self.pictures[rows])

    def gradient(
        self,
        x: Any,
        rows: NDArray[np.intp],
        wrt: Sequence[str] = (INPUT,),
        taps: Sequence[str] = (),
        relu: ReluRule = "plain",
        curvature: bool = False,
    ) -> Evaluation[Any]:
        """Differentiate the score of variants of pictures, and see to several maps a picture.

        Parameters
        ----------
        x : tensor
            ``(B, H, W, C)``.
        rows : array of int
            ``(B,)``: of which picture each is a variant.

        Returns
        -------
        Evaluation
            Values and gradients have ``B * K`` rows, those of a picture beside each other, for
            K maps a picture; activations have B.
        """
        several = self.goal.each > 1
        found = self.net.gradient(
            self.goal.score,
            x,
            taps=list(dict.fromkeys((*self.goal.taps, *taps))),
            wrt=list(wrt),
            score_args=self.args(rows),
            relu=relu,
            jacobian=several,
            curvature=curvature,
        )
        self.forwards += len(rows)
        self.backwards += len(rows) * self.goal.each
        if not several:
            return found
        ops = self.ops

        def flat(slope: Any) -> Any:
            shape = tuple(int(n) for n in slope.shape)
            turned = ops.permute_dims(slope, (1, 0, *range(2, len(shape))))
            return ops.reshape(turned, (shape[0] * shape[1], *shape[2:]))

        value = ops.reshape(found.value, (len(rows) * self.goal.each,))
        return replace(
            found, value=value, gradients={tap: flat(g) for tap, g in found.gradients.items()}
        )

    def repeated(self, x: Any) -> Any:
        """Give each row of a tensor as often as its picture has maps."""
        each, ops = self.goal.each, self.ops
        if each == 1:
            return x
        shape = tuple(int(n) for n in x.shape)
        apart = ops.concat([ops.reshape(x, (shape[0], 1, *shape[1:]))] * each, 1)
        return ops.reshape(apart, (shape[0] * each, *shape[1:]))

    def values(self, x: Any, rows: NDArray[np.intp]) -> Array:
        """Give the score of variants of pictures, ``(B, K)``."""
        found = self.net.forward(x, taps=self.goal.taps)
        self.forwards += len(rows)
        return self.scored(found, rows)

    def scored(self, activations: Mapping[str, Any], rows: NDArray[np.intp]) -> Array:
        """Give the score ``(B, K)`` of activations."""
        value = self.ops.to_numpy(self.goal.score(activations, *self.args(rows)))
        return value.reshape(len(rows), self.goal.each)

    def tracked(self, what: str) -> Iterator[int]:
        """Give the number of each picture, behind a bar."""
        yield from tracked(range(self.count), f"{what} {self.net.name}", self.count)

    def weigh(self, weights: Array) -> None:
        """Score by weights of the classes, ``(N, K, C)``, in place of the classes alone."""
        self.goal = replace(self.goal, args=(weights[:, 0] if self.goal.each == 1 else weights,))

    def note_scores(self, chunk: Chunk, values: Array, logits: Array) -> None:
        """Keep the scores ``(B, K)`` and class scores ``(B, C)`` of the pictures themselves."""
        for i, row in enumerate(chunk.rows[: chunk.count]):
            self._values[int(row)] = values[i]
            self._logits[int(row)] = logits[i]

    def record(self, chunk: Chunk, found: Evaluation[Any]) -> None:
        """Keep the scores of the pictures themselves, and their classes."""
        if len(self._values) == self.count:
            return
        value = self.ops.to_numpy(found.value).reshape(len(chunk.rows), -1)
        logits = found.activations.get(LOGITS) if self.goal.of_classes else None
        if logits is not None:
            self._note_places(logits)
            logits = self.ops.to_numpy(class_scores(self.ops, logits))
        for i, row in enumerate(chunk.rows[: chunk.count]):
            self._values[int(row)] = value[i]
            if logits is not None:
                self._logits[int(row)] = logits[i]

    def _note_places(self, logits: Any) -> None:
        note = places_note(logits)
        if note is not None and note not in self.notes:
            self.notes.append(note)

    def logits(self) -> Array:
        """Give the class scores of the pictures themselves, ``(N, C)``, with one forward."""
        if len(self._logits) < self.count:
            for chunk in self.chunks("scores of"):
                found = self.net.forward(self.x(chunk.rows), taps=[LOGITS])
                self.forwards += len(chunk.rows)
                scores = self.ops.to_numpy(class_scores(self.ops, found[LOGITS]))
                self._note_places(found[LOGITS])
                for i, row in enumerate(chunk.rows[: chunk.count]):
                    self._logits[int(row)] = scores[i]
        return np.stack([self._logits[i] for i in range(self.count)])

    def fix(self) -> None:
        """Hold each picture to the class that is predicted for it, before it is changed."""
        if self.goal.of_classes and self.goal.classes is None:
            rows = self.logits().argmax(1)[:, None].tolist()
            self.goal = class_goal(self.net, rows, self.goal.kind)

    def scores(self) -> Array:
        """Give the score of each map, ``(N * K,)``, of the pictures themselves."""
        if len(self._values) < self.count:
            for chunk in self.chunks("scores of"):
                value = self.values(self.x(chunk.rows), chunk.rows)
                for i, row in enumerate(chunk.rows[: chunk.count]):
                    self._values[int(row)] = value[i]
        return np.concatenate([self._values[i] for i in range(self.count)])

    def finished(self, method: str, maps: Maps) -> Attribution:
        """Make the result: pictures of the maps, names of the targets, and why one is empty.

        Raises
        ------
        InvalidOption
            A map is not finite.
        """
        net, goal = self.net, self.goal
        where = repr(maps.layer) if maps.layer else "the picture"
        if not np.isfinite(maps.raw).all():
            raise InvalidOption(
                f"the map at {where} is not finite; check the weights of {net.name}"
            )
        score = self.scores()
        rows = np.repeat(np.arange(self.count), goal.each)
        target: tuple[int | None, ...] = (None,) * len(rows)
        if goal.of_classes:
            classes = goal.classes
            if classes is None:
                classes = self.logits().argmax(1)[:, None]
            target = tuple(int(c) for c in classes.ravel())
            names = tuple(class_name(net, c) for c in target if c is not None)
        else:
            names = goal.names or ()
        base = np.zeros(len(maps.raw), maps.raw.dtype) if maps.base is None else maps.base
        shown = as_maps(above(maps.raw, base), self.sides)
        empty = tuple(
            "" if shown[i].any() else maps.empty.get(i) or "it is nowhere positive"
            for i in range(len(shown))
        )
        named = [f"the map of picture {i} is empty: {why}" for i, why in enumerate(empty) if why]
        return Attribution(
            raw=maps.raw,
            map=shown,
            images=self.pictures[rows],
            target=target,
            names=names,
            score=score,
            layer=maps.layer,
            method=method,
            network=net.name,
            framework=net.framework,
            notes=(*self.notes, *named),
            values=maps.values,
            score_kind=goal.kind,
            empty=empty,
            facts={key: np.asarray(fact) for key, fact in maps.facts.items()},
            base=base,
            forwards=self.forwards,
            backwards=self.backwards,
            fuse=maps.fuse,
        )


def as_maps(raw: Array, size: tuple[int, ...]) -> Array:
    """Keep what speaks for the target, enlarge it, and divide it by its maximum."""
    maps = np.maximum(raw, 0)
    if maps.shape[1:] != tuple(size):
        maps = images.enlarge(maps, size)
    top = maps.max(axis=tuple(range(1, maps.ndim)), keepdims=True)
    # A division by a maximum that has no inverse would give infinity.
    fine = top > np.finfo(maps.dtype).tiny
    return np.clip(np.where(fine, maps / np.where(fine, top, 1), 0), 0, 1)
